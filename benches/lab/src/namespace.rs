//! Network namespaces: made, entered and removed with `ip netns`.

use std::path::Path;
use std::process::{Command, id};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Names are `bc-lab-PID-HOST`, so that a later run knows whose they were.
const PREFIX: &str = "bc-lab-";

/// A network namespace. Dropped, it is removed, and what still runs in it is killed.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one for a host of this run.
    pub fn create(host: &str) -> Result<Self> {
        let name = format!("{PREFIX}{}-{host}", id());
        run(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        // Router solicitations and the like would be counted as traffic.
        run(namespace.command("sysctl").args(["-qw", "net.ipv6.conf.all.disable_ipv6=1"]))?;
        Ok(namespace)
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run in here. It has no home, so nothing that was learnt of another world's paths is known in
    /// this one.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command.env("HOME", "/dev/null").env_remove("XDG_CACHE_HOME");
        command
    }

    /// Runs `ip` on what is in here; `arguments` are separated by spaces.
    pub fn ip(&self, arguments: &str) -> Result<()> {
        run(Command::new("ip").args(["-n", &self.name]).args(arguments.split(' '))).map(drop)
    }

    /// Sets a kernel parameter in here.
    pub fn sysctl(&self, setting: &str) -> Result<()> {
        run(self.command("sysctl").args(["-qw", setting])).map(drop)
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// Removes what runs left behind that were killed; gives how many namespaces that were.
pub fn sweep() -> Result<usize> {
    let listed = run(Command::new("ip").args(["netns", "list"]))?;
    let mut removed = 0;
    for name in listed.lines().filter_map(|line| line.split(' ').next()) {
        let owner = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(name);
            removed += 1;
        }
    }
    Ok(removed)
}

/// Runs a command to its end and gives what it printed.
pub fn run(command: &mut Command) -> Result<String> {
    let output = command.output();
    let shown = || format!("{command:?}").replace('"', "");
    let output = output.with_context(shown)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{}: {}", shown(), said.trim().lines().next_back().unwrap_or("failed without a word"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn remove(name: &str) {
    // What does not work here has no one left to hear of it; the next run tries again.
    let pids = run(Command::new("ip").args(["netns", "pids", name])).unwrap_or_default();
    for pid in pids.lines().filter_map(|line| line.trim().parse().ok()) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
    let _ = run(Command::new("ip").args(["netns", "del", name]));
}
