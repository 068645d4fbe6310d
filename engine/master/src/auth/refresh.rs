//! Refresh tokens: opaque, good for one use, kept as hashes.
//!
//! A token is the number of its login and a secret, in hex. The number tells a token that was spent long ago, and whose
//! row is gone, from one that never was.

use std::time::Duration;

use sqlx::SqliteConnection;
use zeroize::Zeroizing;

use crate::accounts::{self, Account, UserId};
use crate::clock;
use crate::database::Database;
use crate::errors::ServiceError;
use crate::limits::{LOGINS_PER_USER_MAX, REFRESH_RACE, SPENT_TOKENS_KEPT};
use crate::random;

/// 256 bits: a plain hash is enough to keep of it.
const SECRET_BYTES: usize = 32;
const LOGIN_BYTES: usize = 16;

/// `user_id`, `login`, `turn`, `expires_at`, `spent_at`.
type Row = (i64, Vec<u8>, i64, i64, Option<i64>);

/// The refresh tokens in the database.
pub(crate) struct RefreshTokens {
    database: Database,
    lifetime: Duration,
}

/// What a refresh token was worth.
pub(crate) enum Refreshed {
    /// It was good, and this is the next one, for the account as it was at that moment.
    Next { account: Account, token: Zeroizing<String> },
    /// Unknown, or expired.
    Unknown,
    /// Used before.
    Spent,
}

impl RefreshTokens {
    pub(crate) fn new(database: impl Into<Database>, lifetime: Duration) -> Self {
        Self { database: database.into(), lifetime }
    }

    /// The first token of a login; `None` if the account was removed or got another password since it was read. The
    /// login that was used least recently ends where its user has too many.
    pub(crate) async fn begin(&self, account: &Account) -> Result<Option<Zeroizing<String>>, ServiceError> {
        self.database.write(|| self.try_begin(account)).await
    }

    async fn try_begin(&self, account: &Account) -> Result<Option<Zeroizing<String>>, sqlx::Error> {
        let mut transaction = self.database.pool().begin_with("BEGIN IMMEDIATE").await?;
        let stands: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users WHERE id = ? AND password_hash = ?)")
            .bind(account.id.0)
            .bind(&account.password_hash)
            .fetch_one(&mut *transaction)
            .await?;
        if !stands {
            return Ok(None);
        }
        let token = self.insert(&mut transaction, account.id, &random::draw::<LOGIN_BYTES>(), 0).await?;
        sqlx::query(
            "DELETE FROM refresh_tokens WHERE login IN (
                 SELECT login FROM refresh_tokens WHERE user_id = ? AND spent_at IS NULL
                 ORDER BY expires_at DESC LIMIT -1 OFFSET ?)",
        )
        .bind(account.id.0)
        .bind(LOGINS_PER_USER_MAX)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Some(token))
    }

    /// Spends a token and draws the next one of its login.
    pub(crate) async fn rotate(&self, token: &str) -> Result<Refreshed, ServiceError> {
        self.database.write(|| self.try_rotate(token)).await
    }

    async fn try_rotate(&self, token: &str) -> Result<Refreshed, sqlx::Error> {
        let (hash, named) = (hash(token), login_of(token));
        let named = named.as_ref().map(|login| &login[..]);
        // Anybody can send made-up tokens, and looking for one does not take the lock that writing takes.
        let known: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM refresh_tokens WHERE hash = ? OR login = ?)")
                .bind(&hash[..])
                .bind(named)
                .fetch_one(self.database.pool())
                .await?;
        if !known {
            return Ok(Refreshed::Unknown);
        }
        let now = clock::unix_s_signed();
        let mut transaction = self.database.pool().begin_with("BEGIN IMMEDIATE").await?;
        let row: Option<Row> =
            sqlx::query_as("SELECT user_id, login, turn, expires_at, spent_at FROM refresh_tokens WHERE hash = ?")
                .bind(&hash[..])
                .fetch_optional(&mut *transaction)
                .await?;
        let raced = |spent_at: i64| now.saturating_sub(spent_at).unsigned_abs() <= REFRESH_RACE.as_secs();
        let (user, login, turn) = match row {
            Some((user, login, turn, expires_at, None)) if now < expires_at => (UserId(user), login, turn),
            Some((.., None)) => return Ok(Refreshed::Unknown),
            Some((.., Some(spent_at))) if raced(spent_at) => return Ok(Refreshed::Spent),
            // Either the thief of a token or its owner is late (RFC 9700, section 4.14.2). Nobody can tell which: the
            // login ends for both.
            row => {
                let login = row.as_ref().map(|(_, login, ..)| &login[..]).or(named);
                end(&mut transaction, login).await?;
                transaction.commit().await?;
                tracing::warn!("a spent refresh token came back: its login was ended");
                return Ok(Refreshed::Spent);
            }
        };
        // In the same transaction: whoever gets another password now has no token from this one.
        let Some(account) = accounts::by_id(&mut transaction, user).await? else {
            return Ok(Refreshed::Unknown);
        };
        sqlx::query("UPDATE refresh_tokens SET spent_at = ? WHERE hash = ?")
            .bind(now)
            .bind(&hash[..])
            .execute(&mut *transaction)
            .await?;
        forget_spent(&mut transaction, &login, turn).await?;
        let token = self.insert(&mut transaction, user, &login, turn + 1).await?;
        transaction.commit().await?;
        Ok(Refreshed::Next { account, token })
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
        connection: &mut SqliteConnection,
        user: UserId,
        login: &[u8],
        turn: i64,
    ) -> Result<Zeroizing<String>, sqlx::Error> {
        let secret = Zeroizing::new(random::draw_hex::<SECRET_BYTES>());
        let named: String = login.iter().map(|byte| format!("{byte:02x}")).collect();
        let token = Zeroizing::new(named + &secret);
        let expires_at = (clock::since_epoch() + self.lifetime).as_secs().cast_signed();
        sqlx::query("INSERT INTO refresh_tokens (hash, user_id, login, turn, expires_at) VALUES (?, ?, ?, ?, ?)")
            .bind(&hash(&token)[..])
            .bind(user.0)
            .bind(login)
            .bind(turn)
            .bind(expires_at)
            .execute(connection)
            .await?;
        Ok(token)
    }
}

