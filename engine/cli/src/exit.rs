//! Exit codes: what a script may rely on.

use std::io;

use braidcast_client::ControlError;
use braidcast_client::download::DownloadError;
use braidcast_client::profile::ProfileError;
use braidcast_client::publish::PublishError;
use braidcast_master::backup::BackupError;
use braidcast_master::{MasterError, StateError};

use crate::dev::DevError;
use crate::error::CliError;
use crate::settings::SettingsError;

/// The text below `braidcast --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    failed for another reason than those below
  2    wrong usage: flags, settings or names
  3    not authorised: login, role or certificate
  4    not found: video, user, orphan or profile
  5    no source: no server could serve, or the master cannot be reached
  6    integrity: what arrived is not what was published
  7    local file or disk: missing, unreadable, changed, full
  130  interrupted

A client finds its master in --profile, $BRAIDCAST_PROFILE, ./.braidcast/profile.toml or
~/.config/braidcast/profile.toml, whichever is there first.

Examples:
  braidcast dev films/                        everything on this machine, with the films of a folder
  braidcast get film.mp4 -o film.mp4          fetch one of them (in another terminal)
  braidcast publish talk.mp4 --replicas 2     add one, held by two servers";

/// An exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Code(u8);

pub(crate) const SUCCESS: Code = Code(0);
pub(crate) const OTHER: Code = Code(1);
pub(crate) const USAGE: Code = Code(2);
pub(crate) const NOT_AUTHORISED: Code = Code(3);
pub(crate) const NOT_FOUND: Code = Code(4);
pub(crate) const NO_SOURCE: Code = Code(5);
pub(crate) const INTEGRITY: Code = Code(6);
pub(crate) const LOCAL_FILE: Code = Code(7);
pub(crate) const INTERRUPTED: Code = Code(130);

impl From<Code> for u8 {
    fn from(code: Code) -> Self {
        code.0
    }
}

impl From<Code> for i32 {
    fn from(code: Code) -> Self {
        code.0.into()
    }
}

/// The code for what clap reports: asking for help is no error.
pub(crate) fn of_usage(error: &clap::Error) -> Code {
    if error.use_stderr() { USAGE } else { SUCCESS }
}

/// The code for an error; the one place where that is decided.
pub(crate) fn of(error: &CliError) -> Code {
    match error {
        CliError::Settings(SettingsError::Read { .. }) => LOCAL_FILE,
        CliError::Usage(_) | CliError::Settings(_) => USAGE,
        CliError::Profile(error) => of_profile(error),
        CliError::NoOrphans { .. } => NOT_FOUND,
        CliError::Control(error) | CliError::Login { source: error, .. } => of_control(error),
        CliError::Publish(error) | CliError::PublishSome { last: error, .. } => of_publish(error),
        CliError::Download(error) => of_download(error),
        CliError::Master(MasterError::Config(_)) => USAGE,
        CliError::Backup(error) => of_backup(error),
        CliError::Dev(error) => of_dev(error),
        CliError::Master(_) | CliError::Server(_) | CliError::Unhealthy(_) | CliError::OrphansNeeded { .. } => OTHER,
        CliError::Password(_) | CliError::NoHome | CliError::Runtime(_) => OTHER,
        CliError::Read { .. } | CliError::Write { .. } | CliError::Trace(_) | CliError::Output(_) => LOCAL_FILE,
        CliError::Interrupted => INTERRUPTED,
    }
}

fn of_profile(error: &ProfileError) -> Code {
    match error {
        ProfileError::NotFound { .. } => NOT_FOUND,
        ProfileError::Read { source, .. } if source.kind() == io::ErrorKind::NotFound => NOT_FOUND,
        ProfileError::Read { .. } | ProfileError::Write { .. } | ProfileError::Ca { .. } => LOCAL_FILE,
        ProfileError::Syntax { .. } | ProfileError::OneOf { .. } => USAGE,
    }
}

