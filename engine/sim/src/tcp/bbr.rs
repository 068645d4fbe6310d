//! BBR version 1, as in Linux (`net/ipv4/tcp_bbr.c`), without its policer detection and its first round of packet
//! conservation after a loss.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Control, Sample, WINDOW_INITIAL};

/// 2 / ln 2: doubles the rate every round.
const HIGH_GAIN: f64 = 2.885;
const WINDOW_GAIN: f64 = 2.0;
const CYCLE: [f64; 8] = [1.25, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
/// Linux paces 1% below its estimate, so that a queue drains.
const PACING_MARGIN: f64 = 0.99;
const BANDWIDTH_ROUNDS: u64 = 10;
const RTT_MIN_AGE: Duration = Duration::from_secs(10);
const PROBE_RTT_TIME: Duration = Duration::from_millis(200);
const WINDOW_MIN: f64 = 4.0;
/// STARTUP ends after so many rounds in which the bandwidth grew by less than a quarter.
const FULL_ROUNDS: u32 = 3;
const FULL_GROWTH: f64 = 1.25;

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Startup,
    Drain,
    ProbeBandwidth { phase: usize, since: Duration },
    ProbeRtt { done_at: Option<Duration> },
}

pub(super) struct Bbr {
    mode: Mode,
    window: f64,
    /// Before PROBE_RTT.
    window_before: f64,
    /// Highest delivery rates by round, highest first.
    bandwidths: VecDeque<(u64, f64)>,
    rtt_min: Option<Duration>,
    rtt_min_at: Duration,
    round: u64,
    round_ends_at: u64,
    full_bandwidth: f64,
    full_rounds: u32,
    first_phase: usize,
}

impl Bbr {
    pub(super) fn new(now: Duration, draw: u64) -> Self {
        Self {
            mode: Mode::Startup,
            window: WINDOW_INITIAL,
            window_before: WINDOW_INITIAL,
            bandwidths: VecDeque::new(),
            rtt_min: None,
            rtt_min_at: now,
            round: 0,
            round_ends_at: 0,
            full_bandwidth: 0.0,
            full_rounds: 0,
            // Any phase but that which drains.
            first_phase: if draw.is_multiple_of(7) { 0 } else { 1 + (draw % 7) as usize },
        }
    }

    fn bandwidth(&self) -> f64 {
        self.bandwidths.front().map_or(0.0, |(_, rate)| *rate)
    }

    fn product(&self) -> f64 {
        self.rtt_min.map_or(WINDOW_INITIAL, |rtt| self.bandwidth() * rtt.as_secs_f64())
    }

    fn pacing_gain(&self) -> f64 {
        match self.mode {
            Mode::Startup => HIGH_GAIN,
            Mode::Drain => 1.0 / HIGH_GAIN,
            Mode::ProbeBandwidth { phase, .. } => CYCLE[phase],
            Mode::ProbeRtt { .. } => 1.0,
        }
    }

    /// Says whether a round begins.
    fn take_rate(&mut self, sample: &Sample) -> bool {
        let begins = sample.delivered_before >= self.round_ends_at;
        if begins {
            self.round += 1;
            self.round_ends_at = sample.delivered;
        }
        while self.bandwidths.back().is_some_and(|(_, rate)| *rate <= sample.rate) {
            self.bandwidths.pop_back();
        }
        self.bandwidths.push_back((self.round, sample.rate));
        while self.bandwidths.front().is_some_and(|(round, _)| *round + BANDWIDTH_ROUNDS <= self.round) {
            self.bandwidths.pop_front();
        }
        begins
    }

    fn check_full(&mut self) {
        if self.bandwidth() >= self.full_bandwidth * FULL_GROWTH {
            (self.full_bandwidth, self.full_rounds) = (self.bandwidth(), 0);
            return;
        }
        self.full_rounds += 1;
        if self.full_rounds >= FULL_ROUNDS && self.mode == Mode::Startup {
            self.mode = Mode::Drain;
        }
    }

    fn advance(&mut self, now: Duration, sample: &Sample) {
        let (product, in_flight) = (self.product(), sample.in_flight as f64);
        match &mut self.mode {
            Mode::Drain if in_flight <= product => {
                self.mode = Mode::ProbeBandwidth { phase: self.first_phase, since: now };
            }
            Mode::ProbeBandwidth { phase, since } => {
                let over = now - *since > self.rtt_min.unwrap_or_default();
                let next = match CYCLE[*phase] {
                    gain if gain > 1.0 => over && (sample.lost || in_flight >= gain * product),
                    gain if gain < 1.0 => over || in_flight <= product,
                    _ => over,
                };
                if next {
                    (*phase, *since) = ((*phase + 1) % CYCLE.len(), now);
                }
            }
            _ => {}
        }
    }

    fn probe_rtt(&mut self, now: Duration, sample: &Sample, expired: bool, round_begins: bool) {
        let probing = matches!(self.mode, Mode::ProbeRtt { .. });
        if expired && !probing {
            self.window_before = self.window;
            self.mode = Mode::ProbeRtt { done_at: None };
        }
        let Mode::ProbeRtt { done_at } = &mut self.mode else { return };
        match *done_at {
            None if sample.in_flight as f64 <= WINDOW_MIN => *done_at = Some(now + PROBE_RTT_TIME),
            Some(at) if at <= now && round_begins => {
                self.rtt_min_at = now;
                self.window = self.window.max(self.window_before);
                self.mode = if self.full_rounds >= FULL_ROUNDS {
                    Mode::ProbeBandwidth { phase: self.first_phase, since: now }
                } else {
                    Mode::Startup
                };
            }
            _ => {}
        }
    }

    fn set_window(&mut self, acked: f64) {
        let gain = if matches!(self.mode, Mode::Startup | Mode::Drain) { HIGH_GAIN } else { WINDOW_GAIN };
        // Three trains of two segments more, for what acknowledgements lack in smoothness.
        let target = gain * self.product() + 6.0;
        let is_full = self.full_rounds >= FULL_ROUNDS;
        self.window = if is_full { (self.window + acked).min(target) } else { self.window + acked };
        self.window = self.window.max(WINDOW_MIN);
        if matches!(self.mode, Mode::ProbeRtt { .. }) {
            self.window = self.window.min(WINDOW_MIN);
        }
    }
}

impl Control for Bbr {
    fn window(&self) -> u64 {
        self.window as u64
    }

    fn pacing_rate(&self) -> Option<f64> {
        let rate = self.pacing_gain() * self.bandwidth() * PACING_MARGIN;
        (rate > 0.0).then_some(rate)
    }

    fn on_ack(&mut self, now: Duration, sample: &Sample) {
        let round_begins = self.take_rate(sample);
        self.advance(now, sample);
        if round_begins && self.full_rounds < FULL_ROUNDS {
            self.check_full();
        }
        let expired = now > self.rtt_min_at + RTT_MIN_AGE;
        if expired || self.rtt_min.is_none_or(|rtt| sample.rtt <= rtt) {
            (self.rtt_min, self.rtt_min_at) = (Some(sample.rtt), now);
        }
        self.probe_rtt(now, sample, expired, round_begins);
        self.set_window(sample.acked as f64);
    }

    fn on_congestion(&mut self, _now: Duration) {}

    fn on_timeout(&mut self) {
        self.window = WINDOW_MIN;
    }
}
