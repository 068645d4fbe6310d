//! The media servers that the master knows: who is there, what they hold, who is listed.
//!
//! Reads no clock and touches no database; what it has to say to servers goes into their streams. `steering` and
//! `probing` decide what that is.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use braidcast_media::AssetId;
use braidcast_proto::v1;
use braidcast_proto::v1::master_order::Order;
use tokio::sync::mpsc;

use crate::cluster::pace::Pace;
use crate::cluster::server::{Holding, OrderStream, Report, Server};
use crate::errors::ServiceError;
use crate::library::Asset;
use crate::limits::VERIFY_PAUSE;
use crate::tickets::{KeyRing, NumberedKey};

/// All servers, by id.
pub(crate) struct Registry {
    pub(crate) servers: BTreeMap<String, Server>,
    heartbeat_timeout: Duration,
    clock_skew_max: Duration,
    streams_opened: u64,
    /// When all assets are to be looked at again.
    pub(super) pace: Pace,
}

/// What a server brings when it joins.
pub(crate) struct Joining {
    pub(crate) join: u64,
    pub(crate) address: SocketAddr,
    pub(crate) capacity_bytes: u64,
    pub(crate) keys: KeyRing,
}

/// A listed server that holds all of an asset.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) server_id: String,
    pub(crate) address: SocketAddr,
    /// Clients that it serves.
    pub(crate) sessions: u32,
    /// What to seal its tickets under.
    pub(crate) key: NumberedKey,
}

impl Registry {
    pub(crate) fn new(heartbeat_timeout: Duration, clock_skew_max: Duration) -> Self {
        Self { servers: BTreeMap::new(), heartbeat_timeout, clock_skew_max, streams_opened: 0, pace: Pace::default() }
    }

    /// A server that the database knows.
    pub(crate) fn restore(&mut self, server_id: String, address: SocketAddr, keys: KeyRing) {
        self.servers.insert(server_id, Server::absent(address, keys));
    }

    /// The keys of a server, if it is known.
    pub(crate) fn keys(&self, server_id: &str) -> Option<&KeyRing> {
        self.servers.get(server_id).map(|server| &server.keys)
    }

    /// A server joins; what was known of an earlier process with its id is forgotten, and that one's stream closed.
    pub(crate) fn join(&mut self, now: Instant, server_id: String, joining: Joining) {
        let Joining { join, address, capacity_bytes, keys } = joining;
        let server = Server {
            join: Some(join),
            capacity_bytes,
            // The answer to Join carries them.
            keys_announced: Some(now),
            last_seen: Some(now),
            ..Server::absent(address, keys)
        };
        self.servers.insert(server_id, server);
        self.pace.on_change();
    }

    /// Opens the stream of the server that joined as `join`; gives the stream's number. Nothing if another has
    /// joined in its place, or none has.
    pub(crate) fn attach(&mut self, server_id: &str, join: u64, orders: mpsc::Sender<v1::MasterOrder>) -> Option<u64> {
        let server = self.servers.get_mut(server_id).filter(|server| server.join == Some(join))?;
        self.streams_opened += 1;
        server.stream = Some(OrderStream { number: self.streams_opened, orders });
        // A stream names all that is held anew.
        server.holdings.clear();
        server.complete = false;
        self.pace.on_change();
        Some(self.streams_opened)
    }

    /// A stream has ended. One that was replaced ends without effect.
    pub(crate) fn detach(&mut self, server_id: &str, stream: u64) {
        if let Some(server) = self.attached_mut(server_id, stream) {
            server.stream = None;
        }
    }

    /// Forgets what servers held that have been gone for long.
    pub(super) fn forget_gone(&mut self, now: Instant) {
        for server in self.servers.values_mut() {
            if server.forget_if_gone(now) {
                self.pace.on_change();
            }
        }
    }

    /// Closes all streams.
    pub(crate) fn detach_all(&mut self) {
        for server in self.servers.values_mut() {
            server.stream = None;
        }
    }

    /// A report came in on a stream; says whether something is to be done about it at once. `None` if that stream was
    /// replaced.
    pub(crate) fn on_report(
        &mut self,
        now: Instant,
        now_ms: u64,
        server_id: &str,
        stream: u64,
        report: v1::ServerReport,
    ) -> Option<bool> {
        let server = self.attached_mut(server_id, stream)?;
        let probes = report.probes;
        server.on_refusals(now, server_id, report.refusals);
        let is_first = server.report.is_none() || (report.complete && !server.complete);
        server.report = Some(Report {
            at: now,
            clock_ahead_ms: clock_ahead_ms(report.clock_ms, now_ms),
            used_bytes: report.used_bytes,
            free_bytes: report.free_bytes,
            sessions: report.sessions,
            sent_bytes: report.sent_bytes,
        });
        server.last_seen = Some(now);
        if server.on_holdings(report.holdings, &report.gone, report.complete) {
            self.pace.on_change();
        }
        self.on_probe_results(server_id, &probes);
        Some(is_first || !probes.is_empty())
    }

    /// Whether clients are sent to this server, and why not.
    pub(super) fn is_listed(&self, now: Instant, server: &Server) -> bool {
        server.check_listed(now, self.heartbeat_timeout, self.clock_skew_max).is_ok()
    }

