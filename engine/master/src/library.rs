//! What is published: the assets of the database, kept in memory beside it.
//!
//! One master at a time uses a state folder, so memory and database cannot part: every change goes through
//! [`Library::commit`] and [`Library::remove`], database first.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use braidcast_media::hashes::Hash;
use braidcast_media::{AssetId, ContentKey, LibraryId, PackLayout};

use crate::clock;
use crate::database::Database;
use crate::errors::ServiceError;
use crate::film::Film;
use crate::healing::condition::Damage;
use crate::limits::NAME_BYTES_MAX;
use crate::names::VideoName;
use crate::removed;
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
    id: LibraryId,
    database: Database,
    /// Held over a change of the database and of the shelf, so that changes come in one order.
    changes: tokio::sync::Mutex<()>,
    shelf: Mutex<Shelf>,
}

#[derive(Default)]
struct Shelf {
    assets: HashMap<AssetId, Arc<Asset>>,
    names: BTreeMap<VideoName, AssetId>,
    /// Assets whose durable copy is lost or damaged. Media servers that hold them serve them all the same.
    unsound: HashMap<AssetId, Unsound>,
    /// Assets that a person has removed or replaced, as long as the database remembers them.
    removed: HashSet<AssetId>,
    /// Raised by every change of the above.
    version: u64,
}

/// What is known of a durable copy that is not sound.
#[derive(Clone, Debug)]
pub(crate) struct Unsound {
    pub(crate) damage: Damage,
    /// Unix time in seconds.
    found_at: u64,
    /// What is being done about it, for an operator; empty before that is known.
    doing: String,
}

impl Unsound {
    /// What was found, when, and what is being done about it.
    pub(crate) fn in_words(&self) -> String {
        let found = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + Duration::from_secs(self.found_at));
        let Self { damage, doing, .. } = self;
        if doing.is_empty() {
            format!("{damage} (found {found})")
        } else {
            format!("{damage} (found {found}); {doing}")
        }
    }
}

impl Shelf {
    fn put(&mut self, asset: Arc<Asset>) {
        self.version += 1;
        self.names.insert(asset.name.clone(), asset.id);
        self.assets.insert(asset.id, asset);
    }

    fn take(&mut self, asset: AssetId) -> Option<Arc<Asset>> {
        self.version += 1;
        self.unsound.remove(&asset);
        let taken = self.assets.remove(&asset)?;
        self.names.remove(&taken.name);
        Some(taken)
    }

    /// Takes an asset that a person has removed, and forgets older removals.
    fn bury(&mut self, asset: AssetId, forgotten: &[AssetId]) -> Option<Arc<Asset>> {
        for forgotten in forgotten {
            self.removed.remove(forgotten);
        }
        self.removed.insert(asset);
        self.take(asset)
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
    /// Reads the database, which is the one of the library `id`.
    pub(crate) async fn open(database: impl Into<Database>, id: LibraryId) -> Result<Self, sqlx::Error> {
        let database = database.into();
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT asset, name, content_key, bytes, frame_index_bytes, key_frame_index_bytes, access_unit_bytes, film,
                    header_hash, plain_roots, replicas, published_at FROM assets",
        )
        .fetch_all(database.pool())
        .await?;
        let removed = removed::load(database.pool()).await?;
        let mut shelf = Shelf { removed, ..Shelf::default() };
        for row in rows {
            shelf.put(Arc::new(asset(row)?));
        }
        Ok(Self { id, database, changes: tokio::sync::Mutex::new(()), shelf: Mutex::new(shelf) })
    }

    /// The library's id.
    pub(crate) fn id(&self) -> LibraryId {
        self.id
    }

    /// Whether a person has removed or replaced this asset within the last year. Only copies of such an asset may be
    /// deleted: one that is unknown otherwise may belong to a video that an older database does not have.
    pub(crate) fn is_removed(&self, id: AssetId) -> bool {
        self.shelf().removed.contains(&id)
    }

    /// All assets in the database, with their packs or without.
    pub(crate) fn known(&self) -> HashSet<AssetId> {
        self.shelf().assets.keys().copied().collect()
    }

    /// Another number after every change of what [`Library::known`], [`Library::list`] and [`Library::unsound`] give.
    pub(crate) fn version(&self) -> u64 {
        self.shelf().version
    }

