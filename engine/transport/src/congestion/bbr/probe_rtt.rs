//! Measuring the round trip of the empty path (the draft, section 4.3.4).

use std::time::{Duration, Instant};

use super::phase::Phase;
use super::{Bbr, RISEN};
use crate::congestion::{Answer, Congestion};

/// How long the path is kept empty (the draft, section 2.14.2: ProbeRTTDuration).
const PROBE_RTT_FOR: Duration = Duration::from_millis(200);
/// Probes of the round trip in a row that find it risen, after which it is taken for the path's own: half a minute.
const FAILED_PROBES_MAX: usize = 6;

/// What a probe has found.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Queue {
    Empty,
    /// Others kept it filled.
    Contended,
    /// It was never seen empty in so many probes that it is taken for a part of the path.
    Standing,
}

impl Bbr {
    /// The draft, section 4.3.4.
    pub(super) fn step_probe_rtt(&mut self, answer: &Answer) {
        let now = answer.now;
        if let Some((since, round)) = self.emptied_at {
            if let Some(rtt) = answer.rtt {
                self.empty_rtt = Some(self.empty_rtt.map_or(rtt, |least| least.min(rtt)));
            }
            if now.saturating_duration_since(since) < PROBE_RTT_FOR || self.rounds.count <= round {
                return;
            }
            let queue = self.judge_empty_rtt(now);
            self.lowered = None;
            // Of a rival in a short queue the round trip tells nothing, not even that it has gone.
            if queue != Queue::Contended && !self.rivals.shallow.is_met() {
                self.rivals.leave(now, queue == Queue::Empty);
            }
            self.enter(now, if self.rivals.window().is_some() { Phase::Rival } else { Phase::Cruise });
        } else if answer.in_flight_bytes <= self.window_bytes() {
            self.emptied_at = Some((now, self.rounds.count));
        }
    }

    /// Whether the queue is not empty though all sources of this client have emptied their parts. A path that shows that
    /// again and again has become longer.
    fn judge_empty_rtt(&mut self, now: Instant) -> Queue {
        let (Some(rtt), Some(least)) = (self.empty_rtt, self.min_rtt.get()) else {
            self.min_rtt.excuse(now);
            return Queue::Empty;
        };
        if rtt <= least.mul_f64(RISEN) {
            self.failed_probes.clear();
            let queue = if self.min_rtt.is_least(rtt) { Queue::Empty } else { Queue::Standing };
            self.min_rtt.replace(now, rtt);
            return queue;
        }
        self.failed_probes.push(rtt);
        if self.failed_probes.len() < FAILED_PROBES_MAX {
            self.min_rtt.excuse(now);
            return Queue::Contended;
        }
        let least = self.failed_probes.drain(..).min().unwrap_or(rtt);
        self.min_rtt.replace(now, least);
        Queue::Standing
    }
}
