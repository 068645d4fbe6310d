//! The client's side of the control plane: calls to the master.
//!
//! **[`Control`] is one connection to one master on behalf of one user; clones share it.** It logs in when it is made,
//! renews its token ahead of expiry and once more when the master refuses one, and bounds every call in time. It
//! tries nothing twice beyond that: what to do about an [`ControlError`] is the caller's decision.

mod catalogue;
mod channel;
mod distribution;
mod maintenance;
mod span;
mod token_cache;
mod tokens;
mod users;

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use braidcast_proto::v1::ListServersRequest;
use braidcast_proto::v1::catalogue_client::CatalogueClient;
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status};

use crate::error::{ControlError, Peer};
use crate::profile::Profile;
use crate::secret::Secret;
use tokens::Tokens;

pub use catalogue::BegunPublish;
pub use distribution::{Distribution, Host, Range, VideoRef, Window};
pub use span::FrameSpan;
pub(crate) use span::{extent_of, last_byte};
pub use users::{Role, UnknownRole, User};

/// Time that a connection, TLS included, may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time that one call may take. Checking a password takes the master a good part of a second.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a master, logged in. Cheap to clone; must be made and used within a tokio runtime.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    channel: Channel,
    tokens: Tokens,
    peer: Peer,
}

impl Control {
    /// Connects to the profile's master and logs in: with the token cached beside the profile where there is a good
    /// one, else with the profile's credential.
    ///
    /// # Errors
    /// [`ControlError`]: the address, the connection, the certificate or the login.
    pub async fn connect(profile: &Profile) -> Result<Self, ControlError> {
        let peer = Peer::of(profile);
        let channel = channel::open(profile, &peer).await?;
        let tokens = Tokens::new(channel.clone(), peer.clone(), profile);
        tokens.access(None).await?;
        Ok(Self { shared: Arc::new(Shared { channel, tokens, peer }) })
    }

    /// The master's address, for messages.
    pub fn address(&self) -> &str {
        &self.shared.peer.address
    }

    /// Seconds by which this machine's clock is ahead of the master's, as exact as HTTP's `date` is: to about a
    /// second. Nothing where something on the way strips that header.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn clock_ahead_s(&self) -> Result<Option<i64>, ControlError> {
        let answer = self
            .call("clock", ListServersRequest {}, async |channel, request| {
                CatalogueClient::new(channel).list_servers(request).await
            })
            .await?;
        let date = answer.metadata().get("date").and_then(|date| date.to_str().ok());
        let theirs = date.and_then(|date| httpdate::parse_http_date(date).ok());
        let unix_s = |time: SystemTime| time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64);
        Ok(theirs.map(|theirs| unix_s(SystemTime::now()) - unix_s(theirs)))
    }

    /// Makes one call about `what`. A token that the master refuses is renewed, once.
    async fn call<Q, A, F>(
        &self,
        what: &str,
        request: Q,
        rpc: impl Fn(Channel, Request<Q>) -> F,
    ) -> Result<Response<A>, ControlError>
    where
        Q: Clone,
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let token = self.shared.tokens.access(None).await?;
        let mut outcome = rpc(self.shared.channel.clone(), authorised(request.clone(), &token)).await;
        if outcome.as_ref().is_err_and(|status| status.code() == Code::Unauthenticated) {
            let token = self.shared.tokens.access(Some(&token)).await?;
            outcome = rpc(self.shared.channel.clone(), authorised(request, &token)).await;
        }
        outcome.map_err(|status| self.shared.peer.status(what, CALL_TIMEOUT, &status))
    }
}

/// Trades the profile's password for a refresh token, which it returns; nothing is cached.
///
/// # Errors
/// As [`Control::connect`].
pub async fn login(profile: &Profile) -> Result<Secret, ControlError> {
    let peer = Peer::of(profile);
    let channel = channel::open(profile, &peer).await?;
    Tokens::new(channel, peer, profile).log_in().await
}

/// `request` with the token and the time limit of a call.
fn authorised<Q>(request: Q, token: &Secret) -> Request<Q> {
    let mut request = Request::new(request);
    request.set_timeout(CALL_TIMEOUT);
    tokens::authorise(&mut request, token);
    request
}

impl Peer {
    fn of(profile: &Profile) -> Self {
        Self { address: profile.master.clone(), profile: profile.path.clone(), username: profile.username.clone() }
    }
}
