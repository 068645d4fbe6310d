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
use crate::errors::ServiceError;
use crate::sync::{lock, to_its_end};

/// The Users service.
#[derive(Clone)]
pub(crate) struct UsersService {
    pub(crate) accounts: Accounts,
    pub(crate) passwords: Arc<Passwords>,
    pub(crate) throttle: Arc<Mutex<Throttle>>,
}

impl UsersService {
    async fn change_password(&self, by: &Caller, account: &Account, hash: &str) -> Result<(), ServiceError> {
        self.accounts.set_password(by, account, hash).await?;
        lock(&self.throttle).on_new_password(&account.username);
        Ok(())
    }

    async fn remove(&self, by: &Caller, username: &str) -> Result<(), ServiceError> {
        self.accounts.remove(by, username).await?;
        lock(&self.throttle).on_removed(username);
        Ok(())
    }
}

#[tonic::async_trait]
impl v1::users_server::Users for UsersService {
    async fn add_user(&self, request: Request<v1::AddUserRequest>) -> Result<Response<v1::AddUserResponse>, Status> {
        let caller = gate::caller(&request)?;
        let v1::AddUserRequest { username, password, role } = request.into_inner();
        let password = Zeroizing::new(password);
        let role = Role::from_number(role.into()).ok_or(ServiceError::NoRole)?;
        accounts::check_username(&username).map_err(ServiceError::from)?;
        accounts::check_password(&password).map_err(ServiceError::from)?;
        let hash = self.passwords.hash(Queue::Caller(caller.user), password).await?;
        let (this, by, name) = (self.clone(), caller.clone(), username.clone());
        to_its_end(async move { this.accounts.add(&by, &name, role, &hash).await }).await?;
        tracing::info!(username, %role, by = caller.username, "added a user");
        Ok(Response::new(v1::AddUserResponse {}))
    }

    async fn set_password(
        &self,
        request: Request<v1::SetPasswordRequest>,
    ) -> Result<Response<v1::SetPasswordResponse>, Status> {
        let caller = gate::caller(&request)?;
        let v1::SetPasswordRequest { username, password } = request.into_inner();
        let password = Zeroizing::new(password);
        let account = self.accounts.by_name(&username).await.map_err(ServiceError::from)?;
        let own = account.as_ref().is_some_and(|account| account.id == caller.user);
        if !own {
            gate::check_role(&caller, Role::Admin)?;
        }
        let account = account.ok_or_else(|| ServiceError::NoUser { username: username.clone() })?;
        accounts::check_password(&password).map_err(ServiceError::from)?;
        let hash = self.passwords.hash(Queue::Caller(caller.user), password).await?;
        let (this, by) = (self.clone(), caller.clone());
        to_its_end(async move { this.change_password(&by, &account, &hash).await }).await?;
        tracing::info!(username, by = caller.username, "set a password");
        Ok(Response::new(v1::SetPasswordResponse {}))
    }

    async fn remove_user(
        &self,
        request: Request<v1::RemoveUserRequest>,
    ) -> Result<Response<v1::RemoveUserResponse>, Status> {
        let caller = gate::caller(&request)?;
        let username = request.into_inner().username;
        let (this, by, name) = (self.clone(), caller.clone(), username.clone());
        to_its_end(async move { this.remove(&by, &name).await }).await?;
        tracing::info!(username, by = caller.username, "removed a user");
        Ok(Response::new(v1::RemoveUserResponse {}))
    }

    async fn list_users(
        &self,
        _request: Request<v1::ListUsersRequest>,
    ) -> Result<Response<v1::ListUsersResponse>, Status> {
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
