//! Accounts as the database keeps them.

use std::fmt;
use std::sync::Arc;

use braidcast_proto::v1;
use sqlx::SqliteConnection;

use crate::auth::standing::{Credential, Standing};
use crate::auth::tokens::Caller;
use crate::clock;
use crate::database::Database;
use crate::errors::ServiceError;
use crate::limits::{PASSWORD_BYTES_MAX, PASSWORD_CHARS_MIN, USERNAME_BYTES_MAX};

/// The master's number for a user; never given twice.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct UserId(pub(crate) i64);

impl UserId {
    /// The number as tickets carry it.
    pub(crate) fn on_tickets(self) -> u64 {
        self.0.cast_unsigned()
    }
}

/// What a user may do; each role includes those before it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Role {
    /// Lists and fetches.
    Viewer = 1,
    /// Also publishes and removes.
    Publisher = 2,
    /// Also manages users.
    Admin = 3,
}

impl Role {
    /// The role with this number, in the database and on the wire.
    pub(crate) fn from_number(number: i64) -> Option<Self> {
        [Self::Viewer, Self::Publisher, Self::Admin].into_iter().find(|role| *role as i64 == number)
    }

    /// The role on the wire.
    pub(crate) fn to_proto(self) -> v1::Role {
        match self {
            Self::Viewer => v1::Role::Viewer,
            Self::Publisher => v1::Role::Publisher,
            Self::Admin => v1::Role::Admin,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "VIEWER",
            Self::Publisher => "PUBLISHER",
            Self::Admin => "ADMIN",
        })
    }
}

/// A user.
#[derive(Clone)]
pub(crate) struct Account {
    pub(crate) id: UserId,
    pub(crate) username: String,
    pub(crate) role: Role,
    /// Argon2id, as a PHC string.
    pub(crate) password_hash: String,
}

/// A name that no account can have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error(
    "a user name is 1 to {USERNAME_BYTES_MAX} bytes long and has no spaces or control characters; {0:?} is not one"
)]
pub struct AccountNameError(String);

/// A password that is too weak, or too long to hash.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a password has at least {PASSWORD_CHARS_MIN} characters and at most {PASSWORD_BYTES_MAX} bytes")]
pub struct PasswordError;

/// Checks a name for a new account.
pub(crate) fn check_username(name: &str) -> Result<(), AccountNameError> {
    let allowed = |c: char| !c.is_control() && !c.is_whitespace();
    if name.is_empty() || name.len() > USERNAME_BYTES_MAX || !name.chars().all(allowed) {
        return Err(AccountNameError(name.chars().take(USERNAME_BYTES_MAX).collect()));
    }
    Ok(())
}

/// Checks a new password.
pub(crate) fn check_password(password: &str) -> Result<(), PasswordError> {
    if password.chars().count() < PASSWORD_CHARS_MIN || password.len() > PASSWORD_BYTES_MAX {
        return Err(PasswordError);
    }
    Ok(())
}

type Row = (i64, String, i64, String);

fn account((id, username, role, password_hash): Row) -> Result<Account, sqlx::Error> {
    let role = Role::from_number(role).ok_or_else(|| sqlx::Error::Decode(format!("role {role}").into()))?;
    Ok(Account { id: UserId(id), username, role, password_hash })
}

/// The account with a number, within a transaction of another store.
pub(crate) async fn by_id(connection: &mut SqliteConnection, id: UserId) -> Result<Option<Account>, sqlx::Error> {
    let row: Option<Row> = sqlx::query_as("SELECT id, username, role, password_hash FROM users WHERE id = ?")
        .bind(id.0)
        .fetch_optional(connection)
        .await?;
    row.map(account).transpose()
}

/// The accounts in the database.
#[derive(Clone)]
pub(crate) struct Accounts {
    database: Database,
    standing: Arc<Standing>,
}

impl Accounts {
    /// Reads who there is.
    pub(crate) async fn open(database: impl Into<Database>) -> Result<Self, sqlx::Error> {
        let accounts = Self { database: database.into(), standing: Arc::default() };
        for account in accounts.list().await? {
            accounts.standing.set(account.id, Credential::of(&account.password_hash));
        }
        Ok(accounts)
    }

    /// The same accounts in memory, as every change of them leaves them.
    pub(crate) fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    pub(crate) async fn by_name(&self, username: &str) -> Result<Option<Account>, sqlx::Error> {
        let row: Option<Row> = sqlx::query_as("SELECT id, username, role, password_hash FROM users WHERE username = ?")
            .bind(username)
            .fetch_optional(self.database.pool())
            .await?;
        row.map(account).transpose()
    }

    /// All accounts in the order of their names.
    pub(crate) async fn list(&self) -> Result<Vec<Account>, sqlx::Error> {
        let rows: Vec<Row> = sqlx::query_as("SELECT id, username, role, password_hash FROM users ORDER BY username")
            .fetch_all(self.database.pool())
            .await?;
        rows.into_iter().map(account).collect()
    }

    /// Adds an account in the name of `by`, unless the name is taken.
    pub(crate) async fn add(
        &self,
        by: &Caller,
        username: &str,
        role: Role,
        password_hash: &str,
    ) -> Result<(), ServiceError> {
        let _changing = self.standing.change(by).await?;
        // All rows are asked for, so that SQLite has committed before it is believed.
        let insert = || {
            sqlx::query_scalar::<_, i64>(
                "INSERT INTO users (username, role, password_hash, created_at) VALUES (?, ?, ?, ?)
                 ON CONFLICT (username) DO NOTHING RETURNING id",
            )
            .bind(username)
            .bind(role as i64)
            .bind(password_hash)
            .bind(clock::unix_s_signed())
            .fetch_all(self.database.pool())
        };
        let id = self.database.write(insert).await?.pop();
        let id = id.ok_or_else(|| ServiceError::UserTaken { username: username.to_owned() })?;
        self.standing.set(UserId(id), Credential::of(password_hash));
        Ok(())
    }

