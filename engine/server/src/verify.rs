//! Hashing extents again on the master's order, after a client met damage.

use std::sync::Arc;

use braidcast_media::layout::CHUNKS_PER_EXTENT;
use braidcast_media::{AssetId, ExtentNo, StreamId};
use braidcast_proto::v1::VerifyOrder;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::fill::blocking;
use crate::keeper::Keeper;
use crate::limits;
use crate::pack::{Pack, PackFault};

/// Takes orders to verify and follows them one after the other.
pub(crate) struct Verifier {
    orders: mpsc::Sender<VerifyOrder>,
}

impl Verifier {
    /// Starts the task that verifies; it ends with the verifier.
    pub(crate) fn start(keeper: Arc<Keeper>) -> Self {
        let (orders, mut queue) = mpsc::channel(limits::VERIFY_QUEUE_MAX);
        tokio::spawn(async move {
            while let Some(order) = queue.recv().await {
                let keeper = Arc::clone(&keeper);
                blocking(move || verify(&keeper, &order)).await;
            }
        });
        Self { orders }
    }

    /// Takes an order, if there is room for it.
    pub(crate) fn start_order(&self, order: VerifyOrder) {
        if let Err(mpsc::error::TrySendError::Full(order)) = self.orders.try_send(order) {
            warn!(asset = %AssetId(order.asset), "too many orders to verify; one is left out");
        }
    }
}

fn verify(keeper: &Arc<Keeper>, order: &VerifyOrder) {
    let asset = AssetId(order.asset);
    let Some(pack) = keeper.pack(asset) else {
        return;
    };
    match rotten_extents(&pack, order) {
        Ok(rotten) if rotten.is_empty() => {
            info!(%asset, extents = order.extents.len(), "verified: all extents named are sound");
        }
        Ok(rotten) => keeper.on_rotten(&pack, &rotten),
        Err(fault) => {
            warn!(%asset, %fault, "a pack cannot be verified");
            keeper.on_fault(&pack, &fault);
        }
    }
}

/// Which of the extents named are held and do not match the header. What cannot be read is rotten; a pack that cannot be
/// opened just now is not.
fn rotten_extents(pack: &Pack, order: &VerifyOrder) -> Result<Vec<u32>, PackFault> {
    let header = pack.read_header()?;
    let Ok(stream) = u8::try_from(order.stream).map(StreamId) else {
        return Ok(Vec::new());
    };
    let mut room = Vec::new();
    let mut rotten = Vec::new();
    for &extent in &order.extents {
        let extent = u32::try_from(extent).ok().filter(|extent| *extent <= u32::MAX / CHUNKS_PER_EXTENT);
        let number = extent.and_then(|extent| pack.layout().pack_extent(stream, ExtentNo(extent)));
        let Some(number) = number.filter(|number| pack.held().contains(*number)) else {
            continue;
        };
        match pack.extent_matches(&header, number, &mut room) {
            Ok(true) => {}
            Ok(false) | Err(PackFault::Io(_)) => rotten.push(number),
            Err(fault) => return Err(fault),
        }
    }
    Ok(rotten)
}
