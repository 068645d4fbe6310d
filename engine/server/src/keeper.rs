//! What this server keeps: the packs in its folder, the master's orders for them, and the fills under way.
//!
//! All changes of names and entries happen under one lock; hashing and copying happen outside of it. A fill ends
//! under the same lock that finds an extent rotten, so none is lost between the two. What may be deleted is decided in
//! `drops`, `guard` and `room`.

mod drops;
mod guard;
mod opening;
mod room;
mod spare;
#[cfg(test)]
mod tests;

pub(crate) use guard::TooMuch;
pub(crate) use spare::Pin;

use std::collections::{BTreeSet, HashMap};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use braidcast_media::{AssetId, PackLayout};
use braidcast_proto::v1::Holding;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::task::AbortHandle;
use tracing::{error, info, warn};

use crate::catalogue::{Packs, Shelf};
use crate::config::ServerConfig;
use crate::error::ServerError;
use crate::fill::{self, FillError};
use crate::folder::{Folder, Stage};
use crate::keeper::drops::Protection;
use crate::keeper::room::Need;
use crate::limits;
use crate::master::Master;
use crate::open_packs::OpenPacks;
use crate::order::Order;
use crate::pack::{Pack, PackFault};

/// The packs of one server.
pub(crate) struct Keeper {
    folder: Folder,
    bounds: Bounds,
    /// The heartbeat stream to the master stands.
    is_heard: AtomicBool,
    shelf: Arc<Shelf>,
    master: Master,
    runtime: Handle,
    entries: Mutex<HashMap<AssetId, Entry>>,
    /// Locked after `entries`, where both are.
    protection: Mutex<Protection>,
    fills: Semaphore,
    open_packs: Arc<OpenPacks>,
    changed: Notify,
    /// Of which assets what is held changed since the last report.
    changes: Mutex<BTreeSet<AssetId>>,
    /// Bytes that the packs of the entries take on the disk; changed under their lock.
    used_bytes: AtomicU64,
    /// Dropped after `folder`, whose lock is gone by then: whoever listens may open the folder again.
    _user: mpsc::Sender<Infallible>,
}

/// What a server may keep, and for how long at least.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Bytes of packs; `None`: as many as the disk takes.
    capacity_bytes: Option<u64>,
    /// How long a copy must have been spare before it may go.
    spare_for: Duration,
}

impl Bounds {
    pub(crate) fn of(config: &ServerConfig) -> Self {
        let ServerConfig { capacity_bytes, spare_for, .. } = *config;
        Self { capacity_bytes: (capacity_bytes > 0).then_some(capacity_bytes), spare_for }
    }
}

/// One asset.
struct Entry {
    /// Why it is kept; nothing for what stood in the folder at the start until the master orders it again.
    order: Option<Arc<Order>>,
    pack: Option<Arc<Pack>>,
    stage: Stage,
    /// Its extents were hashed since the file was opened, or it was whole then.
    checked: bool,
    /// Why filling does not go on.
    error: String,
    /// `error` says that bytes of the origin do not match their hashes.
    origin_damaged: bool,
    /// Since when the copy is held more often than is wanted, and goes when its room is needed.
    spare: Option<Instant>,
    /// Shared with every [`Pin`]: while there is one, the copy does not go to make room.
    pins: Arc<()>,
    fill: Option<AbortHandle>,
}

/// How a fill ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Finish {
    /// The pack stands under its name.
    Whole,
    /// Extents were found rotten meanwhile.
    MoreToFill,
    /// The pack was dropped or replaced.
    Superseded,
}

