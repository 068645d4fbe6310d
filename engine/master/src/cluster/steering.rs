//! What servers are told to hold and to drop.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use braidcast_media::AssetId;
use braidcast_proto::v1;
use braidcast_proto::v1::master_order::Order;

use crate::cluster::placement::{Candidate, Wanted, place};
use crate::cluster::registry::Registry;
use crate::cluster::server::{Server, Told};
use crate::healing::condition::Damage;
use crate::library::Asset;
use crate::limits::{HOLD_REPEAT, REPLACE_AFTER};

/// What there is to hold.
pub(crate) struct Goal<'a> {
    /// All videos.
    pub(crate) assets: &'a [Arc<Asset>],
    /// Their ids.
    pub(crate) known: &'a HashSet<AssetId>,
    /// Those whose durable copy is not sound: copies of them may be the last.
    pub(crate) unsound: &'a HashMap<AssetId, Damage>,
    /// Whether a person removed this asset: only then are copies of an asset that is not known dropped.
    pub(crate) is_removed: &'a dyn Fn(AssetId) -> bool,
    /// How many servers hold an asset that does not say; 0 = all.
    pub(crate) default_replicas: u32,
}

impl Registry {
    /// Tells servers of new keys, what to hold and what to drop.
    pub(crate) fn steer(&mut self, now: Instant, goal: &Goal<'_>) {
        for server in self.servers.values_mut() {
            let is_held = |asset: &AssetId| server.report.as_ref().is_some_and(|r| r.holdings.contains_key(asset));
            server.told.retain(|asset, told| now < told.at + HOLD_REPEAT || told.is_spare && is_held(asset));
            announce_keys(server, now);
        }
        for asset in goal.assets {
            match goal.unsound.get(&asset.id) {
                // Nobody can fill it, and every copy may be needed.
                Some(Damage::Lost) => {}
                Some(Damage::Parts(_)) => self.steer_asset(now, asset, goal.default_replicas, Extra::Kept),
                None => self.steer_asset(now, asset, goal.default_replicas, Extra::Dropped),
            }
        }
        for (id, server) in &mut self.servers {
            drop_removed(id, server, now, goal);
        }
    }

    /// The servers that should hold `asset`.
    pub(crate) fn placed(&self, now: Instant, asset: &Asset, default_replicas: u32) -> Vec<String> {
        let present: Vec<(&String, &Server, u64)> = self
            .servers
            .iter()
            .filter(|(_, server)| is_present(server, now))
            .filter_map(|(id, server)| Some((id, server, server.report.as_ref()?.free_bytes)))
            .collect();
        let candidates: Vec<Candidate<'_>> = present
            .iter()
            .map(|(id, server, free_bytes)| Candidate {
                server_id: id,
                capacity_bytes: server.capacity_bytes,
                free_bytes: *free_bytes,
                holds: server.holding(asset.id).is_some()
                    || server.told.get(&asset.id).is_some_and(|told| told.to_hold),
            })
            .collect();
        let replicas = if asset.replicas == 0 { default_replicas } else { asset.replicas };
        let wanted = Wanted { asset: asset.id, pack_bytes: asset.layout.pack_bytes(), replicas };
        place(wanted, &candidates).into_iter().map(|index| present[index].0.clone()).collect()
    }

    fn steer_asset(&mut self, now: Instant, asset: &Asset, default_replicas: u32, extra: Extra) {
        let placed: HashSet<String> = self.placed(now, asset, default_replicas).into_iter().collect();
        let whole = |server: &Server| server.holding(asset.id).is_some_and(|holding| holding.is_whole(asset));
        // A copy too many is dropped only when all that should be there are there and can be reached.
        let settled = extra == Extra::Dropped
            && !placed.is_empty()
            && placed.iter().all(|id| self.lists(now, id) && self.servers.get(id).is_some_and(whole));
        for (id, server) in &mut self.servers {
            let held = server.holding(asset.id);
            if placed.contains(id) {
                // Also one that has a part: it may have been restarted, and not know that the rest is wanted.
                let is_spare = server.told.get(&asset.id).is_some_and(|told| told.is_spare);
                if is_spare || held.is_none_or(|holding| !holding.is_whole(asset)) {
                    tell(server, now, asset.id, &Want::Held(asset));
                }
            } else if settled && let Some(holding) = held {
                let is_whole = holding.is_whole(asset);
                tell(server, now, asset.id, &Want::Surplus { is_whole });
            }
        }
    }

