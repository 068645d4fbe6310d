//! A player as the network sees it: takes extents in order at the film's rate, and counts the times it must wait.

use std::collections::BTreeMap;
use std::time::Duration;

use braidcast_client::fetcher::Buffer;
use braidcast_media::layout::EXTENT_BYTES;

use crate::link::sending_time;

/// What is played, and how.
#[derive(Clone, Copy, Debug)]
pub struct FilmConfig {
    /// Bits of payload per second of film.
    pub rate_bit_s: u64,
    /// What is fetched ahead, in seconds of film; it sets the fetcher's number of buffers.
    pub window: Duration,
    /// How much must be there without a gap before the picture starts, or goes on after a stall.
    pub start: Duration,
}

impl FilmConfig {
    /// How long one extent plays.
    pub fn extent_time(&self) -> Duration {
        sending_time(EXTENT_BYTES, self.rate_bit_s)
    }

    /// Extents that hold the window.
    pub fn extents_max(&self) -> usize {
        extents(self.window, self.extent_time()).max(WINDOW_EXTENTS_MIN)
    }
}

/// One extent is played while others are fetched.
const WINDOW_EXTENTS_MIN: usize = 3;

fn extents(time: Duration, each: Duration) -> usize {
    time.as_nanos().div_ceil(each.as_nanos().max(1)) as usize
}

/// How a film went.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Showing {
    /// When the picture started.
    pub started_at: Option<Duration>,
    /// How often it stopped.
    pub stalls: u32,
    /// How long it stood still.
    pub stalled: Duration,
    /// When the last extent had been played.
    pub ended_at: Option<Duration>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing has been played since the start or the last seek.
    Starting,
    /// The next extent is being played until then.
    Playing {
        until: Duration,
    },
    Stalled {
        since: Duration,
    },
    Ended,
}

/// A player of extents `next..end`.
pub struct Film {
    config: FilmConfig,
    /// Extents that are there, the one that is being played included.
    held: BTreeMap<u32, Buffer>,
    next: u32,
    end: u32,
    state: State,
    showing: Showing,
}

impl Film {
    /// A film of `extents` extents, of which none is there.
    pub fn new(config: FilmConfig, extents: u32) -> Self {
        let state = if extents == 0 { State::Ended } else { State::Starting };
        Self { config, held: BTreeMap::new(), next: 0, end: extents, state, showing: Showing::default() }
    }

    /// How it goes.
    pub fn showing(&self) -> Showing {
        self.showing
    }

    /// Whether all has been played.
    pub fn is_over(&self) -> bool {
        self.state == State::Ended
    }

    /// Extents in its hands.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Seconds of film that are there without a gap, the extent that is being played included.
    pub fn ahead(&self) -> Duration {
        self.config.extent_time() * self.contiguous() as u32
    }

    /// The first extent that has not been played to its end.
    pub fn position(&self) -> u32 {
        self.next
    }

    /// Takes an extent. Gives it back if it is not wanted: it was played, or is there.
    pub fn insert(&mut self, extent: u32, buffer: Buffer) -> Option<Buffer> {
        if extent < self.next || extent >= self.end || self.held.contains_key(&extent) {
            return Some(buffer);
        }
        self.held.insert(extent, buffer);
        None
    }

    /// Goes on from another extent, and gives all buffers back.
    pub fn seek(&mut self, extent: u32) -> Vec<Buffer> {
        self.next = extent.min(self.end);
        self.state = if self.next == self.end { State::Ended } else { State::Starting };
        std::mem::take(&mut self.held).into_values().collect()
    }

