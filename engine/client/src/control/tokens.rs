//! Getting an access token, and a new one in time.

use std::time::{Duration, SystemTime};

use braidcast_proto::v1::auth_client::AuthClient;
use braidcast_proto::v1::issue_token_response::Result as Issued;
use braidcast_proto::v1::{AuthError, IssueTokenRequest, Token};
use tokio::sync::Mutex;
use tonic::Request;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;

use super::CALL_TIMEOUT;
use super::token_cache::{AccessToken, CachedTokens, TokenCache};
use crate::error::{ControlError, Peer};
use crate::profile::{Credential, Profile};
use crate::secret::Secret;

/// The name under which this program asks for tokens.
const CLIENT_ID: &str = "braidcast";
/// A token is renewed this long before it expires, or at three quarters of its life if that is later.
const RENEW_AHEAD: Duration = Duration::from_secs(30);
const LOGIN: &str = "login";

/// The tokens of one user at one master.
#[derive(Debug)]
pub(super) struct Tokens {
    channel: Channel,
    peer: Peer,
    credential: Credential,
    cache: TokenCache,
    current: Mutex<Option<AccessToken>>,
}

/// What a token is asked for with.
enum Grant<'a> {
    Password(&'a Secret),
    Refresh(&'a Secret),
}

/// Outcome of a grant that the master answered.
enum Answer {
    Granted(CachedTokens),
    /// The grant is wrong or used up; another may do.
    Refused(AuthError),
}

impl Tokens {
    pub(super) fn new(channel: Channel, peer: Peer, profile: &Profile) -> Self {
        let credential = profile.credential.clone();
        Self { channel, peer, credential, cache: TokenCache::of(profile), current: Mutex::new(None) }
    }

    /// A token that is good for a while, and is not `rejected`.
    pub(super) async fn access(&self, rejected: Option<&Secret>) -> Result<Secret, ControlError> {
        let usable = |token: &AccessToken| token.use_until > SystemTime::now() && Some(&token.text) != rejected;
        let mut current = self.current.lock().await;
        if let Some(token) = current.as_ref().filter(|token| usable(token)) {
            return Ok(token.text.clone());
        }
        let _turn = self.cache.lock().await;
        let cached = self.cache.read();
        let access = match cached {
            Some(cached) if usable(&cached.access) => cached.access,
            stale => self.renew(stale).await?,
        };
        Ok(current.insert(access).text.clone())
    }

    /// Trades the profile's password for a refresh token.
    pub(super) async fn log_in(&self) -> Result<Secret, ControlError> {
        match self.issue(self.profile_grant()).await? {
            Answer::Granted(tokens) => Ok(tokens.refresh),
            Answer::Refused(error) => Err(self.refused(error)),
        }
    }

    /// Tries the cached refresh token, then what the profile holds, and caches what comes back.
    async fn renew(&self, stale: Option<CachedTokens>) -> Result<AccessToken, ControlError> {
        let cached = stale.as_ref().map(|tokens| Grant::Refresh(&tokens.refresh));
        let mut answer = self.issue(cached.unwrap_or(self.profile_grant())).await?;
        if stale.is_some() && matches!(answer, Answer::Refused(_)) {
            answer = self.issue(self.profile_grant()).await?;
        }
        match answer {
            Answer::Granted(tokens) => {
                self.cache.write(&tokens);
                Ok(tokens.access)
            }
            Answer::Refused(error) => Err(self.refused(error)),
        }
    }

    fn profile_grant(&self) -> Grant<'_> {
        match &self.credential {
            Credential::Password(password) => Grant::Password(password),
            Credential::RefreshToken(token) => Grant::Refresh(token),
        }
    }

    async fn issue(&self, grant: Grant<'_>) -> Result<Answer, ControlError> {
        let mut request = IssueTokenRequest { client_id: CLIENT_ID.to_owned(), ..Default::default() };
        match grant {
            Grant::Password(password) => {
                request.grant_type = "password".to_owned();
                request.username = self.peer.username.clone();
                request.password = password.expose().to_owned();
            }
            Grant::Refresh(token) => {
                request.grant_type = "refresh_token".to_owned();
                request.refresh_token = token.expose().to_owned();
            }
        }
        let mut request = Request::new(request);
        request.set_timeout(CALL_TIMEOUT);
        let answer = AuthClient::new(self.channel.clone()).issue_token(request).await;
        let answer = answer.map_err(|status| self.peer.status(LOGIN, CALL_TIMEOUT, &status))?;
        match answer.into_inner().result {
            Some(Issued::Token(token)) => self.accept(token).map(Answer::Granted),
            Some(Issued::Error(error)) => Ok(Answer::Refused(error)),
            None => Err(bad_answer("neither a token nor an error")),
        }
    }

    fn accept(&self, token: Token) -> Result<CachedTokens, ControlError> {
        if !token.token_type.eq_ignore_ascii_case("bearer") {
            return Err(bad_answer("the token is of another type than Bearer"));
        }
        let text = Secret::new(token.access_token);
        if bearer(&text).is_none() {
            return Err(bad_answer("the token holds characters that no header can"));
        }
        let lifetime = Duration::from_secs(token.expires_in_sec.into());
        let use_until = SystemTime::now() + (lifetime - RENEW_AHEAD.min(lifetime / 4));
        Ok(CachedTokens { access: AccessToken { text, use_until }, refresh: Secret::new(token.refresh_token) })
    }

    /// Translates OAuth 2.0's codes; the one place where that is done.
    fn refused(&self, error: AuthError) -> ControlError {
        let Peer { address, profile, username } = self.peer.clone();
        let reason = error.error_description;
        match (error.error.as_str(), &self.credential) {
            ("access_denied", _) => ControlError::AccountLocked { username, reason },
            ("invalid_grant", Credential::Password(_)) => ControlError::WrongPassword { username, profile, reason },
            ("invalid_grant", Credential::RefreshToken(_)) => ControlError::LoginExpired { username, profile, reason },
            (code, _) => ControlError::LoginUnsupported { address, reason: format!("{code}: {reason}") },
        }
    }
}

/// Puts the token where the master looks for it.
pub(super) fn authorise<Q>(request: &mut Request<Q>, token: &Secret) {
    let bearer = bearer(token).expect("tokens are checked when they are accepted");
    request.metadata_mut().insert("authorization", bearer);
}

fn bearer(token: &Secret) -> Option<MetadataValue<tonic::metadata::Ascii>> {
    let mut value: MetadataValue<_> = format!("Bearer {}", token.expose()).parse().ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn bad_answer(reason: &str) -> ControlError {
    ControlError::BadAnswer { what: LOGIN.to_owned(), reason: reason.to_owned() }
}
