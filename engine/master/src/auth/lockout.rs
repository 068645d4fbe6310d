//! Wrong passwords in a row lock an account for a while.
//!
//! Counted for names, known or not: a lock that only real accounts could have would tell which are real.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::limits::LOCKOUT_NAMES_MAX;

/// Counts wrong passwords. Reads no clock.
#[derive(Debug)]
pub(crate) struct Lockout {
    lock_after: u32,
    lock_for: Duration,
    names: HashMap<String, Count>,
}

#[derive(Debug)]
struct Count {
    wrong: u32,
    last: Instant,
}

impl Lockout {
    pub(crate) fn new(lock_after: u32, lock_for: Duration) -> Self {
        Self { lock_after, lock_for, names: HashMap::new() }
    }

    /// How long `name` stays locked; nothing if it is open.
    pub(crate) fn locked_for(&self, now: Instant, name: &str) -> Option<Duration> {
        let count = self.names.get(name).filter(|count| count.wrong >= self.lock_after)?;
        let left = (count.last + self.lock_for).saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// A wrong password came for `name`.
    pub(crate) fn on_wrong(&mut self, now: Instant, name: &str) {
        if !self.names.contains_key(name) && self.names.len() >= LOCKOUT_NAMES_MAX {
            self.make_room(now);
        }
        let count = self.names.entry(name.to_owned()).or_insert(Count { wrong: 0, last: now });
        // A run of wrong passwords ends when its time is over, locked or not.
        if count.last + self.lock_for <= now {
            count.wrong = 0;
        }
        count.wrong = count.wrong.saturating_add(1);
        count.last = now;
    }

    /// The right password came for `name`, or a new one was set.
    pub(crate) fn on_right(&mut self, name: &str) {
        self.names.remove(name);
    }

    fn make_room(&mut self, now: Instant) {
        let lock_for = self.lock_for;
        self.names.retain(|_, count| now < count.last + lock_for);
        if self.names.len() >= LOCKOUT_NAMES_MAX {
            let oldest = self.names.iter().min_by_key(|(_, count)| count.last).map(|(name, _)| name.clone());
            if let Some(oldest) = oldest {
                self.names.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOCK: Duration = Duration::from_secs(60);

    #[test]
    fn the_fifth_wrong_password_locks_and_time_opens() {
        let (mut lockout, start) = (Lockout::new(5, LOCK), Instant::now());
        for _ in 0..4 {
            lockout.on_wrong(start, "anna");
        }
        assert_eq!(lockout.locked_for(start, "anna"), None);
        lockout.on_wrong(start, "anna");
        assert_eq!(lockout.locked_for(start, "anna"), Some(LOCK));
        assert_eq!(lockout.locked_for(start, "ben"), None);
        let nearly = start + LOCK - Duration::from_nanos(1);
        assert_eq!(lockout.locked_for(nearly, "anna"), Some(Duration::from_nanos(1)));
        assert_eq!(lockout.locked_for(start + LOCK, "anna"), None);
        lockout.on_wrong(start + LOCK, "anna");
        assert_eq!(lockout.locked_for(start + LOCK, "anna"), None, "the count begins again");
    }

    #[test]
    fn the_right_password_clears_the_count() {
        let (mut lockout, now) = (Lockout::new(2, LOCK), Instant::now());
        lockout.on_wrong(now, "anna");
        lockout.on_right("anna");
        lockout.on_wrong(now, "anna");
        assert_eq!(lockout.locked_for(now, "anna"), None);
    }

    #[test]
    fn the_table_is_bounded_and_the_oldest_goes_first() {
        let (mut lockout, start) = (Lockout::new(1, LOCK), Instant::now());
        for n in 0..=LOCKOUT_NAMES_MAX {
            lockout.on_wrong(start + Duration::from_micros(n as u64), &n.to_string());
        }
        assert_eq!(lockout.names.len(), LOCKOUT_NAMES_MAX);
        let now = start + Duration::from_secs(1);
        assert_eq!(lockout.locked_for(now, "0"), None);
        assert!(lockout.locked_for(now, "1").is_some());
    }
}
