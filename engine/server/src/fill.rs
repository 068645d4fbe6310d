//! One fill: a pack brought here from the origin, extent by extent, each checked before it is served.
//!
//! A fill goes on from what stands in the file, which is hashed again first, and asks the origin only for gaps. It is
//! tried again for ever, with pauses, for as long as the master's order stands.

use std::ops::Range;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use braidcast_media::hashes;
use braidcast_media::layout::SEALED_EXTENT_BYTES;
use braidcast_media::pack::{HeaderError, PackHeader};
use braidcast_media::{AssetId, PackLayout};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use crate::backoff::Backoff;
use crate::keeper::{Finish, Keeper, TooMuch};
use crate::limits;
use crate::order::Order;
use crate::origin::{OriginError, PackStream};
use crate::pack::{Pack, PackFault};

/// Why a fill does not go on; the master hears these words.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FillError {
    #[error(transparent)]
    Origin(#[from] OriginError),
    #[error("the origin's header of {0} is not the one that the master vouches for")]
    HeaderHash(AssetId),
    #[error("the origin's header of {asset} is wrong: {fault}")]
    Header { asset: AssetId, fault: HeaderError },
    #[error("the origin's header of {0} describes another asset or length than the master's order")]
    OtherPack(AssetId),
    #[error("{count} extents of {asset} at the origin do not match their hashes, the first is {first}")]
    RottenOrigin { asset: AssetId, first: u32, count: u32 },
    #[error("{path}: {fault}")]
    Disk { path: PathBuf, fault: PackFault },
    #[error("{path}: the pack needs {needed} bytes and the disk has {free} free")]
    DiskFull { path: PathBuf, needed: u64, free: u64 },
    #[error("the pack needs {needed} bytes; {used} of this server's capacity of {capacity} are used")]
    Capacity { needed: u64, used: u64, capacity: u64 },
    #[error(
        "no room is made for {asset} yet: a copy goes when the master has called it spare for {seconds} s, while the master \
         is heard, and not while the origin is healed from it"
    )]
    TooEarly { asset: AssetId, seconds: u64 },
    #[error("no room is made for {asset} just now, and another copy is kept: {refused}")]
    Guarded { asset: AssetId, refused: TooMuch },
}

impl FillError {
    pub(crate) fn disk(path: &Path, fault: PackFault) -> Self {
        Self::Disk { path: path.to_owned(), fault }
    }

    /// Whether the disk refused what was to be written, for want of room.
    fn is_disk_full(&self) -> bool {
        matches!(self, Self::Disk { fault, .. } if fault.is_disk_full())
    }

    /// Whether the origin sent bytes that do not match their hashes, so that the master should look at its pack.
    pub(crate) fn blames_the_origin(&self) -> bool {
        match self {
            Self::HeaderHash(_) | Self::Header { .. } | Self::OtherPack(_) | Self::RottenOrigin { .. } => true,
            Self::Origin(_)
            | Self::Disk { .. }
            | Self::DiskFull { .. }
            | Self::Capacity { .. }
            | Self::TooEarly { .. }
            | Self::Guarded { .. } => false,
        }
    }
}

/// Fills the pack of `order` until it is whole or the order stands no more.
pub(crate) async fn run(keeper: Arc<Keeper>, order: Arc<Order>) {
    let mut backoff = Backoff::new(limits::FILL_RETRY.0, limits::FILL_RETRY.1);
    let mut held_before = 0;
    loop {
        let fault = match attempt(&keeper, &order).await {
            Ok(()) => return,
            Err(fault) if fault.is_disk_full() => {
                let (keeper, order) = (Arc::clone(&keeper), Arc::clone(&order));
                match blocking(move || keeper.on_disk_full(&order)).await {
                    Ok(()) => continue,
                    // It can say no more than the system did.
                    Err(FillError::DiskFull { .. }) => fault,
                    Err(reason) => reason,
                }
            }
            Err(fault) => fault,
        };
        let held = keeper.pack(order.asset).map_or(0, |pack| pack.held().count());
        if held > held_before {
            held_before = held;
            backoff.reset();
        }
        let pause = backoff.next_pause();
        warn!(asset = %order.asset, %fault, retry_in_ms = pause.as_millis(), "a fill does not go on");
        keeper.on_fill_error(&order, &fault);
        sleep(pause).await;
    }
}

async fn attempt(keeper: &Arc<Keeper>, order: &Arc<Order>) -> Result<(), FillError> {
    let Ok(_permit) = keeper.fills().acquire_many(order.fill_permits()).await else {
        return Ok(());
    };
    let Some((pack, header)) = prepare(keeper, order).await? else {
        return Ok(());
    };
    loop {
        fill_gaps(keeper, &pack, &header).await?;
        let (keeper, pack) = (Arc::clone(keeper), Arc::clone(&pack));
        match blocking(move || keeper.finish(&pack)).await? {
            Finish::Whole | Finish::Superseded => return Ok(()),
            Finish::MoreToFill => {}
        }
    }
}

