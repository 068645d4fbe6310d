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
use crate::library::Asset;
use crate::limits::{HOLD_REPEAT, REPLACE_AFTER};

/// What there is to hold.
pub(crate) struct Goal<'a> {
    /// The assets that can be watched.
    pub(crate) assets: &'a [Arc<Asset>],
    /// These and the ones whose packs are lost, whose copies may be the last.
    pub(crate) known: &'a HashSet<AssetId>,
    /// How many servers hold an asset that does not say; 0 = all.
    pub(crate) default_replicas: u32,
}

impl Registry {
    /// Tells servers of new keys, what to hold and what to drop.
    pub(crate) fn steer(&mut self, now: Instant, goal: &Goal<'_>) {
        for server in self.servers.values_mut() {
            server.told.retain(|_, told| now < told.at + HOLD_REPEAT);
            announce_keys(server, now);
        }
        for asset in goal.assets {
            self.steer_asset(now, asset, goal.default_replicas);
        }
        for server in self.servers.values_mut() {
            let held = server.report.iter().flat_map(|report| report.holdings.keys().copied());
            let unknown: Vec<AssetId> = held.filter(|asset| !goal.known.contains(asset)).collect();
            for asset in unknown {
                tell(server, now, asset, None);
            }
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

    fn steer_asset(&mut self, now: Instant, asset: &Asset, default_replicas: u32) {
        let placed: HashSet<String> = self.placed(now, asset, default_replicas).into_iter().collect();
        let whole = |server: &Server| server.holding(asset.id).is_some_and(|holding| holding.is_whole(asset));
        // A copy too many is dropped only when all that should be there are there and can be reached.
        let settled = !placed.is_empty()
            && placed.iter().all(|id| self.lists(now, id) && self.servers.get(id).is_some_and(whole));
        for (id, server) in &mut self.servers {
            let held = server.holding(asset.id);
            if placed.contains(id) {
                // Also one that has a part: it may have been restarted, and not know that the rest is wanted.
                if held.is_none_or(|holding| !holding.is_whole(asset)) {
                    tell(server, now, asset.id, Some(asset));
                }
            } else if held.is_some() && settled {
                tell(server, now, asset.id, None);
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

/// Tells a server to hold `asset` or, with none, to drop what has this id; once in a while, not at every turn.
fn tell(server: &mut Server, now: Instant, id: AssetId, asset: Option<&Asset>) {
    let to_hold = asset.is_some();
    if server.told.get(&id).is_some_and(|told| told.to_hold == to_hold) {
        return;
    }
    let order = match asset {
        Some(asset) => Order::Hold(v1::HoldOrder {
            asset: id.0,
            header_hash: asset.header_hash.to_vec(),
            header_bytes: asset.layout.header_bytes(),
            pack_bytes: asset.layout.pack_bytes(),
        }),
        None => Order::Drop(v1::DropOrder { asset: id.0, reason: v1::DropReason::Removed.into() }),
    };
    if server.order(order) {
        server.told.insert(id, Told { to_hold, at: now });
    }
}
