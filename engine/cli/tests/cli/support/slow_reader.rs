//! A reader that takes its time.

use std::io::Read;
use std::thread::JoinHandle;
use std::time::Duration;

use super::films::sha256_of;

/// Reads at a given pace, on a thread of its own, and hashes what it reads.
pub(crate) struct SlowReader(JoinHandle<(u64, String)>);

impl SlowReader {
    /// Reads `reader` to its end at `bytes_per_s`.
    pub(crate) fn start(reader: impl Read + Send + 'static, bytes_per_s: u64) -> Self {
        Self(std::thread::spawn(move || sha256_of(Paced { reader, bytes_per_s })))
    }

    /// Waits for the end; gives the number of bytes and their SHA-256 in hex.
    pub(crate) fn finish(self) -> (u64, String) {
        self.0.join().expect("the reader does not panic")
    }
}

struct Paced<R> {
    reader: R,
    bytes_per_s: u64,
}

impl<R: Read> Read for Paced<R> {
    fn read(&mut self, room: &mut [u8]) -> std::io::Result<usize> {
        let count = self.reader.read(room)?;
        std::thread::sleep(Duration::from_secs_f64(count as f64 / self.bytes_per_s as f64));
        Ok(count)
    }
}
