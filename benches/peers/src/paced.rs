//! Many viewers that take a film at its rate, a few chunks at a time, beside as many clients of nginx at the same rate:
//! what either server spends per GB.

mod curls;
mod load;

use anyhow::{Context, Result, bail, ensure};
use braidcast_lab::table::align;

use self::load::Load;
use crate::bench::Bench;
use crate::goals::median;
use crate::machine;
use crate::peer::Nginx;

/// Server CPU time per GB of Braidcast: at most this part of nginx's.
const GOAL: f64 = 1.0;
/// Clients of either server, all at once.
const CLIENTS: u32 = 200;
/// Bits per second that each of them takes.
const RATE_BIT_S: u64 = 10_000_000;
/// Chunks that a viewer of Braidcast asks for at a time: the train in which a server answers is as long.
const CHUNKS_PER_PULL: u16 = 4;
/// Figures are taken over so many seconds of each half of a round.
const SECONDS: u32 = 10;
/// The rate that was had may differ from the one that was asked for by this part. curl keeps its own over some seconds
/// only: over 10 s it was up to 6% off.
const RATE_TOLERANCE: f64 = 0.1;
/// Of a note in the table; standard error has all of it.
const NOTE_CHARS: usize = 110;
const GB: f64 = 1e9;
/// What stands below the table.
const EXPLANATION: &str = "\
GB are 10^9 bytes of payload; CPU times are user and system time by the CPU clocks of processes and threads. Braidcast:
its media server, and the one thread that drives all viewers and opens every chunk. nginx: its master and one worker,
and all curls, which open nothing. The kernel charges what it does to whoever runs when it is done: where
acknowledgements of a curl let TCP send on, that is the curl.";

/// What one half of a round took.
#[derive(Clone, Debug, PartialEq)]
struct Half {
    /// Payload that came to all clients together.
    bytes: u64,
    /// How long figures were taken, in seconds.
    seconds: f64,
    /// CPU time of the server's processes meanwhile, in seconds.
    server_cpu: f64,
    /// CPU time of the clients meanwhile, in seconds.
    client_cpu: f64,
    /// What else there is to say.
    note: String,
}

/// Both halves of a round.
#[derive(Clone, Debug)]
struct Round {
    braidcast: Half,
    nginx: Half,
}

/// Who has which half.
#[derive(Clone, Copy, Debug)]
enum Who {
    Braidcast,
    Nginx,
}

impl Half {
    /// Server CPU time per GB, in seconds.
    fn server_per_gb(&self) -> f64 {
        self.server_cpu / (self.bytes as f64 / GB)
    }

    /// Client CPU time per GB, in seconds.
    fn client_per_gb(&self) -> f64 {
        self.client_cpu / (self.bytes as f64 / GB)
    }

    /// Fails unless clients had the rate that they asked for: server CPU at another rate says nothing.
    fn check_rate(&self) -> Result<()> {
        let wanted = RATE_BIT_S as f64 / 1e6;
        let had = self.bytes as f64 * 8.0 / 1e6 / self.seconds / f64::from(CLIENTS);
        // Not a number is no rate either.
        ensure!(
            (had / wanted - 1.0).abs() <= RATE_TOLERANCE,
            "a client had {had:.2} Mbit/s instead of {wanted:.2}: does something else run here?"
        );
        Ok(())
    }
}

impl Round {
    /// Server CPU per GB of Braidcast, as part of nginx's.
    fn ratio(&self) -> f64 {
        self.braidcast.server_per_gb() / self.nginx.server_per_gb()
    }
}

/// Fails unless all is there that is run, before anything is made.
pub(crate) fn check(bytes: u64) -> Result<()> {
    Load::find()?;
    machine::find("nginx")?;
    machine::find("curl")?;
    let least = curls::bytes_ahead();
    if bytes < least {
        bail!("a curl takes up to {least} bytes, and the file has {bytes}: take more --bytes");
    }
    Ok(())
}

/// Measures rounds, prints them, and tells whether the goal was met.
pub(crate) fn run(bench: &Bench, rounds: u32) -> Result<bool> {
    let load = Load::find()?;
    let nginx = Nginx::start_paced(bench)?;
    let congestion = bench.place.congestions()?.pop().flatten();
    bench.place.set_congestion(congestion.as_deref())?;
    // What was written goes to the disk before anything is measured, not meanwhile.
    rustix::fs::sync();
    let mut measured = Vec::new();
    let outcome: Result<()> = (1..=rounds).try_for_each(|number| {
        let round = one(bench, &load, &nginx, number).with_context(|| format!("round {number} of {rounds}"))?;
        eprintln!("peers: paced: round {number} of {rounds}: {:.2}", round.ratio());
        measured.push(round);
        Ok(())
    });
    // What was measured before an error is worth something too.
    let mbit_s = RATE_BIT_S / 1_000_000;
    println!(
        "{CLIENTS} clients at {mbit_s} Mbit/s each, {SECONDS} s; braidcast: {CHUNKS_PER_PULL} chunks at a time; \
         nginx: 1 worker, TCP {}\n",
        congestion.as_deref().unwrap_or("as the host has it")
    );
    println!("{}", print(&measured));
    outcome?;
    let ratio = median(&measured.iter().map(Round::ratio).collect::<Vec<_>>()).context("no round")?;
    let is_met = meets(ratio);
    let word = if is_met { "ok" } else { "MISS" };
    println!("server CPU per GB, of nginx plain at the same rate, median: {ratio:.2}, wanted <= {GOAL:.2}: {word}");
    println!("{EXPLANATION}");
    Ok(is_met)
}

