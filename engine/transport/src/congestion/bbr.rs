//! A model of the path, kept by the receiver: the rate that it delivers, its round trip when it is empty, and what it
//! loses whatever the rate.
//!
//! After draft-cardwell-iccrg-bbr-congestion-control-02 ("the draft" below; sections are named where they are obeyed),
//! which was written for senders. What differs, and why:
//! - **Random loss is not congestion.** The draft takes 2% for a full queue (section 4.5.6). Here a round counts as
//!   congested only if it lost more than the path's own share ([`super::loss`]) *and* its least round trip has risen: a
//!   queue that drops packets is a queue that was waited in. (Queues too short for that: [`shallow`].) What the path loses
//!   by itself is asked for on top, up to a fifth, or else a path that loses a tenth would be filled to nine tenths, then
//!   to nine tenths of that.
//! - **Cycles of about a second** in place of two to three (section 4.3.3.5): a client spreads work over sources by these
//!   rates, and a source whose link recovers is to be found out before the film's window has run empty.
//! - **The round trip is probed only if the path was not seen empty for five seconds** (section 4.3.4 does so every five
//!   seconds unless a sample is no longer than the least; here one that is 1/16 longer counts as well), and by all
//!   sources of a client together: see [`super::Congestion::wants_to_probe_rtt`].
//! - **No estimate of aggregation** (section 4.5.5): chunks are counted where they arrive, so no acknowledgement is ever
//!   held back. A window holds three PULLs beyond the model's, as the draft's offload budget (section 4.5.4).

mod cycle;
mod phase;
mod probe_rtt;
mod rival;
mod shallow;
mod startup;

use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;

use super::filters::{MaxRate, MinRtt};
use super::loss::{RandomLoss, Tally};
use super::{Answer, Congestion, Retained, Rounds};
use crate::limits::{CHUNKS_PER_PULL_MAX, TRAIN_TIME};
use phase::{PROBE_RTT_WINDOW, Phase};
use rival::Rivals;
use startup::Startup;

/// Window before anything was measured: 32 packets, as content networks use (the draft leaves it to the transport; RFC
/// 6928 allows 10 of 1,460 bytes to hosts of which nothing is known, where bytes are not paced; these are).
const INITIAL_WINDOW: u64 = 32 * PACKET_BYTES as u64;
/// Least window (the draft, section 2.7: BBRMinPipeCwnd).
const WINDOW_MIN: u64 = 4 * PACKET_BYTES as u64;
/// Window to a server next door as long as nothing is congested: what is under way there waits for a processor, not for a
/// link, and servers that share one come to equal shares only if none runs out of work.
const NEXT_DOOR_WINDOW: u64 = 1024 * 1024;
/// Round trip that is taken for granted where none was measured.
const RTT_ASSUMED: Duration = Duration::from_millis(100);
/// The least round trip must have been seen within this time (the draft, section 2.14.2: ProbeRTTInterval).
const MIN_RTT_VALID_FOR: Duration = Duration::from_secs(5);
/// Loss that is borne while the path is being filled (the draft, section 2.2: BBRLossThresh).
const STARTUP_LOSS: f64 = 0.02;
/// Growth of the rate below which a round counts as one without (the draft, section 4.3.1.2).
const GROWTH: f64 = 1.25;
/// What is left after congestion (the draft, section 2.3: BBRBeta).
const BETA: f64 = 0.7;
/// Part of a known bound on the window that is used while nothing is probed (the draft, section 2.3: BBRHeadroom).
const HEADROOM: f64 = 0.85;
/// A round trip that is longer by this factor has waited in a queue.
const RISEN: f64 = 1.25;
/// Part by which the rate that is asked for stays below what was measured (the draft, section 4.6.2:
/// BBRPacingMarginPercent): the highest of many samples is a little too high, and would make a queue in time.
const PACING_MARGIN: f64 = 0.01;
/// Rate that is asked for while there is a queue that should not be there, in parts of what the path delivers. Each of two
/// sources that share a path measures a little too much now and then; so they drain together what they have added.
const CONTENDED_GAIN: f64 = 0.95;
/// [`PACING_MARGIN`] where packets are lost at random, in parts of that loss: samples are noisier there.
const NOISE_MARGIN: f64 = 0.2;
/// How long the highest rate is remembered, at least.
const BEST_FOR: Duration = Duration::from_mins(1);
/// Rounds of probing for a higher rate at most, as long as none is found.
const UP_ROUNDS_MAX: u64 = 3;

