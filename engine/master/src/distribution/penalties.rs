//! Servers that failed a client: kept out of that client's own lists for a while, and of nobody else's.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

use braidcast_media::AssetId;

use crate::accounts::UserId;
use crate::limits::{PENALTIES_MAX, PENALTY};

/// Whose list, and of what.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub(crate) struct Reporter {
    user: i64,
    asset: AssetId,
}

impl Reporter {
    pub(crate) fn new(user: UserId, asset: AssetId) -> Self {
        Self { user: user.0, asset }
    }
}

/// The penalties in force. Reads no clock.
#[derive(Debug, Default)]
pub(crate) struct Penalties {
    ends: HashMap<(Reporter, String), Instant>,
    by_end: BTreeSet<(Instant, Reporter, String)>,
}

impl Penalties {
    /// A server has failed a reporter.
    pub(crate) fn add(&mut self, now: Instant, reporter: Reporter, server_id: &str) {
        let key = (reporter, server_id.to_owned());
        let end = now + PENALTY;
        if let Some(old) = self.ends.insert(key.clone(), end) {
            self.by_end.remove(&(old, key.0, key.1.clone()));
        }
        self.by_end.insert((end, key.0, key.1));
        while self.by_end.first().is_some_and(|(end, ..)| *end <= now) || self.by_end.len() > PENALTIES_MAX {
            if let Some((_, reporter, server_id)) = self.by_end.pop_first() {
                self.ends.remove(&(reporter, server_id));
            }
        }
    }

    /// Whether a server is kept out of a reporter's lists.
    pub(crate) fn has(&self, now: Instant, reporter: Reporter, server_id: &str) -> bool {
        self.ends.get(&(reporter, server_id.to_owned())).is_some_and(|end| now < *end)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn reporter(user: i64, asset: u64) -> Reporter {
        Reporter::new(UserId(user), AssetId(asset))
    }

    #[test]
    fn a_penalty_binds_its_reporter_alone_and_fades_after_a_minute() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        penalties.add(now, reporter(1, 1), "s1");
        assert!(penalties.has(now, reporter(1, 1), "s1"));
        assert!(!penalties.has(now, reporter(1, 1), "s2"));
        assert!(!penalties.has(now, reporter(2, 1), "s1"));
        assert!(!penalties.has(now, reporter(1, 2), "s1"));
        assert!(penalties.has(now + PENALTY - Duration::from_nanos(1), reporter(1, 1), "s1"));
        assert!(!penalties.has(now + PENALTY, reporter(1, 1), "s1"));
    }

    #[test]
    fn a_second_report_prolongs_a_penalty() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        let later = now + PENALTY / 2;
        penalties.add(now, reporter(1, 1), "s1");
        penalties.add(later, reporter(1, 1), "s1");
        assert!(penalties.has(now + PENALTY, reporter(1, 1), "s1"));
        assert_eq!(penalties.by_end.len(), 1);
    }

    #[test]
    fn the_table_is_bounded_and_what_ends_first_goes_first() {
        let (mut penalties, now) = (Penalties::default(), Instant::now());
        for n in 0..=PENALTIES_MAX as i64 {
            penalties.add(now + Duration::from_nanos(n.unsigned_abs()), reporter(n, 1), "s1");
        }
        assert_eq!((penalties.ends.len(), penalties.by_end.len()), (PENALTIES_MAX, PENALTIES_MAX));
        assert!(!penalties.has(now, reporter(0, 1), "s1"));
        assert!(penalties.has(now, reporter(1, 1), "s1"));
        penalties.add(now + PENALTY * 2, reporter(1, 1), "s1");
        assert_eq!(penalties.ends.len(), 1, "what is over goes too");
    }
}
