//! Braidcast's half: `braidcast-load`, which brings its own server and drives all viewers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::{CHUNKS_PER_PULL, CLIENTS, Half, RATE_BIT_S, SECONDS};
use crate::bench::Bench;

const PROGRAM: &str = "braidcast-load";
/// Seconds of film that a viewer fetches ahead, the least that the program takes. With its own 10 s viewers still fill
/// their windows when figures begin, and have 11.7 Mbit/s instead of 10.
const WINDOW_SECONDS: u32 = 2;
/// It publishes a file, lets viewers arrive, watches them for [`SECONDS`] and ends within this.
const WAIT: Duration = Duration::from_secs(180);

/// The program, which lies beside this one.
#[derive(Debug)]
pub(super) struct Load(PathBuf);

/// What it prints with `--json`, as far as it is wanted here.
#[derive(Debug, Deserialize)]
struct Report {
    verdict: Verdict,
    /// Why it is no better.
    reasons: Vec<String>,
    viewers: u32,
    rate_bit_s: u64,
    chunks_per_pull: u16,
    /// How long figures were taken.
    seconds: f64,
    /// Payload that came meanwhile.
    bytes: u64,
    /// The server's share of a core meanwhile.
    server_cpu: f64,
    /// The share of the thread that drives viewers.
    tool_cpu: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    /// All of its own goals were met.
    Met,
    /// One was not: late chunks, slow replies. What it measured counts.
    Missed,
    /// It was itself the bottleneck, so that what it measured tells nothing.
    Void,
}

impl Load {
    /// Fails unless it is there.
    pub(super) fn find() -> Result<Self> {
        let path = std::env::current_exe()?.with_file_name(PROGRAM);
        if !path.is_file() {
            bail!("{}: no such command; build it with: cargo build --release --package {PROGRAM}", path.display());
        }
        Ok(Self(path))
    }

    /// Runs it once, where all servers and clients of the bench run.
    pub(super) fn run(&self, bench: &Bench) -> Result<Half> {
        let mut command = bench.place.client(&self.0);
        command.args(["--viewers", &CLIENTS.to_string(), "--rate", &RATE_BIT_S.to_string()]);
        command.args(["--chunks-per-pull", &CHUNKS_PER_PULL.to_string(), "--seconds", &SECONDS.to_string()]);
        command.args(["--window", &WINDOW_SECONDS.to_string()]);
        command.arg("--json").arg("--braidcast").arg(&bench.braidcast).arg("--keep-logs").arg(bench.log("load"));
        // What it leaves when it is killed goes with the rest.
        command.env("TMPDIR", bench.path(""));
        let mut process = bench.start(PROGRAM, command)?;
        let status = bench.stop.wait_for("it still runs", WAIT, || process.ended())?;
        // Its exit code says no more than the verdict, if it comes to one.
        match process.printed().lines().last() {
            Some(line) => read(line),
            None => bail!("{PROGRAM}: {status}: {}", process.last_words()),
        }
    }
}

/// Reads a report, which must be one of the run that was asked for.
fn read(line: &str) -> Result<Half> {
    let report: Report = serde_json::from_str(line).with_context(|| format!("{PROGRAM} printed {line:?}"))?;
    let note = report.reasons.join("; ");
    if report.verdict == Verdict::Void {
        bail!("{PROGRAM}: the run is void: {note}");
    }
    let asked = (report.viewers, report.rate_bit_s, report.chunks_per_pull);
    ensure!(
        asked == (CLIENTS, RATE_BIT_S, CHUNKS_PER_PULL),
        "{PROGRAM} is of another version: it measured (viewers, bit/s, chunks) {asked:?}; build it anew"
    );
    Ok(Half {
        bytes: report.bytes,
        seconds: report.seconds,
        server_cpu: report.server_cpu * report.seconds,
        client_cpu: report.tool_cpu * report.seconds,
        note,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the program prints it, without the figures that are not wanted.
    fn report(verdict: &str, reasons: &str) -> String {
        format!(
            r#"{{"verdict":"{verdict}","reasons":[{reasons}],"server":"1 shard","viewers":200,"rate_bit_s":10000000,
            "window_s":10,"chunks_per_pull":4,"seconds":10.5,"replies":{{"count":7,"p50_ms":0.1}},"bytes":2600000000,
            "late_chunks":0,"server_cpu":0.4,"tool_cpu":0.8}}"#
        )
    }

    #[test]
    fn shares_of_a_core_become_seconds() {
        let half = read(&report("met", "")).expect("a report");
        assert_eq!((half.bytes, half.seconds, half.note.as_str()), (2_600_000_000, 10.5, ""));
        assert!((half.server_cpu - 4.2).abs() < 1e-9 && (half.client_cpu - 8.4).abs() < 1e-9, "{half:?}");
    }

    #[test]
    fn missed_goals_are_noted_and_void_runs_refused() {
        let half = read(&report("missed", r#""3 chunks were late","slow""#)).expect("it was measured");
        assert_eq!(half.note, "3 chunks were late; slow");
        let error = read(&report("void", r#""this tool used 95% of its core""#)).expect_err("void");
        assert!(error.to_string().contains("void: this tool used 95% of its core"), "{error:#}");
    }

    #[test]
    fn what_is_no_report_of_this_run_is_refused() {
        for line in ["", "void", "{}", &report("splendid", "")] {
            assert!(read(line).is_err(), "{line}");
        }
        let other = report("met", "").replace("\"chunks_per_pull\":4", "\"chunks_per_pull\":16");
        assert!(read(&other).expect_err("16").to_string().contains("another version"));
    }
}
