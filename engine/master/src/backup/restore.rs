//! Putting a backup in place of what a state folder holds.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use braidcast_media::LibraryId;
use braidcast_media::pack::sync_parent;
use sqlx::Connection;

use super::read::Backup;
use super::write::{check_room, connect_alone, copy, make_empty, query_error, remove_rest, set_application_id};
use super::{BackupError, CA_CERTIFICATE, files, unfinished};
use crate::clock;
use crate::config::MasterConfig;
use crate::identity::{self, SettleError};
use crate::limits::DATABASE_START_BYTES;
use crate::origin::Origin;
use crate::state_dir::{StateDir, at, write_private, write_public};

/// What was put in place.
#[derive(Debug)]
pub struct Restored {
    /// The library; `None` if the backup is of a folder that no master of this version has started on.
    pub library: Option<LibraryId>,
    /// When the backup was made, as a Unix time in seconds.
    pub made_at: u64,
    /// Every bit of the backup was checked; not so in one that was made before backups had a digest.
    pub has_digest: bool,
    /// How many videos it knows.
    pub videos: usize,
    /// How many of their packs stand in the origin.
    pub packs: usize,
    /// The backup knows videos, and none of their packs is in the origin: the disk is not mounted, or the packs are lost.
    /// The master does not start before the packs are there or a person has decided (`--adopt-origin`), unless the
    /// origin held the library's id already.
    pub origin_empty: bool,
    /// How many packs of the origin the backup does not know: the next start makes them orphans.
    pub unknown: usize,
    /// Files that stood in the way, by the names that they have now.
    pub moved: Vec<PathBuf>,
    /// Files that are in place now.
    pub written: Vec<PathBuf>,
}

/// Puts the backup `file` in place in the state folder of `config`, which no master may use meanwhile. What it replaces
/// keeps its contents under another name. Interrupted at any moment, it may be run again, and no master starts before it
/// has run through.
///
/// # Errors
/// [`BackupError`]; if the backup is not right or not this folder's, nothing was changed.
pub async fn restore(config: &MasterConfig, file: &Path) -> Result<Restored, BackupError> {
    restore_stepwise(config, file, &mut || {}).await
}

/// The same; `on_step` is called before each file that is moved, written or removed, once the folder is marked.
async fn restore_stepwise(
    config: &MasterConfig,
    file: &Path,
    on_step: &mut (dyn FnMut() + Send),
) -> Result<Restored, BackupError> {
    let backup = Backup::open(file).await?;
    let _held = StateDir::open(config)?;
    let origin_file = config.origin_path().join(identity::ORIGIN_FILE);
    check_library(config, file, &backup, &origin_file)?;
    let database = config.database_path();
    check_room(&database, fs::metadata(file).map_err(at(file))?.len() + DATABASE_START_BYTES)?;
    let ready = prepare(file, &database).await?;
    // From here on, no master starts before a restore has run through.
    let moves = Moves::new(config, &backup);
    let mut place = || {
        let tag = moves.begin(config, file)?;
        let moved = moves.run(&tag, on_step)?;
        on_step();
        rename(&ready, &database)?;
        Ok(moved)
    };
    let moved = place().inspect_err(|_: &BackupError| remove_rest(&ready))?;
    let mut written = vec![database];
    for (name, path) in files(config) {
        let Some((_, contents)) = backup.files.iter().find(|(known, _)| known == name) else { continue };
        on_step();
        let write = if name == CA_CERTIFICATE { write_public } else { write_private };
        write(&path, contents)?;
        written.push(path);
    }
    let origin = Origin::new(config.origin_path());
    let survey = origin.survey(&backup.rows)?;
    let unknown = survey.unknown();
    let packs = survey.packs - unknown;
    // An empty folder may be the place where the origin's disk is not mounted. Its id is what tells a master that the
    // packs are here: without it, the master does not start before the disk is there or a person says that it is lost.
    let origin_empty = packs == 0 && !backup.rows.is_empty();
    if let Some(library) = backup.library.filter(|_| !origin_empty) {
        on_step();
        identity::write(&origin_file, library)?;
        written.push(origin_file);
    }
    on_step();
    unfinished::end(config)?;
    let Backup { library, made_at, rows, has_digest, .. } = backup;
    let videos = rows.len();
    Ok(Restored { library, made_at, has_digest, videos, packs, origin_empty, unknown, moved, written })
}

