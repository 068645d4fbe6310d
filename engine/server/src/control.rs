//! The server's membership: Join, then the Heartbeat stream, and both again whenever that breaks.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use braidcast_media::ticket::TicketKey;
use braidcast_media::{AssetId, LibraryId};
use braidcast_proto::v1::master_order::Order as Kind;
use braidcast_proto::v1::{self, JoinRequest, MasterOrder, ProbeResult, ServerReport};
use tokio::net::{UdpSocket, lookup_host};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};
use tracing::{error, info, warn};
use zeroize::Zeroize;

use crate::backoff::Backoff;
use crate::catalogue::Shelf;
use crate::config::JoinToken;
use crate::counters::{self, ShardCounters};
use crate::error::ServerError;
use crate::fill::blocking;
use crate::keeper::Keeper;
use crate::limits;
use crate::master::{Master, bearer};
use crate::order::Order;
use crate::probe::Prober;
use crate::push::Pusher;
use crate::telling::Telling;
use crate::verify::Verifier;

/// What the membership needs to know of the server.
pub(crate) struct Control {
    pub(crate) master: Master,
    pub(crate) join_token: JoinToken,
    /// Where clients are to reach the server; unspecified if the route to the master is to tell.
    pub(crate) address: SocketAddr,
    pub(crate) keeper: Arc<Keeper>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) counters: Arc<[Arc<ShardCounters>]>,
}

/// Why the server is no member.
#[derive(Debug)]
pub(crate) enum JoinError {
    /// Asking again cannot help.
    Refused(ServerError),
    /// Asking again may help.
    NotNow(String),
}

impl Control {
    /// Asks the master once to let the server join.
    pub(crate) async fn join(&self) -> Result<(), JoinError> {
        let address = self.advertised().await?;
        let folder = self.keeper.folder();
        let state = |source| ServerError::State { path: folder.path().to_owned(), source };
        let server_id = folder.server_id().map_err(JoinError::Refused)?;
        let library_id = folder.library_id().map_err(JoinError::Refused)?;
        let request = JoinRequest {
            join_token: self.join_token.expose().to_owned(),
            server_id: server_id.clone().unwrap_or_default(),
            address: address.to_string(),
            capacity_bytes: self.keeper.capacity_bytes(),
            clock_ms: unix_ms(),
            library_id: library_id.map_or_else(String::new, |id| id.to_string()),
        };
        let reply = timeout(limits::JOIN_WITHIN, self.master.cluster().join(request)).await;
        let reply = reply
            .map_err(|_| JoinError::NotNow(format!("the master at {} does not answer Join", self.master.address())))?;
        let reply = reply.map_err(|status| self.judge(&status))?.into_inner();
        let token = bearer(&reply.server_token)
            .ok_or_else(|| JoinError::NotNow("the master gave a server token that no header can hold".to_owned()))?;
        let found: LibraryId = reply.library_id.parse().map_err(|error| {
            JoinError::NotNow(format!("the master at {} names no library: {error}", self.master.address()))
        })?;
        match library_id {
            Some(own) if own != found => return Err(self.other_library(own, found)),
            Some(_) => {}
            None => folder.keep_library_id(found).map_err(|error| JoinError::Refused(state(error)))?,
        }
        if server_id.as_deref() != Some(reply.server_id.as_str()) {
            folder.keep_server_id(&reply.server_id).map_err(|error| JoinError::Refused(state(error)))?;
        }
        self.master.on_joined(token);
        self.take_ticket_keys(reply.ticket_keys);
        info!(server_id = reply.server_id, %address, master = self.master.address(), "joined");
        Ok(())
    }

