//! Accounts as the database keeps them.

use std::fmt;

use braidcast_proto::v1;

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

/// The accounts in the database.
#[derive(Clone)]
pub(crate) struct Accounts {
    database: Database,
}

impl Accounts {
    pub(crate) fn new(database: impl Into<Database>) -> Self {
        Self { database: database.into() }
    }

    pub(crate) async fn by_name(&self, username: &str) -> Result<Option<Account>, sqlx::Error> {
        let row: Option<Row> = sqlx::query_as("SELECT id, username, role, password_hash FROM users WHERE username = ?")
            .bind(username)
            .fetch_optional(self.database.pool())
            .await?;
        row.map(account).transpose()
    }

    pub(crate) async fn by_id(&self, id: UserId) -> Result<Option<Account>, sqlx::Error> {
        let row: Option<Row> = sqlx::query_as("SELECT id, username, role, password_hash FROM users WHERE id = ?")
            .bind(id.0)
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

    /// Adds an account, unless the name is taken.
    pub(crate) async fn add(&self, username: &str, role: Role, password_hash: &str) -> Result<(), ServiceError> {
        let insert = || {
            sqlx::query(
                "INSERT INTO users (username, role, password_hash, created_at) VALUES (?, ?, ?, ?)
                 ON CONFLICT (username) DO NOTHING",
            )
            .bind(username)
            .bind(role as i64)
            .bind(password_hash)
            .bind(clock::unix_s_signed())
            .execute(self.database.pool())
        };
        let done = self.database.write(insert).await?;
        if done.rows_affected() == 0 {
            return Err(ServiceError::UserTaken { username: username.to_owned() });
        }
        Ok(())
    }

    /// Adds an administrator if there is no account at all; tells whether it did.
    pub(crate) async fn add_first(&self, username: &str, password_hash: &str) -> Result<bool, sqlx::Error> {
        let done = sqlx::query(
            "INSERT INTO users (username, role, password_hash, created_at)
             SELECT ?, ?, ?, ? WHERE NOT EXISTS (SELECT 1 FROM users)",
        )
        .bind(username)
        .bind(Role::Admin as i64)
        .bind(password_hash)
        .bind(clock::unix_s_signed())
        .execute(self.database.pool())
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Whether there is any account.
    pub(crate) async fn any(&self) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM users)").fetch_one(self.database.pool()).await
    }

    /// Sets a password and ends every login that the old one began.
    pub(crate) async fn set_password(&self, username: &str, password_hash: &str) -> Result<(), ServiceError> {
        self.database.write(|| self.try_set_password(username, password_hash)).await
    }

    async fn try_set_password(&self, username: &str, password_hash: &str) -> Result<(), ServiceError> {
        let mut transaction = self.database.pool().begin().await?;
        let id: Option<i64> = sqlx::query_scalar("UPDATE users SET password_hash = ? WHERE username = ? RETURNING id")
            .bind(password_hash)
            .bind(username)
            .fetch_optional(&mut *transaction)
            .await?;
        let id = id.ok_or_else(|| ServiceError::NoUser { username: username.to_owned() })?;
        sqlx::query("DELETE FROM refresh_tokens WHERE user_id = ?").bind(id).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Removes an account and its logins, unless nobody could manage users afterwards.
    pub(crate) async fn remove(&self, username: &str) -> Result<(), ServiceError> {
        let delete = || {
            sqlx::query(
                "DELETE FROM users WHERE username = ?1
                 AND (role < ?2 OR EXISTS (SELECT 1 FROM users WHERE role = ?2 AND username <> ?1))",
            )
            .bind(username)
            .bind(Role::Admin as i64)
            .execute(self.database.pool())
        };
        let done = self.database.write(delete).await?;
        if done.rows_affected() == 1 {
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

    #[test]
    fn passwords_at_the_edges() {
        assert_eq!(check_password(&"ü".repeat(PASSWORD_CHARS_MIN)), Ok(()));
        assert_eq!(check_password(&"ü".repeat(PASSWORD_CHARS_MIN - 1)), Err(PasswordError));
        assert_eq!(check_password(&"x".repeat(PASSWORD_BYTES_MAX)), Ok(()));
        assert_eq!(check_password(&"x".repeat(PASSWORD_BYTES_MAX + 1)), Err(PasswordError));
    }
}
