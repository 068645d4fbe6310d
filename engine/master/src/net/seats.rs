//! A bounded number of seats, for connections, handshakes and calls of people who are not known yet.
//!
//! A newcomer never waits: the oldest occupant that may be moved makes room, and belongs to the address that has most
//! of them. So whoever takes many seats and does nothing on them takes them from itself, and an honest newcomer, who
//! needs milliseconds, is never the oldest. Reads no clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use crate::accounts::UserId;
use crate::net::Network;
use crate::sync::lock;

/// What an occupant has to say for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// It is nobody that is known: it leaves first.
    None,
    /// It is known, and has not used its seat lately: it leaves if there is no stranger.
    Idle,
    /// It belongs to this user, who waits for nothing on it now: it leaves if no other one is of less use, and this user
    /// has more of them than anybody else.
    Resting(UserId),
    /// It stays.
    Held,
}

/// Who sits there.
pub(crate) trait Occupant {
    /// Whether it may be made to leave for another. The answer may change at any time.
    fn claim(&self) -> Claim;
    /// Makes it leave.
    fn leave(&self);
}

/// How many seats there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) all: usize,
    /// For occupants from one network.
    pub(crate) per_network: usize,
    /// For occupants without a claim.
    pub(crate) movable: usize,
}

/// Which bound left no seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    All,
    Network,
}

/// All seats of one kind.
pub(crate) struct Seats<T> {
    bounds: Bounds,
    state: Mutex<State<T>>,
}

struct State<T> {
    taken: Taken<T>,
    /// Of the next seat: a number is never given twice, since a seat that was taken away is dropped later.
    next: u64,
}

/// In the order in which they were taken.
type Taken<T> = BTreeMap<u64, (Network, Arc<T>)>;

/// A seat that is taken until this is dropped.
pub(crate) struct Seat<T> {
    seats: Arc<Seats<T>>,
    number: u64,
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        lock(&self.seats.state).taken.remove(&self.number);
    }
}

impl<T: Occupant> Seats<T> {
    pub(crate) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self { bounds, state: Mutex::new(State { taken: BTreeMap::new(), next: 0 }) })
    }

    /// The number of seats.
    pub(crate) fn bounds(&self) -> Bounds {
        self.bounds
    }

    /// Takes a seat, and tells which bound made another leave for it.
    pub(crate) fn take(self: &Arc<Self>, network: Network, newcomer: Arc<T>) -> Result<(Seat<T>, Option<Full>), Full> {
        let mut state = lock(&self.state);
        let full = full(&state.taken, self.bounds, network);
        if let Some(full) = full {
            let number = oldest(&state.taken, network, full).ok_or(full)?;
            if let Some((_, moved)) = state.taken.remove(&number) {
                moved.leave();
            }
        }
        let number = state.next;
        state.next += 1;
        state.taken.insert(number, (network, newcomer));
        drop(state);
        Ok((Seat { seats: Arc::clone(self), number }, full))
    }
}

fn full<T: Occupant>(taken: &Taken<T>, bounds: Bounds, newcomer: Network) -> Option<Full> {
    if taken.values().filter(|(network, _)| *network == newcomer).count() >= bounds.per_network {
        return Some(Full::Network);
    }
    let movable = || taken.values().filter(|(_, occupant)| occupant.claim() == Claim::None).count();
    (taken.len() >= bounds.all || movable() >= bounds.movable).then_some(Full::All)
}

/// Who leaves: a stranger, or else somebody who is idle; the oldest of them, of the newcomer's network if that has too
/// many, else of the network that has most of them. Of networks with equally many, the one whose oldest came first: no
/// address is worse than another. Where there is none, the oldest that rests of the user who has most of those.
fn oldest<T: Occupant>(taken: &Taken<T>, newcomer: Network, full: Full) -> Option<u64> {
    let weak = [Claim::None, Claim::Idle].into_iter().find_map(|claim| oldest_with(claim, taken, newcomer, full));
    weak.or_else(|| oldest_resting(taken, newcomer, full))
}

