//! Which library the database and the origin's folder belong to, and whether they belong together.
//!
//! A database that is new, older than its last backup or of another library does not know the packs that stand in the
//! origin. So a master compares the ids of both before it touches any pack, and refuses to start when they differ.
//! [`decide`] is pure; [`settle`] reads what it needs and does what it says.

use std::collections::HashMap;
use std::fmt::{self, Write};
use std::fs;
use std::io;
use std::path::{Display, Path, PathBuf};

use braidcast_media::hashes::Hash;
use braidcast_media::library_id::LIBRARY_ID_BYTES;
use braidcast_media::{AssetId, LibraryId};
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteExecutor;

use crate::backup::snapshots::{self, Snapshot};
use crate::config::MasterConfig;
use crate::limits::MISMATCHES_LISTED;
use crate::origin::{Mismatch, Origin, Survey};
use crate::random;
use crate::state_dir::{StateError, at, write_private};

const SETTING: &str = "library_id";
/// File in the origin's folder that holds the library's id.
pub(crate) const ORIGIN_FILE: &str = "library-id";
/// File in the state folder that keeps room for the database, and is made after it (`reserve.rs`).
const RESERVE_FILE: &str = "reserve";

/// The assets of a database, each with the BLAKE3 of its pack's header.
pub(crate) type Rows = HashMap<AssetId, Hash>;

/// Why a master does not take a database and an origin for parts of one library. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The database knows nothing, and there are packs.
    #[error(
        "{database} is new, and {origin} holds {packs} videos ({bytes} bytes) of {library}, which no other database \
         can open. Nothing was changed: put master.db back, or run `braidcast restore FILE`, or give this master an \
         empty state folder"
    )]
    NewDatabase {
        /// The database.
        database: PathBuf,
        /// The origin's folder.
        origin: PathBuf,
        /// How many whole packs stand there.
        packs: usize,
        /// Their lengths together.
        bytes: u64,
        /// Whose they are.
        library: Named,
    },
    /// There was a database, and it is not there.
    #[error(
        "{database} is missing or empty, and {found} is left of an earlier one. Nothing was changed: put master.db back, \
         or run `braidcast restore {snapshot} --state {}`, or give this master an empty state folder",
        state_dir(database)
    )]
    DatabaseGone {
        /// Where the database should be.
        database: PathBuf,
        /// What is left.
        found: PathBuf,
        /// The newest snapshot; `FILE` if there is none.
        snapshot: PathBuf,
    },
    /// There is no database, and the folder of snapshots is the one of a library.
    #[error(
        "{database} is missing or empty, and {snapshot} is a snapshot of {library} with {videos} videos. Nothing was \
         changed: mount the disk of the state folder, or put master.db back, or run `braidcast restore {snapshot} --state \
         {}`. For a new library, name another folder with --backup-dir",
        state_dir(database)
    )]
    SnapshotsStand {
        /// Where the database should be.
        database: PathBuf,
        /// The newest snapshot that knows videos.
        snapshot: PathBuf,
        /// How many.
        videos: u64,
        /// Whose it is.
        library: Named,
    },
    /// Both have an id.
    #[error(
        "{database} belongs to library {database_id}, and {origin} to library {origin_id}. Nothing was changed: put \
         the database or the folder back that belongs to the other, or run `braidcast restore FILE`. Only if the \
         origin is to be this library's from now on, start once with --adopt-origin"
    )]
    Differ {
        /// The database.
        database: PathBuf,
        /// Its library.
        database_id: LibraryId,
        /// The origin's folder.
        origin: PathBuf,
        /// Its library.
        origin_id: LibraryId,
    },
    /// The folder of packs is empty, and should not be.
    #[error(
        "{origin} is empty, and {database} knows {assets} videos. Nothing was changed: mount the origin's disk or put \
         its files back. If the disk was lost, start once with --adopt-origin, and media servers give their copies back"
    )]
    OriginEmpty {
        /// The origin's folder.
        origin: PathBuf,
        /// The database.
        database: PathBuf,
        /// How many videos it has.
        assets: usize,
    },
    /// There are packs that the database does not know.
    #[error(
        "{origin} does not belong to {database}: {mismatches}. Nothing was changed: put the database back that \
         belongs to it, or run `braidcast restore FILE`. Only if the database is the right one, start once with \
         --adopt-origin, which moves packs that it does not know to {origin}/orphans"
    )]
    Mismatch {
        /// The origin's folder.
        origin: PathBuf,
        /// The database.
        database: PathBuf,
        /// What does not match, bounded.
        mismatches: String,
    },
    /// The file of the id is no such file.
    #[error("{path} holds no library id (32 hexadecimal digits): put it back, or start once with --adopt-origin")]
    BadFile {
        /// Which file.
        path: PathBuf,
    },
}

