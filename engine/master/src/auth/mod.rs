//! Logging in: `Auth.IssueToken`, and what it hands out.

pub(crate) mod gate;
pub(crate) mod lockout;
pub(crate) mod passwords;
pub(crate) mod refresh;
pub(crate) mod tokens;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use braidcast_proto::v1;
use braidcast_proto::v1::issue_token_response::Result as IssueResult;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use crate::accounts::{Account, Accounts};
use crate::auth::lockout::Lockout;
use crate::auth::passwords::Passwords;
use crate::auth::refresh::{RefreshTokens, Refreshed};
use crate::auth::tokens::Tokens;
use crate::errors::ServiceError;
use crate::limits::{PASSWORD_BYTES_MAX, USERNAME_BYTES_MAX};

/// The programs that may ask for tokens.
const CLIENT_IDS: [&str; 2] = ["braidcast", "braidcast-player"];

/// The Auth service.
pub(crate) struct AuthService {
    pub(crate) accounts: Accounts,
    pub(crate) passwords: Arc<Passwords>,
    pub(crate) lockout: Arc<Mutex<Lockout>>,
    pub(crate) refresh: Arc<RefreshTokens>,
    pub(crate) tokens: Arc<Tokens>,
}

/// What a grant came to: tokens for an account, or OAuth's word for why not (RFC 6749, section 5.2).
enum Grant {
    Given { account: Account, refresh_token: Zeroizing<String> },
    Refused { error: &'static str, description: String },
}

fn refused(error: &'static str, description: impl Into<String>) -> Grant {
    Grant::Refused { error, description: description.into() }
}

#[tonic::async_trait]
impl v1::auth_server::Auth for AuthService {
    async fn issue_token(
        &self,
        request: Request<v1::IssueTokenRequest>,
    ) -> Result<Response<v1::IssueTokenResponse>, Status> {
        let result = match self.grant(request.into_inner()).await? {
            Grant::Given { account, refresh_token } => IssueResult::Token(v1::Token {
                access_token: self.tokens.sign_client(&account)?,
                expires_in_sec: u32::try_from(self.tokens.lifetime().as_secs()).unwrap_or(u32::MAX),
                token_type: "Bearer".to_owned(),
                refresh_token: refresh_token.to_string(),
            }),
            Grant::Refused { error, description } => {
                tracing::info!(error, "a login was refused");
                IssueResult::Error(v1::AuthError { error: error.to_owned(), error_description: description })
            }
        };
        Ok(Response::new(v1::IssueTokenResponse { result: Some(result) }))
    }
}

impl AuthService {
    async fn grant(&self, request: v1::IssueTokenRequest) -> Result<Grant, ServiceError> {
        let v1::IssueTokenRequest { grant_type, client_id, username, password, refresh_token } = request;
        let (password, refresh_token) = (Zeroizing::new(password), Zeroizing::new(refresh_token));
        if client_id.is_empty() || grant_type.is_empty() {
            return Ok(refused("invalid_request", "`client_id` and `grant_type` must both be given"));
        }
        if !CLIENT_IDS.contains(&client_id.as_str()) {
            let known = CLIENT_IDS.join(", ");
            return Ok(refused("invalid_client", format!("client_id {client_id:.64?} is unknown; known are {known}")));
        }
        match grant_type.as_str() {
            "password" => self.by_password(&username, password).await,
            "refresh_token" => self.by_refresh_token(&refresh_token).await,
            _ => Ok(refused(
                "unsupported_grant_type",
                format!("grant_type {grant_type:.64?} is not supported; use `password` or `refresh_token`"),
            )),
        }
    }

    async fn by_password(&self, username: &str, password: Zeroizing<String>) -> Result<Grant, ServiceError> {
        if username.is_empty() || password.is_empty() {
            return Ok(refused("invalid_request", "the grant `password` needs `username` and `password`"));
        }
        let wrong = || refused("invalid_grant", "user name or password is wrong");
        if username.len() > USERNAME_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
            return Ok(wrong());
        }
        if let Some(left) = self.lockout().locked_for(Instant::now(), username) {
            return Ok(locked(left));
        }
        let account = self.accounts.by_name(username).await?;
        let kept = account.as_ref().map(|a| a.password_hash.clone());
        if !self.passwords.verify(password, kept).await? {
            self.lockout().on_wrong(Instant::now(), username);
            return Ok(wrong());
        }
        let Some(account) = account else {
            return Ok(wrong());
        };
        self.lockout().on_right(username);
        let refresh_token = self.refresh.begin(account.id).await?;
        tracing::info!(username, "logged in");
        Ok(Grant::Given { account, refresh_token })
    }

    async fn by_refresh_token(&self, token: &str) -> Result<Grant, ServiceError> {
        if token.is_empty() {
            return Ok(refused("invalid_request", "the grant `refresh_token` needs `refresh_token`"));
        }
        let (user, refresh_token) = match self.refresh.rotate(token).await? {
            Refreshed::Next { user, token } => (user, token),
            Refreshed::Unknown => {
                return Ok(refused("invalid_grant", "the refresh token is unknown or expired: log in again"));
            }
            Refreshed::Spent => {
                return Ok(refused("invalid_grant", "the refresh token was used already: log in again"));
            }
        };
        match self.accounts.by_id(user).await? {
            Some(account) => Ok(Grant::Given { account, refresh_token }),
            None => Ok(refused("invalid_grant", "the account is gone: log in as another user")),
        }
    }

    fn lockout(&self) -> std::sync::MutexGuard<'_, Lockout> {
        crate::sync::lock(&self.lockout)
    }
}

fn locked(left: Duration) -> Grant {
    let seconds = left.as_secs() + 1;
    refused("access_denied", format!("the account is locked after too many wrong passwords: wait {seconds} s"))
}
