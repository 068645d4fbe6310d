//! A master that does as the tests say: Cluster and Origin over TLS.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use braidcast_media::ticket::{SessionSecret, Ticket, TicketKey};
use braidcast_media::{AssetId, LibraryId};
use braidcast_proto::v1::cluster_server::{Cluster, ClusterServer};
use braidcast_proto::v1::master_order::Order;
use braidcast_proto::v1::origin_server::{Origin, OriginServer};
use braidcast_proto::v1::push_request::Part;
use braidcast_proto::v1::{
    self, Holding, JoinRequest, JoinResponse, MasterOrder, PackBytes, PushRequest, PushResponse, ReadPackRequest,
    Refusal, ServerReport,
};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::timeout;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Request, Response, Status, Streaming};

pub(crate) const JOIN_TOKEN: &str = "the-join-token-of-the-tests";
/// The library of every fake master, unless a test gives it another.
pub(crate) const LIBRARY: LibraryId = LibraryId([1; 16]);
const SERVER_TOKEN: &str = "the-server-token-of-the-tests";
const TICKET_KEY: [u8; 32] = [7; 32];
const PIECE_BYTES: usize = 128 * 1024;
/// How long anything is waited for: generous, since other work may share the machine.
pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// The master under test control.
pub(crate) struct Master {
    pub(crate) address: SocketAddr,
    pub(crate) certificate: Certificate,
    state: Arc<State>,
    /// Its own, because only the end of a runtime ends the connections that tonic has accepted.
    runtime: Option<Runtime>,
}

/// A certificate for 127.0.0.1 that vouches for itself, and its key.
#[derive(Clone)]
pub(crate) struct Certificate {
    pub(crate) pem: String,
    key_pem: String,
}

impl Certificate {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("certificate");
        Self { pem: made.cert.pem(), key_pem: made.signing_key.serialize_pem() }
    }
}

struct State {
    joins: Mutex<Vec<JoinRequest>>,
    /// What Join answers instead of accepting.
    refusal: Mutex<Option<Status>>,
    packs: Mutex<HashMap<AssetId, Vec<u8>>>,
    /// Bytes of packs that were sent.
    read: Mutex<Vec<Range<u64>>>,
    /// Pieces that the origin may still send.
    pieces: Semaphore,
    /// What Join says of the master's library.
    library: Mutex<LibraryId>,
    /// Orders that the server has said it did not follow.
    refusals: Mutex<Vec<Refusal>>,
    /// Reports as they came.
    heard: Mutex<Vec<ServerReport>>,
    /// Parts of packs that were pushed.
    pushed: Mutex<Vec<Part>>,
    orders: Mutex<Option<mpsc::Sender<Result<MasterOrder, Status>>>>,
    report: watch::Sender<ServerReport>,
}

/// What tonic serves.
struct Service(Arc<State>);

impl Master {
    pub(crate) async fn start() -> Self {
        Self::start_on(([127, 0, 0, 1], 0).into(), Certificate::new()).await
    }

