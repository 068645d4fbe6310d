//! Beside a flow that keeps the queue full the window follows the law of CUBIC (RFC 9438), as such flows mostly do, so that
//! each gets its share.
//!
//! Not all heed losses, as BBR does not: who gives way to such a one at each loss gives up all but everything. One that
//! makes the queue overflow again and again, long before CUBIC would have filled it, is met by the model instead, which
//! for a while takes no loss for congestion either.

use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;

use super::Bbr;
use super::phase::Phase;
use super::shallow::Shallow;
use crate::congestion::Answer;

const PACKET: f64 = PACKET_BYTES as f64;
/// RFC 9438, section 4.1.2: C, in packets per second cubed.
const C: f64 = 0.4;
/// RFC 9438, section 4.6: what is left after a loss.
const BETA: f64 = 0.7;
/// RFC 9438, section 4.3: packets by which Reno's window, with that factor, would grow in a round trip.
const RENO: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// The window beside a rival.
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
    fn new(now: Instant, bytes: f64) -> Self {
        let window = bytes / PACKET;
        Self { window, window_max: window / BETA * (1.0 + BETA) / 2.0, since: now, cut_at: now }
    }

    pub(super) fn bytes(&self) -> f64 {
        self.window * PACKET
    }

    /// A round went well. `share`: the part of a flow that this source is; its curve is that part of the flow's (RFC
    /// 9438, figure 1, with all windows multiplied).
    fn grow(&mut self, now: Instant, rtt: Duration, share: f64) {
        let t = now.saturating_duration_since(self.since).as_secs_f64() + rtt.as_secs_f64();
        let target = C * share * (t - self.recovery_s(share)).powi(3) + self.window_max;
        // RFC 9438, section 4.4: at most half as much again in a round trip; section 4.3: never slower than Reno would.
        let reno = self.window + share * RENO;
        self.window = target.clamp(reno, (self.window * 1.5).max(reno));
    }

    /// A round was congested. What becomes known within two round trips of a cut was asked for before it, and does not
    /// count. Says how long after the last time, and whether the window was still far from where it was then: `share` is as in
    /// [`Rival::grow`].
    fn cut(&mut self, now: Instant, rtt: Duration, share: f64, least_bytes: f64) -> Option<(Duration, bool)> {
        let since_cut = now.saturating_duration_since(self.cut_at);
        if since_cut < 2 * rtt {
            return None;
        }
        let is_hasty = since_cut.as_secs_f64() < HASTY * self.regained_s(rtt, share);
        // RFC 9438, section 4.7: who has less than at the last loss leaves room.
        self.window_max = if self.window < self.window_max { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        // The floor counts what others have queued, too, and must not make a cut of it that adds.
        self.window = (self.window * BETA).max((least_bytes / PACKET).min(self.window));
        self.since = now;
        self.cut_at = now;
        Some((since_cut, is_hasty))
    }

    /// RFC 9438, section 4.2, figure 2: seconds from a cut until the window is what it was.
    fn recovery_s(&self, share: f64) -> f64 {
        (self.window_max * (1.0 - BETA) / (C * share)).cbrt()
    }

    /// The same by the faster of that curve and Reno's.
    pub(super) fn regained_s(&self, rtt: Duration, share: f64) -> f64 {
        let reno_s = self.window_max * (1.0 - BETA) / (share * RENO) * rtt.as_secs_f64();
        self.recovery_s(share).min(reno_s)
    }

    /// Whether it has not been cut for so many times of recovery.
    pub(super) fn is_uncut_for(&self, now: Instant, recoveries: f64, share: f64) -> bool {
        now.saturating_duration_since(self.cut_at).as_secs_f64() > recoveries * self.recovery_s(share)
    }
}

/// What is known of others on the path.
#[derive(Debug, Default)]
pub(super) struct Rivals {
    /// Rounds in a row in which the queue was not empty though this source had emptied its part.
    contended_rounds: u32,
    /// Rounds in a row without a queue, beside a rival.
    quiet_rounds: u32,
    /// Of these, rounds with the least round trip there is.
    empty_rounds: u32,
    window: Option<Rival>,
    /// When there was none any more, and whether the queue was seen empty then.
    left: Option<(Instant, bool)>,
    /// Cuts in a row that came too soon after one another.
    hasty_cuts: u32,
    /// The rival heeds no losses; believed until then.
    heedless_until: Option<Instant>,
    /// Rivals of which the round trip does not tell.
    pub(super) shallow: Shallow,
}

/// Rounds in a row with a queue that is not this source's, after which there is a rival. Others of this kind drain what
/// they add in about as many.
const CONTENDED_ROUNDS: u32 = 6;
/// Rounds in a row without a queue, after which there is no rival any more.
const QUIET_ROUNDS: u32 = 40;
/// Rounds after which the rate of before is forgotten beside a rival, whose share changes faster than a path does.
const RATE_ROUNDS: u64 = 8;
/// Rate that is not given up to rivals, in parts of the highest of the last minutes.
const RIVAL_FLOOR: f64 = 1.0 / 3.0;
/// Cycles after which a flow counts as settled.
const CYCLES_SETTLED: u64 = 4;
/// A rival that is met again within this time is the same one, and was given half already.
const SAME_RIVAL_FOR: Duration = Duration::from_secs(10);
/// Part of the time of recovery before which a cut is too soon to be explained by flows that heed losses.
const HASTY: f64 = 0.5;
/// So many such cuts in a row tell a rival that heeds none.
const HASTY_CUTS: u32 = 4;
/// How long that is believed.
const HEEDLESS_FOR: Duration = Duration::from_secs(20);

