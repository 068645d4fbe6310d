//! `braidcast publish`

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use braidcast_client::publish::{Kind, PublishOptions, Published, publish_file};
use clap::Args;

use super::connect;
use crate::args::ProfileArg;
use crate::error::CliError;
use crate::film::film_in_words;
use crate::output;
use crate::progress::FileShare;
use crate::publishing::publish_each;
use crate::relaunch;

/// Flags of `braidcast publish`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  braidcast publish talk.mp4 panel.mp4
  braidcast publish slides.pdf --as-file
  braidcast publish /srv/films/0001.mp4 --name 'The film.mp4' --replicas 2")]
pub(crate) struct PublishArgs {
    /// Films to publish (MP4, MOV, AVI, Matroska, WebM, MPEG-TS, MPEG-PS); with --as-file files of any type
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Name of the video, for a single file [default: the file's name without its folders]
    #[arg(long)]
    name: Option<String>,
    /// How many servers should hold it; 0 leaves it to the master, which takes all of them unless told otherwise
    #[arg(long, value_name = "N", default_value_t = 0)]
    replicas: u32,
    /// Put a new version in the place of a video that has the name
    #[arg(long)]
    replace: bool,
    /// Publish plain bytes: what can be fetched and not played
    #[arg(long)]
    as_file: bool,
    #[command(flatten)]
    profile: ProfileArg,
}

/// Publishes the files, several at a time; one that fails does not keep the rest from being published.
pub(crate) async fn run(args: PublishArgs) -> Result<(), CliError> {
    let total = args.files.len();
    if args.name.is_some() && total > 1 {
        return Err(CliError::Usage(format!(
            "--name names one video, and {total} files are given; publish them singly"
        )));
    }
    check_names(&args.files)?;
    let kind = if args.as_file { Kind::File } else { Kind::Film(relaunch::probe()) };
    let options = PublishOptions { kind, name: args.name, replicas: args.replicas, replace: args.replace };
    let control = connect(&args.profile).await?;
    let mut failures = Vec::new();
    let publish = |file: PathBuf, share: FileShare| {
        let (control, options) = (control.clone(), options.clone());
        async move { publish_file(&control, &file, &options, move |at| share.show(at.bytes_done, at.bytes_total)).await }
    };
    publish_each(&args.files, publish, |_, outcome| match outcome {
        Ok(video) => output::print(&line(&video)),
        Err(error) if total > 1 => {
            output::complain(&format!("braidcast: {}", output::one_line(&error.to_string())));
            failures.push(error);
            Ok(())
        }
        Err(error) => Err(error.into()),
    })
    .await?;
    let failed = failures.len();
    failures.pop().map_or(Ok(()), |last| Err(CliError::PublishSome { failed, total, last }))
}

/// Refuses two files of one name: with --replace the second would take the place of the first.
fn check_names(files: &[PathBuf]) -> Result<(), CliError> {
    let mut seen: HashMap<&OsStr, &Path> = HashMap::new();
    for file in files {
        let Some(name) = file.file_name() else { continue };
        if let Some(other) = seen.insert(name, file) {
            let name = name.display().to_string();
            return Err(CliError::Usage(format!(
                "{} and {} would both be named {:?}; nothing was published: publish one of them with --name",
                output::printable(&other.display().to_string()),
                output::printable(&file.display().to_string()),
                output::printable(&name)
            )));
        }
    }
    Ok(())
}

/// What is said of a video that was published.
fn line(video: &Published) -> String {
    let name = output::printable(&video.name);
    let what = video.film.as_ref().map(|film| format!(", {}", film_in_words(film))).unwrap_or_default();
    format!("published {name}: {} bytes{what}, asset {}\n", video.bytes, video.asset)
}