    /// Keeps the membership up for ever; comes back only when the master refuses the server for good.
    pub(crate) async fn run(self, mut joined: bool) -> ServerError {
        let verifier = Verifier::start(Arc::clone(&self.keeper));
        let pusher = Pusher::start(Arc::clone(&self.keeper));
        let mut prober = Prober::new();
        let mut backoff = Backoff::new(limits::JOIN_RETRY.0, limits::JOIN_RETRY.1);
        loop {
            if joined {
                let began = Instant::now();
                let reason = self.heartbeat(&verifier, &pusher, &mut prober).await;
                warn!(reason, "the heartbeat to the master broke; joining again");
                if began.elapsed() > limits::JOIN_RETRY.1 {
                    backoff.reset();
                }
            }
            sleep(backoff.next_pause()).await;
            joined = match self.join().await {
                Ok(()) => true,
                Err(JoinError::Refused(error)) => return error,
                Err(JoinError::NotNow(reason)) => {
                    warn!(reason, "not a member; asking again");
                    false
                }
            };
        }
    }

    /// Reports and follows orders until the stream breaks; says why it did.
    async fn heartbeat(&self, verifier: &Verifier, pusher: &Pusher, prober: &mut Prober) -> String {
        self.keeper.on_heartbeat();
        let (reports, outbound) = mpsc::channel(limits::REPORTS_QUEUED_MAX);
        let mut probes = Vec::new();
        let mut telling = Telling::new(self.keeper.known());
        self.report(&reports, &mut telling, &mut probes);
        let request = self.master.authorised(ReceiverStream::new(outbound));
        let mut cluster = self.master.cluster();
        let mut orders = match timeout(limits::JOIN_WITHIN, cluster.heartbeat(request)).await {
            Ok(Ok(reply)) => reply.into_inner(),
            Ok(Err(status)) => return self.master.explain(&status),
            Err(_) => return "the master does not answer Heartbeat".to_owned(),
        };
        let _heard = self.keeper.on_heard();
        let mut due = Instant::now() + pause_after_report(&telling);
        loop {
            tokio::select! {
                order = orders.message() => match order {
                    Ok(Some(MasterOrder { order: Some(order) })) => {
                        let refused = self.follow(order, verifier, pusher, prober).await;
                        probes.extend(refused);
                    }
                    Ok(Some(MasterOrder { order: None })) => warn!("the master gave an order that this version does not know"),
                    Ok(None) => return "the master ended it".to_owned(),
                    Err(status) => return self.master.explain(&status),
                },
                result = prober.next() => {
                    probes.push(result);
                    due = Instant::now();
                }
                () = self.keeper.changed() => due = due.min(Instant::now() + limits::REPORT_AFTER_CHANGE),
                () = sleep_until(due) => {
                    self.report(&reports, &mut telling, &mut probes);
                    due = Instant::now() + pause_after_report(&telling);
                }
            }
        }
    }

    /// Follows one order. A probe that cannot be made is answered at once.
    async fn follow(&self, order: Kind, verifier: &Verifier, pusher: &Pusher, prober: &Prober) -> Option<ProbeResult> {
        match order {
            Kind::Hold(order) => match Order::try_from(order) {
                Ok(order) => {
                    let keeper = Arc::clone(&self.keeper);
                    blocking(move || keeper.hold(order)).await;
                }
                Err(fault) => error!(%fault, "the master gave an order that cannot be followed"),
            },
            Kind::Drop(order) => {
                let (keeper, reason) = (Arc::clone(&self.keeper), order.reason());
                blocking(move || keeper.drop_asset(AssetId(order.asset), reason)).await;
            }
            Kind::TicketKeys(keys) => self.take_ticket_keys(keys.keys),
            Kind::Probe(order) => return prober.start(order),
            Kind::Verify(order) => verifier.start_order(order),
            Kind::Push(order) => pusher.start_order(order),
        }
        None
    }