/// The pack to fill and its checked header; nothing if the order stands no more.
async fn prepare(keeper: &Arc<Keeper>, order: &Arc<Order>) -> Result<Option<(Arc<Pack>, Arc<PackHeader>)>, FillError> {
    if let Some((pack, checked)) = keeper.pack_to_fill(order) {
        let path = keeper.folder().path().to_owned();
        let same = Arc::clone(&pack);
        let keeper = Arc::clone(keeper);
        let header = blocking(move || {
            let checked = same.read_header().and_then(|header| {
                if !checked {
                    same.check_all(&header)?;
                    keeper.on_checked(&same);
                }
                Ok(header)
            });
            checked.inspect_err(|fault: &PackFault| keeper.on_fault(&same, fault))
        })
        .await
        .map_err(|fault| FillError::disk(&path, fault))?;
        return Ok(Some((pack, Arc::new(header))));
    }
    let (bytes, header) = read_header(keeper, order).await?;
    let (keeper, order) = (Arc::clone(keeper), Arc::clone(order));
    let header = Arc::new(header);
    let same = Arc::clone(&header);
    let pack = blocking(move || keeper.begin(&order, &bytes, &same.layout)).await?;
    Ok(pack.map(|pack| (pack, header)))
}

async fn read_header(keeper: &Keeper, order: &Order) -> Result<(Vec<u8>, PackHeader), FillError> {
    let asset = order.asset;
    let mut bytes = vec![0; order.header_bytes as usize];
    PackStream::open(keeper.master(), asset, 0, order.header_bytes).await?.read(&mut bytes).await?;
    if hashes::hash(&bytes) != order.header_hash {
        return Err(FillError::HeaderHash(asset));
    }
    let header = PackHeader::parse(&bytes).map_err(|fault| FillError::Header { asset, fault })?;
    if header.asset != asset || header.layout.pack_bytes() != order.pack_bytes {
        return Err(FillError::OtherPack(asset));
    }
    Ok((bytes, header))
}

/// Goes over the pack once. An extent that is rotten at the origin keeps no other from being filled.
async fn fill_gaps(keeper: &Keeper, pack: &Arc<Pack>, header: &Arc<PackHeader>) -> Result<(), FillError> {
    let mut rotten = Vec::new();
    let mut from = 0;
    while let Some(gap) = pack.held().first_gap(from, limits::FILL_EXTENTS_MAX) {
        let gap = before_hole(pack.layout(), gap);
        from = gap.end;
        fill_gap(keeper, pack, header, gap, &mut rotten).await?;
    }
    match rotten.first() {
        None => Ok(()),
        Some(&first) => Err(FillError::RottenOrigin { asset: pack.asset(), first, count: rotten.len() as u32 }),
    }
}

/// The part of `gap` up to the first extent that is not used to its end: the hole behind it is not worth sending, and in
/// a small pack it is all but everything.
fn before_hole(layout: &PackLayout, gap: Range<u32>) -> Range<u32> {
    let last = gap.clone().find(|&extent| layout.sealed_bytes(extent) < SEALED_EXTENT_BYTES);
    gap.start..last.map_or(gap.end, |last| last + 1)
}

async fn fill_gap(
    keeper: &Keeper,
    pack: &Arc<Pack>,
    header: &Arc<PackHeader>,
    gap: Range<u32>,
    rotten: &mut Vec<u32>,
) -> Result<(), FillError> {
    let layout = pack.layout();
    let offset = layout.extent_offset(gap.start);
    let last = gap.end - 1;
    let bytes = layout.extent_offset(last) + layout.sealed_bytes(last) as u64 - offset;
    let mut stream = PackStream::open(keeper.master(), pack.asset(), offset, bytes).await?;
    let mut sealed = Vec::with_capacity(SEALED_EXTENT_BYTES);
    for extent in gap {
        sealed.resize(layout.sealed_bytes(extent), 0);
        stream.read(&mut sealed).await?;
        let (to_fill, by) = (Arc::clone(pack), Arc::clone(header));
        let (room, filled) = blocking(move || {
            let filled = to_fill.fill_extent(&by, extent, &sealed);
            (sealed, filled)
        })
        .await;
        sealed = room;
        match filled {
            Ok(true) => keeper.on_filled(pack),
            Ok(false) => rotten.push(extent),
            Err(fault) => return Err(FillError::disk(keeper.folder().path(), fault)),
        }
    }
    Ok(())
}

/// Runs what waits for the disk where it may wait.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => panic::resume_unwind(panic),
            // The runtime is shutting down, and this task with it.
            Err(_) => std::future::pending().await,
        },
    }
}