/// A ratio without meaning, such as of two times of nothing, is no success.
fn meets(ratio: f64) -> bool {
    ratio <= GOAL
}

/// Every second round goes the other way.
fn one(bench: &Bench, load: &Load, nginx: &Nginx, number: u32) -> Result<Round> {
    let half = |who: Who| {
        bench.stop.check()?;
        let measured = match who {
            Who::Braidcast => load.run(bench),
            Who::Nginx => curls::run(bench, nginx),
        };
        let half = measured.and_then(|half| half.check_rate().map(|()| half)).context(who.name())?;
        eprintln!("peers: paced: round {number}: {}: {:.3} s/GB {}", who.name(), half.server_per_gb(), half.note);
        Ok::<Half, anyhow::Error>(half)
    };
    if number % 2 == 1 {
        let braidcast = half(Who::Braidcast)?;
        Ok(Round { braidcast, nginx: half(Who::Nginx)? })
    } else {
        let nginx = half(Who::Nginx)?;
        Ok(Round { braidcast: half(Who::Braidcast)?, nginx })
    }
}

impl Who {
    fn name(self) -> &'static str {
        match self {
            Self::Braidcast => "braidcast",
            Self::Nginx => "nginx",
        }
    }
}

/// A line for each half of each round.
fn print(rounds: &[Round]) -> String {
    let head = ["round", "program", "Mbit/s", "server CPU s/GB", "client CPU s/GB", "ratio", "note"];
    let mut cells = vec![head.map(str::to_owned).to_vec()];
    for (number, round) in (1..).zip(rounds) {
        let line = |who: Who, half: &Half, ratio: String| {
            let mbit_s = half.bytes as f64 * 8.0 / 1e6 / half.seconds;
            let figures = [format!("{mbit_s:.0}"), format!("{:.3}", half.server_per_gb())];
            let further = [format!("{:.3}", half.client_per_gb()), ratio];
            let note = half.note.chars().take(NOTE_CHARS).collect();
            [&[format!("{number}"), who.name().to_owned()][..], &figures, &further, &[note]].concat()
        };
        cells.push(line(Who::Braidcast, &round.braidcast, format!("{:.2}", round.ratio())));
        cells.push(line(Who::Nginx, &round.nginx, String::new()));
    }
    align(&cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn half(bytes: u64, server_cpu: f64) -> Half {
        Half { bytes, seconds: 10.0, server_cpu, client_cpu: 0.5, note: String::new() }
    }

    #[test]
    fn a_ratio_is_of_times_per_byte_and_not_of_times() {
        let round = Round { braidcast: half(2_500_000_000, 1.0), nginx: half(1_250_000_000, 0.25) };
        assert!((round.braidcast.server_per_gb() - 0.4).abs() < 1e-9, "{round:?}");
        assert!((round.nginx.server_per_gb() - 0.2).abs() < 1e-9, "{round:?}");
        assert!((round.ratio() - 2.0).abs() < 1e-9, "{round:?}");
        let text = print(&[round]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["1", "braidcast", "2000", "0.400", "0.200", "2.00"]);
        assert_eq!(lines[2], ["1", "nginx", "1000", "0.200", "0.400"]);
    }

    #[test]
    fn a_ratio_without_meaning_meets_no_goal() {
        let nothing = Round { braidcast: half(0, 0.0), nginx: half(2_500_000_000, 0.2) };
        assert!(nothing.ratio().is_nan());
        let unseen = Round { braidcast: half(2_500_000_000, 1.0), nginx: half(2_500_000_000, 0.0) };
        assert_eq!([nothing.ratio(), unseen.ratio(), GOAL].map(meets), [false, false, true]);
    }

    #[test]
    fn another_rate_than_was_asked_for_is_refused() {
        half(2_500_000_000, 1.0).check_rate().expect("200 times 10 Mbit/s");
        half(2_300_000_000, 1.0).check_rate().expect("within the tolerance");
        for bytes in [0, 2_200_000_000, 2_800_000_000] {
            let error = half(bytes, 1.0).check_rate().expect_err("another rate");
            assert!(error.to_string().contains("instead of 10.00"), "{error:#}");
        }
        assert!(Half { seconds: 0.0, ..half(0, 1.0) }.check_rate().is_err());
    }
}
