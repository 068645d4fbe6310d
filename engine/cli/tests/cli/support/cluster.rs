//! A master and servers that are started one by one.

use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use braidcast_client::profile::Credential;
use braidcast_client::{Profile, Secret};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::{Client, Process, braidcast, eventually, limited};

/// A master, and as many servers as are added, each on loopback and with flags of its own. All end when this is
/// dropped.
pub(crate) struct Cluster {
    servers: Vec<(Process, Vec<OsString>)>,
    master: Process,
    master_address: SocketAddr,
    client: Client,
    dir: TempDir,
}

impl Cluster {
    /// Starts `braidcast master FLAGS` with the account `admin`.
    pub(crate) fn start(flags: &[&str]) -> Self {
        Self::start_in(&[], flags)
    }

    /// The same, with these environment variables.
    pub(crate) fn start_in(environment: &[(&str, &OsStr)], flags: &[&str]) -> Self {
        Self::start_as(|_| (), environment, flags, |master| master)
    }

    /// The same, after `prepare` has had the folder in which `master` will be the state folder.
    pub(crate) fn start_prepared(prepare: impl FnOnce(&Path), environment: &[(&str, &OsStr)], flags: &[&str]) -> Self {
        Self::start_as(prepare, environment, flags, |master| master)
    }

    /// The same, with a master that may have so many descriptors and cannot raise that limit.
    pub(crate) fn start_limited(descriptors: u32, flags: &[&str]) -> Self {
        Self::start_as(|_| (), &[], flags, |master| limited(&format!("-n {descriptors}"), &master))
    }