/// The folder of a database, as a command takes it.
fn state_dir(database: &Path) -> Display<'_> {
    database.parent().unwrap_or(Path::new(".")).display()
}

/// A library, if it has an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named(pub Option<LibraryId>);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(id) => write!(f, "library {id}"),
            None => f.write_str("a library without an id"),
        }
    }
}

/// What is to be done about the ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// They are equal.
    Keep(LibraryId),
    /// The origin gets the database's.
    Mark(LibraryId),
    /// The database gets the origin's.
    Take(LibraryId),
    /// A new one is drawn for both.
    Draw,
}

/// Why a master must not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    NewDatabase,
    Differ(LibraryId, LibraryId),
    OriginEmpty,
    Mismatch,
}

/// What is known of the database and of the origin's packs.
#[derive(Clone, Copy, Debug)]
struct Packs {
    /// Rows of the database.
    assets: usize,
    /// Whole packs of the origin.
    packs: usize,
    /// Those of them whose header is the one of their row.
    matching: usize,
}

impl Packs {
    /// Every pack belongs to a row, and there is a pack if there is a row.
    fn belong_together(self) -> bool {
        self.matching == self.packs && (self.packs > 0 || self.assets == 0)
    }

    fn doubt(self) -> Doubt {
        match self {
            Self { assets: 0, .. } => Doubt::NewDatabase,
            Self { packs: 0, .. } => Doubt::OriginEmpty,
            _ => Doubt::Mismatch,
        }
    }
}

/// Decides by the ids of database and origin and, where one of them has none, by the packs. `adopt`: a person has
/// decided that the origin is this library's.
fn decide(
    database: Option<LibraryId>,
    origin: Option<LibraryId>,
    packs: impl FnOnce() -> Packs,
    adopt: bool,
) -> Result<Verdict, Doubt> {
    match (database, origin) {
        (Some(database), Some(origin)) if database == origin => Ok(Verdict::Keep(database)),
        (Some(database), _) if adopt => Ok(Verdict::Mark(database)),
        (Some(database), Some(origin)) => Err(Doubt::Differ(database, origin)),
        (Some(database), None) => {
            let packs = packs();
            if packs.belong_together() { Ok(Verdict::Mark(database)) } else { Err(packs.doubt()) }
        }
        (None, origin) => {
            let packs = packs();
            match origin {
                _ if !adopt && !packs.belong_together() => Err(packs.doubt()),
                // A database without videos has none of the keys that go with the origin's id.
                Some(origin) if packs.assets > 0 => Ok(Verdict::Take(origin)),
                _ => Ok(Verdict::Draw),
            }
        }
    }
}

/// Whether a database was ever made here, and has content.
pub(crate) fn has_database(config: &MasterConfig) -> bool {
    has_content(&config.database_path())
}

fn has_content(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.len() > 0)
}

