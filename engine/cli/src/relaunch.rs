//! How this program starts itself and the program that looks into films.
//!
//! The `braidcast` binary finds both by its own path. In a Python wheel there is no such binary: Python runs them.

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use braidcast_client::publish::ProbeCommand;

/// How the programs of Braidcast are started: each a program and its first arguments.
#[derive(Clone, Debug, Default)]
pub struct Programs {
    /// The command itself, for the parts of `braidcast dev`. Default (empty): the program that runs.
    pub braidcast: Vec<OsString>,
    /// What looks into films. Default (empty): `braidcast-probe` beside the program that runs.
    pub probe: Vec<OsString>,
}

static PROGRAMS: OnceLock<Programs> = OnceLock::new();

/// The program that looks into films, beside `braidcast`.
const PROBE: &str = "braidcast-probe";

/// Says how programs are started; the first call counts.
pub(crate) fn set(programs: Programs) {
    PROGRAMS.get_or_init(|| programs);
}

/// This command, to be given its arguments.
pub(crate) fn braidcast() -> io::Result<Command> {
    let Some((program, arguments)) = words(|programs| &programs.braidcast) else {
        return Ok(Command::new(std::env::current_exe()?));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    Ok(command)
}

/// The program that looks into films.
pub(crate) fn probe() -> ProbeCommand {
    if let Some((program, arguments)) = words(|programs| &programs.probe) {
        return ProbeCommand { program, arguments };
    }
    let own = std::env::current_exe().unwrap_or_default();
    let beside = own.parent().map_or_else(|| PathBuf::from(PROBE), |folder| folder.join(PROBE));
    ProbeCommand { program: beside.into(), arguments: Vec::new() }
}

fn words(which: impl Fn(&Programs) -> &Vec<OsString>) -> Option<(OsString, Vec<OsString>)> {
    let (program, arguments) = PROGRAMS.get().map(which)?.split_first()?;
    Some((program.clone(), arguments.to_vec()))
}
