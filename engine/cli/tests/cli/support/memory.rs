//! What the kernel says of a process's memory, and of its time on processors.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The most memory that process `pid` has had at a time (`VmHWM`), in KiB; nothing if it has ended.
pub(crate) fn peak_rss_kib(pid: u32) -> Option<u64> {
    status(pid, "VmHWM:")
}

/// Memory of process `pid` (`VmRSS`), in KiB; nothing if it has ended.
pub(crate) fn rss_kib(pid: u32) -> Option<u64> {
    status(pid, "VmRSS:")
}

/// Memory of process `pid` that no file stands behind (`RssAnon`), in KiB; nothing if it has ended.
pub(crate) fn anonymous_kib(pid: u32) -> Option<u64> {
    status(pid, "RssAnon:")
}

/// Watches the anonymous memory of processes; the kernel keeps no peak of it.
pub(crate) struct AnonymousPeak {
    done: Arc<AtomicBool>,
    watcher: JoinHandle<u64>,
}

impl AnonymousPeak {
    /// Watches `pids` from now on.
    pub(crate) fn watch(pids: Vec<u32>) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&done);
        let watcher = std::thread::spawn(move || {
            let mut peak = 0;
            while !told.load(Ordering::Relaxed) {
                peak = pids.iter().filter_map(|pid| anonymous_kib(*pid)).fold(peak, u64::max);
                std::thread::sleep(MEMORY_POLL);
            }
            peak
        });
        Self { done, watcher }
    }

    /// The most that any of them had at a time, from now on for `time`, in KiB.
    pub(crate) fn finish_after_kib(self, time: Duration) -> u64 {
        std::thread::sleep(time);
        self.finish_kib()
    }

    /// The most that any of them had at a time, in KiB.
    pub(crate) fn finish_kib(self) -> u64 {
        self.done.store(true, Ordering::Relaxed);
        self.watcher.join().expect("reading numbers does not panic")
    }
}

/// How often memory is looked at.
pub(super) const MEMORY_POLL: Duration = Duration::from_millis(5);

/// Processor time that process `pid` has taken.
///
/// # Panics
/// If it has ended.
pub(crate) fn cpu_time(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    // The name, in brackets, may hold spaces. Behind it, utime and stime are the fields 12 and 13 (proc(5)).
    let fields: Vec<&str> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(ticks * 1_000 / TICKS_PER_SECOND)
}

/// USER_HZ, which is 100 on every architecture that Rust has Linux for.
const TICKS_PER_SECOND: u64 = 100;

fn status(pid: u32, field: &str) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(field))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}
