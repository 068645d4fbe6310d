//! Packs for media servers that fill, and from those that heal: the Origin service.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll};

use braidcast_media::AssetId;
use braidcast_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::auth::gate;
use crate::errors::ServiceError;
use crate::healing::Healing;
use crate::healing::condition::Damage;
use crate::library::Library;
use crate::limits::{
    PIECE_BYTES, PIECES_QUEUED, READ_STALL_MAX, READ_WAIT, READS_MAX, READS_PER_SERVER_MAX, SERVERS_MAX,
};
use crate::net::{Share, ShareBounds, Shares};
use crate::origin::Origin;
use crate::sync::lock;

/// The Origin service. A gate in front of it lets media servers in and nobody else.
pub(crate) struct OriginService {
    library: Arc<Library>,
    origin: Origin,
    healing: Arc<Healing>,
    reads: Arc<Semaphore>,
    reads_of: Arc<Shares<String>>,
}

impl OriginService {
    pub(crate) fn new(library: Arc<Library>, origin: Origin, healing: Arc<Healing>) -> Self {
        let reads_of = ShareBounds { all: READS_PER_SERVER_MAX * SERVERS_MAX, each: READS_PER_SERVER_MAX };
        Self { library, origin, healing, reads: Arc::new(Semaphore::new(READS_MAX)), reads_of: Shares::new(reads_of) }
    }

    async fn open(&self, server_id: String, request: v1::ReadPackRequest) -> Result<Reading, ServiceError> {
        let v1::ReadPackRequest { asset, offset, length } = request;
        let asset = self.library.by_id(AssetId(asset))?;
        if self.library.damage(asset.id).is_some_and(|damage| damage.is_lost()) {
            return Err(ServiceError::PackLost(asset.id));
        }
        let pack_bytes = asset.layout.pack_bytes();
        let end = u128::from(offset) + u128::from(length);
        if end > u128::from(pack_bytes) {
            return Err(ServiceError::PastEnd { asset: asset.id, offset, end, pack_bytes });
        }
        let own = |_| ServiceError::TooMany { what: "reads of this server", limit: READS_PER_SERVER_MAX };
        let share = self.reads_of.take(server_id).map_err(own)?;
        // Small packs are read in a moment, many at a time: most find a place soon.
        let permit = timeout(READ_WAIT, Arc::clone(&self.reads).acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            return Err(ServiceError::TooMany { what: "reads of packs", limit: READS_MAX });
        };
        let (origin, id) = (self.origin.clone(), asset.id);
        let file = tokio::task::spawn_blocking(move || origin.open(id)).await?;
        let file = file.inspect_err(|error| self.on_failed(id, error))?;
        Ok(Reading {
            file: Arc::new(file),
            origin: self.origin.clone(),
            healing: Arc::clone(&self.healing),
            asset: id,
            offset,
            left: length,
            _permit: permit,
            _share: share,
        })
    }

    fn on_failed(&self, asset: AssetId, error: &ServiceError) {
        if matches!(error, ServiceError::PackLost(_)) {
            self.library.set_damage(asset, Some(Damage::Lost));
        } else {
            self.healing.suspect(asset);
        }
    }
}

/// A range of a pack on its way to a server.
struct Reading {
    file: Arc<File>,
    origin: Origin,
    healing: Arc<Healing>,
    asset: AssetId,
    offset: u64,
    left: u64,
    _permit: OwnedSemaphorePermit,
    _share: Share<String>,
}

impl Reading {
    /// Reads piece after piece until the server has all, or has gone, or takes nothing any more. No thread waits for a
    /// slow server.
    async fn run(mut self, pieces: mpsc::Sender<Piece>, queue: Weak<Queue>) {
        while self.left > 0 {
            let piece = self.next().await.map(|data| v1::PackBytes { data }).map_err(Status::from);
            let failed = piece.is_err();
            match tokio::time::timeout(READ_STALL_MAX, pieces.send(piece)).await {
                Ok(Ok(())) if !failed => {}
                Ok(_) => return,
                Err(_elapsed) => {
                    tracing::info!(asset = %self.asset, "a media server took nothing of a pack for {READ_STALL_MAX:?}");
                    return queue.upgrade().iter().for_each(|queue| drop(lock(queue).take()));
                }
            }
        }
    }

