//! `braidcast get`

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use braidcast_client::download::{
    DownloadOptions, LANES_MAX, PARTIAL_SUFFIX, Report, SourceReport, Target, Verify, download,
};
use braidcast_client::fetcher::Traffic;
use clap::{Args, ValueEnum, value_parser};
use indicatif::HumanBytes;
use serde::Serialize;

use super::connect;
use crate::args::ProfileArg;
use crate::byte_size::ByteSize;
use crate::error::CliError;
use crate::output;
use crate::progress::DownloadBars;

/// Flags of `braidcast get`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  braidcast get film.mp4                  into ./film.mp4; goes on where an earlier get stopped
  braidcast get film.mp4 -o - | mpv -     to standard output, in order
  braidcast get film.mp4 -o /dev/null --json")]
pub(crate) struct GetArgs {
    /// Name of the video, as `braidcast ls` shows it
    name: String,
    /// Where to put it; `-` is standard output, and what is no regular file is written as it is [default: the video's
    /// name, in this folder]
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Print one JSON object that tells what came from where: to standard output, or with `-o -` to standard error
    #[arg(long)]
    json: bool,
    /// Most that is taken per second, from all servers together, as in 800KiB or 4MiB
    #[arg(long, value_name = "SIZE")]
    max_rate: Option<ByteSize>,
    /// Take what other traffic leaves of the network, and give way to it
    #[arg(long)]
    background: bool,
    /// Threads that receive, up to 8; 0 means one, and more while it cannot keep up
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = value_parser!(u8).range(..=LANES_MAX as i64))]
    lanes: u8,
    /// What is checked: `extents` means every packet and every hash that the master vouches for; `packets` means every
    /// packet alone, which takes less of the processor, and trusts whoever may watch the video not to forge it together with
    /// a server
    #[arg(long, value_name = "WHAT", default_value = "extents")]
    verify: VerifyArg,
    /// Write what was done and when to this file, one JSON object a line; `braidcast trace` draws it
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    #[command(flatten)]
    profile: ProfileArg,
}

/// The values of `--verify`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum VerifyArg {
    Extents,
    Packets,
}

impl From<VerifyArg> for Verify {
    fn from(verify: VerifyArg) -> Self {
        match verify {
            VerifyArg::Extents => Self::Extents,
            VerifyArg::Packets => Self::Packets,
        }
    }
}

/// What `--json` prints.
#[derive(Serialize)]
struct JsonReport<'a> {
    name: &'a str,
    bytes: u64,
    seconds: f64,
    verified: bool,
    redundant_bytes: u64,
    redistributions: u32,
    sources: Vec<JsonSource>,
}

/// A server's part in [`JsonReport`].
#[derive(Serialize)]
struct JsonSource {
    address: String,
    bytes: u64,
    lost: u64,
    rejected: u64,
    failed: bool,
}

/// Fetches a whole video.
pub(crate) async fn run(args: GetArgs, started: Instant) -> Result<(), CliError> {
    let target = target(&args.name, args.output)?;
    let to_stdout = target == Target::Stdout;
    let control = connect(&args.profile).await?;
    let traffic = if args.background { Traffic::Background } else { Traffic::Normal };
    let rate_max = args.max_rate.map(|rate| rate.0 as f64);
    let lanes = args.lanes.into();
    let verify = args.verify.into();
    let options = DownloadOptions { traffic, rate_max, verify, trace: args.trace, lanes, ..DownloadOptions::default() };
    let kept = Kept::of(&target);
    let mut bars = DownloadBars::new(&args.name);
    let outcome = download(control, &args.name, target, options, |progress| bars.show(progress)).await;
    bars.clear();
    kept.forget();
    let report = outcome?;
    let elapsed = started.elapsed();
    if args.json {
        let json = json(&report, elapsed);
        return if to_stdout { output::print_error(&json) } else { output::print(&json) };
    }
    if let Some(path) = &report.path {
        return output::print(&summary(&report, path, elapsed));
    }
    Ok(())
}