    /// When [`Film::advance`] has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match self.state {
            State::Playing { until } => Some(until),
            State::Starting | State::Stalled { .. } | State::Ended => None,
        }
    }

    /// Plays up to `now`. Gives the next buffer that has been played; to be called until it gives nothing.
    pub fn advance(&mut self, now: Duration) -> Option<Buffer> {
        match self.state {
            State::Playing { until } if until <= now => {
                let played = self.held.remove(&self.next);
                self.next += 1;
                self.begin(until);
                played
            }
            State::Starting if self.is_ready() => {
                self.showing.started_at.get_or_insert(now);
                self.begin(now);
                None
            }
            State::Stalled { since } if self.is_ready() => {
                self.showing.stalled += now - since;
                self.begin(now);
                None
            }
            _ => None,
        }
    }

    /// The next extent is to be played from `at` on.
    fn begin(&mut self, at: Duration) {
        self.state = if self.next == self.end {
            self.showing.ended_at = Some(at);
            State::Ended
        } else if self.held.contains_key(&self.next) {
            State::Playing { until: at + self.config.extent_time() }
        } else {
            self.showing.stalls += 1;
            State::Stalled { since: at }
        };
    }

    fn is_ready(&self) -> bool {
        let wanted = extents(self.config.start, self.config.extent_time()).clamp(1, self.config.extents_max() - 1);
        self.contiguous() >= wanted.min((self.end - self.next) as usize)
    }

    fn contiguous(&self) -> usize {
        (self.next..self.end).take_while(|extent| self.held.contains_key(extent)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An extent plays for a second.
    const CONFIG: FilmConfig = FilmConfig {
        rate_bit_s: EXTENT_BYTES as u64 * 8,
        window: Duration::from_secs(5),
        start: Duration::from_secs(2),
    };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn insert(film: &mut Film, extents: impl IntoIterator<Item = u32>) {
        for extent in extents {
            assert!(film.insert(extent, vec![0].into()).is_none());
        }
    }

    /// How many buffers come back at `now`.
    fn advance(film: &mut Film, now: Duration) -> usize {
        let mut returned = 0;
        loop {
            match (film.advance(now), film.poll_timeout()) {
                (Some(_), _) => returned += 1,
                (None, Some(at)) if at <= now => {}
                (None, _) => return returned,
            }
        }
    }

    #[test]
    fn the_picture_starts_when_enough_is_there_and_plays_at_its_rate() {
        let mut film = Film::new(CONFIG, 3);
        insert(&mut film, [0, 2]);
        assert_eq!((advance(&mut film, s(9)), film.showing().started_at), (0, None), "a gap is not enough");
        insert(&mut film, [1]);
        assert_eq!((advance(&mut film, s(10)), film.showing().started_at), (0, Some(s(10))));
        assert_eq!(advance(&mut film, s(11)), 1);
        assert_eq!(advance(&mut film, s(13)), 2);
        assert_eq!(film.showing(), Showing { started_at: Some(s(10)), ended_at: Some(s(13)), ..Showing::default() });
    }

    #[test]
    fn what_comes_too_late_is_a_stall_and_is_waited_for() {
        let mut film = Film::new(CONFIG, 4);
        insert(&mut film, [0, 1]);
        advance(&mut film, s(0));
        assert_eq!(advance(&mut film, s(2)), 2);
        assert_eq!(film.showing().stalls, 1);
        insert(&mut film, [2]);
        advance(&mut film, s(3));
        assert_eq!(film.showing().stalled, s(0), "two seconds are needed to go on");
        insert(&mut film, [3]);
        advance(&mut film, s(4));
        assert_eq!((film.showing().stalls, film.showing().stalled), (1, s(2)));
        advance(&mut film, s(6));
        assert_eq!(film.showing().ended_at, Some(s(6)));
    }

    #[test]
    fn a_seek_gives_all_buffers_back_and_takes_only_what_comes_after() {
        let mut film = Film::new(CONFIG, 10);
        insert(&mut film, [0, 1, 2]);
        advance(&mut film, s(0));
        assert_eq!(film.seek(7).len(), 3);
        assert!(film.insert(1, vec![0].into()).is_some());
        insert(&mut film, [7]);
        assert!(film.insert(7, vec![0].into()).is_some(), "it is there");
        assert_eq!(film.held(), 1);
    }
}
