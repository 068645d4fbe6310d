//! Where the parts of a pack go that a server sends: into a new file, or in place. Touches the disk.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use braidcast_media::AssetId;
use braidcast_media::hashes::Hash;
use braidcast_media::pack::{PackError, PackWriter};

use crate::errors::ServiceError;
use crate::healing::condition::Request;
use crate::library::Asset;
use crate::origin::{Origin, place};

/// Writes what heals one pack.
pub(crate) struct Writer {
    origin: Origin,
    asset: AssetId,
    header_hash: Hash,
    needed: u64,
    target: Target,
}

enum Target {
    /// The pack was lost: it gets its name when it is whole.
    New(PackWriter),
    /// The pack is there: its parts are overwritten.
    InPlace { file: File, path: PathBuf },
}

impl Writer {
    /// Prepares the file. One of the wrong length first gets the right one. A file that is written in place is this
    /// very pack, and is marked as unsound before its first byte changes.
    pub(crate) fn open(origin: Origin, asset: &Asset, request: &Request) -> Result<Self, ServiceError> {
        let needed = asset.layout.pack_bytes();
        let target = if request.is_whole {
            Target::New(origin.create(asset.id, asset.layout.clone())?)
        } else {
            let path = origin.path(asset.id);
            let at = |source| origin.refusal(PackError::Io { path: path.clone(), source }, needed);
            let file = OpenOptions::new().read(true).write(true).open(&path).map_err(at)?;
            if !place::is_own(&file, asset.id, &asset.header_hash).map_err(at)? {
                return Err(ServiceError::PackLost(asset.id));
            }
            origin.mark(asset.id).map_err(at)?;
            set_length(&file, needed).map_err(at)?;
            Target::InPlace { file, path }
        };
        Ok(Self { origin, asset: asset.id, header_hash: asset.header_hash, needed, target })
    }

    /// Writes an extent whose hash was checked.
    pub(crate) fn write_extent(&mut self, asset: &Asset, extent: u32, sealed: &[u8]) -> Result<(), ServiceError> {
        match &mut self.target {
            Target::New(writer) => writer.write_extent(extent, sealed),
            Target::InPlace { file, path } => write_at(file, path, sealed, asset.layout.extent_offset(extent)),
        }
        .map_err(|error| self.origin.refusal(error, self.needed))
    }

    /// Makes the pack durable. `header`: as it was sent, if it was asked for; its hash was checked. What stands in a
    /// new pack's place by now, and does not show that it is that pack, is moved aside.
    pub(crate) fn finish(self, header: Option<&[u8]>) -> Result<(), ServiceError> {
        let Self { origin, asset, header_hash, needed, target } = self;
        match (target, header) {
            (Target::New(writer), header) => origin
                .make_way(asset, &header_hash)
                .map_err(|source| PackError::Io { path: origin.path(asset), source })
                .and_then(|_| writer.finish(header.unwrap_or_default()).map(drop)),
            (Target::InPlace { file, path }, header) => header
                .map_or(Ok(()), |header| write_at(&file, &path, header, 0))
                .and_then(|()| file.sync_all().map_err(|source| PackError::Io { path, source })),
        }
        .map_err(|error| origin.refusal(error, needed))
    }
}

fn set_length(file: &File, bytes: u64) -> io::Result<()> {
    if file.metadata()?.len() == bytes { Ok(()) } else { file.set_len(bytes) }
}

fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> Result<(), PackError> {
    let at = |source: io::Error| PackError::Io { path: path.to_owned(), source };
    file.write_all_at(bytes, offset).map_err(at)
}
