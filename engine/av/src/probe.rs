//! What a publisher learns of a file.
//!
//! Both calls read the file with the same demuxer from its beginning to its end, so the bytes of [`access_units`] are
//! those that the offsets of [`report`] point to, as long as nobody changes the file in between.

pub mod cage;
mod demux;
mod film;
mod index;
pub mod program;
mod reject;

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;

use braidcast_proto::v1;

use self::demux::{Demuxer, Unit};
use self::film::Builder;
use self::reject::Reject;

/// Why a probe failed, which says nothing of whether the file is a film.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(io::Error),
    /// The access units cannot be written.
    #[error("the access units cannot be written: {0}")]
    Write(io::Error),
    /// Access units were asked for of a file that has none.
    #[error("the file is no film: {0}")]
    NotAFilm(String),
}

/// Where the access units stand that the index points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Placement {
    /// In the file itself.
    InFile,
    /// End to end in a stream of their own.
    Apart,
}

/// What is in the file: a film and its indexes, or in words why it is no film.
///
/// # Errors
/// [`ProbeError::Read`].
pub fn report(file: &File) -> Result<v1::ProbeReport, ProbeError> {
    let result = match attempt(file, Placement::InFile)? {
        Err(Reject::NotInFile) => attempt(file, Placement::Apart)?,
        result => result,
    };
    let result = match result {
        Ok(probed) => v1::probe_report::Result::Probed(probed),
        Err(reject) => v1::probe_report::Result::NotAFilm(reject.to_string()),
    };
    Ok(v1::ProbeReport { result: Some(result) })
}

/// Writes the access units of all tracks end to end, in the demuxer's order: stream 4.
///
/// # Errors
/// [`ProbeError`].
pub fn access_units(file: &File, out: &mut impl Write) -> Result<(), ProbeError> {
    let no_film = |reject: Reject| ProbeError::NotAFilm(reject.to_string());
    let mut demuxer = match Demuxer::open(file)? {
        Ok(demuxer) => demuxer,
        Err(reject) => return Err(no_film(reject)),
    };
    while let Some(unit) = demuxer.next_unit() {
        out.write_all(unit.data()).map_err(ProbeError::Write)?;
    }
    out.flush().map_err(ProbeError::Write)
}

/// One run over the file. The outer error is ours, the inner one says what the file is instead of a film.
fn attempt(file: &File, placement: Placement) -> Result<Result<v1::Probed, Reject>, ProbeError> {
    let mut demuxer = match Demuxer::open(file)? {
        Ok(demuxer) => demuxer,
        Err(reject) => return Ok(Err(reject)),
    };
    let mut builder = match Builder::new(demuxer.container(), demuxer.tracks().to_vec(), placement) {
        Ok(builder) => builder,
        Err(reject) => return Ok(Err(reject)),
    };
    let mut found = Vec::new();
    while let Some(unit) = demuxer.next_unit() {
        let offset = match placement {
            Placement::InFile if !stands_in_file(file, &unit, &mut found)? => return Ok(Err(Reject::NotInFile)),
            Placement::InFile => unit.position(),
            Placement::Apart => None,
        };
        if let Err(reject) = builder.push(&unit, offset) {
            return Ok(Err(reject));
        }
    }
    Ok(builder.finish())
}

/// Whether the file has the access unit's very bytes where the demuxer says it took them from.
fn stands_in_file(file: &File, unit: &Unit, found: &mut Vec<u8>) -> Result<bool, ProbeError> {
    let Some(position) = unit.position() else { return Ok(false) };
    found.clear();
    found.resize(unit.data().len(), 0);
    match file.read_exact_at(found, position) {
        Ok(()) => Ok(found == unit.data()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(ProbeError::Read(error)),
    }
}
