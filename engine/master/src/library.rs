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
use crate::film::Film;
use crate::limits::NAME_BYTES_MAX;
use crate::names::VideoName;
use crate::streams::StreamLengths;
use crate::sync::lock;

/// One version of a video.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) id: AssetId,
    pub(crate) name: VideoName,
    pub(crate) content_key: ContentKey,
    /// Length of the published file.
    pub(crate) bytes: u64,
    pub(crate) layout: PackLayout,
    /// Nothing for plain bytes.
    pub(crate) film: Option<Arc<Film>>,
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

type Row = (i64, String, Vec<u8>, i64, i64, i64, i64, Option<Vec<u8>>, Vec<u8>, Vec<u8>, i64, i64);

/// Why a row is no asset; none of them can come of this program.
fn asset(row: Row) -> Result<Asset, sqlx::Error> {
    let (id, name, content_key, bytes, frame_index, key_frame_index, access_units, film, ..) = row;
    let (.., header_hash, plain_roots, replicas, published_at) = row;
    let id = AssetId(id.cast_unsigned());
    let broken = |what: &str| sqlx::Error::Decode(format!("asset {id}: {what}").into());
    let length = |bytes: i64| u64::try_from(bytes).map_err(|_| broken("length"));
    let streams = StreamLengths {
        original: length(bytes)?,
        frame_index: length(frame_index)?,
        key_frame_index: length(key_frame_index)?,
        access_units: length(access_units)?,
    };
    let film = film.map(|film| Film::from_bytes(&film, &streams)).transpose();
    let film = film.map_err(|error| broken(&format!("film: {error}")))?;
    Ok(Asset {
        id,
        name: VideoName::parse(&name).map_err(|_| broken("name"))?,
        content_key: ContentKey::from_slice(&content_key).ok_or_else(|| broken("key"))?,
        bytes: streams.original,
        layout: streams.layout(film.is_some()).map_err(|_| broken("length"))?,
        film: film.map(Arc::new),
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
            "SELECT asset, name, content_key, bytes, frame_index_bytes, key_frame_index_bytes, access_unit_bytes, film,
                    header_hash, plain_roots, replicas, published_at FROM assets",
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
        let streams = StreamLengths::of(&asset.layout);
        sqlx::query(
            "INSERT INTO assets (asset, name, content_key, bytes, frame_index_bytes, key_frame_index_bytes,
                                 access_unit_bytes, film, header_hash, plain_roots, replicas, published_at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(asset.id.0.cast_signed())
        .bind(asset.name.as_str())
        .bind(&asset.content_key.expose()[..])
        .bind(streams.original.cast_signed())
        .bind(streams.frame_index.cast_signed())
        .bind(streams.key_frame_index.cast_signed())
        .bind(streams.access_units.cast_signed())
        .bind(asset.film.as_deref().map(Film::to_bytes))
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

#[cfg(test)]
mod tests {
    use braidcast_proto::v1;

    use super::*;
    use crate::db;

    fn film() -> v1::Film {
        let track = v1::Track {
            kind: v1::track::Kind::Video.into(),
            codec_descriptions: vec![vec![7; 9]],
            time_base: Some(v1::Rational { numerator: 1, denominator: 25 }),
            frames: 2,
            video: Some(v1::VideoTrack { width: 16, height: 16, ..v1::VideoTrack::default() }),
            ..v1::Track::default()
        };
        v1::Film { frames_stream: 4, tracks: vec![track], key_frames: 1, ..v1::Film::default() }
    }

    fn of_film() -> Asset {
        let streams = StreamLengths { original: 400_000, frame_index: 48, key_frame_index: 16, access_units: 300_000 };
        Asset {
            id: AssetId(u64::MAX),
            name: VideoName::parse("film").expect("good name"),
            content_key: ContentKey::new([3; 16]),
            bytes: 400_000,
            layout: streams.layout(true).expect("short"),
            film: Some(Arc::new(Film::new(film(), &streams).expect("good film"))),
            header_hash: [4; 32],
            plain_roots: vec![5; 32],
            replicas: 6,
            published_at: 7,
        }
    }

    #[tokio::test]
    async fn a_film_is_read_back_as_it_was_committed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let pool = db::open(&dir.path().join("master.db")).await.expect("opens");
        let library = Library::open(pool.clone()).await.expect("empty");
        library.commit(of_film(), false).await.expect("commits");
        let again = Library::open(pool).await.expect("reads").by_name("film").expect("it is there");
        let committed = of_film();
        assert_eq!((again.id, again.bytes, again.published_at), (committed.id, 400_000, 7));
        assert_eq!(again.layout, committed.layout);
        assert_eq!(again.film.as_ref().expect("a film").message(), film());
    }

    #[tokio::test]
    async fn a_database_of_the_first_version_keeps_its_assets() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("master.db");
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let first = SqlitePool::connect_with(options).await.expect("opens");
        db::migrator().run_to(1, &first).await.expect("migrates");
        sqlx::query(
            "INSERT INTO assets (asset, name, content_key, bytes, header_hash, plain_roots, replicas, published_at)
             VALUES (-2, 'old', zeroblob(16), 1000000, zeroblob(32), zeroblob(32), 0, 1700000000)",
        )
        .execute(&first)
        .await
        .expect("inserts");
        first.close().await;
        let library = Library::open(db::open(&path).await.expect("migrates")).await.expect("reads");
        let old = library.by_name("old").expect("it is there");
        assert_eq!((old.id, old.bytes, old.published_at), (AssetId(u64::MAX - 1), 1_000_000, 1_700_000_000));
        assert_eq!(old.layout, PackLayout::of_file(1_000_000).expect("short"));
        assert!(old.film.is_none());
        library.commit(of_film(), false).await.expect("takes films beside it");
    }

    #[tokio::test]
    async fn a_row_that_is_no_asset_is_named() {
        for (change, what) in [
            ("film = x'ff'", "film"),
            ("film = NULL, bytes = 9223372036854775807", "length"),
            ("frame_index_bytes = 47", "film"),
            ("access_unit_bytes = 9223372036854775807", "length"),
        ] {
            let dir = tempfile::tempdir().expect("temporary folder");
            let pool = db::open(&dir.path().join("master.db")).await.expect("opens");
            Library::open(pool.clone()).await.expect("empty").commit(of_film(), false).await.expect("commits");
            let update = sqlx::AssertSqlSafe(format!("UPDATE assets SET {change}"));
            sqlx::query(update).execute(&pool).await.expect("updates");
            let error = Library::open(pool).await.map(|_| ()).expect_err(change).to_string();
            assert!(error.contains("asset ffffffffffffffff: ") && error.contains(what), "{change}: {error}");
        }
    }
}
