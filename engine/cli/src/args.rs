//! What the command line may say.

use std::path::PathBuf;

use braidcast_master::MasterConfig;
use clap::{Args, Parser, Subcommand};

use crate::commands;
use crate::exit;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "braidcast",
    version,
    about = "Stream one video from several servers at once, verified piece by piece",
    after_help = exit::HELP,
    propagate_version = true,
    max_term_width = 110,
)]
pub(crate) struct Arguments {
    /// What to log to standard error, as in `info` or `warn,braidcast_server=debug` [default: warn; info for master,
    /// serve and dev]
    #[arg(long, global = true, env = "BRAIDCAST_LOG", value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a master and media servers on loopback and publish a folder
    Dev(commands::dev::DevArgs),
    /// Run a master
    Master(commands::master::MasterArgs),
    /// Run a media server
    Serve(commands::serve::ServeArgs),
    /// Publish files, several at a time
    Publish(commands::publish::PublishArgs),
    /// List the videos
    Ls(commands::ls::LsArgs),
    /// Show one video
    Info(commands::info::InfoArgs),
    /// List the media servers
    Servers(commands::servers::ServersArgs),
    /// Fetch a video
    Get(commands::get::GetArgs),
    /// Draw what `get --trace` has written
    Trace(commands::trace::TraceArgs),
    /// Remove a video
    Rm(commands::rm::RmArgs),
    /// Check master, TLS, clock, servers and kernel
    Doctor(commands::doctor::DoctorArgs),
    /// Write a backup of a master's state: keys, accounts and catalogue
    Backup(commands::backup::BackupArgs),
    /// Put a backup of a master's state in place
    Restore(commands::restore::RestoreArgs),
    /// List packs that the master's database does not know, and delete them if asked to
    Orphans(commands::orphans::OrphansArgs),
    /// Manage accounts
    User(commands::user::UserArgs),
    /// Log in at a master and keep the login in a profile
    Login(commands::login::LoginArgs),
}

impl Command {
    /// What is logged where nobody says.
    pub(crate) fn default_log(&self) -> &'static str {
        match self {
            Self::Dev(_) | Self::Master(_) | Self::Serve(_) => "info",
            _ => "warn",
        }
    }
}

/// Which profile a command uses.
#[derive(Debug, Args)]
pub(crate) struct ProfileArg {
    /// Profile to use [default: $BRAIDCAST_PROFILE, ./.braidcast/profile.toml, ~/.config/braidcast/profile.toml]
    #[arg(long, value_name = "FILE")]
    pub(crate) profile: Option<PathBuf>,
}

/// Which master's state folder a command works on.
#[derive(Debug, Args)]
pub(crate) struct MasterStateArg {
    /// The master's state folder [default: .braidcast/master]
    #[arg(long = "state", env = "BRAIDCAST_MASTER_STATE", value_name = "DIR")]
    state_dir: Option<PathBuf>,
}

impl MasterStateArg {
    /// The settings of a master with this folder.
    pub(crate) fn config(self) -> MasterConfig {
        let default = MasterConfig::default();
        MasterConfig { state_dir: self.state_dir.unwrap_or(default.state_dir), ..MasterConfig::default() }
    }
}
