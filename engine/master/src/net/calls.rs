//! Every call has an end: bounds on calls under way, and a time-out for each.
//!
//! Calls of strangers (signing in, joining) have seats of their own. One whose request has not arrived in full may be
//! made to leave for another: an honest request arrives at once, and a half-sent one holds memory. A stranger's seat
//! is free once its call is answered. Users and media servers have shares: no user can use up those of others, and
//! users none of the servers'.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, Service, StdError, http};
use tonic::server::NamedService;

use crate::accounts::UserId;
use crate::auth::tokens::{Caller, ServerCaller};
use crate::errors::ServiceError;
use crate::limits::{
    BEGIN_PUBLISH_BYTES_MAX, CALL_MAX, CALLS_MAX, CALLS_PER_SERVER_MAX, CALLS_PER_USER_MAX, DESCRIPTIONS_AT_ONCE_MAX,
    DESCRIPTIONS_PER_USER_MAX, LISTS_MAX, LISTS_PER_USER_MAX, SERVERS_CALLS_MAX, STRANGERS_CALLS_MAX,
    STRANGERS_CALLS_PER_NETWORK_MAX,
};
use crate::net::answer::Answer;
use crate::net::line::UnderWay;
use crate::net::permits::Permits;
use crate::net::seats::{Bounds, Claim, Full, Occupant, Seat, Seats};
use crate::net::shares::{Share, ShareBounds, Shares, Spent};
use crate::net::{Seldom, peer};

/// The calls that are under way, of all services together.
pub(crate) struct Calls {
    strangers: Arc<Seats<Arriving>>,
    users: Arc<Shares<UserId>>,
    servers: Arc<Shares<String>>,
    lists: Arc<Shares<UserId>>,
    /// One permit for each description of a film that may be in memory while it is checked.
    descriptions: Arc<Permits<UserId>>,
    refusals: Seldom,
}

impl Calls {
    pub(crate) fn new() -> Arc<Self> {
        let strangers = Bounds {
            all: STRANGERS_CALLS_MAX,
            per_network: STRANGERS_CALLS_PER_NETWORK_MAX,
            movable: STRANGERS_CALLS_MAX,
        };
        let descriptions = ShareBounds { all: DESCRIPTIONS_AT_ONCE_MAX, each: DESCRIPTIONS_PER_USER_MAX };
        Arc::new(Self {
            strangers: Seats::new(strangers),
            users: Shares::new(ShareBounds { all: CALLS_MAX, each: CALLS_PER_USER_MAX }),
            servers: Shares::new(ShareBounds { all: SERVERS_CALLS_MAX, each: CALLS_PER_SERVER_MAX }),
            lists: Shares::new(ShareBounds { all: LISTS_MAX, each: LISTS_PER_USER_MAX }),
            descriptions: Arc::new(Permits::new(descriptions)),
            refusals: Seldom::default(),
        })
    }

    /// Gives a call its place, or says which bound leaves none, and to the log, too.
    fn admit(
        &self,
        rule: Rule,
        extensions: &http::Extensions,
        arriving: &Arc<Arriving>,
    ) -> Result<Place, ServiceError> {
        self.place(rule, extensions, arriving).inspect_err(|refused| {
            if let Some(times) = self.refusals.on_event(Instant::now()) {
                let network = peer(extensions).network;
                tracing::warn!(times, %network, "calls were refused, and the last one was told: {refused}");
            }
        })
    }

    fn place(
        &self,
        rule: Rule,
        extensions: &http::Extensions,
        arriving: &Arc<Arriving>,
    ) -> Result<Place, ServiceError> {
        let share = self.share(extensions, arriving)?;
        let caller = extensions.get::<Caller>().filter(|_| rule.is_list);
        let list = caller.map(|caller| self.lists.take(caller.user)).transpose().map_err(|spent| match spent {
            Spent::Own => ServiceError::TooMany { what: "lists of yours", limit: LISTS_PER_USER_MAX },
            Spent::All => ServiceError::TooMany { what: "lists", limit: LISTS_MAX },
        })?;
        Ok(Place { share, _list: list, _under_way: peer(extensions).begin_call() })
    }

    fn share(&self, extensions: &http::Extensions, arriving: &Arc<Arriving>) -> Result<Held, ServiceError> {
        if let Some(caller) = extensions.get::<Caller>() {
            let taken = self.users.take(caller.user);
            return taken.map(|share| Held::User { _share: share }).map_err(|spent| match spent {
                Spent::Own => ServiceError::TooMany { what: "calls of yours", limit: CALLS_PER_USER_MAX },
                Spent::All => ServiceError::TooMany { what: "calls of users", limit: CALLS_MAX },
            });
        }
        if let Some(server) = extensions.get::<ServerCaller>() {
            let taken = self.servers.take(server.server_id.clone());
            return taken.map(|share| Held::Server { _share: share }).map_err(|spent| match spent {
                Spent::Own => ServiceError::TooMany { what: "calls of this server", limit: CALLS_PER_SERVER_MAX },
                Spent::All => ServiceError::TooMany { what: "calls of media servers", limit: SERVERS_CALLS_MAX },
            });
        }
        let taken = self.strangers.take(peer(extensions).network, Arc::clone(arriving));
        taken.map(|(seat, _)| Held::Stranger { _seat: seat }).map_err(|full| match full {
            Full::All => ServiceError::TooMany { what: "calls to sign in", limit: STRANGERS_CALLS_MAX },
            Full::Network => {
                let limit = STRANGERS_CALLS_PER_NETWORK_MAX;
                ServiceError::TooMany { what: "calls from your address to sign in", limit }
            }
        })
    }
}