fn check_library(config: &MasterConfig, file: &Path, backup: &Backup, origin_file: &Path) -> Result<(), BackupError> {
    let found = match identity::read(origin_file) {
        Ok(found) => found,
        // An id that cannot be read says no more than none: the packs decide.
        Err(SettleError::Identity(_)) => None,
        Err(SettleError::State(error)) => return Err(error.into()),
        Err(SettleError::Query(source)) => return Err(query_error(origin_file)(source)),
    };
    match (backup.library, found) {
        (Some(backup), Some(found)) if backup != found => {
            Err(BackupError::OtherLibrary { path: file.to_owned(), backup, origin: config.origin_path(), found })
        }
        (_, None) => check_packs(config, file, backup),
        _ => Ok(()),
    }
}

/// An origin without an id is this library's if it is empty or holds a pack of it.
fn check_packs(config: &MasterConfig, file: &Path, backup: &Backup) -> Result<(), BackupError> {
    let survey = Origin::new(config.origin_path()).survey(&backup.rows)?;
    if survey.packs > 0 && survey.matching == 0 {
        let (path, origin, packs) = (file.to_owned(), config.origin_path(), survey.packs);
        return Err(BackupError::ForeignPacks { path, origin, packs });
    }
    Ok(())
}

/// Makes the database of the backup anew beside the place where it will stand, whole and durable.
async fn prepare(file: &Path, database: &Path) -> Result<PathBuf, BackupError> {
    let ready = suffixed(database, ".restoring");
    make_empty(&ready)?;
    fill(file, &ready).await.inspect_err(|_| remove_rest(&ready))?;
    Ok(ready)
}

async fn fill(file: &Path, ready: &Path) -> Result<(), BackupError> {
    copy(file, ready).await?;
    let failed = query_error(ready);
    let mut connection = connect_alone(ready).await.map_err(&failed)?;
    for drop in ["DROP TABLE backup_info", "DROP TABLE backup_files", "VACUUM"] {
        sqlx::query(drop).execute(&mut connection).await.map_err(&failed)?;
    }
    set_application_id(&mut connection, 0).await.map_err(&failed)?;
    connection.close().await.map_err(&failed)?;
    File::open(ready).and_then(|file| file.sync_all()).map_err(at(ready))?;
    Ok(())
}

/// The files that a backup replaces, which get other names: none is written over, and none takes the name of another that
/// was moved aside, be it by a restore in the same second or by a clock that was set back.
struct Moves {
    database: PathBuf,
    /// The database, then what belongs to it. The log is moved after its database: as long as the database stands, it
    /// stands with its log. Beside another database SQLite would take the log for that one's.
    of_database: [PathBuf; 3],
    others: Vec<PathBuf>,
}

impl Moves {
    fn new(config: &MasterConfig, backup: &Backup) -> Self {
        let database = config.database_path();
        let of_database = DATABASE_SUFFIXES.map(|suffix| suffixed(&database, suffix));
        let in_backup = |name: &str| backup.files.iter().any(|(known, _)| known == name);
        let others = files(config).into_iter().filter(|(name, _)| in_backup(name)).map(|(_, path)| path).collect();
        Self { database, of_database, others }
    }

    /// Marks the folder as one that is being restored, and says which tag the names get. A restore that goes on where
    /// another was interrupted takes that one's, so that a log gets the name that goes with its database's.
    fn begin(&self, config: &MasterConfig, file: &Path) -> Result<String, BackupError> {
        let interrupted = unfinished::read(config)?.map(|unfinished| unfinished.tag);
        let tag = interrupted.filter(|tag| !tag.is_empty()).unwrap_or_else(|| self.free_tag());
        unfinished::begin(config, file, &tag)?;
        Ok(tag)
    }

    /// Moves the files aside, each durably before the next. Gives the names that they have now.
    fn run(&self, tag: &str, on_step: &mut (dyn FnMut() + Send)) -> Result<Vec<PathBuf>, BackupError> {
        let free = self.free_tag();
        let of_database = if self.may_tag_database(tag) { tag } else { &free };
        let database = DATABASE_SUFFIXES.map(|suffix| suffixed(&aside(&self.database, of_database), suffix));
        let others = self.others.iter().map(|from| {
            let taken = is_there(from) && is_there(&aside(from, tag));
            (from, aside(from, if taken { &free } else { tag }))
        });
        let mut moved = Vec::new();
        for (from, to) in self.of_database.iter().zip(database).chain(others) {
            on_step();
            match fs::rename(from, &to).and_then(|()| sync_parent(&to)) {
                Ok(()) => moved.push(to),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(at(from)(error).into()),
            }
        }
        Ok(moved)
    }

