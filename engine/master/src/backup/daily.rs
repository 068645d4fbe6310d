//! The snapshots that a master makes by itself: one a day (UTC), the last seven of which stay. Only those of its own
//! library count, and only those are ever removed: a folder may hold the last ones of a library that is lost.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, TryLockError};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use braidcast_media::LibraryId;

use super::read::Backup;
use super::snapshots::{self, Name, Snapshot};
use super::write::PARTIAL_SUFFIX;
use super::{BackupError, write};
use crate::clock;
use crate::config::MasterConfig;
use crate::findings::{Finding, Findings};
use crate::limits::{SNAPSHOT_CHECK_INTERVAL, SNAPSHOT_RETRY};
use crate::state_dir::{StateError, at};

const TOPIC: &str = "snapshots";
/// How often, and how many times, a master looks whether another one has made its snapshot in the same folder.
const WAIT: Duration = Duration::from_millis(100);
const WAITS_MAX: usize = 600;
/// What findings call their part.
const WHAT: &str = "daily snapshot";

/// Makes the snapshots of one master.
pub(crate) struct Daily {
    config: MasterConfig,
    library: LibraryId,
    findings: Arc<Findings>,
    /// Today's snapshot knows no video, as far as is known.
    empty: AtomicBool,
    /// Held while a snapshot is made.
    busy: tokio::sync::Mutex<()>,
}

impl Daily {
    /// Makes the snapshots of the master of `config`, whose library is `library`.
    pub(crate) fn new(config: MasterConfig, library: LibraryId, findings: Arc<Findings>) -> Self {
        Self { config, library, findings, empty: AtomicBool::new(true), busy: tokio::sync::Mutex::default() }
    }

    /// Makes snapshots for as long as it is polled. What fails is tried again, and is a finding until it succeeds.
    pub(crate) async fn run(&self) {
        let mut told = Vec::new();
        loop {
            let turn = async {
                let _busy = self.busy.lock().await;
                self.turn(clock::unix_s()).await
            };
            let (mut findings, pause) = match turn.await {
                Ok(()) => (Vec::new(), SNAPSHOT_CHECK_INTERVAL),
                Err(error) => {
                    tracing::error!(%error, "the daily snapshot failed; it is tried again later");
                    (vec![failed(&error.to_string(), self.newest().await)], SNAPSHOT_RETRY)
                }
            };
            let concerns = self.concerns(clock::unix_s()).await;
            if concerns != told {
                concerns.iter().for_each(|concern| tracing::warn!(why = concern.why, "about the daily snapshots"));
                told.clone_from(&concerns);
            }
            findings.extend(concerns);
            self.findings.set(TOPIC, findings);
            tokio::time::sleep(pause).await;
        }
    }

    /// Waits for a snapshot that is being made, and lets none begin while the guard lives.
    pub(crate) async fn quiet(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.busy.lock().await
    }

    /// Makes today's snapshot if there is none, and removes those that are too many.
    async fn turn(&self, now: u64) -> Result<(), BackupError> {
        let dir = self.config.backup_path();
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(at(&dir))?;
        let _alone = alone(&dir).await?;
        let today = Name::of_day(now);
        let mut own = self.own().await?;
        let made = own.iter().find(|snapshot| snapshot.name.day == today.day).map(|snapshot| snapshot.path.clone());
        // The first snapshot of a new master knows no video yet; the first day's is made again until it knows one.
        let is_enough = match &made {
            Some(path) => !self.knows_no_video(path).await,
            None => false,
        };
        if !is_enough {
            let path = made.unwrap_or_else(|| self.free_path(&dir, &today));
            let written = write(&self.config, &path).await?;
            self.empty.store(written.videos == 0, Ordering::Relaxed);
            let (path, videos, bytes) = (path.display(), written.videos, written.bytes);
            tracing::info!(%path, videos, bytes, "made the daily snapshot");
            own = self.own().await?;
        }
        let obsolete = snapshots::obsolete(own, &today.day).into_iter().map(|snapshot| snapshot.path);
        for path in obsolete.chain(self.left_behind(&dir, &today.day)?) {
            fs::remove_file(&path).map_err(at(&path))?;
        }
        Ok(())
    }

    /// Where the snapshot of `today` is written. Another library's may have the plain name, and is not replaced.
    fn free_path(&self, dir: &Path, today: &Name) -> PathBuf {
        let plain = dir.join(today.file_name());
        if fs::symlink_metadata(&plain).is_err() {
            return plain;
        }
        dir.join(Name { library: Some(self.library), ..today.clone() }.file_name())
    }

    /// Whether the snapshot at `path` knows no video, or cannot be read.
    async fn knows_no_video(&self, path: &Path) -> bool {
        if self.empty.load(Ordering::Relaxed) {
            let knows = Backup::open(path).await.is_ok_and(|backup| !backup.rows.is_empty());
            self.empty.store(!knows, Ordering::Relaxed);
        }
        self.empty.load(Ordering::Relaxed)
    }

