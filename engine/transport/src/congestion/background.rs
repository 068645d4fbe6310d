//! Gives way: keeps the queue that it adds short, and leaves the path to whoever fills it.
//!
//! rLEDBAT (RFC 9840) runs LEDBAT++ (draft-irtf-iccrg-ledbat-plus-plus-01) at the receiver, by the window that it offers.
//! Here the receiver asks for every byte anyway, so the window is what is in flight. What differs from LEDBAT++:
//! - The target is a quarter of the least round trip and at most 60 ms (section 4.2 has 60 ms): a queue of one round trip
//!   on a path of 50 ms never reaches 60, and who waits for that never gives way.
//! - The round trip in place of the one-way delay, as LEDBAT++ itself has it (section 4.1).

use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;

use super::filters::MinRtt;
use super::loss::{RandomLoss, Tally};
use super::{Answer, Congestion, Rounds};

const PACKET: f64 = PACKET_BYTES as f64;
/// Least window (LEDBAT++, section 4.3: two packets).
const WINDOW_MIN: f64 = 2.0 * PACKET;
/// Window at the start and after a slowdown's end (LEDBAT++, section 4.3).
const WINDOW_INITIAL: f64 = 10.0 * PACKET;
/// Most delay that is added to the path (RFC 9840, section 4.1).
const TARGET_MAX: Duration = Duration::from_millis(60);
/// Least, so that a short path's jitter is not taken for others' traffic.
const TARGET_MIN: Duration = Duration::from_millis(2);
/// How long a least round trip is believed (RFC 6817, section 4.2: ten minutes of history; a slowdown renews it).
const BASE_VALID_FOR: Duration = Duration::from_mins(10);
/// A slowdown takes a ninth of the time (LEDBAT++, section 4.4): the next begins nine times as long after it as it took.
const SLOWDOWN_SHARE: u32 = 9;
/// Round trips for which a slowdown keeps the path empty (LEDBAT++, section 4.4).
const SLOWDOWN_ROUNDS: u64 = 2;

/// See the module's description.
#[derive(Debug)]
pub struct Background {
    window: f64,
    slow_start_below: f64,
    rounds: Rounds,
    round: Tally,
    round_rtt: Option<Duration>,
    random_loss: RandomLoss,
    min_rtt: MinRtt,
    rate: f64,
    delivered_bytes: u64,
    slowdown: Slowdown,
}

/// Emptying the path now and then shows its round trip to all who give way on it (LEDBAT++, section 4.4).
#[derive(Clone, Copy, Debug)]
enum Slowdown {
    /// The first begins when slow start ends.
    Never,
    /// Begins then.
    At(Instant),
    /// Since when, the round in which it began, and the window to come back to.
    Since(Instant, u64, f64),
    /// Growing back to the window of before, since when.
    Recovering(Instant),
}

impl Background {
    /// A path of which nothing is known.
    #[expect(clippy::new_without_default, reason = "a congestion controller is chosen, never fallen back to")]
    pub fn new() -> Self {
        Self {
            window: WINDOW_INITIAL,
            slow_start_below: f64::INFINITY,
            rounds: Rounds::default(),
            round: Tally::default(),
            round_rtt: None,
            random_loss: RandomLoss::default(),
            min_rtt: MinRtt::new(BASE_VALID_FOR),
            rate: 0.0,
            delivered_bytes: 0,
            slowdown: Slowdown::Never,
        }
    }

    fn target(&self, least: Duration) -> Duration {
        (least / 4).clamp(TARGET_MIN, TARGET_MAX)
    }

    fn on_round(&mut self, now: Instant) {
        let round = std::mem::take(&mut self.round);
        let is_congested = self.random_loss.is_exceeded_by(round);
        self.random_loss.on_round(round);
        let (Some(least), Some(rtt)) = (self.min_rtt.get(), self.round_rtt.take()) else { return };
        let (target, delay) = (self.target(least), rtt.saturating_sub(least));
        if self.step_slowdown(now) {
            return;
        }
        if is_congested {
            self.window /= 2.0;
            self.slow_start_below = self.window;
        } else if self.window < self.slow_start_below {
            // LEDBAT++, section 4.3: slow start ends at three quarters of the target.
            if delay > target * 3 / 4 {
                self.slow_start_below = self.window;
                self.begin_slowdown_soon(now, least);
            } else {
                self.window *= 2.0;
            }
        } else {
            // Slow start may also have ended by a loss, or by a time-out.
            if matches!(self.slowdown, Slowdown::Never) {
                self.begin_slowdown_soon(now, least);
            }
            self.adjust(least, target, delay);
        }
        self.window = self.window.max(WINDOW_MIN);
    }