/// What a round has seen so far.
#[derive(Clone, Copy, Default, Debug)]
struct Round {
    tally: Tally,
    min_rtt: Option<Duration>,
    rate: f64,
    /// The server, or that there was nothing to ask for, set the rate at some time.
    is_limited: bool,
}

/// Bounds that congestion set, until the next probing (the draft, section 4.5.6.3: bw_lo and inflight_lo).
#[derive(Clone, Copy, Debug)]
struct Lowered {
    rate: f64,
    window: f64,
}

/// See the module's description.
#[derive(Debug)]
pub struct Bbr {
    phase: Phase,
    phase_round: u64,
    rounds: Rounds,
    round: Round,
    delivered_bytes: u64,
    in_flight_bytes: u64,
    quantum_bytes: u64,
    rate: MaxRate,
    min_rtt: MinRtt,
    random_loss: RandomLoss,
    startup: Startup,
    /// What was in flight when the path was congested (the draft, section 4.5.6.2: inflight_hi).
    window_hi: Option<f64>,
    lowered: Option<Lowered>,
    /// Congestion was met since the last probing.
    yields: bool,
    cycle_at: Option<Instant>,
    cycle_round: u64,
    up_rate: f64,
    /// Since when the path has been kept empty.
    emptied_at: Option<(Instant, u64)>,
    empty_rtt: Option<Duration>,
    draws: u64,
    /// Cycles that have begun.
    cycles: u64,
    rivals: Rivals,
    /// What of a flow this source is.
    share: f64,
    srtt: Duration,
    failed_probes: Vec<Duration>,
    /// The highest rate of the last minutes.
    best: MaxRate,
    best_at: Option<Instant>,
}

impl Bbr {
    /// A path of which nothing is known. `seed` makes sources probe at different times.
    pub fn new(seed: u64) -> Self {
        Self {
            phase: Phase::Startup,
            phase_round: 0,
            rounds: Rounds::default(),
            round: Round::default(),
            delivered_bytes: 0,
            in_flight_bytes: 0,
            quantum_bytes: 0,
            rate: MaxRate::default(),
            min_rtt: MinRtt::new(MIN_RTT_VALID_FOR),
            random_loss: RandomLoss::default(),
            startup: Startup::new(),
            window_hi: None,
            lowered: None,
            yields: false,
            cycle_at: None,
            cycle_round: 0,
            up_rate: 0.0,
            emptied_at: None,
            empty_rtt: None,
            draws: seed,
            cycles: 0,
            rivals: Rivals::default(),
            share: 1.0,
            srtt: Duration::ZERO,
            failed_probes: Vec::new(),
            best: MaxRate::default(),
            best_at: None,
        }
    }

    /// What the path takes, in bytes per second, as it is believed at the moment: what it delivers, and what it loses
    /// whatever the rate.
    fn model_rate(&self) -> f64 {
        let rate = self.rate.get();
        self.lowered.map_or(rate, |lowered| rate.min(lowered.rate))
    }

    /// The same of one answer. What was asked for and comes or is lost by chance adds up to what the path took; what came
    /// alone would be now more and now less of that, and the highest of it more than there is.
    fn taken_rate(&self, answer: &Answer) -> Option<f64> {
        let all = (answer.sample_bytes + answer.sample_lost_bytes) as f64;
        let by_chance = (answer.sample_lost_bytes as f64).min(self.random_loss.share() * all);
        let seconds = answer.interval.as_secs_f64();
        (seconds > 0.0).then(|| (answer.sample_bytes as f64 + by_chance) / seconds)
    }

    /// Bytes that fill the path and leave its queue empty.
    fn path_bytes(&self) -> f64 {
        self.model_rate() * self.min_rtt.get().unwrap_or(RTT_ASSUMED).as_secs_f64()
    }

