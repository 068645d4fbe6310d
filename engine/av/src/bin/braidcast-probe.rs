//! `braidcast-probe`: looks into a file on a publisher's behalf, apart from it and under limits.
//!
//! ```text
//! braidcast-probe report PATH         a ProbeReport, encoded, on standard output
//! braidcast-probe access-units PATH   stream 4 on standard output
//! ```
//! Standard output has to be a pipe: the process may not write into files. It exits with 0 also for a file that is no
//! film, which the report says.
#![forbid(unsafe_code)]

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use braidcast_av::probe;
use prost::Message;

/// Bytes that are gathered before they are written.
const OUT_BYTES: usize = 1 << 20;

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("braidcast-probe: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Vec<OsString>) -> Result<(), Box<dyn Error>> {
    let usage = "usage: braidcast-probe report|access-units PATH";
    let [what, path] = <[OsString; 2]>::try_from(arguments).map_err(|_| usage)?;
    probe::cage::enter()?;
    let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if !file.metadata()?.is_file() {
        return Err(format!("{}: not a regular file", path.display()).into());
    }
    let mut out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
    match what.to_str() {
        Some("report") => out.write_all(&probe::report(&file)?.encode_to_vec())?,
        Some("access-units") => probe::access_units(&file, &mut out)?,
        _ => return Err(usage.into()),
    }
    Ok(out.flush()?)
}
