//! What every peer is given: the place, the file, folders, and the way to measure.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use braidcast_lab::process::Process;
use braidcast_lab::stop::Stop;

use crate::client::{self, Spent};
use crate::contender::Run;
use crate::cpu;
use crate::files::{self, Folder};
use crate::place::Place;
use crate::tls;

/// The name of the file that is served.
pub(crate) const FILE: &str = "file.bin";
/// Where clients write in [`files::TMPFS`].
const OUTPUT: &str = "fetched.bin";
/// A server is up within this.
pub(crate) const READY_WAIT: Duration = Duration::from_secs(60);
/// A client that is slower than this, in bytes per second, after [`CLIENT_WAIT`], hangs.
const CLIENT_BYTES_S_MIN: u64 = 20_000_000;
const CLIENT_WAIT: Duration = Duration::from_secs(30);

/// Everything that one place's runs have in common. Dropped, its files are removed.
#[derive(Debug)]
pub(crate) struct Bench {
    /// Both ends.
    pub(crate) place: Place,
    /// Whether a signal asked for the end.
    pub(crate) stop: Stop,
    /// The `braidcast` command.
    pub(crate) braidcast: PathBuf,
    /// Size of the file.
    pub(crate) bytes: u64,
    logs: PathBuf,
    folder: Folder,
    sink: Folder,
}

/// What a bench is made of.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// The `braidcast` command.
    pub(crate) braidcast: PathBuf,
    /// Size of the file.
    pub(crate) bytes: u64,
    /// What is served is written below this.
    pub(crate) folder: PathBuf,
    /// Where processes log; nothing: with the files.
    pub(crate) logs: Option<PathBuf>,
    /// How often the file lies in the folder when all that was asked for is up.
    pub(crate) copies: u64,
}

impl Bench {
    /// Makes folders, the file and a certificate.
    pub(crate) fn build(plan: &Plan, place: Place, stop: &Stop) -> Result<Self> {
        // A pack is 2.7% longer than the file.
        let wanted = plan.copies * (plan.bytes + plan.bytes / 32);
        let folder = Folder::create(&plan.folder, wanted, "name another --folder, or take fewer --bytes")?;
        let sink = Folder::create(Path::new(files::TMPFS), plan.bytes, "take fewer --bytes")?;
        let logs = plan.logs.as_ref().map_or_else(|| folder.path("log"), |logs| logs.join(place.kind().name()));
        std::fs::create_dir_all(&logs).with_context(|| logs.display().to_string())?;
        std::fs::create_dir_all(folder.path("www"))?;
        let (braidcast, bytes) = (plan.braidcast.clone(), plan.bytes);
        let bench = Self { place, stop: stop.clone(), braidcast, bytes, logs, folder, sink };
        files::write_noise(&bench.file(), bench.bytes)?;
        tls::write_certificate(&bench)?;
        Ok(bench)
    }

    /// The file that is served.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path("www").join(FILE)
    }

    /// Something beside it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path(name)
    }

    /// A file or folder among the logs.
    pub(crate) fn log(&self, name: &str) -> PathBuf {
        self.logs.join(name)
    }

    /// A file in memory to write to; what stood there is removed.
    pub(crate) fn output(&self) -> Result<PathBuf> {
        // A client may leave notes beside its file, so all of the folder goes.
        for entry in std::fs::read_dir(self.sink.path(""))? {
            std::fs::remove_file(entry?.path())?;
        }
        Ok(self.sink.path(OUTPUT))
    }

    /// How long a client may take.
    pub(crate) fn client_limit(&self) -> Duration {
        CLIENT_WAIT + Duration::from_secs(self.bytes / CLIENT_BYTES_S_MIN)
    }

    /// Starts a server.
    pub(crate) fn start(&self, name: &str, command: Command) -> Result<Process> {
        Process::start(name, command, &self.logs)
    }

    /// Runs a client.
    pub(crate) fn fetch(&self, command: Command) -> Result<Spent> {
        client::run(command, &self.stop, self.client_limit(), &self.log("client.log"))
    }

    /// Runs a client, and accounts what the servers spend meanwhile.
    pub(crate) fn measure(&self, servers: &[Process], command: Command) -> Result<Run> {
        let roots: Vec<u32> = servers.iter().map(Process::id).collect();
        let before = cpu::of_trees(&roots)?;
        let spent = self.fetch(command)?;
        let server_cpu = cpu::of_trees(&roots)?.saturating_sub(before);
        Ok(Run { wall: spent.wall, server_cpu, client_cpu: spent.cpu })
    }

    /// Fails unless the output is as long as the file, or with `is_thorough` the same to the byte.
    pub(crate) fn check(&self, output: &Path, is_thorough: bool) -> Result<()> {
        let length = output.metadata().with_context(|| output.display().to_string())?.len();
        ensure!(length == self.bytes, "{length} bytes came of {}", self.bytes);
        if is_thorough { files::check_same(&self.file(), output) } else { Ok(()) }
    }
}
