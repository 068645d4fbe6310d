//! Waking and stopping a shard from other threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

#[derive(Debug, Default)]
struct Shared {
    woken: AtomicBool,
    stopped: AtomicBool,
    notify: Notify,
}

/// Wakes or stops one shard; cheap to clone, and usable from any thread.
#[derive(Debug, Clone)]
pub struct Waker(Arc<Shared>);

/// The shard's end of a [`Waker`].
#[derive(Debug)]
pub struct WakeReceiver(Arc<Shared>);

/// A waker and the receiver for [`crate::run`].
pub fn waker() -> (Waker, WakeReceiver) {
    let shared = Arc::new(Shared::default());
    (Waker(Arc::clone(&shared)), WakeReceiver(shared))
}

impl Waker {
    /// Has [`crate::Service::handle_wake`] called soon. Put the work where the service will look *before* this call.
    /// Several wakes before the shard runs are one.
    pub fn wake(&self) {
        // Only the first wake pays for the system call; the flag's order carries the work along for the others.
        if !self.0.woken.swap(true, Ordering::AcqRel) {
            self.0.notify.notify_one();
        }
    }

    /// Ends [`crate::run`]: nothing more is taken in, and what stands in the outbox is sent, for
    /// [`crate::limits::DRAIN_MAX`] at most.
    pub fn stop(&self) {
        self.0.stopped.store(true, Ordering::Release);
        self.0.notify.notify_one();
    }
}

impl WakeReceiver {
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn is_woken(&self) -> bool {
        self.0.woken.load(Ordering::Acquire)
    }

    /// Whether a wake has come since the last call.
    pub(crate) fn take(&self) -> bool {
        self.is_woken() && self.0.woken.swap(false, Ordering::AcqRel)
    }

    /// Completes at the next wake or stop, also at one that came before the call.
    pub(crate) fn notified(&self) -> Notified<'_> {
        self.0.notify.notified()
    }
}
