//! What the kernel says of a process's memory.

/// The most memory that process `pid` has had at a time (`VmHWM`), in KiB; nothing if it has ended.
pub(crate) fn peak_rss_kib(pid: u32) -> Option<u64> {
    status(pid, "VmHWM:")
}

/// Memory of process `pid` that no file stands behind (`RssAnon`), in KiB; nothing if it has ended.
pub(crate) fn anonymous_kib(pid: u32) -> Option<u64> {
    status(pid, "RssAnon:")
}

fn status(pid: u32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