    fn enter(&mut self, now: Instant, phase: Phase) {
        self.phase = phase;
        self.phase_round = self.rounds.count;
        match phase {
            // The draft, section 4.3.3.1: a cycle begins when the probing of the last one is over.
            Phase::Down => {
                self.rate.advance();
                self.cycle_at = Some(now);
                self.cycle_round = self.rounds.count;
                self.draws += 1;
                self.cycles += 1;
            }
            // The draft, section 4.3.3.3: what congestion had lowered is forgotten.
            Phase::Refill => {
                self.lowered = None;
                self.yields = false;
            }
            Phase::Up => {
                self.up_rate = self.rate.get();
                self.raise_window_hi();
            }
            _ => {}
        }
    }

    fn rounds_in_phase(&self) -> u64 {
        self.rounds.count - self.phase_round
    }

    fn on_round(&mut self, answer: &Answer) {
        let round = std::mem::take(&mut self.round);
        let has_risen = match (round.min_rtt, self.min_rtt.get()) {
            (Some(rtt), Some(least)) => rtt > least.mul_f64(RISEN),
            _ => false,
        };
        self.compare_with_random_loss(answer.now);
        let is_unexplained = self.random_loss.does_not_explain(round.tally);
        let is_exceeded = match self.phase {
            Phase::Startup => self.random_loss.is_exceeded_by_more_than(STARTUP_LOSS, round.tally),
            // The rival gives way to a single loss, so who bears more takes its share.
            Phase::Rival => is_unexplained,
            _ => self.random_loss.is_exceeded_by(round.tally),
        };
        let tells = has_risen && !self.rivals.are_heedless(answer.now) || self.rivals.shallow.is_met();
        let is_congested = is_exceeded && (tells || round.tally.share() > LOSS_ENDURED);
        self.random_loss.on_round(round.tally);
        if is_congested {
            self.on_congested(answer, round);
        } else if self.phase == Phase::Rival && !round.is_limited {
            self.grow_beside_rival(answer.now);
        }
        self.look_for_rivals(answer, round.min_rtt, has_risen);
        self.listen_for_rivals(answer, round, is_unexplained && !has_risen);
        if !self.startup.is_over && !round.is_limited {
            self.startup.look_for_growth(self.rate.get());
        }
        if self.phase == Phase::Up {
            self.raise_window_hi();
        }
    }

    /// The draft, sections 4.3.1.3 and 4.5.6.
    fn on_congested(&mut self, answer: &Answer, round: Round) {
        let delivered = round.tally.delivered_bytes as f64;
        match self.phase {
            // Loss alone does not tell how much the path holds.
            Phase::Startup if self.rate.get() == 0.0 => self.startup.begin_smaller(),
            Phase::Startup => {
                self.startup.is_over = true;
                self.window_hi = Some(delivered.max(self.path_bytes()).max(WINDOW_MIN as f64));
            }
            Phase::Up => {
                self.yields = true;
                let floor = BETA * self.phase.window_gain() * self.path_bytes();
                self.window_hi = Some((answer.in_flight_bytes as f64).max(floor));
                self.enter(answer.now, Phase::Down);
            }
            // What filling the path has cost becomes known only now. It met its end, whether or not others are there.
            Phase::Down | Phase::Cruise if self.startup.explains_losses_of(self.rounds.count) => {}
            Phase::Down | Phase::Cruise | Phase::Refill => {
                self.yields = true;
                let (rate, window) = (self.model_rate(), self.model_window());
                self.lowered =
                    Some(Lowered { rate: round.rate.max(BETA * rate), window: delivered.max(BETA * window) });
            }
            Phase::Rival => {
                self.yields = true;
                self.give_way(answer.now);
            }
            Phase::Drain | Phase::ProbeRtt => {}
        }
    }

    /// What was too much once may be enough today (the draft, section 4.3.3.4).
    fn raise_window_hi(&mut self) {
        let Some(bound) = self.window_hi else { return };
        let raised = bound * GROWTH;
        self.window_hi = (raised < Phase::Up.window_gain() * self.path_bytes()).then_some(raised);
    }

