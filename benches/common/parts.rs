//! A master and servers that are started one by one, so that something can be put between them and a client.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use braidcast_client::profile::Credential;
use braidcast_client::{Profile, Secret};
use tempfile::TempDir;

use crate::command::braidcast;

const ADMIN: &str = "admin";
const PASSWORD: &str = "correct horse battery staple";

/// A master and its servers; they end with this process.
pub(crate) struct Parts {
    children: Vec<Child>,
    pub(crate) master: SocketAddr,
    folder: TempDir,
}

impl Parts {
    /// A master.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let password = folder.path().join("password");
        std::fs::write(&password, PASSWORD).expect("room on the disk");
        let mut command = Command::new(braidcast());
        command.args(["master", "--exit-with-parent", "--listen", "127.0.0.1:0", "--bootstrap-admin", ADMIN]);
        command.arg("--bootstrap-password-file").arg(password).arg("--state").arg(folder.path().join("master"));
        let (child, line) = spawn(command, "master listening ");
        Self { children: vec![child], master: line.parse().expect("an address"), folder }
    }

    /// A server that tells clients this address. Gives its own.
    pub(crate) fn add_server(&mut self, advertised: SocketAddr) -> SocketAddr {
        let master = self.folder.path().join("master");
        let mut command = Command::new(braidcast());
        command.args(["serve", "--exit-with-parent", "--listen", "127.0.0.1:0", "--master", &self.master.to_string()]);
        command.arg("--state").arg(self.folder.path().join(format!("server-{}", self.children.len())));
        command.arg("--ca").arg(master.join("ca.pem")).arg("--join-token-file").arg(master.join("join-token"));
        command.args(["--advertise", &advertised.to_string()]);
        let (child, line) = spawn(command, "serve listening ");
        self.children.push(child);
        line.split(' ').next().and_then(|address| address.parse().ok()).expect("an address")
    }

    /// The profile of a client that finds the master at `address`, saved under `name`.
    pub(crate) fn profile(&self, name: &str, address: SocketAddr) -> Profile {
        let profile = Profile {
            path: self.folder.path().join(name),
            master: address.to_string(),
            ca_pem: std::fs::read_to_string(self.folder.path().join("master/ca.pem")).expect("the master's own"),
            username: ADMIN.to_owned(),
            credential: Credential::Password(Secret::new(PASSWORD)),
        };
        profile.save().expect("room on the disk");
        profile
    }

    /// Publishes a film, and waits until `holders` servers hold it.
    pub(crate) fn publish(&self, profile: &Profile, film: &Path, name: &str, holders: usize) {
        let run = |arguments: &[&str]| {
            let out = Command::new(braidcast()).args(arguments).arg("--profile").arg(&profile.path).output();
            let out = out.expect("the braidcast command; `make bench` builds it");
            assert!(out.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
            String::from_utf8(out.stdout).expect("text")
        };
        run(&["publish", film.to_str().expect("a plain path"), "--name", name]);
        let held = || run(&["info", name]).contains(&format!("held by    {holders}"));
        while !held() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }

    /// A place for files.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended needs nothing.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts a process, and waits for the line that begins so; gives the rest of it.
fn spawn(mut command: Command, begin: &str) -> (Child, String) {
    // A part ends when its standard input does.
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the braidcast command; `make bench` builds it");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    let line = lines.find_map(|line| line.strip_prefix(begin).map(str::to_owned)).expect("it starts");
    // Whatever else it prints must find a reader.
    std::thread::spawn(move || lines.for_each(drop));
    (child, line)
}