fn oldest_resting<T: Occupant>(taken: &Taken<T>, newcomer: Network, full: Full) -> Option<u64> {
    let mut of_users: HashMap<UserId, (usize, Reverse<u64>)> = HashMap::new();
    for (number, (network, occupant)) in taken {
        if let Claim::Resting(user) = occupant.claim()
            && (full == Full::All || *network == newcomer)
        {
            of_users.entry(user).or_insert((0, Reverse(*number))).0 += 1;
        }
    }
    let (count, Reverse(oldest)) = of_users.into_values().max()?;
    // Nobody loses the only one.
    (count > 1).then_some(oldest)
}

fn oldest_with<T: Occupant>(claim: Claim, taken: &Taken<T>, newcomer: Network, full: Full) -> Option<u64> {
    let movable = || taken.iter().filter(|(_, (_, occupant))| occupant.claim() == claim);
    let network = match full {
        Full::Network => newcomer,
        Full::All => {
            let mut counts: HashMap<Network, (usize, Reverse<u64>)> = HashMap::new();
            for (number, (network, _)) in movable() {
                counts.entry(*network).or_insert((0, Reverse(*number))).0 += 1;
            }
            counts.into_iter().max_by_key(|(_, count_and_oldest)| *count_and_oldest)?.0
        }
    };
    movable().find(|(_, (of, _))| *of == network).map(|(number, _)| *number)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Default)]
    struct Guest {
        proven: AtomicBool,
        idle: AtomicBool,
        user: Option<UserId>,
        left: AtomicBool,
    }

    impl Guest {
        fn has_left(&self) -> bool {
            self.left.load(Ordering::Relaxed)
        }
    }

    impl Occupant for Guest {
        fn claim(&self) -> Claim {
            match (self.proven.load(Ordering::Relaxed), self.idle.load(Ordering::Relaxed)) {
                (false, _) => Claim::None,
                (true, true) => Claim::Idle,
                (true, false) => self.user.map_or(Claim::Held, Claim::Resting),
            }
        }

        fn leave(&self) {
            self.left.store(true, Ordering::Relaxed);
        }
    }

    fn network(n: u8) -> Network {
        Network::V4(Ipv4Addr::new(192, 0, 2, n))
    }

    fn guest(proven: bool) -> Arc<Guest> {
        Arc::new(Guest { proven: proven.into(), ..Guest::default() })
    }

    #[test]
    fn the_oldest_stranger_of_the_address_with_most_of_them_makes_room() {
        let seats = Seats::new(Bounds { all: 4, per_network: 4, movable: 4 });
        let (honest, flood) = (guest(false), [guest(false), guest(false), guest(false)]);
        let mut held = vec![seats.take(network(1), Arc::clone(&honest)).expect("a seat").0];
        for one in &flood {
            held.push(seats.take(network(2), Arc::clone(one)).expect("a seat").0);
        }
        let (_seat, full) = seats.take(network(3), guest(false)).expect("a seat");
        assert_eq!(full, Some(Full::All));
        assert!(flood[0].has_left() && !flood[1].has_left() && !honest.has_left());
    }

    #[test]
    fn of_addresses_with_equally_many_the_oldest_occupant_leaves_whatever_its_address_is() {
        for honest in [1, 9] {
            let seats = Seats::new(Bounds { all: 3, per_network: 3, movable: 3 });
            let attackers = [guest(false), guest(false), guest(false)];
            let mut held: Vec<_> = attackers
                .iter()
                .zip(3..)
                .map(|(one, n)| seats.take(network(n), Arc::clone(one)).expect("a seat"))
                .collect();
            let newcomer = guest(false);
            held.push(seats.take(network(honest), Arc::clone(&newcomer)).expect("a seat"));
            held.push(seats.take(network(7), guest(false)).expect("a seat"));
            assert!(attackers[0].has_left() && attackers[1].has_left() && !newcomer.has_left(), "{honest}");
        }
    }

    #[test]
    fn whoever_is_proven_stays_and_where_all_are_the_newcomer_is_refused() {
        let seats = Seats::new(Bounds { all: 2, per_network: 2, movable: 2 });
        let guests = [guest(true), guest(false)];
        let _held: Vec<_> =
            guests.iter().map(|guest| seats.take(network(1), Arc::clone(guest)).expect("a seat").0).collect();
        let (_seat, _) = seats.take(network(2), guest(true)).expect("a seat");
        assert!(!guests[0].has_left() && guests[1].has_left());
        assert!(matches!(seats.take(network(3), guest(false)), Err(Full::All)));
    }

    #[test]
    fn whoever_is_proven_and_idle_leaves_when_there_is_no_stranger() {
        let seats = Seats::new(Bounds { all: 2, per_network: 2, movable: 2 });
        let (busy, idle) = (guest(true), guest(true));
        let _held = [&busy, &idle].map(|guest| seats.take(network(1), Arc::clone(guest)).expect("a seat").0);
        assert!(matches!(seats.take(network(2), guest(false)), Err(Full::All)));
        idle.idle.store(true, Ordering::Relaxed);
        let stranger = guest(false);
        let (_seat, _) = seats.take(network(2), Arc::clone(&stranger)).expect("a seat");
        assert!(idle.has_left() && !busy.has_left() && !stranger.has_left());
    }

    #[test]
    fn a_user_with_many_seats_keeps_nobody_out_and_nobody_loses_the_only_one() {
        let of = |user| Arc::new(Guest { proven: true.into(), user: Some(UserId(user)), ..Guest::default() });
        let seats = Seats::new(Bounds { all: 4, per_network: 4, movable: 4 });
        let (honest, greedy) = (of(1), [of(2), of(2), of(2)]);
        let mut held = vec![seats.take(network(1), Arc::clone(&honest)).expect("a seat").0];
        for (one, n) in greedy.iter().zip(2..) {
            held.push(seats.take(network(n), Arc::clone(one)).expect("a seat").0);
        }
        for (left, n) in greedy.iter().zip(5..7) {
            held.push(seats.take(network(n), of(i64::from(n))).expect("a seat").0);
            assert!(left.has_left() && !honest.has_left());
        }
        assert!(matches!(seats.take(network(9), of(9)), Err(Full::All)), "four users with one seat each");
        assert!(!greedy[2].has_left());
    }

    #[test]
    fn an_address_with_too_many_makes_room_among_its_own() {
        let seats = Seats::new(Bounds { all: 9, per_network: 2, movable: 9 });
        let guests = [guest(false), guest(false), guest(false)];
        let _other = seats.take(network(1), Arc::clone(&guests[0])).expect("a seat");
        let _first = seats.take(network(2), Arc::clone(&guests[1])).expect("a seat");
        let _second = seats.take(network(2), Arc::clone(&guests[2])).expect("a seat");
        let (_third, full) = seats.take(network(2), guest(false)).expect("a seat");
        assert_eq!(full, Some(Full::Network));
        assert!(guests[1].has_left() && !guests[0].has_left() && !guests[2].has_left());
    }

    #[test]
    fn strangers_have_fewer_seats_than_there_are_and_a_seat_that_is_left_is_free() {
        let seats = Seats::new(Bounds { all: 9, per_network: 9, movable: 1 });
        let first = guest(false);
        let seat = seats.take(network(1), Arc::clone(&first)).expect("a seat");
        drop(seat);
        let second = guest(false);
        let (moved, full) = seats.take(network(1), Arc::clone(&second)).expect("a seat");
        assert_eq!(full, None);
        let third = guest(false);
        let (_newest, full) = seats.take(network(1), Arc::clone(&third)).expect("a seat");
        assert_eq!(full, Some(Full::All));
        assert!(second.has_left() && !first.has_left());
        drop(moved);
        let (_seat, full) = seats.take(network(1), guest(false)).expect("a seat");
        assert_eq!(full, Some(Full::All), "a seat that was taken away frees no other when it is dropped");
        assert!(third.has_left());
    }
}
