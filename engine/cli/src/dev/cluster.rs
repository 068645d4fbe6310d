//! The loop that starts the parts, watches them, brings them back when asked to, and ends them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use braidcast_client::Profile;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::child::{Child, Death, describe};
use super::library::{self, Prepared};
use super::restart::{Request, Requests};
use super::state::{ADMIN, State};
use super::{DevError, LOOPBACK, Part, ports};
use crate::error::CliError;
use crate::output;
use crate::signals::Termination;

/// A part that was restarted is listed within this: the master has its address proven first.
const LISTED_WAIT: Duration = Duration::from_secs(30);

/// What a `dev` is told.
#[derive(Debug)]
pub(crate) struct Options {
    /// Folder whose files are published.
    pub(crate) dir: PathBuf,
    /// Media servers to run; nothing means as many as last time.
    pub(crate) servers: Option<usize>,
    /// As many as that the first time.
    pub(crate) servers_default: usize,
    /// Folder where everything is kept, as it was given.
    pub(crate) state: PathBuf,
    /// Flags for the master.
    pub(crate) master_flags: Vec<OsString>,
    /// Flags for every media server.
    pub(crate) server_flags: Vec<OsString>,
}

/// Runs until a signal ends it, or until it cannot go on.
pub(crate) async fn run(options: Options) -> Result<(), CliError> {
    let mut termination = Termination::catch()?;
    let files = library::files(&options.dir)?;
    let state = State::open(&options.state, options.servers, options.servers_default)?;
    state.ensure_password()?;
    let requests = Requests::listen(state.root())?;
    let (deaths, died) = mpsc::unbounded_channel();
    let mut cluster = Cluster { options, state, deaths, children: BTreeMap::new() };
    let outcome = tokio::select! {
        outcome = cluster.work(files, requests, died) => outcome,
        () = termination.requested() => Ok(()),
    };
    cluster.end().await;
    outcome
}

struct Cluster {
    options: Options,
    state: State,
    deaths: mpsc::UnboundedSender<Death>,
    children: BTreeMap<Part, Child>,
}

impl Cluster {
    /// Starts everything and keeps it going. It returns only with an error.
    async fn work(
        &mut self,
        files: Vec<PathBuf>,
        mut requests: Requests,
        mut died: mpsc::UnboundedReceiver<Death>,
    ) -> Result<(), CliError> {
        self.start(Part::Master).await?;
        let profile = self.state.ensure_profile()?;
        for part in self.state.parts().skip(1) {
            self.start(part).await?;
        }
        let addresses = self.children.values().filter(|child| child.part != Part::Master);
        let addresses = addresses.map(|child| child.address.clone()).collect();
        let preparing = library::prepare(profile.clone(), files, addresses);
        let mut preparing = std::pin::pin!(preparing);
        let mut prepared = false;
        loop {
            tokio::select! {
                outcome = &mut preparing, if !prepared => {
                    prepared = true;
                    output::print(&self.ready(outcome?))?;
                }
                Some(death) = died.recv() => self.report(&death),
                request = requests.next() => self.restart(request, &profile).await?,
            }
        }
    }

    /// Starts a part and tells where it is.
    async fn start(&mut self, part: Part) -> Result<String, CliError> {
        let port = self.state.port(part);
        let port = port.ok_or(DevError::NoSuchPart { part, servers: self.state.servers() })?;
        if !ports::wait_free(port).await {
            return Err(DevError::PortTaken { part, port, settings: self.state.settings_path() }.into());
        }
        let log = self.state.log_path(part);
        let child = Child::start(part, self.arguments(part, port), &log, self.deaths.clone()).await?;
        let line = format!("{part} {} {}", child.pid, child.address);
        self.children.insert(part, child);
        output::print(&format!("{line}\n"))?;
        Ok(line)
    }

    fn arguments(&self, part: Part, port: u16) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec![part.command().into(), "--exit-with-parent".into()];
        let mut flag = |name: &str, value: OsString| arguments.extend([name.into(), value]);
        flag("--listen", format!("{LOOPBACK}:{port}").into());
        flag("--state", self.state.part_dir(part).into());
        match part {
            Part::Master => {
                flag("--bootstrap-admin", ADMIN.into());
                flag("--bootstrap-password-file", self.state.password_path().into());
                arguments.extend_from_slice(&self.options.master_flags);
            }
            Part::Server(_) => {
                let master = self.state.port(Part::Master).unwrap_or_default();
                flag("--master", format!("{LOOPBACK}:{master}").into());
                flag("--ca", self.state.ca_path().into());
                flag("--join-token-file", self.state.join_token_path().into());
                arguments.extend_from_slice(&self.options.server_flags);
            }
        }
        arguments
    }

    /// Says that a part died, unless it has been replaced.
    fn report(&mut self, death: &Death) {
        let Death { part, pid, status } = death;
        if self.children.get(part).is_none_or(|child| child.pid != *pid) {
            return;
        }
        self.children.remove(part);
        let (restart, state) = (part.argument(), self.options.state.display());
        let status = describe(status);
        output::complain(&format!(
            "{part} ({pid}) died: {status}; bring it back with: braidcast dev --restart {restart} --state {state}"
        ));
    }

    /// Brings a part back; the answer follows once the master lists it. Fails only if nobody reads this process's
    /// output any more.
    async fn restart(&mut self, request: Request, profile: &Profile) -> Result<(), CliError> {
        let Request { part, answer } = request;
        if let Some(child) = self.children.remove(&part) {
            // A watcher that panicked has dropped, and so killed, its process.
            let _ = child.stop().await;
        }
        let since = Instant::now();
        let line = match self.start(part).await {
            Ok(line) => line,
            Err(CliError::Dev(error)) => {
                // The caller may have gone.
                let _ = answer.send(Err(error));
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let servers = match part {
            Part::Master => self.children.values().filter(|child| child.part != Part::Master).collect(),
            Part::Server(_) => Vec::from_iter(self.children.get(&part)),
        };
        let addresses: Vec<String> = servers.iter().map(|child| child.address.clone()).collect();
        let profile = profile.clone();
        tokio::spawn(async move {
            let listed = async {
                for address in &addresses {
                    library::wait_listed(&profile, address, since).await?;
                }
                Ok::<(), CliError>(())
            };
            let not_listed = |reason| DevError::NotListed { part, after: LISTED_WAIT, reason };
            let outcome = match timeout(LISTED_WAIT, listed).await {
                Ok(Ok(())) => Ok(line),
                Ok(Err(error)) => Err(not_listed(error.to_string())),
                Err(_) => Err(not_listed("see `braidcast servers`".to_owned())),
            };
            // As above.
            let _ = answer.send(outcome);
        });
        Ok(())
    }

    fn ready(&self, prepared: Prepared) -> String {
        let Prepared { videos, failed } = prepared;
        let profile = self.state.profile_path();
        let not = if failed == 0 { String::new() } else { format!(" ({failed} files were not published)") };
        format!("ready: {videos} videos{not}; profile: {}\n", profile.display())
    }

    /// Ends every part: all are asked at once and waited for together. The master goes last in name only.
    async fn end(self) {
        let watchers: Vec<_> = self.children.into_values().map(Child::stop).collect();
        for watcher in watchers {
            // A watcher that panicked has dropped, and so killed, its process.
            let _ = watcher.await;
        }
    }
}
