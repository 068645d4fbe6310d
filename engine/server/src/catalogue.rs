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
    pub(crate) packs: Packs,
    /// Newest first.
    pub(crate) ticket_keys: Vec<Arc<TicketKey>>,
}

/// Packs by their assets, in buckets that catalogues share: a change copies one bucket and not the whole table, which
/// would make filling a large library take a time that grows with its square.
#[derive(Clone)]
pub(crate) struct Packs {
    buckets: Box<[Arc<Bucket>]>,
}

type Bucket = HashMap<AssetId, Arc<Pack>>;

/// So many that a change of the largest library copies as much for its bucket as for the list of buckets.
const BUCKETS: usize = 256;

impl Packs {
    pub(crate) fn get(&self, asset: &AssetId) -> Option<&Arc<Pack>> {
        self.buckets[bucket(*asset)].get(asset)
    }

    pub(crate) fn insert(&mut self, asset: AssetId, pack: Arc<Pack>) -> Option<Arc<Pack>> {
        Arc::make_mut(&mut self.buckets[bucket(asset)]).insert(asset, pack)
    }

    pub(crate) fn remove(&mut self, asset: &AssetId) -> Option<Arc<Pack>> {
        Arc::make_mut(&mut self.buckets[bucket(*asset)]).remove(asset)
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &Arc<Pack>> {
        self.buckets.iter().flat_map(|bucket| bucket.values())
    }
}

impl Default for Packs {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Arc::default()).collect() }
    }
}

impl FromIterator<(AssetId, Arc<Pack>)> for Packs {
    fn from_iter<I: IntoIterator<Item = (AssetId, Arc<Pack>)>>(packs: I) -> Self {
        let mut all = Self::default();
        for (asset, pack) in packs {
            all.insert(asset, pack);
        }
        all
    }
}

/// Ids are drawn at random; the product spreads also those that are not.
fn bucket(asset: AssetId) -> usize {
    (asset.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (u64::BITS - BUCKETS.ilog2())) as usize
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

#[cfg(test)]
mod tests {
    use braidcast_media::PackLayout;
    use braidcast_media::pack::PackHeader;

    use super::*;
    use crate::open_packs::OpenPacks;

    #[test]
    fn a_change_is_seen_in_the_new_catalogue_alone_and_copies_one_bucket() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let open_packs = OpenPacks::new(1);
        let pack = |asset: u64| {
            let layout = PackLayout::of_file(0).expect("short file");
            let header = PackHeader { asset: AssetId(asset), layout, sealed_hashes: Vec::new() };
            let path = dir.path().join(asset.to_string());
            Arc::new(Pack::create(&path, &header.to_bytes(), &open_packs).expect("new pack"))
        };
        let shelf = Shelf::default();
        let packs: Packs = (0..100).map(|asset| (AssetId(asset), pack(asset))).collect();
        shelf.update(|catalogue| catalogue.packs = packs);
        let before = shelf.newest();
        shelf.update(|catalogue| {
            catalogue.packs.remove(&AssetId(7));
            catalogue.packs.insert(AssetId(100), pack(100));
        });
        let after = shelf.newest();
        assert_eq!((before.packs.values().count(), after.packs.values().count()), (100, 100));
        assert!(before.packs.get(&AssetId(7)).is_some() && after.packs.get(&AssetId(7)).is_none());
        assert!(before.packs.get(&AssetId(100)).is_none() && after.packs.get(&AssetId(100)).is_some());
        let pairs = before.packs.buckets.iter().zip(&after.packs.buckets);
        assert!(pairs.filter(|(a, b)| !Arc::ptr_eq(a, b)).count() <= 2);
    }
}
