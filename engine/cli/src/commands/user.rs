//! `braidcast user`

use braidcast_client::control::Role;
use clap::{Args, Subcommand};

use super::connect;
use crate::args::ProfileArg;
use crate::error::CliError;
use crate::output;
use crate::password::PasswordArg;

/// Flags of `braidcast user`.
#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add an account; its password is asked for
    Add {
        /// Name of the account
        username: String,
        /// What it may do: viewer (list and fetch), publisher (also publish and remove), admin (also manage users)
        #[arg(long, default_value_t = Role::Viewer)]
        role: Role,
        #[command(flatten)]
        password: PasswordArg,
        #[command(flatten)]
        profile: ProfileArg,
    },
    /// Set an account's password, which is asked for
    Passwd {
        /// Name of the account
        username: String,
        #[command(flatten)]
        password: PasswordArg,
        #[command(flatten)]
        profile: ProfileArg,
    },
    /// Remove an account
    Rm {
        /// Name of the account
        username: String,
        #[command(flatten)]
        profile: ProfileArg,
    },
    /// List the accounts
    Ls {
        #[command(flatten)]
        profile: ProfileArg,
    },
}

/// Manages accounts.
pub(crate) async fn run(args: UserArgs) -> Result<(), CliError> {
    match args.action {
        Action::Add { username, role, password, profile } => {
            let control = connect(&profile).await?;
            let password = password.read(&username, true).await?;
            control.add_user(&username, &password, role).await?;
            output::print(&format!("added {} as {role}\n", output::printable(&username)))
        }
        Action::Passwd { username, password, profile } => {
            let control = connect(&profile).await?;
            let password = password.read(&username, true).await?;
            control.set_password(&username, &password).await?;
            output::print(&format!("set the password of {}\n", output::printable(&username)))
        }
        Action::Rm { username, profile } => {
            connect(&profile).await?.remove_user(&username).await?;
            output::print(&format!(
                "removed {}; what is being fetched under that name ends within a ticket's lifetime (10 minutes, unless \
                 the master was told otherwise)\n",
                output::printable(&username)
            ))
        }
        Action::Ls { profile } => {
            let users = connect(&profile).await?.list_users().await?;
            let state = |locked| if locked { "locked" } else { "" };
            let row = |user: &braidcast_client::control::User| {
                let name = output::printable(&user.username).into_owned();
                [name, user.role.to_string(), state(user.locked).to_owned()]
            };
            let rows: Vec<[String; 3]> = users.iter().map(row).collect();
            output::print(&output::table(["USER", "ROLE", "STATE"], &rows))
        }
    }
}
