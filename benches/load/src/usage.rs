//! What processes and threads use of the machine.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::time::ClockId;
use nix::unistd::Pid;
use serde::Serialize;

/// Descriptors beside the viewers' sockets.
const DESCRIPTORS_RESERVE: u64 = 64;

/// Memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    /// Resident, mapped files included.
    pub(crate) rss: u64,
    /// Of that, what is no file's.
    pub(crate) anonymous: u64,
}

impl Memory {
    /// That of a process now.
    pub(crate) fn of(pid: Pid) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("{path}: has the server ended?"))?;
        Self::parse(&status).with_context(|| format!("{path} tells no VmRSS and RssAnon: Linux 4.5 or newer is needed"))
    }

    fn parse(status: &str) -> Option<Self> {
        let bytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1_024)
        };
        Some(Self { rss: bytes("VmRSS:")?, anonymous: bytes("RssAnon:")? })
    }

    /// The most of each.
    pub(crate) fn max(self, other: Self) -> Self {
        Self { rss: self.rss.max(other.rss), anonymous: self.anonymous.max(other.anonymous) }
    }
}

/// Shares of a core since the start, of the server and of this thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shares {
    server: ClockId,
    since: Instant,
    /// Of the server, of this thread.
    used: [Duration; 2],
}

impl Shares {
    /// Counts from now on.
    pub(crate) fn start(server: Pid) -> Result<Self> {
        let server = ClockId::pid_cpu_clock_id(server).context("the server's CPU clock")?;
        Ok(Self { server, since: Instant::now(), used: used(server)? })
    }

    /// Those of the server and of this thread until now.
    pub(crate) fn until_now(&self) -> Result<[f64; 2]> {
        let (time, used) = (self.since.elapsed().as_secs_f64(), used(self.server)?);
        Ok([0, 1].map(|which| (used[which] - self.used[which]).as_secs_f64() / time))
    }
}

fn used(server: ClockId) -> Result<[Duration; 2]> {
    Ok([server.now()?.into(), ClockId::CLOCK_THREAD_CPUTIME_ID.now()?.into()])
}

/// Sees to it that there are descriptors for so many sockets.
pub(crate) fn allow_sockets(sockets: u32) -> Result<()> {
    let needed = u64::from(sockets) + DESCRIPTORS_RESERVE;
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < needed && setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)).is_err() {
        bail!(
            "{sockets} viewers need {needed} file descriptors and {hard} are allowed: raise `ulimit -Hn`, or take fewer"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_as_the_kernel_writes_it() {
        let status = "Name:\tx\nVmRSS:\t    5120 kB\nRssAnon:\t    1024 kB\nRssFile:\t    4096 kB\n";
        assert_eq!(Memory::parse(status), Some(Memory { rss: 5_120 * 1_024, anonymous: 1_024 * 1_024 }));
        assert_eq!(Memory::parse("VmRSS:\t 1 kB\n"), None);
        let own = Memory::of(Pid::this()).expect("this process");
        assert!(own.anonymous > 0 && own.rss > own.anonymous, "{own:?}");
    }
}
