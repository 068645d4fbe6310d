//! What is published: the assets of the database, kept in memory beside it.
//!
//! One master at a time uses a state folder, so memory and database cannot part: every change goes through
//! [`Library::commit`] and [`Library::remove`], database first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};

use braidcast_media::hashes::Hash;
use braidcast_media::{AssetId, ContentKey, PackLayout};
use sqlx::SqlitePool;

use crate::errors::ServiceError;
use crate::limits::NAME_BYTES_MAX;
use crate::names::VideoName;
use crate::sync::lock;

/// One version of a video.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) id: AssetId,
    pub(crate) name: VideoName,
    pub(crate) content_key: ContentKey,
    /// Length of the published file.
    pub(crate) bytes: u64,
    /// Follows from `bytes`.
    pub(crate) layout: PackLayout,
    /// BLAKE3 of the pack's header.
    pub(crate) header_hash: Hash,
    /// BLAKE3 of every plain extent of stream 3, end to end.
    pub(crate) plain_roots: Vec<u8>,
    /// How many servers should hold it; 0 = all.
    pub(crate) replicas: u32,
    /// Unix time in seconds.
    pub(crate) published_at: u64,
}

/// The published assets.
pub(crate) struct Library {
    pool: SqlitePool,
    /// Held over a change of the database and of the shelf, so that changes come in one order.
    changes: tokio::sync::Mutex<()>,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    assets: HashMap<AssetId, Arc<Asset>>,
    names: BTreeMap<VideoName, AssetId>,
    /// Assets whose pack the origin has lost: not shown and not served, and not dropped by servers either.
    lost: HashSet<AssetId>,
}

impl Shelf {
    fn put(&mut self, asset: Arc<Asset>) {
        self.names.insert(asset.name.clone(), asset.id);
        self.assets.insert(asset.id, asset);
    }

    fn take(&mut self, asset: AssetId) -> Option<Arc<Asset>> {
        self.lost.remove(&asset);
        let taken = self.assets.remove(&asset)?;
        self.names.remove(&taken.name);
        Some(taken)
    }

    fn unless_lost(&self, asset: &Arc<Asset>) -> Result<Arc<Asset>, ServiceError> {
        if self.lost.contains(&asset.id) {
            return Err(ServiceError::PackLost(asset.id));
        }
        Ok(Arc::clone(asset))
    }

    fn named(&self, name: &VideoName) -> Option<&Arc<Asset>> {
        self.names.get(name).and_then(|id| self.assets.get(id))
    }
}

type Row = (i64, String, Vec<u8>, i64, Vec<u8>, Vec<u8>, i64, i64);

/// Why a row is no asset; none of them can come of this program.
fn asset(row: Row) -> Result<Asset, sqlx::Error> {
    let (id, name, content_key, bytes, header_hash, plain_roots, replicas, published_at) = row;
    let broken = |what: &str| sqlx::Error::Decode(format!("asset {id}: {what}").into());
    let bytes = u64::try_from(bytes).map_err(|_| broken("length"))?;
    Ok(Asset {
        id: AssetId(id.cast_unsigned()),
        name: VideoName::parse(&name).map_err(|_| broken("name"))?,
        content_key: ContentKey::from_slice(&content_key).ok_or_else(|| broken("key"))?,
        bytes,
        layout: PackLayout::of_file(bytes).map_err(|_| broken("length"))?,
        header_hash: header_hash.try_into().map_err(|_| broken("header hash"))?,
        plain_roots,
        replicas: u32::try_from(replicas).map_err(|_| broken("replicas"))?,
        published_at: u64::try_from(published_at).map_err(|_| broken("time"))?,
    })
}