impl Keeper {
    /// Takes in what stands in `folder`. Packs that were whole are served at once: each of their extents was checked
    /// against a header that the master vouched for before the pack got its name.
    pub(crate) fn open(
        folder: Folder,
        bounds: Bounds,
        shelf: Arc<Shelf>,
        open_packs: Arc<OpenPacks>,
        master: Master,
        user: mpsc::Sender<Infallible>,
    ) -> Result<Arc<Self>, ServerError> {
        let at = |source| ServerError::State { path: folder.path().to_owned(), source };
        let entries = opening::take_in(&folder, &open_packs).map_err(at)?;
        let packs = entries.iter().filter_map(|(asset, entry)| Some((*asset, Arc::clone(entry.pack.as_ref()?))));
        let packs: Packs = packs.collect();
        let used_bytes = packs.values().map(|pack| pack.layout().disk_bytes()).sum();
        shelf.update(|catalogue| catalogue.packs = packs);
        let protection = Protection::with_aside(folder.aside().map_err(at)?);
        if let Some(line) = protection.aside_line(&folder.aside_dir()) {
            warn!("{line}");
        }
        Ok(Arc::new(Self {
            folder,
            bounds,
            is_heard: AtomicBool::new(false),
            shelf,
            master,
            runtime: Handle::current(),
            entries: Mutex::new(entries),
            protection: Mutex::new(protection),
            fills: Semaphore::new(limits::SMALL_FILLS_MAX),
            open_packs,
            changed: Notify::new(),
            changes: Mutex::default(),
            used_bytes: AtomicU64::new(used_bytes),
            _user: user,
        }))
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    pub(crate) fn master(&self) -> &Master {
        &self.master
    }

    /// Bounds the fills under way; see [`Order::fill_permits`].
    pub(crate) fn fills(&self) -> &Semaphore {
        &self.fills
    }

    /// Waits until what is held changes.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What is held of `asset` changed, or why it is not.
    pub(crate) fn on_change(&self, asset: AssetId) {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner).insert(asset);
        self.changed.notify_one();
    }

