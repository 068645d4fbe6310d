//! Logging in: `Auth.IssueToken`, and what it hands out.

mod bucket;
pub(crate) mod gate;
pub(crate) mod passwords;
mod recent;
pub(crate) mod refresh;
pub(crate) mod standing;
pub(crate) mod throttle;
pub(crate) mod tokens;
mod turns;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use braidcast_proto::v1;
use braidcast_proto::v1::issue_token_response::Result as IssueResult;
use tonic::{Request, Response, Status};
use zeroize::Zeroizing;

use crate::accounts::{Account, Accounts};
use crate::auth::passwords::{Passwords, Queue, Turn};
use crate::auth::refresh::{RefreshTokens, Refreshed};
use crate::auth::throttle::{Attempt, Held, Pair, Throttle};
use crate::auth::tokens::Tokens;
use crate::errors::ServiceError;
use crate::limits::{PASSWORD_BYTES_MAX, USERNAME_BYTES_MAX};
use crate::net::{self, Network, Seldom};
use crate::sync::lock;

/// The programs that may ask for tokens.
const CLIENT_IDS: [&str; 2] = ["braidcast", "braidcast-player"];

/// The Auth service.
pub(crate) struct AuthService {
    pub(crate) accounts: Accounts,
    pub(crate) passwords: Arc<Passwords>,
    pub(crate) throttle: Arc<Mutex<Throttle>>,
    pub(crate) refresh: Arc<RefreshTokens>,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) refusals: Seldom,
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
        let (_, extensions, message) = request.into_parts();
        let network = net::peer(&extensions).network;
        let result = match self.grant(network, message).await? {
            Grant::Given { account, refresh_token } => {
                net::prove(&extensions, Some(account.id));
                IssueResult::Token(v1::Token {
                    access_token: self.tokens.sign_client(&account)?,
                    expires_in_sec: u32::try_from(self.tokens.lifetime().as_secs()).unwrap_or(u32::MAX),
                    token_type: "Bearer".to_owned(),
                    refresh_token: refresh_token.to_string(),
                })
            }
            Grant::Refused { error, description } => {
                // Once in a while: whoever can fill a log can fill a disk.
                if let Some(times) = self.refusals.on_event(Instant::now()) {
                    tracing::info!(error, %network, times, "logins were refused; the last one is named");
                }
                IssueResult::Error(v1::AuthError { error: error.to_owned(), error_description: description })
            }
        };
        Ok(Response::new(v1::IssueTokenResponse { result: Some(result) }))
    }
}

impl AuthService {
    async fn grant(&self, network: Network, request: v1::IssueTokenRequest) -> Result<Grant, ServiceError> {
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
            "password" => self.by_password(network, username, password).await,
            "refresh_token" => self.by_refresh_token(network, &refresh_token).await,
            _ => Ok(refused(
                "unsupported_grant_type",
                format!("grant_type {grant_type:.64?} is not supported; use `password` or `refresh_token`"),
            )),
        }
    }

    async fn by_password(
        &self,
        network: Network,
        username: String,
        password: Zeroizing<String>,
    ) -> Result<Grant, ServiceError> {
        if username.is_empty() || password.is_empty() {
            return Ok(refused("invalid_request", "the grant `password` needs `username` and `password`"));
        }
        let wrong = || refused("invalid_grant", "user name or password is wrong");
        if username.len() > USERNAME_BYTES_MAX || password.len() > PASSWORD_BYTES_MAX {
            return Ok(wrong());
        }
        let pair = (network, username);
        let queue = match self.queue(&pair) {
            Ok(queue) => queue,
            Err(held) => return Ok(refusal(&held)),
        };
        let turn = self.passwords.turn(queue).await?;
        // Others may have tried while this one waited.
        let attempt = match self.throttle().begin(Instant::now(), pair.clone()) {
            Ok(attempt) => attempt,
            Err(held) => return Ok(refusal(&held)),
        };
        let Some(account) = self.judge(turn, attempt, pair.1.clone(), password).await? else {
            return Ok(wrong());
        };
        // The password may have changed while this one was hashed.
        let Some(refresh_token) = self.refresh.begin(&account).await? else {
            return Ok(wrong());
        };
        tracing::info!(username = pair.1, "logged in");
        Ok(Grant::Given { account, refresh_token })
    }

    /// The account, if the password is its own. In a task of its own: an attempt counts as wrong until it was judged, and
    /// a caller who hangs up meanwhile must not have tried a wrong password.
    async fn judge(
        &self,
        turn: Turn,
        attempt: Attempt,
        username: String,
        password: Zeroizing<String>,
    ) -> Result<Option<Account>, ServiceError> {
        let (accounts, passwords) = (self.accounts.clone(), Arc::clone(&self.passwords));
        let throttle = Arc::clone(&self.throttle);
        let judging = async move {
            let account = accounts.by_name(&username).await?;
            let kept = account.as_ref().map(|a| a.password_hash.clone());
            let (fits, turn) = passwords.verify(turn, password, kept).await?;
            let account = account.filter(|_| fits);
            if account.is_some() {
                lock(&throttle).on_right(Instant::now(), attempt);
            }
            // The next one begins when this one was judged.
            drop(turn);
            Ok(account)
        };
        tokio::spawn(judging).await?
    }

    /// Where an attempt waits for its turn, unless it is held up.
    fn queue(&self, pair: &Pair) -> Result<Queue, Held> {
        let throttle = self.throttle();
        throttle.check(Instant::now(), pair)?;
        let (network, username) = pair.clone();
        Ok(if throttle.has_signed_in(pair) { Queue::SignedIn(username) } else { Queue::Address(network) })
    }

    async fn by_refresh_token(&self, network: Network, token: &str) -> Result<Grant, ServiceError> {
        if token.is_empty() {
            return Ok(refused("invalid_request", "the grant `refresh_token` needs `refresh_token`"));
        }
        let (account, refresh_token) = match self.refresh.rotate(token).await? {
            Refreshed::Next { account, token } => (account, token),
            Refreshed::Unknown => {
                return Ok(refused("invalid_grant", "the refresh token is unknown or expired: log in again"));
            }
            Refreshed::Spent => {
                return Ok(refused("invalid_grant", "the refresh token was used already: log in again"));
            }
        };
        self.throttle().on_signed_in(&(network, account.username.clone()));
        Ok(Grant::Given { account, refresh_token })
    }

    fn throttle(&self) -> std::sync::MutexGuard<'_, Throttle> {
        lock(&self.throttle)
    }
}

/// The same words whether there is such an account or not.
fn refusal(held: &Held) -> Grant {
    let (what, left) = match held {
        Held::Pair(left) => ("too many wrong passwords in a row for this account from your address", left),
        Held::Address(left) => ("too many wrong passwords from your address", left),
        Held::Account(left) => ("too many wrong passwords for this account, and your address is new to it", left),
    };
    // Rounded up: whoever waits that long is not refused again for it.
    let seconds = left.as_secs() + u64::from(*left > Duration::from_secs(left.as_secs()));
    refused("access_denied", format!("{what}: wait {seconds} s"))
}