/// Ends a login: none of its tokens is good any more.
async fn end(connection: &mut SqliteConnection, login: Option<&[u8]>) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM refresh_tokens WHERE login = ?").bind(login).execute(connection).await?;
    Ok(())
}

/// Removes all but the newest spent tokens of a login, of which that of `turn` is the last: whoever rotates all day fills
/// no disk.
async fn forget_spent(connection: &mut SqliteConnection, login: &[u8], turn: i64) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM refresh_tokens WHERE login = ? AND turn <= ?")
        .bind(login)
        .bind(turn - i64::from(SPENT_TOKENS_KEPT))
        .execute(connection)
        .await?;
    Ok(())
}

/// The login that a token names. Those of earlier versions were secrets alone.
fn login_of(token: &str) -> Option<[u8; LOGIN_BYTES]> {
    let named = token.len() == 2 * (LOGIN_BYTES + SECRET_BYTES);
    let hex = token.get(..2 * LOGIN_BYTES).filter(|_| named)?;
    u128::from_str_radix(hex, 16).ok().map(u128::to_be_bytes)
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

    async fn fixture(dir: &tempfile::TempDir, lifetime: Duration) -> (RefreshTokens, Account, SqlitePool) {
        let pool = db::open(&dir.path().join("db")).await.expect("database");
        let accounts = Accounts::open(pool.clone()).await.expect("accounts");
        accounts.add_first("anna", "hash").await.expect("account");
        let anna = accounts.by_name("anna").await.expect("query").expect("account");
        (RefreshTokens::new(pool.clone(), lifetime), anna, pool)
    }

    async fn begin(refresh: &RefreshTokens, account: &Account) -> Zeroizing<String> {
        refresh.begin(account).await.expect("query").expect("the account stands")
    }

    async fn next(refresh: &RefreshTokens, token: &str) -> Zeroizing<String> {
        match refresh.rotate(token).await.expect("query") {
            Refreshed::Next { token, .. } => token,
            Refreshed::Unknown | Refreshed::Spent => panic!("a fresh token is good"),
        }
    }

    async fn rows(pool: &SqlitePool) -> i64 {
        sqlx::query_scalar("SELECT count(*) FROM refresh_tokens").fetch_one(pool).await.expect("query")
    }

    #[tokio::test]
    async fn a_token_is_good_once_and_the_next_one_follows() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (refresh, anna, _) = fixture(&dir, Duration::from_secs(60)).await;
        let first = begin(&refresh, &anna).await;
        let second = next(&refresh, &first).await;
        assert!(matches!(refresh.rotate(&first).await.expect("query"), Refreshed::Spent));
        // A race does not end the login.
        next(&refresh, &second).await;
        assert!(matches!(refresh.rotate("garbage").await.expect("query"), Refreshed::Unknown));
    }

    #[tokio::test]
    async fn a_spent_token_that_comes_back_late_ends_the_login() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (refresh, anna, pool) = fixture(&dir, Duration::from_secs(60)).await;
        let first = begin(&refresh, &anna).await;
        let second = next(&refresh, &first).await;
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
        let (refresh, anna, pool) = fixture(&dir, Duration::ZERO).await;
        let token = begin(&refresh, &anna).await;
        assert!(matches!(refresh.rotate(&token).await.expect("query"), Refreshed::Unknown));
        refresh.sweep().await.expect("sweeps");
        assert_eq!(rows(&pool).await, 0);
    }

    /// One viewer could make the database grow by rotating one token again and again: each row stayed for the life of a
    /// token.
    #[tokio::test]
    async fn rotating_all_day_takes_no_room_and_the_oldest_token_still_ends_the_login() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (refresh, anna, pool) = fixture(&dir, Duration::from_secs(60)).await;
        let first = begin(&refresh, &anna).await;
        let mut last = first.clone();
        for _ in 0..3 * SPENT_TOKENS_KEPT {
            last = next(&refresh, &last).await;
        }
        assert_eq!(rows(&pool).await, i64::from(SPENT_TOKENS_KEPT) + 1);
        let other = begin(&refresh, &anna).await;
        assert!(matches!(refresh.rotate(&first).await.expect("query"), Refreshed::Spent));
        assert!(matches!(refresh.rotate(&last).await.expect("query"), Refreshed::Unknown));
        next(&refresh, &other).await;
    }

    #[tokio::test]
    async fn one_login_too_many_ends_the_one_that_was_used_least_recently() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (refresh, anna, pool) = fixture(&dir, Duration::from_secs(60)).await;
        let [first, second] = [begin(&refresh, &anna).await, begin(&refresh, &anna).await];
        sqlx::query("UPDATE refresh_tokens SET expires_at = expires_at - 9").execute(&pool).await.expect("query");
        let first = next(&refresh, &first).await;
        let others = LOGINS_PER_USER_MAX - 1;
        sqlx::query(
            "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?)
             INSERT INTO refresh_tokens (hash, user_id, login, expires_at)
             SELECT randomblob(32), ?, randomblob(16), unixepoch() + 60 FROM n",
        )
        .bind(others - 1)
        .bind(anna.id.0)
        .execute(&pool)
        .await
        .expect("query");
        next(&refresh, &begin(&refresh, &anna).await).await;
        assert!(matches!(refresh.rotate(&second).await.expect("query"), Refreshed::Unknown));
        next(&refresh, &first).await;
    }

    /// A password is hashed for 20 ms, and may change meanwhile.
    #[tokio::test]
    async fn an_old_password_begins_no_login_once_there_is_a_new_one() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (refresh, anna, pool) = fixture(&dir, Duration::from_secs(60)).await;
        sqlx::query("UPDATE users SET password_hash = 'other'").execute(&pool).await.expect("query");
        assert!(refresh.begin(&anna).await.expect("query").is_none());
        sqlx::query("DELETE FROM users").execute(&pool).await.expect("query");
        assert!(refresh.begin(&anna).await.expect("query").is_none());
    }

    /// Until the last version tokens had no login in them.
    #[tokio::test]
    async fn a_token_of_an_earlier_version_is_good_for_one_of_this() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (refresh, anna, pool) = fixture(&dir, Duration::from_secs(60)).await;
        let old = random::draw_hex::<SECRET_BYTES>();
        sqlx::query("INSERT INTO refresh_tokens (hash, user_id, login, expires_at) VALUES (?, ?, randomblob(16), unixepoch() + 60)")
            .bind(&hash(&old)[..])
            .bind(anna.id.0)
            .execute(&pool)
            .await
            .expect("query");
        let new = next(&refresh, &old).await;
        assert!(matches!(refresh.rotate(&old).await.expect("query"), Refreshed::Spent));
        next(&refresh, &new).await;
    }
}
