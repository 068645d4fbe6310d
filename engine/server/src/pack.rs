//! One pack on this server: its file, which extents of it may be served, and which of these are in memory.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use braidcast_io::{MappedFile, Region};
use braidcast_media::chunk::DATA_KIND;
use braidcast_media::hashes::{self, Hash};
use braidcast_media::pack::{HeaderError, PackHeader};
use braidcast_media::{AssetId, PackLayout};

use crate::extents::ExtentSet;
use crate::limits;

/// A pack that is held, whole or in part. Shards read it without a lock; helpers change the two sets.
#[derive(Debug)]
pub(crate) struct Pack {
    asset: AssetId,
    layout: PackLayout,
    header_hash: Hash,
    mapped: MappedFile,
    /// Extents whose bytes in the file were found to match the header.
    held: ExtentSet,
    /// Extents whose pages are in memory, as far as is known.
    hot: ExtentSet,
}

/// Why a file is no pack that can be served or filled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackFault {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Header(#[from] HeaderError),
    #[error("the pack's header of {0} bytes is longer than the {max} bytes that a server reads", max = limits::HEADER_BYTES_MAX)]
    HeaderTooLong(u64),
    #[error("the pack is {found} bytes long instead of {needed}")]
    Length { found: u64, needed: u64 },
    #[error("the pack's header has changed since the pack was opened")]
    HeaderChanged,
    #[error("the file holds the pack of asset {found}")]
    OtherAsset { found: AssetId },
}

impl Pack {
    /// Opens a pack whose every extent was checked when it was filled.
    pub(crate) fn open_whole(path: &Path) -> Result<Self, PackFault> {
        Self::open(path, |layout| ExtentSet::full(layout.extents()))
    }

    /// Opens a pack that was being filled. Nothing of it counts as held before [`Pack::check_all`].
    pub(crate) fn open_filling(path: &Path) -> Result<Self, PackFault> {
        Self::open(path, |layout| ExtentSet::empty(layout.extents()))
    }

    /// Makes the file of a pack that will be filled: its header, and room for its extents.
    pub(crate) fn create(path: &Path, header: &[u8]) -> Result<Self, PackFault> {
        let parsed = PackHeader::parse(header)?;
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(parsed.layout.pack_bytes())?;
        file.write_all_at(header, 0)?;
        let held = ExtentSet::empty(parsed.layout.extents());
        Self::assemble(file, parsed, hashes::hash(header), held)
    }

    pub(crate) fn asset(&self) -> AssetId {
        self.asset
    }

    pub(crate) fn layout(&self) -> &PackLayout {
        &self.layout
    }

    /// BLAKE3 of the header, to be compared with what the master says.
    pub(crate) fn header_hash(&self) -> &Hash {
        &self.header_hash
    }

    pub(crate) fn held(&self) -> &ExtentSet {
        &self.held
    }

    pub(crate) fn hot(&self) -> &ExtentSet {
        &self.hot
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.held.count() == self.layout.extents()
    }

    /// Bytes to be sent; nothing where they reach past the end of the pack.
    pub(crate) fn region(&self, offset: u64, bytes: usize) -> Option<Region> {
        self.mapped.region(offset, bytes)
    }

    /// Reads the pages of `extent` in, so that sending them does not wait for the disk, and marks it hot.
    pub(crate) fn warm(&self, extent: u32) -> io::Result<()> {
        self.mapped.populate(self.layout.extent_offset(extent), self.layout.sealed_bytes(extent))?;
        self.hot.insert(extent);
        Ok(())
    }

    /// The hash list, read anew and checked against the header's hash: it is needed seldom, and too long to keep.
    pub(crate) fn read_header(&self) -> Result<PackHeader, PackFault> {
        let mut bytes = vec![0; self.layout.header_bytes() as usize];
        self.mapped.file().read_exact_at(&mut bytes, 0)?;
        if hashes::hash(&bytes) != self.header_hash {
            return Err(PackFault::HeaderChanged);
        }
        Ok(PackHeader::parse(&bytes)?)
    }

