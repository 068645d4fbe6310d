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
    /// Of the library, so that a change of it is noticed.
    pub(crate) version: u64,
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

/// A server while all assets are looked at: what does not depend on the asset is found out once.
struct Seat<'a> {
    id: &'a str,
    server: &'a mut Server,
    is_present: bool,
    is_listed: bool,
}

impl Registry {
    /// Tells servers what to hold and what to drop; says whether their streams took all orders.
    pub(crate) fn steer(&mut self, now: Instant, goal: &Goal<'_>) -> bool {
        let listed: Vec<bool> = self.servers.values().map(|server| self.is_listed(now, server)).collect();
        for server in self.servers.values_mut() {
            let is_held = |asset: &AssetId| server.holdings.contains_key(asset);
            server.told.retain(|asset, told| now < told.at + HOLD_REPEAT || (told.is_spare && is_held(asset)));
        }
        let seats = self.servers.iter_mut().zip(listed);
        let mut seats: Vec<Seat<'_>> = seats
            .map(|((id, server), is_listed)| Seat { id, is_present: is_present(server, now), is_listed, server })
            .collect();
        let mut sent = true;
        for asset in goal.assets {
            sent &= match goal.unsound.get(&asset.id) {
                // Nobody can fill it, and every copy may be needed.
                Some(damage) if damage.is_lost() => want_spare(&mut seats, now, asset),
                Some(_) => {
                    want_spare(&mut seats, now, asset)
                        & steer_asset(&mut seats, now, asset, goal.default_replicas, Extra::Kept)
                }
                None => steer_asset(&mut seats, now, asset, goal.default_replicas, Extra::Dropped),
            };
        }
        for Seat { id, server, .. } in &mut seats {
            sent &= drop_removed(id, server, now, goal);
        }
        let told = self.servers.values().flat_map(|server| server.told.values()).filter(|told| !told.is_spare);
        let repeat = told.map(|told| told.at + HOLD_REPEAT).min();
        self.on_steered(now, goal.version, if sent { repeat } else { Some(now) });
        sent
    }

    /// Tells servers of keys that they do not know yet.
    pub(crate) fn announce_keys(&mut self, now: Instant) {
        for server in self.servers.values_mut() {
            announce_keys(server, now);
        }
    }

    /// How many servers should hold each asset and how many listed ones do.
    pub(crate) fn replicas(&self, now: Instant, assets: &[Arc<Asset>], default: u32) -> HashMap<AssetId, (u32, u32)> {
        let present = self.servers.values().filter(|server| is_present(server, now)).count();
        let listed: Vec<&Server> = self.servers.values().filter(|server| self.is_listed(now, server)).collect();
        let all = u32::try_from(present).unwrap_or(u32::MAX);
        let count = |asset: &Arc<Asset>| {
            let wanted = [asset.replicas, default, all].into_iter().find(|n| *n > 0).unwrap_or(0);
            let held = listed.iter().filter(|server| holds_all(server, asset)).count();
            (asset.id, (wanted, u32::try_from(held).unwrap_or(u32::MAX)))
        };
        assets.iter().map(count).collect()
    }
}

