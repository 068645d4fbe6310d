//! `braidcast-probe`: looks into a file on a publisher's behalf, apart from it and under limits.
//!
//! ```text
//! braidcast-probe report PATH         a ProbeReport, encoded, on standard output
//! braidcast-probe access-units PATH   stream 4 on standard output
//! ```
//! Standard output has to be a pipe: the process may not write into files. It exits with 0 also for a file that is no
//! film, which the report says.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use braidcast_av::probe::program;

fn main() -> ExitCode {
    match program::run(std::env::args_os().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("braidcast-probe: {error}");
            ExitCode::FAILURE
        }
    }
}
