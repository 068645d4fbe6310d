//! The file of a download that is not complete, looked at from outside.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use braidcast_client::download::PARTIAL_SUFFIX;
use braidcast_media::layout::{CHUNK_BYTES, EXTENT_BYTES};

use super::eventually;

/// Where `get -o OUTPUT` keeps what it has so far.
pub(crate) fn partial_path(output: &Path) -> PathBuf {
    let mut path = output.to_owned().into_os_string();
    path.push(PARTIAL_SUFFIX);
    path.into()
}

/// Waits until a download to `output` has written something at `offset`. Films are random: a place that was only
/// reserved reads as zeros.
pub(crate) fn wait_written(output: &Path, offset: u64) {
    let partial = partial_path(output);
    let what = format!("byte {offset} of {} is written", partial.display());
    eventually(&what, || {
        let mut bytes = [0; 16];
        let read = File::open(&partial).and_then(|file| file.read_exact_at(&mut bytes, offset));
        (read.is_ok() && bytes != [0; 16]).then_some(())
    });
}

/// Chunks in those extents of the original that the file at `copy` does not hold.
pub(crate) fn missing_chunks(copy: &Path, original: &Path) -> u64 {
    let open = |path: &Path| File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let (copy, original) = (open(copy), open(original));
    let bytes = original.metadata().expect("a file").len();
    let missing = |extent: &u64| {
        let at = extent * EXTENT_BYTES as u64;
        let count = (bytes - at).min(EXTENT_BYTES as u64) as usize;
        read_at(&copy, at, count).ok() != Some(read_at(&original, at, count).expect("readable"))
    };
    let extents = (0..bytes.div_ceil(EXTENT_BYTES as u64)).filter(missing);
    extents.map(|extent| chunks(bytes - extent * EXTENT_BYTES as u64).min((EXTENT_BYTES / CHUNK_BYTES) as u64)).sum()
}

/// Chunks that so many bytes are cut into.
pub(crate) fn chunks(bytes: u64) -> u64 {
    bytes.div_ceil(CHUNK_BYTES as u64)
}

/// Bytes of the hash list of a film of so many bytes, which every download fetches first.
pub(crate) fn hash_list_bytes(film_bytes: u64) -> u64 {
    32 * film_bytes.div_ceil(EXTENT_BYTES as u64)
}

fn read_at(file: &File, offset: u64, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    file.read_exact_at(&mut bytes, offset).map(|()| bytes)
}
