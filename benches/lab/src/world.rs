//! A world: a client, another client, a master and media servers, each on a host of its own, with a web server beside
//! each media server.
//!
//! Clients reach everyone through the router alone. Between the master and its servers there is also a cable without
//! limits, so that videos are in place within seconds; nothing that a scenario measures goes over it.

mod videos;

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Command, id};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::namespace::run;
use crate::network::{Host, Network};
use crate::ports;
use crate::process::Process;
use crate::router::fabric::{Fabric, HostId};
use crate::stop::Stop;
pub use videos::{FILM, FILM_PICTURES_PER_S, LONG, SHORT, SHORT_BYTES};

/// The client.
pub const CLIENT: HostId = HostId(0);
/// Another client, or a user of TCP.
pub const OTHER: HostId = HostId(1);
/// The master.
pub const MASTER: HostId = HostId(2);

const ADMIN: &str = "admin";
const PASSWORD: &str = "open sesame";
const READY_WAIT: Duration = Duration::from_secs(30);

/// A media server's host, by its number from 0.
pub fn server(number: usize) -> HostId {
    HostId(3 + number)
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How many media servers.
    pub servers: usize,
    /// Bytes of [`LONG`].
    pub long_bytes: u64,
    /// The `braidcast` command.
    pub braidcast: PathBuf,
    /// Where processes log.
    pub logs: PathBuf,
    /// Whether downloads are traced there, too.
    pub has_traces: bool,
}

/// Everything that runs. Dropped, it is ended and removed.
#[derive(Debug)]
pub struct World {
    // Dropped first: processes end before their network does.
    parts: Vec<Process>,
    servers: Vec<Option<Process>>,
    /// The hosts.
    pub network: Network,
    folder: Folder,
    plan: Plan,
    stop: Stop,
    started: usize,
}

impl World {
    /// Makes a world in which every media server holds both videos.
    pub fn build(plan: Plan, stop: &Stop) -> Result<Self> {
        let names = ["client", "other", "master"].map(str::to_owned).into_iter();
        let names: Vec<String> = names.chain((1..=plan.servers).map(|number| format!("server{number}"))).collect();
        let folder = Folder::create()?;
        fs::create_dir_all(&plan.logs).with_context(|| plan.logs.display().to_string())?;
        let network = Network::build(&names)?;
        let servers = Vec::new();
        let mut world = Self { parts: Vec::new(), servers, network, folder, plan, stop: stop.clone(), started: 0 };
        world.tune()?;
        world.start_master()?;
        for number in 0..world.plan.servers {
            world.lay_cable(number)?;
            let process = world.start_server(number)?;
            world.servers.push(Some(process));
            world.start_web(number)?;
        }
        for host in [CLIENT, OTHER, MASTER] {
            world.login(host)?;
        }
        world.publish()?;
        Ok(world)
    }

    /// How many media servers there are.
    pub fn servers(&self) -> usize {
        self.plan.servers
    }

    /// Whether signals ask for the end.
    pub fn stop(&self) -> &Stop {
        &self.stop
    }

    /// A host.
    pub fn host(&self, id: HostId) -> &Host {
        self.network.host(id)
    }

    /// Lays new links by `work`, and counts what arrives from now on.
    pub fn wire(&self, work: impl FnOnce(&mut Fabric) + Send + 'static) {
        self.network.router.with(move |fabric, now| {
            fabric.lay_links();
            work(fabric);
            fabric.count_arrivals(now);
        });
    }

    /// The router's time.
    pub fn now(&self) -> Duration {
        self.network.router.with(|_, now| now)
    }

    /// Starts a process on a host.
    pub fn start(&mut self, host: HostId, name: &str, program: &Path, arguments: &[String]) -> Result<Process> {
        self.started += 1;
        let name = format!("{:03}-{name}", self.started);
        let mut command = self.host(host).namespace.command(program);
        command.args(arguments);
        Process::start(&name, command, &self.plan.logs)
    }

    /// Starts `braidcast` on a host, as the user who is logged in there.
    pub fn braidcast(&mut self, host: HostId, arguments: &str) -> Result<Process> {
        let program = self.plan.braidcast.clone();
        let name = arguments.split(' ').next().unwrap_or_default().to_owned();
        let mut arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        arguments.extend(["--profile".to_owned(), self.profile(host).display().to_string()]);
        if name == "get" && self.plan.has_traces {
            let trace = self.plan.logs.join(format!("{:03}-get.trace", self.started + 1));
            arguments.extend(["--trace".to_owned(), trace.display().to_string()]);
        }
        self.start(host, &name, &program, &arguments)
    }

    /// Starts to watch a film on a host.
    pub fn watch(&mut self, host: HostId, film: &str) -> Result<Process> {
        let profile = self.profile(host).display().to_string();
        let arguments = ["watch", film, "--profile", &profile].map(str::to_owned);
        self.start(host, "watch", &std::env::current_exe()?, &arguments)
    }

    /// Kills a media server as a crash would.
    pub fn crash_server(&mut self, number: usize) {
        if let Some(process) = self.servers[number].take() {
            process.crash();
        }
    }

    /// Starts a media server that crashed, and waits until it listens.
    pub fn restart_server(&mut self, number: usize) -> Result<()> {
        self.servers[number] = Some(self.start_server(number)?);
        Ok(())
    }

    /// Room for what a scenario writes.
    pub fn scratch(&self) -> PathBuf {
        self.folder.0.join("scratch")
    }

