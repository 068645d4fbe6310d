//! A table with a bound: what was used least recently goes first.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

/// Values by key.
#[derive(Debug)]
pub(crate) struct Recent<K, V> {
    entries_max: usize,
    entries: HashMap<K, (u64, V)>,
    /// Keys by the turn in which they were used last.
    order: BTreeMap<u64, K>,
    turn: u64,
}

impl<K: Clone + Eq + Hash, V> Recent<K, V> {
    pub(crate) fn new(entries_max: usize) -> Self {
        Self { entries_max, entries: HashMap::new(), order: BTreeMap::new(), turn: 0 }
    }

    /// The value of `key`. Looking does not count as use.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    /// The value of `key`, which becomes `fresh()` if there is none.
    pub(crate) fn get_or(&mut self, key: &K, fresh: impl FnOnce() -> V) -> &mut V {
        self.turn += 1;
        match self.entries.get(key) {
            Some((turn, _)) => {
                self.order.remove(turn);
            }
            None if self.entries.len() >= self.entries_max => {
                if let Some((_, oldest)) = self.order.pop_first() {
                    self.entries.remove(&oldest);
                }
            }
            None => {}
        }
        self.order.insert(self.turn, key.clone());
        let entry = self.entries.entry(key.clone()).or_insert_with(|| (0, fresh()));
        entry.0 = self.turn;
        &mut entry.1
    }

    /// Forgets what does not pass.
    pub(crate) fn retain(&mut self, keep: impl Fn(&K, &V) -> bool) {
        let order = &mut self.order;
        self.entries.retain(|key, (turn, value)| {
            let kept = keep(key, value);
            if !kept {
                order.remove(turn);
            }
            kept
        });
    }

    /// Forgets what is known of this key.
    pub(crate) fn remove(&mut self, key: &K) {
        if let Some((turn, _)) = self.entries.remove(key) {
            self.order.remove(&turn);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries.iter().map(|(key, (_, value))| (key, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_makes_room() {
        let mut table = Recent::new(2);
        *table.get_or(&"a", || 0) += 1;
        table.get_or(&"b", || 0);
        *table.get_or(&"a", || 0) += 1;
        table.get_or(&"c", || 0);
        assert_eq!((table.get(&"a"), table.get(&"b"), table.get(&"c")), (Some(&2), None, Some(&0)));
        table.retain(|key, _| *key == "c");
        table.remove(&"c");
        assert_eq!((table.iter().count(), table.order.len()), (0, 0));
    }
}