/// What holds for the calls of one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    /// How long the response may take; `None` for a method that receives a long stream, which has an idle bound of
    /// its own in place of this.
    response_max: Option<Duration>,
    /// Longest request, where that is less than its service's longest message.
    request_bytes_max: Option<usize>,
    /// Whether the answer is a list of all videos.
    is_list: bool,
}

impl Rule {
    fn of(path: &str) -> Self {
        let usual = Self { response_max: Some(CALL_MAX), request_bytes_max: None, is_list: false };
        match path {
            "/braidcast.v1.Publishing/Upload" | "/braidcast.v1.Origin/PushPack" => Self { response_max: None, ..usual },
            "/braidcast.v1.Publishing/BeginPublish" => {
                Self { request_bytes_max: Some(BEGIN_PUBLISH_BYTES_MAX), ..usual }
            }
            "/braidcast.v1.Catalogue/ListVideos" => Self { is_list: true, ..usual },
            _ => usual,
        }
    }
}

/// A call's place among those under way.
struct Place {
    share: Held,
    _list: Option<Share<UserId>>,
    _under_way: UnderWay,
}

/// What a call holds of the bounds on its kind.
enum Held {
    User { _share: Share<UserId> },
    Server { _share: Share<String> },
    Stranger { _seat: Seat<Arriving> },
}

impl Place {
    /// What the call keeps until its answer was taken. A stranger's answer is below 1 KiB, and a stranger may take it
    /// as slowly as it likes: it must not keep others out meanwhile.
    fn once_answered(self) -> Option<Self> {
        match self.share {
            Held::User { .. } | Held::Server { .. } => Some(self),
            Held::Stranger { .. } => None,
        }
    }
}

/// How far the request of a call has come.
#[derive(Default)]
struct Arriving {
    arrived: AtomicBool,
    moved: Notify,
}

impl Occupant for Arriving {
    fn claim(&self) -> Claim {
        if self.arrived.load(Ordering::Relaxed) { Claim::Held } else { Claim::None }
    }

    fn leave(&self) {
        // Kept for a task that is not waiting yet.
        self.moved.notify_one();
    }
}

/// A service whose calls are bounded. The gate stands in front of it and has noted who calls.
#[derive(Clone)]
pub(crate) struct Bounded<S> {
    pub(crate) inner: S,
    pub(crate) calls: Arc<Calls>,
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S, B> Service<http::Request<Body>> for Bounded<S>
where
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<StdError>,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let rule = Rule::of(request.uri().path());
        let arriving = Arc::new(Arriving::default());
        let place = match self.calls.admit(rule, request.extensions(), &arriving) {
            Ok(place) => place,
            Err(refused) => return Box::pin(async move { Ok(tonic::Status::from(refused).into_http()) }),
        };
        let bytes_max = rule.request_bytes_max;
        // Such a call has a caller: the gate stands in front.
        let user = request.extensions().get::<Caller>().filter(|_| bytes_max.is_some()).map(|caller| caller.user);
        let turns = user.map(|user| (Arc::clone(&self.calls.descriptions), user));
        let bytes_left = bytes_max.unwrap_or(usize::MAX);
        let watch = Arc::clone(&arriving);
        let request = request.map(|body| Body::new(ArrivingBody { body, arriving: watch, bytes_left }));
        // The one that is ready goes, and its clone stays.
        let ready = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, ready);
        let answering = async move {
            // Nothing of the request is read before.
            let _turn = match turns {
                Some((turns, user)) => Some(turns.acquire(user).await),
                None => None,
            };
            inner.call(request).await
        };
        Box::pin(async move {
            let refused = tokio::select! {
                answered = answering => {
                    let Ok(response) = answered;
                    let place = place.once_answered();
                    return Ok(response.map(|body| Body::new(Answer::new(body, place))));
                }
                () = arriving.moved.notified() => ServiceError::TooSlow,
                () = after(rule.response_max) => ServiceError::CallTooLong(CALL_MAX),
            };
            Ok(tonic::Status::from(refused).into_http())
        })
    }
}

async fn after(time: Option<Duration>) {
    match time {
        Some(time) => tokio::time::sleep(time).await,
        None => std::future::pending().await,
    }
}

/// The body of a request, which notes that it has arrived.
struct ArrivingBody {
    body: Body,
    arriving: Arc<Arriving>,
    bytes_left: usize,
}

impl HttpBody for ArrivingBody {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, tonic::Status>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if frame.is_none() || this.body.is_end_stream() {
            this.arriving.arrived.store(true, Ordering::Relaxed);
        }
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref()) {
            match this.bytes_left.checked_sub(data.len()) {
                Some(left) => this.bytes_left = left,
                None => return Poll::Ready(Some(Err(ServiceError::RequestTooLong.into()))),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_uploads_may_last_and_a_description_has_a_bound_of_its_own() {
        for path in ["/braidcast.v1.Publishing/Upload", "/braidcast.v1.Origin/PushPack"] {
            assert_eq!(Rule::of(path), Rule { response_max: None, request_bytes_max: None, is_list: false });
        }
        let begin = Rule::of("/braidcast.v1.Publishing/BeginPublish");
        assert_eq!(begin.request_bytes_max, Some(BEGIN_PUBLISH_BYTES_MAX));
        for path in ["/braidcast.v1.Auth/IssueToken", "/braidcast.v1.Cluster/Heartbeat", "/"] {
            assert_eq!(Rule::of(path).response_max, Some(CALL_MAX));
            assert_eq!(Rule::of(path).request_bytes_max, None);
        }
    }
}
