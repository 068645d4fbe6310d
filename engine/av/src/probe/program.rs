//! The program `braidcast-probe`, for whatever executable carries it.
//!
//! ```text
//! report PATH         a ProbeReport, encoded, on standard output
//! access-units PATH   stream 4 on standard output
//! ```

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use prost::Message;

use super::cage::{self, CageError};
use super::{ProbeError, access_units, report};

/// Bytes that are gathered before they are written.
const OUT_BYTES: usize = 1 << 20;

/// Why the program failed; a file that is no film is none of these, but a report.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// The command line is wrong.
    #[error("usage: braidcast-probe report|access-units PATH")]
    Usage,
    /// The process could not be limited.
    #[error(transparent)]
    Cage(#[from] CageError),
    /// The file cannot be opened.
    #[error("{path}: {error}", path = path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is a directory, a device or a pipe.
    #[error("{}: not a regular file", .0.display())]
    NotRegular(PathBuf),
    /// The probe failed.
    #[error("{path}: {error}", path = path.display())]
    Probe {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: ProbeError,
    },
    /// Nobody reads standard output, or it is a file: the process may not write into files.
    #[error("the result cannot be written: {0}; standard output has to be a pipe")]
    Write(io::Error),
}

/// Does what `arguments` say, those behind the program's name, and writes to standard output.
///
/// It limits the process for good ([`cage::enter`]) before it touches the file. So call it first thing in `main`, before
/// there are threads, and exit when it returns.
///
/// # Errors
/// [`ProgramError`].
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> Result<(), ProgramError> {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let [what, path] = <[OsString; 2]>::try_from(arguments).map_err(|_| ProgramError::Usage)?;
    cage::enter()?;
    let path = PathBuf::from(path);
    let mut out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
    let failed = |error| ProgramError::Probe { path: path.clone(), error };
    match what.to_str() {
        Some("report") => {
            let report = report(&open(&path)?).map_err(failed)?;
            out.write_all(&report.encode_to_vec()).map_err(ProgramError::Write)?;
        }
        Some("access-units") => access_units(&open(&path)?, &mut out).map_err(failed)?,
        _ => return Err(ProgramError::Usage),
    }
    out.flush().map_err(ProgramError::Write)
}

fn open(path: &Path) -> Result<File, ProgramError> {
    let failed = |error| ProgramError::Open { path: path.to_owned(), error };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_file() { Ok(file) } else { Err(ProgramError::NotRegular(path.to_owned())) }
}
