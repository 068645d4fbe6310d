//! Destinations that cannot be sent trains.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Instant;

use crate::limits::{PLAIN_DESTINATIONS_MAX, PLAIN_FOR};

/// Hosts whose path does not take segmentation offload (a device without checksum offload, IPsec, a small MTU), each
/// until a train is to be tried again. By host, because it is the route that lacks it.
#[derive(Debug, Default)]
pub(crate) struct PlainDestinations {
    until: HashMap<IpAddr, Instant>,
}

impl PlainDestinations {
    /// Remembers `host` for [`PLAIN_FOR`].
    pub(crate) fn insert(&mut self, now: Instant, host: IpAddr) {
        if self.until.len() >= PLAIN_DESTINATIONS_MAX {
            self.until.retain(|_, until| *until > now);
        }
        if self.until.len() >= PLAIN_DESTINATIONS_MAX
            && let Some(&first) = self.until.iter().min_by_key(|(_, until)| **until).map(|(host, _)| host)
        {
            self.until.remove(&first);
        }
        self.until.insert(host, now + PLAIN_FOR);
    }

    /// Whether `host` is to get single packets.
    pub(crate) fn contains(&self, now: Instant, host: IpAddr) -> bool {
        !self.until.is_empty() && self.until.get(&host).is_some_and(|until| *until > now)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn host(n: usize) -> IpAddr {
        Ipv4Addr::from_bits(n as u32).into()
    }

    #[test]
    fn a_destination_is_tried_again_after_ten_seconds() {
        let start = Instant::now();
        let mut plain = PlainDestinations::default();
        plain.insert(start, host(1));
        assert!(plain.contains(start + PLAIN_FOR / 2, host(1)));
        assert!(!plain.contains(start + PLAIN_FOR / 2, host(2)));
        assert!(!plain.contains(start + PLAIN_FOR, host(1)));
    }

    #[test]
    fn a_full_table_forgets_the_destination_that_is_due_first() {
        let start = Instant::now();
        let mut plain = PlainDestinations::default();
        for n in 0..=PLAIN_DESTINATIONS_MAX {
            plain.insert(start + std::time::Duration::from_micros(n as u64), host(n));
        }
        assert_eq!(plain.until.len(), PLAIN_DESTINATIONS_MAX);
        assert!(!plain.contains(start, host(0)));
        assert!(plain.contains(start, host(1)));
        assert!(plain.contains(start, host(PLAIN_DESTINATIONS_MAX)));
    }
}
