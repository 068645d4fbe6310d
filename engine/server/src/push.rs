//! Sending parts of a whole copy to the origin, which has lost them, on the master's order.
//!
//! Every part is checked before it is sent, so that a rotten copy cannot spoil the origin; the master checks again. A push
//! takes at most half of the disk's time: after each extent it rests for as long as reading it took.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use braidcast_media::AssetId;
use braidcast_media::pack::PackHeader;
use braidcast_proto::v1::push_request::Part;
use braidcast_proto::v1::{PushExtent, PushOrder, PushRequest, PushStart};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{info, warn};

use crate::fill::blocking;
use crate::keeper::{Keeper, Pin};
use crate::limits;
use crate::pack::{Pack, PackFault};

/// Takes orders to push and follows them one after the other.
pub(crate) struct Pusher {
    keeper: Arc<Keeper>,
    orders: mpsc::Sender<Pinned>,
}

/// An order, and what keeps the copy that it asks for from being deleted until it was followed.
struct Pinned {
    order: PushOrder,
    pin: Option<Pin>,
}

/// Why a push was broken off; the master asks another server, or this one again later.
#[derive(Debug, thiserror::Error)]
enum PushError {
    #[error("no whole copy is held here")]
    NotWhole,
    #[error("the order asks for extents {first} to {last} of a pack that has {extents}")]
    NoSuchExtent { first: u32, last: u32, extents: u32 },
    #[error("the copy cannot be read: {0}")]
    Unreadable(#[from] PackFault),
    #[error("extent {0} of the copy here is rotten, too")]
    Rotten(u32),
    #[error("the origin took nothing for {max_s} s", max_s = limits::ORIGIN_SILENT.as_secs())]
    Stuck,
    #[error("{0}")]
    Refused(String),
}

impl Pusher {
    /// Starts the task that pushes; it ends with the pusher.
    pub(crate) fn start(keeper: Arc<Keeper>) -> Self {
        let (orders, mut queue) = mpsc::channel::<Pinned>(limits::PUSH_QUEUE_MAX);
        let pusher = Self { keeper: Arc::clone(&keeper), orders };
        tokio::spawn(async move {
            while let Some(Pinned { order, pin }) = queue.recv().await {
                let asset = AssetId(order.asset);
                let pushed = push(&keeper, order).await;
                // If it is spare, it stays for a while: the master may ask again.
                drop((pin, keeper.pin(asset)));
                match pushed {
                    Ok(extents) => info!(%asset, extents, "sent parts of a copy to the origin"),
                    Err(fault) => warn!(%asset, %fault, "the origin could not be healed from the copy here"),
                }
            }
        });
        pusher
    }

