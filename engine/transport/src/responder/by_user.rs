//! Which user holds how many sessions, and in which order these were heard.
//!
//! A [`super::Responder`] keeps two tables so: all its sessions, and those that have not pulled yet. When a table is full,
//! [`ByUser::leaves_for`] says whose session leaves for a newcomer. Adding and removing cost the logarithm of the number of
//! users. [`ByUser::on_heard`], which every PULL calls, costs a few loads and stores and never allocates. Nothing here
//! reads a clock: the order of the calls is the order of time.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};

use slab::Slab;

/// Where a session stands in a [`ByUser`]; valid from [`ByUser::insert`] until [`ByUser::remove`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place(usize);

/// Sessions, in a list for each user: the one that was silent for longest first.
#[derive(Default)]
pub(super) struct ByUser {
    sessions: Slab<Listed>,
    users: Slab<User>,
    /// Where in `users` the master's number of a user stands.
    numbers: HashMap<u64, usize>,
    /// All users, who holds the most sessions last; of equals last who has held as many for longest.
    ranks: BTreeSet<Rank>,
    changes: u64,
}

impl ByUser {
    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Adds a session, which was heard just now.
    pub(super) fn insert(&mut self, number: u64, handle: u64) -> Place {
        let user = *self.numbers.entry(number).or_insert_with(|| {
            self.users.insert(User { number, sessions: 0, since: 0, longest_silent: NONE, last_heard: NONE })
        });
        let place = Place(self.sessions.insert(Listed { handle, user, before: NONE, behind: NONE }));
        self.append(place);
        self.recount(user, self.users[user].sessions + 1);
        place
    }

    /// A session was heard: of its user's sessions it is now the one that was silent for the shortest time.
    pub(super) fn on_heard(&mut self, place: Place) {
        if self.sessions[place.0].behind != NONE {
            self.unlink(place);
            self.append(place);
        }
    }

    /// Removes a session.
    pub(super) fn remove(&mut self, place: Place) {
        self.unlink(place);
        let user = self.sessions.remove(place.0).user;
        self.recount(user, self.users[user].sessions - 1);
    }

    /// The handle of the session that leaves, where the table is full, for another session of user `number`. It is the
    /// one that was silent for longest, of the user who holds the most sessions if that user still has at least as many
    /// as the newcomer's user then has, else of the newcomer's user. `None`: the newcomer's user has no session, and
    /// nobody has two.
    pub(super) fn leaves_for(&self, number: u64) -> Option<u64> {
        let most = self.holds_most()?;
        let own = self.numbers.get(&number).map(|&user| &self.users[user]);
        let own_sessions = own.map_or(0, |user| user.sessions);
        let gives_way = if most.sessions > own_sessions + 1 { most } else { own? };
        Some(self.sessions[gives_way.longest_silent].handle)
    }

    /// The handle of the session that was silent for longest, of the user who holds the most. `None`: there is no session.
    pub(super) fn longest_silent_of_most(&self) -> Option<u64> {
        Some(self.sessions[self.holds_most()?.longest_silent].handle)
    }

    fn holds_most(&self) -> Option<&User> {
        self.ranks.last().map(|rank| &self.users[rank.user])
    }

    fn append(&mut self, place: Place) {
        let listed = &mut self.sessions[place.0];
        let user = &mut self.users[listed.user];
        let before = std::mem::replace(&mut user.last_heard, place.0);
        (listed.before, listed.behind) = (before, NONE);
        match self.sessions.get_mut(before) {
            Some(before) => before.behind = place.0,
            None => user.longest_silent = place.0,
        }
    }

    fn unlink(&mut self, place: Place) {
        let Listed { user, before, behind, .. } = self.sessions[place.0];
        match self.sessions.get_mut(before) {
            Some(session) => session.behind = behind,
            None => self.users[user].longest_silent = behind,
        }
        match self.sessions.get_mut(behind) {
            Some(session) => session.before = before,
            None => self.users[user].last_heard = before,
        }
    }

    fn recount(&mut self, at: usize, sessions: u32) {
        self.changes += 1;
        let user = &mut self.users[at];
        self.ranks.remove(&user.rank(at));
        (user.sessions, user.since) = (sessions, self.changes);
        if sessions > 0 {
            self.ranks.insert(user.rank(at));
        } else {
            self.numbers.remove(&user.number);
            self.users.remove(at);
        }
    }
}

/// A session in the list of its user.
struct Listed {
    handle: u64,
    user: usize,
    /// The session of the same user that was silent for the next longer time, or [`NONE`].
    before: usize,
    /// The session of the same user that was silent for the next shorter time, or [`NONE`].
    behind: usize,
}

/// A user who holds sessions.
struct User {
    number: u64,
    sessions: u32,
    /// The change that made `sessions` what it is.
    since: u64,
    longest_silent: usize,
    last_heard: usize,
}

impl User {
    fn rank(&self, user: usize) -> Rank {
        Rank { sessions: self.sessions, since: Reverse(self.since), user }
    }
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    sessions: u32,
    since: Reverse<u64>,
    user: usize,
}

