//! Exit codes: what a script may rely on.

use std::process::ExitCode;

use braidcast_client::control::ControlError;
use braidcast_client::publish::PublishError;

use crate::error::CliError;

/// The text below `braidcast --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done
  1    failed for another reason than those below
  2    wrong usage: flags, settings or names
  3    not authorised: login, role or certificate
  4    not found: video, user or profile
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

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.0)
    }
}

/// The code for what clap reports: asking for help is no error.
pub(crate) fn of_usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() { USAGE.into() } else { SUCCESS.into() }
}
