//! The `braidcast` command as a library: [`run`] is the whole of it, so that a thin `main` or a Python wheel can
//! carry it.
//!
//! - `args`: what the command line may say; one module per command in `commands`
//! - `settings`: flags, environment and file made one configuration
//! - `dev`: a whole Braidcast on loopback
//! - `trace`: the picture of a trace
//! - `error`, `exit`: what can go wrong, and the exit code that tells of it
#![forbid(unsafe_code)]

mod args;
mod byte_size;
mod commands;
mod dev;
mod error;
mod exit;
mod film;
mod logs;
mod output;
mod parent;
mod password;
mod progress;
mod publishing;
mod relaunch;
mod settings;
mod signals;
mod trace;

use std::ffi::OsString;
use std::time::{Duration, Instant};

use clap::Parser;

use args::{Arguments, Command};
use error::CliError;
pub use relaunch::Programs;

/// A command that was interrupted waits this long for a thread that reads or writes a file.
const LEAVE_THREADS_AFTER: Duration = Duration::from_millis(500);

/// Runs the command that `arguments` (the program's own name first) ask for, and gives the exit code that
/// `braidcast --help` lists. Programs that it needs are started as `programs` says.
pub fn run(arguments: impl IntoIterator<Item = OsString>, programs: Programs) -> u8 {
    let started = Instant::now();
    relaunch::set(programs);
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help goes to stdout, errors to stderr; a closed pipe changes nothing about either.
            let _ = error.print();
            return exit::of_usage(&error).into();
        }
    };
    let outcome = logs::start(arguments.log.as_deref(), arguments.command.default_log())
        .and_then(|()| execute(arguments, started));
    match outcome {
        Ok(()) => exit::SUCCESS.into(),
        Err(error) => {
            let code = exit::of(&error);
            if !error.is_silent() {
                eprintln!("braidcast: {}", output::one_line(&error.to_string()));
            }
            code.into()
        }
    }
}

fn execute(arguments: Arguments, started: Instant) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(CliError::Runtime)?;
    let outcome = runtime.block_on(dispatch(arguments, started));
    runtime.shutdown_timeout(LEAVE_THREADS_AFTER);
    outcome
}

async fn dispatch(arguments: Arguments, started: Instant) -> Result<(), CliError> {
    match arguments.command {
        Command::Master(args) => commands::master::run(args).await,
        Command::Serve(args) => commands::serve::run(args).await,
        Command::Dev(args) => commands::dev::run(args, arguments.log).await,
        client => signals::unless_interrupted(run_client(client, started)).await,
    }
}

/// The commands that do one thing and end.
async fn run_client(command: Command, started: Instant) -> Result<(), CliError> {
    match command {
        Command::Publish(args) => commands::publish::run(args).await,
        Command::Ls(args) => commands::ls::run(args).await,
        Command::Info(args) => commands::info::run(args).await,
        Command::Servers(args) => commands::servers::run(args).await,
        Command::Get(args) => commands::get::run(args, started).await,
        Command::Trace(args) => commands::trace::run(args).await,
        Command::Doctor(args) => commands::doctor::run(args).await,
        Command::Rm(args) => commands::rm::run(args).await,
        Command::User(args) => commands::user::run(args).await,
        Command::Login(args) => commands::login::run(args).await,
        Command::Master(_) | Command::Serve(_) | Command::Dev(_) => unreachable!("dispatched before"),
    }
}
