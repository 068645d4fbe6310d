//! One pack on this server: its file, which extents of it may be served, and which of these are in memory.
//!
//! The file is open only while it is used: it stands in a slot that the bound on open packs empties again
//! ([`crate::open_packs`]). All else that is known of a pack stays in memory.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use braidcast_io::MappedFile;
use braidcast_media::chunk::DATA_KIND;
use braidcast_media::hashes::{self, Hash};
use braidcast_media::layout::PAGE_BYTES;
use braidcast_media::pack::{HeaderError, PackHeader};
use braidcast_media::{AssetId, PackLayout};
use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::extents::ExtentSet;
use crate::folder::Stage;
use crate::limits;
use crate::open_packs::{OpenPacks, Slot};

/// A pack that is held, whole or in part. Shards read it without a lock; helpers change the two sets.
#[derive(Debug)]
pub(crate) struct Pack {
    asset: AssetId,
    layout: PackLayout,
    header_hash: Hash,
    /// Where it stood when it became known. Its name changes when it becomes whole and when it is found rotten.
    path: PathBuf,
    /// Its file, while that is open, and which of its extents are in memory.
    slot: Arc<Slot>,
    open_packs: Arc<OpenPacks>,
    /// Extents whose bytes in the file were found to match the header.
    held: ExtentSet,
}

/// Why a file is no pack that can be served or filled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PackFault {
    /// The open file could not be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("cannot be opened: {0}")]
    Open(io::Error),
    #[error(
        "cannot be opened: {source}; this process may have {descriptors} files open: raise that with `ulimit -n`, or with \
         LimitNOFILE= of the service"
    )]
    Shortage { source: io::Error, descriptors: u64 },
    #[error("the pack was dropped")]
    Dropped,
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

impl PackFault {
    /// Whether the file is of no use any more. That it cannot be opened or read just now does not make it so; a file
    /// that is gone has nothing left to keep.
    pub(crate) fn is_ruin(&self) -> bool {
        match self {
            Self::Io(error) => error.kind() == io::ErrorKind::UnexpectedEof,
            Self::Open(error) => error.kind() == io::ErrorKind::NotFound,
            Self::Shortage { .. } | Self::Dropped => false,
            Self::Header(_)
            | Self::HeaderTooLong(_)
            | Self::Length { .. }
            | Self::HeaderChanged
            | Self::OtherAsset { .. } => true,
        }
    }

    /// Whether there is no room on the disk for what was to be written.
    pub(crate) fn is_disk_full(&self) -> bool {
        let is_full =
            |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        matches!(self, Self::Io(error) | Self::Open(error) if is_full(error))
    }
}

impl Pack {
    /// Reads the header of a pack whose every extent was checked when it was filled. The file is closed again.
    pub(crate) fn open_whole(path: &Path, open_packs: &Arc<OpenPacks>) -> Result<Self, PackFault> {
        Self::look_at(path, open_packs, |layout| ExtentSet::full(layout.extents()))
    }

    /// Reads the header of a pack that was being filled. Nothing of it counts as held before [`Pack::check_all`].
    pub(crate) fn open_filling(path: &Path, open_packs: &Arc<OpenPacks>) -> Result<Self, PackFault> {
        Self::look_at(path, open_packs, |layout| ExtentSet::empty(layout.extents()))
    }

    /// Makes the file of a pack that will be filled: its header, and room for its extents, which the disk keeps for it: else
    /// another fill could take the same room. The file stays open, as far
    /// as the bound on open packs allows.
    pub(crate) fn create(path: &Path, header: &[u8], open_packs: &Arc<OpenPacks>) -> Result<Self, PackFault> {
        let parsed = PackHeader::parse(header)?;
        let pack_bytes = parsed.layout.pack_bytes();
        let held = ExtentSet::empty(parsed.layout.extents());
        let pack = Self::assemble(path, open_packs, parsed, hashes::hash(header), held);
        open_packs.file(&pack.slot, || {
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(true).open(path);
            let file = file.map_err(PackFault::Open)?;
            let made = file.set_len(pack_bytes).and_then(|()| reserve(&file, &pack.layout));
            // Free what was reserved of it: it helps nobody.
            made.and_then(|()| file.write_all_at(header, 0)).inspect_err(|_| drop(fs::remove_file(path)))?;
            Ok(file)
        })?;
        Ok(pack)
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
        self.slot.hot()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.held.count() == self.layout.extents()
    }

    /// Bytes of the extents that are not held.
    pub(crate) fn missing_bytes(&self) -> u64 {
        let missing = (0..self.layout.extents()).filter(|extent| !self.held.contains(*extent));
        missing.map(|extent| (self.layout.sealed_bytes(extent) as u64).next_multiple_of(PAGE_BYTES as u64)).sum()
    }

    /// The file that regions are sent from, if it is open. Never waits: this is for shards.
    pub(crate) fn open_file(&self) -> Option<MappedFile> {
        self.slot.file()
    }

