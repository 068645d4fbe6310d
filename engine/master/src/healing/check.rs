//! Reading an asset's durable copy to find what is wrong with it. Touches the disk: not for the threads that serve calls.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;

use braidcast_media::hashes;
use braidcast_media::pack::PackHeader;
use braidcast_media::{ExtentNo, PackLayout, StreamId};
use nix::errno::Errno;

use crate::healing::condition::{Damage, Parts};
use crate::library::Asset;
use crate::origin::Origin;
use crate::origin::place::{Place, is_of_medium};

/// A durable copy that is being checked.
pub(crate) struct Checked<'a> {
    asset: &'a Asset,
    file: File,
    /// `None` if the header is damaged: then no extent can be checked.
    header: Option<PackHeader>,
    parts: Parts,
    room: Vec<u8>,
}

/// What an error of reading says about the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blame {
    /// These bytes are damaged, or beyond the end of the file.
    Bytes,
    /// The file cannot be read, whoever tries: an operator must see to it.
    File,
    /// The process or the system has too little of something just now, which says nothing about the pack.
    System,
}

fn blame(error: &io::Error) -> Blame {
    const SCARCE: [Errno; 5] = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EINTR, Errno::EAGAIN];
    match error.raw_os_error().map(Errno::from_raw) {
        _ if error.kind() == ErrorKind::UnexpectedEof || is_of_medium(error) => Blame::Bytes,
        Some(errno) if SCARCE.contains(&errno) => Blame::System,
        _ => Blame::File,
    }
}

/// What a check that met this error has found. `None`: nothing, the error has passed by the next check.
pub(crate) fn damage_of(error: &io::Error) -> Option<Damage> {
    (blame(error) != Blame::System).then(|| Damage::Unreadable { reason: error.to_string() })
}

impl<'a> Checked<'a> {
    /// Opens the pack and checks its length and header, or says why there is nothing to open.
    ///
    /// # Errors
    /// The file cannot be read; see [`damage_of`].
    pub(crate) fn open(origin: &Origin, asset: &'a Asset) -> io::Result<Result<Self, Damage>> {
        let file = match origin.place(asset.id, &asset.header_hash)? {
            Place::Own(file) => file,
            Place::Free => return Ok(Err(Damage::Lost)),
            Place::Unrecognised(reason) => return Ok(Err(Damage::Unrecognised { reason })),
            Place::Other(found) => return Ok(Err(Damage::Displaced { found })),
        };
        let length = file.metadata()?.len();
        let mut parts = Parts { length: length != asset.layout.pack_bytes(), ..Parts::default() };
        if parts.length {
            parts.extents = beyond(&asset.layout, length).collect();
        }
        let header = read_header(&file, asset)?;
        parts.header = header.is_none();
        Ok(Ok(Self { asset, file, header, parts, room: Vec::new() }))
    }

    /// Checks one extent of the pack. `Ok(false)`: it is damaged, or the header is.
    ///
    /// # Errors
    /// The file cannot be read; see [`damage_of`].
    pub(crate) fn extent(&mut self, extent: u32) -> io::Result<bool> {
        let Some(header) = &self.header else { return Ok(false) };
        self.room.resize(self.asset.layout.sealed_bytes(extent), 0);
        match self.file.read_exact_at(&mut self.room, self.asset.layout.extent_offset(extent)) {
            Ok(()) if hashes::hash(&self.room) == header.sealed_hashes[extent as usize] => return Ok(true),
            Ok(()) => {}
            Err(error) if blame(&error) == Blame::Bytes => {}
            Err(error) => return Err(error),
        }
        self.parts.extents.insert(extent);
        Ok(false)
    }

    /// What was found.
    pub(crate) fn into_parts(self) -> Parts {
        self.parts
    }
}

/// The header in the origin's pack. `None`: it is not the one that the database vouches for.
pub(crate) fn header(origin: &Origin, asset: &Asset) -> io::Result<Option<PackHeader>> {
    read_header(&File::open(origin.path(asset.id))?, asset)
}

/// Checks length and header alone.
pub(crate) fn outline(origin: &Origin, asset: &Asset) -> io::Result<Option<Damage>> {
    extents(origin, asset, std::iter::empty())
}

