//! When all assets are to be looked at again: a master at rest should not do that every second.
//!
//! What servers should hold follows from the library, from what they hold, and from which of them are there. Somebody
//! notes each change of these; what changes by time alone is compared at every turn.

use std::time::Instant;

use crate::cluster::registry::Registry;
use crate::cluster::steering::is_present;
use crate::limits::STEER_ALL_EVERY;

/// What the last look found, and when the next is due.
#[derive(Default)]
pub(crate) struct Pace {
    changed: bool,
    seen: Option<Seen>,
}

/// What was there when all assets were looked at.
struct Seen {
    library: u64,
    /// Of each server, in the order of their ids: it is there, and clients are sent to it.
    servers: Vec<(bool, bool)>,
    look_again: Instant,
}

impl Pace {
    /// Something changed that may change what servers should hold.
    pub(crate) fn on_change(&mut self) {
        self.changed = true;
    }
}

impl Registry {
    /// Whether to look at all assets; `library` is its version.
    pub(crate) fn is_steering_due(&self, now: Instant, library: u64) -> bool {
        let Some(seen) = &self.pace.seen else { return true };
        self.pace.changed
            || seen.library != library
            || now >= seen.look_again
            || !self.presence(now).eq(seen.servers.iter().copied())
    }

    /// All assets were looked at. They are looked at again at `look_again` at the latest, if that is known.
    pub(super) fn on_steered(&mut self, now: Instant, library: u64, look_again: Option<Instant>) {
        let latest = now + STEER_ALL_EVERY;
        let look_again = look_again.map_or(latest, |at| at.min(latest));
        let servers = self.presence(now).collect();
        self.pace = Pace { changed: false, seen: Some(Seen { library, servers, look_again }) };
    }

    fn presence(&self, now: Instant) -> impl Iterator<Item = (bool, bool)> {
        self.servers.values().map(move |server| (is_present(server, now), self.is_listed(now, server)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::time::Duration;

    use braidcast_proto::v1;
    use tokio::sync::mpsc;

    use super::*;
    use crate::cluster::registry::Joining;
    use crate::cluster::steering::Goal;
    use crate::limits::REPLACE_AFTER;
    use crate::tickets::KeyRing;

    const TIMEOUT: Duration = Duration::from_secs(3);

    /// A master with one server, whose stream is open.
    struct World {
        registry: Registry,
        now: Instant,
        stream: u64,
        orders: mpsc::Receiver<v1::MasterOrder>,
    }

    impl World {
        fn new() -> Self {
            let (mut registry, now) = (Registry::new(TIMEOUT, TIMEOUT), Instant::now());
            let address = ([127, 0, 0, 1], 9).into();
            let joining = Joining { join: 1, address, capacity_bytes: 1 << 40, keys: KeyRing::draw() };
            registry.join(now, "s".to_owned(), joining);
            let (sender, orders) = mpsc::channel(8);
            let stream = registry.attach("s", 1, sender).expect("it has joined");
            Self { registry, now, stream, orders }
        }

        fn report(&mut self, holdings: &[u64], complete: bool) {
            let holding = |asset: &u64| v1::Holding { asset: *asset, ..v1::Holding::default() };
            let holdings = holdings.iter().map(holding).collect();
            let report = v1::ServerReport { holdings, complete, ..v1::ServerReport::default() };
            self.registry.on_report(self.now, 0, "s", self.stream, report).expect("its stream is open");
        }

        fn is_due(&self) -> bool {
            self.registry.is_steering_due(self.now, 0)
        }

        fn steer(&mut self) {
            let goal = Goal {
                version: 0,
                assets: &[],
                known: &HashSet::new(),
                unsound: &HashMap::new(),
                is_removed: &|_| true,
                default_replicas: 0,
            };
            assert!(self.registry.steer(self.now, &goal));
            assert!(!self.is_due());
        }
    }

    #[test]
    fn at_rest_assets_are_looked_at_seldom() {
        let mut world = World::new();
        assert!(world.is_due());
        world.report(&[], true);
        world.steer();
        for _ in 0..9 {
            world.now += Duration::from_secs(1);
            world.report(&[], true);
            assert!(!world.is_due());
        }
        world.now += Duration::from_secs(1);
        assert!(world.is_due());
    }

    #[test]
    fn what_a_server_tells_its_silence_and_its_end_make_assets_be_looked_at() {
        let mut world = World::new();
        world.report(&[], false);
        world.steer();
        assert!(world.registry.is_steering_due(world.now, 1), "the library has changed");
        world.report(&[], true);
        assert!(world.is_due());
        world.steer();
        world.report(&[7], true);
        assert!(world.is_due());
        // Told to drop what nobody knows.
        world.steer();
        world.report(&[7], true);
        assert!(!world.is_due());
        world.registry.detach("s", world.stream);
        let gone = world.now;
        world.steer();
        world.now = gone + REPLACE_AFTER;
        assert!(world.is_due());
    }

    #[test]
    fn orders_that_a_stream_did_not_take_are_due_at_once() {
        let mut world = World::new();
        world.report(&[1, 2, 3, 4, 5, 6, 7, 8, 9], true);
        let goal = Goal {
            version: 0,
            assets: &[],
            known: &HashSet::new(),
            unsound: &HashMap::new(),
            is_removed: &|_| true,
            default_replicas: 0,
        };
        assert!(!world.registry.steer(world.now, &goal), "the stream takes eight orders");
        assert!(world.is_due());
        world.orders.try_recv().expect("an order");
        assert!(world.registry.steer(world.now, &goal));
        assert!(!world.is_due());
    }
}
