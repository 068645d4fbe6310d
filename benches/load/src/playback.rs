//! When a viewer plays which chunk, and what that says of when to ask for it and whether it came in time.

use std::time::{Duration, Instant};

use braidcast_media::layout::CHUNK_BYTES;

/// A film that is played at its rate. Chunks are numbered from 0, where this viewer begins.
#[derive(Clone, Debug)]
pub(crate) struct Playback {
    rate_bit_s: u64,
    window: Duration,
    /// Chunks of the first second that have not come.
    first_missing: u64,
    /// When the first chunk was played.
    started_at: Option<Instant>,
}

/// Playback starts when so much is there.
const FIRST: Duration = Duration::from_secs(1);
const CHUNK_BITS: u64 = CHUNK_BYTES as u64 * 8;

impl Playback {
    /// A film of this rate, of which `window` is fetched ahead.
    pub(crate) fn new(rate_bit_s: u64, window: Duration) -> Self {
        let first_missing = (rate_bit_s * FIRST.as_secs()).div_ceil(CHUNK_BITS);
        Self { rate_bit_s, window, first_missing, started_at: None }
    }

    /// Whether it plays.
    pub(crate) fn is_started(&self) -> bool {
        self.started_at.is_some()
    }

    /// When a chunk enters the window; nothing if that is not before playback starts.
    pub(crate) fn wanted_at(&self, chunk: u64) -> Wanted {
        let Some(ahead) = self.time_of(chunk).checked_sub(self.window) else { return Wanted::AtOnce };
        self.started_at.map_or(Wanted::OncePlaying, |started| Wanted::At(started + ahead))
    }

    /// A chunk has come for the first time; tells by how much it was late, if it was.
    pub(crate) fn on_arrived(&mut self, now: Instant, chunk: u64) -> Option<Duration> {
        if let Some(started) = self.started_at {
            return now.checked_duration_since(started + self.time_of(chunk)).filter(|late| !late.is_zero());
        }
        if self.time_of(chunk) < FIRST {
            self.first_missing -= 1;
            self.started_at = (self.first_missing == 0).then_some(now);
        }
        None
    }

    /// Chunks below this one were to be played by now.
    pub(crate) fn played(&self, now: Instant) -> u64 {
        let Some(started) = self.started_at else { return 0 };
        let nanos = now.saturating_duration_since(started).as_nanos();
        let bits = nanos * u128::from(self.rate_bit_s) / NANOS_PER_S;
        bits.div_ceil(u128::from(CHUNK_BITS)) as u64
    }

    /// Where in the film a chunk stands.
    fn time_of(&self, chunk: u64) -> Duration {
        let nanos = u128::from(chunk) * u128::from(CHUNK_BITS) * NANOS_PER_S / u128::from(self.rate_bit_s);
        Duration::from_nanos(nanos as u64)
    }
}

const NANOS_PER_S: u128 = 1_000_000_000;

/// When a chunk may be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Wanted {
    /// It is in the window from the start.
    AtOnce,
    /// It enters the window then.
    At(Instant),
    /// It enters the window some time after playback has started.
    OncePlaying,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 125 chunks a second, 8 ms each.
    const RATE: u64 = 125 * CHUNK_BITS;
    const CHUNK_TIME: Duration = Duration::from_millis(8);

    fn playing(now: Instant) -> Playback {
        let mut playback = Playback::new(RATE, Duration::from_secs(10));
        (0..125).for_each(|chunk| assert_eq!(playback.on_arrived(now, chunk), None));
        assert!(playback.is_started());
        playback
    }

    #[test]
    fn playback_starts_with_the_last_chunk_of_the_first_second() {
        let now = Instant::now();
        let mut playback = Playback::new(RATE, Duration::from_secs(10));
        (125..200).chain(1..125).for_each(|chunk| assert_eq!(playback.on_arrived(now, chunk), None));
        assert!(!playback.is_started());
        playback.on_arrived(now, 0);
        assert!(playback.is_started());
    }

    #[test]
    fn a_chunk_is_late_from_the_moment_on_at_which_it_is_played() {
        let now = Instant::now();
        let mut playback = playing(now);
        let due = now + CHUNK_TIME * 200;
        assert_eq!(playback.on_arrived(due, 200), None);
        assert_eq!(playback.on_arrived(due + Duration::from_millis(1), 200), Some(Duration::from_millis(1)));
    }

    #[test]
    fn chunks_enter_the_window_as_it_slides() {
        let now = Instant::now();
        let waiting = Playback::new(RATE, Duration::from_secs(10));
        assert_eq!(waiting.wanted_at(1_249), Wanted::AtOnce);
        assert_eq!(waiting.wanted_at(1_250), Wanted::OncePlaying);
        let playing = playing(now);
        assert_eq!(playing.wanted_at(1_249), Wanted::AtOnce);
        assert_eq!(playing.wanted_at(1_250), Wanted::At(now));
        assert_eq!(playing.wanted_at(1_251), Wanted::At(now + CHUNK_TIME));
    }

    #[test]
    fn what_was_to_be_played_counts_whether_it_came_or_not() {
        let now = Instant::now();
        assert_eq!(Playback::new(RATE, Duration::from_secs(10)).played(now), 0);
        let playing = playing(now);
        assert_eq!(playing.played(now), 0);
        assert_eq!(playing.played(now + Duration::from_millis(1)), 1);
        assert_eq!(playing.played(now + CHUNK_TIME), 1);
        assert_eq!(playing.played(now + Duration::from_secs(2)), 250);
    }
}
