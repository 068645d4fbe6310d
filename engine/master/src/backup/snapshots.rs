//! The snapshots in a folder: what each is called, which library it is of, and which of them are too many.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use braidcast_media::LibraryId;
use sqlx::{ConnectOptions, Connection, SqliteConnection};

use super::write::{is_backup, options};
use crate::limits::SNAPSHOTS_KEPT;
use crate::state_dir::{StateError, at};

const PREFIX: &str = "braidcast-";
const SUFFIX: &str = ".backup";

/// A snapshot that stands in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) path: PathBuf,
    pub(super) name: Name,
    /// `None`: the file cannot be read, or is no backup.
    pub(crate) contents: Option<Contents>,
}

/// What a snapshot says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) library: Option<LibraryId>,
    pub(crate) videos: u64,
}

/// What a snapshot is called: `braidcast-DAY.backup`, or `braidcast-DAY-LIBRARY.backup` where another library's
/// snapshot has the first name. Names sort by their days.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    /// In UTC, as `YYYY-MM-DD`.
    pub(super) day: String,
    /// Whose it is, as far as the name tells.
    pub(super) library: Option<LibraryId>,
}

impl Name {
    /// The name for a snapshot that is made at `now`, a Unix time in seconds.
    pub(super) fn of_day(now: u64) -> Self {
        let time = humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(now)).to_string();
        let (day, _) = time.split_once('T').expect("RFC 3339 has a T between day and time");
        Self { day: day.to_owned(), library: None }
    }

    /// Reads a name, exactly as a master writes it. `None`: the file is no snapshot.
    pub(super) fn parse(file_name: &str) -> Option<Self> {
        let rest = file_name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        let (day, library) = rest.split_at_checked("YYYY-MM-DD".len())?;
        let is_right = |(at, byte): (usize, u8)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() };
        let library = if library.is_empty() { None } else { Some(library.strip_prefix('-')?.parse().ok()?) };
        let name = Self { day: day.to_owned(), library };
        (day.bytes().enumerate().all(is_right) && name.file_name() == file_name).then_some(name)
    }

    pub(super) fn file_name(&self) -> String {
        let library = self.library.map(|library| format!("-{library}")).unwrap_or_default();
        format!("{PREFIX}{}{library}{SUFFIX}", self.day)
    }
}

impl Snapshot {
    pub(super) fn library(&self) -> Option<LibraryId> {
        self.contents.and_then(|contents| contents.library)
    }
}

/// The snapshots in the folder `dir`, the oldest first. A folder that is not there has none.
pub(crate) async fn list(dir: &Path) -> Result<Vec<Snapshot>, StateError> {
    let mut snapshots = Vec::new();
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(snapshots),
        entries => entries.map_err(at(dir))?,
    };
    for entry in entries {
        let path = entry.map_err(at(dir))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()).and_then(Name::parse) else { continue };
        let contents = contents(&path).await;
        snapshots.push(Snapshot { path, name, contents });
    }
    snapshots.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(snapshots)
}

/// Does not check whether the file is sound: that takes long, and nothing is restored from it here.
async fn contents(path: &Path) -> Option<Contents> {
    if !is_backup(&File::open(path).ok()?) {
        return None;
    }
    let mut connection = options(path).read_only(true).connect().await.ok()?;
    let contents = query_contents(&mut connection).await.ok();
    connection.close().await.ok()?;
    contents
}

async fn query_contents(connection: &mut SqliteConnection) -> Result<Contents, sqlx::Error> {
    let library: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT library_id FROM backup_info").fetch_one(&mut *connection).await?;
    let videos: i64 = sqlx::query_scalar("SELECT count(*) FROM assets").fetch_one(connection).await?;
    let library = library.and_then(|id| id.try_into().ok()).map(LibraryId);
    Ok(Contents { library, videos: videos.unsigned_abs() })
}

/// The snapshots that go, of those of one library: all but the newest [`SNAPSHOTS_KEPT`] up to `today`. One of a day to
/// come was made by a clock that was wrong; it neither goes nor takes the place of another.
pub(super) fn obsolete(mut snapshots: Vec<Snapshot>, today: &str) -> Vec<Snapshot> {
    snapshots.retain(|snapshot| snapshot.name.day.as_str() <= today);
    snapshots.sort_by(|a, b| a.name.cmp(&b.name));
    snapshots.truncate(snapshots.len().saturating_sub(SNAPSHOTS_KEPT));
    snapshots
}

#[cfg(test)]
mod tests {
    use braidcast_media::library_id::LIBRARY_ID_BYTES;

    use super::*;

    const DAY: u64 = 24 * 60 * 60;

    fn of_days(days: std::ops::Range<u64>) -> Vec<Snapshot> {
        let snapshot = |day| Snapshot { path: PathBuf::new(), name: Name::of_day(day * DAY), contents: None };
        days.map(snapshot).collect()
    }

    #[test]
    fn a_snapshot_is_named_by_its_day_and_by_its_library_where_two_share_a_folder() {
        assert_eq!(Name::of_day(0).file_name(), "braidcast-1970-01-01.backup");
        let name = Name::of_day(951_782_400 + DAY - 1);
        assert_eq!(name.file_name(), "braidcast-2000-02-29.backup");
        let other = Name { library: Some(LibraryId([0xab; LIBRARY_ID_BYTES])), ..name.clone() };
        assert_eq!(other.file_name(), format!("braidcast-2000-02-29-{}.backup", "ab".repeat(LIBRARY_ID_BYTES)));
        for name in [name, other] {
            assert_eq!(Name::parse(&name.file_name()), Some(name));
        }
        for name in [
            "braidcast-2000-02-29.backup.braidcast-partial",
            "braidcast-2000-02-29",
            "braidcast-2000-02-291.backup",
            "braidcast-2000-02-29-abc.backup",
            "braidcast-2000+02-29.backup",
            "my-braidcast-2000-02-29.backup",
            "before-the-upgrade.backup",
        ] {
            assert_eq!(Name::parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_newest_seven_stay() {
        let today = Name::of_day(8 * DAY).day;
        assert_eq!(obsolete(of_days(0..7), &today), []);
        let mut shuffled = of_days(5..9);
        shuffled.extend(of_days(0..5));
        assert_eq!(obsolete(shuffled, &today), of_days(0..2));
    }

    #[test]
    fn snapshots_by_a_clock_that_was_ahead_do_not_push_todays_out() {
        let mut snapshots = of_days(400..407);
        snapshots.extend(of_days(3..4));
        assert_eq!(obsolete(snapshots, &Name::of_day(3 * DAY).day), []);
    }
}