    /// LEDBAT++, section 4.2: grows by a part of a packet a round trip, shrinks by the excess over the target, at most
    /// by half.
    fn adjust(&mut self, least: Duration, target: Duration, delay: Duration) {
        let gain = 1.0 / (2.0 * target.as_secs_f64() / least.as_secs_f64().max(1e-6)).ceil().clamp(1.0, 16.0);
        if delay <= target {
            self.window += gain * PACKET;
        } else {
            let excess = delay.as_secs_f64() / target.as_secs_f64() - 1.0;
            self.window = (self.window + gain * PACKET - self.window * excess).max(self.window / 2.0);
        }
    }

    fn begin_slowdown_soon(&mut self, now: Instant, least: Duration) {
        self.slowdown = Slowdown::At(now + least * 2);
    }

    /// Whether a slowdown is under way.
    fn step_slowdown(&mut self, now: Instant) -> bool {
        match self.slowdown {
            Slowdown::At(at) if at <= now => {
                self.slowdown = Slowdown::Since(now, self.rounds.count, self.window);
                self.window = WINDOW_MIN;
                true
            }
            Slowdown::Since(since, round, before) if self.rounds.count >= round + SLOWDOWN_ROUNDS => {
                self.slow_start_below = before;
                self.slowdown = Slowdown::Recovering(since);
                false
            }
            Slowdown::Since(..) => true,
            Slowdown::Recovering(since) if self.window >= self.slow_start_below => {
                self.slowdown = Slowdown::At(now + now.saturating_duration_since(since) * SLOWDOWN_SHARE);
                false
            }
            _ => false,
        }
    }
}

impl Congestion for Background {
    fn window_bytes(&self) -> u64 {
        self.window as u64
    }

    /// Twice the window's own rate: spread out, and never what holds the window back.
    fn pacing_rate(&self) -> Option<f64> {
        let least = self.min_rtt.get()?.as_secs_f64().max(1e-4);
        Some(2.0 * self.window / least)
    }

    fn bandwidth(&self) -> Option<f64> {
        (self.rate > 0.0).then_some(self.rate)
    }

    fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt.get()
    }

    fn on_rtt(&mut self, now: Instant, rtt: Duration) {
        self.min_rtt.update(now, rtt);
    }

    fn on_pull(&mut self, _now: Instant, _in_flight_bytes: u64) {}

    fn on_answered(&mut self, answer: &Answer) {
        if let Some(rtt) = answer.rtt {
            self.min_rtt.update(answer.now, rtt);
            self.round_rtt = Some(self.round_rtt.map_or(rtt, |least| least.min(rtt)));
        }
        self.round.delivered_bytes += answer.delivered_bytes.saturating_sub(self.delivered_bytes);
        self.delivered_bytes = answer.delivered_bytes;
        if let Some(rate) = answer.rate() {
            self.rate = rate;
        }
        if self.rounds.on_answered(answer) {
            self.on_round(answer.now);
        }
    }

    fn on_lost(&mut self, _now: Instant, bytes: u64) {
        self.round.lost_bytes += bytes;
    }

    fn on_timeout(&mut self) {
        // RFC 5681, section 3.1: half of what was too much is where growing becomes careful; it begins anew.
        self.slow_start_below = self.slow_start_below.min((self.window / 2.0).max(WINDOW_MIN));
        self.window = WINDOW_MIN;
    }

    fn on_spurious_loss(&mut self, bytes: u64) {
        self.round.lost_bytes = self.round.lost_bytes.saturating_sub(bytes);
    }

    fn set_share(&mut self, _share: f64) {}

    fn is_starting(&self) -> bool {
        self.slow_start_below == f64::INFINITY
    }

    fn wants_to_probe_rtt(&self, _now: Instant) -> bool {
        false
    }

    fn probe_rtt(&mut self, _now: Instant) {}

    fn phase(&self) -> &'static str {
        match self.slowdown {
            Slowdown::Since(..) => "slowdown",
            _ if self.window < self.slow_start_below => "slow-start",
            _ => "background",
        }
    }
}
