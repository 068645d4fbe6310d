//! The snapshots that a master makes by itself: one a day (UTC), the last seven of which stay.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use super::read::Backup;
use super::write::PARTIAL_SUFFIX;
use super::{BackupError, write};
use crate::clock;
use crate::config::MasterConfig;
use crate::findings::{Finding, Findings};
use crate::limits::{SNAPSHOT_CHECK_INTERVAL, SNAPSHOT_RETRY, SNAPSHOTS_KEPT};
use crate::state_dir::at;

const PREFIX: &str = "braidcast-";
const SUFFIX: &str = ".backup";
const TOPIC: &str = "snapshots";

/// Makes the snapshots of one master.
pub(crate) struct Daily {
    config: MasterConfig,
    findings: Arc<Findings>,
    /// Today's snapshot knows no video, as far as is known.
    empty: AtomicBool,
    /// Held while a snapshot is made.
    busy: tokio::sync::Mutex<()>,
}

impl Daily {
    pub(crate) fn new(config: MasterConfig, findings: Arc<Findings>) -> Self {
        Self { config, findings, empty: AtomicBool::new(true), busy: tokio::sync::Mutex::default() }
    }

    /// Makes snapshots for as long as it is polled. What fails is tried again, and is a finding until it succeeds.
    pub(crate) async fn run(&self) {
        loop {
            let turn = async {
                let _busy = self.busy.lock().await;
                self.turn(clock::unix_s()).await
            };
            let pause = match turn.await {
                Ok(()) => {
                    self.findings.set(TOPIC, Vec::from_iter(self.future_snapshots(clock::unix_s())));
                    SNAPSHOT_CHECK_INTERVAL
                }
                Err(error) => {
                    tracing::error!(%error, "the daily snapshot failed; it is tried again later");
                    self.findings.set(TOPIC, vec![failed(&error.to_string(), self.newest())]);
                    SNAPSHOT_RETRY
                }
            };
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
        let today = file_name(now);
        let is_there = fs::metadata(dir.join(&today)).is_ok_and(|metadata| metadata.len() > 0);
        // The first snapshot of a new master knows no video yet; the first day's is made again until it knows one.
        if !is_there || self.knows_no_video(&dir.join(&today)).await {
            let written = write(&self.config, &dir.join(&today)).await?;
            self.empty.store(written.videos == 0, Ordering::Relaxed);
            tracing::info!(name = today, videos = written.videos, bytes = written.bytes, "made the daily snapshot");
        }
        for name in obsolete(self.names()?, &today).into_iter().chain(self.left_behind(&today)?) {
            let path = dir.join(name);
            fs::remove_file(&path).map_err(at(&path))?;
        }
        Ok(())
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
    fn left_behind(&self, today: &str) -> Result<Vec<String>, BackupError> {
        let dir = self.config.backup_path();
        let mut left = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let name = entry.map_err(at(&dir))?.file_name();
            let Some(name) = name.to_str() else { continue };
            if name.strip_suffix(PARTIAL_SUFFIX).is_some_and(|whole| is_snapshot(whole) && whole != today) {
                left.push(name.to_owned());
            }
        }
        Ok(left)
    }

    /// Says so if there are snapshots of days to come.
    fn future_snapshots(&self, now: u64) -> Option<Finding> {
        let (today, names) = (file_name(now), self.names().ok()?);
        let future = names.into_iter().filter(|name| *name > today).max()?;
        let why = format!("{future} is of a day to come: is the clock right? If it is, remove that file");
        Some(Finding::warning("daily snapshot", why))
    }

    /// Names of the snapshots that are there.
    fn names(&self) -> Result<Vec<String>, BackupError> {
        let dir = self.config.backup_path();
        let mut names = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let name = entry.map_err(at(&dir))?.file_name();
            names.extend(name.to_str().filter(|name| is_snapshot(name)).map(str::to_owned));
        }
        Ok(names)
    }

    fn newest(&self) -> Option<PathBuf> {
        let newest = self.names().ok()?.into_iter().max()?;
        Some(self.config.backup_path().join(newest))
    }
}

/// The name of the snapshot of the day of `now`, a Unix time in seconds.
fn file_name(now: u64) -> String {
    let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(now)).to_string();
    let (day, _) = time.split_once('T').expect("RFC 3339 has a T between day and time");
    format!("{PREFIX}{day}{SUFFIX}")
}

