//! Reading packs from the origin.

use braidcast_media::AssetId;
use braidcast_proto::v1::{PackBytes, ReadPackRequest};
use tokio::time::timeout;
use tonic::{Code, Status, Streaming};

use crate::limits;
use crate::master::Master;

/// Why the origin gave no bytes.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OriginError {
    /// The asset was removed, or the master has another database than it had. What is held stays until the master
    /// orders it to be dropped.
    #[error("the origin knows no such asset")]
    Gone,
    /// The call failed.
    #[error("{0}")]
    Call(String),
    /// Nothing came for too long.
    #[error("the origin at {0} has sent nothing for {max_s} s", max_s = limits::ORIGIN_SILENT.as_secs())]
    Silent(String),
    /// Fewer or more bytes came than were asked for.
    #[error("the origin at {address} sent {found} bytes instead of {needed}")]
    Length { address: String, found: u64, needed: u64 },
}

/// Bytes `[offset, offset + bytes)` of a pack, as they arrive.
pub(crate) struct PackStream {
    master: Master,
    pieces: Streaming<PackBytes>,
    piece: Vec<u8>,
    /// Bytes of `piece` that were taken.
    taken: usize,
    needed: u64,
    received: u64,
}

impl PackStream {
    /// Asks the origin for part of a pack.
    pub(crate) async fn open(master: &Master, asset: AssetId, offset: u64, bytes: u64) -> Result<Self, OriginError> {
        let request = master.authorised(ReadPackRequest { asset: asset.0, offset, length: bytes });
        let mut origin = master.origin();
        let reply = timeout(limits::ORIGIN_SILENT, origin.read_pack(request)).await;
        let reply = reply.map_err(|_| OriginError::Silent(master.address().to_owned()))?;
        let pieces = reply.map_err(|status| failed(master, &status))?.into_inner();
        Ok(Self { master: master.clone(), pieces, piece: Vec::new(), taken: 0, needed: bytes, received: 0 })
    }

    /// Fills `room` with the next bytes.
    pub(crate) async fn read(&mut self, room: &mut [u8]) -> Result<(), OriginError> {
        let mut done = 0;
        while done < room.len() {
            if self.taken == self.piece.len() {
                self.next_piece().await?;
            }
            let count = (room.len() - done).min(self.piece.len() - self.taken);
            room[done..done + count].copy_from_slice(&self.piece[self.taken..self.taken + count]);
            self.taken += count;
            done += count;
        }
        Ok(())
    }

    async fn next_piece(&mut self) -> Result<(), OriginError> {
        let next = timeout(limits::ORIGIN_SILENT, self.pieces.message()).await;
        let next = next.map_err(|_| OriginError::Silent(self.master.address().to_owned()))?;
        let piece = next.map_err(|status| failed(&self.master, &status))?;
        let Some(PackBytes { data }) = piece else {
            return Err(self.wrong_length(self.received));
        };
        self.received += data.len() as u64;
        if self.received > self.needed {
            return Err(self.wrong_length(self.received));
        }
        self.piece = data;
        self.taken = 0;
        Ok(())
    }

    fn wrong_length(&self, found: u64) -> OriginError {
        OriginError::Length { address: self.master.address().to_owned(), found, needed: self.needed }
    }
}

fn failed(master: &Master, status: &Status) -> OriginError {
    match status.code() {
        Code::NotFound => OriginError::Gone,
        _ => OriginError::Call(master.explain(status)),
    }
}
