//! `braidcast dev` with films of its own.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::process::send_signal;
use super::{Client, Film, Process, eventually, write_film};

/// A `braidcast dev` that is being made.
#[must_use]
pub(crate) struct DevBuilder {
    dir: TempDir,
    films: Vec<Film>,
    servers: usize,
    flags: Vec<OsString>,
}

/// One of the processes that `dev` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Its process id.
    pub(crate) pid: u32,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

/// A running `braidcast dev`, all of whose videos can be served. It ends, with all its parts, when it is dropped.
pub(crate) struct Dev {
    process: Process,
    client: Client,
    master: Part,
    servers: Vec<Part>,
    films: Vec<Film>,
    dir: TempDir,
}

impl DevBuilder {
    /// With so many servers instead of three.
    pub(crate) fn servers(mut self, servers: usize) -> Self {
        self.servers = servers;
        self
    }

    /// With one more flag.
    pub(crate) fn flag(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.flags.extend([name.into(), value.into()]);
        self
    }

    /// The folder that is published.
    pub(crate) fn folder(&self) -> PathBuf {
        self.dir.path().join(FILMS)
    }

    /// Starts it and waits until every video is held and servable.
    pub(crate) fn start(self) -> Dev {
        let state = self.dir.path().join(STATE);
        let mut arguments: Vec<OsString> = vec!["dev".into(), self.folder().into(), "--exit-with-parent".into()];
        arguments.extend(["--servers".into(), self.servers.to_string().into(), "--state".into(), state.clone().into()]);
        arguments.extend(self.flags);
        let mut process = Process::start(arguments);
        process.also_print(state.join("log"));
        process.wait_line("ready");
        let master = part(&process.wait_line("master "));
        let servers = (1..=self.servers).map(|n| part(&process.wait_line(&format!("server {n} ")))).collect();
        let client = Client::new(state.join("profile.toml"));
        Dev { process, client, master, servers, films: self.films, dir: self.dir }
    }
}

impl Dev {
    /// A dev with pseudo-random films of these names and lengths in bytes. Films that differ in name differ in content.
    pub(crate) fn of<'a>(films: impl IntoIterator<Item = (&'a str, u64)>) -> DevBuilder {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = dir.path().join(FILMS);
        std::fs::create_dir(&folder).expect("writable");
        let write = |(name, bytes): (&str, u64)| {
            let seed = name.bytes().fold(bytes, |seed, byte| seed.wrapping_mul(257).wrapping_add(byte.into()));
            let sha256 = write_film(&folder.join(name), bytes, seed);
            Film { name: name.to_owned(), bytes, sha256 }
        };
        let films = films.into_iter().map(write).collect();
        DevBuilder { dir, films, servers: 3, flags: Vec::new() }
    }

    /// Its administrator.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// A film by its name.
    pub(crate) fn film(&self, name: &str) -> &Film {
        self.films.iter().find(|film| film.name == name).unwrap_or_else(|| panic!("there is no film {name:?}"))
    }

    /// The file that a film was published from.
    pub(crate) fn original(&self, name: &str) -> PathBuf {
        self.dir.path().join(FILMS).join(name)
    }

    /// A path in the test's own folder, which goes with this.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The state folder: `profile.toml`, `log/`, `master/`, `server-N/`.
    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join(STATE)
    }

    /// The process `braidcast dev` itself.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// The master.
    pub(crate) fn master(&self) -> Part {
        self.master
    }

    /// Server `number`, from 1.
    pub(crate) fn server(&self, number: usize) -> Part {
        self.servers[number - 1]
    }

    /// All servers, in order.
    pub(crate) fn servers(&self) -> &[Part] {
        &self.servers
    }

    /// Addresses of these servers, sorted.
    pub(crate) fn addresses(&self, numbers: &[usize]) -> Vec<SocketAddr> {
        let mut addresses: Vec<_> = numbers.iter().map(|&number| self.server(number).address).collect();
        addresses.sort_unstable();
        addresses
    }

    /// Kills server `number` with SIGKILL and waits until it is gone.
    pub(crate) fn kill_server(&self, number: usize) {
        kill_part(self.server(number).pid);
    }

    /// Kills the master with SIGKILL and waits until it is gone.
    pub(crate) fn kill_master(&self) {
        kill_part(self.master.pid);
    }

    /// Stops server `number` where it is (SIGSTOP): its port stays open, and nobody answers.
    pub(crate) fn freeze_server(&self, number: usize) {
        send_signal(self.server(number).pid, Signal::SIGSTOP);
    }

    /// Lets a frozen server go on.
    pub(crate) fn thaw_server(&self, number: usize) {
        send_signal(self.server(number).pid, Signal::SIGCONT);
    }

    /// Whether the master lists every server: the counters of others are not read.
    pub(crate) fn servers_are_listed(&self) -> bool {
        self.client.servers().iter().filter(|server| server.listed).count() == self.servers.len()
    }

    /// Brings server `number` back through `braidcast dev --restart`, which ends when the master lists it again.
    pub(crate) fn restart_server(&mut self, number: usize) {
        self.servers[number - 1] = self.restart(&number.to_string(), &format!("server {number} "));
    }

    /// Brings the master back, and waits until it lists all servers that run.
    pub(crate) fn restart_master(&mut self) {
        self.master = self.restart("master", "master ");
    }

    fn restart(&self, argument: &str, prefix: &str) -> Part {
        let state = self.state();
        let mut restart = Process::start([
            "dev".as_ref(),
            "--restart".as_ref(),
            argument.as_ref(),
            "--state".as_ref(),
            state.as_os_str(),
        ]);
        let status = restart.wait();
        assert!(status.success(), "{status}: {}", restart.stderr());
        part(&restart.wait_line(prefix))
    }

    /// What the parts have logged, all together.
    pub(crate) fn logs(&self) -> String {
        let logs = self.state().join("log");
        let mut files: Vec<PathBuf> = list(&logs);
        files.sort();
        files.iter().map(|file| std::fs::read_to_string(file).expect("a log")).collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Who is frozen would not hear that it is to end.
        for number in 1..=self.servers.len() {
            self.thaw_server(number);
        }
    }
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("a readable folder").path()).collect()
}

/// Reads `PID ADDRESS`.
fn part(text: &str) -> Part {
    let parsed = text
        .split_once(' ')
        .and_then(|(pid, address)| Some(Part { pid: pid.parse().ok()?, address: address.trim_end().parse().ok()? }));
    parsed.unwrap_or_else(|| panic!("{text:?} is not `PID ADDRESS`"))
}

fn kill_part(pid: u32) {
    send_signal(pid, Signal::SIGKILL);
    // `dev` waits for its children, so not even a zombie stays.
    eventually("a killed process goes", || (!Path::new(&format!("/proc/{pid}")).exists()).then_some(()));
}

const FILMS: &str = "films";
const STATE: &str = "state";