    /// Notes that the origin has lost the packs of these assets.
    pub(crate) fn set_lost(&self, lost: HashSet<AssetId>) {
        for asset in lost {
            self.set_damage(asset, Some(Damage::Lost));
        }
    }

    /// Notes the state of an asset's durable copy; `None`: it is sound.
    pub(crate) fn set_damage(&self, id: AssetId, damage: Option<Damage>) {
        let mut shelf = self.shelf();
        let Some(asset) = shelf.assets.get(&id).cloned() else { return };
        let before = shelf.unsound.get(&id);
        if before.map(|unsound| &unsound.damage) == damage.as_ref() {
            return;
        }
        let found_at = before.map_or_else(clock::unix_s, |before| before.found_at);
        let name = &asset.name;
        shelf.version += 1;
        let Some(damage) = damage else {
            shelf.unsound.remove(&id);
            tracing::info!(%name, asset = %id, "the durable copy of this video is sound again");
            return;
        };
        tracing::error!(%name, asset = %id, %damage, "the durable copy of this video is not sound");
        shelf.unsound.insert(id, Unsound { damage, found_at, doing: String::new() });
    }

    /// Notes what is being done about an unsound copy.
    pub(crate) fn set_doing(&self, id: AssetId, doing: String) {
        if let Some(unsound) = self.shelf().unsound.get_mut(&id) {
            unsound.doing = doing;
        }
    }

    /// What is wrong with the durable copy of an asset; `None`: it is sound.
    pub(crate) fn damage(&self, id: AssetId) -> Option<Damage> {
        self.shelf().unsound.get(&id).map(|unsound| unsound.damage.clone())
    }

    /// All that is known of a durable copy that is not sound.
    pub(crate) fn unsoundness(&self, id: AssetId) -> Option<Unsound> {
        self.shelf().unsound.get(&id).cloned()
    }

    /// The assets whose durable copies are not sound.
    pub(crate) fn unsound(&self) -> Vec<(Arc<Asset>, Damage)> {
        let shelf = self.shelf();
        let with_asset = |(id, unsound): (&AssetId, &Unsound)| {
            shelf.assets.get(id).map(|asset| (Arc::clone(asset), unsound.damage.clone()))
        };
        shelf.unsound.iter().filter_map(with_asset).collect()
    }

    /// The current version of a video.
    pub(crate) fn by_name(&self, name: &str) -> Result<Arc<Asset>, ServiceError> {
        let missing = || ServiceError::NoVideo { name: name.chars().take(NAME_BYTES_MAX).collect() };
        let parsed = VideoName::parse(name).map_err(|_| missing())?;
        let shelf = self.shelf();
        shelf.named(&parsed).cloned().ok_or_else(missing)
    }

    /// One very version of a video.
    pub(crate) fn by_id(&self, id: AssetId) -> Result<Arc<Asset>, ServiceError> {
        self.shelf().assets.get(&id).cloned().ok_or(ServiceError::NoAsset(id))
    }

    /// Whether the database has this asset, with its pack or without.
    pub(crate) fn knows(&self, id: AssetId) -> bool {
        self.shelf().assets.contains_key(&id)
    }

    /// All videos, in the order of names.
    pub(crate) fn list(&self) -> Vec<Arc<Asset>> {
        let shelf = self.shelf();
        shelf.names.values().filter_map(|id| shelf.assets.get(id)).cloned().collect()
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
        let replaced = self.shelf().names.get(&asset.name).copied();
        let forgotten = match self.database.write(|| self.insert(&asset, replaced)).await {
            Ok(forgotten) => forgotten,
            Err(error) if !matches!(self.has_row(asset.id).await, Ok(true)) => return Err(error),
            // SQLite reported an error of a commit that has reached the disk.
            Err(_) => Vec::new(),
        };
        let mut shelf = self.shelf();
        let old = replaced.and_then(|id| shelf.bury(id, &forgotten));
        shelf.put(Arc::new(asset));
        Ok(old)
    }