    /// What TCP may keep unacknowledged: 32 MiB, so that no peer is held back by its buffers.
    fn tune(&self) -> Result<()> {
        let hosts = [CLIENT, OTHER].into_iter().chain((0..self.plan.servers).map(server));
        for host in hosts {
            let namespace = &self.host(host).namespace;
            namespace.sysctl("net.ipv4.tcp_wmem=4096 65536 33554432")?;
            namespace.sysctl("net.ipv4.tcp_rmem=4096 131072 33554432")?;
        }
        Ok(())
    }

    fn start_master(&mut self) -> Result<()> {
        let password = self.path("password");
        fs::write(&password, PASSWORD)?;
        let mut arguments = vec!["master".to_owned(), "--exit-with-parent".to_owned()];
        let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        flag("--listen", format!("0.0.0.0:{}", ports::MASTER));
        flag("--state", shown(&self.path("master")));
        flag("--bootstrap-admin", ADMIN.to_owned());
        flag("--bootstrap-password-file", shown(&password));
        flag("--tls-name", self.host(MASTER).address.to_string());
        for number in 0..self.plan.servers {
            flag("--tls-name", cable(number).0.to_string());
        }
        let program = self.plan.braidcast.clone();
        let mut master = self.start(MASTER, "master", &program, &arguments)?;
        master.wait_line(&self.stop, "master listening", READY_WAIT)?;
        self.parts.push(master);
        Ok(())
    }

    fn lay_cable(&self, number: usize) -> Result<()> {
        let (at_master, at_server) = cable(number);
        let (master, server) = (&self.host(MASTER).namespace, &self.host(server(number)).namespace);
        let (near, far) = (master.name(), server.name());
        let name = format!("cable{number}");
        let mut add = Command::new("ip");
        add.args(["link", "add", &name, "netns", near, "type", "veth", "peer", "name", "cable", "netns", far]);
        run(&mut add)?;
        master.ip(&format!("addr add {at_master}/30 dev {name}"))?;
        master.ip(&format!("link set {name} up"))?;
        server.ip(&format!("addr add {at_server}/30 dev cable"))?;
        server.ip("link set cable up")
    }

    fn start_server(&mut self, number: usize) -> Result<Process> {
        let mut arguments = vec!["serve".to_owned(), "--exit-with-parent".to_owned()];
        let mut flag = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
        flag("--listen", SocketAddrV4::new(self.host(server(number)).address, ports::MEDIA).to_string());
        flag("--state", shown(&self.path(&format!("server{number}"))));
        flag("--master", SocketAddrV4::new(cable(number).0, ports::MASTER).to_string());
        flag("--ca", shown(&self.path("master").join("ca.pem")));
        flag("--join-token-file", shown(&self.path("master").join("join-token")));
        flag("--shards", "1".to_owned());
        let program = self.plan.braidcast.clone();
        let mut process = self.start(server(number), "serve", &program, &arguments)?;
        process.wait_line(&self.stop, "serve listening", READY_WAIT)?;
        Ok(process)
    }

    /// A web server beside a media server, with the same files.
    fn start_web(&mut self, number: usize) -> Result<()> {
        let host = server(number);
        let listen = SocketAddrV4::new(self.host(host).address, ports::WEB);
        let folder = self.path(&format!("web{number}"));
        fs::create_dir_all(&folder)?;
        let (home, files) = (shown(&folder), shown(&self.path("files")));
        let config = format!(
            "daemon off;\nuser root;\nworker_processes 1;\npid {home}/pid;\nerror_log {home}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n  access_log off;\n  sendfile on;\n  client_body_temp_path {home};\n  proxy_temp_path {home};\n  \
             fastcgi_temp_path {home};\n  uwsgi_temp_path {home};\n  scgi_temp_path {home};\n  \
             server {{ listen {listen}; root {files}; }}\n}}\n"
        );
        let path = folder.join("nginx.conf");
        fs::write(&path, config)?;
        let arguments = ["-c".to_owned(), shown(&path), "-e".to_owned(), format!("{home}/error.log")];
        let web = self.start(host, "nginx", Path::new("nginx"), &arguments)?;
        self.parts.push(web);
        Ok(())
    }

    fn login(&mut self, host: HostId) -> Result<()> {
        let password = File::open(self.path("password"))?;
        let master = SocketAddrV4::new(self.host(MASTER).address, ports::MASTER).to_string();
        let mut command = self.host(host).namespace.command(&self.plan.braidcast);
        command.args(["login", "--master", &master, "--user", ADMIN, "--password-stdin", "--ca"]);
        command.arg(self.path("master").join("ca.pem")).arg("--profile").arg(self.profile(host));
        run(command.stdin(password)).map(drop)
    }

    fn profile(&self, host: HostId) -> PathBuf {
        self.path(&format!("profile{}.toml", host.0))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.0.join(name)
    }
}

/// Addresses of the cable between the master and a server: the master's, the server's.
fn cable(number: usize) -> (Ipv4Addr, Ipv4Addr) {
    let end = |host| Ipv4Addr::new(10, 98, number as u8, host);
    (end(1), end(2))
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

const FOLDER_PREFIX: &str = "bc-lab-";

/// A folder for everything that is written. Dropped, it is removed.
#[derive(Debug)]
struct Folder(PathBuf);

impl Folder {
    fn create() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("{FOLDER_PREFIX}{}", id()));
        fs::create_dir_all(&path).with_context(|| shown(&path))?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("lab: {} is left: {error}", self.0.display());
        }
    }
}

/// Removes the folders of runs that were killed.
pub fn sweep_folders() -> Result<()> {
    for entry in fs::read_dir(std::env::temp_dir())? {
        let entry = entry?;
        let name: OsString = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(FOLDER_PREFIX));
        if owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}
