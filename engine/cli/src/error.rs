//! What a command can fail with. Each message is `what: why; remedy`.

use std::io;
use std::path::PathBuf;

use braidcast_client::ControlError;
use braidcast_client::download::DownloadError;
use braidcast_client::profile::ProfileError;
use braidcast_client::publish::PublishError;
use braidcast_master::MasterError;
use braidcast_master::backup::BackupError;
use braidcast_media::AssetId;
use braidcast_server::ServerError;

use crate::dev::DevError;
use crate::settings::SettingsError;
use crate::trace::TraceError;

/// A command failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CliError {
    /// Flags or names that make no sense.
    #[error("{0}")]
    Usage(String),
    /// No profile, or a wrong one.
    #[error(transparent)]
    Profile(#[from] ProfileError),
    /// The master refused, or could not be asked.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A login was refused.
    #[error("{said}")]
    Login {
        /// What to tell: the flags are named, and no profile.
        said: String,
        /// What the master said, or why it could not be asked.
        source: ControlError,
    },
    /// Some of the files were not published; each was reported when it failed.
    #[error("{failed} of {total} files were not published; the last reason: {last}")]
    PublishSome {
        /// How many.
        failed: usize,
        /// Of how many.
        total: usize,
        /// Why the last one was not.
        last: PublishError,
    },
    /// A file was not published.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// A video was not fetched.
    #[error(transparent)]
    Download(#[from] DownloadError),
    /// Settings of `master` or `serve`.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A local file that a command needs.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A local file that a command makes.
    #[error("cannot write {path}: {source}; choose another place with -o")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is no trace that can be drawn.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// The master did not start.
    #[error("master: {0}")]
    Master(#[from] MasterError),
    /// A backup was not written, or not put in place.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The media server did not start, or cannot go on.
    #[error("serve: {0}")]
    Server(#[from] ServerError),
    /// `dev` could not do its part.
    #[error(transparent)]
    Dev(#[from] DevError),
    /// `doctor` found something; it has said what.
    #[error("{0} of the checks failed")]
    Unhealthy(usize),
    /// Orphans that were to be deleted are not there.
    #[error("{missing} of the {named} orphans that were named are not there; `braidcast orphans` lists those that are")]
    NoOrphans {
        /// How many of the named orphans are not there.
        missing: u64,
        /// How many orphans were named.
        named: u64,
    },
    /// Orphans that were to be deleted may be the only copies of videos.
    #[error(
        "{kept} orphans were kept, {asset} for one: it may be the only copy of {name:?}, whose pack in the origin is lost or \
         damaged. `braidcast info` says what heals it; once that is done, or the video was removed, the orphan can go"
    )]
    OrphansNeeded {
        /// How many were kept.
        kept: usize,
        /// The first of them.
        asset: AssetId,
        /// The video that may need it.
        name: String,
    },
    /// A password could not be read.
    #[error("cannot read the password: {0}")]
    Password(io::Error),
    /// There is no home directory to keep a profile in.
    #[error("there is no home directory to keep the profile in; name a file with --profile")]
    NoHome,
    /// Standard output does not take what is printed.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
    /// The process cannot have threads, timers or signals.
    #[error("the system refuses what every command needs: {0}")]
    Runtime(io::Error),
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
}

impl CliError {
    /// Nothing needs to be said: whoever read the output has gone, or pressed Ctrl-C.
    pub(crate) fn is_silent(&self) -> bool {
        match self {
            Self::Interrupted => true,
            Self::Output(error) => error.kind() == io::ErrorKind::BrokenPipe,
            _ => false,
        }
    }
}