fn target(name: &str, output: Option<PathBuf>) -> Result<Target, CliError> {
    match output {
        Some(path) if path.as_os_str() == "-" => Ok(Target::Stdout),
        Some(path) => Ok(Target::Path(path)),
        // A name comes from a publisher: it must not choose a folder on this machine.
        None if Path::new(name).file_name().is_some_and(|file| file == name) => Ok(Target::Path(name.into())),
        None => Err(CliError::Usage(format!("the name {name:?} cannot be a file's; say where to put it with -o"))),
    }
}

fn json(report: &Report, elapsed: Duration) -> String {
    let report = JsonReport {
        name: &report.name,
        bytes: report.bytes,
        seconds: elapsed.as_secs_f64(),
        verified: report.verified,
        redundant_bytes: report.redundant_bytes,
        redistributions: report.redistributions,
        sources: report.sources.iter().map(JsonSource::from).collect(),
    };
    let mut text = serde_json::to_string(&report).expect("plain values are JSON");
    text.push('\n');
    text
}

impl From<&SourceReport> for JsonSource {
    fn from(source: &SourceReport) -> Self {
        Self {
            address: source.address.to_string(),
            bytes: source.bytes,
            lost: source.lost,
            rejected: source.rejected,
            failed: source.failed,
        }
    }
}

fn summary(report: &Report, path: &Path, elapsed: Duration) -> String {
    let fetched = report.bytes - report.resumed_bytes;
    let rate = HumanBytes((fetched as f64 / elapsed.as_secs_f64()) as u64);
    let path = path.display().to_string();
    let verified = if report.verified { "verified" } else { "only packets verified" };
    let seconds = elapsed.as_secs_f64();
    let resumed = match report.resumed_bytes {
        0 => String::new(),
        bytes => format!(", {} of them there already", HumanBytes(bytes)),
    };
    let (path, bytes) = (output::printable(&path), HumanBytes(report.bytes));
    format!("{path}: {bytes} in {seconds:.2} s ({rate}/s{resumed}), {verified}\n")
}

/// Tells where a download that Ctrl-C ends can go on, when it is dropped; a download that ended has said what it has to.
struct Kept(Option<PathBuf>);

impl Kept {
    fn of(target: &Target) -> Self {
        Self(match target {
            Target::Path(path) => Some(path.with_added_extension(PARTIAL_SUFFIX.trim_start_matches('.'))),
            _ => None,
        })
    }

    /// There is nothing to tell any more.
    fn forget(mut self) {
        self.0 = None;
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(path) = self.0.take().filter(|path| path.exists()) {
            let path = path.display().to_string();
            let path = output::printable(&path);
            output::complain(&format!("interrupted; {path} is kept, and the same command goes on from there"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_a_publisher_never_chooses_a_folder() {
        for name in ["../x", "/etc/passwd", "a/b", "..", ".", "", "a/"] {
            assert!(matches!(target(name, None), Err(CliError::Usage(_))), "{name:?}");
            assert_eq!(target(name, Some("x".into())).expect("named"), Target::Path("x".into()));
        }
        assert_eq!(target("a film.mp4", None).expect("a file's name"), Target::Path("a film.mp4".into()));
    }

    #[test]
    fn a_dash_is_standard_output() {
        assert_eq!(target("film", Some("-".into())).expect("stdout"), Target::Stdout);
    }

    #[test]
    fn the_json_object_has_the_fixed_keys() {
        let report = Report {
            name: "film \"a\"\n".to_owned(),
            path: None,
            bytes: 5,
            resumed_bytes: 0,
            elapsed: Duration::from_secs(1),
            verified: true,
            redundant_bytes: 3,
            redistributions: 1,
            sources: vec![SourceReport {
                address: ([127, 0, 0, 1], 9).into(),
                bytes: 5,
                lost: 1,
                rejected: 2,
                failed: false,
            }],
        };
        let expected = concat!(
            r#"{"name":"film \"a\"\n","bytes":5,"seconds":2.5,"verified":true,"redundant_bytes":3,"redistributions":1,"#,
            r#""sources":[{"address":"127.0.0.1:9","bytes":5,"lost":1,"rejected":2,"failed":false}]}"#,
            "\n"
        );
        assert_eq!(json(&report, Duration::from_millis(2_500)), expected);
    }
}