impl Rivals {
    /// The window beside the rival that is there, if one is.
    pub(super) fn window(&self) -> Option<&Rival> {
        self.window.as_ref()
    }

    /// There is a queue that should not be there; whose it is, is not known yet.
    pub(super) fn is_contended(&self) -> bool {
        self.contended_rounds > 0
    }

    /// Whether losses come from a rival that heeds none itself.
    pub(super) fn are_heedless(&self, now: Instant) -> bool {
        self.heedless_until.is_some_and(|until| now < until)
    }

    /// There is no rival any more. `was_empty`: the queue has just been seen empty.
    pub(super) fn leave(&mut self, now: Instant, was_empty: bool) {
        if self.window.take().is_some() {
            self.left = Some((now, was_empty));
        }
        self.contended_rounds = 0;
        self.shallow.forget();
    }

    /// Nothing is known of any, but for what losses tell.
    pub(super) fn reset(&mut self) {
        *self = Self { shallow: std::mem::take(&mut self.shallow), ..Self::default() };
    }
}

impl Bbr {
    /// Somebody else keeps the queue full if it is not empty some rounds after this source has emptied its part.
    pub(super) fn look_for_rivals(&mut self, answer: &Answer, rtt: Option<Duration>, has_risen: bool) {
        let rivals = &mut self.rivals;
        if self.phase == Phase::Rival {
            let is_empty = rtt.is_some_and(|rtt| self.min_rtt.is_least(rtt));
            let counts = (rivals.quiet_rounds + 1, rivals.empty_rounds + u32::from(is_empty));
            (rivals.quiet_rounds, rivals.empty_rounds) = if has_risen { (0, 0) } else { counts };
            rivals.contended_rounds = if has_risen { rivals.contended_rounds + 1 } else { 0 };
            if rivals.contended_rounds >= CONTENDED_ROUNDS {
                rivals.shallow.forget();
            }
            let is_over = if rivals.shallow.is_met() {
                self.is_unheard_of(answer.now)
            } else {
                rivals.quiet_rounds >= QUIET_ROUNDS
            };
            if is_over {
                let was_empty = 2 * self.rivals.empty_rounds >= self.rivals.quiet_rounds;
                self.rivals.leave(answer.now, was_empty);
                return self.enter(answer.now, Phase::Cruise);
            }
            if self.rounds.count - self.cycle_round >= RATE_ROUNDS {
                self.rate.advance();
                self.cycle_at = Some(answer.now);
                self.cycle_round = self.rounds.count;
            }
            return;
        }
        // In both, less than what the path delivers is asked for as long as there is a queue.
        let may_tell = matches!(self.phase, Phase::Down | Phase::Cruise) && self.rounds_in_phase() >= 2;
        if !may_tell || self.rivals.are_heedless(answer.now) {
            return;
        }
        let rivals = &mut self.rivals;
        rivals.contended_rounds = if has_risen { rivals.contended_rounds + 1 } else { 0 };
        if rivals.contended_rounds >= CONTENDED_ROUNDS {
            self.begin_rivalry(answer.now, answer.in_flight_bytes);
        }
    }

    pub(super) fn begin_rivalry(&mut self, now: Instant, in_flight_bytes: u64) {
        let before = self.rivals.left.filter(|(at, _)| now.saturating_duration_since(*at) < SAME_RIVAL_FOR);
        let part = match before {
            // Who had the path for himself until now halves what he has; who has just come has not got his share yet.
            None if self.cycles >= CYCLES_SETTLED => 0.5,
            None => 1.0,
            // Others of this kind let the queue run empty, and are met again and again without a loss: this takes its place.
            Some((_, true)) => BETA,
            Some((_, false)) => 1.0,
        };
        let window = part * (in_flight_bytes as f64).max(self.path_bytes());
        let rival = Rival::new(now, window.max(self.least_beside_rivals()));
        self.rivals.reset();
        self.rivals.window = Some(rival);
        self.lowered = None;
        self.window_hi = None;
        self.enter(now, Phase::Rival);
    }

    /// A round beside a rival went well.
    pub(super) fn grow_beside_rival(&mut self, now: Instant) {
        if let Some(window) = &mut self.rivals.window {
            window.grow(now, self.srtt, self.share);
        }
    }

    /// A round beside a rival was congested.
    pub(super) fn give_way(&mut self, now: Instant) {
        let least = self.least_beside_rivals();
        let Some(window) = &mut self.rivals.window else { return };
        let Some((since_cut, is_hasty)) = window.cut(now, self.srtt, self.share, least) else { return };
        if self.rivals.shallow.is_met() {
            return self.doubt_unseen_rival(now, since_cut);
        }
        self.rivals.hasty_cuts = if is_hasty { self.rivals.hasty_cuts + 1 } else { 0 };
        if self.rivals.hasty_cuts >= HASTY_CUTS {
            self.rivals.reset();
            self.rivals.heedless_until = Some(now + HEEDLESS_FOR);
            self.enter(now, Phase::Cruise);
        }
    }

    /// The window that is kept whatever the rival does. It is that of a rate: a window of bytes would be a third of a path
    /// whose queue is full, and most of one whose queue is empty.
    fn least_beside_rivals(&self) -> f64 {
        RIVAL_FLOOR * self.best.get() * self.srtt.as_secs_f64()
    }
}
