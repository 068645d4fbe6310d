//! Refresh tokens: opaque, good for one use, kept as hashes.

use std::time::Duration;

use zeroize::Zeroizing;

use crate::accounts::UserId;
use crate::clock;
use crate::database::Database;
use crate::errors::ServiceError;
use crate::limits::REFRESH_RACE;
use crate::random;

/// 256 bits in hex: a plain hash is enough to keep of it.
const TOKEN_BYTES: usize = 32;
const LOGIN_BYTES: usize = 16;

/// The refresh tokens in the database.
pub(crate) struct RefreshTokens {
    database: Database,
    lifetime: Duration,
}

/// What a refresh token was worth.
#[derive(Debug)]
pub(crate) enum Refreshed {
    /// It was good, and this is the next one.
    Next { user: UserId, token: Zeroizing<String> },
    /// Unknown, or expired.
    Unknown,
    /// Used before.
    Spent,
}

impl RefreshTokens {
    pub(crate) fn new(database: impl Into<Database>, lifetime: Duration) -> Self {
        Self { database: database.into(), lifetime }
    }

    /// The first token of a login.
    pub(crate) async fn begin(&self, user: UserId) -> Result<Zeroizing<String>, ServiceError> {
        self.database.write(|| self.try_begin(user)).await
    }

    async fn try_begin(&self, user: UserId) -> Result<Zeroizing<String>, sqlx::Error> {
        let mut connection = self.database.pool().acquire().await?;
        self.insert(&mut connection, user, &random::draw::<LOGIN_BYTES>()).await
    }

    /// Spends a token and draws the next one of its login.
    pub(crate) async fn rotate(&self, token: &str) -> Result<Refreshed, ServiceError> {
        self.database.write(|| self.try_rotate(token)).await
    }

    async fn try_rotate(&self, token: &str) -> Result<Refreshed, sqlx::Error> {
        let hash = hash(token);
        // Anybody can send made-up tokens, and looking for one does not take the lock that writing takes.
        let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM refresh_tokens WHERE hash = ?)")
            .bind(&hash[..])
            .fetch_one(self.database.pool())
            .await?;
        if !known {
            return Ok(Refreshed::Unknown);
        }
        let now = clock::unix_s_signed();
        let mut transaction = self.database.pool().begin_with("BEGIN IMMEDIATE").await?;
        let row: Option<(i64, Vec<u8>, i64, Option<i64>)> =
            sqlx::query_as("SELECT user_id, login, expires_at, spent_at FROM refresh_tokens WHERE hash = ?")
                .bind(&hash[..])
                .fetch_optional(&mut *transaction)
                .await?;
        let Some((user, login, expires_at, spent_at)) = row else {
            return Ok(Refreshed::Unknown);
        };
        if let Some(spent_at) = spent_at {
            // Either the thief of a token or its owner is late (RFC 9700, section 4.14.2). Nobody can tell which: the
            // login ends for both.
            if now.saturating_sub(spent_at).unsigned_abs() > REFRESH_RACE.as_secs() {
                sqlx::query("DELETE FROM refresh_tokens WHERE login = ?")
                    .bind(&login)
                    .execute(&mut *transaction)
                    .await?;
                transaction.commit().await?;
                tracing::warn!(user, "a spent refresh token came back: its login was ended");
            }
            return Ok(Refreshed::Spent);
        }
        if expires_at <= now {
            return Ok(Refreshed::Unknown);
        }
        sqlx::query("UPDATE refresh_tokens SET spent_at = ? WHERE hash = ?")
            .bind(now)
            .bind(&hash[..])
            .execute(&mut *transaction)
            .await?;
        let user = UserId(user);
        let token = self.insert(&mut transaction, user, &login).await?;
        transaction.commit().await?;
        Ok(Refreshed::Next { user, token })
    }

    /// Removes what has expired.
    pub(crate) async fn sweep(&self) -> Result<(), ServiceError> {
        let delete = || {
            sqlx::query("DELETE FROM refresh_tokens WHERE expires_at <= ?")
                .bind(clock::unix_s_signed())
                .execute(self.database.pool())
        };
        self.database.write(delete).await.map(|_| ())
    }

    async fn insert(
        &self,
        connection: &mut sqlx::SqliteConnection,
        user: UserId,
        login: &[u8],
    ) -> Result<Zeroizing<String>, sqlx::Error> {
        let token = Zeroizing::new(random::draw_hex::<TOKEN_BYTES>());
        let expires_at = (clock::since_epoch() + self.lifetime).as_secs().cast_signed();
        sqlx::query("INSERT INTO refresh_tokens (hash, user_id, login, expires_at) VALUES (?, ?, ?, ?)")
            .bind(&hash(&token)[..])
            .bind(user.0)
            .bind(login)
            .bind(expires_at)
            .execute(connection)
            .await?;
        Ok(token)
    }
}

fn hash(token: &str) -> [u8; 32] {
    *blake3::hash(token.as_bytes()).as_bytes()
}

#[cfg(test)]
mod tests {
    use sqlx::SqlitePool;

    use super::*;
    use crate::accounts::Accounts;
    use crate::db;

    async fn fixture(dir: &tempfile::TempDir, lifetime: Duration) -> (RefreshTokens, UserId, SqlitePool) {
        let pool = db::open(&dir.path().join("db")).await.expect("database");
        let accounts = Accounts::new(pool.clone());
        accounts.add_first("anna", "hash").await.expect("account");
        let user = accounts.by_name("anna").await.expect("query").expect("account").id;
        (RefreshTokens::new(pool.clone(), lifetime), user, pool)
    }

    #[tokio::test]
    async fn a_token_is_good_once_and_the_next_one_follows() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (refresh, user, _) = fixture(&dir, Duration::from_secs(60)).await;
        let first = refresh.begin(user).await.expect("begins");
        let Refreshed::Next { token: second, user: found } = refresh.rotate(&first).await.expect("query") else {
            panic!("a fresh token is good");
        };
        assert_eq!(found, user);
        assert!(matches!(refresh.rotate(&first).await.expect("query"), Refreshed::Spent));
        assert!(
            matches!(refresh.rotate(&second).await.expect("query"), Refreshed::Next { .. }),
            "a race does not end the login"
        );
        assert!(matches!(refresh.rotate("garbage").await.expect("query"), Refreshed::Unknown));
    }

    #[tokio::test]
    async fn a_spent_token_that_comes_back_late_ends_the_login() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (refresh, user, pool) = fixture(&dir, Duration::from_secs(60)).await;
        let first = refresh.begin(user).await.expect("begins");
        let Refreshed::Next { token: second, .. } = refresh.rotate(&first).await.expect("query") else {
            panic!("a fresh token is good");
        };
        let early = REFRESH_RACE.as_secs().cast_signed() + 1;
        sqlx::query("UPDATE refresh_tokens SET spent_at = spent_at - ? WHERE spent_at IS NOT NULL")
            .bind(early)
            .execute(&pool)
            .await
            .expect("query");
        assert!(matches!(refresh.rotate(&first).await.expect("query"), Refreshed::Spent));
        assert!(matches!(refresh.rotate(&second).await.expect("query"), Refreshed::Unknown));
    }

    #[tokio::test]
    async fn an_expired_token_is_refused_and_swept() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (refresh, user, pool) = fixture(&dir, Duration::ZERO).await;
        let token = refresh.begin(user).await.expect("begins");
        assert!(matches!(refresh.rotate(&token).await.expect("query"), Refreshed::Unknown));
        refresh.sweep().await.expect("sweeps");
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM refresh_tokens").fetch_one(&pool).await.expect("query");
        assert_eq!(left, 0);
    }
}
