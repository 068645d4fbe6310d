//! One media server, as the registry keeps it.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use braidcast_media::AssetId;
use braidcast_proto::v1;
use braidcast_proto::v1::master_order::Order;
use tokio::sync::mpsc;

use crate::library::Asset;
use crate::limits::{
    HOLDING_ERROR_BYTES_MAX, HOLDING_ERRORS_MAX, HOLDINGS_MAX, REFUSAL_SHOWN, REFUSALS_MAX, REPLACE_AFTER,
};
use crate::net::Seldom;
use crate::tickets::KeyRing;

/// A media server. `Default` cannot be: it always has an address and keys.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) keys: KeyRing,
    /// When it was told of the current key; `None` while that is still to be sent.
    pub(crate) keys_announced: Option<Instant>,
    pub(crate) capacity_bytes: u64,
    /// Which Join it lives by; `None` if it has not joined since the master started.
    pub(crate) join: Option<u64>,
    /// Where its orders go; `None` while its heartbeat stream is closed.
    pub(crate) stream: Option<OrderStream>,
    pub(crate) report: Option<Report>,
    /// What it holds, as far as its stream has told.
    pub(crate) holdings: HashMap<AssetId, Holding>,
    /// Its stream has named all that it holds. Until then nobody knows what it lacks.
    pub(crate) complete: bool,
    pub(crate) last_seen: Option<Instant>,
    /// Somebody was answered at its address by the holder of its ticket key.
    pub(crate) proven: bool,
    pub(crate) probes: VecDeque<Probe>,
    /// Probes ordered since it joined.
    pub(crate) probes_ordered: usize,
    /// What it was last told about assets.
    pub(crate) told: HashMap<AssetId, Told>,
    pub(crate) verify_told: Option<Instant>,
    /// The last order that it did not follow, to protect a copy.
    pub(crate) refused: Option<Refused>,
    pub(crate) refusals_logged: Seldom,
    /// Copies that it holds of assets which the database neither has nor remembers as removed.
    pub(crate) unknown_copies: usize,
}

/// An order that a server did not follow.
pub(crate) struct Refused {
    pub(crate) at: Instant,
    pub(crate) asset: AssetId,
    /// The server's words.
    pub(crate) reason: String,
}

/// The master's end of a heartbeat stream.
pub(crate) struct OrderStream {
    /// Tells this stream from one that replaced it.
    pub(crate) number: u64,
    pub(crate) orders: mpsc::Sender<v1::MasterOrder>,
}

/// What a server said of itself last, without what it holds.
pub(crate) struct Report {
    pub(crate) at: Instant,
    /// The server's clock less the master's.
    pub(crate) clock_ahead_ms: i64,
    pub(crate) used_bytes: u64,
    pub(crate) free_bytes: u64,
    pub(crate) sessions: u32,
    pub(crate) sent_bytes: u64,
}

/// What a server says that it holds of an asset.
#[derive(PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) extents_held: u64,
    pub(crate) extents_total: u64,
    /// Why filling does not go on; empty while all is well.
    pub(crate) error: String,
    /// It does not go on because the origin's bytes do not match their hashes.
    pub(crate) origin_damaged: bool,
}

impl Holding {
    /// Whether this is all of `asset`.
    pub(crate) fn is_whole(&self, asset: &Asset) -> bool {
        self.extents_total == u64::from(asset.layout.extents()) && self.extents_held == self.extents_total
    }
}

/// A probe under way.
pub(crate) struct Probe {
    pub(crate) id: u64,
    /// Who was asked to make it.
    pub(crate) prober: String,
    pub(crate) at: Instant,
}

/// The last order about an asset, so that it is repeated in due time and not at every turn.
pub(crate) struct Told {
    pub(crate) to_hold: bool,
    /// It is a copy too many, and whole: the server keeps it until its room is needed, so the order is not repeated.
    pub(crate) is_spare: bool,
    pub(crate) at: Instant,
}

/// Why a server is not listed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unlisted {
    NotJoined,
    NoStream,
    Silent { age: Option<Duration> },
    ClockOff(ClockOff),
    Incomplete { named: usize },
    NotProven { address: SocketAddr },
}

/// A clock that differs too much.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) struct ClockOff {
    /// The server's clock less the master's.
    pub(crate) ahead_ms: i64,
}

impl ClockOff {
    /// Nothing if the difference is tolerated.
    pub(crate) fn check(ahead_ms: i64, skew_max: Duration) -> Result<(), Self> {
        let tolerated = u128::from(ahead_ms.unsigned_abs()) <= skew_max.as_millis();
        if tolerated { Ok(()) } else { Err(Self { ahead_ms }) }
    }

    pub(crate) fn seconds(self) -> u64 {
        self.ahead_ms.unsigned_abs().div_ceil(1_000)
    }

    pub(crate) fn direction(self) -> &'static str {
        if self.ahead_ms > 0 { "ahead" } else { "behind" }
    }
}