    /// The assets of which what is held changed since the last call.
    pub(crate) fn take_changes(&self) -> BTreeSet<AssetId> {
        std::mem::take(&mut self.changes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Holds what the master wants held; fills what is missing of it.
    pub(crate) fn hold(self: &Arc<Self>, order: Order) {
        let mut entries = self.lock();
        let entry = entries.entry(order.asset).or_insert_with(Entry::wanted);
        if entry.pack.as_ref().is_some_and(|pack| *pack.header_hash() != order.header_hash) {
            warn!(asset = %order.asset, "the pack here is not the one that the master vouches for; filling it anew");
            entry.stop_fill();
            self.put_away(order.asset, entry);
        }
        entry.spare = None;
        if entry.order.as_deref() != Some(&order) {
            entry.stop_fill();
            entry.clear_error();
            self.on_change(order.asset);
            entry.order = Some(Arc::new(order));
        }
        self.go_on_filling(entry);
    }

    /// The pack of `asset`.
    pub(crate) fn pack(&self, asset: AssetId) -> Option<Arc<Pack>> {
        self.lock().get(&asset)?.pack.clone()
    }

    /// All assets of which there is a pack, whole or not.
    pub(crate) fn assets(&self) -> Vec<AssetId> {
        self.lock().iter().filter(|(_, entry)| entry.pack.is_some()).map(|(asset, _)| *asset).collect()
    }

    /// Whether `pack` has not been dropped or replaced.
    pub(crate) fn keeps(&self, pack: &Arc<Pack>) -> bool {
        self.lock().get(&pack.asset()).is_some_and(|entry| entry.has(pack))
    }

    /// The pack that `order` asks for, and whether its extents were checked since it was opened.
    pub(crate) fn pack_to_fill(&self, order: &Order) -> Option<(Arc<Pack>, bool)> {
        let entries = self.lock();
        let entry = entries.get(&order.asset)?;
        Some((Arc::clone(entry.pack.as_ref()?), entry.checked))
    }

    /// Makes the file for a pack whose header was checked; nothing if the order does not stand any more.
    pub(crate) fn begin(
        &self,
        order: &Arc<Order>,
        header: &[u8],
        layout: &PackLayout,
    ) -> Result<Option<Arc<Pack>>, FillError> {
        let mut entries = self.lock();
        let Some(entry) = entries.get(&order.asset).filter(|entry| entry.stands(order)) else {
            return Ok(None);
        };
        if let Some(pack) = &entry.pack {
            // An attempt that was broken off got here first.
            return Ok(Some(Arc::clone(pack)));
        }
        self.make_room(&mut entries, order.asset, Need::of_new(layout.disk_bytes()))?;
        let Some(entry) = entries.get_mut(&order.asset) else { return Ok(None) };
        let path = self.folder.pack_path(order.asset, Stage::Filling);
        let pack = Pack::create(&path, header, &self.open_packs)
            .map(Arc::new)
            .map_err(|fault| FillError::disk(&path, fault))?;
        self.used_bytes.fetch_add(layout.disk_bytes(), Ordering::Relaxed);
        entry.pack = Some(Arc::clone(&pack));
        entry.stage = Stage::Filling;
        entry.checked = true;
        self.shelf.update(|catalogue| drop(catalogue.packs.insert(order.asset, Arc::clone(&pack))));
        Ok(Some(pack))
    }

    /// The extents in the pack's file were hashed.
    pub(crate) fn on_checked(&self, pack: &Arc<Pack>) {
        if let Some(entry) = self.lock().get_mut(&pack.asset()).filter(|entry| entry.has(pack)) {
            entry.checked = true;
        }
        self.on_change(pack.asset());
    }

    /// Gives a pack whose every extent is there its name.
    pub(crate) fn finish(&self, pack: &Arc<Pack>) -> Result<Finish, FillError> {
        let path = self.folder.pack_path(pack.asset(), Stage::Whole);
        pack.sync().map_err(|fault| FillError::disk(&path, fault))?;
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&pack.asset()).filter(|entry| entry.has(pack)) else {
            return Ok(Finish::Superseded);
        };
        if !pack.is_whole() {
            return Ok(Finish::MoreToFill);
        }
        //= PROTOCOL K1: A pack MUST appear under its name complete or not at all.
        // Not made durable: should the system go down and the name be lost, the pack is hashed again as one that was
        // being filled. Others need not wait for the disk meanwhile.
        self.folder
            .rename_pack(pack.asset(), Stage::Filling, Stage::Whole)
            .map_err(|error| FillError::disk(&path, error.into()))?;
        entry.stage = Stage::Whole;
        entry.clear_error();
        entry.fill = None;
        info!(asset = %pack.asset(), extents = pack.layout().extents(), "held in full");
        self.on_change(pack.asset());
        Ok(Finish::Whole)
    }

    /// An extent of `pack` was filled: whatever kept the fill from going on is over.
    pub(crate) fn on_filled(&self, pack: &Arc<Pack>) {
        if let Some(entry) = self.lock().get_mut(&pack.asset()).filter(|entry| entry.has(pack)) {
            entry.clear_error();
        }
        self.on_change(pack.asset());
    }

    /// Tells the master, with the next report, why a fill does not go on.
    pub(crate) fn on_fill_error(&self, order: &Arc<Order>, fault: &FillError) {
        if let Some(entry) = self.lock().get_mut(&order.asset).filter(|entry| entry.stands(order)) {
            entry.error = fault.to_string();
            entry.origin_damaged = fault.blames_the_origin();
        }
        self.on_change(order.asset);
    }

    /// These extents of `pack` are not what they should be: they are served no longer, and filled again.
    pub(crate) fn on_rotten(self: &Arc<Self>, pack: &Arc<Pack>, extents: &[u32]) {
        let mut entries = self.lock();
        let Some(entry) = entries.get_mut(&pack.asset()).filter(|entry| entry.has(pack)) else {
            return;
        };
        let forsaken = extents.iter().filter(|extent| pack.forsake(**extent)).count();
        if forsaken == 0 {
            return;
        }
        warn!(asset = %pack.asset(), extents = forsaken, "extents are rotten; filling them again");
        if entry.stage == Stage::Whole {
            entry.stage = Stage::Filling;
            if let Err(error) = self.folder.move_pack(pack.asset(), Stage::Whole, Stage::Filling) {
                error!(asset = %pack.asset(), %error, "a damaged pack keeps the name of a whole one");
            }
        }
        self.go_on_filling(entry);
        self.on_change(pack.asset());
    }

    /// Bytes that packs take on the disk when they are whole.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes.load(Ordering::Relaxed)
    }

