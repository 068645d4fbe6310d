//! Files mapped for sending: the kernel reads them, this process never does.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use nix::errno::Errno;

/// A file mapped for reading, shared by its clones; unmapped when they and all [`Region`]s are gone.
///
/// User code cannot dereference it. A file that was cut short behind its map's back is therefore an error of a send
/// (`EFAULT`) or of [`MappedFile::populate`], never a `SIGBUS`.
#[derive(Clone)]
pub struct MappedFile(Arc<Mapped>);

/// The map, and the file for `sendfile`, which takes no address.
struct Mapped {
    map: MmapRaw,
    file: File,
    /// Dropped last: whoever counts open files through it never counts too few.
    _guard: Box<dyn Send + Sync>,
}

impl MappedFile {
    /// Maps `file` at its present length.
    ///
    /// # Errors
    /// Those of `mmap`, of which `ENOMEM` (too many maps: `vm.max_map_count`) may come in daily use.
    pub fn new(file: File) -> io::Result<Self> {
        Self::guarded(file, ())
    }

    /// Maps `file` and drops `guard` once the last clone and the last [`Region`] are gone and the file is closed. A
    /// caller that bounds its open files counts them so, with those that only a send under way keeps open.
    ///
    /// # Errors
    /// Those of [`MappedFile::new`]; `guard` is dropped then.
    pub fn guarded(file: File, guard: impl Send + Sync + 'static) -> io::Result<Self> {
        let map = MmapOptions::new().map_raw_read_only(&file)?;
        Ok(Self(Arc::new(Mapped { map, file, _guard: Box::new(guard) })))
    }

    /// The file that is mapped.
    pub fn file(&self) -> &File {
        &self.0.file
    }

    /// Length in bytes when it was mapped.
    pub fn len(&self) -> usize {
        self.0.map.len()
    }

    /// Whether the file was empty when it was mapped.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` bytes from `offset`, pinned as long as the region lives; nothing if they do not lie within the map or
    /// `len` is 0.
    pub fn region(&self, offset: u64, len: usize) -> Option<Region> {
        let offset = self.check(offset, len)?;
        Some(Region { mapped: Arc::clone(&self.0), offset, len })
    }

    /// Reads `len` bytes from `offset` into memory and into this process's page tables, so that a send of them does
    /// not wait for the disk. Blocks meanwhile: this is for helper threads.
    ///
    /// # Errors
    /// - `UnexpectedEof`: the file was cut short since it was mapped.
    /// - `InvalidInput`: the bytes do not lie within the map, or `len` is 0.
    /// - `Unsupported`: the kernel is older than Linux 5.14. Reading ahead was started, and a send may wait for it.
    /// - what the disk says.
    pub fn populate(&self, offset: u64, len: usize) -> io::Result<()> {
        let Some(start) = self.check(offset, len) else {
            let text = format!("{len} bytes from {offset} do not lie within the {} bytes mapped", self.len());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        // All of it is asked of the disk at once: page faults alone would ask for a few pages, wait, and ask for the next.
        // Where that fails, the next call tells why, or waits longer.
        let _ = self.0.map.advise_range(Advice::WillNeed, start, len);
        let Err(error) = self.0.map.advise_range(Advice::PopulateRead, start, len) else {
            return Ok(());
        };
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EFAULT) => {
                let text = format!("the file was cut short: {len} bytes from {offset} are not there any more");
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, text))
            }
            // The range was checked, so what is invalid is the advice itself.
            Some(Errno::EINVAL) => {
                let text =
                    "this kernel has no MADV_POPULATE_READ: sends of cold data wait for the disk; Linux 5.14 has it";
                Err(io::Error::new(io::ErrorKind::Unsupported, text))
            }
            _ => Err(error),
        }
    }

    fn check(&self, offset: u64, len: usize) -> Option<usize> {
        let offset = usize::try_from(offset).ok()?;
        let end = offset.checked_add(len)?;
        (len > 0 && end <= self.len()).then_some(offset)
    }
}

impl fmt::Debug for MappedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MappedFile").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// Bytes of a [`MappedFile`], pinned. Only this crate turns them into an address for the kernel.
#[derive(Clone)]
pub struct Region {
    mapped: Arc<Mapped>,
    offset: usize,
    len: usize,
}

impl Region {
    /// Length in bytes; never 0.
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Where the bytes are mapped: for the kernel alone, for they may vanish.
    pub(crate) fn address(&self) -> *const u8 {
        self.mapped.map.as_ptr().wrapping_add(self.offset)
    }

    /// The file that the bytes stand in, and where.
    pub(crate) fn in_file(&self) -> (&File, u64) {
        (&self.mapped.file, self.offset as u64)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Region").field("offset", &self.offset).field("len", &self.len).finish_non_exhaustive()
    }
}