    /// Whether the database that stands, or the log that is left of one, belongs to what has this tag. A database that
    /// stands although parts of one were moved aside is the one that an interrupted restore has put in place.
    fn may_tag_database(&self, tag: &str) -> bool {
        let aside = DATABASE_SUFFIXES.map(|suffix| suffixed(&aside(&self.database, tag), suffix));
        let is_replaced = is_there(&self.database) && aside.iter().any(|path| is_there(path));
        !is_replaced && self.of_database.iter().zip(&aside).all(|(from, to)| !is_there(from) || !is_there(to))
    }

    /// The time, with a number if a file has that tag already.
    fn free_tag(&self) -> String {
        let now = UNIX_EPOCH + Duration::from_secs(clock::unix_s());
        let time = humantime::format_rfc3339_seconds(now).to_string().replace([':', '-'], "");
        let is_free = |tag: &String| {
            let of_database = DATABASE_SUFFIXES.map(|suffix| suffixed(&aside(&self.database, tag), suffix));
            let others = self.others.iter().map(|path| aside(path, tag));
            !of_database.into_iter().chain(others).any(|path| is_there(&path))
        };
        let numbered = |number: u32| if number == 0 { time.clone() } else { format!("{time}-{number}") };
        (0..u32::MAX).map(numbered).find(is_free).unwrap_or_default()
    }
}

/// A database's own name, its log's and its log's index'.
const DATABASE_SUFFIXES: [&str; 3] = ["", "-wal", "-shm"];

