//! Replays a random world, or prints what the scenarios measure.

use std::process::ExitCode;
use std::time::Instant;

use braidcast_sim::client::Planted;
use braidcast_sim::scenarios;
use braidcast_sim::swarm::Plan;
use clap::{Parser, ValueEnum};

/// Worlds in virtual time, in which Braidcast's client and servers are judged.
#[derive(Parser)]
#[command(arg_required_else_help = true)]
struct Arguments {
    /// Run the random world of this seed and print what it is and how it ends.
    #[arg(long)]
    seed: Option<u64>,
    /// With this fault within the client.
    #[arg(long, requires = "seed", value_enum)]
    planted: Option<PlantedArgument>,
    /// Run the scenarios and print their figures.
    #[arg(long)]
    report: bool,
    /// Only the scenarios whose names contain this.
    #[arg(long, requires = "report", value_name = "TEXT")]
    only: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum PlantedArgument {
    DoublePull,
    LeakedBuffer,
    WrongChunkAccepted,
}

impl From<PlantedArgument> for Planted {
    fn from(argument: PlantedArgument) -> Self {
        match argument {
            PlantedArgument::DoublePull => Self::DoublePull,
            PlantedArgument::LeakedBuffer => Self::LeakedBuffer,
            PlantedArgument::WrongChunkAccepted => Self::WrongChunkAccepted,
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.report {
        report(arguments.only.as_deref().unwrap_or_default());
    }
    match arguments.seed {
        Some(seed) => replay(seed, arguments.planted.map(Planted::from)),
        None => ExitCode::SUCCESS,
    }
}

fn replay(seed: u64, planted: Option<Planted>) -> ExitCode {
    let plan = planted.into_iter().fold(Plan::new(seed), Plan::with_planted);
    println!("{plan:#?}");
    match plan.run() {
        Ok(hash) => {
            println!("all is well; trace {hash:016x}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn report(only: &str) {
    for scenario in scenarios::all().into_iter().filter(|scenario| scenario.name.contains(only)) {
        let start = Instant::now();
        let figures = (scenario.run)();
        println!("{} ({:.1} s)", scenario.name, start.elapsed().as_secs_f64());
        match figures {
            Ok(figures) => figures.iter().for_each(|figure| println!("  {figure}")),
            Err(violation) => println!("  NOT YET  at {:?}: {}", violation.at, violation.what),
        }
    }
}
