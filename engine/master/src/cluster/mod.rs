//! Media servers: they join, report, and are told what to hold.
//!
//! The rules are in pure code over a [`registry::Registry`]; here are the gRPC service and the task that drives them.

mod pace;
mod placement;
mod probing;
pub(crate) mod registry;
mod server;
mod steering;
mod store;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use braidcast_media::AssetId;
use braidcast_media::library_id::LIBRARY_ID_BYTES;
use braidcast_proto::v1;
use tokio::sync::{Notify, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::auth::gate;
use crate::auth::tokens::Tokens;
use crate::clock;
use crate::cluster::registry::{Holder, Joining, Registry, clock_ahead_ms};
use crate::cluster::server::ClockOff;
use crate::cluster::steering::Goal;
use crate::cluster::store::ServerStore;
use crate::config::MasterConfig;
use crate::database::Database;
use crate::errors::ServiceError;
use crate::healing::Suspicions;
use crate::library::{Asset, Library};
use crate::limits::{HOLDINGS_MAX, ORDERS_QUEUED, ORDERS_RETRY, SERVER_ID_BYTES_MAX, SERVERS_MAX, STEER_INTERVAL};
use crate::net;
use crate::random;
use crate::sync::{lock, to_its_end};
use crate::tickets::KeyRing;

/// The cluster of media servers, shared by the services.
pub(crate) struct Cluster {
    registry: Mutex<Registry>,
    store: ServerStore,
    library: Arc<Library>,
    /// Told of assets whose durable copy a server found damaged.
    suspicions: Arc<Suspicions>,
    /// Wakes [`Cluster::run`] before its time.
    steer: Arc<Notify>,
    /// Held over a change of a server's keys in database and registry, so that changes come in one order.
    key_changes: tokio::sync::Mutex<()>,
    clock_skew_max: Duration,
    rotation: Duration,
    default_replicas: u32,
}

impl Cluster {
    /// The servers that the database knows, none of which has joined yet.
    pub(crate) async fn open(
        config: &MasterConfig,
        database: impl Into<Database>,
        library: Arc<Library>,
        suspicions: Arc<Suspicions>,
        steer: Arc<Notify>,
    ) -> Result<Self, sqlx::Error> {
        let store = ServerStore::new(database);
        let mut registry = Registry::new(config.heartbeat_timeout, config.clock_skew_max);
        for server in store.load().await? {
            registry.restore(server.server_id, server.address, server.keys);
        }
        Ok(Self {
            registry: Mutex::new(registry),
            store,
            library,
            suspicions,
            steer,
            key_changes: tokio::sync::Mutex::new(()),
            clock_skew_max: config.clock_skew_max,
            rotation: config.ticket_key_rotation,
            default_replicas: config.replicas,
        })
    }

    /// Drives the cluster for as long as it is polled.
    pub(crate) async fn run(&self) {
        loop {
            if let Err(error) = self.rotate_keys().await {
                tracing::error!(%error, "ticket keys could not be rotated; the next turn tries again");
            }
            let pause = self.turn();
            // A timeout is the usual case: things also change by time alone.
            let _woken = tokio::time::timeout(pause, self.steer.notified()).await;
        }
    }

    /// Closes the streams of all servers.
    pub(crate) fn close(&self) {
        self.registry().detach_all();
    }

    /// The listed servers that hold all of `asset`.
    pub(crate) fn holders(&self, asset: &Asset) -> Vec<Holder> {
        self.registry().holders(Instant::now(), asset)
    }

    /// How many servers are listed, and how many are known.
    pub(crate) fn counts(&self) -> (usize, usize) {
        let registry = self.registry();
        (registry.listed(Instant::now()), registry.servers.len())
    }

    /// How many servers should hold each asset, and how many listed ones do.
    pub(crate) fn replicas(&self, assets: &[Arc<Asset>]) -> HashMap<AssetId, (u32, u32)> {
        self.registry().replicas(Instant::now(), assets, self.default_replicas)
    }

    /// All servers, listed or not.
    pub(crate) fn statuses(&self) -> Vec<v1::ServerStatus> {
        self.registry().statuses(Instant::now())
    }

    /// Forgets a server that is not connected, by its id or address; gives its id.
    pub(crate) async fn forget(&self, server: &str) -> Result<String, ServiceError> {
        let _one = self.key_changes.lock().await;
        let server_id = self.registry().disconnected(server)?;
        self.store.remove(&server_id).await?;
        self.registry().servers.remove(&server_id);
        Ok(server_id)
    }

    /// Has a server check extents of its copy.
    pub(crate) fn verify(&self, server_id: &str, order: v1::VerifyOrder) {
        self.registry().verify(Instant::now(), server_id, order);
    }

    /// Servers that are connected and hold all of `asset`, listed or not.
    pub(crate) fn whole_copies(&self, asset: &Asset) -> Vec<String> {
        self.registry().whole_copies(asset)
    }

    /// Assets of which a server says that the origin's bytes do not match their hashes.
    pub(crate) fn accused(&self) -> Vec<AssetId> {
        self.registry().accused()
    }

    /// Has a server send its copy to the origin; false if it cannot be told now.
    pub(crate) fn push(&self, server_id: &str, order: v1::PushOrder) -> bool {
        self.registry().push(server_id, order)
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.registry)
    }

    /// Sees to what is due; says how long nothing else is. All assets are looked at only when something changed that
    /// matters to them.
    fn turn(&self) -> Duration {
        let now = Instant::now();
        // Read before the assets are: what changes meanwhile makes the next turn look again.
        let library = self.library.version();
        {
            let mut registry = self.registry();
            registry.forget_gone(now);
            registry.order_probes(now);
            registry.announce_keys(now);
            if !registry.is_steering_due(now, library) {
                return STEER_INTERVAL;
            }
        }
        let (assets, known) = (self.library.list(), self.library.known());
        let unsound = self.library.unsound().into_iter().map(|(asset, damage)| (asset.id, damage)).collect();
        let goal = Goal {
            version: library,
            assets: &assets,
            known: &known,
            unsound: &unsound,
            is_removed: &|asset| self.library.is_removed(asset),
            default_replicas: self.default_replicas,
        };
        let has_sent_all = self.registry().steer(now, &goal);
        if has_sent_all { STEER_INTERVAL } else { ORDERS_RETRY }
    }

    async fn rotate_keys(&self) -> Result<(), ServiceError> {
        let due = self.registry().due_for_rotation(clock::unix_s(), self.rotation);
        for server_id in due {
            let _change = self.key_changes.lock().await;
            let Some((address, keys)) = self.address_and_keys(&server_id) else { continue };
            if keys.is_due(clock::unix_s(), self.rotation) {
                let keys = keys.rotated();
                self.store.save(&server_id, address, &keys).await?;
                self.registry().set_keys(&server_id, keys);
            }
        }
        Ok(())
    }

    fn address_and_keys(&self, server_id: &str) -> Option<(SocketAddr, KeyRing)> {
        let registry = self.registry();
        registry.servers.get(server_id).map(|server| (server.address, server.keys.clone()))
    }

    async fn join(&self, request: v1::JoinRequest) -> Result<Joined, ServiceError> {
        let v1::JoinRequest { server_id, address, capacity_bytes, clock_ms, library_id, .. } = request;
        let address = parse_address(&address)?;
        self.check_clock(clock_ms)?;
        self.check_library(&library_id)?;
        let server_id = if server_id.is_empty() { format!("s-{}", random::draw_hex::<4>()) } else { server_id };
        check_server_id(&server_id)?;
        let _change = self.key_changes.lock().await;
        let known = {
            let registry = self.registry();
            if !registry.servers.contains_key(&server_id) && registry.servers.len() >= SERVERS_MAX {
                return Err(ServiceError::TooMany { what: "servers", limit: SERVERS_MAX });
            }
            registry.keys(&server_id).cloned()
        };
        let keys = match known {
            None => KeyRing::draw(),
            Some(keys) if keys.is_due(clock::unix_s(), self.rotation) => keys.rotated(),
            Some(keys) => keys,
        };
        self.store.save(&server_id, address, &keys).await?;
        let join = u64::from_be_bytes(random::draw());
        let ticket_keys = keys.to_proto();
        self.registry().join(Instant::now(), server_id.clone(), Joining { join, address, capacity_bytes, keys });
        tracing::info!(server = server_id, %address, "a media server joined");
        Ok(Joined { server_id, join, ticket_keys })
    }

    fn check_clock(&self, clock_ms: u64) -> Result<(), ServiceError> {
        let ahead_ms = clock_ahead_ms(clock_ms, clock::unix_ms());
        ClockOff::check(ahead_ms, self.clock_skew_max).map_err(|off| ServiceError::ClockOff {
            seconds: off.seconds(),
            direction: off.direction(),
            seconds_max: self.clock_skew_max.as_secs(),
        })
    }

    /// A server whose folder holds copies of another library is kept out: its copies are not this master's to judge.
    fn check_library(&self, found: &str) -> Result<(), ServiceError> {
        let own = self.library.id();
        if found.is_empty() || found == own.to_string() {
            return Ok(());
        }
        Err(ServiceError::OtherLibrary { found: found.chars().take(2 * LIBRARY_ID_BYTES).collect(), own })
    }

    /// Has the durable copies checked that a server calls damaged.
    fn suspect(&self, report: &v1::ServerReport) {
        for holding in report.holdings.iter().take(HOLDINGS_MAX).filter(|holding| holding.origin_damaged) {
            self.suspicions.suspect(Instant::now(), AssetId(holding.asset));
        }
    }

    /// Takes reports until the stream ends, breaks or is replaced.
    async fn listen(self: Arc<Self>, server_id: String, stream: u64, mut reports: Streaming<v1::ServerReport>) {
        while let Ok(Some(report)) = reports.message().await {
            self.suspect(&report);
            let taken = self.registry().on_report(Instant::now(), clock::unix_ms(), &server_id, stream, report);
            let Some(is_urgent) = taken else { break };
            if is_urgent {
                self.steer.notify_one();
            }
        }
        self.registry().detach(&server_id, stream);
        tracing::info!(server = server_id, "a heartbeat stream ended");
    }
}

