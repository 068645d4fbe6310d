//! Reads the origin's packs in the background, so that damage is found while media servers still hold whole copies.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};

use crate::healing::check::{self, Checked};
use crate::healing::condition::{Damage, Parts};
use crate::healing::{Healing, run_blocking};
use crate::library::Asset;
use crate::limits::{SCRUB_BATCH_EXTENTS, SCRUB_ROUND_MIN};

/// Checks every pack's length and header once, and then, at `bytes_s` bytes per second, every extent of every pack, again
/// and again. 0: extents are not read.
pub(crate) async fn run(healing: Arc<Healing>, bytes_s: u64) {
    for asset in healing.library.list() {
        // What is known to be wrong is looked at in its turn.
        if healing.library.damage(asset.id).is_some() {
            continue;
        }
        let (origin, id, same) = (healing.origin.clone(), asset.id, Arc::clone(&asset));
        let found = run_blocking(move || check::outline(&origin, &same)).await;
        // That length and header are right says nothing about damage that was found meanwhile.
        if !matches!(found, Ok(None)) {
            healing.on_checked(id, found).await;
        }
    }
    if bytes_s == 0 {
        return;
    }
    loop {
        let next_round = Instant::now() + SCRUB_ROUND_MIN;
        let mut packs = 0_usize;
        for asset in healing.library.list() {
            // Removed, lost or being written since the list was made.
            if healing.library.knows(asset.id) && healing.library.damage(asset.id).is_none() {
                scrub(&healing, &asset, bytes_s).await;
                packs += 1;
            }
        }
        tracing::debug!(packs, "a round of scrubbing the origin is over");
        sleep_until(next_round).await;
    }
}

/// Checks every extent of one pack, a few at a time.
async fn scrub(healing: &Healing, asset: &Arc<Asset>, bytes_s: u64) {
    let mut found = Parts::default();
    let mut first = 0;
    while first < asset.layout.extents() && healing.library.knows(asset.id) {
        let began = Instant::now();
        let last = (first + SCRUB_BATCH_EXTENTS).min(asset.layout.extents());
        let (origin, same) = (healing.origin.clone(), Arc::clone(asset));
        let batch = run_blocking(move || -> std::io::Result<Result<Parts, Damage>> {
            let mut checked = match Checked::open(&origin, &same)? {
                Ok(checked) => checked,
                Err(damage) => return Ok(Err(damage)),
            };
            for extent in first..last {
                checked.extent(extent)?;
            }
            Ok(Ok(checked.into_parts()))
        });
        match batch.await {
            Ok(Ok(parts)) => {
                found.header |= parts.header;
                found.length |= parts.length;
                found.extents.extend(parts.extents);
            }
            Ok(Err(damage)) => return healing.on_checked(asset.id, Ok(Some(damage))).await,
            Err(error) => return healing.on_checked(asset.id, Err(error)).await,
        }
        if found.header {
            // No extent can be checked before the header is back.
            break;
        }
        let bytes: u64 = (first..last).map(|extent| asset.layout.sealed_bytes(extent) as u64).sum();
        first = last;
        sleep(Duration::from_secs_f64(bytes as f64 / bytes_s as f64).saturating_sub(began.elapsed())).await;
    }
    if !found.is_sound() {
        healing.on_checked(asset.id, Ok(found.into_damage())).await;
    }
}