/// Where there is no database, refuses what is left of an earlier one, packs, and a folder with the snapshots of a
/// library: its own will be lost as soon as those of an empty library take their place. Must come before a database is
/// made: SQLite deletes a write-ahead log that it finds beside an empty file, and the log may hold the last videos of a
/// database that was moved away. --adopt-origin changes nothing about that: without a database no pack can be opened.
pub(crate) async fn check_before_database(config: &MasterConfig) -> Result<(), SettleError> {
    if has_database(config) {
        return Ok(());
    }
    let survey = Origin::new(config.origin_path()).survey(&Rows::new())?;
    if survey.packs > 0 {
        // An id that cannot be read says no more than none.
        let in_origin = read(&config.origin_path().join(ORIGIN_FILE)).unwrap_or_default();
        return Err(error(config, Doubt::NewDatabase, in_origin, 0, &survey).into());
    }
    let database = config.database_path();
    let snapshots = snapshots::list(&config.backup_path()).await?;
    let videos = |snapshot: &Snapshot| snapshot.contents.map_or(0, |contents| contents.videos);
    let of_videos = snapshots.iter().rev().find(|snapshot| videos(snapshot) > 0);
    let newest = of_videos.or(snapshots.last());
    // Only a master with a database makes snapshots, and the default folder is this master's own.
    let own_snapshot = newest.filter(|_| config.backup_dir.is_none()).map(|snapshot| snapshot.path.clone());
    if let Some(found) = left_of_a_database(config, &database)?.or(own_snapshot) {
        let snapshot = newest.map_or("FILE".into(), |snapshot| snapshot.path.clone());
        return Err(IdentityError::DatabaseGone { database, found, snapshot }.into());
    }
    if let Some(snapshot) = of_videos {
        let library = Named(snapshot.contents.and_then(|contents| contents.library));
        let (videos, snapshot) = (videos(snapshot), snapshot.path.clone());
        return Err(IdentityError::SnapshotsStand { database, snapshot, videos, library }.into());
    }
    Ok(())
}

