//! When a higher rate is probed for.

use std::time::{Duration, Instant};

use super::Bbr;

/// Least time from probing for a higher rate to the next time, and by how much it varies.
const CYCLE_MIN: Duration = Duration::from_millis(800);
const CYCLE_SPREAD: Duration = Duration::from_millis(400);
/// How much longer a cycle lasts that met congestion: others, who come back to their rate in seconds, get the time for
/// that (the draft, section 4.3.3.5: two to three seconds).
const CYCLE_YIELDING: Duration = Duration::from_millis(1_600);
/// Least rounds of a cycle: on a long path probing costs rounds, not seconds.
const CYCLE_ROUNDS_MIN: u64 = 6;

impl Bbr {
    pub(super) fn cycle_is_over(&self, now: Instant) -> bool {
        let spread = CYCLE_SPREAD.mul_f64(fraction(self.draws));
        let yielding = if self.yields { CYCLE_YIELDING } else { Duration::ZERO };
        self.cycle_at.is_none_or(|at| now.saturating_duration_since(at) >= CYCLE_MIN + spread + yielding)
            && self.rounds.count - self.cycle_round >= CYCLE_ROUNDS_MIN
    }
}

/// A number from 0 to 1 that looks random (the finaliser of SplitMix64).
fn fraction(draw: u64) -> f64 {
    let mut z = draw.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) as f64 / u64::MAX as f64
}
