//! One push: the parts that a server sends, checked one by one before they are written.

use std::sync::Arc;
use std::time::{Duration, Instant};

use braidcast_media::hashes;
use braidcast_media::pack::PackHeader;
use braidcast_proto::v1;
use braidcast_proto::v1::push_request::Part;
use prost::Message;
use tonic::Streaming;

use crate::errors::ServiceError;
use crate::healing::check;
use crate::healing::condition::Request;
use crate::healing::writer::Writer;
use crate::library::Asset;
use crate::limits::{PUSH_BYTES_S_MIN, PUSH_IDLE_MAX, PUSH_PACE_OVER};
use crate::origin::Origin;

/// The parts of one push, in the order that the protocol asks for.
pub(crate) struct Parts {
    stream: Streaming<v1::PushRequest>,
    pace: Pace,
}

/// How fast a push is, by the time that is waited for it: what the origin's disk takes is not the server's fault.
#[derive(Default)]
struct Pace {
    waited: Duration,
    bytes: u64,
}

impl Pace {
    /// A message of `bytes` bytes came after `waited`; says whether the push may go on.
    fn on_message(&mut self, waited: Duration, bytes: usize) -> bool {
        self.waited += waited;
        self.bytes += bytes as u64;
        if self.waited < PUSH_PACE_OVER {
            return true;
        }
        let is_fast = self.bytes >= PUSH_BYTES_S_MIN * PUSH_PACE_OVER.as_secs();
        *self = Self::default();
        is_fast
    }
}

impl Parts {
    pub(crate) fn new(stream: Streaming<v1::PushRequest>) -> Self {
        Self { stream, pace: Pace::default() }
    }

    /// The first part.
    pub(crate) async fn start(&mut self) -> Result<v1::PushStart, ServiceError> {
        match self.next().await? {
            Some(Part::Start(start)) => Ok(start),
            _ => Err(ServiceError::PushOrder("the first part must be `start`")),
        }
    }

    async fn next(&mut self) -> Result<Option<Part>, ServiceError> {
        let began = Instant::now();
        let message = tokio::time::timeout(PUSH_IDLE_MAX, self.stream.message())
            .await
            .map_err(|_| ServiceError::PushIdle(PUSH_IDLE_MAX))?
            .map_err(|_| ServiceError::PushBroken)?;
        let bytes = message.as_ref().map_or(0, Message::encoded_len);
        if !self.pace.on_message(began.elapsed(), bytes) {
            return Err(ServiceError::PushSlow(PUSH_BYTES_S_MIN));
        }
        match message {
            Some(v1::PushRequest { part: Some(part) }) => Ok(Some(part)),
            Some(v1::PushRequest { part: None }) => Err(ServiceError::PushOrder("an empty part")),
            None => Ok(None),
        }
    }
}

/// Takes what `request` asks for, and nothing else, and writes it to the origin.
pub(crate) async fn receive(
    mut parts: Parts,
    origin: Origin,
    asset: Arc<Asset>,
    request: Request,
) -> Result<(), ServiceError> {
    let sent_header = if request.header { Some(header_part(&mut parts, &asset).await?) } else { None };
    let header = match &sent_header {
        Some((_, header)) => Arc::clone(header),
        None => own_header(&origin, &asset).await?,
    };
    let (to_open, same, asked) = (origin, Arc::clone(&asset), request.clone());
    let mut writer = tokio::task::spawn_blocking(move || Writer::open(to_open, &same, &asked)).await??;
    for number in request.each_extent() {
        let sealed = match parts.next().await? {
            Some(Part::Extent(extent)) if extent.number == number => extent.sealed,
            Some(_) => return Err(ServiceError::PushOrder("a part that was not asked for, or out of order")),
            None => return Err(ServiceError::PushBroken),
        };
        let (same, by) = (Arc::clone(&asset), Arc::clone(&header));
        let write = move || {
            if hashes::hash(&sealed) != by.sealed_hashes[number as usize] {
                return Err(ServiceError::PushDamaged { asset: same.id, part: format!("extent {number}") });
            }
            writer.write_extent(&same, number, &sealed).map(|()| writer)
        };
        writer = tokio::task::spawn_blocking(write).await??;
    }
    if parts.next().await?.is_some() {
        return Err(ServiceError::PushOrder("more than was asked for"));
    }
    tokio::task::spawn_blocking(move || writer.finish(sent_header.as_ref().map(|(bytes, _)| bytes.as_slice()))).await?
}

async fn header_part(parts: &mut Parts, asset: &Asset) -> Result<(Vec<u8>, Arc<PackHeader>), ServiceError> {
    let bytes = match parts.next().await? {
        Some(Part::Header(bytes)) => bytes,
        Some(_) => return Err(ServiceError::PushOrder("the header must follow `start`")),
        None => return Err(ServiceError::PushBroken),
    };
    let damaged = || ServiceError::PushDamaged { asset: asset.id, part: "the header".to_owned() };
    let header = check::vouched_for(&bytes, asset).ok_or_else(damaged)?;
    Ok((bytes, Arc::new(header)))
}

/// The header in the origin's pack, which is sound.
async fn own_header(origin: &Origin, asset: &Arc<Asset>) -> Result<Arc<PackHeader>, ServiceError> {
    let (origin, same) = (origin.clone(), Arc::clone(asset));
    let path = origin.path(asset.id);
    let header = tokio::task::spawn_blocking(move || check::header(&origin, &same)).await?;
    let header = header.map_err(|source| ServiceError::Io { path, source })?;
    header.map(Arc::new).ok_or(ServiceError::PackLost(asset.id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_push_that_drips_is_ended_and_one_that_waits_for_the_disk_is_not() {
        let needed = (PUSH_BYTES_S_MIN * PUSH_PACE_OVER.as_secs()) as usize;
        let mut pace = Pace::default();
        assert!(pace.on_message(PUSH_PACE_OVER / 2, 0) && pace.on_message(PUSH_PACE_OVER / 2, needed));
        assert!(pace.on_message(Duration::ZERO, 1), "a new span");
        assert!(!pace.on_message(PUSH_PACE_OVER, needed - 2), "one byte too few");
    }
}
