//! nginx's half: as many curls, each with a bound on its rate.
//!
//! What nginx spends depends on how the file was written, it seems because of how the page cache then holds it: in pieces
//! of 1 MiB, as [`crate::files`] does, sendfile takes 0.03 s/GB; in pieces of some KB 0.06 (Linux 6.18, ext4, CUBIC).

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use braidcast_lab::process::Process;

use super::{CLIENTS, Half, RATE_BIT_S, SECONDS};
use crate::bench::Bench;
use crate::cpu;
use crate::peer::Nginx;

/// Bytes per second of each curl.
const RATE_BYTES_S: u64 = RATE_BIT_S / 8;
/// How long after one curl the next starts, as viewers of `braidcast-load` do.
const ARRIVAL_EVERY: Duration = Duration::from_millis(10);
/// From the start of the last curl until figures are taken. curl 7.88 first takes 5 MB at once, makes up for that by
/// being slow for six seconds, and swings about its rate in waves of eight that wane; nginx fills sockets' buffers with
/// 4 MB for each meanwhile. After 10 s, 10 s more had up to 9% less than the rate.
const SETTLE: Duration = Duration::from_secs(16);
/// Seconds after which a curl ends, if it was not told to end before: all start, settle and are watched within it.
const CURL_SECONDS: u64 = 45;

/// Bytes of the file that a curl may be sent: twice those of its rate, for what it takes at once and what buffers hold.
pub(super) fn bytes_ahead() -> u64 {
    2 * CURL_SECONDS * RATE_BYTES_S
}

/// Starts curls, and accounts what nginx spends on them over some seconds.
pub(super) fn run(bench: &Bench, nginx: &Nginx) -> Result<Half> {
    let mut curls = start(bench, nginx)?;
    bench.stop.sleep(SETTLE)?;
    let servers: Vec<u32> = nginx.processes.iter().map(Process::id).collect();
    let clients: Vec<u32> = curls.iter().map(Process::id).collect();
    let begun = Instant::now();
    let before = (cpu::clocks_of_trees(&servers)?, cpu::clocks_of_trees(&clients)?, written(&clients)?);
    bench.stop.sleep(Duration::from_secs(SECONDS.into()))?;
    let seconds = begun.elapsed().as_secs_f64();
    for curl in &mut curls {
        if let Some(status) = curl.ended()? {
            bail!("a curl ended too early: {status}: {}", curl.last_words());
        }
    }
    let after = (cpu::clocks_of_trees(&servers)?, cpu::clocks_of_trees(&clients)?, written(&clients)?);
    Ok(Half {
        bytes: after.2.saturating_sub(before.2),
        seconds,
        server_cpu: after.0.saturating_sub(before.0).as_secs_f64(),
        client_cpu: after.1.saturating_sub(before.1).as_secs_f64(),
        note: String::new(),
    })
}

/// Starts all curls, which are spread over the file.
fn start(bench: &Bench, nginx: &Nginx) -> Result<Vec<Process>> {
    let begin = Instant::now();
    let room = bench.bytes.saturating_sub(bytes_ahead());
    let mut curls = Vec::new();
    for number in 0..CLIENTS {
        let due = begin + ARRIVAL_EVERY * number;
        bench.stop.sleep(due.saturating_duration_since(Instant::now()))?;
        let from = room * u64::from(number) / u64::from(CLIENTS);
        let mut curl = nginx.curl(bench, "/dev/null".as_ref())?;
        curl.args(["--limit-rate", &RATE_BYTES_S.to_string(), "--range", &format!("{from}-")]);
        curl.args(["--max-time", &CURL_SECONDS.to_string()]);
        curls.push(bench.start(&format!("curl-{number}"), curl)?);
    }
    Ok(curls)
}

/// Bytes that these processes have written so far: of a curl, what it has read from its socket and thrown away.
fn written(pids: &[u32]) -> Result<u64> {
    let of_one = |pid: &u32| {
        let path = format!("/proc/{pid}/io");
        let text = fs::read_to_string(&path).with_context(|| path.clone())?;
        parse_written(&text).with_context(|| format!("{path}: {text:?}"))
    };
    pids.iter().map(of_one).sum()
}

/// `wchar`, as proc_pid_io(5) calls what was passed to write(2) and the like.
fn parse_written(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("wchar: "))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_as_the_kernel_tells_it() {
        let text = "rchar: 1948\nwchar: 1250000\nsyscr: 7\nsyscw: 12\nread_bytes: 0\nwrite_bytes: 4096\n";
        assert_eq!(parse_written(text), Some(1_250_000));
        assert_eq!(parse_written("rchar: 1948\n"), None);
        assert_eq!(parse_written(""), None);
    }

    #[test]
    fn what_is_thrown_away_counts_as_written() {
        let me = [std::process::id()];
        let before = written(&me).expect("/proc");
        fs::write("/dev/null", vec![0; 1_000_000]).expect("it takes all");
        assert!(written(&me).expect("/proc") >= before + 1_000_000);
    }

    #[test]
    fn a_curl_outlasts_what_is_measured() {
        let arrivals = ARRIVAL_EVERY * CLIENTS;
        let wanted = arrivals + SETTLE + Duration::from_secs(SECONDS.into());
        assert!(Duration::from_secs(CURL_SECONDS) >= wanted * 3 / 2, "{wanted:?}");
    }
}
