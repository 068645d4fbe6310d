//! Healing: a durable copy that is lost or damaged is mended from a media server that holds a whole copy.
//!
//! ```text
//! found by       the start, the scrub, a fill that fails (`suspicions`)     library: damage of the asset
//! ordered        PushOrder to one server with a whole copy (`heals`)        what, and from whom
//! received       Origin.PushPack: every part is checked (`receive`)         ID.pack.partial, or in place (`writer`)
//! ```
//!
//! What stands in a pack's place and is known not to be that pack is moved aside first (`origin::place`). A pack that was found
//! unsound is marked beside it (`origin::marks`) until all of its extents are known to be right.
//!
//! Whole copies on media servers go on being served all the while.

mod check;
pub(crate) mod condition;
mod heals;
mod receive;
mod scrub;
mod suspicions;
mod writer;

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use braidcast_media::AssetId;
use braidcast_proto::v1;
use tokio::sync::{Notify, Semaphore};
use tonic::Streaming;

pub(crate) use self::suspicions::Suspicions;

use crate::cluster::Cluster;
use crate::errors::ServiceError;
use crate::healing::condition::{Damage, Request};
use crate::healing::heals::{Heals, Outcome};
use crate::healing::receive::Parts;
use crate::library::{Asset, Library};
use crate::limits::{CHECKS_MAX, HEAL_INTERVAL, PRESENCE_INTERVAL, RECHECK_AFTER};
use crate::origin::Origin;
use crate::origin::place::Moved;
use crate::state_dir::StateError;
use crate::sync::lock;

/// Finds out which durable copies are not sound, and mends them.
pub(crate) struct Healing {
    library: Arc<Library>,
    origin: Origin,
    cluster: Arc<Cluster>,
    suspicions: Arc<Suspicions>,
    heals: Mutex<Heals>,
    /// When the damage of each unsound asset was last looked at.
    rechecked: Mutex<HashMap<AssetId, Instant>>,
    /// Assets whose packs are being read to check them; they are not healed meanwhile.
    checking: Mutex<HashSet<AssetId>>,
    /// Bounds the packs that are read whole at a time.
    checks: Semaphore,
    /// Why the origin does not take the heal of an asset just now.
    hindrances: Mutex<HashMap<AssetId, String>>,
    /// Told when a heal has ended: small packs heal in milliseconds, and there may be thousands of them.
    freed: Notify,
}

/// Takes the packs for unsound that were when the master stopped: a start sees only lengths and headers.
///
/// # Errors
/// The origin's folder cannot be read.
pub(crate) fn recall(library: &Library, origin: &Origin) -> Result<(), StateError> {
    for asset in origin.marked()? {
        if !library.is_removed(asset) {
            library.set_damage(asset, Some(Damage::unchecked()));
        } else if let Err(error) = origin.unmark(asset) {
            tracing::warn!(%asset, %error, "the mark of a removed pack cannot be removed");
        }
    }
    Ok(())
}

/// Whether the pack of `asset` stands in its place with its length and header. Touches the disk.
pub(crate) fn has_outline(origin: &Origin, asset: &Asset) -> bool {
    matches!(check::outline(origin, asset), Ok(None))
}

impl Healing {
    pub(crate) fn new(
        library: Arc<Library>,
        origin: Origin,
        cluster: Arc<Cluster>,
        suspicions: Arc<Suspicions>,
    ) -> Arc<Self> {
        Arc::new(Self {
            library,
            origin,
            cluster,
            suspicions,
            heals: Mutex::default(),
            rechecked: Mutex::default(),
            checking: Mutex::default(),
            checks: Semaphore::new(CHECKS_MAX),
            hindrances: Mutex::default(),
            freed: Notify::new(),
        })
    }

