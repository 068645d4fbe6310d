//! What Braidcast is held to beside its peers, and whether it does that.

use std::time::Duration;

use crate::contender::{Row, Run, Sink};
use crate::place::Kind;
use crate::rounds::Series;

/// What is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Figure {
    /// Wall time: how many times as fast as the other.
    Wall,
    /// CPU time of the server: which part of the other's.
    ServerCpu,
}

/// What a ratio should be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

/// One goal.
#[derive(Clone, Copy, Debug)]
struct Goal {
    what: &'static str,
    figure: Figure,
    ours: Row,
    /// The best of these counts.
    theirs: &'static [Row],
    bound: Bound,
}

const GOALS: [Goal; 9] = [
    Goal {
        what: "server CPU per GB, of nginx plain",
        figure: Figure::ServerCpu,
        ours: Row::Braidcast,
        theirs: &[Row::Nginx],
        bound: Bound::AtMost(1.0 / 2.0),
    },
    Goal {
        what: "server CPU per GB, of nginx TLS",
        figure: Figure::ServerCpu,
        ours: Row::Braidcast,
        theirs: &[Row::NginxTls],
        bound: Bound::AtMost(1.0 / 3.0),
    },
    Goal {
        what: "speed, of curl plain, packets verified",
        figure: Figure::Wall,
        ours: Row::BraidcastPackets,
        theirs: &[Row::Nginx],
        bound: Bound::AtLeast(1.5),
    },
    Goal {
        what: "speed, of curl plain, extents hashed",
        figure: Figure::Wall,
        ours: Row::Braidcast,
        theirs: &[Row::Nginx],
        bound: Bound::AtLeast(1.2),
    },
    Goal {
        what: "speed, of curl TLS, packets verified",
        figure: Figure::Wall,
        ours: Row::BraidcastPackets,
        theirs: &[Row::NginxTls],
        bound: Bound::AtLeast(2.2),
    },
    Goal {
        what: "speed, of aria2c from three sources, packets verified",
        figure: Figure::Wall,
        ours: Row::BraidcastPackets,
        theirs: &[Row::Aria2],
        bound: Bound::AtLeast(10.0),
    },
    Goal {
        what: "speed, of the best of QUIC with GSO and SRT, packets verified",
        figure: Figure::Wall,
        ours: Row::BraidcastPackets,
        theirs: &[Row::Quic, Row::Srt],
        bound: Bound::AtLeast(2.0),
    },
    Goal {
        what: "speed, of QUIC in packets for loopback alone, packets verified",
        figure: Figure::Wall,
        ours: Row::BraidcastPackets,
        theirs: &[Row::QuicJumbo],
        bound: Bound::AtLeast(2.0),
    },
    Goal {
        what: "speed from three sources, of that from one",
        figure: Figure::Wall,
        ours: Row::BraidcastThree,
        theirs: &[Row::Braidcast],
        bound: Bound::AtLeast(0.9),
    },
];

/// A ratio over all rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    /// The middle one.
    pub(crate) median: f64,
    /// The least.
    pub(crate) low: f64,
    /// The largest.
    pub(crate) high: f64,
}

/// A goal, and what came of it.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    /// What was compared.
    pub(crate) what: &'static str,
    /// Where all wrote.
    pub(crate) sink: Sink,
    /// Against whom; or why there is nothing to judge.
    pub(crate) note: String,
    /// What it should be.
    pub(crate) bound: Bound,
    /// What it is, where it was measured.
    pub(crate) ratio: Option<Ratio>,
}

/// Judges all goals that these lines have something to say to, on loopback.
pub(crate) fn judge(lines: &[Series]) -> Vec<Verdict> {
    let each = GOALS.iter().flat_map(|goal| Sink::ALL.map(|sink| (goal, sink)));
    each.filter_map(|(goal, sink)| goal.judge(lines, sink)).collect()
}

impl Goal {
    /// Nothing if none of the peers was to write there.
    fn judge(&self, lines: &[Series], sink: Sink) -> Option<Verdict> {
        let here = |line: &&Series| line.place == Kind::Loopback && line.sink == sink;
        let ours = lines.iter().filter(here).find(|line| line.row == self.ours)?;
        let peers: Vec<&Series> = lines.iter().filter(here).filter(|line| self.theirs.contains(&line.row)).collect();
        let runs = |row: Row| peers.iter().any(|line| line.row == row && !line.runs.is_empty());
        // A variant less is told in the table; a program less, here, too.
        let refused = peers.iter().filter(|line| !runs(line.row));
        let refusal = refused.into_iter().find_map(|line| line.refusal.as_ref().map(|why| (line.row.name(), why)));
        let verdict = |note, ratio| Verdict { what: self.what, sink, note, bound: self.bound, ratio };
        let cost = |line: &&&Series| median(&self.figures(line)).unwrap_or(f64::INFINITY);
        let measured = peers.iter().filter(|line| !line.runs.is_empty());
        match measured.min_by(|one, other| cost(one).total_cmp(&cost(other))) {
            Some(best) if !ours.runs.is_empty() => {
                let mut note = format!("against {}", best.shown());
                if let Some((name, why)) = refusal {
                    note.push_str(&format!("; {name} not run: {why}"));
                }
                Some(verdict(note, self.ratio(ours, best)))
            }
            _ => {
                let (name, why) =
                    refusal.map_or((peers.first()?.row.name(), "no round was ended"), |(name, why)| (name, why));
                Some(verdict(format!("not judged: {name}: {why}"), None))
            }
        }
    }

