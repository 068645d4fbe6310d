//! The body of a response: it keeps its call's place until it was taken, and ends if its receiver takes nothing of it.
//!
//! HTTP/2 does not poll a body for which the receiver has opened no window. So the body stands in a slot that a task
//! beside it empties: what the body holds is free then, though nobody polls it.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::Frame;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use tonic::codegen::{Body, Bytes, StdError};

use crate::errors::ServiceError;
use crate::limits::{ANSWER_PIECE_BYTES, ANSWER_STALL_MAX};
use crate::sync::lock;

/// The body of a response, with what it holds until it was taken.
pub(crate) struct Answer<B, P> {
    slot: Arc<Slot<B, P>>,
    watch: Option<AbortHandle>,
}

type Slot<B, P> = Mutex<Option<Taking<B, P>>>;

/// A body while it is taken.
struct Taking<B, P> {
    body: Pin<Box<B>>,
    /// What is left of the frame that the body gave last.
    rest: Bytes,
    moved_at: Instant,
    /// The receiver has asked for more than the body has so far.
    is_asked: bool,
    _place: P,
}

impl<B, P> Answer<B, P>
where
    B: Body<Data = Bytes> + Send + 'static,
    P: Send + 'static,
{
    pub(crate) fn new(body: B, place: P) -> Self {
        Self::with(body, place, ANSWER_STALL_MAX)
    }

    fn with(body: B, place: P, stall_max: Duration) -> Self {
        let is_empty = body.is_end_stream();
        let (rest, moved_at) = (Bytes::new(), Instant::now());
        let taking = Taking { body: Box::pin(body), rest, moved_at, is_asked: false, _place: place };
        let slot = Arc::new(Mutex::new(Some(taking)));
        let watch = (!is_empty).then(|| tokio::spawn(watch(Arc::clone(&slot), stall_max)).abort_handle());
        Self { slot, watch }
    }
}

/// Empties the slot once its receiver has left the body for `stall_max`.
async fn watch<B, P>(slot: Arc<Slot<B, P>>, stall_max: Duration) {
    loop {
        let now = Instant::now();
        let end = match &*lock(&slot) {
            None => return,
            // A quiet stream of orders is not the receiver's fault.
            Some(taking) if taking.is_asked => now + stall_max,
            Some(taking) => taking.moved_at + stall_max,
        };
        if end <= now {
            let stalled = lock(&slot).take();
            return drop(stalled);
        }
        tokio::time::sleep_until(end).await;
    }
}

impl<B, P> Drop for Answer<B, P> {
    fn drop(&mut self) {
        if let Some(watch) = &self.watch {
            watch.abort();
        }
        // The task that watches is dropped a moment later; the body and its place are free at once.
        let taken = lock(&self.slot).take();
        drop(taken);
    }
}

impl<B, P> Taking<B, P>
where
    B: Body<Data = Bytes>,
    B::Error: Into<StdError>,
{
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        self.is_asked = true;
        if self.rest.is_empty() {
            match std::task::ready!(self.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return self.give(Some(Ok(trailers))),
                },
                Some(Err(error)) => return self.give(Some(Err(error.into()))),
                None => return self.give(None),
            }
        }
        // HTTP/2 takes a frame whole, and keeps what its receiver has no window for.
        let piece = self.rest.split_to(self.rest.len().min(ANSWER_PIECE_BYTES));
        self.give(Some(Ok(Frame::data(piece))))
    }

    fn give<T>(&mut self, given: T) -> Poll<T> {
        (self.moved_at, self.is_asked) = (Instant::now(), false);
        Poll::Ready(given)
    }
}

impl<B, P> Body for Answer<B, P>
where
    B: Body<Data = Bytes>,
    B::Error: Into<StdError>,
{
    type Data = Bytes;
    type Error = StdError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        match &mut *self.lock() {
            Some(taking) => taking.poll_frame(cx),
            // The error ends the stream: it is not polled again.
            None => Poll::Ready(Some(Err(ServiceError::AnswerStalled(ANSWER_STALL_MAX).into()))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.lock().as_ref().is_some_and(|taking| taking.rest.is_empty() && taking.body.is_end_stream())
    }
}

impl<B, P> Answer<B, P> {
    fn lock(&self) -> MutexGuard<'_, Option<Taking<B, P>>> {
        lock(&self.slot)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A body of one frame, or of none that ever comes.
    struct Given(Option<Bytes>);

    impl Body for Given {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }
    }

    fn poll(answer: &mut Answer<Given, Arc<()>>) -> Poll<Option<Result<Frame<Bytes>, StdError>>> {
        Pin::new(answer).poll_frame(&mut Context::from_waker(std::task::Waker::noop()))
    }

    #[tokio::test]
    async fn a_body_that_nobody_polls_for_want_of_a_window_is_dropped_with_its_place() {
        let place = Arc::new(());
        let long = Given(Some(Bytes::from(vec![7; 3 * ANSWER_PIECE_BYTES])));
        let mut answer = Answer::with(long, Arc::clone(&place), Duration::from_millis(20));
        let Poll::Ready(Some(Ok(frame))) = poll(&mut answer) else { panic!("no frame") };
        assert_eq!(frame.into_data().expect("data").len(), ANSWER_PIECE_BYTES, "HTTP/2 keeps no more than a piece");
        while Arc::strong_count(&place) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(matches!(poll(&mut answer), Poll::Ready(Some(Err(_)))));
    }

    #[tokio::test]
    async fn a_stream_that_has_nothing_to_give_is_not_its_receivers_fault() {
        let (place, left) = (Arc::new(()), Arc::new(()));
        let stall_max = Duration::from_millis(20);
        let mut quiet = Answer::with(Given(None), Arc::clone(&place), stall_max);
        assert!(poll(&mut quiet).is_pending());
        let _unpolled = Answer::with(Given(None), Arc::clone(&left), stall_max);
        while Arc::strong_count(&left) > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(Arc::strong_count(&place), 2);
        drop(quiet);
        while Arc::strong_count(&place) > 1 {
            tokio::task::yield_now().await;
        }
    }
}
