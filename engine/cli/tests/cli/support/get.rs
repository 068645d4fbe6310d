//! `braidcast get`: being made, running, ended.

use std::ffi::OsString;
use std::path::Path;
use std::process::ChildStdout;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use braidcast_media::layout::CHUNK_BYTES;
use nix::sys::signal::Signal;
use serde::Deserialize;

use super::memory::{MEMORY_POLL, peak_rss_kib};
use super::{Output, Process, braidcast, chunks, hash_list_bytes};

/// What `get --json` prints. An unknown or a missing key is an error.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Report {
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) verified: bool,
    pub(crate) redundant_bytes: u64,
    pub(crate) redistributions: u32,
    pub(crate) sources: Vec<SourceReport>,
}

/// One server's part in a [`Report`].
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SourceReport {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) bytes: u64,
    pub(crate) lost: u64,
    pub(crate) rejected: u64,
    pub(crate) failed: bool,
}

impl Report {
    /// Addresses of the sources that failed, sorted.
    pub(crate) fn failed(&self) -> Vec<std::net::SocketAddr> {
        let failed = self.sources.iter().filter(|source| source.failed);
        let mut failed: Vec<_> = failed.map(|source| source.address).collect();
        failed.sort_unstable();
        failed
    }

    /// Payload taken from all sources together.
    pub(crate) fn source_bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.bytes).sum()
    }

    /// Checks the report against `sent`, the bytes that the servers counted while the hash list and `missing` chunks
    /// of the film were fetched.
    pub(crate) fn check_sent(&self, missing: u64, sent: u64) {
        let needed = CHUNK_BYTES as u64 * (missing + chunks(hash_list_bytes(self.bytes)));
        // What was sent either was needed, or came and was not, or did not come.
        let lost: u64 = self.sources.iter().map(|source| source.lost * CHUNK_BYTES as u64).sum();
        let padding = if self.redundant_bytes > 0 { PADDING_BYTES_MAX } else { 0 };
        let least = needed + self.redundant_bytes;
        let most = least + lost + padding;
        assert!((least..=most).contains(&sent), "{sent} bytes were sent, not {least} to {most}: {self:?}");
    }
}

/// Servers count 1,200 bytes for each chunk; the last ones of the film and of the hash list are shorter.
const PADDING_BYTES_MAX: u64 = 2 * CHUNK_BYTES as u64;

/// A `braidcast get NAME --json` that is being made.
#[must_use]
pub(crate) struct Get {
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    piped: bool,
}

impl Get {
    pub(super) fn new(profile: &Path, name: &str) -> Self {
        let flags = ["get", "--json", "--profile"].map(OsString::from);
        let arguments = flags.into_iter().chain([profile.into(), "--".into(), name.into()]).collect();
        Self { arguments, environment: Vec::new(), piped: false }
    }

    /// Into a file, or into what is none (`/dev/null`).
    pub(crate) fn to(self, path: &Path) -> Self {
        self.flag("--output", path)
    }

    /// To standard output, which the caller reads: [`Running::take_stdout`]. The report is on standard error then.
    pub(crate) fn piped(mut self) -> Self {
        self.piped = true;
        self.flag("--output", "-")
    }

    /// With one more flag.
    pub(crate) fn flag(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.arguments.splice(1..1, [name.into(), value.into()]);
        self
    }

    /// With one more environment variable.
    pub(crate) fn variable(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.environment.push((name, value.into()));
        self
    }

    /// Starts it.
    pub(crate) fn start(self) -> Running {
        let started = Instant::now();
        let mut command = braidcast(self.arguments);
        command.envs(self.environment);
        let process = Process::spawn(command, self.piped);
        let pid = process.pid();
        let peak = std::thread::spawn(move || {
            let mut peak = 0;
            // A process that has ended has no memory any more, so its peak is read again and again until then.
            while let Some(now) = peak_rss_kib(pid) {
                peak = now;
                std::thread::sleep(MEMORY_POLL);
            }
            peak
        });
        Running { process, started, piped: self.piped, peak }
    }

    /// Starts it and waits for its end.
    pub(crate) fn finish(self) -> Ended {
        self.start().wait()
    }
}

/// A `braidcast get` that runs.
pub(crate) struct Running {
    process: Process,
    started: Instant,
    piped: bool,
    peak: JoinHandle<u64>,
}

impl Running {
    /// What it writes to standard output.
    ///
    /// # Panics
    /// If the file does not go there.
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.process.take_stdout()
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.has_ended()
    }

    /// Kills it with SIGKILL and waits until it is gone.
    ///
    /// # Panics
    /// If it had ended before by itself.
    pub(crate) fn kill(mut self) {
        assert!(!self.process.has_ended(), "it ended before it could be killed: {}", self.process.stderr());
        self.process.kill();
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.process.stderr()
    }

    /// Stops it where it is (SIGSTOP), so that what a test does next finds it in the middle however long that takes.
    ///
    /// # Panics
    /// If it had ended before.
    pub(crate) fn hold(&mut self) {
        self.process.signal(Signal::SIGSTOP);
        assert!(!self.process.has_ended(), "it ended before it could be held: {}", self.process.stderr());
    }

    /// Lets one that is held go on.
    pub(crate) fn go_on(&mut self) {
        self.process.signal(Signal::SIGCONT);
    }

    /// Asks it to end, as Ctrl-C does.
    pub(crate) fn interrupt(&mut self) {
        self.process.signal(Signal::SIGINT);
    }

    /// Waits for its end.
    pub(crate) fn wait(mut self) -> Ended {
        let code = self.process.wait().code();
        let elapsed = self.started.elapsed();
        let peak_rss_kib = self.peak.join().expect("reading a number does not panic");
        let stdout = if self.piped { String::new() } else { self.process.stdout() };
        let output = Output { code, stdout, stderr: self.process.stderr() };
        Ended { output, elapsed, peak_rss_kib, piped: self.piped }
    }
}

/// A `braidcast get` that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Exit code and what it said.
    pub(crate) output: Output,
    /// Wall time from outside, until its end was noticed.
    pub(crate) elapsed: Duration,
    /// The most memory that it had at a time, in KiB.
    pub(crate) peak_rss_kib: u64,
    piped: bool,
}

impl Ended {
    /// What it reports.
    ///
    /// # Panics
    /// If its exit code is not 0, or the report is not the object that is documented.
    pub(crate) fn report(&self) -> Report {
        let Output { code, stdout, stderr } = &self.output;
        assert_eq!(*code, Some(0), "{stderr}");
        let text = if self.piped { stderr } else { stdout };
        serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"))
    }

    /// What it said when it failed with exit code `code`.
    ///
    /// # Panics
    /// If it ended in another way.
    pub(crate) fn failure(&self, code: i32) -> &str {
        assert_eq!(self.output.code, Some(code), "{:?}", self.output);
        &self.output.stderr
    }
}