/// A file that only a master which had a database has made. The certificate authority and the join token are not among
/// them: they come before the database, and a first start that failed between them must be able to start again.
fn left_of_a_database(config: &MasterConfig, database: &Path) -> Result<Option<PathBuf>, StateError> {
    let beside = |suffix: &str| {
        let mut path = database.as_os_str().to_owned();
        path.push(suffix);
        PathBuf::from(path)
    };
    let (origin_file, reserve) = (config.origin_path().join(ORIGIN_FILE), config.state_dir.join(RESERVE_FILE));
    let known = [beside("-wal"), beside("-journal"), origin_file, reserve];
    if let Some(found) = known.into_iter().find(|path| has_content(path)) {
        return Ok(Some(found));
    }
    let aside = format!("{}.before-restore-", database.file_name().unwrap_or_default().to_string_lossy());
    for entry in fs::read_dir(&config.state_dir).map_err(at(&config.state_dir))? {
        let path = entry.map_err(at(&config.state_dir))?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        if name.is_some_and(|name| name.starts_with(&aside)) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// Finds out which library this is, and writes its id where it is absent. Must come before the origin is swept.
pub(crate) async fn settle(
    config: &MasterConfig,
    pool: &SqlitePool,
    rows: &Rows,
    origin: &Origin,
) -> Result<LibraryId, SettleError> {
    let in_database = of_database(pool).await?;
    let path = config.origin_path().join(ORIGIN_FILE);
    let in_origin = match read(&path) {
        Err(SettleError::Identity(_)) if config.adopt_origin => None,
        read => read?,
    };
    let mut survey = Survey::default();
    if in_database.is_none() || in_database != in_origin {
        survey = origin.survey(rows)?;
    }
    let packs = Packs { assets: rows.len(), packs: survey.packs, matching: survey.matching };
    let verdict = decide(in_database, in_origin, || packs, config.adopt_origin)
        .map_err(|doubt| error(config, doubt, in_origin, rows.len(), &survey))?;
    let id = match verdict {
        Verdict::Keep(id) => {
            if config.adopt_origin {
                tracing::warn!(library = %id, "--adopt-origin was not needed: leave it out at the next start");
            }
            return Ok(id);
        }
        Verdict::Mark(id) => id,
        Verdict::Take(id) => keep(pool, id).await?,
        Verdict::Draw => keep(pool, LibraryId(random::draw())).await?,
    };
    write(&path, id)?;
    tracing::info!(library = %id, packs = survey.packs, "the origin belongs to this library from now on");
    Ok(id)
}

/// Why the library is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettleError {
    #[error(transparent)]
    Identity(#[from] IdentityError),
    #[error(transparent)]
    State(#[from] StateError),
    #[error(transparent)]
    Query(#[from] sqlx::Error),
}

/// The id in the database.
pub(crate) async fn of_database(database: impl SqliteExecutor<'_>) -> Result<Option<LibraryId>, sqlx::Error> {
    let value: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT value FROM settings WHERE name = ?").bind(SETTING).fetch_optional(database).await?;
    let parse = |value: Vec<u8>| <[u8; LIBRARY_ID_BYTES]>::try_from(value).ok().map(LibraryId);
    let broken = || sqlx::Error::Decode("the library's id is not 16 bytes long".into());
    value.map(|value| parse(value).ok_or_else(broken)).transpose()
}

pub(crate) async fn keep(pool: &SqlitePool, id: LibraryId) -> Result<LibraryId, sqlx::Error> {
    sqlx::query("INSERT INTO settings (name, value) VALUES (?, ?)").bind(SETTING).bind(&id.0[..]).execute(pool).await?;
    Ok(id)
}

/// The rows of the database.
pub(crate) async fn rows(database: impl SqliteExecutor<'_>) -> Result<Rows, sqlx::Error> {
    let rows: Vec<(i64, Vec<u8>)> = sqlx::query_as("SELECT asset, header_hash FROM assets").fetch_all(database).await?;
    let parse = |(asset, hash): (i64, Vec<u8>)| Some((AssetId(asset.cast_unsigned()), hash.try_into().ok()?));
    let broken = || sqlx::Error::Decode("a header hash is not 32 bytes long".into());
    rows.into_iter().map(|row| parse(row).ok_or_else(broken)).collect()
}

/// The id in the file at `path`; `None` if there is no such file.
pub(crate) fn read(path: &Path) -> Result<Option<LibraryId>, SettleError> {
    match fs::read(path) {
        Ok(bytes) => {
            let id = str::from_utf8(&bytes).ok().and_then(|text| text.trim_end().parse().ok());
            id.map(Some).ok_or_else(|| IdentityError::BadFile { path: path.to_owned() }.into())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(at(path)(error).into()),
    }
}

/// Writes the id of the library to the file at `path`.
pub(crate) fn write(path: &Path, id: LibraryId) -> Result<(), StateError> {
    write_private(path, format!("{id}\n").as_bytes())
}

fn error(
    config: &MasterConfig,
    doubt: Doubt,
    in_origin: Option<LibraryId>,
    assets: usize,
    survey: &Survey,
) -> IdentityError {
    let (database, origin) = (config.database_path(), config.origin_path());
    match doubt {
        Doubt::NewDatabase => {
            let (packs, bytes, library) = (survey.packs, survey.bytes, Named(in_origin));
            IdentityError::NewDatabase { database, origin, packs, bytes, library }
        }
        Doubt::Differ(database_id, origin_id) => IdentityError::Differ { database, database_id, origin, origin_id },
        Doubt::OriginEmpty => IdentityError::OriginEmpty { origin, database, assets },
        Doubt::Mismatch => IdentityError::Mismatch { origin, database, mismatches: list(&survey.mismatches) },
    }
}

fn list(mismatches: &[Mismatch]) -> String {
    let mut text = String::new();
    for (number, mismatch) in mismatches.iter().take(MISMATCHES_LISTED).enumerate() {
        let comma = if number > 0 { ", " } else { "" };
        let (asset, what) = match mismatch {
            Mismatch::Unknown(asset) => (asset, "is not in the database"),
            Mismatch::OtherHeader(asset) => (asset, "has another header than the database says"),
        };
        write!(text, "{comma}{asset}.pack {what}").expect("a String takes everything");
    }
    if let Some(more) = mismatches.len().checked_sub(MISMATCHES_LISTED).filter(|more| *more > 0) {
        write!(text, ", and {more} more").expect("a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: LibraryId = LibraryId([1; LIBRARY_ID_BYTES]);
    const B: LibraryId = LibraryId([2; LIBRARY_ID_BYTES]);
    const NOTHING: Packs = Packs { assets: 0, packs: 0, matching: 0 };
    const NEW_DATABASE: Packs = Packs { assets: 0, packs: 2, matching: 0 };
    const LOST_ORIGIN: Packs = Packs { assets: 2, packs: 0, matching: 0 };
    const OLD_DATABASE: Packs = Packs { assets: 1, packs: 2, matching: 1 };
    const SOME_LOST: Packs = Packs { assets: 3, packs: 2, matching: 2 };
    const ALL: [Packs; 5] = [NOTHING, NEW_DATABASE, LOST_ORIGIN, OLD_DATABASE, SOME_LOST];

    fn decided(database: Option<LibraryId>, origin: Option<LibraryId>, packs: Packs) -> Result<Verdict, Doubt> {
        decide(database, origin, || packs, false)
    }

    #[test]
    fn equal_ids_need_no_look_at_the_packs_and_different_ones_are_refused() {
        let unread = || panic!("the packs are not looked at");
        assert_eq!(decide(Some(A), Some(A), unread, false), Ok(Verdict::Keep(A)));
        assert_eq!(decide(Some(A), Some(B), unread, false), Err(Doubt::Differ(A, B)));
    }

    #[test]
    fn a_new_database_takes_an_empty_origin_and_no_other() {
        assert_eq!(decided(None, None, NOTHING), Ok(Verdict::Draw));
        assert_eq!(decided(None, Some(B), NOTHING), Ok(Verdict::Draw), "its keys are not here");
        for origin in [None, Some(B)] {
            assert_eq!(decided(None, origin, NEW_DATABASE), Err(Doubt::NewDatabase), "{origin:?}");
        }
    }

    #[test]
    fn folders_without_an_id_are_adopted_if_every_pack_has_its_row() {
        assert_eq!(decided(None, None, SOME_LOST), Ok(Verdict::Draw));
        assert_eq!(decided(None, Some(B), SOME_LOST), Ok(Verdict::Take(B)));
        for origin in [None, Some(B)] {
            assert_eq!(decided(None, origin, OLD_DATABASE), Err(Doubt::Mismatch), "{origin:?}");
            assert_eq!(decided(None, origin, LOST_ORIGIN), Err(Doubt::OriginEmpty), "{origin:?}");
        }
    }

    #[test]
    fn an_origin_without_an_id_is_taken_if_nothing_speaks_against_it() {
        assert_eq!(decided(Some(A), None, NOTHING), Ok(Verdict::Mark(A)));
        assert_eq!(decided(Some(A), None, SOME_LOST), Ok(Verdict::Mark(A)));
        assert_eq!(decided(Some(A), None, NEW_DATABASE), Err(Doubt::NewDatabase));
        assert_eq!(decided(Some(A), None, OLD_DATABASE), Err(Doubt::Mismatch));
        assert_eq!(decided(Some(A), None, LOST_ORIGIN), Err(Doubt::OriginEmpty));
    }

    #[test]
    fn a_person_may_decide_that_the_origin_is_this_librarys() {
        for packs in ALL {
            let adopt = |database, origin| decide(database, origin, || packs, true);
            assert_eq!(adopt(Some(A), Some(A)), Ok(Verdict::Keep(A)));
            assert_eq!(adopt(Some(A), Some(B)), Ok(Verdict::Mark(A)));
            assert_eq!(adopt(Some(A), None), Ok(Verdict::Mark(A)));
            assert_eq!(adopt(None, None), Ok(Verdict::Draw));
            let with_keys = if packs.assets > 0 { Verdict::Take(B) } else { Verdict::Draw };
            assert_eq!(adopt(None, Some(B)), Ok(with_keys));
        }
    }

    #[test]
    fn what_does_not_match_is_listed_to_a_bound() {
        let mismatches: Vec<Mismatch> =
            (0..MISMATCHES_LISTED as u64 + 2).map(|n| Mismatch::Unknown(AssetId(n))).collect();
        let text = list(&mismatches);
        assert!(text.starts_with("0000000000000000.pack is not in the database, 0000"), "{text}");
        assert!(text.ends_with(", and 2 more"), "{text}");
        assert_eq!(list(&[Mismatch::OtherHeader(AssetId(1))]).matches("another header").count(), 1);
    }
}
