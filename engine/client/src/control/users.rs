//! Calls about accounts.

use std::fmt;
use std::str::FromStr;

use braidcast_proto::v1;
use braidcast_proto::v1::users_client::UsersClient;
use braidcast_proto::v1::{AddUserRequest, ListUsersRequest, RemoveUserRequest, SetPasswordRequest};

use super::Control;
use crate::error::ControlError;
use crate::secret::Secret;

/// What an account may do; each role includes those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Lists and fetches.
    Viewer,
    /// Publishes and removes.
    Publisher,
    /// Manages users.
    Admin,
}

/// An account as the master describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub username: String,
    /// What it may do.
    pub role: Role,
    /// Some address has to wait before it may try this account's password again.
    pub locked: bool,
}

/// A text that names no [`Role`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown role {0:?}: use viewer, publisher or admin")]
pub struct UnknownRole(String);

impl Control {
    /// Adds an account.
    ///
    /// # Errors
    /// [`ControlError::AlreadyExists`], [`ControlError::Rejected`], [`ControlError::NotPermitted`] and the rest.
    pub async fn add_user(&self, username: &str, password: &Secret, role: Role) -> Result<(), ControlError> {
        let request = AddUserRequest {
            username: username.to_owned(),
            password: password.expose().to_owned(),
            role: v1::Role::from(role).into(),
        };
        self.call(&user_name(username), request, async |channel, request| {
            UsersClient::new(channel).add_user(request).await
        })
        .await
        .map(|_| ())
    }

    /// Sets the password of an account: one's own, or as an administrator anyone's.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Rejected`], [`ControlError::NotPermitted`] and the rest.
    pub async fn set_password(&self, username: &str, password: &Secret) -> Result<(), ControlError> {
        let request = SetPasswordRequest { username: username.to_owned(), password: password.expose().to_owned() };
        self.call(&user_name(username), request, async |channel, request| {
            UsersClient::new(channel).set_password(request).await
        })
        .await
        .map(|_| ())
    }

    /// Removes an account. What it was told stays good until its access token and tickets expire.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::NotPermitted`] and the rest.
    pub async fn remove_user(&self, username: &str) -> Result<(), ControlError> {
        let request = RemoveUserRequest { username: username.to_owned() };
        self.call(&user_name(username), request, async |channel, request| {
            UsersClient::new(channel).remove_user(request).await
        })
        .await
        .map(|_| ())
    }

    /// Every account.
    ///
    /// # Errors
    /// [`ControlError::NotPermitted`] and the rest.
    pub async fn list_users(&self) -> Result<Vec<User>, ControlError> {
        let what = "list of users";
        let users = self
            .call(what, ListUsersRequest {}, async |channel, request| {
                UsersClient::new(channel).list_users(request).await
            })
            .await?
            .into_inner()
            .users;
        let checked = users.into_iter().map(User::try_from).collect::<Result<_, _>>();
        checked.map_err(|reason| ControlError::BadAnswer { what: what.to_owned(), reason })
    }
}

impl TryFrom<v1::User> for User {
    type Error = String;

    fn try_from(user: v1::User) -> Result<Self, String> {
        let role = match user.role() {
            v1::Role::Viewer => Role::Viewer,
            v1::Role::Publisher => Role::Publisher,
            v1::Role::Admin => Role::Admin,
            v1::Role::Unspecified => return Err(format!("{:?} has no known role", user.username)),
        };
        Ok(Self { username: user.username, role, locked: user.locked })
    }
}

impl From<Role> for v1::Role {
    fn from(role: Role) -> Self {
        match role {
            Role::Viewer => Self::Viewer,
            Role::Publisher => Self::Publisher,
            Role::Admin => Self::Admin,
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Viewer => "viewer",
            Self::Publisher => "publisher",
            Self::Admin => "admin",
        })
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "viewer" => Ok(Self::Viewer),
            "publisher" => Ok(Self::Publisher),
            "admin" => Ok(Self::Admin),
            other => Err(UnknownRole(other.to_owned())),
        }
    }
}

fn user_name(username: &str) -> String {
    format!("user {username:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_read_back_as_they_are_printed() {
        for role in [Role::Viewer, Role::Publisher, Role::Admin] {
            assert_eq!(role.to_string().parse(), Ok(role));
        }
        assert_eq!("root".parse::<Role>(), Err(UnknownRole("root".to_owned())));
    }

    #[test]
    fn a_user_without_a_role_is_a_wrong_answer() {
        let user = v1::User { username: "ada".to_owned(), ..Default::default() };
        assert!(User::try_from(user).is_err());
    }
}