    /// A master at a place and with a certificate that were chosen before.
    pub(crate) async fn start_on(address: SocketAddr, certificate: Certificate) -> Self {
        let listener = listen(address).await;
        let address = listener.local_addr().expect("bound");
        let identity = Identity::from_pem(&certificate.pem, &certificate.key_pem);
        let state = Arc::new(State {
            joins: Mutex::default(),
            refusal: Mutex::default(),
            packs: Mutex::default(),
            read: Mutex::default(),
            pieces: Semaphore::new(Semaphore::MAX_PERMITS),
            library: Mutex::new(LIBRARY),
            refusals: Mutex::default(),
            heard: Mutex::default(),
            pushed: Mutex::default(),
            orders: Mutex::default(),
            report: watch::Sender::new(ServerReport::default()),
        });
        let (cluster, origin) = (Service(Arc::clone(&state)), Service(Arc::clone(&state)));
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).expect("a listener for this runtime");
            Server::builder()
                .tls_config(ServerTlsConfig::new().identity(identity))
                .expect("TLS settings")
                .add_service(ClusterServer::new(cluster))
                .add_service(OriginServer::new(origin))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .expect("the fake master serves");
        });
        Self { address, certificate, state, runtime: Some(runtime) }
    }

    /// Puts a pack into the origin.
    pub(crate) fn publish(&self, asset: AssetId, pack: Vec<u8>) {
        lock(&self.state.packs).insert(asset, pack);
    }

    /// Takes a pack out of the origin.
    pub(crate) fn unpublish(&self, asset: AssetId) {
        lock(&self.state.packs).remove(&asset);
    }

    /// Sends nothing from the origin any more, beyond this number of pieces.
    pub(crate) fn limit_pieces(&self, pieces: usize) {
        self.state.pieces.forget_permits(usize::MAX);
        self.state.pieces.add_permits(pieces);
    }

    /// Ends all limits on the origin.
    pub(crate) fn unlimited_pieces(&self) {
        self.state.pieces.add_permits(1 << 20);
    }

    /// Bytes of packs that were sent since the last call.
    pub(crate) fn take_reads(&self) -> Vec<Range<u64>> {
        std::mem::take(&mut lock(&self.state.read))
    }

    pub(crate) fn refuse_joins(&self, refusal: Option<Status>) {
        *lock(&self.state.refusal) = refusal;
    }

    /// Has another library from the next Join on.
    pub(crate) fn change_library(&self, library: LibraryId) {
        *lock(&self.state.library) = library;
    }

    /// Ends the heartbeat, so that the server joins again.
    pub(crate) fn end_heartbeat(&self) {
        lock(&self.state.orders).take();
    }

    /// Waits until the server has said that it did not follow an order about `asset`, and gives its reason.
    pub(crate) async fn refusal(&self, asset: AssetId) -> String {
        let of_asset = || lock(&self.state.refusals).iter().find(|refusal| refusal.asset == asset.0).cloned();
        let wait = async {
            loop {
                if let Some(refusal) = of_asset() {
                    return refusal.reason;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(WAIT, wait).await.expect("the server refuses an order")
    }

    /// Waits until so many parts were pushed, and gives them.
    pub(crate) async fn pushed(&self, parts: usize) -> Vec<Part> {
        let wait = async {
            while lock(&self.state.pushed).len() < parts {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(WAIT, wait).await.expect("the server pushes");
        lock(&self.state.pushed).clone()
    }

    pub(crate) fn joins(&self) -> Vec<JoinRequest> {
        lock(&self.state.joins).clone()
    }

    /// Gives the server an order, as soon as its heartbeat stands.
    pub(crate) async fn order(&self, order: Order) {
        let give = async {
            loop {
                let orders = lock(&self.state.orders).clone();
                if let Some(orders) = orders
                    && orders.send(Ok(MasterOrder { order: Some(order.clone()) })).await.is_ok()
                {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(WAIT, give).await.expect("the server's heartbeat stands");
    }

    /// The reports since the last call, as they came.
    pub(crate) fn take_reports(&self) -> Vec<ServerReport> {
        std::mem::take(&mut lock(&self.state.heard))
    }

    /// Waits for a report that is as `wanted`. It holds all that the reports of its stream have told of what is held.
    pub(crate) async fn report(&self, wanted: impl FnMut(&ServerReport) -> bool) -> ServerReport {
        let mut reports = self.state.report.subscribe();
        let found = timeout(WAIT, reports.wait_for(wanted)).await;
        match found {
            Ok(report) => report.expect("the sender lives").clone(),
            Err(_) => panic!("no such report within {WAIT:?}; the last one: {:?}", self.state.report.borrow()),
        }
    }

    /// Waits until what is said of `asset` is as `wanted`.
    pub(crate) async fn holding(&self, asset: AssetId, mut wanted: impl FnMut(&Holding) -> bool) -> Holding {
        let of_asset = |report: &ServerReport| report.holdings.iter().find(|h| h.asset == asset.0).cloned();
        let report = self.report(|report| of_asset(report).is_some_and(|holding| wanted(&holding))).await;
        of_asset(&report).expect("just found")
    }

    /// Waits until `asset` is held in full.
    pub(crate) async fn held_in_full(&self, asset: AssetId) {
        self.holding(asset, |h| h.extents_total > 0 && h.extents_held == h.extents_total && h.error.is_empty()).await;
    }
}

/// Ends the master and every connection to it.
impl Drop for Master {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Listens at `address`, as soon as it is free.
async fn listen(address: SocketAddr) -> std::net::TcpListener {
    let bind = async {
        loop {
            match TcpListener::bind(address).await {
                Ok(listener) => return listener.into_std().expect("to be moved to another runtime"),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    timeout(WAIT, bind).await.expect("the address is free")
}

/// A ticket under the key that the fake master gave the server, and its secret.
pub(crate) fn ticket(assets: &[AssetId], expires_at: u64) -> (Vec<u8>, SessionSecret) {
    sealed_ticket(&TicketKey::new(1, &TICKET_KEY), assets, expires_at)
}

/// A ticket under another server's key, which bears the same number.
pub(crate) fn foreign_ticket(assets: &[AssetId], expires_at: u64) -> (Vec<u8>, SessionSecret) {
    sealed_ticket(&TicketKey::new(1, &[8; 32]), assets, expires_at)
}

/// A ticket under `key`, and its secret.
pub(crate) fn sealed_ticket(key: &TicketKey, assets: &[AssetId], expires_at: u64) -> (Vec<u8>, SessionSecret) {
    let secret = SessionSecret::new([3; 32]);
    let ticket = Ticket { secret: secret.clone(), user: 1, expires_at, rate_kib_s: 0, assets: assets.to_vec() };
    let mut nonce = [0; 12];
    aws_lc_rs::rand::fill(&mut nonce).expect("random bytes");
    (key.seal(&ticket, nonce), secret)
}

/// Seconds from now, as a ticket counts them.
pub(crate) fn in_seconds(seconds: i64) -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    now.saturating_add_signed(seconds)
}

#[tonic::async_trait]
impl Cluster for Service {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        lock(&self.0.joins).push(request.clone());
        if let Some(refusal) = lock(&self.0.refusal).clone() {
            return Err(refusal);
        }
        if request.join_token != JOIN_TOKEN {
            return Err(Status::unauthenticated("wrong join token"));
        }
        let server_id = if request.server_id.is_empty() { "server-of-the-tests".to_owned() } else { request.server_id };
        let ticket_keys = vec![v1::TicketKey { key_id: 1, key: TICKET_KEY.to_vec() }];
        Ok(Response::new(JoinResponse {
            server_id,
            server_token: SERVER_TOKEN.to_owned(),
            ticket_keys,
            library_id: lock(&self.0.library).to_string(),
        }))
    }

    type HeartbeatStream = ReceiverStream<Result<MasterOrder, Status>>;

    async fn heartbeat(
        &self,
        request: Request<Streaming<ServerReport>>,
    ) -> Result<Response<Self::HeartbeatStream>, Status> {
        authorise(&request)?;
        let (orders, outbound) = mpsc::channel(16);
        *lock(&self.0.orders) = Some(orders);
        let (report, mut reports) = (self.0.report.clone(), request.into_inner());
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut holdings = BTreeMap::new();
            while let Ok(Some(mut newest)) = reports.message().await {
                lock(&state.refusals).extend(newest.refusals.iter().cloned());
                lock(&state.heard).push(newest.clone());
                // Tests look at all that is held, as the reports of this stream have told it.
                holdings.extend(newest.holdings.drain(..).map(|holding| (holding.asset, holding)));
                holdings.retain(|asset, _| !newest.gone.contains(asset));
                newest.holdings = holdings.values().cloned().collect();
                report.send_replace(newest);
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }
}

#[tonic::async_trait]
impl Origin for Service {
    type ReadPackStream = ReceiverStream<Result<PackBytes, Status>>;

    async fn read_pack(&self, request: Request<ReadPackRequest>) -> Result<Response<Self::ReadPackStream>, Status> {
        authorise(&request)?;
        let ReadPackRequest { asset, offset, length } = request.into_inner();
        let pack =
            lock(&self.0.packs).get(&AssetId(asset)).cloned().ok_or_else(|| Status::not_found("no such asset"))?;
        let range = offset as usize..(offset + length) as usize;
        let bytes = pack.get(range).ok_or_else(|| Status::out_of_range("past the end of the pack"))?;
        let pieces: Vec<Vec<u8>> = bytes.chunks(PIECE_BYTES).map(<[u8]>::to_vec).collect();
        // A queue of one, so that what was counted as read was all but received.
        let (sender, outbound) = mpsc::channel(1);
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut at = offset;
            for data in pieces {
                state.pieces.acquire().await.expect("never closed").forget();
                let end = at + data.len() as u64;
                if sender.send(Ok(PackBytes { data })).await.is_err() {
                    return;
                }
                lock(&state.read).push(at..end);
                at = end;
            }
        });
        Ok(Response::new(ReceiverStream::new(outbound)))
    }

    async fn push_pack(&self, request: Request<Streaming<PushRequest>>) -> Result<Response<PushResponse>, Status> {
        authorise(&request)?;
        let mut parts = request.into_inner();
        while let Some(PushRequest { part }) = parts.message().await? {
            lock(&self.0.pushed).extend(part);
        }
        Ok(Response::new(PushResponse {}))
    }
}

fn authorise<T>(request: &Request<T>) -> Result<(), Status> {
    let expected = format!("Bearer {SERVER_TOKEN}");
    let token = request.metadata().get("authorization").and_then(|token| token.to_str().ok());
    if token == Some(expected.as_str()) { Ok(()) } else { Err(Status::unauthenticated("join again")) }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no test thread panics with the lock")
}