    /// Reads the pages of `extent` in, so that sending them does not wait for the disk, and marks it hot. Opens the
    /// file if it is closed.
    pub(crate) fn warm(&self, extent: u32) -> Result<(), PackFault> {
        let file = self.file()?;
        file.populate(self.layout.extent_offset(extent), self.layout.sealed_bytes(extent))?;
        self.slot.on_warmed(extent);
        Ok(())
    }

    /// Marks an extent hot that cannot be read in ahead: whoever asks for it has its sends wait for the disk.
    pub(crate) fn on_not_warmed(&self, extent: u32) {
        self.slot.on_warmed(extent);
    }

    /// The hash list, read anew and checked against the header's hash: it is needed seldom, and too long to keep.
    pub(crate) fn read_header(&self) -> Result<PackHeader, PackFault> {
        let mut bytes = vec![0; self.layout.header_bytes() as usize];
        self.file()?.file().read_exact_at(&mut bytes, 0)?;
        if hashes::hash(&bytes) != self.header_hash {
            return Err(PackFault::HeaderChanged);
        }
        Ok(PackHeader::parse(&bytes)?)
    }

    /// Hashes every extent in the file and holds those that match `header`, no others.
    pub(crate) fn check_all(&self, header: &PackHeader) -> Result<(), PackFault> {
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
    pub(crate) fn extent_matches(
        &self,
        header: &PackHeader,
        extent: u32,
        room: &mut Vec<u8>,
    ) -> Result<bool, PackFault> {
        let mapped = self.file()?;
        let offset = self.layout.extent_offset(extent);
        let mut kind = [0];
        mapped.file().read_exact_at(&mut kind, offset)?;
        if kind != [DATA_KIND] {
            // Most often a hole that was never filled: not worth reading.
            return Ok(false);
        }
        room.resize(self.layout.sealed_bytes(extent), 0);
        mapped.file().read_exact_at(room, offset)?;
        Ok(hashes::hash(room) == header.sealed_hashes[extent as usize])
    }

    /// Writes `extent` and holds it, if its bytes are what `header` says; says whether they are.
    pub(crate) fn fill_extent(&self, header: &PackHeader, extent: u32, sealed: &[u8]) -> Result<bool, PackFault> {
        //= PROTOCOL K2: A server MUST check a filled extent's hash against the header that the master vouches for before it serves a chunk of it.
        if hashes::hash(sealed) != header.sealed_hashes[extent as usize] {
            return Ok(false);
        }
        self.file()?.file().write_all_at(sealed, self.layout.extent_offset(extent))?;
        self.held.insert(extent);
        Ok(true)
    }

    /// Ceases to serve `extent`; says whether it was served.
    pub(crate) fn forsake(&self, extent: u32) -> bool {
        self.hot().remove(extent);
        self.held.remove(extent)
    }

    /// Whether the open file still is as long as the pack: one that was cut short faults when it is sent. A closed one
    /// is looked at when it is opened.
    pub(crate) fn has_its_length(&self) -> bool {
        let Some(file) = self.slot.peek() else { return true };
        file.file().metadata().is_ok_and(|meta| meta.len() >= self.layout.pack_bytes())
    }

    /// Makes all that was written durable, also through a file that was closed since.
    pub(crate) fn sync(&self) -> Result<(), PackFault> {
        Ok(self.file()?.file().sync_all()?)
    }

    /// The pack was dropped: its file closes, and is opened no more. Whoever still has this pack cannot meet another
    /// one under its name.
    pub(crate) fn retire(&self) {
        self.slot.retire();
    }

    /// The file, opened again if it is closed. Waits for the disk.
    fn file(&self) -> Result<MappedFile, PackFault> {
        self.open_packs.file(&self.slot, || self.open_again())
    }

    /// Opens the file under whichever name it has now, and makes sure that it is the same pack.
    fn open_again(&self) -> Result<File, PackFault> {
        let [whole, filling] = [Stage::Whole, Stage::Filling].map(|stage| self.path.with_extension(stage.suffix()));
        // The first name once more: the pack may have got it after it was looked for there.
        let names = [&self.path, &whole, &filling, &self.path, &whole];
        let missing =
            |opened: &io::Result<File>| opened.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        let mut opened = names.into_iter().map(|path| OpenOptions::new().read(true).write(true).open(path));
        let file = opened.find(|opened| !missing(opened)).unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()));
        let file = file.map_err(PackFault::Open)?;
        check_length(&file, &self.layout)?;
        if hashes::hash(&read_header_bytes(&file)?) != self.header_hash {
            return Err(PackFault::HeaderChanged);
        }
        Ok(file)
    }

    fn look_at(
        path: &Path,
        open_packs: &Arc<OpenPacks>,
        held: impl FnOnce(&PackLayout) -> ExtentSet,
    ) -> Result<Self, PackFault> {
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(PackFault::Open)?;
        let bytes = read_header_bytes(&file)?;
        let header = PackHeader::parse(&bytes)?;
        check_length(&file, &header.layout)?;
        let held = held(&header.layout);
        Ok(Self::assemble(path, open_packs, header, hashes::hash(&bytes), held))
    }

    fn assemble(
        path: &Path,
        open_packs: &Arc<OpenPacks>,
        header: PackHeader,
        header_hash: Hash,
        held: ExtentSet,
    ) -> Self {
        let (path, open_packs) = (path.to_owned(), Arc::clone(open_packs));
        let slot = Slot::empty(header.layout.extents());
        Self { asset: header.asset, layout: header.layout, header_hash, path, slot, open_packs, held }
    }
}