    /// Sends a report, if the connection takes one. The results of probes go with the first that it takes.
    fn report(&self, reports: &mpsc::Sender<ServerReport>, telling: &mut Telling, probes: &mut Vec<ProbeResult>) {
        let Ok(place) = reports.try_reserve() else {
            return;
        };
        let counted = counters::total(self.counters.iter().map(AsRef::as_ref));
        telling.on_changes(self.keeper.take_changes());
        let mut report = ServerReport {
            clock_ms: unix_ms(),
            used_bytes: self.keeper.used_bytes(),
            free_bytes: self.keeper.free_bytes(),
            sessions: u32::try_from(counted.sessions).unwrap_or(u32::MAX),
            sent_bytes: counted.sent_bytes,
            probes: probes.drain(..probes.len().min(limits::REPORT_PROBES_MAX)).collect(),
            refusals: self.keeper.take_refusals(),
            ..ServerReport::default()
        };
        telling.fill(&mut report, |asset| self.keeper.holding(asset));
        place.send(report);
    }

    fn take_ticket_keys(&self, keys: Vec<v1::TicketKey>) {
        let mut parsed = Vec::with_capacity(keys.len());
        for mut key in keys {
            match <&[u8; TicketKey::BYTES]>::try_from(key.key.as_slice()) {
                Ok(bytes) => parsed.push(Arc::new(TicketKey::new(key.key_id, bytes))),
                Err(_) => error!(key_id = key.key_id, "the master gave a ticket key that is not 32 bytes long"),
            }
            key.key.zeroize();
        }
        self.shelf.update(|catalogue| catalogue.ticket_keys = parsed);
    }

    fn other_library(&self, own: LibraryId, found: LibraryId) -> JoinError {
        JoinError::NotNow(format!(
            "the master at {} has the library {found}, and {} holds copies of the library {own}: put the right database \
             back at the master, or give this server its own master or an empty state folder; the copies are kept",
            self.master.address(),
            self.keeper.folder().path().display(),
        ))
    }

    fn judge(&self, status: &Status) -> JoinError {
        let refused = |reason: String| {
            JoinError::Refused(ServerError::Refused { address: self.master.address().to_owned(), reason })
        };
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => {
                refused(format!("{}; check the join token", status.message()))
            }
            Code::InvalidArgument => refused(format!("{}; check the advertised address", status.message())),
            // The clock, or the library: the master's words say which, and what to do about it.
            Code::FailedPrecondition => JoinError::NotNow(format!(
                "the master at {} does not take this server: {}",
                self.master.address(),
                status.message()
            )),
            _ => JoinError::NotNow(self.master.explain(status)),
        }
    }

    /// The address for clients. An unspecified one is completed by that from which this host reaches the master.
    async fn advertised(&self) -> Result<SocketAddr, JoinError> {
        if !self.address.ip().is_unspecified() {
            return Ok(self.address);
        }
        let unknown = |error: std::io::Error| {
            JoinError::NotNow(format!(
                "no address to advertise: no route to the master {}: {error}",
                self.master.address()
            ))
        };
        let (any, v4): (IpAddr, _) = match self.address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), true),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED.into(), false),
        };
        let mut masters = lookup_host(self.master.address()).await.map_err(unknown)?;
        let master = masters.find(|master| master.is_ipv4() == v4);
        let master = master.ok_or(std::io::ErrorKind::AddrNotAvailable.into()).map_err(unknown)?;
        let socket = UdpSocket::bind((any, 0)).await.map_err(unknown)?;
        // Connecting a UDP socket sends nothing: it asks for the route.
        socket.connect(master).await.map_err(unknown)?;
        let own = socket.local_addr().map_err(unknown)?;
        Ok(SocketAddr::new(own.ip(), self.address.port()))
    }
}

/// When the next report goes out, unless something comes up before.
fn pause_after_report(telling: &Telling) -> Duration {
    if telling.has_more() { limits::REPORT_PIECE_AFTER } else { limits::REPORT_EVERY }
}

fn unix_ms() -> u64 {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_epoch.map_or(0, |since| since.as_millis() as u64)
}