    fn start_as(
        prepare: impl FnOnce(&Path),
        environment: &[(&str, &OsStr)],
        flags: &[&str],
        change: impl FnOnce(Command) -> Command,
    ) -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        prepare(dir.path());
        let (state, password) = (dir.path().join("master"), dir.path().join("admin-password"));
        std::fs::write(&password, PASSWORD).expect("writable");
        let mut arguments: Vec<OsString> =
            ["master", "--exit-with-parent", "--listen", "127.0.0.1:0"].map(OsString::from).into();
        arguments.extend(["--state".into(), state.clone().into(), "--bootstrap-admin".into(), ADMIN.into()]);
        arguments.extend(["--bootstrap-password-file".into(), password.into()]);
        arguments.extend(flags.iter().map(OsString::from));
        let mut master = braidcast(arguments);
        master.envs(environment.iter().copied());
        let mut master = Process::spawn(change(master), false);
        let master_address = master.wait_line("master listening ").parse().expect("an address");
        let profile = Profile {
            path: dir.path().join("profile.toml"),
            master: format!("{master_address}"),
            ca_pem: std::fs::read_to_string(state.join("ca.pem")).expect("the master's own authority"),
            username: ADMIN.to_owned(),
            credential: Credential::Password(Secret::new(PASSWORD)),
        };
        profile.save().expect("writable");
        let client = Client::new(profile.path);
        Self { servers: Vec::new(), master, master_address, client, dir }
    }

    /// Ends the master, lets `change` change what is in its state folder, and starts it again at its address.
    pub(crate) fn restart_master(&mut self, change: impl FnOnce(&Path)) {
        self.stop_master();
        change(&self.path("master"));
        self.start_master(&[]);
    }

    /// Starts `braidcast serve` where `ulimit ARGUMENTS` was called before.
    pub(crate) fn add_server_under(&mut self, ulimit: &str) {
        let arguments = self.server_arguments(&[]);
        let mut server = Process::spawn(limited(ulimit, &braidcast(&arguments)), false);
        server.wait_line("serve listening ");
        self.servers.push((server, arguments));
    }

    /// Ends a server and starts it again where `ulimit ARGUMENTS` was called before.
    pub(crate) fn restart_server_under(&mut self, number: usize, ulimit: &str) {
        let (server, arguments) = &mut self.servers[number - 1];
        end(server);
        *server = Process::spawn(limited(ulimit, &braidcast(arguments)), false);
        server.wait_line("serve listening ");
    }

    /// Stops the master, and waits until it has gone.
    pub(crate) fn stop_master(&mut self) {
        self.master.signal(Signal::SIGTERM);
        assert!(self.master.wait().success());
    }

    /// Starts the master again at its address.
    pub(crate) fn start_master(&mut self, flags: &[&str]) {
        self.master = self.master_again(flags);
        self.master.wait_line("master listening ");
    }

    /// Asserts that the master does not start again, with all of `words` in its reason.
    #[track_caller]
    pub(crate) fn assert_master_refused(&self, words: &[&str]) {
        self.master_again(&[]).finish().assert_refused(1, words);
    }

    fn master_again(&self, flags: &[&str]) -> Process {
        let address = self.master_address.to_string();
        let state = self.path("master");
        let arguments = ["master", "--exit-with-parent", "--listen", &address, "--state"].map(OsStr::new);
        Process::start(arguments.into_iter().chain([state.as_os_str()]).chain(flags.iter().map(OsStr::new)))
    }

    /// Starts `braidcast serve FLAGS` on a free port of loopback, and gives its address. It may take a moment until
    /// the master lists it: [`Cluster::wait_listed`].
    pub(crate) fn add_server(&mut self, flags: &[&str]) -> SocketAddr {
        self.add_server_in(&[], flags)
    }

    /// The same, with these environment variables.
    pub(crate) fn add_server_in(&mut self, environment: &[(&str, &OsStr)], flags: &[&str]) -> SocketAddr {
        let arguments = self.server_arguments(flags);
        let mut server = braidcast(&arguments);
        server.envs(environment.iter().copied());
        let mut server = Process::spawn(server, false);
        let line = server.wait_line("serve listening ");
        self.servers.push((server, arguments));
        let address = line.split(' ').next().and_then(|address| address.parse().ok());
        address.unwrap_or_else(|| panic!("{line:?} starts with no address"))
    }

    /// What the next server is started with.
    fn server_arguments(&self, flags: &[&str]) -> Vec<OsString> {
        let mut arguments: Vec<OsString> =
            ["serve", "--exit-with-parent", "--listen", "127.0.0.1:0"].map(OsString::from).into();
        let state = self.dir.path().join(format!("server-{}", self.servers.len() + 1));
        arguments.extend(["--master".into(), self.master_address.to_string().into(), "--state".into(), state.into()]);
        arguments.extend(["--ca".into(), self.path("master/ca.pem").into()]);
        arguments.extend(["--join-token-file".into(), self.path("master/join-token").into()]);
        arguments.extend(flags.iter().map(OsString::from));
        arguments
    }

    /// Waits until the master lists so many servers.
    pub(crate) fn wait_listed(&self, servers: usize) {
        eventually("servers are listed", || {
            (self.client.servers().iter().filter(|server| server.listed).count() == servers).then_some(())
        });
    }

    /// Publishes a file under `name`, and waits until so many servers hold it.
    pub(crate) fn publish(&self, file: &Path, name: &str, held_by: u32) {
        let publish = ["publish".as_ref(), "--as-file".as_ref(), file.as_os_str(), "--name".as_ref(), name.as_ref()];
        self.client.run(publish).success();
        self.client.wait_held(name, held_by);
    }

    /// Its administrator.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// The master's process.
    pub(crate) fn master(&mut self) -> &mut Process {
        &mut self.master
    }

    /// The process of a server, from 1 in the order in which they were added.
    pub(crate) fn server(&mut self, number: usize) -> &mut Process {
        &mut self.servers[number - 1].0
    }

    /// A path in the test's own folder: `master/` and `server-N/` are the parts' states.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }
}

fn end(process: &mut Process) {
    process.signal(Signal::SIGTERM);
    process.wait();
}

const ADMIN: &str = "admin";
const PASSWORD: &str = "correct horse battery staple";
