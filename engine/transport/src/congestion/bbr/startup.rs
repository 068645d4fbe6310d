//! Filling a path of which nothing is known (the draft, section 4.3.1).

use std::time::Duration;

use super::phase::Phase;
use super::{Bbr, GROWTH, INITIAL_WINDOW, NEXT_DOOR_WINDOW, WINDOW_MIN};
use crate::congestion::Retained;

/// Rounds without growth after which the path is full (the draft, section 4.3.1.2).
const ROUNDS_WITHOUT_GROWTH: u32 = 3;
/// Rounds after the startup in which its losses are told.
const ROUNDS_AFTER: u64 = 2;

/// How far that has come. Neither `window` nor `rate` goes down before the path is full, unless a train is not answered.
#[derive(Debug)]
pub(super) struct Startup {
    /// Bytes in flight.
    pub(super) window: u64,
    /// Bytes per second that are asked for; 0 before a round trip was measured.
    pub(super) rate: f64,
    /// The path is full.
    pub(super) is_over: bool,
    /// The round in which that was found.
    pub(super) last_round: u64,
    /// What an earlier session has found out of the path.
    pub(super) resumed: Option<Retained>,
    full_rate: f64,
    rounds_without_growth: u32,
}

/// What is in flight at once on a path that is known, in parts of what filled it (RFC 9959: at most half). It is asked for
/// at the rate that the path had, so that half a round trip passes meanwhile.
const RESUMED: f64 = 0.5;

impl Retained {
    /// Whether it may be the same path (RFC 9959): one of much shorter or longer round trip is another.
    fn is_of_path(self, rtt: Duration) -> bool {
        (self.rtt / 2..=self.rtt * 10).contains(&rtt)
    }
}

impl Startup {
    pub(super) fn new() -> Self {
        Self {
            window: INITIAL_WINDOW,
            rate: 0.0,
            is_over: false,
            last_round: 0,
            resumed: None,
            full_rate: 0.0,
            rounds_without_growth: 0,
        }
    }

    /// The first round trip (the draft, section 4.2.1): as if the initial window had been delivered in it, or what is
    /// retained of the path.
    pub(super) fn begin(&mut self, rtt: Duration) {
        if self.rate == 0.0 {
            let round_trip = rtt.max(Duration::from_millis(1)).as_secs_f64();
            self.rate = Phase::Startup.pacing_gain() * INITIAL_WINDOW as f64 / round_trip;
            self.resumed = self.resumed.filter(|resumed| resumed.is_of_path(rtt));
            if let Some(resumed) = self.resumed {
                let window = RESUMED * resumed.rate * resumed.rtt.min(rtt).as_secs_f64();
                self.window = self.window.max(window as u64);
                self.rate = self.rate.max(resumed.rate);
            }
        }
    }

    /// The draft, section 4.3.1.2.
    pub(super) fn look_for_growth(&mut self, rate: f64) {
        if rate >= self.full_rate * GROWTH {
            self.full_rate = rate;
            self.rounds_without_growth = 0;
            return;
        }
        self.rounds_without_growth += 1;
        self.is_over |= self.rounds_without_growth >= ROUNDS_WITHOUT_GROWTH;
    }

    /// A train was not answered. The path's queue may be too short for it: a quarter of it is tried next, and so on. (The
    /// draft, section 4.6.4.4, starts again from one packet.)
    pub(super) fn begin_smaller(&mut self) {
        self.resumed = None;
        self.window = (self.window / 4).max(WINDOW_MIN);
        self.rate /= 4.0;
    }

    /// Whether what is lost in this round may have been asked for before the path was found to be full.
    pub(super) fn explains_losses_of(&self, round: u64) -> bool {
        round <= self.last_round + ROUNDS_AFTER
    }
}

impl Bbr {
    /// `arrived` bytes have come (the draft, sections 4.6.2 and 4.6.4.2).
    pub(super) fn grow_startup(&mut self, arrived: u64) {
        let model = (Phase::Startup.window_gain() * self.path_bytes()) as u64 + 3 * self.quantum_bytes;
        let target = if self.is_next_door(self.startup.rate) { model.max(NEXT_DOOR_WINDOW) } else { model };
        if self.startup.window < target {
            self.startup.window += arrived;
        }
        self.startup.rate = self.startup.rate.max(Phase::Startup.pacing_gain() * self.model_rate());
    }
}