    /// Snapshots of earlier days that a crash left half written.
    fn left_behind(&self, dir: &Path, today: &str) -> Result<Vec<PathBuf>, BackupError> {
        let mut left = Vec::new();
        for entry in fs::read_dir(dir).map_err(at(dir))? {
            let path = entry.map_err(at(dir))?.path();
            let whole = path.file_name().and_then(|name| name.to_str()?.strip_suffix(PARTIAL_SUFFIX));
            let Some(name) = whole.and_then(Name::parse) else { continue };
            if name.day != today && name.library.is_none_or(|library| library == self.library) {
                left.push(path);
            }
        }
        Ok(left)
    }

    /// The snapshots of this library, the oldest first.
    async fn own(&self) -> Result<Vec<Snapshot>, StateError> {
        let mut snapshots = snapshots::list(&self.config.backup_path()).await?;
        snapshots.retain(|snapshot| snapshot.library() == Some(self.library));
        Ok(snapshots)
    }

    /// What a person should know about the snapshots that are there.
    async fn concerns(&self, now: u64) -> Vec<Finding> {
        let dir = self.config.backup_path();
        let Ok(snapshots) = snapshots::list(&dir).await else { return Vec::new() };
        let (own, others): (Vec<_>, Vec<_>) =
            snapshots.into_iter().partition(|snapshot| snapshot.library() == Some(self.library));
        let today = Name::of_day(now).day;
        let future = own.last().filter(|snapshot| snapshot.name.day > today).map(|snapshot| {
            let name = snapshot.name.file_name();
            Finding::warning(
                WHAT,
                format!("{name} is of a day to come: is the clock right? If it is, remove that file"),
            )
        });
        future.into_iter().chain(foreign(&dir, others)).collect()
    }

    async fn newest(&self) -> Option<PathBuf> {
        self.own().await.ok()?.pop().map(|snapshot| snapshot.path)
    }
}

/// Waits until no other master makes a snapshot in `dir`, and keeps others waiting while the file lives: masters of two
/// libraries that start together would write to one file. Goes on after a minute, and on a file system without locks.
async fn alone(dir: &Path) -> Result<File, StateError> {
    let folder = File::open(dir).map_err(at(dir))?;
    for _ in 0..WAITS_MAX {
        if !matches!(folder.try_lock(), Err(TryLockError::WouldBlock)) {
            break;
        }
        tokio::time::sleep(WAIT).await;
    }
    Ok(folder)
}

/// What there is to say of snapshots that are not this library's: one finding for each library.
fn foreign(dir: &Path, snapshots: Vec<Snapshot>) -> impl Iterator<Item = Finding> {
    let mut by_library: BTreeMap<Option<[u8; 16]>, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        by_library.entry(snapshot.library().map(|library| library.0)).or_default().push(snapshot);
    }
    let dir = dir.display().to_string();
    by_library.into_iter().filter_map(move |(library, snapshots)| {
        let newest = snapshots.last()?;
        let (number, name) = (snapshots.len(), newest.name.file_name());
        let why = match library.map(LibraryId) {
            Some(library) => {
                let videos = newest.contents.map_or(0, |contents| contents.videos);
                format!(
                    "{dir} holds {number} snapshots of another library, {library}; {name} knows {videos} videos. This \
                     master never removes them: give each library a --backup-dir of its own, and delete them only if \
                     that library is no longer needed"
                )
            }
            None => format!(
                "{dir} holds {number} snapshots that cannot be read or name no library, {name} for one; this master \
                 never removes them"
            ),
        };
        Some(Finding::warning(WHAT, why))
    })
}

fn failed(error: &str, newest: Option<PathBuf>) -> Finding {
    let newest = newest.map_or("there is none".to_owned(), |path| format!("the newest is {}", path.display()));
    Finding::failure(WHAT, format!("{error}; {newest}. --backup-dir names another folder for them"))
}

#[cfg(test)]
mod tests {
    use braidcast_media::library_id::LIBRARY_ID_BYTES;

    use super::*;
    use crate::db;
    use crate::identity;

    const DAY: u64 = 24 * 60 * 60;
    const OURS: LibraryId = LibraryId([1; LIBRARY_ID_BYTES]);
    const OTHER: LibraryId = LibraryId([2; LIBRARY_ID_BYTES]);

    /// The snapshots of a master in `dir/NAME` whose database belongs to `library`, and knows as many videos.
    async fn daily(dir: &Path, name: &str, library: LibraryId, videos: u64) -> Daily {
        let state_dir = dir.join(name);
        fs::create_dir(&state_dir).expect("made");
        let config = MasterConfig { state_dir, backup_dir: Some(dir.join("backups")), ..MasterConfig::default() };
        let pool = db::open(&config.database_path()).await.expect("opens");
        identity::keep(&pool, library).await.expect("writes");
        for video in 0..videos {
            sqlx::query(
                "INSERT INTO assets (asset, name, content_key, bytes, header_hash, plain_roots, replicas, published_at)
                 VALUES (?1, ?1, zeroblob(16), 0, zeroblob(32), x'', 0, 0)",
            )
            .bind(video.cast_signed())
            .execute(&pool)
            .await
            .expect("inserts");
        }
        pool.close().await;
        Daily::new(config, library, Arc::default())
    }

