//! `braidcast trace`

use std::path::{Path, PathBuf};

use clap::Args;

use crate::error::CliError;
use crate::output;
use crate::trace;

/// Flags of `braidcast trace`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  braidcast get film.mp4 --trace film.jsonl
  braidcast trace film.jsonl              into film.svg, for a browser
  braidcast trace film.jsonl -o - | rsvg-convert > film.png")]
pub(crate) struct TraceArgs {
    /// The trace, from `braidcast get --trace FILE` or from Python's `trace=`
    file: PathBuf,
    /// Where to put the picture; `-` is standard output [default: FILE with .svg as its ending]
    #[arg(long, short, value_name = "PATH")]
    output: Option<PathBuf>,
}

/// Draws what a trace tells.
pub(crate) async fn run(args: TraceArgs) -> Result<(), CliError> {
    let target = target(&args.file, args.output)?;
    let drawn = tokio::task::spawn_blocking(move || {
        let svg = trace::draw(&args.file)?;
        match target {
            None => Ok(Some(svg)),
            Some(path) => match std::fs::write(&path, svg) {
                Ok(()) => Ok(None),
                Err(source) => Err(CliError::Write { path, source }),
            },
        }
    });
    match drawn.await.map_err(|_| CliError::Interrupted)?? {
        Some(svg) => output::print(&svg),
        None => Ok(()),
    }
}

/// The file to write; nothing for standard output.
fn target(file: &Path, output: Option<PathBuf>) -> Result<Option<PathBuf>, CliError> {
    match output {
        Some(path) if path.as_os_str() == "-" => Ok(None),
        Some(path) if path != file => Ok(Some(path)),
        None if file.extension().is_none_or(|ending| ending != "svg") => Ok(Some(file.with_extension("svg"))),
        _ => Err(CliError::Usage(format!("{} would be overwritten; name another file with -o", file.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_picture_stands_beside_the_trace_and_never_in_its_place() {
        let to = |file: &str, output: Option<&str>| target(Path::new(file), output.map(PathBuf::from));
        assert_eq!(to("a/film.jsonl", None).expect("a name"), Some("a/film.svg".into()));
        assert_eq!(to("film", None).expect("a name"), Some("film.svg".into()));
        assert_eq!(to("film", Some("x.svg")).expect("a name"), Some("x.svg".into()));
        assert_eq!(to("film", Some("-")).expect("standard output"), None);
        assert!(matches!(to("film.svg", None), Err(CliError::Usage(_))));
        assert!(matches!(to("film", Some("film")), Err(CliError::Usage(_))));
    }
}
