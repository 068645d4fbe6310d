//! What a user does with a profile.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use braidcast_client::control::Role;
use braidcast_client::profile::Credential;
use braidcast_client::{Control, Profile, Secret};
use braidcast_proto::v1::ServerStatus;

use super::{Get, Process, eventually};

/// A user of one master.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    profile: PathBuf,
}

/// A command that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Output {
    /// Its exit code; nothing if a signal ended it.
    pub(crate) code: Option<i32>,
    /// What it wrote to standard output.
    pub(crate) stdout: String,
    /// What it wrote to standard error.
    pub(crate) stderr: String,
}

impl Output {
    /// What it wrote to standard output.
    ///
    /// # Panics
    /// If its exit code is not 0.
    pub(crate) fn success(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Asserts that it failed with exit code `code`, and that its errors hold all of `words`.
    ///
    /// # Panics
    /// If that is not so.
    #[track_caller]
    pub(crate) fn assert_refused(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        let errors: String = self.stderr.lines().filter(|line| line.starts_with("braidcast: ")).collect();
        for word in words {
            assert!(errors.contains(word), "{word:?} is missing in {:?}", self.stderr);
        }
    }
}

impl Client {
    pub(crate) fn new(profile: PathBuf) -> Self {
        Self { profile }
    }

    /// The profile's file.
    pub(crate) fn profile(&self) -> &Path {
        &self.profile
    }

    /// Runs `braidcast ARGUMENTS --profile PROFILE` to its end.
    pub(crate) fn run(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Output {
        let mut all: Vec<OsString> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
        all.extend(["--profile".into(), self.profile.clone().into()]);
        Process::start(all).finish()
    }

    /// Adds an account that may list and fetch, and gives a client that is logged in with it.
    pub(crate) fn add_viewer(&self, name: &str) -> Self {
        self.add(name, Role::Viewer)
    }

    /// Adds an account with a role, and gives a client that is logged in with it.
    pub(crate) fn add(&self, name: &str, role: Role) -> Self {
        let password = Secret::new("a password of one's own");
        self.ask(async |control| {
            control.add_user(name, &password, role).await.expect("an administrator adds accounts");
        });
        let mut profile = Profile::load(&self.profile).expect("a profile");
        profile.path = self.profile.with_file_name(format!("{name}.toml"));
        profile.username = name.to_owned();
        profile.credential = Credential::Password(password);
        profile.save().expect("writable");
        Self { profile: profile.path }
    }

    /// Runs `braidcast publish FILE FLAGS` to its end.
    pub(crate) fn publish(&self, file: &Path, flags: &[&str]) -> Output {
        self.run(
            [OsStr::new("publish"), OsStr::new("--as-file"), file.as_os_str()]
                .into_iter()
                .chain(flags.iter().map(OsStr::new)),
        )
    }

    /// Names of all videos, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let videos = self.ask(async |control| control.list_videos().await.expect("the master lists videos"));
        let mut names: Vec<String> = videos.into_iter().map(|video| video.name).collect();
        names.sort();
        names
    }

    /// A `braidcast get NAME` with `--json`.
    pub(crate) fn get(&self, name: &str) -> Get {
        Get::new(&self.profile, name)
    }

    /// Asks the master through the client library, logged in as the profile says.
    pub(crate) fn ask<T>(&self, question: impl AsyncFnOnce(Control) -> T) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let profile = Profile::load(&self.profile).expect("a profile");
            let control = Control::connect(&profile).await.expect("the master answers");
            question(control).await
        })
    }

    /// Waits until so many listed servers hold the video called `name` in full.
    pub(crate) fn wait_held(&self, name: &str, servers: u32) {
        eventually("the video is held", || {
            let video = self.ask(async |control| control.video(name).await.expect("it was published"));
            (video.replicas_held == servers).then_some(())
        });
    }

    /// The media servers, as the master knows them now.
    pub(crate) fn servers(&self) -> Vec<ServerStatus> {
        self.ask(async |control| control.list_servers().await.expect("the master lists servers"))
    }

    /// The id that the master gave to the server at `address`.
    pub(crate) fn server_id(&self, address: SocketAddr) -> String {
        let servers = self.servers();
        let found = servers.iter().find(|server| server.address == address.to_string());
        found.unwrap_or_else(|| panic!("the master knows {address} among {servers:?}")).server_id.clone()
    }

    /// Bytes of chunks that each listed server has sent since it started, by its own count: 1,200 for each chunk,
    /// padding included. Takes two rounds of heartbeats: what was under way when it was called is counted, too.
    pub(crate) fn sent_bytes(&self) -> BTreeMap<SocketAddr, u64> {
        let mut before = self.fresh_sent_bytes();
        eventually("the servers' counters come to rest", || {
            let now = self.fresh_sent_bytes();
            let at_rest = now == before;
            before.clone_from(&now);
            at_rest.then_some(now)
        })
    }

    /// The counters of all listed servers by heartbeats that are younger than this call.
    fn fresh_sent_bytes(&self) -> BTreeMap<SocketAddr, u64> {
        let called = Instant::now();
        self.ask(async |control| {
            loop {
                let servers = control.list_servers().await.expect("the master lists servers");
                let listed: Vec<&ServerStatus> = servers.iter().filter(|server| server.listed).collect();
                if listed.iter().all(|server| Duration::from_millis(server.heartbeat_age_ms) < called.elapsed()) {
                    let counter =
                        |server: &&ServerStatus| (server.address.parse().expect("an address"), server.sent_bytes);
                    return listed.iter().map(counter).collect();
                }
                tokio::time::sleep(HEARTBEAT_POLL).await;
            }
        })
    }
}

const HEARTBEAT_POLL: Duration = Duration::from_millis(50);