/// Reserves the parts of the pack that will be written, and no holes. A file system that cannot is written to as far as it
/// goes.
fn reserve(file: &File, layout: &PackLayout) -> io::Result<()> {
    let signed = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
    for (offset, bytes) in layout.used_parts() {
        match fallocate(file, FallocateFlags::empty(), signed(offset), signed(bytes)) {
            Ok(()) => {}
            Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn check_length(file: &File, layout: &PackLayout) -> Result<(), PackFault> {
    let (found, needed) = (file.metadata()?.len(), layout.pack_bytes());
    if found == needed { Ok(()) } else { Err(PackFault::Length { found, needed }) }
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

#[cfg(test)]
mod tests {
    use std::fs;

    use braidcast_media::layout::EXTENT_BYTES;

    use super::*;

    /// A pack that is closed, because another was opened, and the folder that both stand in.
    fn closed() -> (tempfile::TempDir, PathBuf, Pack) {
        let dir = tempfile::tempdir().expect("temporary folder");
        let open_packs = OpenPacks::new(1);
        let create = |name: &str| {
            let layout = PackLayout::of_file(EXTENT_BYTES as u64).expect("short file");
            let sealed_hashes = vec![[0; 32]; layout.extents() as usize];
            let header = PackHeader { asset: AssetId(1), layout, sealed_hashes };
            let path = dir.path().join(name);
            Pack::create(&path, &header.to_bytes(), &open_packs).expect("new pack")
        };
        let pack = create("1.filling");
        assert!(pack.open_file().is_some());
        // The first was used just now, and is spared once.
        let _others = [create("2.filling"), create("3.filling")];
        assert!(pack.open_file().is_none());
        let path = dir.path().join("1.filling");
        (dir, path, pack)
    }

    #[test]
    fn the_disk_keeps_the_room_of_a_pack_that_is_being_filled() {
        use std::os::unix::fs::MetadataExt;
        let (_dir, path, pack) = closed();
        let probe = File::create(path.with_extension("probe")).expect("new file");
        if fallocate(&probe, FallocateFlags::empty(), 0, 1) == Err(Errno::EOPNOTSUPP) {
            eprintln!("skipped: the file system of {} reserves nothing", path.display());
            return;
        }
        let kept = fs::metadata(&path).expect("there").blocks() * 512;
        assert!(kept >= pack.layout().disk_bytes(), "{kept} bytes");
        assert!(pack.missing_bytes() > 0 && pack.missing_bytes() <= pack.layout().disk_bytes());
    }

    #[test]
    fn a_closed_pack_is_opened_under_the_name_that_it_has_got_meanwhile() {
        let (_dir, path, pack) = closed();
        let whole = path.with_extension("pack");
        fs::rename(&path, &whole).expect("renamed");
        pack.warm(0).expect("opens as a whole pack");
        assert!(pack.hot().contains(0) && pack.open_file().is_some());
        fs::rename(&whole, &path).expect("renamed back");
        assert_eq!(pack.read_header().expect("an open file keeps what it is").asset, AssetId(1));
    }

    #[test]
    fn a_file_that_is_another_one_when_it_is_opened_again_is_ruined() {
        let changes: [fn(&Path); 4] = [
            |path| fs::write(path, "").expect("writable"),
            |path| fs::remove_file(path).expect("there"),
            |path| {
                let file = OpenOptions::new().write(true).open(path).expect("there");
                file.write_all_at(&[7], 100).expect("writable");
            },
            |path| {
                let file = OpenOptions::new().write(true).open(path).expect("there");
                file.set_len(file.metadata().expect("there").len() + 1).expect("writable");
            },
        ];
        for (number, change) in changes.into_iter().enumerate() {
            let (_dir, path, pack) = closed();
            change(&path);
            let fault = pack.warm(0).expect_err("it is not served");
            assert!(fault.is_ruin(), "{number}: {fault}");
            assert!(pack.open_file().is_none());
        }
    }

    #[test]
    fn a_folder_that_cannot_be_opened_just_now_ruins_nothing() {
        let (_dir, path, pack) = closed();
        let aside = path.with_extension("aside");
        fs::rename(&path, &aside).expect("renamed");
        // A name that leads to itself: neither there nor missing.
        std::os::unix::fs::symlink(&path, &path).expect("a link");
        let fault = pack.warm(0).expect_err("it cannot be opened");
        assert!(matches!(fault, PackFault::Open(_)) && !fault.is_ruin(), "{fault}");
        fs::rename(&aside, &path).expect("put back");
        pack.warm(0).expect("opens again");
    }
}
