//! `braidcast rm`

use clap::Args;

use super::connect;
use crate::args::ProfileArg;
use crate::error::CliError;
use crate::output;

/// Flags of `braidcast rm`.
#[derive(Debug, Args)]
pub(crate) struct RmArgs {
    /// Name of the video, as `braidcast ls` shows it
    name: String,
    #[command(flatten)]
    profile: ProfileArg,
}

/// Removes a video; servers drop their copies soon after.
pub(crate) async fn run(args: RmArgs) -> Result<(), CliError> {
    connect(&args.profile).await?.remove_video(&args.name).await?;
    output::print(&format!("removed {}\n", output::printable(&args.name)))
}
