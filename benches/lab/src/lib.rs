//! A lab with real sockets: the `braidcast` processes, and what else could be used instead of them, over links that are
//! slow, long, lossy or blocked.
//!
//! [`network`] makes hosts in network namespaces and joins them by the [`router`], which sends every packet through a
//! link of the simulator. [`world`] runs a master, media servers, web servers and clients on such hosts, the scenarios
//! lay links between them and measure.
#![forbid(unsafe_code)]

pub mod namespace;
pub mod network;
pub mod ports;
pub mod process;
pub mod router;
pub mod stop;
pub mod table;
pub mod world;

mod args;
mod blast;
mod measure;
mod scenarios;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Parser;

use self::args::{Arguments, Part};
use self::scenarios::{Bench, Scenario};
use self::stop::{Interrupted, Stop};
use self::table::Table;
use self::world::{Plan, World};

/// Ended by a signal, as shells count it.
const INTERRUPTED: u8 = 130;
/// How long goodput is measured with `--short`.
const SECONDS_SHORT: u32 = 20;
/// A video is by so much longer than what the link can carry meanwhile.
const LONG_RESERVE: f64 = 1.1;

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.part {
        Some(Part::Blast(args)) => blast::blast(args).map(|()| true),
        Some(Part::Sink(args)) => blast::sink(args).map(|()| true),
        Some(Part::Watch(args)) => watch::watch(args).map(|()| true),
        None => run(&arguments),
    };
    exit_code("braidcast-lab", outcome)
}

/// How a program that judges ends: 0 if all goals were met, 130 if it was interrupted, else 1, with the error told.
pub fn exit_code(program: &str, outcome: Result<bool>) -> ExitCode {
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.is::<Interrupted>() => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("{program}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures; tells whether all goals were met.
fn run(arguments: &Arguments) -> Result<bool> {
    let chosen = choose(arguments)?;
    if arguments.list {
        chosen.iter().for_each(|scenario| println!("{:<20} {}", scenario.name, scenario.about));
        return Ok(true);
    }
    let braidcast = braidcast(arguments)?;
    let stop = Stop::catch()?;
    if let Some(reason) = network::refusal() {
        println!("skipped: {reason}\n0 goals met, 0 missed, all skipped");
        return Ok(true);
    }
    let swept = namespace::sweep()?;
    if swept > 0 {
        eprintln!("lab: removed {swept} namespaces of a run that was killed");
    }
    world::sweep_folders()?;
    let mut table = Table::default();
    let outcome = measure(arguments, &chosen, braidcast, &stop, &mut table);
    // What was measured before an error is worth something too.
    print!("{}", table.print());
    outcome?;
    let (met, missed) = table.counts();
    println!("{met} goals met, {missed} missed");
    Ok(missed == 0)
}

fn measure(
    arguments: &Arguments,
    chosen: &[Scenario],
    braidcast: PathBuf,
    stop: &Stop,
    table: &mut Table,
) -> Result<()> {
    let seconds = arguments.seconds.unwrap_or(if arguments.short { SECONDS_SHORT } else { scenarios::SECONDS });
    let logs = arguments.keep_logs.clone();
    let logs = logs.unwrap_or_else(|| std::env::temp_dir().join(format!("bc-lab-{}", std::process::id())).join("log"));
    // Scenarios with as many servers share a world.
    for group in chosen.chunk_by(|one, next| one.servers == next.servers) {
        let servers = group[0].servers;
        let mbit_s = group.iter().map(|scenario| scenario.mbit_s).max().unwrap_or_default();
        // A second client joins late, and both are waited for.
        let time = f64::from(seconds) + 20.0;
        let long_bytes = (mbit_s as f64 * 1e6 / 8.0 * time * LONG_RESERVE) as u64;
        let plan = Plan {
            servers,
            long_bytes: long_bytes.max(world::SHORT_BYTES),
            braidcast: braidcast.clone(),
            logs: logs.join(format!("servers-{servers}")),
            has_traces: arguments.keep_logs.is_some(),
        };
        eprintln!("lab: a world of {servers} servers, each with a video of {} MB", plan.long_bytes / 1_000_000);
        let mut world = World::build(plan, stop)?;
        for scenario in group {
            eprintln!("lab: {}: {}", scenario.name, scenario.about);
            let has_peers = !(arguments.no_peers || arguments.short);
            let mut bench = Bench { world: &mut world, table, name: scenario.name, seconds, has_peers };
            (scenario.run)(&mut bench).with_context(|| scenario.name)?;
        }
    }
    Ok(())
}

fn choose(arguments: &Arguments) -> Result<Vec<Scenario>> {
    let all = scenarios::all();
    if let Some(unknown) = arguments.only.iter().find(|name| all.iter().all(|scenario| scenario.name != **name)) {
        bail!("there is no scenario {unknown:?}; --list shows them");
    }
    let is_wanted = |scenario: &Scenario| {
        let named = arguments.only.iter().any(|name| name == scenario.name);
        named || arguments.only.is_empty() && (scenario.is_short || !arguments.short)
    };
    Ok(all.into_iter().filter(is_wanted).collect())
}

fn braidcast(arguments: &Arguments) -> Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.with_file_name("braidcast"));
    let path = arguments.braidcast.clone().map_or_else(beside, anyhow::Ok)?;
    if !path.is_file() {
        bail!("{}: no such command; build it with: cargo build --release --package braidcast-cli", path.display());
    }
    // Processes run in namespaces, but in the same folder.
    path.canonicalize().with_context(|| path.display().to_string())
}