impl Library {
    /// Reads the database.
    pub(crate) async fn open(pool: SqlitePool) -> Result<Self, sqlx::Error> {
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT asset, name, content_key, bytes, header_hash, plain_roots, replicas, published_at FROM assets",
        )
        .fetch_all(&pool)
        .await?;
        let mut shelf = Shelf::default();
        for row in rows {
            shelf.put(Arc::new(asset(row)?));
        }
        Ok(Self { pool, changes: tokio::sync::Mutex::new(()), shelf: Mutex::new(shelf) })
    }

    /// All assets in the database, with their packs or without.
    pub(crate) fn known(&self) -> HashSet<AssetId> {
        self.shelf().assets.keys().copied().collect()
    }

    /// Takes the assets whose packs the origin has lost out of sight.
    pub(crate) fn set_lost(&self, lost: HashSet<AssetId>) {
        let mut shelf = self.shelf();
        for asset in lost.iter().filter_map(|id| shelf.assets.get(id)) {
            let (name, asset) = (&asset.name, asset.id);
            tracing::error!(%name, %asset, "the origin has lost this video's pack: publish it again with `replace`");
        }
        shelf.lost = lost;
    }

    /// The current version of a video.
    pub(crate) fn by_name(&self, name: &str) -> Result<Arc<Asset>, ServiceError> {
        let missing = || ServiceError::NoVideo { name: name.chars().take(NAME_BYTES_MAX).collect() };
        let parsed = VideoName::parse(name).map_err(|_| missing())?;
        let shelf = self.shelf();
        let asset = shelf.named(&parsed).ok_or_else(missing)?;
        shelf.unless_lost(asset)
    }

    /// One very version of a video. One whose pack is lost is told from one that was removed: servers drop the copies
    /// of the latter.
    pub(crate) fn by_id(&self, id: AssetId) -> Result<Arc<Asset>, ServiceError> {
        let shelf = self.shelf();
        let asset = shelf.assets.get(&id).ok_or(ServiceError::NoAsset(id))?;
        shelf.unless_lost(asset)
    }

    /// Whether the database has this asset, with its pack or without.
    pub(crate) fn knows(&self, id: AssetId) -> bool {
        self.shelf().assets.contains_key(&id)
    }

    /// What can be watched, in the order of names.
    pub(crate) fn list(&self) -> Vec<Arc<Asset>> {
        let shelf = self.shelf();
        shelf
            .names
            .values()
            .filter(|id| !shelf.lost.contains(id))
            .filter_map(|id| shelf.assets.get(id))
            .cloned()
            .collect()
    }

    /// Refuses a name that is taken.
    pub(crate) fn check_free(&self, name: &VideoName) -> Result<(), ServiceError> {
        match self.shelf().named(name) {
            Some(_) => Err(ServiceError::NameTaken { name: name.to_string() }),
            None => Ok(()),
        }
    }

    /// Publishes an asset whose pack stands in the origin: in one transaction the name points to it. Gives the
    /// version that it replaces; its pack is the caller's to remove.
    pub(crate) async fn commit(&self, asset: Asset, replace: bool) -> Result<Option<Arc<Asset>>, ServiceError> {
        let _change = self.changes.lock().await;
        if !replace {
            self.check_free(&asset.name)?;
        }
        let mut transaction = self.pool.begin().await?;
        sqlx::query("DELETE FROM assets WHERE name = ?").bind(asset.name.as_str()).execute(&mut *transaction).await?;
        sqlx::query(
            "INSERT INTO assets (asset, name, content_key, bytes, header_hash, plain_roots, replicas, published_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(asset.id.0.cast_signed())
        .bind(asset.name.as_str())
        .bind(&asset.content_key.expose()[..])
        .bind(asset.bytes.cast_signed())
        .bind(&asset.header_hash[..])
        .bind(&asset.plain_roots[..])
        .bind(i64::from(asset.replicas))
        .bind(asset.published_at.cast_signed())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        let mut shelf = self.shelf();
        let old = shelf.names.get(&asset.name).copied().and_then(|id| shelf.take(id));
        shelf.put(Arc::new(asset));
        Ok(old)
    }

    /// Takes a video out. Its pack is the caller's to remove.
    pub(crate) async fn remove(&self, name: &str) -> Result<Arc<Asset>, ServiceError> {
        let missing = || ServiceError::NoVideo { name: name.to_owned() };
        let parsed = VideoName::parse(name).map_err(|_| missing())?;
        let _change = self.changes.lock().await;
        let id = self.shelf().named(&parsed).map(|asset| asset.id).ok_or_else(missing)?;
        sqlx::query("DELETE FROM assets WHERE asset = ?").bind(id.0.cast_signed()).execute(&self.pool).await?;
        self.shelf().take(id).ok_or_else(missing)
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        lock(&self.shelf)
    }
}
