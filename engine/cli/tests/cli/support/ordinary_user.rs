//! A user whom file permissions bind.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::{Client, Output, Process, skip};

/// A user whom file permissions bind, as they do not bind root: `nobody` where root runs the tests. It has a folder of
/// its own, with the command and a profile in it.
pub(crate) struct OrdinaryUser {
    dir: TempDir,
}

impl OrdinaryUser {
    /// Such a user with the profile of `client`. Where there is none, the test is skipped.
    pub(crate) fn of(client: &Client) -> Option<Self> {
        let user = Self { dir: tempfile::tempdir().expect("a temporary folder") };
        // The command itself may stand in a folder that only root may enter.
        fs::copy(env!("CARGO_BIN_EXE_braidcast"), user.path(COMMAND)).expect("readable");
        fs::copy(client.profile(), user.path(PROFILE)).expect("readable");
        if is_root() {
            for path in [user.dir.path(), &user.path(PROFILE)] {
                chown(path, Some(NOBODY), Some(NOBODY)).expect("root may");
            }
        }
        let version = user.command().arg("--version").stderr(Stdio::null()).output();
        let is_there = version.is_ok_and(|output| output.status.success());
        if !is_there {
            skip("permissions do not bind root, and `setpriv` does not start a process as another user");
        }
        is_there.then_some(user)
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs `braidcast ARGUMENTS` as this user.
    pub(crate) fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a OsStr>) -> Output {
        let mut command = self.command();
        command.args(arguments).arg("--profile").arg(self.path(PROFILE));
        Process::spawn(command, false).finish()
    }

    fn command(&self) -> Command {
        let binary = self.path(COMMAND);
        if !is_root() {
            return Command::new(binary);
        }
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]).arg("--clear-groups").arg(binary);
        command
    }
}

fn is_root() -> bool {
    fs::metadata(Path::new("/proc/self")).is_ok_and(|process| process.uid() == 0)
}

const NOBODY: u32 = 65_534;
const COMMAND: &str = "braidcast";
const PROFILE: &str = "profile.toml";