    async fn next(&mut self) -> Result<Vec<u8>, ServiceError> {
        let (file, offset, bytes) = (Arc::clone(&self.file), self.offset, self.left.min(PIECE_BYTES));
        let read = move || {
            let mut data = vec![0; bytes as usize];
            file.read_exact_at(&mut data, offset).map(|()| data)
        };
        let data = tokio::task::spawn_blocking(read).await?.map_err(|source| {
            self.healing.suspect(self.asset);
            ServiceError::Io { path: self.origin.path(self.asset), source }
        })?;
        self.offset += bytes;
        self.left -= bytes;
        Ok(data)
    }
}

type Piece = Result<v1::PackBytes, Status>;

/// Pieces on their way to one server, until they are taken away from a stream that HTTP/2 no longer asks for anything:
/// such a stream is not polled, and would keep them for as long as its connection is open.
type Queue = Mutex<Option<mpsc::Receiver<Piece>>>;

/// The stream of pieces. The reading ends when this is dropped: nobody else holds on to the queue.
pub(crate) struct Pieces(Arc<Queue>);

impl Stream for Pieces {
    type Item = Piece;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        match &mut *lock(&self.0) {
            Some(pieces) => pieces.poll_recv(cx),
            // The error ends the stream: it is not polled again.
            None => Poll::Ready(Some(Err(ServiceError::ReadStalled(READ_STALL_MAX).into()))),
        }
    }
}

#[tonic::async_trait]
impl v1::origin_server::Origin for OriginService {
    type ReadPackStream = Pieces;

    async fn read_pack(&self, request: Request<v1::ReadPackRequest>) -> Result<Response<Self::ReadPackStream>, Status> {
        let server = gate::server(&request)?;
        let reading = self.open(server.server_id, request.into_inner()).await?;
        let (sender, pieces) = mpsc::channel(PIECES_QUEUED);
        let queue = Arc::new(Mutex::new(Some(pieces)));
        tokio::spawn(reading.run(sender, Arc::downgrade(&queue)));
        Ok(Response::new(Pieces(queue)))
    }

    async fn push_pack(
        &self,
        request: Request<Streaming<v1::PushRequest>>,
    ) -> Result<Response<v1::PushResponse>, Status> {
        let server = gate::server(&request)?;
        self.healing.receive(&server.server_id, request.into_inner()).await?;
        Ok(Response::new(v1::PushResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use tokio_stream::StreamExt;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn pieces_that_were_taken_away_end_their_stream_with_an_error() {
        let (sender, pieces) = mpsc::channel(1);
        let queue = Arc::new(Mutex::new(Some(pieces)));
        let (weak, mut stream) = (Arc::downgrade(&queue), Pieces(queue));
        sender.send(Ok(v1::PackBytes { data: vec![1] })).await.expect("there is room");
        weak.upgrade().iter().for_each(|queue| drop(lock(queue).take()));
        assert!(sender.is_closed(), "what was queued is gone");
        let end = stream.next().await.expect("an end").expect_err("an error");
        assert_eq!(end.code(), Code::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_server_that_hangs_up_ends_the_reading_at_once() {
        let (sender, pieces) = mpsc::channel(1);
        let queue = Arc::new(Mutex::new(Some(pieces)));
        let (weak, stream) = (Arc::downgrade(&queue), Pieces(queue));
        sender.send(Ok(v1::PackBytes { data: vec![1] })).await.expect("there is room");
        drop(stream);
        assert!(sender.is_closed() && weak.upgrade().is_none());
    }
}
