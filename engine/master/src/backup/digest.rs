//! The digest at the end of a backup. SQLite's own check looks at the structure of the file and not at what its rows
//! hold: one rotten bit in a content key makes a video unreadable, and nobody would know before the restore is done.
//!
//! ```text
//! | the database, in whole pages | MARK (16 bytes) | BLAKE3 of the database (32 bytes) |
//! ```
//!
//! SQLite reads as many pages as the header of the database says, and ignores what follows them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use tokio::task::spawn_blocking;

const MARK: &[u8; 16] = b"braidcast BLAKE3";
const BYTES: usize = MARK.len() + blake3::OUT_LEN;

/// What the digest of a file tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The file is as it was written.
    Sound,
    /// The file has no digest: it is older than digests, or was cut off.
    Absent,
    /// The file is not as it was written.
    Wrong,
}

/// Appends the digest to the database at `path`, which is not changed after that.
pub(super) async fn append(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    let append = move || {
        let digest = hash(&File::open(&path)?, u64::MAX)?;
        let mut file = OpenOptions::new().append(true).open(&path)?;
        file.write_all(&[&MARK[..], digest.as_bytes()].concat())
    };
    spawn_blocking(append).await?
}

/// Holds the backup at `path` against its digest.
pub(super) async fn check(path: &Path) -> io::Result<Verdict> {
    let path = path.to_owned();
    let check = move || {
        let file = File::open(&path)?;
        let Some(database_bytes) = file.metadata()?.len().checked_sub(BYTES as u64) else {
            return Ok(Verdict::Absent);
        };
        let mut end = [0; BYTES];
        file.read_exact_at(&mut end, database_bytes)?;
        let (mark, digest) = end.split_at(MARK.len());
        if mark != MARK {
            return Ok(Verdict::Absent);
        }
        let is_right = hash(&file, database_bytes)?.as_bytes() == digest;
        Ok(if is_right { Verdict::Sound } else { Verdict::Wrong })
    };
    spawn_blocking(check).await?
}

fn hash(file: &File, bytes: u64) -> io::Result<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file.take(bytes))?;
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_rotten_byte_is_seen() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let path = dir.path().join("file");
        let write = |bytes: &[u8]| std::fs::write(&path, bytes).expect("written");
        for content in [&b""[..], b"x", &[7; 100]] {
            write(content);
            assert_eq!(check(&path).await.expect("reads"), Verdict::Absent);
            append(&path).await.expect("writes");
            assert_eq!(check(&path).await.expect("reads"), Verdict::Sound);
            let sound = std::fs::read(&path).expect("readable");
            for at in 0..sound.len() {
                let mut rotten = sound.clone();
                rotten[at] ^= 1;
                write(&rotten);
                let in_mark = (content.len()..content.len() + MARK.len()).contains(&at);
                let expected = if in_mark { Verdict::Absent } else { Verdict::Wrong };
                assert_eq!(check(&path).await.expect("reads"), expected, "byte {at}");
            }
        }
    }
}