/// Tells servers to hold `asset` or to drop it; says whether their streams took all orders.
fn steer_asset(seats: &mut [Seat<'_>], now: Instant, asset: &Asset, default_replicas: u32, extra: Extra) -> bool {
    let placed = placed(seats, asset, default_replicas);
    // A copy too many is dropped only when all that should be there are there and can be reached.
    let settled = extra == Extra::Dropped
        && !placed.is_empty()
        && placed.iter().all(|&index| seats[index].is_listed && holds_all(seats[index].server, asset));
    let mut sent = true;
    for (index, Seat { server, .. }) in seats.iter_mut().enumerate() {
        if placed.contains(&index) {
            // Also one that has a part: it may have been restarted, and not know that the rest is wanted.
            let is_spare = server.told.get(&asset.id).is_some_and(|told| told.is_spare);
            if is_spare || !holds_all(server, asset) {
                sent &= tell(server, now, asset.id, &Want::Held(asset));
            }
        } else if settled && server.holding(asset.id).is_some() {
            let is_whole = holds_all(server, asset);
            sent &= tell(server, now, asset.id, &Want::Surplus { is_whole });
        }
    }
    sent
}

/// Has every server hold again what it was told is held often enough, and would delete for other copies: the durable
/// copy is not sound. Says whether their streams took all orders.
fn want_spare(seats: &mut [Seat<'_>], now: Instant, asset: &Asset) -> bool {
    let mut sent = true;
    for Seat { server, .. } in seats {
        if server.told.get(&asset.id).is_some_and(|told| told.is_spare) {
            sent &= tell(server, now, asset.id, &Want::Held(asset));
        }
    }
    sent
}

/// The servers that should hold `asset`, by their seats.
fn placed(seats: &[Seat<'_>], asset: &Asset, default_replicas: u32) -> Vec<usize> {
    let present = || seats.iter().enumerate().filter(|(_, seat)| seat.is_present);
    let candidates: Vec<Candidate<'_>> = present()
        .map(|(_, Seat { id, server, .. })| Candidate {
            server_id: id,
            capacity_bytes: server.capacity_bytes,
            free_bytes: server.report.as_ref().map_or(0, |report| report.free_bytes),
            // One that has not told yet what it holds was restarted, and most likely holds it as before.
            holds: !server.complete
                || server.holding(asset.id).is_some()
                || server.told.get(&asset.id).is_some_and(|told| told.to_hold),
        })
        .collect();
    let replicas = if asset.replicas == 0 { default_replicas } else { asset.replicas };
    let wanted = Wanted { asset: asset.id, disk_bytes: asset.layout.disk_bytes(), replicas };
    let mut placed = place(wanted, &candidates);
    if candidates.len() < seats.len() {
        let places: Vec<usize> = present().map(|(index, _)| index).collect();
        for index in &mut placed {
            *index = places[*index];
        }
    }
    placed
}

fn holds_all(server: &Server, asset: &Asset) -> bool {
    server.holding(asset.id).is_some_and(|holding| holding.is_whole(asset))
}

/// There, or gone for no longer than a restart takes.
pub(super) fn is_present(server: &Server, now: Instant) -> bool {
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
/// Says whether its stream took all orders.
fn drop_removed(id: &str, server: &mut Server, now: Instant, goal: &Goal<'_>) -> bool {
    let unknown = server.holdings.keys().copied().filter(|asset| !goal.known.contains(asset));
    let (removed, strange): (Vec<AssetId>, Vec<AssetId>) = unknown.partition(|asset| (goal.is_removed)(*asset));
    let copies = strange.len();
    if copies > server.unknown_copies {
        tracing::warn!(server = id, copies, "a server holds copies that the database does not know; they are kept");
    }
    server.unknown_copies = copies;
    let mut sent = true;
    for asset in removed {
        sent &= tell(server, now, asset, &Want::Removed);
    }
    sent
}

/// Tells a server what to do about an asset; once in a while, not at every turn. Says whether there is nothing left to
/// tell it about this asset: a server whose stream is closed, or has not named all that is held, is told later, when it
/// comes back or is done.
fn tell(server: &mut Server, now: Instant, id: AssetId, want: &Want<'_>) -> bool {
    let to_hold = matches!(want, Want::Held(_));
    let is_told = server.told.get(&id).is_some_and(|told| told.to_hold == to_hold);
    if is_told || !server.complete || server.stream.is_none() {
        return true;
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
    let sent = server.order(order);
    if sent {
        let is_spare = matches!(want, Want::Surplus { is_whole: true });
        server.told.insert(id, Told { to_hold, is_spare, at: now });
    }
    sent
}
