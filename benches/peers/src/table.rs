//! What was measured and how it was judged, as text.

use braidcast_lab::table::align;

use crate::contender::Run;
use crate::goals::{Verdict, median};
use crate::place::Kind;
use crate::rounds::Series;

/// Of a note in a table; standard error has all of it.
const NOTE_CHARS: usize = 110;
const GB: f64 = 1e9;
/// What stands below the tables.
pub(crate) const EXPLANATION: &str = "\
Medians; GB are 10^9 bytes; tmpfs is a file in memory that was not there before. braidcast get checks packets' tags
and extents' hashes; with --verify packets (braidcast-packets) the tags alone.";

/// All lines: medians over the rounds, and those over veth beside them where there are any.
pub(crate) fn print(lines: &[Series], bytes: u64) -> String {
    let has_veth = lines.iter().any(|line| line.place == Kind::Veth);
    let head = ["program", "setting", "to", "wall s", "GB/s", "server CPU s/GB", "client CPU s/GB"];
    let further = ["veth wall s", "GB/s", "server CPU s/GB", "client CPU s/GB"];
    let further = if has_veth { &further[..] } else { &[] };
    let mut cells = vec![head.iter().chain(further).chain(&["note"]).map(|name| (*name).to_owned()).collect()];
    for line in lines.iter().filter(|line| line.place == Kind::Loopback) {
        let mut row = vec![line.row.name().to_owned(), line.variant.clone(), line.sink.name().to_owned()];
        row.extend(figures(Some(line), bytes));
        let mut notes: Vec<String> = line.refusal.iter().map(|why| format!("not run: {why}")).collect();
        if has_veth {
            let is_same = |other: &&Series| {
                let same = other.row == line.row && other.variant == line.variant && other.sink == line.sink;
                same && other.place == Kind::Veth
            };
            let other = lines.iter().find(is_same);
            row.extend(figures(other, bytes));
            notes.extend(other.and_then(|line| line.refusal.as_ref()).map(|why| format!("not run over veth: {why}")));
        }
        row.push(notes.join("; ").chars().take(NOTE_CHARS).collect());
        cells.push(row);
    }
    align(&cells)
}

/// All goals.
pub(crate) fn print_goals(verdicts: &[Verdict]) -> String {
    let head = ["goal", "to", "median", "rounds", "wanted", "", "note"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    for verdict in verdicts {
        let ratio = verdict.ratio;
        let shown = ratio.map(|ratio| format!("{:.2}", ratio.median)).unwrap_or_default();
        let range = ratio.map(|ratio| format!("{:.2} to {:.2}", ratio.low, ratio.high)).unwrap_or_default();
        let met = match verdict.is_met() {
            Some(true) => "ok",
            Some(false) => "MISS",
            None => "",
        };
        let note = verdict.note.chars().take(NOTE_CHARS).collect();
        let to = verdict.sink.name().to_owned();
        cells.push(vec![verdict.what.to_owned(), to, shown, range, verdict.bound.to_string(), met.to_owned(), note]);
    }
    align(&cells)
}

/// Wall time, its rate, and CPU time per GB of both ends.
fn figures(line: Option<&Series>, bytes: u64) -> [String; 4] {
    let middle = |of: fn(&Run) -> f64| line.and_then(|line| median(&line.runs.iter().map(of).collect::<Vec<_>>()));
    let size = bytes as f64 / GB;
    let wall = middle(|run| run.wall.as_secs_f64());
    let server = middle(|run| run.server_cpu.as_secs_f64());
    let client = middle(|run| run.client_cpu.as_secs_f64());
    let shown = |value: Option<f64>, digits: usize| value.map(|value| format!("{value:.digits$}")).unwrap_or_default();
    let per_gb = |time: Option<f64>| shown(time.map(|time| time / size), 3);
    [shown(wall, 3), shown(wall.map(|wall| size / wall), 2), per_gb(server), per_gb(client)]
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::contender::{Row, Sink};

    #[test]
    fn figures_are_medians_and_places_stand_side_by_side() {
        let run = |wall, server, client| Run {
            wall: Duration::from_millis(wall),
            server_cpu: Duration::from_millis(server),
            client_cpu: Duration::from_millis(client),
        };
        let line = Series {
            place: Kind::Loopback,
            row: Row::Nginx,
            variant: "1 worker".to_owned(),
            sink: Sink::Null,
            runs: vec![run(1_000, 800, 600), run(9_000, 8_000, 6_000), run(800, 400, 200)],
            refusal: None,
        };
        let refused = Series { row: Row::Srt, runs: Vec::new(), refusal: Some("no SRT".to_owned()), ..line.clone() };
        let text = print(&[line.clone(), refused.clone()], 2_000_000_000);
        assert!(!text.contains("veth"), "{text}");
        for wanted in ["1.000", "2.00", "0.400", "0.300", "not run: no SRT"] {
            assert!(text.contains(wanted), "{wanted}: {text}");
        }
        let veth = Series { place: Kind::Veth, runs: vec![run(4_000, 0, 0)], ..line.clone() };
        let text = print(&[line, refused, veth], 2_000_000_000);
        assert!(text.contains("4.000") && text.lines().count() == 3, "{text}");
    }
}