fn of_control(error: &ControlError) -> Code {
    match error {
        ControlError::Address { .. } | ControlError::Rejected { .. } | ControlError::AlreadyExists { .. } => USAGE,
        ControlError::NotTrusted { .. }
        | ControlError::CertificateTime { .. }
        | ControlError::WrongPassword { .. }
        | ControlError::LoginExpired { .. }
        | ControlError::AccountLocked { .. }
        | ControlError::LoginUnsupported { .. }
        | ControlError::TokenRefused { .. }
        | ControlError::NotPermitted { .. } => NOT_AUTHORISED,
        ControlError::NotFound { .. } => NOT_FOUND,
        ControlError::Unreachable { .. } | ControlError::Timeout { .. } | ControlError::NoSource { .. } => NO_SOURCE,
        ControlError::Damaged { .. } => INTEGRITY,
        ControlError::Precondition { .. }
        | ControlError::Full { .. }
        | ControlError::BadAnswer { .. }
        | ControlError::MasterFailed { .. } => OTHER,
    }
}

fn of_publish(error: &PublishError) -> Code {
    match error {
        PublishError::Read { .. }
        | PublishError::NotAFile { .. }
        | PublishError::Changed { .. }
        | PublishError::Unreadable { .. }
        | PublishError::Seal { .. } => LOCAL_FILE,
        PublishError::Name { .. } => USAGE,
        PublishError::Probe { .. } => OTHER,
        PublishError::Control(error) => of_control(error),
    }
}

fn of_backup(error: &BackupError) -> Code {
    match error {
        BackupError::Occupied { .. } => USAGE,
        BackupError::NoDatabase { .. } => NOT_FOUND,
        BackupError::NoBackup { .. } | BackupError::Damaged { .. } => INTEGRITY,
        BackupError::State(StateError::InUse { .. } | StateError::RestoreUnfinished { .. })
        | BackupError::Busy { .. }
        | BackupError::Later { .. }
        | BackupError::OtherLibrary { .. }
        | BackupError::ForeignPacks { .. }
        | BackupError::Identity(_) => OTHER,
        BackupError::State(_) | BackupError::Query { .. } | BackupError::Copy { .. } | BackupError::DiskFull { .. } => {
            LOCAL_FILE
        }
    }
}

fn of_dev(error: &DevError) -> Code {
    match error {
        DevError::Settings { .. } | DevError::NoSuchPart { .. } => USAGE,
        DevError::State { .. } | DevError::Videos { .. } => LOCAL_FILE,
        DevError::Running { .. }
        | DevError::NotRunning { .. }
        | DevError::NoPort
        | DevError::PortTaken { .. }
        | DevError::Spawn { .. }
        | DevError::Failed { .. }
        | DevError::Late { .. }
        | DevError::NotListed { .. }
        | DevError::Restart(_)
        | DevError::NoRandomness => OTHER,
    }
}

fn of_download(error: &DownloadError) -> Code {
    match error {
        DownloadError::Control(error) => of_control(error),
        DownloadError::NoSources { .. } => NO_SOURCE,
        DownloadError::Damaged { .. } => INTEGRITY,
        DownloadError::Output { .. }
        | DownloadError::Trace { .. }
        | DownloadError::DiskFull { .. }
        | DownloadError::InUse { .. } => LOCAL_FILE,
        DownloadError::System(_)
        | DownloadError::NoFile
        | DownloadError::NoHashes
        | DownloadError::TooLong { .. }
        | DownloadError::Interrupted => OTHER,
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    #[test]
    fn every_code_is_explained_in_the_help() {
        let codes = [SUCCESS, OTHER, USAGE, NOT_AUTHORISED, NOT_FOUND, NO_SOURCE, INTEGRITY, LOCAL_FILE, INTERRUPTED];
        for Code(code) in codes {
            assert!(HELP.lines().any(|line| line.trim_start().starts_with(&format!("{code} "))), "{code}");
        }
    }

    #[test]
    fn a_missing_profile_is_not_found_and_a_wrong_one_is_usage() {
        assert_eq!(of(&ProfileError::NotFound { tried: Vec::new() }.into()), NOT_FOUND);
        let wrong = ProfileError::OneOf { path: PathBuf::new(), one: "a", other: "b" };
        assert_eq!(of(&wrong.into()), USAGE);
    }

    #[test]
    fn a_master_that_is_away_is_no_source() {
        let away = ControlError::Unreachable { address: "h:1".to_owned(), reason: "refused".to_owned() };
        assert_eq!(of(&away.into()), NO_SOURCE);
    }

    #[test]
    fn a_closed_pipe_is_silent_and_a_full_disk_is_not() {
        assert!(CliError::Output(io::ErrorKind::BrokenPipe.into()).is_silent());
        assert!(!CliError::Output(io::ErrorKind::StorageFull.into()).is_silent());
    }
}
