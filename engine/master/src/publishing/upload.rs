//! One upload: the parts of a pack as they arrive, and the thread that writes them.

use std::sync::Arc;

use braidcast_media::hashes::Hash;
use braidcast_media::pack::PackWriter;
use braidcast_media::{hashes, pack::PackError};
use braidcast_proto::v1;
use braidcast_proto::v1::upload_request::Part;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::Streaming;

use crate::auth::gate::Caller;
use crate::auth::standing::Standing;
use crate::errors::ServiceError;
use crate::limits::{UPLOAD_IDLE_MAX, UPLOAD_QUEUE_EXTENTS};

/// The parts of one upload, in the order that the protocol asks for.
pub(crate) struct Parts {
    stream: Streaming<v1::UploadRequest>,
    caller: Caller,
    standing: Arc<Standing>,
}

impl Parts {
    /// The parts that `caller` sends, for as long as its account stands.
    pub(crate) fn new(stream: Streaming<v1::UploadRequest>, caller: Caller, standing: Arc<Standing>) -> Self {
        Self { stream, caller, standing }
    }

    /// The first part.
    pub(crate) async fn start(&mut self) -> Result<v1::UploadStart, ServiceError> {
        match self.next().await? {
            Some(Part::Start(start)) => Ok(start),
            _ => Err(ServiceError::UploadOrder("the first part must be `start`")),
        }
    }

    async fn next(&mut self) -> Result<Option<Part>, ServiceError> {
        let message = tokio::time::timeout(UPLOAD_IDLE_MAX, self.stream.message())
            .await
            .map_err(|_| ServiceError::UploadIdle(UPLOAD_IDLE_MAX))?
            .map_err(|_| ServiceError::UploadBroken)?;
        self.standing.check(&self.caller)?;
        match message {
            Some(v1::UploadRequest { part: Some(part) }) => Ok(Some(part)),
            Some(v1::UploadRequest { part: None }) => Err(ServiceError::UploadOrder("an empty part")),
            None => Ok(None),
        }
    }

    /// Passes all extents on to `writer` and gives what ends them.
    pub(crate) async fn receive(mut self, writer: &mut Writer) -> Result<v1::UploadFinish, ServiceError> {
        loop {
            match self.next().await? {
                Some(Part::Extent(extent)) => {
                    if !writer.write(extent).await {
                        // It has stopped: its own error, which the caller asks it for, tells why.
                        return Err(ServiceError::UploadBroken);
                    }
                }
                Some(Part::Finish(finish)) => {
                    // All is there, and only the header decides whether it fits: whether the publisher still
                    // listens makes no difference.
                    return match self.next().await? {
                        None => Ok(finish),
                        Some(_) => Err(ServiceError::UploadOrder("nothing may follow `finish`")),
                    };
                }
                Some(Part::Start(_)) => return Err(ServiceError::UploadOrder("a second `start`")),
                None => return Err(ServiceError::UploadOrder("it ended before `finish`")),
            }
        }
    }
}

/// A thread that writes extents. Dropped before [`Writer::join`], nothing is left of the pack.
pub(crate) struct Writer {
    extents: mpsc::Sender<Vec<u8>>,
    thread: JoinHandle<Result<PackWriter, PackError>>,
}

impl Writer {
    pub(crate) fn new(pack: PackWriter) -> Self {
        let (extents, queue) = mpsc::channel(UPLOAD_QUEUE_EXTENTS);
        Self { extents, thread: tokio::task::spawn_blocking(move || write_extents(pack, queue)) }
    }

    /// Queues the next extent; false once the thread has met an error.
    async fn write(&mut self, extent: Vec<u8>) -> bool {
        self.extents.send(extent).await.is_ok()
    }

    /// Waits for all extents to be written and gives the pack back, or the error that stopped it.
    pub(crate) async fn join(self) -> Result<Result<PackWriter, PackError>, ServiceError> {
        drop(self.extents);
        Ok(self.thread.await?)
    }
}

fn write_extents(mut pack: PackWriter, mut queue: mpsc::Receiver<Vec<u8>>) -> Result<PackWriter, PackError> {
    let mut next = 0;
    while let Some(extent) = queue.blocking_recv() {
        pack.write_extent(next, &extent)?;
        next += 1;
    }
    Ok(pack)
}

/// Checks the pack against its header, makes it durable and gives it its name. Gives BLAKE3 of the header.
pub(crate) fn finish(pack: PackWriter, header: &[u8]) -> Result<Hash, PackError> {
    pack.finish(header)?;
    Ok(hashes::hash(header))
}
