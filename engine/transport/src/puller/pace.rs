//! When the next PULL may be sent, and how much it asks for.

use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;

use crate::limits::{CHUNKS_PER_PULL_MAX, TRAIN_CHUNKS_MIN};

/// Spreads PULLs over time, so that what they ask for arrives at a given rate.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When the next PULL is due.
    next_at: Option<Instant>,
    /// Somebody wanted to ask before then.
    awaited: bool,
}

/// What may be caught up with when the driver's timer was late. At more than 500 Mbit/s several full PULLs leave in that
/// time, and it is the window that holds them back.
const CATCH_UP: Duration = Duration::from_millis(2);
/// What one PULL asks for, in time at the rate: at least so much, so that PULLs and ENDs cost little...
const SPAN_MIN: Duration = Duration::from_millis(4);
/// ... and this part of a round trip, so that a lost PULL does, too.
const SPAN_PART: u32 = 8;

/// Chunks that one PULL asks for at `bytes_s`.
pub(super) fn quantum_chunks(bytes_s: Option<f64>, rtt: Option<Duration>) -> u32 {
    let Some(bytes_s) = bytes_s else { return CHUNKS_PER_PULL_MAX.into() };
    let span = rtt.map_or(SPAN_MIN, |rtt| (rtt / SPAN_PART).max(SPAN_MIN));
    let chunks = (bytes_s * span.as_secs_f64() / PACKET_BYTES as f64) as u32;
    chunks.clamp(TRAIN_CHUNKS_MIN.into(), CHUNKS_PER_PULL_MAX.into())
}

impl Pace {
    /// Whether a PULL may be sent now. If not, [`Pace::deadline`] tells from here on when it may.
    pub(super) fn permits(&mut self, now: Instant) -> bool {
        self.awaited = self.next_at.is_some_and(|at| at > now);
        !self.awaited
    }

    /// `bytes` were asked for at the rate `bytes_s`.
    pub(super) fn spend(&mut self, now: Instant, bytes: u64, bytes_s: Option<f64>) {
        let Some(bytes_s) = bytes_s else {
            self.next_at = None;
            return;
        };
        let earliest = now.checked_sub(CATCH_UP).unwrap_or(now);
        let from = self.next_at.map_or(now, |at| at.max(earliest));
        self.next_at = Some(from + Duration::from_secs_f64((bytes as f64 / bytes_s.max(1.0)).min(PAUSE_MAX_S)));
    }

    /// When to ask again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.next_at.filter(|_| self.awaited)
    }

    /// The deadline may have come.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.awaited &= self.next_at.is_some_and(|at| at > now);
    }
}

/// Longest pause between two PULLs: a rate may rise again meanwhile.
const PAUSE_MAX_S: f64 = 1.0;
