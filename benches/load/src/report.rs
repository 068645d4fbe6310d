//! What a run has shown, for people and for programs.

use std::fmt::Write;

use serde::Serialize;

use crate::goals::Verdict;
use crate::tally::Spread;
use crate::usage::Memory;

/// All figures of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    /// How the server said that it runs.
    pub(crate) server: String,
    /// Viewers with a rate.
    pub(crate) viewers: u32,
    /// Their rate.
    pub(crate) rate_bit_s: u64,
    /// What they fetch ahead.
    pub(crate) window_s: u32,
    /// What they ask for at a time.
    pub(crate) chunks_per_pull: u16,
    /// Greedy viewers beside them.
    pub(crate) greedy: u32,
    /// Over which time figures were taken.
    pub(crate) seconds: f64,
    /// Replies to viewers with a rate.
    pub(crate) replies: Spread,
    /// Replies to greedy ones.
    pub(crate) replies_greedy: Spread,
    /// Time until a viewer plays.
    pub(crate) starts: Spread,
    /// Payload for viewers with a rate.
    pub(crate) bytes: u64,
    /// Payload for greedy ones.
    pub(crate) bytes_greedy: u64,
    /// Chunks that came too late, since the first arrival, as all that follow.
    pub(crate) late_chunks: u64,
    /// By how much the latest was late, of those that came.
    pub(crate) latest_ms: f64,
    /// Chunks that were opened and are authentic.
    pub(crate) verified_chunks: u64,
    /// Chunks of greedy viewers that were not opened.
    pub(crate) unopened_chunks: u64,
    /// Chunks that do not open.
    pub(crate) rejected_chunks: u64,
    /// Chunks that came once more, or unasked.
    pub(crate) unwanted_chunks: u64,
    /// Chunks that were asked for and had to be asked for again.
    pub(crate) lost_chunks: u64,
    /// Viewers that never played, or that the server failed.
    pub(crate) not_served: u32,
    /// What happened to the first of them.
    pub(crate) failures: Vec<String>,
    /// The server's share of a core.
    pub(crate) server_cpu: f64,
    /// The server's memory before the first session, in bytes.
    pub(crate) memory_idle: Memory,
    /// The same after one session.
    pub(crate) memory_before: Memory,
    /// The most of it with all of them.
    pub(crate) memory: Memory,
    /// By so much it grew with them, for each, in bytes.
    pub(crate) anonymous_per_session: f64,
    /// Replies to viewers with a rate while somebody fetched another file.
    pub(crate) beside_fetch: Option<BesideFetch>,
    /// This thread's share of a core.
    pub(crate) tool_cpu: f64,
    /// By how much this thread was late.
    pub(crate) timers: Spread,
    /// Messages that this tool's receive buffers had no room for.
    pub(crate) tool_drops: u64,
}

/// Replies while somebody fetched another file.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct BesideFetch {
    /// Which came from the disk.
    pub(crate) cold: Spread,
    /// Which came from memory.
    pub(crate) warm: Spread,
}

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Judged<'a> {
    verdict: Verdict,
    reasons: &'a [String],
    #[serde(flatten)]
    figures: &'a Figures,
}

/// One JSON object.
pub(crate) fn json(figures: &Figures, verdict: Verdict, reasons: &[String]) -> Result<String, serde_json::Error> {
    serde_json::to_string(&Judged { verdict, reasons, figures }).map(|text| text + "\n")
}

/// Lines for people.
pub(crate) fn text(figures: &Figures, verdict: Verdict, reasons: &[String]) -> String {
    let f = figures;
    let mut text = String::new();
    let mut line = |name: &str, what: String| {
        let _ = writeln!(text, "{name:<13} {what}");
    };
    line("viewers", viewers(f));
    line("measured", format!("{:.1} s after the last had arrived", f.seconds));
    line("reply", spread(&f.replies));
    if f.greedy > 0 {
        line("reply, greedy", spread(&f.replies_greedy));
    }
    if let Some(BesideFetch { cold, warm }) = &f.beside_fetch {
        line("beside cold", spread(cold));
        line("beside warm", spread(warm));
    }
    line("first second", spread(&f.starts));
    line("late", format!("{} chunks, the latest by {:.1} ms", f.late_chunks, f.latest_ms));
    line("delivered", delivered(f));
    line("chunks", chunks(f));
    let [rss, anonymous] = [|memory: Memory| memory.rss, |memory: Memory| memory.anonymous].map(|of| {
        [f.memory_idle, f.memory_before, f.memory].map(|memory| format!("{:.1}", mib(of(memory)))).join(" -> ")
    });
    line("server", format!("{:.1}% of a core; {}", f.server_cpu * 100.0, f.server));
    line("memory", format!("RSS {rss} MiB; anonymous {anonymous} MiB: {:.0} bytes a session", f.anonymous_per_session));
    let timers = format!("timers late by {}", spread(&f.timers));
    line("tool", format!("{:.1}% of its core; {timers}; {} drops", f.tool_cpu * 100.0, f.tool_drops));
    let word = match verdict {
        Verdict::Met => "all goals met",
        Verdict::Missed => "MISS",
        Verdict::Void => "VOID",
    };
    line("verdict", [&[word.to_owned()][..], reasons].concat().join("\n              "));
    text
}

fn viewers(f: &Figures) -> String {
    let mut text = format!("{} at {:.2} Mbit/s, window {} s", f.viewers, f.rate_bit_s as f64 / 1e6, f.window_s);
    let _ = write!(text, ", {} chunks a PULL", f.chunks_per_pull);
    if f.greedy > 0 {
        let _ = write!(text, "; {} greedy ones", f.greedy);
    }
    text
}

fn delivered(f: &Figures) -> String {
    let part = |bytes: u64| format!("{:.1} MB, {:.0} Mbit/s", bytes as f64 / 1e6, bytes as f64 * 8e-6 / f.seconds);
    let paced = part(f.bytes);
    if f.greedy > 0 { format!("{paced}; greedy {}", part(f.bytes_greedy)) } else { paced }
}

fn chunks(f: &Figures) -> String {
    let came = (f.verified_chunks + f.unopened_chunks).max(1);
    format!(
        "{:.1}% of {came} verified, {} did not open, {} lost, {} came twice",
        100.0 * f.verified_chunks as f64 / came as f64,
        f.rejected_chunks,
        f.lost_chunks,
        f.unwanted_chunks
    )
}

fn spread(spread: &Spread) -> String {
    let Spread { count, p50_ms, p99_ms, max_ms } = spread;
    format!("p50 {p50_ms:.2}, p99 {p99_ms:.2}, max {max_ms:.2} ms (of {count})")
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_what_speaks_against_a_run() {
        let figures = Figures { seconds: 1.0, late_chunks: 3, ..Figures::default() };
        let reasons = ["3 chunks were late".to_owned(), "and more".to_owned()];
        let text = text(&figures, Verdict::Missed, &reasons);
        assert!(text.contains("MISS\n              3 chunks were late\n              and more\n"), "{text}");
        let json = json(&figures, Verdict::Missed, &reasons).expect("plain figures");
        let value: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(value["verdict"], "missed");
        assert_eq!(value["reasons"][1], "and more");
        assert_eq!(value["late_chunks"], 3);
    }
}
