//! Hashes what is held, a little at a time, so that damage is found before a client meets it.
//!
//! A round begins when the server starts, and after a round no sooner than a round's least time has passed. What is read
//! once leaves the page cache first (the kernel's list of inactive pages), so it does not push out what is being watched.
//!
//! Only what was read and is wrong is filled again. A disk that cannot be read just now is no reason to drop a library.

use std::sync::Arc;
use std::time::Duration;

use braidcast_media::pack::PackHeader;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, info, warn};

use crate::fill::blocking;
use crate::keeper::Keeper;
use crate::limits;
use crate::pack::{Pack, PackFault};

/// Goes on until it is aborted. `bytes_s`: how fast packs are read.
pub(crate) async fn run(keeper: Arc<Keeper>, bytes_s: u64) {
    loop {
        let next_round = Instant::now() + limits::SCRUB_ROUND_MIN;
        let mut scrubbed = 0;
        // Packs are not held on to: one that is dropped meanwhile is to leave the disk at once.
        for asset in keeper.assets() {
            let Some(pack) = keeper.pack(asset) else { continue };
            match scrub(&keeper, &pack, bytes_s).await {
                Ok(extents) => scrubbed += extents,
                Err(fault) => {
                    warn!(%asset, %fault, "a pack cannot be scrubbed");
                    let keeper = Arc::clone(&keeper);
                    blocking(move || keeper.on_fault(&pack, &fault)).await;
                }
            }
        }
        debug!(extents = scrubbed, "a round of scrubbing is over");
        sleep_until(next_round).await;
    }
}

/// Hashes every extent of `pack` that is held, until the pack is dropped; says how many those were.
async fn scrub(keeper: &Arc<Keeper>, pack: &Arc<Pack>, bytes_s: u64) -> Result<u64, PackFault> {
    let same = Arc::clone(pack);
    let header = Arc::new(blocking(move || same.read_header()).await?);
    let mut scrubbed = 0;
    let mut room = Vec::new();
    for extent in (0..pack.layout().extents()).filter(|extent| pack.held().contains(*extent)) {
        if !keeper.keeps(pack) {
            break;
        }
        let began = Instant::now();
        let (same_keeper, same, header) = (Arc::clone(keeper), Arc::clone(pack), Arc::clone(&header));
        let checked = blocking(move || {
            let checked = check(&same_keeper, &same, &header, extent, &mut room);
            (checked, room)
        });
        let sound;
        (sound, room) = checked.await;
        sound?;
        scrubbed += 1;
        let bytes = pack.layout().sealed_bytes(extent) as f64;
        let due = Duration::from_secs_f64(bytes / bytes_s as f64);
        sleep(due.saturating_sub(began.elapsed())).await;
    }
    Ok(scrubbed)
}

fn check(
    keeper: &Arc<Keeper>,
    pack: &Arc<Pack>,
    header: &PackHeader,
    extent: u32,
    room: &mut Vec<u8>,
) -> Result<(), PackFault> {
    // Once more, if it is wrong: it may just have been filled anew.
    if pack.extent_matches(header, extent, room)? || pack.extent_matches(header, extent, room)? {
        return Ok(());
    }
    info!(asset = %pack.asset(), extent, "found rotten by scrubbing");
    keeper.on_rotten(pack, &[extent]);
    Ok(())
}
