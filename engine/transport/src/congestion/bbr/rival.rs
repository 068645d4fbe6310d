//! The window beside a flow that keeps the queue full: the law of CUBIC (RFC 9438), which such flows follow mostly, so
//! that each gets its share.

use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;

use super::phase::Phase;
use super::{Bbr, RTT_ASSUMED};
use crate::congestion::Answer;

const PACKET: f64 = PACKET_BYTES as f64;
/// RFC 9438, section 4.1.2: C, in packets per second cubed.
const C: f64 = 0.4;
/// RFC 9438, section 4.6: what is left after a loss.
const BETA: f64 = 0.7;

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rival {
    /// Window in packets.
    window: f64,
    /// That of the last loss.
    window_max: f64,
    /// Since when it grows.
    since: Instant,
    /// When it was cut.
    cut_at: Instant,
}

impl Rival {
    /// Begins with a window of `bytes`, to which a loss has just cut it, and leaves room (RFC 9438, section 4.7).
    pub(super) fn new(now: Instant, bytes: f64) -> Self {
        let window = bytes / PACKET;
        Self { window, window_max: window / BETA * (1.0 + BETA) / 2.0, since: now, cut_at: now }
    }

    pub(super) fn window_bytes(&self) -> f64 {
        self.window * PACKET
    }

    /// A round went well. `share`: the part of a flow that this source is; its curve is that part of the flow's (RFC
    /// 9438, figure 1, with all windows multiplied).
    pub(super) fn grow(&mut self, now: Instant, rtt: Duration, share: f64) {
        let c = C * share;
        let k = (self.window_max * (1.0 - BETA) / c).cbrt();
        let t = now.saturating_duration_since(self.since).as_secs_f64() + rtt.as_secs_f64();
        let target = c * (t - k).powi(3) + self.window_max;
        // RFC 9438, section 4.4: at most half as much again in a round trip; section 4.3: never slower than Reno would.
        let reno = self.window + share * 3.0 * (1.0 - BETA) / (1.0 + BETA);
        self.window = target.clamp(reno, (self.window * 1.5).max(reno));
    }

    /// A round was congested. Once in a round trip counts.
    pub(super) fn cut(&mut self, now: Instant, rtt: Duration, least_bytes: f64) {
        if now.saturating_duration_since(self.cut_at) < rtt {
            return;
        }
        // RFC 9438, section 4.7: who has less than at the last loss leaves room.
        self.window_max = if self.window < self.window_max { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(least_bytes / PACKET);
        self.since = now;
        self.cut_at = now;
    }
}

/// Rounds in a row with a queue that is not this source's, after which there is a rival.
const CONTENDED_ROUNDS: u32 = 2;
/// Rounds in a row without a queue, after which there is no rival any more.
const QUIET_ROUNDS: u32 = 40;
/// Rate that is not given up to rivals, in parts of the highest of the last minutes.
const RIVAL_FLOOR: f64 = 1.0 / 3.0;
/// Cycles after which a flow counts as settled.
const CYCLES_SETTLED: u64 = 4;

impl Bbr {
    /// Somebody else keeps the queue full if it is not empty a round after this source has emptied its part.
    pub(super) fn look_for_rivals(&mut self, answer: &Answer, has_risen: bool) {
        if self.phase == Phase::Rival {
            self.quiet_rounds = if has_risen { 0 } else { self.quiet_rounds + 1 };
            if self.quiet_rounds >= QUIET_ROUNDS {
                self.rival = None;
                self.enter(answer.now, Phase::Cruise);
                return;
            }
            // There are no cycles of probing: what is delivered is remembered for as long as they would last.
            if self.cycle_is_over(answer.now) {
                self.rate.advance();
                self.cycle_at = Some(answer.now);
                self.cycle_round = self.rounds.count;
            }
            return;
        }
        if self.phase != Phase::Cruise || self.rounds_in_phase() < 2 {
            return;
        }
        self.contended_rounds = if has_risen { self.contended_rounds + 1 } else { 0 };
        if self.contended_rounds >= CONTENDED_ROUNDS {
            self.contended_rounds = 0;
            self.quiet_rounds = 0;
            let window = (answer.in_flight_bytes as f64).max(self.path_bytes());
            // Who had the path for himself until now halves what he has; who has just come has not got his share yet.
            let part = if self.cycles >= CYCLES_SETTLED { 0.5 } else { 1.0 };
            self.rival = Some(Rival::new(answer.now, (part * window).max(self.least_beside_rivals())));
            self.lowered = None;
            self.window_hi = None;
            self.enter(answer.now, Phase::Rival);
        }
    }

    /// The window that is kept whatever the rival does, or one that heeds no loss would take everything.
    pub(super) fn least_beside_rivals(&self) -> f64 {
        let rtt = self.min_rtt.get().unwrap_or(RTT_ASSUMED).as_secs_f64();
        2.0 * RIVAL_FLOOR * self.best.get() * rtt
    }
}
