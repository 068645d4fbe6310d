//! `braidcast ls`

use clap::Args;
use indicatif::HumanBytes;

use super::connect;
use crate::args::ProfileArg;
use crate::error::CliError;
use crate::film;
use crate::output;

/// Flags of `braidcast ls`.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    profile: ProfileArg,
}

/// Lists the videos.
pub(crate) async fn run(args: LsArgs) -> Result<(), CliError> {
    let videos = connect(&args.profile).await?.list_videos().await?;
    let rows: Vec<[String; 5]> = videos
        .iter()
        .map(|video| {
            [
                output::printable(&video.name).into_owned(),
                HumanBytes(video.bytes).to_string(),
                format!("{}/{}", video.replicas_held, video.replicas_wanted),
                output::time(video.published_at),
                output::printable(&film::condition_in_words(video)).into_owned(),
            ]
        })
        .collect();
    output::print(&output::table(["NAME", "SIZE", "HELD", "PUBLISHED", "DURABLE COPY"], &rows))
}
