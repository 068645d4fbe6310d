//! Replays a random world, or prints what the scenarios measure.

use std::time::Instant;

use braidcast_sim::scenarios;
use clap::Parser;

/// Worlds in virtual time, in which Braidcast's client and servers are judged.
#[derive(Parser)]
#[command(arg_required_else_help = true)]
struct Arguments {
    /// Run the scenarios and print their figures.
    #[arg(long)]
    report: bool,
    /// Only the scenarios whose names contain this.
    #[arg(long, requires = "report", value_name = "TEXT")]
    only: Option<String>,
}

fn main() {
    let arguments = Arguments::parse();
    if arguments.report {
        report(arguments.only.as_deref().unwrap_or_default());
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