    /// How many servers should hold each asset and how many listed ones do.
    pub(crate) fn replicas(&self, now: Instant, assets: &[Arc<Asset>], default: u32) -> HashMap<AssetId, (u32, u32)> {
        let present = self.servers.values().filter(|server| is_present(server, now)).count();
        let all = u32::try_from(present).unwrap_or(u32::MAX);
        let count = |asset: &Arc<Asset>| {
            let wanted = [asset.replicas, default, all].into_iter().find(|n| *n > 0).unwrap_or(0);
            let held = u32::try_from(self.holders(now, asset).len()).unwrap_or(u32::MAX);
            (asset.id, (wanted, held))
        };
        assets.iter().map(count).collect()
    }
}

/// There, or gone for no longer than a restart takes.
fn is_present(server: &Server, now: Instant) -> bool {
    server.stream.is_some() || server.last_seen.is_some_and(|seen| now < seen + REPLACE_AFTER)
}

fn announce_keys(server: &mut Server, now: Instant) {
    if server.keys_announced.is_none() && server.stream.is_some() {
        let keys = v1::TicketKeys { keys: server.keys.to_proto() };
        if server.order(Order::TicketKeys(keys)) {
            server.keys_announced = Some(now);
        }
    }
}

/// What becomes of copies beyond those that are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extra {
    Kept,
    Dropped,
}

/// What a server is to do about an asset.
enum Want<'a> {
    Held(&'a Asset),
    /// Others hold it as often as is wanted.
    Surplus {
        is_whole: bool,
    },
    /// A person removed it.
    Removed,
}

/// Has a server drop what a person removed, and counts what nobody knows: an older database may have been put in place.
fn drop_removed(id: &str, server: &mut Server, now: Instant, goal: &Goal<'_>) {
    let held = server.report.iter().flat_map(|report| report.holdings.keys().copied());
    let unknown = held.filter(|asset| !goal.known.contains(asset));
    let (removed, strange): (Vec<AssetId>, Vec<AssetId>) = unknown.partition(|asset| (goal.is_removed)(*asset));
    for asset in removed {
        tell(server, now, asset, &Want::Removed);
    }
    if strange.len() > server.unknown_copies {
        let copies = strange.len();
        tracing::warn!(
            server = id,
            copies,
            "a server holds copies of videos that the database does not know; they are kept"
        );
    }
    server.unknown_copies = strange.len();
}

/// Tells a server what to do about an asset; once in a while, not at every turn.
fn tell(server: &mut Server, now: Instant, id: AssetId, want: &Want<'_>) {
    let to_hold = matches!(want, Want::Held(_));
    if server.told.get(&id).is_some_and(|told| told.to_hold == to_hold) {
        return;
    }
    let drop = |reason: v1::DropReason| Order::Drop(v1::DropOrder { asset: id.0, reason: reason.into() });
    let order = match want {
        Want::Held(asset) => Order::Hold(v1::HoldOrder {
            asset: id.0,
            header_hash: asset.header_hash.to_vec(),
            header_bytes: asset.layout.header_bytes(),
            pack_bytes: asset.layout.pack_bytes(),
        }),
        Want::Surplus { .. } => drop(v1::DropReason::Surplus),
        //= PROTOCOL K3: A master MUST NOT order a copy to be dropped as removed unless a person removed or replaced its video.
        Want::Removed => drop(v1::DropReason::Removed),
    };
    if server.order(order) {
        let is_spare = matches!(want, Want::Surplus { is_whole: true });
        server.told.insert(id, Told { to_hold, is_spare, at: now });
    }
}