    /// Hashes every extent in the file and holds those that match `header`, no others.
    pub(crate) fn check_all(&self, header: &PackHeader) -> io::Result<()> {
        let mut room = Vec::new();
        for extent in 0..self.layout.extents() {
            if self.extent_matches(header, extent, &mut room)? {
                self.held.insert(extent);
            } else {
                self.held.remove(extent);
            }
        }
        Ok(())
    }

    /// Whether the bytes of `extent` in the file are what `header` says. If they are, `room` holds them afterwards.
    pub(crate) fn extent_matches(&self, header: &PackHeader, extent: u32, room: &mut Vec<u8>) -> io::Result<bool> {
        let offset = self.layout.extent_offset(extent);
        let mut kind = [0];
        self.mapped.file().read_exact_at(&mut kind, offset)?;
        if kind != [DATA_KIND] {
            // Most often a hole that was never filled: not worth reading.
            return Ok(false);
        }
        room.resize(self.layout.sealed_bytes(extent), 0);
        self.mapped.file().read_exact_at(room, offset)?;
        Ok(hashes::hash(room) == header.sealed_hashes[extent as usize])
    }

    /// Writes `extent` and holds it, if its bytes are what `header` says; says whether they are.
    pub(crate) fn fill_extent(&self, header: &PackHeader, extent: u32, sealed: &[u8]) -> io::Result<bool> {
        //= PROTOCOL K2: A server MUST check a filled extent's hash against the header that the master vouches for before it serves a chunk of it.
        if hashes::hash(sealed) != header.sealed_hashes[extent as usize] {
            return Ok(false);
        }
        self.mapped.file().write_all_at(sealed, self.layout.extent_offset(extent))?;
        self.held.insert(extent);
        Ok(true)
    }

    /// Ceases to serve `extent`; says whether it was served.
    pub(crate) fn forsake(&self, extent: u32) -> bool {
        self.hot.remove(extent);
        self.held.remove(extent)
    }

    /// Whether the file still is as long as the pack: one that was cut short faults when it is sent.
    pub(crate) fn has_its_length(&self) -> bool {
        self.mapped.file().metadata().is_ok_and(|meta| meta.len() >= self.layout.pack_bytes())
    }

    /// Makes all that was written durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.mapped.file().sync_all()
    }

    fn open(path: &Path, held: impl FnOnce(&PackLayout) -> ExtentSet) -> Result<Self, PackFault> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let bytes = read_header_bytes(&file)?;
        let header = PackHeader::parse(&bytes)?;
        let (found, needed) = (file.metadata()?.len(), header.layout.pack_bytes());
        if found != needed {
            return Err(PackFault::Length { found, needed });
        }
        let held = held(&header.layout);
        Self::assemble(file, header, hashes::hash(&bytes), held)
    }

    fn assemble(file: File, header: PackHeader, header_hash: Hash, held: ExtentSet) -> Result<Self, PackFault> {
        let mapped = MappedFile::new(file)?;
        let hot = ExtentSet::empty(header.layout.extents());
        Ok(Self { asset: header.asset, layout: header.layout, header_hash, mapped, held, hot })
    }
}

/// The header's bytes, as long as its own length field says, which is bounded before anything is allocated.
fn read_header_bytes(file: &File) -> Result<Vec<u8>, PackFault> {
    let mut fixed = [0; HEADER_START_BYTES];
    file.read_exact_at(&mut fixed, 0)?;
    let [.., a, b, c, d] = fixed;
    let length = u64::from(u32::from_be_bytes([a, b, c, d]));
    if length > limits::HEADER_BYTES_MAX {
        return Err(PackFault::HeaderTooLong(length));
    }
    let mut bytes = vec![0; length.max(HEADER_START_BYTES as u64) as usize];
    file.read_exact_at(&mut bytes, 0)?;
    Ok(bytes)
}

/// Magic, asset, number of streams, reserved, length of the header (PROTOCOL.md, section 6).
const HEADER_START_BYTES: usize = 24;
