//! All connections of a server, and how many of them an address has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Instant;

use super::StreamBounds;
use super::connection::Connection;

/// Connections by key and by peer.
#[derive(Default)]
pub(super) struct Table {
    connections: HashMap<usize, Connection>,
    by_peer: HashMap<SocketAddr, usize>,
    by_address: HashMap<IpAddr, usize>,
}

impl Table {
    /// Makes room for another connection from `peer`, if the bounds leave none; says whether there is room now.
    pub(super) fn make_room(&mut self, peer: SocketAddr, bounds: &StreamBounds) -> bool {
        //= PROTOCOL T3: A server MUST bound the connections that it holds, in all and of one client address. One beyond takes the place of the oldest that no HELLO has let in, of the address that has most of those; where there is none, the server MUST close it at once.
        let of_address = self.by_address.get(&address(peer)).copied().unwrap_or(0);
        // Where there are few connections, as with few descriptors, one address must not have them all.
        let per_address = bounds.per_address.min(bounds.connections.div_ceil(2));
        let is_own_full = of_address >= per_address;
        if !is_own_full && self.connections.len() < bounds.connections {
            return true;
        }
        let leaves = self.oldest_stranger(is_own_full.then(|| address(peer)));
        leaves.inspect(|key| self.remove(*key)).is_some()
    }

    /// The oldest connection that nobody has been let in on, of `address`, or else of the address that has most of them:
    /// an honest client needs milliseconds to be let in, and is never the oldest of many.
    fn oldest_stranger(&self, of: Option<IpAddr>) -> Option<usize> {
        let strangers = || self.connections.iter().filter(|(_, connection)| !connection.is_admitted);
        let of = of.or_else(|| {
            let mut counts: HashMap<IpAddr, usize> = HashMap::new();
            strangers().for_each(|(_, connection)| *counts.entry(address(connection.peer)).or_default() += 1);
            counts.into_iter().max_by_key(|(_, count)| *count).map(|(address, _)| address)
        })?;
        let of_address = strangers().filter(|(_, connection)| address(connection.peer) == of);
        // Keys count up.
        of_address.map(|(key, _)| *key).min()
    }

    pub(super) fn insert(&mut self, key: usize, connection: Connection) {
        *self.by_address.entry(address(connection.peer)).or_default() += 1;
        self.by_peer.insert(connection.peer, key);
        self.connections.insert(key, connection);
    }

    /// Closes a connection.
    pub(super) fn remove(&mut self, key: usize) {
        let Some(connection) = self.connections.remove(&key) else { return };
        let peer = connection.peer;
        if self.by_peer.get(&peer) == Some(&key) {
            self.by_peer.remove(&peer);
        }
        if let Some(count) = self.by_address.get_mut(&address(peer)) {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address(peer));
            }
        }
    }

    pub(super) fn get_mut(&mut self, key: usize) -> Option<&mut Connection> {
        self.connections.get_mut(&key)
    }

    pub(super) fn key_of(&self, peer: SocketAddr) -> Option<usize> {
        self.by_peer.get(&peer).copied()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.connections.is_empty()
    }

    /// Whether answers wait on any connection.
    pub(super) fn has_queued(&self) -> bool {
        self.connections.values().any(Connection::has_queued)
    }

    /// Connections that have run out of time.
    pub(super) fn overdue(&self, now: Instant, bounds: &StreamBounds) -> Vec<usize> {
        let is_overdue = |connection: &Connection| {
            //= PROTOCOL T2: A server MUST close a connection on which no HELLO has earned a WELCOME 5 s after it was accepted.
            let stranger = !connection.is_admitted && now >= connection.accepted_at + bounds.admitted_within;
            //= PROTOCOL T5: A server MUST close a connection on which no byte has moved for 120 s.
            stranger || now >= connection.moved_at + bounds.idle
        };
        self.connections.iter().filter(|(_, connection)| is_overdue(connection)).map(|(key, _)| *key).collect()
    }
}

/// What counts as one client: an IPv4 address, or the /64 of an IPv6 address, all of which one host may use.
fn address(peer: SocketAddr) -> IpAddr {
    match peer.ip() {
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        ip => ip,
    }
}
