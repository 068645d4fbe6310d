//! Where a download goes: a file that is written at any place, or a pipe that takes bytes in order only.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use braidcast_media::ExtentNo;
use braidcast_media::layout::EXTENT_BYTES;

use crate::window::{Buffer, Job};

/// An output.
pub(crate) enum Sink {
    /// A regular file.
    File(Positioned),
    /// Anything else: standard output, `/dev/null`, a pipe.
    Ordered(Ordered),
}

/// A file that takes extents at their places, in any order and from any thread.
#[derive(Clone)]
pub(crate) struct Positioned(pub(crate) Arc<File>);

/// An output that takes bytes in order; extents that come early are kept.
pub(crate) struct Ordered {
    out: Box<dyn Write + Send>,
    next: u32,
    waiting: BTreeMap<ExtentNo, (Job, Buffer)>,
}

impl Sink {
    /// An output that takes bytes in order.
    pub(crate) fn ordered(out: Box<dyn Write + Send>) -> Self {
        Self::Ordered(Ordered { out, next: 0, waiting: BTreeMap::new() })
    }

    /// The file, if this is one.
    pub(crate) fn positioned(&self) -> Option<Positioned> {
        match self {
            Self::File(file) => Some(file.clone()),
            Self::Ordered(_) => None,
        }
    }

    /// Takes an extent, and gives the ones that are now written.
    pub(crate) fn write_in_order(&mut self, job: Job, buffer: Buffer) -> io::Result<Vec<(Job, Buffer)>> {
        let Self::Ordered(ordered) = self else { return Ok(vec![(job, buffer)]) };
        ordered.waiting.insert(job.key.extent, (job, buffer));
        let mut written = Vec::new();
        while let Some((job, buffer)) = ordered.waiting.remove(&ExtentNo(ordered.next)) {
            ordered.out.write_all(&buffer[..job.bytes])?;
            ordered.next += 1;
            written.push((job, buffer));
        }
        ordered.out.flush()?;
        Ok(written)
    }
}

impl Positioned {
    /// Writes the plain bytes of an extent of stream 0.
    pub(crate) fn write(&self, extent: ExtentNo, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, u64::from(extent.0) * EXTENT_BYTES as u64)
    }
}
