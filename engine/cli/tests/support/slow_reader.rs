//! A reader that takes its time.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::eventually;
use super::films::hex;

/// Reads at a given pace, on a thread of its own, and hashes what it reads.
pub(crate) struct SlowReader {
    shared: Arc<Shared>,
    thread: JoinHandle<String>,
}

struct Shared {
    bytes: AtomicU64,
    bytes_per_s: AtomicU64,
}

impl SlowReader {
    /// Reads `reader` to its end at `bytes_per_s`.
    pub(crate) fn start(mut reader: impl Read + Send + 'static, bytes_per_s: u64) -> Self {
        let shared = Arc::new(Shared { bytes: AtomicU64::new(0), bytes_per_s: AtomicU64::new(bytes_per_s) });
        let theirs = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; PIECE_BYTES];
            let mut hash = Sha256::new();
            loop {
                let read = reader.read(&mut buffer).expect("readable to its end");
                if read == 0 {
                    return hex(&hash.finalize());
                }
                hash.update(&buffer[..read]);
                theirs.bytes.fetch_add(read as u64, Ordering::Relaxed);
                let rate = theirs.bytes_per_s.load(Ordering::Relaxed);
                if rate != u64::MAX {
                    std::thread::sleep(Duration::from_secs_f64(read as f64 / rate as f64));
                }
            }
        });
        Self { shared, thread }
    }

    /// What was read so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Waits until so much was read.
    pub(crate) fn wait_for(&self, bytes: u64) {
        eventually("the reader gets enough", || (self.bytes() >= bytes).then_some(()));
    }

    /// From now on reads as fast as it can.
    pub(crate) fn hurry(&self) {
        self.shared.bytes_per_s.store(u64::MAX, Ordering::Relaxed);
    }

    /// Waits for the end; gives the number of bytes and their SHA-256 in hex.
    pub(crate) fn finish(self) -> (u64, String) {
        let sha256 = self.thread.join().expect("the reader does not panic");
        (self.shared.bytes.load(Ordering::Relaxed), sha256)
    }
}

/// A pipe's capacity.
const PIECE_BYTES: usize = 64 * 1024;
