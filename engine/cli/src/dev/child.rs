//! A part that runs.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{DevError, Part};
use crate::relaunch;

/// A part says that it is ready within this; the master may have a database to recover.
const READY_WAIT: Duration = Duration::from_secs(30);
/// A part that was asked to end and has not after this is killed. All must end within 5 s.
const END_WAIT: Duration = Duration::from_secs(2);
/// Read from the end of a log to find a part's last words.
const LAST_WORDS_BYTES: usize = 4_096;

/// A part that runs. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Child {
    /// Which part.
    pub(super) part: Part,
    /// Its process id.
    pub(super) pid: u32,
    /// Where it listens.
    pub(super) address: String,
    stop: oneshot::Sender<()>,
    watcher: JoinHandle<()>,
}

/// A part that ended without being asked to.
#[derive(Debug)]
pub(super) struct Death {
    pub(super) part: Part,
    pub(super) pid: u32,
    pub(super) status: io::Result<ExitStatus>,
}

impl Child {
    /// Starts a part and waits until it is ready.
    pub(super) async fn start(
        part: Part,
        arguments: Vec<OsString>,
        log: &Path,
        deaths: mpsc::UnboundedSender<Death>,
    ) -> Result<Self, DevError> {
        let mut process = spawn(arguments, log).map_err(|source| DevError::Spawn { part, source })?;
        let pid = process.id().unwrap_or_default();
        let stdin = process.stdin.take();
        let stdout = process.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        let Some(mut stdout) = stdout else { unreachable!("standard output is piped") };
        let log = || log.to_owned();
        let Ok(address) = timeout(READY_WAIT, ready(part, &mut stdout)).await else {
            return Err(DevError::Late { part, after: READY_WAIT, log: log() });
        };
        let Some(address) = address else {
            let status = process.wait().await;
            return Err(DevError::Failed { part, reason: last_words(&log(), &status), log: log() });
        };
        let (stop, stopped) = oneshot::channel();
        let watched = Watched { part, pid, process, stdout, _stdin: stdin };
        let watcher = tokio::spawn(watched.watch(stopped, deaths));
        Ok(Self { part, pid, address, stop, watcher })
    }

    /// Asks the part to end. Wait for it with the handle.
    pub(super) fn stop(self) -> JoinHandle<()> {
        // A part that is dead already has no one to hear it.
        let _ = self.stop.send(());
        self.watcher
    }
}

/// What the task that watches a part owns. Its end of the part's standard input stays open as long: when it closes,
/// even because this process was killed, the part ends.
struct Watched {
    part: Part,
    pid: u32,
    process: Process,
    stdout: Lines<BufReader<ChildStdout>>,
    _stdin: Option<ChildStdin>,
}

impl Watched {
    async fn watch(mut self, stopped: oneshot::Receiver<()>, deaths: mpsc::UnboundedSender<Death>) {
        let mut stdout = self.stdout;
        // Nobody reads what a part prints later, but a full pipe would stop it.
        let drain = tokio::spawn(async move { while let Ok(Some(_)) = stdout.next_line().await {} });
        tokio::select! {
            status = self.process.wait() => {
                // The receiver is gone when everything ends.
                let _ = deaths.send(Death { part: self.part, pid: self.pid, status });
            }
            Ok(()) = stopped => end(self.pid, &mut self.process).await,
        }
        drain.abort();
    }
}

/// Ends a process, with more and more force.
async fn end(pid: u32, process: &mut Process) {
    // It has not been waited for, so the id is still its own.
    let asked = i32::try_from(pid).is_ok_and(|pid| kill(Pid::from_raw(pid), Signal::SIGTERM).is_ok());
    if !asked || timeout(END_WAIT, process.wait()).await.is_err() {
        // It fails for a process that has ended, which is what is wanted.
        let _ = process.kill().await;
    }
}

fn spawn(arguments: Vec<OsString>, log: &Path) -> io::Result<Process> {
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = Command::from(relaunch::braidcast()?);
    // Ctrl-C reaches every process of the terminal's group; the parts are ended by this one, in order.
    command.args(arguments).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
    // The settings of a part come from its command line alone.
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"BRAIDCAST_") && name != "BRAIDCAST_LOG" {
            command.env_remove(name);
        }
    }
    command.spawn()
}

/// The address in the line `master listening ADDR` or `serve listening ADDR ...`; nothing if the part ends first.
async fn ready(part: Part, stdout: &mut Lines<BufReader<ChildStdout>>) -> Option<String> {
    while let Ok(Some(line)) = stdout.next_line().await {
        let mut words = line.split(' ');
        if words.next() == Some(part.command()) && words.next() == Some("listening") {
            return words.next().map(str::to_owned);
        }
    }
    None
}

/// The last line of a log that is an error, or else how the process ended.
fn last_words(log: &PathBuf, status: &io::Result<ExitStatus>) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let end = String::from_utf8_lossy(&text[text.len().saturating_sub(LAST_WORDS_BYTES)..]);
    let error = end.lines().rev().find_map(|line| line.strip_prefix("braidcast: "));
    error.map_or_else(|| describe(status), str::to_owned)
}

/// How a process ended.
pub(super) fn describe(status: &io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit code {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => status.to_string(),
        },
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;

    #[test]
    fn deaths_are_told_by_signal_or_code() {
        assert_eq!(describe(&Ok(ExitStatus::from_raw(9))), "signal 9");
        assert_eq!(describe(&Ok(ExitStatus::from_raw(3 << 8))), "exit code 3");
    }

    #[test]
    fn the_last_error_of_a_log_is_the_reason() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let log = dir.path().join("log");
        let status = Ok(ExitStatus::from_raw(1 << 8));
        assert_eq!(last_words(&log, &status), "exit code 1");
        std::fs::write(&log, "braidcast: old\nINFO x\nbraidcast: no room\nINFO y\n").expect("writable");
        assert_eq!(last_words(&log, &status), "no room");
    }
}