    /// Orders heals for as long as it is polled.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut accused_at = Instant::now();
        let mut looked_at = Instant::now();
        loop {
            self.turn().await;
            tokio::select! {
                () = tokio::time::sleep(HEAL_INTERVAL) => {}
                () = self.freed.notified() => {}
            }
            if looked_at.elapsed() >= PRESENCE_INTERVAL {
                self.look_for_packs().await;
                looked_at = Instant::now();
            }
            if accused_at.elapsed() >= RECHECK_AFTER {
                // A server says once what it met: a check that was not due then is due now.
                self.cluster.accused().into_iter().for_each(|asset| self.suspect(asset));
                accused_at = Instant::now();
            }
        }
    }

    /// Suspects every asset whose pack is not there or has another length: a disk can be unmounted, and a file deleted,
    /// long before the scrub comes by.
    async fn look_for_packs(&self) {
        let (assets, origin) = (self.library.list(), self.origin.clone());
        let has_length = move |asset: &Asset| {
            std::fs::metadata(origin.path(asset.id)).is_ok_and(|file| file.len() == asset.layout.pack_bytes())
        };
        let looked = tokio::task::spawn_blocking(move || -> Vec<AssetId> {
            assets.iter().filter(|asset| !has_length(asset)).map(|asset| asset.id).collect()
        });
        // It fails only when the master stops.
        let missing = looked.await.unwrap_or_default();
        missing.into_iter().filter(|id| self.library.damage(*id).is_none()).for_each(|id| self.suspect(id));
    }

    /// Checks what is suspected, for as long as it is polled.
    pub(crate) async fn check_suspects(self: Arc<Self>) {
        loop {
            let asset = self.suspicions.next().await;
            self.check_whole(asset).await;
        }
    }

    /// Scrubs the origin for as long as it is polled.
    pub(crate) async fn scrub(self: Arc<Self>, bytes_s: u64) {
        scrub::run(self, bytes_s).await;
    }

    /// A read of the pack of `asset` failed: has it checked soon.
    pub(crate) fn suspect(&self, asset: AssetId) {
        self.suspicions.suspect(Instant::now(), asset);
    }

    /// What to answer to a client whose window needs an index that could not be read. While the index can be healed the
    /// client is asked to come back.
    pub(crate) async fn on_unreadable_index(&self, asset: &Asset, error: ServiceError) -> ServiceError {
        if self.library.damage(asset.id).is_none() && self.suspicions.is_due(Instant::now(), asset.id) {
            self.check_indexes(asset.id).await;
        }
        let Some(damage) = self.library.damage(asset.id) else { return error };
        let (name, damage, is_unreadable) =
            (asset.name.to_string(), damage.to_string(), matches!(damage, Damage::Unreadable { .. }));
        if let Some(hindrance) = lock(&self.hindrances).get(&asset.id).cloned() {
            return ServiceError::HealingHindered { name, damage, hindrance };
        }
        if is_unreadable || self.cluster.whole_copies(asset).is_empty() {
            return error;
        }
        ServiceError::Healing { name, damage }
    }

    /// Takes a push from the server `server_id`.
    pub(crate) async fn receive(
        &self,
        server_id: &str,
        stream: Streaming<v1::PushRequest>,
    ) -> Result<(), ServiceError> {
        let mut parts = Parts::new(stream);
        let id = AssetId(parts.start().await?.asset);
        let asset = self.library.by_id(id)?;
        let request = lock(&self.heals).claim(id, server_id).ok_or(ServiceError::PushNotAsked(id))?;
        // Ends the heal however this call ends: also when the server hangs up and the call is dropped.
        let mut ending = Ending { healing: self, asset: id, outcome: Outcome::ServerFailed };
        let result = receive::receive(parts, self.origin.clone(), Arc::clone(&asset), request.clone()).await;
        match &result {
            Ok(()) => {
                ending.outcome = Outcome::Healed;
                // Before the heal ends, or the next turn would order it again.
                self.note_healed(id, &request).await;
            }
            Err(error) if error.is_of_origin() => {
                ending.outcome = Outcome::OriginFailed;
                lock(&self.hindrances).insert(id, error.to_string());
            }
            Err(_) => {}
        }
        drop(ending);
        match &result {
            Ok(()) => self.on_healed(&asset, &request, server_id).await,
            Err(error) => {
                tracing::warn!(name = %asset.name, asset = %id, server = server_id, %error, "a heal failed");
                self.library.set_doing(id, format!("sending it from server {server_id} failed: {error}"));
            }
        }
        result
    }

    async fn on_healed(&self, asset: &Arc<Asset>, request: &Request, server_id: &str) {
        let id = asset.id;
        if !self.library.knows(id) {
            // Removed while it was received: whoever removed it did not find this file.
            let origin = self.origin.clone();
            run_blocking(move || origin.remove(id)).await;
            return;
        }
        let (is_whole, extents) = (request.is_whole, request.each_extent().count());
        tracing::info!(name = %asset.name, asset = %id, server = server_id, is_whole, extents, "healed from a server");
    }

    async fn note_healed(&self, asset: AssetId, request: &Request) {
        let left = self.library.damage(asset).and_then(|damage| damage.without(request));
        self.set_damage(asset, left).await;
    }

    /// Notes the state of a durable copy where it lasts: in memory, and by a mark beside the pack.
    async fn set_damage(&self, id: AssetId, damage: Option<Damage>) {
        if damage.as_ref().is_some_and(Damage::is_only_unchecked) {
            // The next turn sees to it.
            lock(&self.rechecked).remove(&id);
        }
        let (library, origin) = (Arc::clone(&self.library), self.origin.clone());
        let noted = run_blocking(move || {
            let is_known = library.knows(id);
            let noted = match &damage {
                None => origin.unmark(id),
                Some(Damage::Parts(_)) if is_known => origin.mark(id),
                Some(_) => Ok(()),
            };
            library.set_damage(id, damage);
            noted
        });
        if let Err(error) = noted.await {
            tracing::warn!(asset = %id, %error, "the mark of an unsound pack cannot be changed");
        }
    }

    /// Takes the outcome of a check of `asset`.
    async fn on_checked(&self, asset: AssetId, found: io::Result<Option<Damage>>) {
        if lock(&self.heals).is_active(asset) {
            // The file is being written.
            return;
        }
        match found.or_else(|error| check::damage_of(&error).map(Some).ok_or(error)) {
            Ok(damage) => self.set_damage(asset, damage).await,
            Err(error) => {
                tracing::warn!(%asset, %error, "a pack of the origin cannot be read just now; that is no damage");
            }
        }
    }

    /// Reads the pack of `asset` whole, after others that are being read.
    async fn check_whole(&self, asset: AssetId) {
        let Some(_checking) = self.begin_check(asset) else { return };
        // Never closed.
        let _permit = self.checks.acquire().await;
        self.check(asset, check::whole).await;
    }

    /// Reads the indexes of `asset`, for which a client waits: at once.
    async fn check_indexes(&self, asset: AssetId) {
        let Some(_checking) = self.begin_check(asset) else { return };
        self.check(asset, check::indexes).await;
    }

    async fn check(&self, asset: AssetId, check: fn(&Origin, &Asset) -> io::Result<Option<Damage>>) {
        let Ok(asset) = self.library.by_id(asset) else { return };
        let (origin, id) = (self.origin.clone(), asset.id);
        let found = run_blocking(move || check(&origin, &asset)).await;
        self.on_checked(id, found).await;
    }

    /// `None`: the pack of `asset` is being checked or written already.
    fn begin_check(&self, asset: AssetId) -> Option<Checking<'_>> {
        let is_first = lock(&self.checking).insert(asset);
        let checking = is_first.then(|| Checking { healing: self, asset })?;
        (!lock(&self.heals).is_active(asset)).then_some(checking)
    }

    async fn turn(self: &Arc<Self>) {
        let unsound = self.library.unsound();
        let ids: HashSet<AssetId> = unsound.iter().map(|(asset, _)| asset.id).collect();
        let late = {
            let mut heals = lock(&self.heals);
            heals.retain(&ids);
            heals.expire(Instant::now())
        };
        for (asset, server) in late {
            tracing::warn!(%asset, server, "a server did not begin to send a copy; another one is asked");
        }
        lock(&self.rechecked).retain(|asset, _| ids.contains(asset));
        lock(&self.hindrances).retain(|asset, _| ids.contains(asset));
        for (asset, damage) in unsound {
            if lock(&self.heals).is_active(asset.id) || lock(&self.checking).contains(&asset.id) {
                continue;
            }
            if damage.is_only_unchecked() {
                // Takes long: others are healed meanwhile.
                if self.is_recheck_due(asset.id, true) {
                    let healing = Arc::clone(self);
                    tokio::spawn(async move { healing.check_whole(asset.id).await });
                }
                continue;
            }
            let clears = match damage {
                Damage::Displaced { .. } => true,
                Damage::Unrecognised { .. } => self.is_recheck_due(asset.id, true),
                Damage::Lost => self.is_recheck_due(asset.id, false),
                Damage::Unreadable { .. } | Damage::Parts(_) => false,
            };
            if clears {
                self.clear_place(&asset).await;
            } else if self.is_recheck_due(asset.id, false) {
                // An operator may have put the pack back, and what failed once may be readable now.
                let (origin, same) = (self.origin.clone(), Arc::clone(&asset));
                let found = run_blocking(move || check::again(&origin, &same, &damage)).await;
                self.on_checked(asset.id, found).await;
            }
            if let Some(damage) = self.library.damage(asset.id) {
                self.order(&asset, &damage).await;
            }
        }
    }

    /// Moves away what stands in the place of an asset's pack and is known not to be that pack, takes the pack back from
    /// the orphans if it is there, and looks again: an operator may have put it back.
    async fn clear_place(&self, asset: &Arc<Asset>) {
        let (origin, library, same) = (self.origin.clone(), Arc::clone(&self.library), Arc::clone(asset));
        let wants = move |other| library.by_id(other).ok().map(|asset| asset.header_hash);
        let cleared = run_blocking(move || {
            let moved = origin.clear_place(same.id, &same.header_hash, &wants)?;
            origin.reclaim(same.id, &same.header_hash)?;
            Ok::<_, io::Error>((moved, check::again(&origin, &same, &Damage::Lost)))
        });
        match cleared.await {
            Ok((moved, found)) => {
                self.on_checked(asset.id, found).await;
                if let Some(Moved::Home(other)) = moved {
                    self.suspect(other);
                }
            }
            Err(error) => self.library.set_doing(asset.id, format!("that cannot be moved aside: {error}")),
        }
    }

    /// `at_first`: also if this damage was never looked at before. What was found a moment ago need not be.
    fn is_recheck_due(&self, asset: AssetId, at_first: bool) -> bool {
        let (now, mut rechecked) = (Instant::now(), lock(&self.rechecked));
        match rechecked.get(&asset) {
            Some(at) if now < *at + RECHECK_AFTER => false,
            known => {
                let is_known = known.is_some();
                rechecked.insert(asset, now);
                is_known || at_first
            }
        }
    }

    /// Orders a server to send what heals `asset`, if there is one that can.
    async fn order(&self, asset: &Arc<Asset>, damage: &Damage) {
        let Some(request) = damage.request(&asset.layout) else {
            if let Damage::Unreadable { .. } = damage {
                let remedy = match self.origin.check_in_place() {
                    Ok(()) => "make it readable for the master's user, or move it away so that it is healed",
                    Err(_) => "media servers go on serving their copies",
                };
                self.library.set_doing(asset.id, remedy.to_owned());
            }
            return;
        };
        if !request.is_whole && !request.header && request.extents.is_empty() {
            return self.restore_length(asset, request).await;
        }
        let holders = self.cluster.whole_copies(asset);
        if holders.is_empty() {
            let remedy = "no connected media server holds a whole copy: start one that does, put the pack back, or \
                          publish the video again with `--replace`";
            return self.library.set_doing(asset.id, remedy.to_owned());
        }
        if request.is_whole && !self.has_room(asset).await {
            return;
        }
        let now = Instant::now();
        let (chosen, is_full) = {
            let heals = lock(&self.heals);
            (heals.choose(now, asset.id, &holders), heals.is_full())
        };
        let Some(server_id) = chosen else {
            if is_full {
                let waiting = "it waits for its turn to be sent by a media server that holds a whole copy";
                self.library.set_doing(asset.id, waiting.to_owned());
            }
            return;
        };
        lock(&self.hindrances).remove(&asset.id);
        // Begun before the order is sent: the server may be quick.
        lock(&self.heals).begin(now, asset.id, server_id.clone(), request.clone());
        self.library.set_doing(asset.id, format!("server {server_id} was asked to send it"));
        if self.cluster.push(&server_id, request.order(asset.id)) {
            tracing::info!(name = %asset.name, asset = %asset.id, server = server_id, "asked a server to heal the origin");
        } else {
            lock(&self.heals).end(now, asset.id, Outcome::ServerFailed);
        }
    }

    /// Whether the origin's disk can take the pack; if not, whoever waits for it is told.
    async fn has_room(&self, asset: &Arc<Asset>) -> bool {
        let (origin, needed) = (self.origin.clone(), asset.layout.disk_bytes());
        match run_blocking(move || origin.check_room(needed)).await {
            Ok(()) => true,
            Err(error) => {
                let hindrance = error.to_string();
                self.library.set_doing(asset.id, hindrance.clone());
                lock(&self.hindrances).insert(asset.id, hindrance);
                false
            }
        }
    }

    /// Mends a file whose bytes are right and whose length alone is not: no server is needed.
    async fn restore_length(&self, asset: &Arc<Asset>, request: Request) {
        let (origin, same, asked) = (self.origin.clone(), Arc::clone(asset), request.clone());
        let restore = move || writer::Writer::open(origin, &same, &asked)?.finish(None);
        match run_blocking(restore).await {
            Ok(()) => {
                self.note_healed(asset.id, &request).await;
                tracing::info!(name = %asset.name, asset = %asset.id, "a pack of the origin has its length again");
            }
            Err(error) => self.library.set_doing(asset.id, format!("its length cannot be restored: {error}")),
        }
    }
}

/// Ends a heal when it is dropped.
struct Ending<'a> {
    healing: &'a Healing,
    asset: AssetId,
    outcome: Outcome,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        lock(&self.healing.heals).end(Instant::now(), self.asset, self.outcome);
        self.healing.freed.notify_one();
    }
}

/// A pack that is being read; ends when it is dropped.
struct Checking<'a> {
    healing: &'a Healing,
    asset: AssetId,
}

impl Drop for Checking<'_> {
    fn drop(&mut self) {
        lock(&self.healing.checking).remove(&self.asset);
    }
}

/// Runs what waits for the disk where it may wait.
async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