    /// Changes of state (the draft, section 4.3).
    fn step(&mut self, answer: &Answer) {
        let now = answer.now;
        let in_flight = answer.in_flight_bytes as f64;
        let full = self.path_bytes() + answer.quantum_bytes as f64;
        match self.phase {
            Phase::Startup if self.startup.is_over => {
                self.startup.last_round = self.rounds.count;
                self.enter(now, Phase::Drain);
            }
            Phase::Drain if in_flight <= full => self.enter(now, Phase::Down),
            Phase::Down if in_flight <= full.min(self.headroom()) => self.enter(now, Phase::Cruise),
            Phase::Down | Phase::Cruise if self.cycle_is_over(now) => self.enter(now, Phase::Refill),
            Phase::Refill if self.rounds_in_phase() >= 1 => self.enter(now, Phase::Up),
            Phase::Up => {
                let has_grown = self.rate.get() >= self.up_rate * 1.1;
                if has_grown && self.rounds_in_phase() >= 1 {
                    self.up_rate = self.rate.get();
                    self.phase_round = self.rounds.count;
                } else if self.rounds_in_phase() >= 1 && in_flight >= GROWTH * self.path_bytes()
                    || self.rounds_in_phase() >= UP_ROUNDS_MAX
                {
                    self.enter(now, Phase::Down);
                }
            }
            Phase::ProbeRtt => self.step_probe_rtt(answer),
            _ => {}
        }
    }

    /// The rate at which chunks are asked for (the draft, section 4.6.2).
    fn paced_rate(&self) -> Option<f64> {
        if self.phase == Phase::Startup {
            return (self.startup.rate > 0.0).then_some(self.startup.rate);
        }
        if let Some(rival) = self.rivals.window().filter(|_| self.phase == Phase::Rival) {
            return Some(self.phase.pacing_gain() * rival.bytes() / self.srtt.as_secs_f64().max(1e-4));
        }
        let margin = 1.0 - (NOISE_MARGIN * self.random_loss.share()).max(PACING_MARGIN);
        let has_queue = self.phase == Phase::Cruise && self.rivals.is_contended();
        let gain = if has_queue { CONTENDED_GAIN } else { self.phase.pacing_gain() };
        Some(gain * self.model_rate() * margin)
    }

    /// Whether a PULL takes less than a timer's tick and its answer is there in another: then the window alone paces, by
    /// what arrives. A rate that was measured while another process had the core would hold the source to it.
    fn is_next_door(&self, rate: f64) -> bool {
        const FULL_TRAIN: f64 = CHUNKS_PER_PULL_MAX as f64 * PACKET_BYTES as f64;
        let is_near = self.min_rtt.get().is_some_and(|rtt| rtt <= TRAIN_TIME);
        is_near && rate * TRAIN_TIME.as_secs_f64() >= FULL_TRAIN
    }

    fn headroom(&self) -> f64 {
        self.window_hi.map_or(f64::INFINITY, |bound| bound * HEADROOM)
    }

    /// The draft, section 4.6.4, without the bounds that congestion set.
    fn model_window(&self) -> f64 {
        self.phase.window_gain() * self.path_bytes() + 3.0 * self.quantum_bytes as f64
    }
}

/// Loss of a round that is congestion even where the round trip has not risen.
const LOSS_ENDURED: f64 = 0.25;

impl Congestion for Bbr {
    fn window_bytes(&self) -> u64 {
        if self.phase == Phase::Startup {
            return self.startup.window;
        }
        if let Some(rival) = self.rivals.window().filter(|_| self.phase == Phase::Rival) {
            return (rival.bytes() as u64).max(WINDOW_MIN);
        }
        let bound = match self.phase {
            Phase::Refill | Phase::Up => self.window_hi.unwrap_or(f64::INFINITY),
            _ => self.headroom(),
        };
        let lowered = self.lowered.map_or(f64::INFINITY, |lowered| lowered.window);
        let model =
            if self.phase == Phase::ProbeRtt { PROBE_RTT_WINDOW * self.path_bytes() } else { self.model_window() };
        let window = (model.min(bound).min(lowered) as u64).max(WINDOW_MIN);
        let is_clear = self.window_hi.is_none() && self.lowered.is_none() && self.phase != Phase::ProbeRtt;
        if is_clear && self.is_next_door(self.model_rate()) { window.max(NEXT_DOOR_WINDOW) } else { window }
    }

    fn pacing_rate(&self) -> Option<f64> {
        self.paced_rate().filter(|&rate| !self.is_next_door(rate))
    }