    /// How many servers are listed.
    pub(crate) fn listed(&self, now: Instant) -> usize {
        self.servers.values().filter(|server| self.is_listed(now, server)).count()
    }

    /// The listed servers that hold all of `asset`, in the order of their ids.
    pub(crate) fn holders(&self, now: Instant, asset: &Asset) -> Vec<Holder> {
        let holds = |server: &Server| server.holding(asset.id).is_some_and(|holding| holding.is_whole(asset));
        self.servers
            .iter()
            .filter(|(_, server)| holds(server) && self.is_listed(now, server))
            .map(|(id, server)| Holder {
                server_id: id.clone(),
                address: server.address,
                sessions: server.report.as_ref().map_or(0, |report| report.sessions),
                key: server.keys.sealing(now, server.keys_announced).clone(),
            })
            .collect()
    }

    /// The id of a server, named by its id or address, that has no stream.
    pub(crate) fn disconnected(&self, name: &str) -> Result<String, ServiceError> {
        let by_address = || self.servers.iter().find(|(_, server)| server.address.to_string() == name);
        let found = self.servers.get_key_value(name).or_else(by_address);
        let (server_id, server) = found.ok_or_else(|| ServiceError::NoServer { server: name.to_owned() })?;
        match server.stream {
            None => Ok(server_id.clone()),
            Some(_) => Err(ServiceError::ServerConnected { server_id: server_id.clone() }),
        }
    }

    /// All servers, as the catalogue shows them.
    pub(crate) fn statuses(&self, now: Instant) -> Vec<v1::ServerStatus> {
        self.servers.iter().map(|(id, server)| self.status(now, id, server)).collect()
    }

    fn status(&self, now: Instant, id: &str, server: &Server) -> v1::ServerStatus {
        let unlisted = server.check_listed(now, self.heartbeat_timeout, self.clock_skew_max).err();
        let age = server.last_seen.map(|seen| now.saturating_duration_since(seen));
        let report = server.report.as_ref();
        v1::ServerStatus {
            server_id: id.to_owned(),
            address: server.address.to_string(),
            listed: unlisted.is_none(),
            reason: unlisted.map_or_else(|| server.complaints(now), |why| why.to_string()),
            heartbeat_age_ms: age.map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            capacity_bytes: server.capacity_bytes,
            used_bytes: report.map_or(0, |report| report.used_bytes),
            assets_held: {
                let whole = |holding: &&Holding| holding.extents_held == holding.extents_total;
                u32::try_from(server.holdings.values().filter(whole).count()).unwrap_or(u32::MAX)
            },
            sessions: report.map_or(0, |report| report.sessions),
            sent_bytes: report.map_or(0, |report| report.sent_bytes),
        }
    }

    /// Gives a server new keys; it is told at the next turn.
    pub(crate) fn set_keys(&mut self, server_id: &str, keys: KeyRing) {
        if let Some(server) = self.servers.get_mut(server_id) {
            server.keys = keys;
            server.keys_announced = None;
        }
    }

    /// Attached servers whose keys have served their time.
    pub(crate) fn due_for_rotation(&self, now_unix_s: u64, rotation: Duration) -> Vec<String> {
        self.servers
            .iter()
            .filter(|(_, server)| server.stream.is_some() && server.keys.is_due(now_unix_s, rotation))
            .map(|(id, _)| id.clone())
            .collect()
    }

    /// Servers that are connected and hold all of `asset`, in the order of their ids.
    pub(crate) fn whole_copies(&self, asset: &Asset) -> Vec<String> {
        let has = |server: &Server| {
            server.stream.is_some() && server.holding(asset.id).is_some_and(|holding| holding.is_whole(asset))
        };
        self.servers.iter().filter(|(_, server)| has(server)).map(|(id, _)| id.clone()).collect()
    }

    /// Assets of which a server says that the origin's bytes do not match their hashes.
    pub(crate) fn accused(&self) -> Vec<AssetId> {
        let holdings = self.servers.values().flat_map(|server| &server.holdings);
        holdings.filter(|(_, holding)| holding.origin_damaged).map(|(asset, _)| *asset).collect()
    }

    /// Has a server send its copy to the origin; false if it cannot be told now.
    pub(crate) fn push(&self, server_id: &str, order: v1::PushOrder) -> bool {
        self.servers.get(server_id).is_some_and(|server| server.order(Order::Push(order)))
    }

    /// Has a server check extents of its copy, unless it was told to a moment ago.
    pub(crate) fn verify(&mut self, now: Instant, server_id: &str, order: v1::VerifyOrder) {
        let Some(server) = self.servers.get_mut(server_id) else { return };
        let early = server.verify_told.is_some_and(|told| now < told + VERIFY_PAUSE);
        if !early && server.order(Order::Verify(order)) {
            server.verify_told = Some(now);
        }
    }

    fn attached_mut(&mut self, server_id: &str, stream: u64) -> Option<&mut Server> {
        self.servers
            .get_mut(server_id)
            .filter(|server| server.stream.as_ref().is_some_and(|open| open.number == stream))
    }
}

/// The server's clock less the master's.
pub(crate) fn clock_ahead_ms(server_ms: u64, master_ms: u64) -> i64 {
    let ahead = i128::from(server_ms) - i128::from(master_ms);
    i64::try_from(ahead).unwrap_or(if ahead > 0 { i64::MAX } else { i64::MIN })
}
