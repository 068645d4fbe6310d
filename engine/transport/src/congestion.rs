//! How much may be in flight to one source: the seam at which congestion control stands.

use std::time::{Duration, Instant};

/// Decides how many bytes a [`crate::puller::Puller`] may have asked for and not yet received or given up.
pub trait Congestion: Send {
    /// Bytes that may be in flight now.
    fn window_bytes(&self) -> u64;
    /// `bytes` of a PULL arrived; `rtt` is the sample that its END gave, less the time that the server held it.
    fn on_delivered(&mut self, now: Instant, bytes: u64, rtt: Option<Duration>);
    /// `bytes` that were asked for will not come.
    fn on_lost(&mut self, now: Instant, bytes: u64);
}

/// A window that does not move: what a network without congestion needs, and the plain rule that others are
/// measured against.
#[derive(Clone, Copy, Debug)]
pub struct FixedWindow {
    /// The window in bytes.
    pub bytes: u64,
}

impl Congestion for FixedWindow {
    fn window_bytes(&self) -> u64 {
        self.bytes
    }

    fn on_delivered(&mut self, _now: Instant, _bytes: u64, _rtt: Option<Duration>) {}

    fn on_lost(&mut self, _now: Instant, _bytes: u64) {}
}
