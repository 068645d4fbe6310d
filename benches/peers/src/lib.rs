//! Braidcast beside its peers: the same file, the same sinks, the same cores, in turns, timed from outside.
//!
//! A `place` is the network of both ends; a `bench` has the file and measures a run; `peer` starts the servers and
//! clients, each set as it is best; `rounds` lets all of them run in turns; `goals` judges the ratios, which `table` and
//! `picture` show. `cold` and `paced` each measure and judge one thing of their own.
#![forbid(unsafe_code)]

mod args;
mod bench;
mod client;
mod cold;
mod contender;
mod cpu;
mod files;
mod goals;
mod machine;
mod paced;
mod peer;
mod picture;
mod place;
mod quic;
mod rounds;
mod table;
mod tls;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::rc::Rc;

use anyhow::{Context, Result, bail};
use braidcast_lab::stop::Stop;
use braidcast_lab::{exit_code, namespace};
use clap::{Parser, ValueEnum};

use self::args::{Arguments, Part};
use self::bench::{Bench, Plan};
use self::contender::Row;
use self::place::Place;
use self::rounds::Series;

const BYTES: u64 = 2_000_000_000;
const BYTES_SHORT: u64 = 400_000_000;
/// Room for what a curl takes, and more than a processor's cache holds for them to be spread over.
const BYTES_PACED: u64 = 250_000_000;
const ROUNDS: u32 = 5;
const ROUNDS_SHORT: u32 = 3;
/// What is measured over veth.
const MAIN_ROWS: [Row; 3] = [Row::Braidcast, Row::Nginx, Row::NginxTls];

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.part {
        Some(Part::QuicServe(args)) => quic::serve(args).map(|()| true),
        Some(Part::QuicGet(args)) => quic::get(args).map(|()| true),
        None => run(&arguments),
    };
    exit_code("braidcast-peers", outcome)
}

/// Measures; tells whether all goals were met.
fn run(arguments: &Arguments) -> Result<bool> {
    let all = Row::value_variants();
    let rows: Vec<Row> =
        all.iter().filter(|row| arguments.only.is_empty() || arguments.only.contains(row)).copied().collect();
    if arguments.list {
        for value in rows.iter().filter_map(ValueEnum::to_possible_value) {
            println!("{:<16} {}", value.get_name(), value.get_help().map(ToString::to_string).unwrap_or_default());
        }
        return Ok(true);
    }
    let stop = Stop::catch()?;
    let plan = plan(arguments)?;
    sweep(&plan.folder)?;
    let rounds = arguments.rounds.unwrap_or(if arguments.short { ROUNDS_SHORT } else { ROUNDS });
    if arguments.cold {
        let bench = Bench::build(&plan, Place::loopback(), &stop)?;
        println!("{}\n", machine::describe(&plan.braidcast).join("\n"));
        return cold::run(&bench, rounds);
    }
    if arguments.paced {
        paced::check(plan.bytes)?;
        let bench = Bench::build(&plan, Place::loopback(), &stop)?;
        println!("{}\n", machine::describe(&plan.braidcast).join("\n"));
        return paced::run(&bench, rounds);
    }
    let mut lines = Vec::new();
    let outcome = measure(arguments, &plan, &rows, rounds, &stop, &mut lines);
    let verdicts = goals::judge(&lines);
    let mut about = machine::describe(&plan.braidcast);
    about.push(format!("{} MB, rounds: {rounds}", plan.bytes / 1_000_000));
    // What was measured before an error is worth something too.
    println!("{}\n", about.join("\n"));
    println!("{}", table::print(&lines, plan.bytes));
    if !verdicts.is_empty() {
        println!("{}\n{}", table::print_goals(&verdicts), table::EXPLANATION);
    }
    outcome?;
    if let Some(path) = &arguments.svg {
        std::fs::write(path, picture::draw(&verdicts, &about)).with_context(|| path.display().to_string())?;
    }
    let count = |wanted| verdicts.iter().filter(|verdict| verdict.is_met() == wanted).count();
    let (met, missed, unjudged) = (count(Some(true)), count(Some(false)), count(None));
    println!("{met} goals met, {missed} missed, {unjudged} not judged");
    Ok(missed == 0)
}

/// Loopback, then veth.
fn measure(
    arguments: &Arguments,
    plan: &Plan,
    rows: &[Row],
    rounds: u32,
    stop: &Stop,
    lines: &mut Vec<Series>,
) -> Result<()> {
    measure_at(plan, Place::loopback(), rows, rounds, stop, lines)?;
    if !arguments.veth {
        return Ok(());
    }
    let place = match Place::veth() {
        Ok(place) => place,
        Err(error) => {
            println!("veth skipped: {error:#}");
            return Ok(());
        }
    };
    let rows: Vec<Row> = rows.iter().filter(|row| MAIN_ROWS.contains(row)).copied().collect();
    measure_at(plan, place, &rows, rounds, stop, lines)
}

fn measure_at(
    plan: &Plan,
    place: Place,
    rows: &[Row],
    rounds: u32,
    stop: &Stop,
    lines: &mut Vec<Series>,
) -> Result<()> {
    let bench = Rc::new(Bench::build(plan, place, stop)?);
    let contenders = peer::all(&bench, rows)?;
    // What the preparations wrote goes to the disk before anything is measured, not meanwhile.
    rustix::fs::sync();
    let (measured, outcome) = rounds::measure(&bench, contenders, rounds);
    lines.extend(measured);
    outcome
}

fn plan(arguments: &Arguments) -> Result<Plan> {
    let beside = || Ok(std::env::current_exe()?.with_file_name("braidcast"));
    let path = arguments.braidcast.clone().map_or_else(beside, anyhow::Ok)?;
    if !path.is_file() {
        bail!("{}: no such command; build it with: cargo build --release --package braidcast-cli", path.display());
    }
    // Processes run in namespaces, but in the same folder.
    let braidcast: PathBuf = path.canonicalize().with_context(|| path.display().to_string())?;
    let folder = arguments.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = folder.canonicalize().with_context(|| folder.display().to_string())?;
    let bytes = arguments.bytes.unwrap_or(match (arguments.paced, arguments.short) {
        (true, _) => BYTES_PACED,
        (false, true) => BYTES_SHORT,
        (false, false) => BYTES,
    });
    // The file, and a pack at each master and server.
    let has_three = arguments.only.is_empty() || arguments.only.contains(&Row::BraidcastThree);
    let copies = if has_three && !arguments.cold && !arguments.paced { 7 } else { 3 };
    Ok(Plan { braidcast, bytes, folder, logs: arguments.keep_logs.clone(), copies })
}

/// Removes what runs left behind that were killed.
fn sweep(folder: &Path) -> Result<()> {
    files::sweep(folder)?;
    files::sweep(Path::new(files::TMPFS))?;
    if machine::find("ip").is_ok() {
        // Where namespaces are not permitted, there are none of ours.
        let swept = namespace::sweep().unwrap_or_default();
        if swept > 0 {
            eprintln!("peers: removed {swept} namespaces of a run that was killed");
        }
    }
    Ok(())
}