impl fmt::Display for Unlisted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJoined => f.write_str("it has not joined since the master started"),
            Self::NoStream => f.write_str("its heartbeat stream is closed: it has stopped, or cannot reach the master"),
            Self::Silent { age: Some(age) } => write!(f, "no report for {:.1} s", age.as_secs_f64()),
            Self::Silent { age: None } => f.write_str("it has not reported yet"),
            Self::ClockOff(off) => write!(
                f,
                "its clock is {} s {} of the master's: set both by NTP (`chronyc makestep`)",
                off.seconds(),
                off.direction()
            ),
            Self::Incomplete { named } => {
                write!(f, "it has not told yet all that it holds: {named} assets so far")
            }
            Self::NotProven { address } => {
                write!(f, "nobody has been answered at {address} yet: is the address right and UDP open there?")
            }
        }
    }
}

impl Server {
    /// What is wrong although it is listed; empty if nothing is.
    pub(super) fn complaints(&self, now: Instant) -> String {
        let refused = self.refused.as_ref().filter(|refused| now < refused.at + REFUSAL_SHOWN);
        let refused = refused.map(|Refused { asset, reason, .. }| match asset {
            // Not about an order: the server says what stands aside.
            AssetId(0) => reason.clone(),
            asset => format!("it refused an order about {asset}: {reason}"),
        });
        let unknown = (self.unknown_copies > 0).then(|| {
            format!("holds {} copies of videos that this master does not know; they are kept", self.unknown_copies)
        });
        let complaints = [refused, unknown, self.complaint()];
        complaints.into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// Takes note of orders that the server did not follow.
    pub(super) fn on_refusals(&mut self, now: Instant, server_id: &str, refusals: Vec<v1::Refusal>) {
        for v1::Refusal { asset, mut reason } in refusals.into_iter().take(REFUSALS_MAX) {
            let asset = AssetId(asset);
            reason.truncate(reason.floor_char_boundary(HOLDING_ERROR_BYTES_MAX));
            if let Some(times) = self.refusals_logged.on_event(now) {
                let what = "a media server did not follow an order, or keeps copies aside";
                tracing::warn!(server = server_id, %asset, reason, times, "{what}");
            }
            self.refused = Some(Refused { at: now, asset, reason });
        }
    }

    /// What keeps it from filling a video, if anything does.
    fn complaint(&self) -> Option<String> {
        let complaints = self.holdings.iter().filter(|(_, holding)| !holding.error.is_empty());
        complaints.min_by_key(|(asset, _)| **asset).map(|(asset, holding)| format!("asset {asset}: {}", holding.error))
    }

    /// A server that the database knows and that has not joined yet.
    pub(crate) fn absent(address: SocketAddr, keys: KeyRing) -> Self {
        Self {
            address,
            keys,
            keys_announced: None,
            capacity_bytes: 0,
            join: None,
            stream: None,
            report: None,
            holdings: HashMap::new(),
            complete: false,
            last_seen: None,
            proven: false,
            probes: VecDeque::new(),
            probes_ordered: 0,
            told: HashMap::new(),
            verify_told: None,
            refused: None,
            refusals_logged: Seldom::default(),
            unknown_copies: 0,
        }
    }

    /// Sends an order; false if the stream is closed or has too many waiting.
    pub(crate) fn order(&self, order: Order) -> bool {
        self.stream
            .as_ref()
            .is_some_and(|stream| stream.orders.try_send(v1::MasterOrder { order: Some(order) }).is_ok())
    }

    /// What it holds of `asset`, by its own word.
    pub(crate) fn holding(&self, asset: AssetId) -> Option<&Holding> {
        self.holdings.get(&asset)
    }

    /// Takes in what changed of what it holds; says whether anything did.
    pub(super) fn on_holdings(&mut self, reported: Vec<v1::Holding>, gone: &[u64], complete: bool) -> bool {
        let mut changed = complete && !self.complete;
        self.complete |= complete;
        let mut errors = self.holdings.values().filter(|holding| !holding.error.is_empty()).count();
        for (asset, mut holding) in reported.into_iter().map(holding) {
            let had_error = self.holdings.get(&asset).is_some_and(|known| !known.error.is_empty());
            errors -= usize::from(had_error);
            if errors >= HOLDING_ERRORS_MAX {
                holding.error = String::new();
            }
            errors += usize::from(!holding.error.is_empty());
            let is_full = self.holdings.len() >= HOLDINGS_MAX;
            match self.holdings.entry(asset) {
                Entry::Occupied(known) if *known.get() == holding => {}
                Entry::Vacant(_) if is_full => {}
                entry => {
                    entry.insert_entry(holding);
                    changed = true;
                }
            }
        }
        for asset in gone {
            changed |= self.holdings.remove(&AssetId(*asset)).is_some();
        }
        changed
    }

    /// Forgets what it holds once it has been gone for so long that its copies are placed elsewhere: its next stream
    /// names all of them anew. Says whether there was anything.
    pub(super) fn forget_if_gone(&mut self, now: Instant) -> bool {
        let is_gone = self.last_seen.is_none_or(|seen| now.saturating_duration_since(seen) >= REPLACE_AFTER);
        let forgets = self.stream.is_none() && is_gone && !self.holdings.is_empty();
        if forgets {
            (self.holdings, self.told) = (HashMap::new(), HashMap::new());
        }
        forgets
    }

    /// Whether clients are sent to it.
    pub(crate) fn check_listed(&self, now: Instant, timeout: Duration, skew_max: Duration) -> Result<(), Unlisted> {
        if self.join.is_none() {
            return Err(Unlisted::NotJoined);
        }
        if self.stream.is_none() {
            return Err(Unlisted::NoStream);
        }
        let Some(report) = &self.report else {
            return Err(Unlisted::Silent { age: None });
        };
        let age = now.saturating_duration_since(report.at);
        if age > timeout {
            return Err(Unlisted::Silent { age: Some(age) });
        }
        ClockOff::check(report.clock_ahead_ms, skew_max).map_err(Unlisted::ClockOff)?;
        if !self.complete {
            return Err(Unlisted::Incomplete { named: self.holdings.len() });
        }
        if !self.proven {
            return Err(Unlisted::NotProven { address: self.address });
        }
        Ok(())
    }
}

fn holding(reported: v1::Holding) -> (AssetId, Holding) {
    let v1::Holding { asset, extents_held, extents_total, mut error, origin_damaged } = reported;
    error.truncate(error.floor_char_boundary(HOLDING_ERROR_BYTES_MAX));
    (AssetId(asset), Holding { extents_held, extents_total, error, origin_damaged })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server() -> Server {
        Server::absent(([127, 0, 0, 1], 9).into(), KeyRing::draw())
    }

    fn reported(asset: u64, extents_held: u64) -> v1::Holding {
        v1::Holding { asset, extents_held, extents_total: 2, ..v1::Holding::default() }
    }

    #[test]
    fn only_what_differs_is_a_change() {
        let mut server = server();
        assert!(server.on_holdings(vec![reported(1, 2), reported(2, 0)], &[], false));
        assert!(server.on_holdings(Vec::new(), &[], true), "now all is known");
        assert!(!server.on_holdings(Vec::new(), &[], true));
        assert!(!server.on_holdings(vec![reported(1, 2)], &[], true));
        assert!(server.on_holdings(vec![reported(2, 1)], &[], true));
        assert!(server.on_holdings(Vec::new(), &[1], true));
        assert!(!server.on_holdings(Vec::new(), &[1, 7], true));
        assert!(server.complete, "once told, for as long as the stream lasts");
        assert_eq!(server.holdings.keys().copied().collect::<Vec<_>>(), [AssetId(2)]);
    }

    #[test]
    fn texts_of_errors_are_bounded_in_all_and_one_that_is_gone_leaves_room_for_another() {
        let mut server = server();
        let failed = |asset| v1::Holding { error: "x".repeat(9_999), ..reported(asset, 0) };
        server.on_holdings((0..500).map(failed).collect(), &[], true);
        let kept = |server: &Server| server.holdings.values().filter(|holding| !holding.error.is_empty()).count();
        assert_eq!((server.holdings.len(), kept(&server)), (500, HOLDING_ERRORS_MAX));
        let whole = (0..500).find(|asset| server.holdings[&AssetId(*asset)].error.is_empty()).expect("one");
        let lost = (0..500).find(|asset| !server.holdings[&AssetId(*asset)].error.is_empty()).expect("one");
        server.on_holdings(vec![reported(lost, 1)], &[], true);
        server.on_holdings(vec![failed(whole)], &[], true);
        assert_eq!(kept(&server), HOLDING_ERRORS_MAX);
    }

    #[test]
    fn what_a_server_held_is_forgotten_once_it_is_given_up() {
        let (mut server, now) = (server(), Instant::now());
        server.on_holdings(vec![reported(1, 2)], &[], true);
        server.last_seen = Some(now);
        assert!(!server.forget_if_gone(now + REPLACE_AFTER / 2), "a restart takes seconds");
        assert!(server.forget_if_gone(now + REPLACE_AFTER) && server.holdings.is_empty());
        assert!(!server.forget_if_gone(now + REPLACE_AFTER));
    }

    #[test]
    fn what_a_server_names_is_bounded_and_what_is_known_may_still_change() {
        let mut server = server();
        let all = (0..HOLDINGS_MAX as u64).map(|asset| reported(asset, 0)).collect();
        assert!(server.on_holdings(all, &[], true));
        assert!(!server.on_holdings(vec![reported(u64::MAX, 0)], &[], true));
        assert!(server.on_holdings(vec![reported(5, 1)], &[], true));
        assert_eq!(server.holdings.len(), HOLDINGS_MAX);
        assert!(server.on_holdings(vec![reported(u64::MAX, 0)], &[7], true), "one goes");
        assert!(server.on_holdings(vec![reported(u64::MAX, 0)], &[], true), "and another has room");
    }
}
