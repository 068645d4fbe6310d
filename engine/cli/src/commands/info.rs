//! `braidcast info`

use braidcast_client::ControlError;
use braidcast_client::control::{VideoRef, Window};
use braidcast_media::AssetId;
use clap::Args;
use indicatif::HumanBytes;

use super::connect;
use crate::args::ProfileArg;
use crate::error::CliError;
use crate::film::{condition_in_words, tracks_in_words};
use crate::output;

/// Flags of `braidcast info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Name of the video, as `braidcast ls` shows it
    name: String,
    #[command(flatten)]
    profile: ProfileArg,
}

/// Shows one video, and who serves it.
pub(crate) async fn run(args: InfoArgs) -> Result<(), CliError> {
    let control = connect(&args.profile).await?;
    let video = control.video(&args.name).await?;
    let asset = AssetId(video.asset);
    let servers = match control.distribution(VideoRef::Asset(asset), Window::ALL).await {
        Ok(list) => list.hosts.iter().map(|host| host.address.to_string()).collect::<Vec<_>>().join(", "),
        Err(ControlError::NoSource { reason, .. }) => format!("none: {reason}"),
        Err(error) => return Err(error.into()),
    };
    let rows = [
        ("name", output::printable(&video.name).into_owned()),
        ("asset", asset.to_string()),
        ("size", format!("{} bytes ({})", video.bytes, HumanBytes(video.bytes))),
        ("published", output::time(video.published_at)),
        ("held by", format!("{} servers of {} wanted", video.replicas_held, video.replicas_wanted)),
        ("servers", servers),
        ("durable", condition_in_words(&video)),
    ];
    let film = video.film.as_ref();
    let kind = film.map_or_else(|| "plain bytes".to_owned(), |film| film.container.clone());
    let tracks = film.map(tracks_in_words).unwrap_or_default();
    let film = std::iter::once(("kind", kind)).chain(tracks.into_iter().map(|track| ("track", track)));
    let lines: String =
        rows.into_iter().chain(film).map(|(key, value)| format!("{key:<10} {}\n", output::printable(&value))).collect();
    output::print(&lines)
}