    /// Adds an administrator if there is no account at all; tells whether it did.
    pub(crate) async fn add_first(&self, username: &str, password_hash: &str) -> Result<bool, sqlx::Error> {
        let added: Vec<i64> = sqlx::query_scalar(
            "INSERT INTO users (username, role, password_hash, created_at)
             SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM users) RETURNING id",
        )
        .bind(username)
        .bind(Role::Admin as i64)
        .bind(password_hash)
        .bind(clock::unix_s_signed())
        .fetch_all(self.database.pool())
        .await?;
        for id in &added {
            self.standing.set(UserId(*id), Credential::of(password_hash));
        }
        Ok(!added.is_empty())
    }

    /// Whether there is any account.
    pub(crate) async fn any(&self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users)").fetch_one(self.database.pool()).await
    }

    /// Sets a password in the name of `by`, and ends every login that the old one began. By number: another account may
    /// have got the name while the call waited.
    pub(crate) async fn set_password(
        &self,
        by: &Caller,
        account: &Account,
        password_hash: &str,
    ) -> Result<(), ServiceError> {
        let _changing = self.standing.change(by).await?;
        self.database.write(|| self.try_set_password(account, password_hash)).await?;
        self.standing.set(account.id, Credential::of(password_hash));
        Ok(())
    }

    async fn try_set_password(&self, account: &Account, password_hash: &str) -> Result<(), ServiceError> {
        let mut transaction = self.database.pool().begin().await?;
        let done = sqlx::query("UPDATE users SET password_hash = ? WHERE id = ?")
            .bind(password_hash)
            .bind(account.id.0)
            .execute(&mut *transaction)
            .await?;
        if done.rows_affected() == 0 {
            return Err(ServiceError::NoUser { username: account.username.clone() });
        }
        sqlx::query("DELETE FROM refresh_tokens WHERE user_id = ?")
            .bind(account.id.0)
            .execute(&mut *transaction)
            .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removes an account and its logins in the name of `by`, unless nobody could manage users afterwards.
    pub(crate) async fn remove(&self, by: &Caller, username: &str) -> Result<(), ServiceError> {
        let _changing = self.standing.change(by).await?;
        let delete = || {
            sqlx::query_scalar::<_, i64>(
                "DELETE FROM users WHERE username = ?1
                 AND (role < ?2 OR EXISTS (SELECT 1 FROM users WHERE role = ?2 AND username <> ?1)) RETURNING id",
            )
            .bind(username)
            .bind(Role::Admin as i64)
            .fetch_all(self.database.pool())
        };
        if let Some(id) = self.database.write(delete).await?.pop() {
            self.standing.remove(UserId(id));
            return Ok(());
        }
        let username = username.to_owned();
        match self.by_name(&username).await? {
            Some(_) => Err(ServiceError::LastAdmin { username }),
            None => Err(ServiceError::NoUser { username }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_names_at_the_edges() {
        for good in ["a", "anna.müller@example.org", &"x".repeat(USERNAME_BYTES_MAX)] {
            assert_eq!(check_username(good), Ok(()), "{good}");
        }
        for bad in ["", "two words", "line\nbreak", "nul\0", &"x".repeat(USERNAME_BYTES_MAX + 1)] {
            assert!(check_username(bad).is_err(), "{bad:?}");
        }
    }

    /// Another account may have got the name while a new password was hashed.
    #[tokio::test]
    async fn a_new_password_is_for_the_account_that_was_meant_and_not_for_the_next_of_its_name() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let pool = crate::db::open(&dir.path().join("db")).await.expect("database");
        let accounts = Accounts::open(pool).await.expect("accounts");
        accounts.add_first("ada", "hash").await.expect("account");
        let ada = accounts.by_name("ada").await.expect("query").expect("account");
        let (user, credential) = (ada.id, Credential::of("hash"));
        let ada = Caller { user, username: ada.username, role: ada.role, credential };
        accounts.add(&ada, "ben", Role::Viewer, "first").await.expect("adds");
        let old = accounts.by_name("ben").await.expect("query").expect("account");
        accounts.remove(&ada, "ben").await.expect("removes");
        accounts.add(&ada, "ben", Role::Admin, "second").await.expect("adds");
        let set = accounts.set_password(&ada, &old, "third").await;
        assert!(matches!(set, Err(ServiceError::NoUser { .. })));
        let new = accounts.by_name("ben").await.expect("query").expect("account");
        assert_eq!(new.password_hash, "second");
    }

    #[test]
    fn passwords_at_the_edges() {
        assert_eq!(check_password(&"ü".repeat(PASSWORD_CHARS_MIN)), Ok(()));
        assert_eq!(check_password(&"ü".repeat(PASSWORD_CHARS_MIN - 1)), Err(PasswordError));
        assert_eq!(check_password(&"x".repeat(PASSWORD_BYTES_MAX)), Ok(()));
        assert_eq!(check_password(&"x".repeat(PASSWORD_BYTES_MAX + 1)), Err(PasswordError));
    }
}
