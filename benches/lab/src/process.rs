//! Processes of a world: each with its own logs, and ended with it.

use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::stop::Stop;

/// A process that was asked to end and has not after this is killed.
const END_WAIT: Duration = Duration::from_secs(3);

/// Of what was cold, at least this part is read from the disk ([`Process::disk_bytes`]); less shows that it was not. A few
/// pages always stay in memory.
pub const COLD_PART_MIN: f64 = 0.95;

/// A process that runs. Dropped, it is ended.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl Process {
    /// Starts `command`, which logs to `NAME.out` and `NAME.err` in `logs`.
    pub fn start(name: &str, mut command: Command, logs: &Path) -> Result<Self> {
        let stdout = logs.join(name).with_extension("out");
        let stderr = logs.join(name).with_extension("err");
        command.stdin(Stdio::piped()).stdout(File::create(&stdout)?).stderr(File::create(&stderr)?);
        // Ctrl-C reaches every process of the terminal's group; these are ended in order.
        command.process_group(0);
        // The settings of a part come from its command line alone.
        for (variable, _) in std::env::vars_os() {
            if variable.as_encoded_bytes().starts_with(b"BRAIDCAST_") && variable != "BRAIDCAST_LOG" {
                command.env_remove(variable);
            }
        }
        let child = command.spawn().with_context(|| format!("{name}: {command:?}"))?;
        Ok(Self { name: name.to_owned(), child, stdout, stderr })
    }

    /// Its process id, which stays its own until it was found to have ended.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Bytes that it has read from disks so far, as the kernel counts them.
    pub fn disk_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/io", self.id());
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        let line = text.lines().find_map(|line| line.strip_prefix("read_bytes: "));
        line.and_then(|bytes| bytes.trim().parse().ok()).context(path)
    }

    /// What it has printed so far.
    pub fn printed(&self) -> String {
        fs::read_to_string(&self.stdout).unwrap_or_default()
    }

    /// The last line that it wrote to standard error.
    pub fn last_words(&self) -> String {
        let text = fs::read(&self.stderr).unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing said").trim().to_owned()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Waits until it prints a line that starts with `start`.
    pub fn wait_line(&mut self, stop: &Stop, start: &str, limit: Duration) -> Result<String> {
        let what = format!("{}: no line {start:?}", self.name);
        stop.wait_for(&what, limit, || {
            let printed = self.printed();
            if let Some(line) = printed.lines().find(|line| line.starts_with(start)) {
                return Ok(Some(line.to_owned()));
            }
            match self.ended()? {
                Some(status) => bail!("{}: {status}: {}", self.name, self.last_words()),
                None => Ok(None),
            }
        })
    }

    /// Waits for its end, which must be a success, and gives what it printed.
    pub fn finish(mut self, stop: &Stop, limit: Duration) -> Result<String> {
        let what = format!("{}: still runs", self.name);
        let status = stop.wait_for(&what, limit, || self.ended())?;
        if !status.success() {
            bail!("{}: {status}: {}", self.name, self.last_words());
        }
        Ok(self.printed())
    }

    /// Kills it at once, as a crash would.
    pub fn crash(mut self) {
        // It fails for a process that has ended, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It has not been waited for, so the id is still its own.
        let running = matches!(self.child.try_wait(), Ok(None));
        let asked = running && kill(Pid::from_raw(self.child.id() as i32), Signal::SIGTERM).is_ok();
        let end = Instant::now() + END_WAIT;
        while asked && Instant::now() < end && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
