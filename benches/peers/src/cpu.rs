//! CPU time of processes, as the kernel accounts it.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;
use nix::time::ClockId;
use nix::unistd::Pid;

/// A process as `/proc/PID/stat` shows it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stat {
    parent: u32,
    /// User and system time of all its threads, and of its children that were waited for.
    ticks: u64,
}

/// CPU time of these processes and of all that descend from them.
pub(crate) fn of_trees(roots: &[u32]) -> Result<Duration> {
    let all = snapshot()?;
    let ticks: u64 = all.iter().filter(|(pid, _)| descends(&all, **pid, roots)).map(|(_, stat)| stat.ticks).sum();
    let per_second = rustix::param::clock_ticks_per_second();
    Ok(Duration::from_secs_f64(ticks as f64 / per_second as f64))
}

/// The same by their CPU clocks, which tell nanoseconds: many that each take less than a step of `/proc/PID/stat` would
/// not show there. Children that have ended do not count.
pub(crate) fn clocks_of_trees(roots: &[u32]) -> Result<Duration> {
    let all = snapshot()?;
    all.keys().filter(|pid| descends(&all, **pid, roots)).map(|pid| clock(*pid)).sum()
}

fn clock(pid: u32) -> Result<Duration> {
    let clock = ClockId::pid_cpu_clock_id(Pid::from_raw(pid as i32)).and_then(ClockId::now);
    Ok(clock.with_context(|| format!("the CPU clock of process {pid}"))?.into())
}

/// CPU time of the children of this process that have ended and were waited for.
pub(crate) fn of_ended_children() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

fn duration(time: TimeVal) -> Duration {
    Duration::from_secs(time.tv_sec() as u64) + Duration::from_micros(time.tv_usec() as u64)
}

fn snapshot() -> Result<HashMap<u32, Stat>> {
    let mut all = HashMap::new();
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // One that ends meanwhile is none of ours: those run until they are told to end.
        let Ok(text) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        all.insert(pid, parse(&text).with_context(|| format!("/proc/{pid}/stat: {text:?}"))?);
    }
    Ok(all)
}

fn descends(all: &HashMap<u32, Stat>, mut pid: u32, roots: &[u32]) -> bool {
    // Processes come and go while they are read, so a chain may be wrong, but it is never longer than all.
    for _ in 0..=all.len() {
        if roots.contains(&pid) {
            return true;
        }
        match all.get(&pid) {
            Some(stat) => pid = stat.parent,
            None => return false,
        }
    }
    false
}

/// Fields are numbered as in proc_pid_stat(5): 4 is the parent, 14 to 17 are utime, stime, cutime and cstime.
fn parse(text: &str) -> Option<Stat> {
    // The name, field 2, stands in parentheses and may hold anything, parentheses and spaces too.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let ticks = field(14)? + field(15)? + field(16)? + field(17)?;
    Some(Stat { parent: u32::try_from(field(4)?).ok()?, ticks })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_whatever_the_name() {
        let rest = "S 17 42 42 0 -1 4194560 900 80 7 6 250 31 4 2 20 0 9 0 1234 5678 90";
        for name in ["nginx", "a b", "x) S 1 (y", ")"] {
            let stat = parse(&format!("42 ({name}) {rest}"));
            assert_eq!(stat, Some(Stat { parent: 17, ticks: 287 }), "{name}");
        }
        assert_eq!(parse("42 (nginx) S 17 42"), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn trees_hold_grandchildren_and_no_strangers() {
        let stat = |parent| Stat { parent, ticks: 1 };
        let all = HashMap::from([(1, stat(0)), (10, stat(1)), (11, stat(10)), (12, stat(11)), (20, stat(1))]);
        let held = |pid| descends(&all, pid, &[10]);
        assert_eq!([1, 10, 11, 12, 20].map(held), [false, true, true, true, false]);
        // A circle, which only processes that came and went could make, ends.
        let circle = HashMap::from([(1, stat(2)), (2, stat(1))]);
        assert!(!descends(&circle, 1, &[10]));
    }

    #[test]
    fn work_of_this_process_shows() {
        let me = [std::process::id()];
        let before = of_trees(&me).expect("/proc");
        let mut sum = 0_u64;
        while of_trees(&me).expect("/proc") == before {
            sum = (0..100_000).fold(sum, |sum, number| sum ^ std::hint::black_box(number));
        }
        std::hint::black_box(sum);
    }

    #[test]
    fn clocks_show_less_than_a_step() {
        let me = [std::process::id()];
        let before = clocks_of_trees(&me).expect("/proc");
        let after = clocks_of_trees(&me).expect("/proc");
        // Reading /proc is work, too; so little of it that some of its times are no multiples of a step.
        assert!(after > before, "{before:?} {after:?}");
        assert!([before, after].iter().any(|time| time.subsec_nanos() % 10_000_000 != 0), "{before:?} {after:?}");
        // Both tell the same, up to what each rounds off of a thread's times. Other threads of this process may work meanwhile.
        let ticks = of_trees(&me).expect("/proc");
        let later = clocks_of_trees(&me).expect("/proc");
        let rounding = Duration::from_secs(1);
        assert!((after.saturating_sub(rounding)..later + rounding).contains(&ticks), "{after:?} {ticks:?} {later:?}");
    }
}
