//! Permits that callers wait for, bounded in all and for each holder: whoever keeps all of its own waits for them alone.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::net::shares::ShareBounds;
use crate::sync::lock;

/// All permits of one kind.
pub(crate) struct Permits<K> {
    all: Arc<Semaphore>,
    each: usize,
    /// Of those who hold a permit or wait for one, and of some who do no more.
    holders: Mutex<HashMap<K, Weak<Semaphore>>>,
}

/// A permit that is taken until this is dropped.
pub(crate) struct Permit {
    _own: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

impl<K: Eq + Hash> Permits<K> {
    pub(crate) fn new(bounds: ShareBounds) -> Self {
        Self { all: Arc::new(Semaphore::new(bounds.all)), each: bounds.each, holders: Mutex::default() }
    }

    /// Waits for a permit: those of one holder first, so that nobody waits in line for all behind somebody who has
    /// enough.
    pub(crate) async fn acquire(&self, holder: K) -> Permit {
        let own = self.of(holder);
        Permit { _own: acquire(own).await, _of_all: acquire(Arc::clone(&self.all)).await }
    }

    fn of(&self, holder: K) -> Arc<Semaphore> {
        let mut holders = lock(&self.holders);
        holders.retain(|_, own| own.strong_count() > 0);
        if let Some(own) = holders.get(&holder).and_then(Weak::upgrade) {
            return own;
        }
        let own = Arc::new(Semaphore::new(self.each));
        holders.insert(holder, Arc::downgrade(&own));
        own
    }
}

async fn acquire(semaphore: Arc<Semaphore>) -> OwnedSemaphorePermit {
    semaphore.acquire_owned().await.expect("it is never closed")
}

#[cfg(test)]
mod tests {
    use tokio::task::yield_now;

    use super::*;

    #[tokio::test]
    async fn whoever_holds_its_own_permits_keeps_nobody_else_waiting() {
        let permits = Arc::new(Permits::new(ShareBounds { all: 3, each: 2 }));
        let mut greedy = vec![permits.acquire("anna").await, permits.acquire("anna").await];
        let waiting = tokio::spawn({
            let permits = Arc::clone(&permits);
            async move { permits.acquire("anna").await }
        });
        yield_now().await;
        let honest = permits.acquire("ben").await;
        yield_now().await;
        assert!(!waiting.is_finished());
        greedy.pop();
        let third = waiting.await.expect("a permit");
        drop((greedy, honest, third));
        permits.acquire("carl").await;
        assert_eq!(lock(&permits.holders).len(), 1, "holders of nothing are forgotten");
    }
}
