//! File systems that end with their test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file system in memory, mounted on a folder of the test's own until this is dropped.
pub(crate) struct Mount(PathBuf);

impl Mount {
    /// Mounts one with these options, as in `size=4m`; nothing where this user may not mount.
    pub(crate) fn tmpfs(folder: &Path, options: &str) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "braidcast-test"]).arg(folder).stderr(Stdio::null());
        mount.status().ok()?.success().then(|| Self(folder.to_owned()))
    }

    /// Allows no more writing.
    pub(crate) fn make_read_only(&self) {
        let status = Command::new("mount").args(["-o", "remount,ro"]).arg(&self.0).status();
        assert!(status.is_ok_and(|status| status.success()), "a file system that was mounted can be mounted again");
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: a process of the test may still have a file open there. There is nobody to tell of a failure.
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}
