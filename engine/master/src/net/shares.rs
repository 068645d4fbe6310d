//! Shares of something that callers use together, bounded in all and for each of them. Reads no clock.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};

use crate::sync::lock;

/// How many shares there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShareBounds {
    pub(crate) all: usize,
    /// For one holder.
    pub(crate) each: usize,
}

/// Which bound left no share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spent {
    All,
    Own,
}

/// All shares of one kind, by holder.
pub(crate) struct Shares<K> {
    bounds: ShareBounds,
    state: Mutex<State<K>>,
}

struct State<K> {
    taken: usize,
    by_holder: HashMap<K, usize>,
}

/// A share that is taken until this is dropped.
pub(crate) struct Share<K: Eq + Hash> {
    shares: Arc<Shares<K>>,
    holder: K,
}

impl<K: Clone + Eq + Hash> Shares<K> {
    pub(crate) fn new(bounds: ShareBounds) -> Arc<Self> {
        Arc::new(Self { bounds, state: Mutex::new(State { taken: 0, by_holder: HashMap::new() }) })
    }

    /// Takes a share for `holder`, or tells which bound leaves none.
    pub(crate) fn take(self: &Arc<Self>, holder: K) -> Result<Share<K>, Spent> {
        let mut state = lock(&self.state);
        if state.by_holder.get(&holder).is_some_and(|own| *own >= self.bounds.each) {
            return Err(Spent::Own);
        }
        if state.taken >= self.bounds.all {
            return Err(Spent::All);
        }
        state.taken += 1;
        *state.by_holder.entry(holder.clone()).or_default() += 1;
        drop(state);
        Ok(Share { shares: Arc::clone(self), holder })
    }
}

impl<K: Eq + Hash> Drop for Share<K> {
    fn drop(&mut self) {
        let mut state = lock(&self.shares.state);
        state.taken -= 1;
        if let Some(own) = state.by_holder.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                state.by_holder.remove(&self.holder);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_holder_cannot_take_the_shares_of_others_and_what_is_left_is_free() {
        let shares = Shares::new(ShareBounds { all: 3, each: 2 });
        let first = shares.take("anna").expect("a share");
        let _second = shares.take("anna").expect("a share");
        assert_eq!(shares.take("anna").err(), Some(Spent::Own));
        let _third = shares.take("ben").expect("a share");
        assert_eq!(shares.take("carl").err(), Some(Spent::All));
        drop(first);
        assert!(shares.take("anna").is_ok());
        assert_eq!(lock(&shares.state).by_holder.len(), 2, "holders of nothing are forgotten");
    }
}
