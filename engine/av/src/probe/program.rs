//! The program `braidcast-probe`, for a `main` of its own or a Python wheel's.
//!
//! ```text
//! braidcast-probe report PATH         a ProbeReport, encoded, on standard output
//! braidcast-probe access-units PATH   stream 4 on standard output
//! ```
//! Standard output has to be a pipe: the process may not write into files. It exits with 0 also for a file that is no
//! film, which the report says.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};

use prost::Message;

use super::{access_units, cage, report};

/// Bytes that are gathered before they are written.
const OUT_BYTES: usize = 1 << 20;
const SUCCESS: u8 = 0;
const FAILURE: u8 = 1;

/// Runs the program with its arguments, without its name, and gives its exit code. The limits of [`cage`] hold for the
/// process from then on.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    match probe(arguments.into_iter().collect()) {
        Ok(()) => SUCCESS,
        Err(error) => {
            eprintln!("braidcast-probe: {error}");
            FAILURE
        }
    }
}

fn probe(arguments: Vec<OsString>) -> Result<(), Box<dyn Error>> {
    let usage = "usage: braidcast-probe report|access-units PATH";
    let [what, path] = <[OsString; 2]>::try_from(arguments).map_err(|_| usage)?;
    cage::enter()?;
    let file = File::open(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    if !file.metadata()?.is_file() {
        return Err(format!("{}: not a regular file", path.display()).into());
    }
    let mut out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
    match what.to_str() {
        Some("report") => out.write_all(&report(&file)?.encode_to_vec())?,
        Some("access-units") => access_units(&file, &mut out)?,
        _ => return Err(usage.into()),
    }
    Ok(out.flush()?)
}
