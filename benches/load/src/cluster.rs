//! The master and the one media server that are tried, as processes of their own.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use braidcast_client::profile::Credential;
use braidcast_client::{Profile, Secret};
use braidcast_lab::process::Process;
use braidcast_lab::stop::Stop;
use braidcast_media::layout::EXTENT_BYTES;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Bytes of the file that is watched: whole extents, more than a processor's cache holds, and little enough to stay in
/// memory. Nobody may have more than half of it ahead.
pub(crate) const FILM_BYTES: u64 = 416 * EXTENT_BYTES as u64;
/// Its name.
pub(crate) const FILM: &str = "film";
/// Bytes of a second file, that nobody has asked for: ten seconds at [`COLD_RATE`].
pub(crate) const COLD_BYTES: u64 = 1_000_000_000;
const COLD: &str = "cold";
/// How fast it is fetched: all that one of two cores can take would tell of the cores and not of the disk.
const COLD_RATE: &str = "100MiB";

const ADMIN: &str = "admin";
const PASSWORD: &str = "open sesame";
const READY_WAIT: Duration = Duration::from_secs(30);
const PUBLISH_WAIT: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Both processes, and the server holds the file. Dropped, they are ended, and what they wrote is removed.
#[derive(Debug)]
pub(crate) struct Cluster {
    // Dropped first: the server ends before its master, and both before their folder goes.
    server: Option<Process>,
    _master: Process,
    folder: TempDir,
    logs: PathBuf,
    /// Where a client finds the master.
    pub(crate) profile: Profile,
    /// Where the server serves.
    pub(crate) address: SocketAddr,
    /// How it says that it runs.
    pub(crate) described: String,
}

impl Cluster {
    /// Starts both, publishes the file, and starts the server anew: memory that filling took and gave back would hide
    /// what sessions take. They log to `logs`, if it is given. `with_cold`: there is a second file, too.
    pub(crate) fn start(braidcast: &Path, logs: Option<&Path>, with_cold: bool, stop: &Stop) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bc-load-").tempdir()?;
        let logs = logs.map_or_else(|| folder.path().join("log"), Path::to_owned);
        fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
        let (_master, master) = start_master(braidcast, folder.path(), &logs, stop)?;
        let (server, address, described) = start_server(braidcast, folder.path(), &logs, master, stop)?;
        let profile = Profile {
            path: folder.path().join("profile.toml"),
            master: master.to_string(),
            ca_pem: fs::read_to_string(folder.path().join("master/ca.pem")).context("the master's certificate")?,
            username: ADMIN.to_owned(),
            credential: Credential::Password(Secret::new(PASSWORD)),
        };
        profile.save()?;
        let mut cluster = Self { server: Some(server), _master, folder, logs, profile, address, described };
        cluster.publish(braidcast, (FILM, FILM_BYTES), stop)?;
        if with_cold {
            cluster.publish(braidcast, (COLD, COLD_BYTES), stop)?;
        }
        // The old one ends before the new one takes its folder.
        cluster.server = None;
        let (server, address, described) = start_server(braidcast, cluster.folder.path(), &cluster.logs, master, stop)?;
        Ok(Self { server: Some(server), address, described, ..cluster })
    }

    /// The server's process.
    pub(crate) fn server_pid(&self) -> Result<Pid> {
        let server = self.server.as_ref().context("the media server was not started")?;
        Ok(Pid::from_raw(server.id() as i32))
    }

    /// Fails if the server has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        if let Some(server) = &mut self.server
            && let Some(status) = server.ended()?
        {
            bail!("the media server ended ({status}) while it was watched: {}", server.last_words());
        }
        Ok(())
    }

    /// Has the kernel forget what it holds in memory of the second file's pack.
    pub(crate) fn make_cold(&self) -> Result<()> {
        let folder = self.folder.path().join("server");
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let file = File::open(entry?.path())?;
            if file.metadata()?.len() > COLD_BYTES {
                file.sync_all()?;
                return Ok(posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?);
            }
        }
        bail!("{}: no pack of the second file", folder.display())
    }

    /// Bytes that the server has read from disks so far.
    pub(crate) fn disk_bytes(&self) -> Result<u64> {
        self.server.as_ref().context("the media server was not started")?.disk_bytes()
    }

    /// Starts to fetch the second file.
    pub(crate) fn fetch_cold(&self, braidcast: &Path) -> Result<Process> {
        let mut get = self.command(braidcast, "get");
        get.args([COLD, "--output", "/dev/null", "--max-rate", COLD_RATE]);
        Process::start("get", get, &self.logs)
    }

    fn publish(&mut self, braidcast: &Path, (name, bytes): (&str, u64), stop: &Stop) -> Result<()> {
        let path = self.folder.path().join(name);
        // Sealed, zeros are as good as anything else.
        File::create(&path)?.set_len(bytes)?;
        let mut publish = self.command(braidcast, "publish");
        publish.arg(&path).args(["--as-file", "--name", name]);
        Process::start("publish", publish, &self.logs)?.finish(stop, PUBLISH_WAIT)?;
        fs::remove_file(&path)?;
        stop.wait_for("the server does not hold the file", PUBLISH_WAIT, || {
            stop.sleep(LOOK_EVERY)?;
            let listed = Process::start("ls", self.command(braidcast, "ls"), &self.logs)?.finish(stop, READY_WAIT)?;
            let mut line = listed.lines().filter(|line| line.split_whitespace().next() == Some(name));
            Ok(line.any(|line| line.split_whitespace().any(|word| word == "1/1")).then_some(()))
        })
    }

    fn command(&self, braidcast: &Path, name: &str) -> Command {
        let mut command = Command::new(braidcast);
        command.arg(name).arg("--profile").arg(&self.profile.path);
        command
    }
}

fn start_master(braidcast: &Path, folder: &Path, logs: &Path, stop: &Stop) -> Result<(Process, SocketAddr)> {
    let password = folder.join("password");
    fs::write(&password, PASSWORD)?;
    let mut command = Command::new(braidcast);
    command.args(["master", "--exit-with-parent", "--listen", "127.0.0.1:0", "--bootstrap-admin", ADMIN]);
    command.arg("--bootstrap-password-file").arg(password).arg("--state").arg(folder.join("master"));
    let mut master = Process::start("master", command, logs)?;
    let line = master.wait_line(stop, "master listening ", READY_WAIT)?;
    let address = line.split(' ').nth(2).and_then(|address| address.parse().ok());
    Ok((master, address.with_context(|| format!("master: no address in {line:?}"))?))
}

/// One thread serves UDP, and nothing serves TCP.
fn start_server(
    braidcast: &Path,
    folder: &Path,
    logs: &Path,
    master: SocketAddr,
    stop: &Stop,
) -> Result<(Process, SocketAddr, String)> {
    let mut command = Command::new(braidcast);
    command.args(["serve", "--exit-with-parent", "--listen", "127.0.0.1:0", "--shards", "1", "--tcp", "off"]);
    command.args(["--master", &master.to_string()]).arg("--state").arg(folder.join("server"));
    command.arg("--ca").arg(folder.join("master/ca.pem"));
    command.arg("--join-token-file").arg(folder.join("master/join-token"));
    let mut server = Process::start("serve", command, logs)?;
    let line = server.wait_line(stop, "serve listening ", READY_WAIT)?;
    let address = line.split(' ').nth(2).and_then(|address| address.parse().ok());
    let described = line.splitn(4, ' ').nth(3).unwrap_or_default().to_owned();
    Ok((server, address.with_context(|| format!("serve: no address in {line:?}"))?, described))
}
