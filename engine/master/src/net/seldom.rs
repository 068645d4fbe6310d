//! What happens often is logged once in a while.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::limits::WARN_PAUSE;
use crate::sync::lock;

/// Counts events of one kind, and says when it is time to log how many there were.
#[derive(Default)]
pub(crate) struct Seldom(Mutex<Count>);

#[derive(Default)]
struct Count {
    logged: Option<Instant>,
    events: u64,
}

impl Seldom {
    /// An event has come. Gives the number of events since the last log entry if another entry is due.
    pub(crate) fn on_event(&self, now: Instant) -> Option<u64> {
        lock(&self.0).on_event(now, WARN_PAUSE)
    }
}

impl Count {
    fn on_event(&mut self, now: Instant, pause: Duration) -> Option<u64> {
        self.events += 1;
        if self.logged.is_some_and(|logged| now.saturating_duration_since(logged) < pause) {
            return None;
        }
        self.logged = Some(now);
        Some(std::mem::take(&mut self.events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_event_is_logged_at_once_and_those_of_the_pause_together() {
        let (mut count, start, pause) = (Count::default(), Instant::now(), Duration::from_secs(10));
        assert_eq!(count.on_event(start, pause), Some(1));
        for _ in 0..5 {
            assert_eq!(count.on_event(start + pause - Duration::from_nanos(1), pause), None);
        }
        assert_eq!(count.on_event(start + pause, pause), Some(6));
    }
}