    /// Whether the database names `id`. An error says nothing about that.
    pub(crate) async fn has_row(&self, id: AssetId) -> Result<bool, sqlx::Error> {
        sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM assets WHERE asset = ?)")
            .bind(id.0.cast_signed())
            .fetch_one(self.database.pool())
            .await
    }

    /// Puts `asset` into the database, in place of the version `replaced` if there is one. Gives the removed assets
    /// that are no longer remembered.
    async fn insert(&self, asset: &Asset, replaced: Option<AssetId>) -> Result<Vec<AssetId>, sqlx::Error> {
        let mut transaction = self.database.pool().begin().await?;
        let forgotten = match replaced {
            Some(id) => self.bury(&mut transaction, id, &asset.name).await?,
            None => Vec::new(),
        };
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
        Ok(forgotten)
    }

    /// Takes a video out. Its pack is the caller's to remove.
    pub(crate) async fn remove(&self, name: &str) -> Result<Arc<Asset>, ServiceError> {
        let missing = || ServiceError::NoVideo { name: name.to_owned() };
        let parsed = VideoName::parse(name).map_err(|_| missing())?;
        let _change = self.changes.lock().await;
        let id = self.shelf().named(&parsed).map(|asset| asset.id).ok_or_else(missing)?;
        let forgotten = self.database.write(|| self.delete(id, &parsed)).await?;
        self.shelf().bury(id, &forgotten).ok_or_else(missing)
    }

    async fn delete(&self, id: AssetId, name: &VideoName) -> Result<Vec<AssetId>, sqlx::Error> {
        let mut transaction = self.database.pool().begin().await?;
        let forgotten = self.bury(&mut transaction, id, name).await?;
        transaction.commit().await?;
        Ok(forgotten)
    }

    /// Takes an asset out of the database and remembers that a person wanted it so. Gives the assets that are no
    /// longer remembered to make room.
    async fn bury(
        &self,
        transaction: &mut sqlx::SqliteConnection,
        id: AssetId,
        name: &VideoName,
    ) -> Result<Vec<AssetId>, sqlx::Error> {
        sqlx::query("DELETE FROM assets WHERE asset = ?").bind(id.0.cast_signed()).execute(&mut *transaction).await?;
        let remembered = self.shelf().removed.len();
        removed::insert(transaction, id, name.as_str(), clock::unix_s_signed(), remembered).await
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        lock(&self.shelf)
    }
}

#[cfg(test)]
mod tests {
    use braidcast_proto::v1;
    use sqlx::SqlitePool;

    use super::*;
    use crate::db;

    const ID: LibraryId = LibraryId([9; 16]);

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
        let library = Library::open(pool.clone(), ID).await.expect("empty");
        library.commit(of_film(), false).await.expect("commits");
        let again = Library::open(pool, ID).await.expect("reads").by_name("film").expect("it is there");
        let committed = of_film();
        assert_eq!((again.id, again.bytes, again.published_at), (committed.id, 400_000, 7));
        assert_eq!(again.layout, committed.layout);
        assert_eq!(again.film.as_ref().expect("a film").message(), film());
    }

    #[tokio::test]
    async fn what_was_removed_or_replaced_is_remembered_across_a_restart_and_nothing_else_is() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let pool = db::open(&dir.path().join("master.db")).await.expect("opens");
        let library = Library::open(pool.clone(), ID).await.expect("empty");
        let (first, second) = (AssetId(1), AssetId(2));
        for id in [first, second] {
            library.commit(Asset { id, ..of_film() }, true).await.expect("commits");
        }
        assert!(library.is_removed(first) && !library.is_removed(second));
        library.remove("film").await.expect("it is there");
        let again = Library::open(pool, ID).await.expect("reads");
        assert!([first, second].into_iter().all(|id| again.is_removed(id)));
        assert!(!again.is_removed(AssetId(3)), "nobody removed it");
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
        let library = Library::open(db::open(&path).await.expect("migrates"), ID).await.expect("reads");
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
            Library::open(pool.clone(), ID).await.expect("empty").commit(of_film(), false).await.expect("commits");
            let update = sqlx::AssertSqlSafe(format!("UPDATE assets SET {change}"));
            sqlx::query(update).execute(&pool).await.expect("updates");
            let error = Library::open(pool, ID).await.map(|_| ()).expect_err(change).to_string();
            assert!(error.contains("asset ffffffffffffffff: ") && error.contains(what), "{change}: {error}");
        }
    }
}
