//! A window that does not move.

use std::time::{Duration, Instant};

use super::{Answer, Congestion};

/// What a network without congestion needs, and the plain rule that others are measured against.
#[derive(Clone, Copy, Debug)]
pub struct FixedWindow {
    /// The window in bytes.
    pub bytes: u64,
}

impl Congestion for FixedWindow {
    fn window_bytes(&self) -> u64 {
        self.bytes
    }

    fn pacing_rate(&self) -> Option<f64> {
        None
    }

    fn bandwidth(&self) -> Option<f64> {
        None
    }

    fn min_rtt(&self) -> Option<Duration> {
        None
    }

    fn on_rtt(&mut self, _now: Instant, _rtt: Duration) {}

    fn on_pull(&mut self, _now: Instant, _in_flight_bytes: u64) {}

    fn on_answered(&mut self, _answer: &Answer) {}

    fn on_lost(&mut self, _now: Instant, _bytes: u64) {}

    fn on_timeout(&mut self) {}

    fn on_spurious_loss(&mut self, _bytes: u64) {}

    fn set_share(&mut self, _share: f64) {}

    fn is_starting(&self) -> bool {
        false
    }

    fn wants_to_probe_rtt(&self, _now: Instant) -> bool {
        false
    }

    fn probe_rtt(&mut self, _now: Instant) {}

    fn phase(&self) -> &'static str {
        "fixed"
    }
}
