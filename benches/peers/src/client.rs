//! Clients: started, waited for, and accounted from outside.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use braidcast_lab::stop::Stop;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cpu;

/// How often a signal that asks for the end is looked for.
const STEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What a client took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spent {
    /// From its start to its end.
    pub(crate) wall: Duration,
    /// CPU time.
    pub(crate) cpu: Duration,
}

/// Runs a client to its end, which must be a success within `limit`. It logs to `log`.
pub(crate) fn run(mut command: Command, stop: &Stop, limit: Duration, log: &Path) -> Result<Spent> {
    let program = command.get_program().to_owned();
    let file = File::create(log).with_context(|| log.display().to_string())?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
    // Ctrl-C reaches every process of the terminal's group; this one is ended in order.
    command.process_group(0);
    for (variable, _) in std::env::vars_os() {
        if variable.as_encoded_bytes().starts_with(b"BRAIDCAST_") {
            command.env_remove(variable);
        }
    }
    // No other child is waited for meanwhile.
    let before = cpu::of_ended_children()?;
    let start = Instant::now();
    let mut child = command.spawn().with_context(|| program.display().to_string())?;
    let waited = wait(&child, stop, start + limit);
    let wall = start.elapsed();
    if waited.is_err() {
        let _ = child.kill();
    }
    let status = child.wait()?;
    waited.with_context(|| format!("{command:?}").replace('"', ""))?;
    if !status.success() {
        bail!("{status}: {}", last_words(log));
    }
    Ok(Spent { wall, cpu: cpu::of_ended_children()?.saturating_sub(before) })
}

/// Waits until it has ended. Its descriptor tells that at once, where looking again and again would round.
fn wait(child: &Child, stop: &Stop, end: Instant) -> Result<()> {
    let descriptor = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).context("pidfd_open")?;
    loop {
        let mut wanted = [PollFd::new(&descriptor, PollFlags::IN)];
        match poll(&mut wanted, Some(&STEP)) {
            Ok(0) => {}
            Ok(_) => return Ok(()),
            // A signal, which the next step looks at.
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        stop.check()?;
        if Instant::now() > end {
            bail!("has not ended in time");
        }
    }
}

/// The last line of a log.
fn last_words(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing said").trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_timed_and_its_failure_told() {
        let log = std::env::temp_dir().join(format!("bc-peers-test-{}", std::process::id()));
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            run(command, &Stop::default(), Duration::from_secs(10), &log)
        };
        let slept = shell("sleep 0.1").expect("it works");
        assert!(slept.wall >= Duration::from_millis(100) && slept.cpu < slept.wall, "{slept:?}");
        let error = shell("echo the disk is full; exit 3").expect_err("3");
        assert!(error.to_string().contains("the disk is full"), "{error:#}");
        let mut command = Command::new("sleep");
        command.arg("60");
        let error = run(command, &Stop::default(), Duration::from_millis(1), &log).expect_err("too slow");
        assert!(format!("{error:#}").contains("not ended in time"), "{error:#}");
        let _ = fs::remove_file(&log);
    }
}