    /// Bytes of packs that this server was given room for.
    pub(crate) fn capacity_bytes(&self) -> u64 {
        self.bounds.capacity_bytes.unwrap_or_else(|| self.used_bytes() + self.free_bytes())
    }

    /// All assets that are held or wanted, in the order of their ids.
    pub(crate) fn known(&self) -> BTreeSet<AssetId> {
        self.lock().keys().copied().collect()
    }

    /// What is held of `asset`, as the master wants to hear it; `None` if it is neither held nor wanted.
    pub(crate) fn holding(&self, asset: AssetId) -> Option<Holding> {
        Some(self.lock().get(&asset)?.holding(asset))
    }

    /// Stops every fill.
    pub(crate) fn stop(&self) {
        self.fills.close();
        for entry in self.lock().values_mut() {
            entry.stop_fill();
        }
    }

    fn go_on_filling(self: &Arc<Self>, entry: &mut Entry) {
        let running = entry.fill.as_ref().is_some_and(|fill| !fill.is_finished());
        let whole = entry.stage == Stage::Whole && entry.pack.as_ref().is_some_and(|pack| pack.is_whole());
        if running || whole || self.fills.is_closed() {
            return;
        }
        if let Some(order) = &entry.order {
            let task = self.runtime.spawn(fill::run(Arc::clone(self), Arc::clone(order)));
            entry.fill = Some(task.abort_handle());
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AssetId, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn protection(&self) -> MutexGuard<'_, Protection> {
        self.protection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn wanted() -> Self {
        Self {
            order: None,
            pack: None,
            stage: Stage::Filling,
            checked: false,
            error: String::new(),
            origin_damaged: false,
            spare: None,
            pins: Arc::default(),
            fill: None,
        }
    }

    fn found(pack: Pack, stage: Stage) -> Self {
        Self { pack: Some(Arc::new(pack)), stage, checked: stage == Stage::Whole, ..Self::wanted() }
    }

    fn has(&self, pack: &Arc<Pack>) -> bool {
        self.pack.as_ref().is_some_and(|own| Arc::ptr_eq(own, pack))
    }

    fn stands(&self, order: &Arc<Order>) -> bool {
        self.order.as_ref().is_some_and(|own| Arc::ptr_eq(own, order))
    }

    fn clear_error(&mut self) {
        self.error.clear();
        self.origin_damaged = false;
    }

    fn disk_bytes(&self) -> u64 {
        self.pack.as_ref().map_or(0, |pack| pack.layout().disk_bytes())
    }

    fn stop_fill(&mut self) {
        if let Some(fill) = self.fill.take() {
            fill.abort();
        }
    }

    fn holding(&self, asset: AssetId) -> Holding {
        let (held, total) = match (&self.pack, &self.order) {
            (Some(pack), _) => (pack.held().count().into(), pack.layout().extents().into()),
            (None, Some(order)) => (0, order.extents()),
            (None, None) => (0, 0),
        };
        Holding {
            asset: asset.0,
            extents_held: held,
            extents_total: total,
            error: self.error.clone(),
            origin_damaged: self.origin_damaged,
        }
    }
}

fn open_pack(folder: &Folder, open_packs: &Arc<OpenPacks>, asset: AssetId, stage: Stage) -> Result<Pack, PackFault> {
    let path = folder.pack_path(asset, stage);
    let pack = match stage {
        Stage::Whole => Pack::open_whole(&path, open_packs),
        Stage::Filling => Pack::open_filling(&path, open_packs),
    }?;
    if pack.asset() == asset { Ok(pack) } else { Err(PackFault::OtherAsset { found: pack.asset() }) }
}