fn aside(path: &Path, tag: &str) -> PathBuf {
    suffixed(path, &format!(".before-restore-{tag}"))
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn rename(from: &Path, to: &Path) -> Result<(), BackupError> {
    fs::rename(from, to).and_then(|()| sync_parent(to)).map_err(at(to))?;
    Ok(())
}

fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::backup::write;
    use crate::db;

    #[tokio::test]
    async fn a_restore_that_fails_half_way_leaves_nothing_of_its_own() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (file, database) = (dir.path().join("x.backup"), dir.path().join("master.db"));
        fs::write(&file, "no database").expect("written");
        let error = prepare(&file, &database).await.expect_err("there is nothing to copy");
        assert!(error.to_string().contains("x.backup"), "{error}");
        let names: Vec<_> =
            fs::read_dir(dir.path()).expect("lists").map(|entry| entry.expect("entry").path()).collect();
        assert_eq!(names, [file]);
    }

    const FILES: [&str; 3] = [super::super::CA_KEY, CA_CERTIFICATE, super::super::JOIN_TOKEN];

    fn config(state_dir: PathBuf) -> MasterConfig {
        fs::create_dir_all(state_dir.join("origin")).expect("made");
        MasterConfig { state_dir, ..MasterConfig::default() }
    }

    /// A backup of a library that knows one video; what a master that was killed has left, whose videos are in the log
    /// alone; and the contents of these files.
    async fn backup_and_folder(dir: &Path) -> (PathBuf, MasterConfig) {
        let (older, killed) = (config(dir.join("older")), config(dir.join("killed")));
        let file = dir.join("x.backup");
        let pool = db::open(&older.database_path()).await.expect("opens");
        identity::keep(&pool, LibraryId([1; 16])).await.expect("writes");
        let publish = |number: i64| {
            sqlx::query(
                "INSERT INTO assets (asset, name, content_key, bytes, header_hash, plain_roots, replicas, published_at)
                 VALUES (?1, ?1, zeroblob(16), 0, zeroblob(32), x'', 0, 0)",
            )
            .bind(number)
        };
        publish(1).execute(&pool).await.expect("inserts");
        crate::tls::server_config(&older).expect("a certificate authority");
        fs::write(older.state_dir.join("join-token"), "old-".repeat(16)).expect("written");
        pool.close().await;
        write(&older, &file).await.expect("writes");
        let pool = db::open(&older.database_path()).await.expect("opens");
        for number in 2..5 {
            publish(number).execute(&pool).await.expect("inserts");
        }
        for suffix in DATABASE_SUFFIXES {
            fs::copy(suffixed(&older.database_path(), suffix), suffixed(&killed.database_path(), suffix))
                .expect("open");
        }
        pool.close().await;
        for name in FILES {
            fs::write(killed.state_dir.join(name), format!("{name} of before")).expect("written");
        }
        (file, killed)
    }

    fn contents(folder: &Path) -> BTreeSet<Vec<u8>> {
        let files = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        files.filter(|path| path.is_file()).map(|path| fs::read(path).expect("readable")).collect()
    }

    async fn videos(database: &Path) -> usize {
        let mut connection = connect_alone(database).await.expect("opens");
        let rows = identity::rows(&mut connection).await.expect("reads");
        connection.close().await.expect("closes");
        rows.len()
    }

    /// The same files in a folder of its own.
    fn copy_of(before: &MasterConfig, state_dir: PathBuf) -> MasterConfig {
        let copy = config(state_dir);
        let entries = fs::read_dir(&before.state_dir).expect("a folder").map(|entry| entry.expect("an entry").path());
        for file in entries.filter(|path| path.is_file()) {
            fs::copy(&file, copy.state_dir.join(file.file_name().expect("a name"))).expect("copied");
        }
        copy
    }

    /// Runs a restore that ends after so many steps as a kill ends it: nothing is tidied up. Whether it came so far.
    async fn killed_after(steps: usize, config: &MasterConfig, file: &Path) -> bool {
        let (config, file) = (config.clone(), file.to_owned());
        let run = async move {
            let mut left = steps;
            let mut kill = || match left.checked_sub(1) {
                Some(less) => left = less,
                None => std::panic::resume_unwind(Box::new("killed")),
            };
            restore_stepwise(&config, &file, &mut kill).await.map(drop)
        };
        match tokio::spawn(run).await {
            Ok(restored) => restored.map(|()| false).expect("restores"),
            Err(error) => error.is_panic(),
        }
    }

    /// The one log that was moved aside, and its database.
    fn kept_log(config: &MasterConfig) -> (PathBuf, PathBuf) {
        let names = fs::read_dir(&config.state_dir).expect("a folder").map(|entry| entry.expect("an entry").path());
        let logs: Vec<PathBuf> = names.filter(|path| path.to_string_lossy().ends_with("-wal")).collect();
        let [log] = logs.as_slice() else { panic!("one log: {logs:?}") };
        let database = log.to_string_lossy().strip_suffix("-wal").expect("it ends so").into();
        (log.clone(), database)
    }

    /// A kill between two renames left the database without its log, and the next start lost the last videos.
    #[tokio::test]
    async fn a_restore_that_is_killed_at_any_step_keeps_masters_out_until_it_has_run_through_and_loses_no_file() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (file, before) = backup_and_folder(dir.path()).await;
        let originals = contents(&before.state_dir);
        for steps in 0.. {
            let config = copy_of(&before, dir.path().join(format!("killed-after-{steps}")));
            if !killed_after(steps, &config, &file).await {
                assert_eq!(steps, 11, "six files are moved, four are placed, and the mark is taken away");
                return;
            }
            let error = unfinished::check(&config).expect_err("no master starts").to_string();
            for words in ["braidcast restore", "x.backup", "restore-unfinished"] {
                assert!(error.contains(words), "{steps}: {words}: {error}");
            }
            let refused = write(&config, &dir.path().join("y.backup")).await.expect_err("of two databases");
            assert!(matches!(refused, BackupError::State(_)), "{steps}: {refused}");

            assert!(killed_after(steps, &config, &file).await, "a second time");
            restore(&config, &file).await.expect("runs through");
            unfinished::check(&config).expect("a master may start");
            assert!(contents(&config.state_dir).is_superset(&originals), "{steps}: a file is lost");
            let (log, database) = kept_log(&config);
            assert!(log != suffixed(&config.database_path(), "-wal"), "{steps}: a log beside another database");
            assert_eq!(videos(&config.database_path()).await, 1, "{steps}: the backup's");
            assert_eq!(videos(&database).await, 4, "{steps}: the log is still its database's");
        }
    }
}
