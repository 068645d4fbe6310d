//! Managing accounts: the Users service.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use braidcast_proto::v1;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use crate::accounts::{self, Account, Accounts, Role};
use crate::auth::gate::{self, Caller};
use crate::auth::passwords::{Passwords, Queue};
use crate::auth::throttle::Throttle;
use crate::auth::tokens::Tokens;
use crate::errors::ServiceError;
use crate::sync::{lock, to_its_end};

/// The Users service.
#[derive(Clone)]
pub(crate) struct UsersService {
    pub(crate) accounts: Accounts,
    pub(crate) passwords: Arc<Passwords>,
    pub(crate) throttle: Arc<Mutex<Throttle>>,
    pub(crate) tokens: Arc<Tokens>,
}

impl UsersService {
    /// The account that makes a call, as the database has it. A token outlives its account by some minutes where the
    /// master was started anew, and must not be traded for an account that stays.
    async fn standing(&self, caller: &Caller, needed: Role) -> Result<Account, ServiceError> {
        // By number: another account may have the name since the token was signed.
        let account = self.accounts.by_id(caller.user).await?.ok_or(ServiceError::TokenInvalid)?;
        gate::check_role(&Caller { role: account.role, ..caller.clone() }, needed)?;
        Ok(account)
    }

    async fn change_password(&self, username: &str, hash: &str) -> Result<(), ServiceError> {
        let account = self.accounts.by_name(username).await?;
        self.accounts.set_password(username, hash).await?;
        account.iter().for_each(|account| self.tokens.revoke(account.id));
        lock(&self.throttle).on_new_password(username);
        Ok(())
    }

    async fn remove(&self, username: &str) -> Result<(), ServiceError> {
        let account = self.accounts.by_name(username).await?;
        self.accounts.remove(username).await?;
        account.iter().for_each(|account| self.tokens.revoke(account.id));
        lock(&self.throttle).on_removed(username);
        Ok(())
    }
}

#[tonic::async_trait]
impl v1::users_server::Users for UsersService {
    async fn add_user(&self, request: Request<v1::AddUserRequest>) -> Result<Response<v1::AddUserResponse>, Status> {
        let caller = gate::caller(&request)?;
        self.standing(&caller, Role::Admin).await?;
        let v1::AddUserRequest { username, password, role } = request.into_inner();
        let password = Zeroizing::new(password);
        let role = Role::from_number(role.into()).ok_or(ServiceError::NoRole)?;
        accounts::check_username(&username).map_err(ServiceError::from)?;
        accounts::check_password(&password).map_err(ServiceError::from)?;
        let hash = self.passwords.hash(Queue::Caller(caller.user), password).await?;
        self.accounts.add(&username, role, &hash).await?;
        tracing::info!(username, %role, by = caller.username, "added a user");
        Ok(Response::new(v1::AddUserResponse {}))
    }

    async fn set_password(
        &self,
        request: Request<v1::SetPasswordRequest>,
    ) -> Result<Response<v1::SetPasswordResponse>, Status> {
        let caller = gate::caller(&request)?;
        if self.standing(&caller, Role::Viewer).await?.username != request.get_ref().username {
            self.standing(&caller, Role::Admin).await?;
        }
        let v1::SetPasswordRequest { username, password } = request.into_inner();
        let password = Zeroizing::new(password);
        accounts::check_password(&password).map_err(ServiceError::from)?;
        let hash = self.passwords.hash(Queue::Caller(caller.user), password).await?;
        let (this, of) = (self.clone(), username.clone());
        to_its_end(async move { this.change_password(&of, &hash).await }).await?;
        tracing::info!(username, by = caller.username, "set a password");
        Ok(Response::new(v1::SetPasswordResponse {}))
    }

    async fn remove_user(
        &self,
        request: Request<v1::RemoveUserRequest>,
    ) -> Result<Response<v1::RemoveUserResponse>, Status> {
        let caller = gate::caller(&request)?;
        self.standing(&caller, Role::Admin).await?;
        let username = request.into_inner().username;
        let (this, of) = (self.clone(), username.clone());
        to_its_end(async move { this.remove(&of).await }).await?;
        tracing::info!(username, by = caller.username, "removed a user");
        Ok(Response::new(v1::RemoveUserResponse {}))
    }

    async fn list_users(
        &self,
        request: Request<v1::ListUsersRequest>,
    ) -> Result<Response<v1::ListUsersResponse>, Status> {
        self.standing(&gate::caller(&request)?, Role::Admin).await?;
        let listed = self.accounts.list().await.map_err(ServiceError::from)?;
        let throttle = lock(&self.throttle);
        let held = throttle.held_names(Instant::now());
        let users = listed
            .into_iter()
            .map(|account| v1::User {
                role: account.role.to_proto().into(),
                locked: held.contains(account.username.as_str()),
                username: account.username,
            })
            .collect();
        Ok(Response::new(v1::ListUsersResponse { users }))
    }
}
