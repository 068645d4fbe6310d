//! `braidcast login`

use std::path::{Path, PathBuf};

use braidcast_client::control;
use braidcast_client::profile::{Credential, LOCAL_PROFILE, home_profile, named_profile};
use braidcast_client::{ControlError, Profile};
use clap::Args;

use crate::error::CliError;
use crate::output;
use crate::password::PasswordArg;
use crate::settings::check_ca;

/// Flags of `braidcast login`.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  braidcast login --master media.example.org:4600 --ca ca.pem --user ada")]
pub(crate) struct LoginArgs {
    /// The master's address
    #[arg(long, value_name = "HOST:PORT")]
    master: String,
    /// File with the certificate authority (PEM) that vouches for the master; it is copied into the profile
    #[arg(long, value_name = "FILE")]
    ca: PathBuf,
    /// Name of the account
    #[arg(long, value_name = "NAME")]
    user: String,
    #[command(flatten)]
    password: PasswordArg,
    /// Profile to write [default: $BRAIDCAST_PROFILE, or ~/.config/braidcast/profile.toml]
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
}

/// Trades a password for a login that is kept in a profile.
pub(crate) async fn run(args: LoginArgs) -> Result<(), CliError> {
    let named = args.profile.or_else(named_profile);
    let local = Path::new(LOCAL_PROFILE);
    let is_shadowed = named.is_none() && local.exists();
    let path = named.or_else(home_profile).ok_or(CliError::NoHome)?;
    let ca_pem =
        std::fs::read_to_string(&args.ca).map_err(|source| CliError::Read { path: args.ca.clone(), source })?;
    check_ca(&args.ca, &ca_pem)?;
    let password = args.password.read(&args.user, false).await?;
    let mut profile =
        Profile { path, master: args.master, ca_pem, username: args.user, credential: Credential::Password(password) };
    let login = control::login(&profile).await;
    profile.credential = Credential::RefreshToken(login.map_err(|source| refused(source, &args.ca))?);
    profile.save()?;
    let user = output::printable(&profile.username);
    output::print(&format!("logged in at {} as {user}; profile: {}\n", profile.master, profile.path.display()))?;
    if is_shadowed {
        let (local, path) = (local.display(), profile.path.display());
        output::print_error(&format!(
            "note: in this folder commands use ./{local} first; give them --profile {path}\n"
        ))?;
    }
    Ok(())
}

/// An error of a login in words that name its flags: there is no profile yet.
fn refused(source: ControlError, ca: &Path) -> CliError {
    let said = match &source {
        ControlError::Address { address, reason, .. } => format!("--master {address:?} is no HOST:PORT: {reason}"),
        ControlError::NotTrusted { address, reason, .. } => format!(
            "the master at {address} is not trusted: {reason}; --ca {} must be the `ca.pem` of that very master",
            ca.display()
        ),
        ControlError::WrongPassword { username, reason, .. } => {
            format!("the master refused the login of {username:?}: {reason}")
        }
        other => other.to_string(),
    };
    CliError::Login { said, source }
}