    /// Takes an order, if there is room for it.
    pub(crate) fn start_order(&self, order: PushOrder) {
        let pin = self.keeper.pin(AssetId(order.asset));
        if let Err(mpsc::error::TrySendError::Full(Pinned { order, .. })) = self.orders.try_send(Pinned { order, pin })
        {
            warn!(asset = %AssetId(order.asset), "too many orders to push; one is left out");
        }
    }
}

/// What an order asks for, found to be here.
struct Ready {
    pack: Arc<Pack>,
    header: Arc<PackHeader>,
    ranges: Vec<RangeInclusive<u32>>,
}

async fn prepare(keeper: &Arc<Keeper>, order: &PushOrder) -> Result<Ready, PushError> {
    let pack = keeper.pack(AssetId(order.asset)).filter(|pack| pack.is_whole()).ok_or(PushError::NotWhole)?;
    let ranges = ranges(order, pack.layout().extents())?;
    let header = Arc::new(read_header(keeper, &pack).await?);
    Ok(Ready { pack, header, ranges })
}

/// Tells the master that an order cannot be followed, so that another server is asked at once: a push that ends after
/// its start.
async fn decline(keeper: &Arc<Keeper>, asset: u64) {
    let start = PushRequest { part: Some(Part::Start(PushStart { asset })) };
    let request = keeper.master().authorised(tokio_stream::once(start));
    let mut origin = keeper.master().origin();
    // Its answer is an error, and one that does not come changes nothing: the master waits for the push in vain then.
    let _ = timeout(limits::PUSH_ANSWER_WITHIN, origin.push_pack(request)).await;
}

/// Follows one order; says how many extents were sent.
async fn push(keeper: &Arc<Keeper>, order: PushOrder) -> Result<u64, PushError> {
    let Ready { pack, header, ranges } = match prepare(keeper, &order).await {
        Ok(ready) => ready,
        Err(fault) => {
            decline(keeper, order.asset).await;
            return Err(fault);
        }
    };
    let (parts, outbound) = mpsc::channel(limits::PUSH_PARTS_QUEUED);
    let request = keeper.master().authorised(ReceiverStream::new(outbound));
    let mut origin = keeper.master().origin();
    let call = async {
        let answer = origin.push_pack(request).await;
        answer.map(drop).map_err(|status| PushError::Refused(keeper.master().explain(&status)))
    };
    let send = async {
        give(&parts, Part::Start(PushStart { asset: order.asset })).await?;
        if order.header {
            give(&parts, Part::Header(header.to_bytes())).await?;
        }
        let mut sent = 0;
        for extent in ranges.into_iter().flatten() {
            let began = Instant::now();
            let sealed = read(keeper, &pack, &header, extent).await?;
            let took = began.elapsed();
            give(&parts, Part::Extent(PushExtent { number: extent, sealed })).await?;
            sent += 1;
            sleep(took.min(REST_MAX)).await;
        }
        drop(parts);
        Ok::<u64, PushError>(sent)
    };
    // Whichever fails first ends both: a call that was refused must not wait for parts that nobody takes.
    tokio::pin!(call);
    tokio::select! {
        biased;
        refused = &mut call => refused.and(Err(PushError::Refused("the origin ended the push early".to_owned()))),
        sent = send => {
            let sent = sent?;
            timeout(limits::PUSH_ANSWER_WITHIN, call).await.map_err(|_| PushError::Stuck)??;
            Ok(sent)
        }
    }
}

/// Hands a part to the connection.
async fn give(parts: &mpsc::Sender<PushRequest>, part: Part) -> Result<(), PushError> {
    let given = timeout(limits::ORIGIN_SILENT, parts.send(PushRequest { part: Some(part) })).await;
    given.map_err(|_| PushError::Stuck)?.map_err(|_| PushError::Refused("the origin ended the push early".to_owned()))
}

/// The header of a copy. One that is ruined counts as held no longer, so that the master does not ask for it again.
async fn read_header(keeper: &Arc<Keeper>, pack: &Arc<Pack>) -> Result<PackHeader, PackFault> {
    let (keeper, pack) = (Arc::clone(keeper), Arc::clone(pack));
    blocking(move || pack.read_header().inspect_err(|fault| keeper.on_fault(&pack, fault))).await
}

/// The bytes of `extent`, which match `header`. An extent that does not is served no longer.
async fn read(
    keeper: &Arc<Keeper>,
    pack: &Arc<Pack>,
    header: &Arc<PackHeader>,
    extent: u32,
) -> Result<Vec<u8>, PushError> {
    let (keeper, pack, header) = (Arc::clone(keeper), Arc::clone(pack), Arc::clone(header));
    blocking(move || {
        let mut sealed = Vec::new();
        let matches = pack.extent_matches(&header, extent, &mut sealed);
        if matches.inspect_err(|fault| keeper.on_fault(&pack, fault))? {
            return Ok(sealed);
        }
        keeper.on_rotten(&pack, &[extent]);
        Err(PushError::Rotten(extent))
    })
    .await
}

/// The extents that `order` asks for, each range within a pack of `extents` extents.
fn ranges(order: &PushOrder, extents: u32) -> Result<Vec<RangeInclusive<u32>>, PushError> {
    let range = |range: &braidcast_proto::v1::PackExtents| {
        let (first, last) = (range.first, range.last);
        if first > last || last >= extents {
            return Err(PushError::NoSuchExtent { first, last, extents });
        }
        Ok(first..=last)
    };
    order.extents.iter().map(range).collect()
}

/// A disk that is slower than this for one extent is not given more rest.
const REST_MAX: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use braidcast_proto::v1::PackExtents;

    use super::*;

    fn order(ranges: &[(u32, u32)]) -> PushOrder {
        let extents = ranges.iter().map(|&(first, last)| PackExtents { first, last }).collect();
        PushOrder { asset: 1, header: false, extents }
    }

    #[test]
    fn orders_stay_within_the_pack() {
        assert_eq!(ranges(&order(&[(0, 0), (2, 9)]), 10).expect("within"), [0..=0, 2..=9]);
        for wrong in [(2, 10), (3, 2), (10, 10), (0, u32::MAX)] {
            assert!(matches!(ranges(&order(&[wrong]), 10), Err(PushError::NoSuchExtent { .. })), "{wrong:?}");
        }
    }
}
