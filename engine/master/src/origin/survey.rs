//! Which whole packs stand in the origin, and whether they are those of the database. Reads headers only.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use braidcast_media::AssetId;
use braidcast_media::hashes::{self, Hash};
use braidcast_media::layout::HEADER_FIXED_BYTES;
use braidcast_media::pack::PackHeader;

use super::{Origin, pack_asset};
use crate::identity::Rows;
use crate::limits::PACK_HEADER_BYTES_MAX;
use crate::state_dir::{StateError, at};

/// Where the length of a header stands in it (PROTOCOL.md, section 6).
const HEADER_LENGTH_AT: usize = 20;

/// What the origin holds.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Whole packs.
    pub(crate) packs: usize,
    /// Their lengths together.
    pub(crate) bytes: u64,
    /// Those whose header is the one of their row.
    pub(crate) matching: usize,
    /// The others.
    pub(crate) mismatches: Vec<Mismatch>,
}

/// A pack that is not the database's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mismatch {
    /// It has no row.
    Unknown(AssetId),
    /// Its header is not the one that its row names.
    OtherHeader(AssetId),
}

impl Survey {
    /// Packs that have no row.
    pub(crate) fn unknown(&self) -> usize {
        self.mismatches.iter().filter(|mismatch| matches!(mismatch, Mismatch::Unknown(_))).count()
    }
}

impl Origin {
    /// Holds the origin's whole packs against the database.
    pub(crate) fn survey(&self, rows: &Rows) -> Result<Survey, StateError> {
        let mut survey = Survey::default();
        for entry in fs::read_dir(&self.dir).map_err(at(&self.dir))? {
            let path = entry.map_err(at(&self.dir))?.path();
            let Some(asset) = pack_asset(&path) else { continue };
            survey.packs += 1;
            survey.bytes += fs::metadata(&path).map_err(at(&path))?.len();
            match rows.get(&asset) {
                None => survey.mismatches.push(Mismatch::Unknown(asset)),
                Some(hash) if has_header(&path, hash).map_err(at(&path))? => survey.matching += 1,
                Some(_) => survey.mismatches.push(Mismatch::OtherHeader(asset)),
            }
        }
        Ok(survey)
    }
}

/// Whether the pack at `path` starts with the header of this BLAKE3, and is as long as that header says.
pub(super) fn is_whole(path: &Path, hash: &Hash) -> io::Result<bool> {
    let header = header_bytes(&File::open(path)?)?;
    let matches = header.as_ref().is_some_and(|header| hashes::hash(header) == *hash);
    let parsed = header.filter(|_| matches).and_then(|header| PackHeader::parse(&header).ok());
    Ok(parsed.is_some_and(|parsed| fs::metadata(path).is_ok_and(|file| file.len() == parsed.layout.pack_bytes())))
}

/// Whether the pack at `path` starts with the header of this BLAKE3.
pub(super) fn has_header(path: &Path, hash: &Hash) -> io::Result<bool> {
    Ok(header_bytes(&File::open(path)?)?.is_some_and(|header| hashes::hash(&header) == *hash))
}

/// The bytes at the start of a file that may be its header, by the length that they say, and at least its fixed part.
/// `None`: they are too few or too many.
pub(super) fn header_bytes(file: &File) -> io::Result<Option<Vec<u8>>> {
    let mut fixed = [0; HEADER_FIXED_BYTES as usize];
    match file.read_exact_at(&mut fixed, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        read => read?,
    }
    let length = fixed[HEADER_LENGTH_AT..HEADER_LENGTH_AT + 4].try_into().expect("4 bytes");
    let length = u64::from(u32::from_be_bytes(length));
    if !(HEADER_FIXED_BYTES..=PACK_HEADER_BYTES_MAX.min(file.metadata()?.len())).contains(&length) {
        return Ok(None);
    }
    let mut header = vec![0; length as usize];
    match file.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        read => read.map(|()| Some(header)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::origin::tests::{origin, write_pack};

    #[test]
    fn a_pack_matches_if_its_header_is_the_one_of_its_row() {
        let (dir, origin) = origin();
        let (sound, unknown, other) = (AssetId(1), AssetId(2), AssetId(3));
        let mut rows = Rows::new();
        for asset in [sound, unknown, other] {
            rows.insert(asset, write_pack(&origin.path(asset), asset));
        }
        rows.remove(&unknown);
        rows.insert(other, [7; 32]);
        rows.insert(AssetId(4), [0; 32]);
        fs::write(dir.path().join("1.pack"), "a name that no pack has").expect("written");
        let survey = origin.survey(&rows).expect("reads");
        assert_eq!((survey.packs, survey.matching), (3, 1));
        assert!(survey.bytes > 0);
        let mut found = survey.mismatches;
        found.sort_by_key(|mismatch| matches!(mismatch, Mismatch::OtherHeader(_)));
        assert_eq!(found, [Mismatch::Unknown(unknown), Mismatch::OtherHeader(other)]);
    }

    #[test]
    fn a_file_that_is_no_pack_has_no_header_and_costs_no_memory() {
        let (_dir, origin) = origin();
        let path = origin.path(AssetId(1));
        for bytes in [vec![], vec![0xff; 23], vec![0xff; 100], vec![0; 100]] {
            fs::write(&path, &bytes).expect("written");
            assert!(!has_header(&path, &[1; 32]).expect("reads"), "{} bytes", bytes.len());
        }
    }
}
