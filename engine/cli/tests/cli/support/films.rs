//! Files of pseudo-random bytes, and SHA-256 of anything.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

/// A file that was published.
#[derive(Clone, Debug)]
pub(crate) struct Film {
    /// Its name, as the master knows it.
    pub(crate) name: String,
    /// Its length in bytes.
    pub(crate) bytes: u64,
    /// SHA-256 in hex.
    pub(crate) sha256: String,
}

/// Writes `bytes` pseudo-random bytes to `path`, the same for the same `seed`; gives their SHA-256 in hex.
pub(crate) fn write_film(path: &Path, bytes: u64, seed: u64) -> String {
    let mut file = File::create(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut random = SplitMix(seed);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hash = Sha256::new();
    let mut left = bytes;
    while left > 0 {
        let piece = &mut buffer[..left.min(BUFFER_BYTES as u64) as usize];
        random.fill(piece);
        hash.update(&*piece);
        file.write_all(piece).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        left -= piece.len() as u64;
    }
    hex(&hash.finalize())
}

/// SHA-256, in hex, of the file at `path`.
pub(crate) fn sha256_of_file(path: &Path) -> String {
    let file = File::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    sha256_of(file).1
}

/// The number of bytes that `reader` gives, and their SHA-256 in hex.
pub(crate) fn sha256_of(mut reader: impl Read) -> (u64, String) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut hash = Sha256::new();
    let mut bytes = 0;
    loop {
        let read = reader.read(&mut buffer).expect("readable to its end");
        if read == 0 {
            return (bytes, hex(&hash.finalize()));
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const BUFFER_BYTES: usize = 1024 * 1024;

/// Sebastiano Vigna's SplitMix64: 2 GB in a second, and no two films share an extent.
struct SplitMix(u64);

impl SplitMix {
    fn fill(&mut self, bytes: &mut [u8]) {
        for word in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = self.0;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^= mixed >> 31;
            word.copy_from_slice(&mixed.to_le_bytes()[..word.len()]);
        }
    }
}