/// Checks length, header and every extent.
pub(crate) fn whole(origin: &Origin, asset: &Asset) -> io::Result<Option<Damage>> {
    extents(origin, asset, 0..asset.layout.extents())
}

/// Checks length, header and all extents of the streams that the master reads itself: the indexes and the hash list.
pub(crate) fn indexes(origin: &Origin, asset: &Asset) -> io::Result<Option<Damage>> {
    let streams = [StreamId::FRAMES, StreamId::KEY_FRAMES, StreamId::PLAIN_HASHES];
    let of_stream = |stream| {
        let count = asset.layout.stream(stream).map_or(0, |stream| stream.extents());
        (0..count).filter_map(move |extent| asset.layout.pack_extent(stream, ExtentNo(extent)))
    };
    extents(origin, asset, streams.into_iter().flat_map(of_stream))
}

/// Checks again what `damage` says is wrong. A pack that comes back, or gets its header back, may hold anything: its
/// extents are yet to be checked.
pub(crate) fn again(origin: &Origin, asset: &Asset, damage: &Damage) -> io::Result<Option<Damage>> {
    match damage {
        Damage::Parts(parts) if parts.unchecked => whole(origin, asset),
        Damage::Parts(parts) if !parts.header => extents(origin, asset, parts.extents.iter().copied()),
        Damage::Lost
        | Damage::Displaced { .. }
        | Damage::Unrecognised { .. }
        | Damage::Unreadable { .. }
        | Damage::Parts(_) => Ok(Some(outline(origin, asset)?.unwrap_or_else(Damage::unchecked))),
    }
}

fn extents(origin: &Origin, asset: &Asset, extents: impl Iterator<Item = u32>) -> io::Result<Option<Damage>> {
    let mut checked = match Checked::open(origin, asset)? {
        Ok(checked) => checked,
        Err(damage) => return Ok(Some(damage)),
    };
    for extent in extents {
        checked.extent(extent)?;
    }
    Ok(checked.into_parts().into_damage())
}

/// The header, if it is the one that the database vouches for.
fn read_header(file: &File, asset: &Asset) -> io::Result<Option<PackHeader>> {
    let mut bytes = vec![0; asset.layout.header_bytes() as usize];
    match file.read_exact_at(&mut bytes, 0) {
        Ok(()) => Ok(vouched_for(&bytes, asset)),
        Err(error) if blame(&error) == Blame::Bytes => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a header whose hash the database vouches for; `None` for any other bytes.
pub(crate) fn vouched_for(bytes: &[u8], asset: &Asset) -> Option<PackHeader> {
    let header = (hashes::hash(bytes) == asset.header_hash).then(|| PackHeader::parse(bytes).ok())??;
    (header.asset == asset.id && header.layout == asset.layout).then_some(header)
}

/// Extents whose bytes in use reach beyond a file of `length` bytes.
fn beyond(layout: &PackLayout, length: u64) -> impl Iterator<Item = u32> {
    let end = |extent: u32| layout.extent_offset(extent) + layout.sealed_bytes(extent) as u64;
    (0..layout.extents()).filter(move |extent| end(*extent) > length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_scarce_says_nothing_and_what_cannot_be_read_is_damage() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EINTR] {
            assert_eq!(damage_of(&errno.into()), None, "{errno}");
        }
        for errno in [Errno::EACCES, Errno::EPERM, Errno::ESTALE, Errno::ENXIO] {
            assert_eq!(blame(&errno.into()), Blame::File, "{errno}");
            assert!(damage_of(&errno.into()).is_some_and(|damage| !damage.to_string().is_empty()));
        }
        assert_eq!(blame(&Errno::EIO.into()), Blame::Bytes);
        assert_eq!(blame(&ErrorKind::UnexpectedEof.into()), Blame::Bytes);
    }

    #[test]
    fn an_extent_is_beyond_the_end_if_one_byte_in_use_is() {
        let layout = PackLayout::of_file(307_201).expect("short");
        let last = layout.extent_offset(1) + layout.sealed_bytes(1) as u64;
        assert_eq!(beyond(&layout, last).collect::<Vec<_>>(), [2], "the hole behind it may be missing");
        assert_eq!(beyond(&layout, last - 1).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(beyond(&layout, layout.pack_bytes()).count(), 0);
    }
}
