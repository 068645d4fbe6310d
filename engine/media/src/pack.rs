//! A pack: the file that holds a sealed asset, byte for byte as it will be sent.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::hashes::{self, Hash};
use crate::ids::{AssetId, StreamId};
use crate::layout::{
    HASH_BYTES, HEADER_FIXED_BYTES, HEADER_STREAM_BYTES, LayoutError, PackLayout, STREAMS_MAX, StreamLayout,
};

const MAGIC: &[u8; 8] = b"BRAIDPK1";

/// The start of a pack: what is in it and the BLAKE3 of every sealed extent. See PROTOCOL.md, section 6.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackHeader {
    /// Which asset.
    pub asset: AssetId,
    /// Its streams and where they stand.
    pub layout: PackLayout,
    /// Hash of each extent's used chunks, in file order.
    pub sealed_hashes: Vec<Hash>,
}

/// Bytes that are no pack header.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum HeaderError {
    /// Too short, or its length field disagrees with its contents.
    #[error("the pack header has {found} bytes where its stream table needs {needed}")]
    Length {
        /// Bytes there are.
        found: usize,
        /// Bytes there should be.
        needed: u64,
    },
    /// Another kind of file, or a later version.
    #[error("not a braidcast pack: the file starts with other bytes than BRAIDPK1")]
    Magic,
    /// A stream table that no pack can have.
    #[error("the pack header's stream table is wrong: {0}")]
    Layout(#[from] LayoutError),
}

impl PackHeader {
    /// The header as it stands in the file.
    ///
    /// # Panics
    /// If there is not one hash per extent.
    pub fn to_bytes(&self) -> Vec<u8> {
        assert_eq!(self.sealed_hashes.len(), self.layout.extents() as usize);
        let mut out = Vec::with_capacity(self.layout.header_bytes() as usize);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&self.asset.0.to_be_bytes());
        out.extend_from_slice(&(self.layout.streams().len() as u16).to_be_bytes());
        out.extend_from_slice(&[0; 2]);
        out.extend_from_slice(&(self.layout.header_bytes() as u32).to_be_bytes());
        let mut first_extent = 0_u64;
        for stream in self.layout.streams() {
            out.push(stream.id.0);
            out.extend_from_slice(&[0; 7]);
            out.extend_from_slice(&stream.bytes.to_be_bytes());
            out.extend_from_slice(&first_extent.to_be_bytes());
            first_extent += u64::from(stream.extents());
        }
        for hash in &self.sealed_hashes {
            out.extend_from_slice(hash);
        }
        out.resize(self.layout.header_bytes() as usize, 0);
        out
    }

    /// Reads a header. Every field that follows from others is checked against them.
    ///
    /// # Errors
    /// [`HeaderError`] says what is wrong; nothing is allocated beyond the length of `bytes`.
    pub fn parse(bytes: &[u8]) -> Result<Self, HeaderError> {
        let short = |needed| HeaderError::Length { found: bytes.len(), needed };
        let (fixed, rest) = bytes.split_at_checked(HEADER_FIXED_BYTES as usize).ok_or(short(HEADER_FIXED_BYTES))?;
        if &fixed[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        let asset = AssetId(be_u64(&fixed[8..16]));
        let count = usize::from(u16::from_be_bytes([fixed[16], fixed[17]]));
        let header_bytes = u64::from(u32::from_be_bytes([fixed[20], fixed[21], fixed[22], fixed[23]]));
        if count > STREAMS_MAX {
            return Err(LayoutError::BadStreams.into());
        }
        let table_bytes = count * HEADER_STREAM_BYTES as usize;
        let (table, hashes) =
            rest.split_at_checked(table_bytes).ok_or(short(HEADER_FIXED_BYTES + table_bytes as u64))?;
        let entries = table.chunks_exact(HEADER_STREAM_BYTES as usize);
        let streams = entries.clone().map(|e| StreamLayout { id: StreamId(e[0]), bytes: be_u64(&e[8..16]) }).collect();
        let layout = PackLayout::new(streams)?;
        if layout.header_bytes() != header_bytes || bytes.len() as u64 != header_bytes {
            return Err(short(layout.header_bytes()));
        }
        let mut first_extent = 0;
        for (entry, stream) in entries.zip(layout.streams()) {
            if be_u64(&entry[16..24]) != first_extent {
                return Err(LayoutError::BadStreams.into());
            }
            first_extent += u64::from(stream.extents());
        }
        let used = layout.extents() as usize * HASH_BYTES;
        let sealed_hashes = hashes::parse_list(&hashes[..used]).expect("cut to whole hashes");
        Ok(Self { asset, layout, sealed_hashes })
    }
}

