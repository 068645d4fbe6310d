//! What all shards know in common: the packs and the ticket keys.
//!
//! A [`Catalogue`] never changes. A change makes a new one and raises the version, which a shard compares at every
//! datagram with one atomic load; only when it differs is the lock taken. Which extents of a pack are held changes
//! within the pack, and needs no new catalogue.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use braidcast_io::Waker;
use braidcast_media::AssetId;
use braidcast_media::ticket::TicketKey;

use crate::pack::Pack;

/// What there is to serve, and the keys of those who may ask for it.
#[derive(Clone, Default)]
pub(crate) struct Catalogue {
    pub(crate) packs: HashMap<AssetId, Arc<Pack>>,
    /// Newest first.
    pub(crate) ticket_keys: Vec<Arc<TicketKey>>,
}

/// The newest catalogue.
#[derive(Default)]
pub(crate) struct Shelf {
    version: AtomicU64,
    newest: Mutex<Arc<Catalogue>>,
    wakers: OnceLock<Vec<Waker>>,
}

impl Shelf {
    /// Names the shards that are woken by a change, so that none keeps a dropped pack mapped while it is idle.
    pub(crate) fn on_shards_started(&self, wakers: Vec<Waker>) {
        let _ = self.wakers.set(wakers);
    }

    /// The newest catalogue.
    pub(crate) fn newest(&self) -> Arc<Catalogue> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes the catalogue for everyone.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Catalogue)) {
        {
            let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
            change(Arc::make_mut(&mut newest));
            self.version.fetch_add(1, Ordering::Release);
        }
        for waker in self.wakers.get().into_iter().flatten() {
            waker.wake();
        }
    }
}

/// One shard's view of the shelf.
pub(crate) struct Reader {
    shelf: Arc<Shelf>,
    version: u64,
    catalogue: Arc<Catalogue>,
}

impl Reader {
    pub(crate) fn new(shelf: Arc<Shelf>) -> Self {
        Self { catalogue: Arc::default(), version: 0, shelf }
    }

    /// Takes the newest catalogue; says whether it is another than before.
    pub(crate) fn refresh(&mut self) -> bool {
        // The version is read first: should a change slip in behind it, the next refresh finds it.
        let version = self.shelf.version.load(Ordering::Acquire);
        if version == self.version {
            return false;
        }
        self.version = version;
        self.catalogue = self.shelf.newest();
        true
    }

    pub(crate) fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }
}
