//! Rounds: everybody once, in turns, again and again.

use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result};
use braidcast_lab::stop::Interrupted;

use crate::bench::Bench;
use crate::contender::{Contender, Peer, Row, Run, Sink};
use crate::place::Kind;

/// What came of a contender and one of its sinks.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    /// Where.
    pub(crate) place: Kind,
    /// Who.
    pub(crate) row: Row,
    /// How it was set.
    pub(crate) variant: String,
    /// Where it wrote.
    pub(crate) sink: Sink,
    /// A run of each round; as many as of all others, or none.
    pub(crate) runs: Vec<Run>,
    /// Why there is none.
    pub(crate) refusal: Option<String>,
}

/// Warms up, and measures. What was measured before an error is given, too.
pub(crate) fn measure(bench: &Bench, contenders: Vec<Contender>, rounds: u32) -> (Vec<Series>, Result<()>) {
    let mut lines: Vec<Series> = Vec::new();
    let mut peers: Vec<Option<&dyn Peer>> = Vec::new();
    for contender in &contenders {
        for sink in contender.row.sinks() {
            let refusal = contender.peer.as_ref().err().map(|error| format!("{error:#}"));
            let (row, variant) = (contender.row, contender.variant.clone());
            let place = bench.place.kind();
            lines.push(Series { place, row, variant, sink: *sink, runs: Vec::new(), refusal });
            peers.push(contender.peer.as_deref().ok());
        }
    }
    for round in 0..=rounds {
        let outcome = run_round(bench, &mut lines, &peers, round, rounds);
        if outcome.is_err() {
            // Pairs are of one round, so a round that was not ended does not count.
            lines.iter_mut().for_each(|line| line.runs.truncate(round.saturating_sub(1) as usize));
            return (lines, outcome);
        }
    }
    (lines, Ok(()))
}

/// Round 0 warms up: its times do not count, and what it wrote is compared with the file.
fn run_round(bench: &Bench, lines: &mut [Series], peers: &[Option<&dyn Peer>], round: u32, rounds: u32) -> Result<()> {
    let mut order: Vec<usize> = (0..lines.len()).collect();
    if round % 2 == 1 {
        order.reverse();
    }
    let name = if round == 0 { "warming up".to_owned() } else { format!("round {round} of {rounds}") };
    for index in order {
        let line = &mut lines[index];
        let Some(peer) = peers[index].filter(|_| line.refusal.is_none()) else { continue };
        bench.stop.check()?;
        match run_one(bench, peer, line.sink, round == 0) {
            Ok(run) => {
                eprintln!("peers: {}: {name}: {}: {:.3} s", line.place.name(), line.shown(), run.wall.as_secs_f64());
                if round > 0 {
                    line.runs.push(run);
                }
            }
            Err(error) => line.refuse(error)?,
        }
    }
    Ok(())
}

fn run_one(bench: &Bench, peer: &dyn Peer, sink: Sink, is_thorough: bool) -> Result<Run> {
    let output = match sink {
        Sink::Null => PathBuf::from("/dev/null"),
        Sink::Tmpfs => bench.output()?,
    };
    let run = peer.run(bench, output.clone())?;
    if sink == Sink::Tmpfs {
        check(bench, &output, is_thorough)?;
    }
    Ok(run)
}

fn check(bench: &Bench, output: &Path, is_thorough: bool) -> Result<()> {
    bench.check(output, is_thorough)?;
    // Its memory is wanted for the page cache.
    std::fs::remove_file(output).with_context(|| output.display().to_string())
}

impl Series {
    /// Who it is, in full.
    pub(crate) fn shown(&self) -> String {
        let variant = if self.variant.is_empty() { String::new() } else { format!(" ({})", self.variant) };
        format!("{}{variant} to {}", self.row.name(), self.sink.name())
    }

    /// A peer that fails is left out from then on; Braidcast must not.
    fn refuse(&mut self, error: Error) -> Result<()> {
        if error.is::<Interrupted>() || self.row.is_ours() {
            return Err(error.context(self.shown()));
        }
        eprintln!("peers: {}: {error:#}", self.shown());
        self.refusal = Some(format!("{error:#}"));
        self.runs.clear();
        Ok(())
    }
}
