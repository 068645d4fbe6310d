//! `braidcast-probe`: looks into a file on a publisher's behalf, apart from it and under limits. See
//! [`braidcast_av::probe::program`].
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    braidcast_av::probe::program::run(std::env::args_os().skip(1)).into()
}