/// Whether this is the name of a snapshot, exactly as a master writes it.
fn is_snapshot(name: &str) -> bool {
    let day = name.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
    let is_right = |(at, byte): (usize, u8)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
    day.is_some_and(|day| day.len() == "YYYY-MM-DD".len() && day.bytes().enumerate().all(is_right))
}

/// The snapshots that go: all but the newest [`SNAPSHOTS_KEPT`] up to `today`. One of a day to come was made by a clock
/// that was wrong; it neither goes nor takes the place of another.
fn obsolete(mut names: Vec<String>, today: &str) -> Vec<String> {
    names.retain(|name| name.as_str() <= today);
    names.sort_unstable();
    names.truncate(names.len().saturating_sub(SNAPSHOTS_KEPT));
    names
}

fn failed(error: &str, newest: Option<PathBuf>) -> Finding {
    let newest = newest.map_or("there is none".to_owned(), |path| format!("the newest is {}", path.display()));
    Finding::failure("daily snapshot", format!("{error}; {newest}. --backup-dir names another folder for them"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db;

    const DAY: u64 = 24 * 60 * 60;

    #[test]
    fn a_snapshot_is_named_by_its_day() {
        assert_eq!(file_name(0), "braidcast-1970-01-01.backup");
        assert_eq!(file_name(951_782_400 + DAY - 1), "braidcast-2000-02-29.backup");
        assert!(is_snapshot(&file_name(1_700_000_000)));
        for name in [
            "braidcast-2000-02-29.backup.braidcast-partial",
            "braidcast-2000-02-29",
            "braidcast-2000-02-291.backup",
            "braidcast-2000+02-29.backup",
            "my-braidcast-2000-02-29.backup",
            "before-the-upgrade.backup",
        ] {
            assert!(!is_snapshot(name), "{name}");
        }
    }

    #[test]
    fn the_newest_seven_stay() {
        let days = |days: std::ops::Range<u64>| days.map(|day| file_name(day * DAY)).collect::<Vec<_>>();
        let today = file_name(8 * DAY);
        assert_eq!(obsolete(days(0..7), &today), Vec::<String>::new());
        let mut shuffled = days(5..9);
        shuffled.extend(days(0..5));
        assert_eq!(obsolete(shuffled, &today), days(0..2));
    }

    #[test]
    fn snapshots_by_a_clock_that_was_ahead_do_not_push_todays_out() {
        let mut names: Vec<String> = (400..407).map(|day| file_name(day * DAY)).collect();
        names.push(file_name(3 * DAY));
        assert_eq!(obsolete(names, &file_name(3 * DAY)), Vec::<String>::new());
    }

    #[tokio::test]
    async fn one_a_day_is_made_and_only_snapshots_are_removed() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let config = MasterConfig { state_dir: dir.path().to_owned(), ..MasterConfig::default() };
        let pool = db::open(&config.database_path()).await.expect("opens");
        let daily = Daily::new(config.clone(), Arc::default());
        let backups = config.backup_path();
        fs::create_dir(&backups).expect("made");
        fs::write(backups.join("mine.backup"), "kept").expect("written");
        for day in 0..9 {
            daily.turn(day * DAY).await.expect("makes one");
            daily.turn(day * DAY + 5).await.expect("has one");
        }
        let mut names = daily.names().expect("lists");
        names.sort();
        assert_eq!(names, (2..9).map(|day| file_name(day * DAY)).collect::<Vec<_>>());
        assert_eq!(fs::read_dir(&backups).expect("lists").count(), 8, "and the file that is no snapshot");
        pool.close().await;
    }

    #[tokio::test]
    async fn a_snapshot_that_fails_is_a_finding_that_names_the_newest() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let config = MasterConfig { state_dir: dir.path().to_owned(), ..MasterConfig::default() };
        let daily = Daily::new(config.clone(), Arc::default());
        let error = daily.turn(0).await.expect_err("there is no database");
        let finding = failed(&error.to_string(), daily.newest());
        assert!(finding.why.contains("master.db") && finding.why.contains("there is none"), "{finding:?}");
    }
}
