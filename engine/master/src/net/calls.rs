//! Every call has an end: bounds on calls under way, and a time-out for each.
//!
//! Calls of strangers (signing in, joining) have seats of their own. One whose request has not arrived in full may be
//! made to leave for another: an honest request arrives at once, and a half-sent one holds memory. A stranger's seat
//! is free once its call is answered.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::codegen::{Body as HttpBody, BoxFuture, Bytes, Service, StdError, http};
use tonic::server::NamedService;

use crate::errors::ServiceError;
use crate::limits::{CALL_MAX, CALLS_MAX, STRANGERS_CALLS_MAX, STRANGERS_CALLS_PER_NETWORK_MAX};
use crate::net::answer::Answer;
use crate::net::peer;
use crate::net::seats::{Bounds, Full, Occupant, Seat, Seats};

/// The calls that are under way, of all services together.
pub(crate) struct Calls {
    known: Arc<Semaphore>,
    strangers: Arc<Seats<Arriving>>,
}

impl Calls {
    pub(crate) fn new() -> Arc<Self> {
        let strangers = Bounds {
            all: STRANGERS_CALLS_MAX,
            per_network: STRANGERS_CALLS_PER_NETWORK_MAX,
            movable: STRANGERS_CALLS_MAX,
        };
        Arc::new(Self { known: Arc::new(Semaphore::new(CALLS_MAX)), strangers: Seats::new(strangers) })
    }

    fn admit(&self, rule: Rule, extensions: &http::Extensions) -> Result<(Place, Arc<Arriving>), ServiceError> {
        let arriving = Arc::new(Arriving::default());
        let place = match rule.callers {
            Callers::Anybody => {
                let full = |full| match full {
                    Full::All => ServiceError::TooMany { what: "calls to sign in", limit: STRANGERS_CALLS_MAX },
                    Full::Network => {
                        let limit = STRANGERS_CALLS_PER_NETWORK_MAX;
                        ServiceError::TooMany { what: "calls from your address to sign in", limit }
                    }
                };
                let taken = self.strangers.take(peer(extensions).network, Arc::clone(&arriving));
                Place::Stranger { _seat: taken.map_err(full)?.0 }
            }
            Callers::Known => {
                let full = |_| ServiceError::TooMany { what: "calls", limit: CALLS_MAX };
                Place::Known { _permit: Arc::clone(&self.known).try_acquire_owned().map_err(full)? }
            }
        };
        Ok((place, arriving))
    }
}

/// What holds for the calls of one method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rule {
    callers: Callers,
    /// How long the response may take; `None` for a method that receives a long stream, which has an idle bound of
    /// its own in place of this.
    response_max: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Callers {
    Anybody,
    Known,
}

impl Rule {
    fn of(path: &str) -> Self {
        let callers = match path {
            "/braidcast.v1.Auth/IssueToken" | "/braidcast.v1.Cluster/Join" => Callers::Anybody,
            _ => Callers::Known,
        };
        let response_max = match path {
            "/braidcast.v1.Publishing/Upload" | "/braidcast.v1.Origin/PushPack" => None,
            _ => Some(CALL_MAX),
        };
        Self { callers, response_max }
    }
}

/// A call's place among those under way.
enum Place {
    Known { _permit: OwnedSemaphorePermit },
    Stranger { _seat: Seat<Arriving> },
}

impl Place {
    /// What the call keeps until its answer was taken. A stranger's answer is below 1 KiB, and a stranger may take it
    /// as slowly as it likes: it must not keep others out meanwhile.
    fn once_answered(self) -> Option<Self> {
        match self {
            Self::Known { .. } => Some(self),
            Self::Stranger { .. } => None,
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
    fn is_movable(&self) -> bool {
        !self.arrived.load(Ordering::Relaxed)
    }

    fn leave(&self) {
        // Kept for a task that is not waiting yet.
        self.moved.notify_one();
    }
}

/// A service whose calls are bounded.
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
    S: Service<http::Request<Body>, Response = http::Response<B>, Error = Infallible>,
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
        let (place, arriving) = match self.calls.admit(rule, request.extensions()) {
            Ok(admitted) => admitted,
            Err(refused) => return Box::pin(async move { Ok(tonic::Status::from(refused).into_http()) }),
        };
        let watch = Arc::clone(&arriving);
        let answering = self.inner.call(request.map(|body| Body::new(ArrivingBody { body, arriving: watch })));
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
    fn only_signing_in_and_joining_are_for_anybody_and_only_uploads_may_last() {
        let rule = |path| Rule::of(path);
        assert_eq!(
            rule("/braidcast.v1.Auth/IssueToken"),
            Rule { callers: Callers::Anybody, response_max: Some(CALL_MAX) }
        );
        assert_eq!(
            rule("/braidcast.v1.Cluster/Join"),
            Rule { callers: Callers::Anybody, response_max: Some(CALL_MAX) }
        );
        assert_eq!(
            rule("/braidcast.v1.Cluster/Heartbeat"),
            Rule { callers: Callers::Known, response_max: Some(CALL_MAX) }
        );
        assert_eq!(rule("/braidcast.v1.Publishing/Upload"), Rule { callers: Callers::Known, response_max: None });
        assert_eq!(rule("/braidcast.v1.Origin/PushPack"), Rule { callers: Callers::Known, response_max: None });
        assert_eq!(rule("/"), Rule { callers: Callers::Known, response_max: Some(CALL_MAX) });
    }
}