    fn names(daily: &Daily) -> Vec<String> {
        let entries = fs::read_dir(daily.config.backup_path()).expect("lists");
        let name = |entry: std::io::Result<fs::DirEntry>| entry.expect("entry").file_name().into_string();
        let mut names: Vec<String> = entries.map(|entry| name(entry).expect("UTF-8")).collect();
        names.sort();
        names
    }

    fn of_days(days: std::ops::Range<u64>) -> Vec<String> {
        days.map(|day| Name::of_day(day * DAY).file_name()).collect()
    }

    #[tokio::test]
    async fn one_a_day_is_made_and_only_snapshots_are_removed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let daily = daily(dir.path(), "state", OURS, 0).await;
        let backups = daily.config.backup_path();
        fs::create_dir(&backups).expect("made");
        fs::write(backups.join("mine.backup"), "kept").expect("written");
        for day in 0..9 {
            daily.turn(day * DAY).await.expect("makes one");
            daily.turn(day * DAY + 5).await.expect("has one");
        }
        let mut expected = of_days(2..9);
        expected.push("mine.backup".to_owned());
        assert_eq!(names(&daily), expected, "seven, and the file that is no snapshot");
        assert_eq!(daily.concerns(8 * DAY).await, []);
    }

    #[tokio::test]
    async fn snapshots_of_another_library_are_never_rotated_away_and_are_a_finding() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let real = daily(dir.path(), "real", OTHER, 1).await;
        let new = daily(dir.path(), "new", OURS, 0).await;
        for day in 0..7 {
            real.turn(day * DAY).await.expect("makes one");
        }
        for day in 7..20 {
            new.turn(day * DAY).await.expect("makes one");
        }
        let mut expected = of_days(0..7);
        expected.extend(of_days(13..20));
        assert_eq!(names(&new), expected);
        let concerns = new.concerns(19 * DAY).await;
        let [concern] = concerns.as_slice() else { panic!("one finding: {concerns:?}") };
        for word in ["7 snapshots", &OTHER.to_string(), "1970-01-07.backup knows 1 videos", "--backup-dir"] {
            assert!(concern.why.contains(word), "{word}: {concern:?}");
        }
    }

    #[tokio::test]
    async fn todays_snapshot_of_another_library_is_not_taken_for_ones_own_or_replaced() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let first = daily(dir.path(), "first", OTHER, 1).await;
        let second = daily(dir.path(), "second", OURS, 2).await;
        first.turn(0).await.expect("makes one");
        let theirs = fs::read(first.newest().await.expect("a snapshot")).expect("readable");
        for second_of_day in [0, 5] {
            second.turn(second_of_day).await.expect("makes one beside it");
            first.turn(second_of_day).await.expect("has one");
        }
        assert_eq!(fs::read(first.newest().await.expect("a snapshot")).expect("readable"), theirs);
        let own = second.newest().await.expect("one of its own");
        assert_eq!(own.file_name().expect("named").to_str(), Some(&*format!("braidcast-1970-01-01-{OURS}.backup")));
        assert_eq!(names(&first).len(), 2);
        for day in 1..9 {
            first.turn(day * DAY).await.expect("makes one");
            second.turn(day * DAY).await.expect("makes one");
        }
        assert_eq!((first.own().await.expect("lists").len(), second.own().await.expect("lists").len()), (7, 7));
    }

    #[tokio::test]
    async fn two_libraries_that_start_together_each_make_a_snapshot() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let first = daily(dir.path(), "first", OTHER, 1).await;
        let second = daily(dir.path(), "second", OURS, 2).await;
        let (a, b) = tokio::join!(first.turn(0), second.turn(0));
        a.and(b).expect("both make one");
        for daily in [&first, &second] {
            let own = daily.newest().await.expect("one of its own");
            assert!(Backup::open(&own).await.is_ok(), "{}", own.display());
        }
    }

    #[tokio::test]
    async fn a_file_in_the_place_of_todays_snapshot_is_kept_and_is_a_finding() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let daily = daily(dir.path(), "state", OURS, 0).await;
        fs::create_dir(daily.config.backup_path()).expect("made");
        let taken = daily.config.backup_path().join(Name::of_day(0).file_name());
        fs::write(&taken, "rotten").expect("written");
        daily.turn(0).await.expect("makes one beside it");
        assert_eq!(fs::read(&taken).expect("kept"), b"rotten");
        assert!(daily.newest().await.is_some_and(|own| own != taken));
        let concerns = daily.concerns(0).await;
        assert!(concerns.len() == 1 && concerns[0].why.contains("cannot be read"), "{concerns:?}");
    }

    #[tokio::test]
    async fn a_snapshot_that_fails_is_a_finding_that_names_the_newest() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let config = MasterConfig { state_dir: dir.path().to_owned(), ..MasterConfig::default() };
        let daily = Daily::new(config.clone(), OURS, Arc::default());
        let error = daily.turn(0).await.expect_err("there is no database");
        let finding = failed(&error.to_string(), daily.newest().await);
        assert!(finding.why.contains("master.db") && finding.why.contains("there is none"), "{finding:?}");
    }
}