fn be_u64(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().expect("callers pass 8 bytes"))
}

/// Why a pack could not be written.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The file system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An extent's bytes are not what the header says.
    #[error("extent {0} of the pack does not match its hash")]
    Extent(u32),
    /// An extent has the wrong length or does not exist.
    #[error("extent {extent} of the pack has {found} bytes instead of {needed}")]
    ExtentLength {
        /// Number within the pack.
        extent: u32,
        /// Bytes given.
        found: usize,
        /// Bytes that the layout asks for.
        needed: usize,
    },
    /// Not every extent was written.
    #[error("{missing} extents of the pack are missing")]
    Incomplete {
        /// How many.
        missing: usize,
    },
    /// The header is not one.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The header belongs to another asset or layout than was announced.
    #[error("the pack header describes another asset or length than was announced")]
    OtherAsset,
}

/// Writes a pack beside its final name and renames it at the end, so that it appears whole or not at all.
/// Dropped before [`PackWriter::finish`], it removes what it wrote.
#[derive(Debug)]
pub struct PackWriter {
    file: File,
    partial: PathBuf,
    path: PathBuf,
    asset: AssetId,
    layout: PackLayout,
    hashes: Vec<Option<Hash>>,
    finished: bool,
}

/// Suffix of a pack that is being written; a start-up may remove such files.
pub const PARTIAL_SUFFIX: &str = "partial";

impl PackWriter {
    /// Starts the pack that will stand at `path`. The file has its whole length at once, as a hole; who wants to find
    /// a full disk before the first extent reserves the room through [`PackWriter::file`].
    ///
    /// # Errors
    /// [`PackError::Io`].
    pub fn create(path: &Path, asset: AssetId, layout: PackLayout) -> Result<Self, PackError> {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".");
        partial.push(PARTIAL_SUFFIX);
        let partial = PathBuf::from(partial);
        let at = |source| PackError::Io { path: partial.clone(), source };
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&partial).map_err(at)?;
        let hashes = vec![None; layout.extents() as usize];
        let writer = Self { file, partial, path: path.to_owned(), asset, layout, hashes, finished: false };
        writer.file.set_len(writer.layout.pack_bytes()).map_err(|source| writer.io(source))?;
        Ok(writer)
    }

    /// The file under its temporary name, for reserving space.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Layout of the pack.
    pub fn layout(&self) -> &PackLayout {
        &self.layout
    }

    /// Writes the used chunks of extent `extent` of the pack.
    ///
    /// # Errors
    /// [`PackError::ExtentLength`], [`PackError::Io`].
    pub fn write_extent(&mut self, extent: u32, sealed: &[u8]) -> Result<(), PackError> {
        let needed = self.layout.sealed_bytes(extent);
        if needed == 0 || sealed.len() != needed {
            return Err(PackError::ExtentLength { extent, found: sealed.len(), needed });
        }
        self.file.write_all_at(sealed, self.layout.extent_offset(extent)).map_err(|source| self.io(source))?;
        self.hashes[extent as usize] = Some(hashes::hash(sealed));
        Ok(())
    }

    /// Checks `header` against all that was written, makes everything durable and gives the pack its name.
    ///
    /// # Errors
    /// [`PackError`]; nothing is left behind then.
    pub fn finish(mut self, header: &[u8]) -> Result<PackHeader, PackError> {
        let parsed = PackHeader::parse(header)?;
        if parsed.asset != self.asset || parsed.layout != self.layout {
            return Err(PackError::OtherAsset);
        }
        let missing = self.hashes.iter().filter(|h| h.is_none()).count();
        if missing > 0 {
            return Err(PackError::Incomplete { missing });
        }
        for (extent, (written, said)) in self.hashes.iter().zip(&parsed.sealed_hashes).enumerate() {
            if written.as_ref() != Some(said) {
                return Err(PackError::Extent(extent as u32));
            }
        }
        self.file.write_all_at(header, 0).map_err(|source| self.io(source))?;
        //= PROTOCOL K1: A pack MUST appear under its name complete or not at all.
        self.file.sync_all().map_err(|source| self.io(source))?;
        fs::rename(&self.partial, &self.path).map_err(|source| self.io(source))?;
        self.finished = true;
        sync_parent(&self.path).map_err(|source| self.io(source))?;
        Ok(parsed)
    }

    fn io(&self, source: io::Error) -> PackError {
        PackError::Io { path: self.partial.clone(), source }
    }
}

impl Drop for PackWriter {
    fn drop(&mut self) {
        if !self.finished {
            // Nothing more can be done about a file that will not go; start-up sweeps it.
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// Makes a rename in the folder of `path` durable.
///
/// # Errors
/// What the system says of the folder.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(parent)?.sync_all()
}
