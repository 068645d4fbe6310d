//! A Braidcast of real processes on loopback, for the benches that go end to end.

mod command;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

pub(crate) use command::braidcast;
use tempfile::TempDir;

/// A master and servers that run until this is dropped.
pub(crate) struct Dev {
    child: Child,
    profile: PathBuf,
    _folder: TempDir,
}

impl Dev {
    /// Starts `servers` servers that hold the one film that `make` writes to the path it is given.
    pub(crate) fn start(servers: usize, name: &str, make: impl FnOnce(&Path)) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let films = folder.path().join("films");
        let state = folder.path().join("state");
        std::fs::create_dir(&films).expect("an empty folder");
        make(&films.join(name));
        let mut child = Command::new(braidcast())
            .arg("dev")
            .arg(&films)
            .args(["--servers", &servers.to_string(), "--state"])
            .arg(&state)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the braidcast command; `make bench` builds it");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let ready = out.lines().map_while(Result::ok).any(|line| line.starts_with("ready"));
        assert!(ready, "dev ended before it was ready");
        Self { child, profile: state.join("profile.toml"), _folder: folder }
    }

    /// Where a client finds the master.
    pub(crate) fn profile(&self) -> &Path {
        &self.profile
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Closing politely lets dev end its parts; a dev that is gone already needs nothing.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}