/// No place: a slab never has as many.
const NONE: usize = usize::MAX;

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::test_runner::{Config, RngSeed};

    use super::*;

    /// The same by plain search: all sessions, the one that was silent for longest first.
    #[derive(Default)]
    struct Model(Vec<(u64, u64, Place)>);

    impl Model {
        fn of(&self, user: u64) -> impl Iterator<Item = u64> {
            self.0.iter().filter(move |(other, ..)| *other == user).map(|(_, handle, _)| *handle)
        }

        fn most(&self) -> usize {
            self.0.iter().map(|(user, ..)| self.of(*user).count()).max().unwrap_or(0)
        }

        /// The sessions that may leave: several users can hold equally many.
        fn may_leave_for(&self, user: u64) -> Vec<u64> {
            let (most, own) = (self.most(), self.of(user).count());
            if most <= own + 1 {
                return self.of(user).take(1).collect();
            }
            let greedy = self.0.iter().filter(|(user, ..)| self.of(*user).count() == most);
            greedy.filter_map(|(user, ..)| self.of(*user).next()).collect()
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u64),
        Heard(prop::sample::Index),
        Remove(prop::sample::Index),
        Displace(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        // Few users of whom the first is greedy, so that their numbers of sessions are often equal and often not.
        let user = || prop_oneof![2 => Just(0_u64), 3 => 0..6_u64];
        prop_oneof![
            4 => user().prop_map(Op::Insert),
            3 => any::<prop::sample::Index>().prop_map(Op::Heard),
            2 => any::<prop::sample::Index>().prop_map(Op::Remove),
            2 => user().prop_map(Op::Displace),
        ]
    }

    proptest! {
        #![proptest_config(Config { cases: 300, rng_seed: RngSeed::Fixed(7), failure_persistence: None, ..Config::default() })]

        #[test]
        fn counts_and_order_are_those_of_a_plain_search_after_any_operations(ops in vec(op(), 1..120)) {
            let (mut table, mut model, mut handle) = (ByUser::default(), Model::default(), 0);
            for op in ops {
                match op {
                    Op::Insert(user) => {
                        handle += 1;
                        model.0.push((user, handle, table.insert(user, handle)));
                    }
                    Op::Heard(which) if !model.0.is_empty() => {
                        let session = model.0.remove(which.index(model.0.len()));
                        table.on_heard(session.2);
                        model.0.push(session);
                    }
                    Op::Remove(which) if !model.0.is_empty() => {
                        table.remove(model.0.remove(which.index(model.0.len())).2);
                    }
                    Op::Displace(user) => {
                        let leaves = table.leaves_for(user);
                        let may_leave = model.may_leave_for(user);
                        prop_assert!(leaves.map_or(may_leave.is_empty(), |leaves| may_leave.contains(&leaves)));
                        if let Some(at) = model.0.iter().position(|(_, handle, _)| Some(*handle) == leaves) {
                            table.remove(model.0.remove(at).2);
                        }
                    }
                    Op::Heard(_) | Op::Remove(_) => {}
                }
                prop_assert_eq!(table.len(), model.0.len());
                prop_assert_eq!(table.holds_most().map_or(0, |user| user.sessions as usize), model.most());
                for user in 0..6 {
                    let listed = table.numbers.get(&user).map(|&at| &table.users[at]);
                    prop_assert_eq!(listed.map_or(0, |user| user.sessions as usize), model.of(user).count());
                    let first = listed.map(|user| table.sessions[user.longest_silent].handle);
                    prop_assert_eq!(first, model.of(user).next());
                }
                prop_assert_eq!(table.users.len(), table.numbers.len());
                prop_assert_eq!(table.users.len(), table.ranks.len());
            }
        }
    }

    #[test]
    fn a_session_that_is_heard_costs_no_allocation() {
        let mut table = ByUser::default();
        let places: Vec<_> = (0..100).map(|handle| table.insert(handle % 3, handle)).collect();
        let measured = allocation_counter::measure(|| places.iter().rev().for_each(|&place| table.on_heard(place)));
        assert_eq!(measured.count_total, 0);
        assert_eq!(table.sessions[table.users[0].longest_silent].handle, 99);
    }

    #[test]
    fn of_equals_the_one_who_has_held_as_many_for_longest_gives_way() {
        let mut table = ByUser::default();
        for (user, handle) in [(1, 10), (2, 20), (2, 21), (1, 11), (3, 30)] {
            table.insert(user, handle);
        }
        assert_eq!(table.leaves_for(9), Some(20));
        assert_eq!(table.longest_silent_of_most(), Some(20));
    }

    #[test]
    fn users_with_one_session_each_give_way_to_nobody_but_themselves() {
        let mut table = ByUser::default();
        assert_eq!(table.leaves_for(1), None);
        table.insert(1, 10);
        table.insert(2, 20);
        assert_eq!((table.leaves_for(3), table.leaves_for(1), table.leaves_for(2)), (None, Some(10), Some(20)));
        assert_eq!(table.longest_silent_of_most(), Some(10));
    }
}
