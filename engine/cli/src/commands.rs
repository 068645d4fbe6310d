//! One module per command.

pub(crate) mod backup;
pub(crate) mod dev;
pub(crate) mod doctor;
pub(crate) mod get;
pub(crate) mod info;
pub(crate) mod login;
pub(crate) mod ls;
pub(crate) mod master;
pub(crate) mod orphans;
pub(crate) mod publish;
pub(crate) mod restore;
pub(crate) mod rm;
pub(crate) mod serve;
pub(crate) mod servers;
pub(crate) mod trace;
pub(crate) mod user;

use braidcast_client::{Control, Profile};

use crate::args::ProfileArg;
use crate::error::CliError;

/// Logs in at the master of the profile that the command is to use.
async fn connect(arg: &ProfileArg) -> Result<Control, CliError> {
    let profile = Profile::discover(arg.profile.as_deref())?;
    Ok(Control::connect(&profile).await?)
}
