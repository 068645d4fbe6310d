//! A process that ends with its test.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::{Output, PATIENCE, POLL, eventually};

/// A running `braidcast`, or one that has ended. What it says is kept in files, and printed if the test fails.
/// Dropped, it is asked to end and, if it does not, killed.
pub(crate) struct Process {
    title: String,
    child: Child,
    status: Option<ExitStatus>,
    /// Parts end when it closes, even if the test is killed.
    stdin: Option<ChildStdin>,
    stdout: Option<ChildStdout>,
    said: TempDir,
    more_logs: Vec<PathBuf>,
}

/// How long a process may take to end when asked to.
const END_WAIT: Duration = Duration::from_secs(10);

impl Process {
    /// Starts `braidcast` with `arguments`.
    pub(crate) fn start(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::spawn(braidcast(arguments), false)
    }

    /// Starts any command, such as [`braidcast`] with an environment of its own.
    pub(crate) fn spawn(mut command: Command, piped: bool) -> Self {
        let said = tempfile::tempdir().expect("a temporary folder");
        let file = |name| File::create(said.path().join(name)).expect("writable");
        command.stdin(Stdio::piped()).stderr(file("stderr"));
        command.stdout(if piped { Stdio::piped() } else { file("stdout").into() });
        let title = format!("{command:?}");
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{title}: {error}"));
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        Self { title, child, status: None, stdin, stdout, said, more_logs: Vec::new() }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The other end of its standard output.
    ///
    /// # Panics
    /// The second time, and for a process that was not started piped.
    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.stdout.take().expect("standard output is piped and not yet taken")
    }

    /// Writes to its standard input.
    pub(crate) fn tell(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("standard input is piped");
        stdin.write_all(text.as_bytes()).expect("it reads");
    }

    /// What it has written to standard output so far.
    pub(crate) fn stdout(&self) -> String {
        read(&self.said.path().join("stdout"))
    }

    /// What it has written to standard error so far.
    pub(crate) fn stderr(&self) -> String {
        read(&self.said.path().join("stderr"))
    }

    /// Files that are to be printed, too, if the test fails: those in the folder `logs` at that time.
    pub(crate) fn also_print(&mut self, logs: PathBuf) {
        self.more_logs.push(logs);
    }

    /// Waits for a whole line on standard output that starts with `prefix`, and gives what follows it.
    ///
    /// # Panics
    /// If the process ends before, or says nothing of the kind for [`PATIENCE`].
    pub(crate) fn wait_line(&mut self, prefix: &str) -> String {
        let what = format!("{} says {prefix:?}", self.title);
        eventually(&what, || {
            let ended = self.has_ended();
            let text = self.stdout();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            let line = whole.lines().find_map(|line| line.strip_prefix(prefix)).map(str::to_owned);
            assert!(line.is_some() || !ended, "{} ended before it said {prefix:?}: {}", self.title, self.stderr());
            line
        })
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.status = self.status.or_else(|| self.child.try_wait().expect("a child can be waited for"));
        self.status.is_some()
    }

    /// Waits until it ends, and tells what it said.
    pub(crate) fn finish(&mut self) -> Output {
        let code = self.wait().code();
        Output { code, stdout: self.stdout(), stderr: self.stderr() }
    }

    /// Waits until it ends.
    ///
    /// # Panics
    /// If it does not for [`PATIENCE`].
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let give_up = Instant::now() + PATIENCE;
        loop {
            if self.has_ended() {
                return self.status.expect("it has ended");
            }
            assert!(Instant::now() < give_up, "{} runs for longer than {PATIENCE:?}", self.title);
            std::thread::sleep(POLL);
        }
    }

    /// Sends a signal, unless it has ended.
    pub(crate) fn signal(&mut self, signal: Signal) {
        if !self.has_ended() {
            send_signal(self.pid(), signal);
        }
    }

    /// Kills it with SIGKILL and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.wait();
    }

    fn print(&self) {
        let mut files = vec![self.said.path().join("stdout"), self.said.path().join("stderr")];
        for folder in &self.more_logs {
            files.extend(std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path()));
        }
        for file in files {
            eprintln!("---- {} {}\n{}", self.title, file.display(), end_of(&read(&file)));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print();
        }
        self.signal(Signal::SIGTERM);
        // One that is stopped would not hear it.
        self.signal(Signal::SIGCONT);
        let give_up = Instant::now() + END_WAIT;
        while !self.has_ended() && Instant::now() < give_up {
            std::thread::sleep(POLL);
        }
        if !self.has_ended() {
            self.signal(Signal::SIGKILL);
            // It was killed; there is nobody left to tell of an error here.
            let _ = self.child.wait();
        }
    }
}

/// A home in which nothing can be made, not even by root: no test is to learn of another what paths deliver.
const NO_HOME: &str = "/dev/null";

/// The command under test, in an environment where it finds no profile and no setting by chance.
pub(crate) fn braidcast(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_braidcast"));
    command.args(arguments).env("HOME", NO_HOME).env_remove("XDG_CACHE_HOME");
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"BRAIDCAST_") {
            command.env_remove(name);
        }
    }
    command
}

/// The same command in a shell's limits: `ulimit ARGUMENTS` is called before the command takes the shell's place.
pub(crate) fn limited(ulimit: &str, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit {ulimit} && exec \"$0\" \"$@\"")]);
    limited.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// Sends a signal to a process that a test or its `dev` has started. One that is gone is passed over.
pub(super) fn send_signal(pid: u32, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(pid).expect("a process id"));
    // The only failure is that there is no such process any more.
    let _ = kill(pid, signal);
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

fn end_of(text: &str) -> &str {
    let start = text.len().saturating_sub(PRINTED_BYTES_MAX);
    &text[text.ceil_char_boundary(start)..]
}

const PRINTED_BYTES_MAX: usize = 8_192;
