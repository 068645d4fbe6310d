//! How far a process has read a file.

use std::fs;
use std::path::Path;

/// The place in `file` up to which process `pid` has read it; nothing while it has not opened it, or has closed it.
pub(crate) fn read_so_far(pid: u32, file: &Path) -> Option<u64> {
    let file = file.canonicalize().ok()?;
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let open = open.into_iter().find(|open| fs::read_link(open.path()).is_ok_and(|path| path == file))?;
    let info = fs::read_to_string(Path::new(&format!("/proc/{pid}/fdinfo")).join(open.file_name())).ok()?;
    info.lines().find_map(|line| line.strip_prefix("pos:"))?.trim().parse().ok()
}