    fn bandwidth(&self) -> Option<f64> {
        let rate = self.model_rate() * (1.0 - self.random_loss.share());
        (rate > 0.0).then_some(rate)
    }

    fn min_rtt(&self) -> Option<Duration> {
        self.min_rtt.get()
    }

    fn on_rtt(&mut self, now: Instant, rtt: Duration) {
        self.min_rtt.update(now, rtt);
        self.startup.begin(rtt);
    }

    fn on_pull(&mut self, now: Instant, in_flight_bytes: u64) {
        if in_flight_bytes == 0 {
            self.min_rtt.excuse(now);
        }
    }

    fn on_answered(&mut self, answer: &Answer) {
        let starts_round = self.rounds.on_answered(answer);
        let arrived = answer.delivered_bytes.saturating_sub(self.delivered_bytes);
        self.delivered_bytes = answer.delivered_bytes;
        self.in_flight_bytes = answer.in_flight_bytes;
        self.quantum_bytes = answer.quantum_bytes;
        if let Some(rtt) = answer.rtt {
            self.min_rtt.update(answer.now, rtt);
            self.srtt = if self.srtt.is_zero() { rtt } else { (self.srtt * 7 + rtt) / 8 };
        }
        if starts_round {
            self.on_round(answer);
        }
        if self.best_at.is_none_or(|at| answer.now.saturating_duration_since(at) >= BEST_FOR) {
            self.best.advance();
            self.best_at = Some(answer.now);
        }
        self.round.tally.delivered_bytes += arrived;
        self.round.is_limited |= answer.is_limited;
        if let Some(rtt) = answer.rtt {
            self.round.min_rtt = Some(self.round.min_rtt.map_or(rtt, |least| least.min(rtt)));
        }
        // The draft, section 4.5.2.3: a rate that something else set is at least what the path delivers.
        let is_telling = self.min_rtt.get().is_none_or(|least| answer.interval >= least);
        if let Some(rate) = self.taken_rate(answer).filter(|_| is_telling) {
            self.round.rate = self.round.rate.max(rate);
            if !answer.is_limited || rate > self.rate.get() {
                self.rate.update(rate);
                self.best.update(rate);
            }
        }
        if self.phase == Phase::Startup {
            self.grow_startup(arrived);
        }
        self.step(answer);
    }

    fn on_lost(&mut self, _now: Instant, bytes: u64) {
        self.round.tally.lost_bytes += bytes;
    }

    fn on_timeout(&mut self) {
        if self.phase == Phase::Startup {
            self.startup.begin_smaller();
            // What the next answer tells was lost before that.
            self.round.tally = Tally::default();
        }
    }

    fn on_spurious_loss(&mut self, bytes: u64) {
        self.round.tally.lost_bytes = self.round.tally.lost_bytes.saturating_sub(bytes);
    }

    fn set_share(&mut self, share: f64) {
        self.share = share;
    }

    fn is_starting(&self) -> bool {
        !self.startup.is_over
    }

    fn wants_to_probe_rtt(&self, now: Instant) -> bool {
        self.phase != Phase::ProbeRtt && self.startup.is_over && self.in_flight_bytes > 0 && self.min_rtt.is_old(now)
    }

    fn probe_rtt(&mut self, now: Instant) {
        if self.phase != Phase::ProbeRtt && self.startup.is_over {
            self.emptied_at = None;
            self.empty_rtt = None;
            self.enter(now, Phase::ProbeRtt);
        }
    }

    fn hears_rival(&self, now: Instant) -> bool {
        self.rivals.shallow.hears(now)
    }

    fn meet_rival(&mut self, now: Instant) {
        self.meet_unseen_rival(now);
    }

    fn retained(&self) -> Option<Retained> {
        let (rate, rtt) = (self.best.get(), self.min_rtt.get()?);
        // A session that did not fill the path takes nothing back of what an earlier one has found out.
        let known = self.startup.resumed.filter(|_| !self.startup.is_over).map_or(0.0, |resumed| resumed.rate);
        (rate > known).then_some(Retained { rate, rtt })
    }

    fn resume(&mut self, retained: Retained) {
        self.startup.resumed = Some(retained);
    }

    fn phase(&self) -> &'static str {
        self.phase.name()
    }
}
