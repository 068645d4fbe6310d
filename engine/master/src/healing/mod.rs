//! Healing: a durable copy that is lost or damaged is mended from a media server that holds a whole copy.
//!
//! ```text
//! found by       the start, the scrub, a fill that fails (`suspicions`)     library: damage of the asset
//! ordered        PushOrder to one server with a whole copy (`heals`)        what, and from whom
//! received       Origin.PushPack: every part is checked (`receive`)         ID.pack.partial, or in place (`writer`)
//! ```
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
use tonic::Streaming;

pub(crate) use self::suspicions::Suspicions;

use crate::cluster::Cluster;
use crate::errors::ServiceError;
use crate::healing::condition::{Damage, Request};
use crate::healing::heals::Heals;
use crate::healing::receive::Parts;
use crate::library::{Asset, Library};
use crate::limits::{HEAL_INTERVAL, RECHECK_AFTER};
use crate::origin::Origin;
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
}

impl Healing {
    pub(crate) fn new(
        library: Arc<Library>,
        origin: Origin,
        cluster: Arc<Cluster>,
        suspicions: Arc<Suspicions>,
    ) -> Arc<Self> {
        let (heals, rechecked) = (Mutex::default(), Mutex::default());
        Arc::new(Self { library, origin, cluster, suspicions, heals, rechecked })
    }

    /// Orders heals for as long as it is polled.
    pub(crate) async fn run(self: Arc<Self>) {
        let mut accused_at = Instant::now();
        loop {
            self.turn().await;
            tokio::time::sleep(HEAL_INTERVAL).await;
            if accused_at.elapsed() >= RECHECK_AFTER {
                // A server says once what it met: a check that was not due then is due now.
                self.cluster.accused().into_iter().for_each(|asset| self.suspect(asset));
                accused_at = Instant::now();
            }
        }
    }

    /// Checks what is suspected, for as long as it is polled.
    pub(crate) async fn check_suspects(self: Arc<Self>) {
        loop {
            let asset = self.suspicions.next().await;
            self.check(asset, check::whole).await;
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
            self.check(asset.id, check::indexes).await;
        }
        match self.library.damage(asset.id) {
            Some(damage) if !self.cluster.whole_copies(asset).is_empty() => {
                ServiceError::Healing { name: asset.name.to_string(), damage: damage.to_string() }
            }
            _ => error,
        }
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
        let mut ending = Ending { healing: self, asset: id, is_healed: false };
        let result = receive::receive(parts, self.origin.clone(), Arc::clone(&asset), request.clone()).await;
        ending.is_healed = result.is_ok();
        if result.is_ok() {
            // Before the heal ends, or the next turn would order it again.
            self.note_healed(id, &request);
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
        if request.header && !request.is_whole {
            // Only now can the extents be checked.
            self.check(id, check::whole).await;
        }
    }

    fn note_healed(&self, asset: AssetId, request: &Request) {
        let left = self.library.damage(asset).and_then(|damage| damage.without(request));
        self.library.set_damage(asset, left);
    }

    /// Takes the outcome of a check of `asset`.
    fn on_checked(&self, asset: AssetId, found: io::Result<Option<Damage>>) {
        if lock(&self.heals).is_active(asset) {
            // The file is being written.
            return;
        }
        match found {
            Ok(damage) => self.library.set_damage(asset, damage),
            Err(error) => {
                tracing::warn!(%asset, %error, "a pack of the origin cannot be read just now; that is no damage");
            }
        }
    }

    async fn check(&self, asset: AssetId, check: fn(&Origin, &Asset) -> io::Result<Option<Damage>>) {
        let Ok(asset) = self.library.by_id(asset) else { return };
        if lock(&self.heals).is_active(asset.id) {
            return;
        }
        let (origin, id) = (self.origin.clone(), asset.id);
        let found = run_blocking(move || check(&origin, &asset)).await;
        self.on_checked(id, found);
    }

    async fn turn(&self) {
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
        for (asset, damage) in unsound {
            if lock(&self.heals).is_active(asset.id) {
                continue;
            }
            // An operator may have put the pack back, and what failed once may be readable now.
            if self.is_recheck_due(asset.id) {
                let (origin, same) = (self.origin.clone(), Arc::clone(&asset));
                let found = run_blocking(move || check::again(&origin, &same, &damage)).await;
                self.on_checked(asset.id, found);
            }
            if let Some(damage) = self.library.damage(asset.id) {
                self.order(&asset, &damage).await;
            }
        }
    }

    fn is_recheck_due(&self, asset: AssetId) -> bool {
        let (now, mut rechecked) = (Instant::now(), lock(&self.rechecked));
        match rechecked.get(&asset) {
            Some(at) if now < *at + RECHECK_AFTER => false,
            known => {
                // What was found a moment ago need not be looked at again at once.
                let is_known = known.is_some();
                rechecked.insert(asset, now);
                is_known
            }
        }
    }

    /// Orders a server to send what heals `asset`, if there is one that can.
    async fn order(&self, asset: &Arc<Asset>, damage: &Damage) {
        let request = damage.request(&asset.layout);
        if !request.is_whole && !request.header && request.extents.is_empty() {
            return self.restore_length(asset, request).await;
        }
        let holders = self.cluster.whole_copies(asset);
        if holders.is_empty() {
            let remedy = "no connected media server holds a whole copy: start one that does, put the pack back, or \
                          publish the video again with `--replace`";
            return self.library.set_doing(asset.id, remedy.to_owned());
        }
        let now = Instant::now();
        let Some(server_id) = lock(&self.heals).choose(now, asset.id, &holders) else { return };
        // Begun before the order is sent: the server may be quick.
        lock(&self.heals).begin(now, asset.id, server_id.clone(), request.clone());
        self.library.set_doing(asset.id, format!("server {server_id} was asked to send it"));
        if self.cluster.push(&server_id, request.order(asset.id)) {
            tracing::info!(name = %asset.name, asset = %asset.id, server = server_id, "asked a server to heal the origin");
        } else {
            lock(&self.heals).end(now, asset.id, false);
        }
    }

    /// Mends a file whose bytes are right and whose length alone is not: no server is needed.
    async fn restore_length(&self, asset: &Arc<Asset>, request: Request) {
        let (origin, same, asked) = (self.origin.clone(), Arc::clone(asset), request.clone());
        let restore = move || writer::Writer::open(origin, &same, &asked)?.finish(None);
        match run_blocking(restore).await {
            Ok(()) => {
                self.note_healed(asset.id, &request);
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
    is_healed: bool,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        lock(&self.healing.heals).end(Instant::now(), self.asset, self.is_healed);
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
