//! The `braidcast` command and the program that looks into films, as the wheel carries them.

use std::ffi::OsString;

use braidcast_cli::Programs;
use pyo3::prelude::*;

/// Runs the `braidcast` command and gives its exit code.
#[pyfunction]
pub(crate) fn cli(py: Python<'_>, arguments: Vec<OsString>, relaunch: Vec<OsString>, probe: Vec<OsString>) -> u8 {
    py.detach(|| braidcast_cli::run(arguments, Programs { braidcast: relaunch, probe }))
}

/// Runs `braidcast-probe` with these arguments, and gives its exit code.
#[pyfunction]
pub(crate) fn probe(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| match braidcast_av::probe::program::run(arguments) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("braidcast-probe: {error}");
            1
        }
    })
}
