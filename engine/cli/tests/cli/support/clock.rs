//! Processes whose wall clock is off.

use std::ffi::OsStr;
use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A wall clock that can be set while processes look at it, made by the library of the `faketime` command. Their
/// monotonic clock stays right.
pub(crate) struct Clock {
    library: OsString,
    file: PathBuf,
    dir: TempDir,
}

impl Clock {
    /// A clock that is ahead by so many seconds; nothing where `faketime` is missing.
    pub(crate) fn ahead(seconds: i64) -> Option<Self> {
        let asked =
            Command::new("faketime").args(["-m", "-f", "+0s", "printenv", "LD_PRELOAD"]).stderr(Stdio::null()).output();
        let mut library = asked.ok().filter(|output| output.status.success())?.stdout;
        library.truncate(library.trim_ascii_end().len());
        let dir = tempfile::tempdir().expect("a temporary folder");
        let clock = Self { library: OsString::from_vec(library), file: dir.path().join("offset"), dir };
        clock.set(seconds);
        Some(clock)
    }

    /// From now on it is ahead by so many seconds. Processes notice within a second.
    pub(crate) fn set(&self, seconds: i64) {
        let new = self.dir.path().join("new");
        fs::write(&new, format!("{seconds:+}\n")).and_then(|()| fs::rename(&new, &self.file)).expect("writable");
    }

    /// What a process needs in its environment to go by this clock.
    pub(crate) fn environment(&self) -> [(&'static str, &OsStr); 4] {
        [
            ("LD_PRELOAD", &self.library),
            ("FAKETIME_TIMESTAMP_FILE", self.file.as_os_str()),
            ("FAKETIME_CACHE_DURATION", OsStr::new("1")),
            ("DONT_FAKE_MONOTONIC", OsStr::new("1")),
        ]
    }
}
