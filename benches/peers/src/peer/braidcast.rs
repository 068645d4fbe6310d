//! Braidcast: a master, media servers, and `braidcast get`.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Context, Result};
use braidcast_lab::namespace::run;
use braidcast_lab::process::Process;

use crate::bench::{Bench, FILE, READY_WAIT};
use crate::contender::{Peer, Run};

const ADMIN: &str = "admin";
const PASSWORD: &str = "open sesame";
/// Publishing reads, seals and writes everything, and each server fetches it.
const PUBLISH_WAIT: Duration = Duration::from_secs(600);
const LOOK: Duration = Duration::from_millis(200);

/// A master and its servers, which hold the file.
pub(crate) struct Braidcast {
    /// The servers, and the master last: they end before it does.
    processes: Vec<Process>,
    profile: PathBuf,
}

impl Braidcast {
    /// Starts so many servers, each with one thread, and publishes the file.
    pub(crate) fn start(bench: &Bench, name: &str, servers: usize) -> Result<Self> {
        let folder = bench.path(&format!("braidcast-{name}"));
        fs::create_dir_all(&folder)?;
        let password = folder.join("password");
        fs::write(&password, PASSWORD)?;
        let (master, address) = start_master(bench, name, &folder)?;
        let mut processes = Vec::new();
        for number in 1..=servers {
            processes.push(start_server(bench, &format!("{name}-{number}"), &folder, &address)?);
        }
        processes.push(master);
        let braidcast = Self { processes, profile: folder.join("profile.toml") };
        let mut login = bench.place.client(&bench.braidcast);
        login.args(["login", "--master", &address, "--user", ADMIN, "--password-stdin", "--ca"]);
        login.arg(folder.join("master").join("ca.pem")).arg("--profile").arg(&braidcast.profile);
        run(login.stdin(File::open(&password)?)).context("login")?;
        braidcast.publish(bench, servers)?;
        Ok(braidcast)
    }

    /// The pack at the first server.
    pub(crate) fn pack(&self, bench: &Bench, name: &str) -> Result<PathBuf> {
        let folder = bench.path(&format!("braidcast-{name}")).join(format!("server-{name}-1"));
        // It is served from before it is synced, and has its name after that.
        bench.stop.wait_for("the server has no whole pack", PUBLISH_WAIT, || {
            bench.stop.sleep(LOOK)?;
            for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "pack") {
                    return Ok(Some(path));
                }
            }
            Ok(None)
        })
    }

    /// Bytes that the servers and the master have read from disks so far.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        self.processes.iter().map(Process::disk_bytes).sum()
    }

    /// Fetches the file once. `verify`: as the flag says.
    pub(crate) fn get(&self, bench: &Bench, output: PathBuf, verify: &str) -> Result<Run> {
        let mut get = bench.place.client(&bench.braidcast);
        get.args(["get", FILE, "--json", "--verify", verify, "--output"]).arg(output);
        get.arg("--profile").arg(&self.profile);
        bench.measure(&self.processes, get)
    }

    fn publish(&self, bench: &Bench, servers: usize) -> Result<()> {
        let mut publish = bench.place.client(&bench.braidcast);
        publish.args(["publish", "--as-file"]).arg(bench.file()).arg("--profile").arg(&self.profile);
        bench.start("publish", publish)?.finish(&bench.stop, PUBLISH_WAIT)?;
        let held = format!("{servers}/{servers}");
        let mut list = bench.place.client(&bench.braidcast);
        list.arg("ls").arg("--profile").arg(&self.profile);
        bench.stop.wait_for("the servers do not hold the file", PUBLISH_WAIT, || {
            bench.stop.sleep(LOOK)?;
            let listed = run(&mut list)?;
            let is_held = listed.lines().any(|line| line.split_whitespace().any(|word| word == held));
            Ok(is_held.then_some(()))
        })
    }
}

/// What several rows share: each server has a copy of the file in memory.
#[derive(Default)]
pub(super) struct Clusters {
    one: Option<Rc<Braidcast>>,
}

impl Clusters {
    /// One server.
    pub(super) fn of_one(&mut self, bench: &Bench) -> Result<Rc<Braidcast>> {
        let cluster = match self.one.take() {
            Some(cluster) => cluster,
            None => Rc::new(Braidcast::start(bench, "one", 1)?),
        };
        Ok(Rc::clone(self.one.insert(cluster)))
    }
}

/// `braidcast get`.
pub(super) struct Get {
    cluster: Rc<Braidcast>,
    verify: &'static str,
}

impl Get {
    /// `verify`: as the flag says.
    pub(super) fn from(cluster: Rc<Braidcast>, verify: &'static str) -> Box<Self> {
        Box::new(Self { cluster, verify })
    }
}

impl Peer for Get {
    fn run(&self, bench: &Bench, output: PathBuf) -> Result<Run> {
        self.cluster.get(bench, output, self.verify)
    }
}

/// Gives its address, too.
fn start_master(bench: &Bench, name: &str, folder: &Path) -> Result<(Process, String)> {
    let mut command = part(bench, "master");
    command.arg("--listen").arg(any_port(bench.place.address()));
    command.arg("--tls-name").arg(bench.place.address().to_string());
    command.arg("--state").arg(folder.join("master")).args(["--bootstrap-admin", ADMIN]);
    command.arg("--bootstrap-password-file").arg(folder.join("password"));
    let mut process = bench.start(&format!("master-{name}"), command)?;
    let start = "master listening ";
    let line = process.wait_line(&bench.stop, start, READY_WAIT)?;
    Ok((process, line[start.len()..].trim().to_owned()))
}

fn start_server(bench: &Bench, name: &str, folder: &Path, master: &str) -> Result<Process> {
    let mut command = part(bench, "serve");
    command.args(["--shards", "1", "--master", master]);
    command.arg("--listen").arg(any_port(bench.place.address()));
    command.arg("--state").arg(folder.join(format!("server-{name}")));
    command.arg("--ca").arg(folder.join("master").join("ca.pem"));
    command.arg("--join-token-file").arg(folder.join("master").join("join-token"));
    let mut process = bench.start(&format!("serve-{name}"), command)?;
    process.wait_line(&bench.stop, "serve listening ", READY_WAIT)?;
    Ok(process)
}

fn part(bench: &Bench, name: &str) -> Command {
    let mut command = bench.place.server(&bench.braidcast);
    command.args([name, "--exit-with-parent"]);
    command
}

fn any_port(address: Ipv4Addr) -> String {
    SocketAddrV4::new(address, 0).to_string()
}
