//! What is asked of a run, and whether it was fit to tell.

use std::process::ExitCode;

use serde::Serialize;

use crate::report::{BesideFetch, Figures};

/// 99% of the replies come within this.
const REPLY_P99_MS: f64 = 20.0;
/// Beside a client whose file is on the disk, of what it is beside one whose file is in memory.
const COLD_P99_RATIO: f64 = 2.0;
/// Most anonymous memory of a session, in bytes.
const SESSION_BYTES: f64 = 4_096.0;
/// This tool may use so much of its core.
const TOOL_CPU: f64 = 0.9;
/// And be so late with 99% of what it has to do.
const TIMERS_P99_MS: f64 = 5.0;

/// The exit code of a run that tells nothing.
const VOID: u8 = 2;

/// What a run shows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Verdict {
    /// All goals were met.
    Met,
    /// One was not.
    Missed,
    /// Nothing: this tool was the bottleneck.
    Void,
}

impl Verdict {
    /// How the program ends.
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Met => ExitCode::SUCCESS,
            Self::Missed => ExitCode::FAILURE,
            Self::Void => ExitCode::from(VOID),
        }
    }
}

/// Judges a run, and says what speaks against it. What the tool itself spoilt is said first, and alone counts then.
pub(crate) fn judge(figures: &Figures) -> (Verdict, Vec<String>) {
    let (spoilt, missed) = (spoilt(figures), missed(figures));
    let verdict = match (spoilt.is_empty(), missed.is_empty()) {
        (false, _) => Verdict::Void,
        (true, false) => Verdict::Missed,
        (true, true) => Verdict::Met,
    };
    (verdict, [spoilt, missed].concat())
}

/// Why this tool was the bottleneck.
fn spoilt(figures: &Figures) -> Vec<String> {
    let mut why = Vec::new();
    if figures.tool_cpu > TOOL_CPU {
        why.push(format!(
            "this tool used {:.0}% of its core, more than {:.0}%: take fewer viewers or a lower rate, or a faster machine",
            figures.tool_cpu * 100.0,
            TOOL_CPU * 100.0
        ));
    }
    if figures.timers.p99_ms > TIMERS_P99_MS {
        why.push(format!(
            "this tool's timers were {:.1} ms late (99th percentile), more than {TIMERS_P99_MS} ms: does something else run here?",
            figures.timers.p99_ms
        ));
    }
    if figures.tool_drops > 0 {
        why.push(format!(
            "this tool's receive buffers overflowed {} times: raise `sysctl net.core.rmem_max` and net.ipv4.udp_mem",
            figures.tool_drops
        ));
    }
    why
}

/// Which goals were missed.
fn missed(figures: &Figures) -> Vec<String> {
    let mut why = Vec::new();
    if figures.late_chunks > 0 {
        why.push(format!("{} chunks were late, and none should", figures.late_chunks));
    }
    if figures.not_served > 0 {
        why.push(format!("{} viewers were not served to the end: {}", figures.not_served, figures.failures.join("; ")));
    }
    if figures.rejected_chunks > 0 {
        why.push(format!("{} chunks did not open", figures.rejected_chunks));
    }
    if let Some(BesideFetch { cold, warm }) = &figures.beside_fetch
        && cold.p99_ms > COLD_P99_RATIO * warm.p99_ms
    {
        why.push(format!(
            "beside a fetch from the disk replies took {:.2} ms (99th percentile), more than {COLD_P99_RATIO} times the {:.2} ms beside one from memory",
            cold.p99_ms, warm.p99_ms
        ));
    }
    if figures.greedy == 0 {
        if figures.replies.p99_ms > REPLY_P99_MS {
            why.push(format!(
                "replies took {:.1} ms (99th percentile), goal {REPLY_P99_MS} ms",
                figures.replies.p99_ms
            ));
        }
        if figures.anonymous_per_session > SESSION_BYTES {
            why.push(format!(
                "the server took {:.0} bytes of anonymous memory a session, goal {SESSION_BYTES}",
                figures.anonymous_per_session
            ));
        }
    }
    why
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tally::Spread;

    fn good() -> Figures {
        let within = |p99_ms| Spread { count: 1, p99_ms, ..Spread::default() };
        Figures {
            viewers: 1_000,
            replies: within(REPLY_P99_MS),
            timers: within(TIMERS_P99_MS),
            tool_cpu: TOOL_CPU,
            anonymous_per_session: SESSION_BYTES,
            ..Figures::default()
        }
    }

    fn verdict(change: impl FnOnce(&mut Figures)) -> Verdict {
        let mut figures = good();
        change(&mut figures);
        judge(&figures).0
    }

    #[test]
    fn what_is_just_within_the_goals_meets_them() {
        assert_eq!(judge(&good()), (Verdict::Met, Vec::new()));
    }

    #[test]
    fn each_goal_can_be_missed_alone() {
        assert_eq!(verdict(|f| f.late_chunks = 1), Verdict::Missed);
        assert_eq!(verdict(|f| f.not_served = 1), Verdict::Missed);
        assert_eq!(verdict(|f| f.rejected_chunks = 1), Verdict::Missed);
        assert_eq!(verdict(|f| f.replies.p99_ms += 0.1), Verdict::Missed);
        assert_eq!(verdict(|f| f.anonymous_per_session += 1.0), Verdict::Missed);
        let beside = |cold| BesideFetch {
            cold: Spread { p99_ms: cold, ..Spread::default() },
            warm: Spread { p99_ms: 1.0, ..Spread::default() },
        };
        assert_eq!(verdict(|f| f.beside_fetch = Some(beside(COLD_P99_RATIO))), Verdict::Met);
        assert_eq!(verdict(|f| f.beside_fetch = Some(beside(COLD_P99_RATIO + 0.1))), Verdict::Missed);
    }

    #[test]
    fn beside_greedy_viewers_chunks_have_to_come_in_time_and_no_more() {
        let slow = |f: &mut Figures| {
            f.greedy = 1;
            f.replies.p99_ms = 500.0;
            f.anonymous_per_session = 1e6;
        };
        assert_eq!(verdict(slow), Verdict::Met);
        let late = |f: &mut Figures| {
            slow(f);
            f.late_chunks = 1;
        };
        assert_eq!(verdict(late), Verdict::Missed);
    }

    #[test]
    fn a_run_that_the_tool_spoilt_is_void_whatever_else_it_shows() {
        assert_eq!(verdict(|f| f.tool_cpu += 0.01), Verdict::Void);
        assert_eq!(verdict(|f| f.timers.p99_ms += 0.1), Verdict::Void);
        assert_eq!(verdict(|f| f.tool_drops = 1), Verdict::Void);
        let late = |f: &mut Figures| {
            f.late_chunks = 1;
            f.tool_cpu = 1.0;
        };
        assert_eq!(verdict(late), Verdict::Void);
    }
}
