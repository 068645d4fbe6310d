//! Who is next: a queue per key, served in turns. Reads no clock.
//!
//! Trusted keys and the others take turns, too: a trusted one never waits for more than one stranger at a time, however
//! many addresses they come from.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// How much may wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueBounds {
    /// Under one key.
    pub(crate) per_key: usize,
    /// Under all keys of one class.
    pub(crate) all: usize,
}

/// Whether a key is trusted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Class {
    Trusted,
    Stranger,
}

impl Class {
    fn other(self) -> Self {
        match self {
            Self::Trusted => Self::Stranger,
            Self::Stranger => Self::Trusted,
        }
    }
}

/// What waits, by key.
#[derive(Debug)]
pub(crate) struct Turns<K, W> {
    trusted: Ring<K, W>,
    strangers: Ring<K, W>,
    /// Whose turn it is first.
    next: Class,
}

impl<K: Clone + Eq + Hash, W> Turns<K, W> {
    pub(crate) fn new(bounds: QueueBounds) -> Self {
        Self { trusted: Ring::new(bounds), strangers: Ring::new(bounds), next: Class::Trusted }
    }

    /// Lets `waiter` wait under `key`; gives back whoever must leave: the newcomer if its own queue is full, else, if
    /// all queues together are, the oldest of the fullest queue.
    pub(crate) fn push(&mut self, class: Class, key: K, waiter: W) -> Option<W> {
        self.ring(class).push(key, waiter)
    }

    /// The next in turn.
    pub(crate) fn pop(&mut self) -> Option<W> {
        for class in [self.next, self.next.other()] {
            if let Some(waiter) = self.ring(class).pop() {
                self.next = class.other();
                return Some(waiter);
            }
        }
        None
    }

    /// Forgets those that no longer wait.
    pub(crate) fn retain(&mut self, waits: impl Fn(&W) -> bool) {
        self.trusted.retain(&waits);
        self.strangers.retain(&waits);
    }

    fn ring(&mut self, class: Class) -> &mut Ring<K, W> {
        match class {
            Class::Trusted => &mut self.trusted,
            Class::Stranger => &mut self.strangers,
        }
    }
}

/// Queues that are served one after the other. Each key in `order` has a queue that is not empty, and the reverse.
#[derive(Debug)]
struct Ring<K, W> {
    bounds: QueueBounds,
    queues: HashMap<K, VecDeque<W>>,
    order: VecDeque<K>,
    waiting: usize,
}

impl<K: Clone + Eq + Hash, W> Ring<K, W> {
    fn new(bounds: QueueBounds) -> Self {
        Self { bounds, queues: HashMap::new(), order: VecDeque::new(), waiting: 0 }
    }

    fn push(&mut self, key: K, waiter: W) -> Option<W> {
        let mine = self.queues.get(&key).map_or(0, VecDeque::len);
        if mine >= self.bounds.per_key {
            return Some(waiter);
        }
        let mut leaves = None;
        if self.waiting >= self.bounds.all {
            leaves = self.take_from_fullest();
        }
        self.queues
            .entry(key)
            .or_insert_with_key(|key| {
                self.order.push_back(key.clone());
                VecDeque::new()
            })
            .push_back(waiter);
        self.waiting += 1;
        leaves
    }

    /// The oldest of the fullest queue; of queues that are equally full, of the one whose turn it is first. A newcomer
    /// is never refused for others: whoever fills all queues must fill them again and again.
    fn take_from_fullest(&mut self) -> Option<W> {
        let fullest = self.queues.values().map(VecDeque::len).max()?;
        let at = self.order.iter().position(|key| self.queues[key].len() == fullest)?;
        let queue = self.queues.get_mut(&self.order[at])?;
        let waiter = queue.pop_front();
        if queue.is_empty() {
            let key = self.order.remove(at)?;
            self.queues.remove(&key);
        }
        self.waiting -= usize::from(waiter.is_some());
        waiter
    }

    fn pop(&mut self) -> Option<W> {
        let key = self.order.pop_front()?;
        let queue = self.queues.get_mut(&key)?;
        let waiter = queue.pop_front();
        self.waiting -= usize::from(waiter.is_some());
        if queue.is_empty() {
            self.queues.remove(&key);
        } else {
            self.order.push_back(key);
        }
        waiter
    }

    fn retain(&mut self, waits: impl Fn(&W) -> bool) {
        self.queues.retain(|_, queue| {
            queue.retain(&waits);
            !queue.is_empty()
        });
        self.order.retain(|key| self.queues.contains_key(key));
        self.waiting = self.queues.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::Class::{Stranger, Trusted};
    use super::*;

    fn turns(per_key: usize, all: usize) -> Turns<&'static str, u32> {
        Turns::new(QueueBounds { per_key, all })
    }

    fn all(turns: &mut Turns<&'static str, u32>) -> Vec<u32> {
        std::iter::from_fn(|| turns.pop()).collect()
    }

    #[test]
    fn addresses_are_served_in_turns_however_many_wait_at_one() {
        let mut turns = turns(9, 99);
        for n in 1..=4 {
            assert_eq!(turns.push(Stranger, "flood", n), None);
        }
        assert_eq!(turns.push(Stranger, "other", 10), None);
        assert_eq!(all(&mut turns), [1, 10, 2, 3, 4]);
    }

    #[test]
    fn a_trusted_one_waits_for_one_stranger_at_most() {
        let mut turns = turns(9, 99);
        for (n, key) in ["a", "b", "c"].into_iter().enumerate() {
            turns.push(Stranger, key, n as u32);
        }
        assert_eq!(turns.pop(), Some(0));
        turns.push(Trusted, "anna", 100);
        turns.push(Trusted, "ben", 101);
        assert_eq!(all(&mut turns), [100, 1, 101, 2]);
    }

    #[test]
    fn a_full_queue_refuses_its_own_and_of_full_queues_the_oldest_of_the_fullest_leaves() {
        let mut turns = turns(2, 3);
        assert_eq!(turns.push(Stranger, "a", 1), None);
        assert_eq!(turns.push(Stranger, "a", 2), None);
        assert_eq!(turns.push(Stranger, "a", 3), Some(3));
        assert_eq!(turns.push(Stranger, "b", 4), None);
        assert_eq!(turns.push(Stranger, "c", 5), Some(1), "the oldest of the fullest");
        assert_eq!(turns.push(Stranger, "d", 6), Some(2), "of equal queues the first, and never the newcomer");
        assert_eq!(turns.push(Trusted, "anna", 7), None, "strangers take nothing from the trusted");
        assert_eq!(all(&mut turns), [7, 4, 5, 6]);
    }

    #[test]
    fn whoever_gives_up_leaves_no_empty_turn() {
        let mut turns = turns(9, 99);
        for (n, key) in ["a", "b", "b", "c"].into_iter().enumerate() {
            turns.push(Stranger, key, n as u32);
        }
        turns.retain(|waiter| *waiter == 2);
        assert_eq!(all(&mut turns), [2]);
        assert_eq!(turns.strangers.waiting, 0);
    }
}