struct Joined {
    server_id: String,
    join: u64,
    ticket_keys: Vec<v1::TicketKey>,
}

/// The Cluster service.
pub(crate) struct ClusterService {
    cluster: Arc<Cluster>,
    tokens: Arc<Tokens>,
    /// BLAKE3 of the join token: hashes are compared, so that neither time nor length tells anything of it.
    join_token_hash: [u8; 32],
}

impl ClusterService {
    pub(crate) fn new(cluster: Arc<Cluster>, tokens: Arc<Tokens>, join_token: &str) -> Self {
        Self { cluster, tokens, join_token_hash: *blake3::hash(join_token.as_bytes()).as_bytes() }
    }

    fn check_join_token(&self, token: &str) -> Result<(), ServiceError> {
        let hash = blake3::hash(token.as_bytes());
        aws_lc_rs::constant_time::verify_slices_are_equal(hash.as_bytes(), &self.join_token_hash)
            .map_err(|_| ServiceError::WrongJoinToken)
    }
}

#[tonic::async_trait]
impl v1::cluster_server::Cluster for ClusterService {
    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        self.check_join_token(&request.get_ref().join_token)?;
        net::prove(request.extensions(), None);
        let request = request.into_inner();
        let cluster = Arc::clone(&self.cluster);
        let Joined { server_id, join, ticket_keys } = to_its_end(async move { cluster.join(request).await }).await?;
        let server_token = self.tokens.sign_server(&server_id, join)?;
        let library_id = self.cluster.library.id().to_string();
        Ok(Response::new(v1::JoinResponse { server_id, server_token, ticket_keys, library_id }))
    }

    type HeartbeatStream = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<v1::MasterOrder, Status>> + Send>>;

    async fn heartbeat(
        &self,
        request: Request<Streaming<v1::ServerReport>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        let caller = gate::server(&request)?;
        let (sender, orders) = mpsc::channel(ORDERS_QUEUED);
        let stream = self
            .cluster
            .registry()
            .attach(&caller.server_id, caller.join, sender)
            .ok_or_else(|| ServiceError::NotJoined { server: caller.server_id.clone() })?;
        self.cluster.steer.notify_one();
        tokio::spawn(Arc::clone(&self.cluster).listen(caller.server_id, stream, request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(orders).map(Ok))))
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, ServiceError> {
    let refuse = |problem| ServiceError::ServerAddress { address: text.chars().take(64).collect(), problem };
    let address: SocketAddr = text.parse().map_err(|_| refuse("not an IP address and port"))?;
    let no_host = match address.ip() {
        ip if ip.is_unspecified() => Some("clients cannot reach the unspecified address"),
        ip if ip.is_multicast() => Some("a multicast address"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("the broadcast address"),
        _ if address.port() == 0 => Some("port 0"),
        _ => None,
    };
    match no_host {
        Some(problem) => Err(refuse(problem)),
        None => Ok(address),
    }
}

fn check_server_id(id: &str) -> Result<(), ServiceError> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if id.is_empty() || id.len() > SERVER_ID_BYTES_MAX || !id.chars().all(allowed) {
        let found = id.chars().take(SERVER_ID_BYTES_MAX).collect();
        return Err(ServiceError::ServerId { found, bytes_max: SERVER_ID_BYTES_MAX });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_where_no_client_could_reach_a_server_are_refused() {
        for good in ["127.0.0.1:9000", "[::1]:9000", "192.0.2.7:1"] {
            assert!(parse_address(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "localhost:9000",
            "127.0.0.1",
            "127.0.0.1:0",
            "0.0.0.0:9",
            "[::]:9",
            "224.0.0.1:9",
            "255.255.255.255:9",
        ] {
            assert!(matches!(parse_address(bad), Err(ServiceError::ServerAddress { .. })), "{bad}");
        }
    }

    #[test]
    fn server_ids_at_the_edges() {
        assert!(check_server_id(&"x".repeat(SERVER_ID_BYTES_MAX)).is_ok());
        for bad in ["", "a b", "ä", "a/b", &"x".repeat(SERVER_ID_BYTES_MAX + 1)] {
            assert!(check_server_id(bad).is_err(), "{bad:?}");
        }
    }
}