    /// What it costs in each round.
    fn figures(&self, line: &Series) -> Vec<f64> {
        let of_run = |run: &Run| match self.figure {
            Figure::Wall => run.wall,
            Figure::ServerCpu => run.server_cpu,
        };
        line.runs.iter().map(of_run).map(|time: Duration| time.as_secs_f64()).collect()
    }

    fn ratio(&self, ours: &Series, theirs: &Series) -> Option<Ratio> {
        let pairs = self.figures(ours).into_iter().zip(self.figures(theirs));
        let ratios: Vec<f64> = match self.figure {
            Figure::Wall => pairs.map(|(ours, theirs)| theirs / ours).collect(),
            Figure::ServerCpu => pairs.map(|(ours, theirs)| ours / theirs).collect(),
        };
        let low = ratios.iter().copied().reduce(f64::min)?;
        let high = ratios.iter().copied().reduce(f64::max)?;
        Some(Ratio { median: median(&ratios)?, low, high })
    }
}

impl Verdict {
    /// Whether the goal was met, where it was judged. A ratio without meaning, such as of two times of nothing, is
    /// no success.
    pub(crate) fn is_met(&self) -> Option<bool> {
        let median = self.ratio?.median;
        Some(match self.bound {
            Bound::AtLeast(bound) => median >= bound,
            Bound::AtMost(bound) => median <= bound,
        })
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, ">= {bound:.2}"),
            Self::AtMost(bound) => write!(f, "<= {bound:.2}"),
        }
    }
}

/// The middle one; of an even number the mean of the two in the middle.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        count if count % 2 == 1 => Some(sorted[middle]),
        _ => Some((sorted[middle - 1] + sorted[middle]) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(row: Row, variant: &str, times: &[(u64, u64)]) -> Series {
        let run = |(wall, cpu): &(u64, u64)| Run {
            wall: Duration::from_millis(*wall),
            server_cpu: Duration::from_millis(*cpu),
            client_cpu: Duration::ZERO,
        };
        let runs = times.iter().map(run).collect();
        let variant = variant.to_owned();
        Series { place: Kind::Loopback, row, variant, sink: Sink::Null, runs, refusal: None }
    }

    #[test]
    fn medians_of_odd_and_even_counts() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[9.0, 1.0, 2.0, 4.0]), Some(3.0));
    }

    #[test]
    fn each_figure_is_held_against_the_variant_that_is_best_in_it() {
        let lines = [
            line(Row::Braidcast, "", &[(600, 200), (500, 210), (700, 190)]),
            line(Row::BraidcastPackets, "", &[(600, 0), (500, 0), (700, 0)]),
            line(Row::Nginx, "quick", &[(900, 500), (800, 500), (980, 500)]),
            line(Row::Nginx, "thrifty", &[(1_000, 400), (990, 400), (1_100, 400)]),
        ];
        let verdicts = judge(&lines);
        let shown: Vec<&str> = verdicts.iter().map(|verdict| verdict.note.as_str()).collect();
        assert_eq!(verdicts.len(), 3, "{shown:?}");
        // Pairs of rounds: 0.5, 0.525, 0.475. The bound itself is met.
        assert!(shown[0].contains("thrifty"), "{shown:?}");
        assert_eq!(verdicts[0].is_met(), Some(true));
        // Pairs of rounds: 1.5, 1.6, 1.4.
        assert!(shown[1].contains("quick") && shown[2].contains("quick"), "{shown:?}");
        let ratio = verdicts[1].ratio.expect("measured");
        assert!((ratio.median - 1.5).abs() < 1e-9 && ratio.low < 1.41 && ratio.high > 1.59, "{ratio:?}");
        assert_eq!(verdicts[2].is_met(), Some(true));
    }

    #[test]
    fn bounds_are_met_at_the_bound_and_missed_beyond() {
        let verdict = |bound, median| Verdict {
            what: "",
            sink: Sink::Null,
            note: String::new(),
            bound,
            ratio: Some(Ratio { median, low: median, high: median }),
        };
        assert_eq!(verdict(Bound::AtLeast(1.5), 1.5).is_met(), Some(true));
        assert_eq!(verdict(Bound::AtLeast(1.5), 1.499).is_met(), Some(false));
        assert_eq!(verdict(Bound::AtMost(0.5), 0.5).is_met(), Some(true));
        assert_eq!(verdict(Bound::AtMost(0.5), 0.501).is_met(), Some(false));
        assert_eq!(verdict(Bound::AtMost(0.5), f64::NAN).is_met(), Some(false));
    }

    #[test]
    fn a_peer_that_does_not_run_is_named_and_not_judged() {
        let ours = line(Row::BraidcastPackets, "", &[(600, 200)]);
        let refused = Series { refusal: Some("no such thing".to_owned()), ..line(Row::Srt, "", &[]) };
        let verdicts = judge(&[ours.clone(), refused.clone()]);
        assert_eq!(verdicts.len(), 1);
        assert_eq!(verdicts[0].is_met(), None);
        assert!(verdicts[0].note.contains("srt: no such thing"), "{}", verdicts[0].note);
        // Beside another that does, it is named, too.
        let verdicts = judge(&[ours, refused, line(Row::Quic, "", &[(1_800, 0)])]);
        assert_eq!(verdicts[0].is_met(), Some(true));
        assert!(verdicts[0].note.contains("srt not run"), "{}", verdicts[0].note);
    }
}
