//! A media server that joins, reports and takes orders, and serves nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use braidcast_media::AssetId;
use braidcast_media::layout::SEALED_EXTENT_BYTES;
use braidcast_media::ticket::{Ticket, TicketKey, key_id};
use braidcast_proto::v1;
use braidcast_proto::v1::master_order::Order;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::harness::{Running, eventually, with_token};

const REPORT_INTERVAL: Duration = Duration::from_millis(100);
const FREE_BYTES: u64 = 1 << 40;

/// How a server behaves; may be changed while it runs.
#[derive(Clone)]
pub(crate) struct Manners {
    pub(crate) reports: bool,
    pub(crate) answers_probes: bool,
    /// Does what a HoldOrder says at once.
    pub(crate) fills: bool,
    /// Its clock less the right time.
    pub(crate) clock_ahead_ms: i64,
    pub(crate) sessions: u32,
    /// Says that it has named all that it holds.
    pub(crate) complete: bool,
    /// Bytes that it has sent to clients.
    pub(crate) sent_bytes: u64,
}

impl Default for Manners {
    fn default() -> Self {
        Self {
            reports: true,
            answers_probes: true,
            fills: true,
            clock_ahead_ms: 0,
            sessions: 0,
            complete: true,
            sent_bytes: 7,
        }
    }
}

#[derive(Default)]
struct Memory {
    orders: Vec<Order>,
    keys: Vec<v1::TicketKey>,
    holdings: BTreeMap<AssetId, v1::Holding>,
    /// What the master was told of them on this stream.
    told: BTreeMap<AssetId, v1::Holding>,
    /// Results to send with the next report.
    probes: Vec<v1::ProbeResult>,
    /// Refusals to send with the next report.
    refusals: Vec<v1::Refusal>,
}

/// A running server. Its stream closes when it is dropped.
pub(crate) struct FakeServer {
    pub(crate) id: String,
    pub(crate) token: String,
    /// The ticket keys that it was given when it joined.
    pub(crate) joined_with: Vec<v1::TicketKey>,
    manners: watch::Sender<Manners>,
    memory: Arc<Mutex<Memory>>,
    task: JoinHandle<()>,
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn join_request(master: &Running, id: &str, port: u16) -> v1::JoinRequest {
    v1::JoinRequest {
        join_token: master.join_token(),
        server_id: id.into(),
        address: format!("127.0.0.1:{port}"),
        capacity_bytes: FREE_BYTES,
        clock_ms: now_ms(0),
        ..v1::JoinRequest::default()
    }
}

pub(crate) fn now_ms(ahead_ms: i64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    now.saturating_add_signed(ahead_ms)
}

impl FakeServer {
    /// Joins and opens its stream.
    pub(crate) async fn start(master: &Running, id: &str, port: u16, manners: Manners) -> Self {
        let joined = master.cluster().join(join_request(master, id, port)).await.expect("joins").into_inner();
        Self::attach(master, joined, manners).await.expect("attaches")
    }

    /// Joins and waits until it is listed.
    pub(crate) async fn listed(master: &Running, id: &str, port: u16) -> Self {
        let server = Self::start(master, id, port, Manners::default()).await;
        eventually("the server is listed", async || master.server(id).await.listed.then_some(())).await;
        server
    }

    /// Opens the stream of a server that has joined.
    pub(crate) async fn attach(master: &Running, joined: v1::JoinResponse, manners: Manners) -> Result<Self, Status> {
        let v1::JoinResponse { server_id, server_token, ticket_keys, .. } = joined;
        let (reports, stream) = mpsc::channel(16);
        let orders =
            master.cluster().heartbeat(with_token(&server_token, ReceiverStream::new(stream))).await?.into_inner();
        let memory = Arc::new(Mutex::new(Memory { keys: ticket_keys.clone(), ..Memory::default() }));
        let (manners, watched) = watch::channel(manners);
        let task = tokio::spawn(live(Arc::clone(&memory), watched, reports, orders));
        Ok(Self { id: server_id, token: server_token, joined_with: ticket_keys, manners, memory, task })
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Manners)) {
        self.manners.send_modify(change);
    }

    /// The master has closed the stream.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.task.is_finished()
    }

    pub(crate) fn orders(&self) -> Vec<Order> {
        self.memory().orders.clone()
    }

    pub(crate) fn keys(&self) -> Vec<v1::TicketKey> {
        self.memory().keys.clone()
    }

    /// Reports this holding from now on.
    pub(crate) fn hold(&self, asset: AssetId, extents_held: u64, extents_total: u64, error: &str) {
        let holding =
            v1::Holding { asset: asset.0, extents_held, extents_total, error: error.into(), ..v1::Holding::default() };
        self.memory().holdings.insert(asset, holding);
    }

    /// Reports that the origin's bytes of `asset` do not match their hashes.
    pub(crate) fn accuse_the_origin(&self, asset: AssetId) {
        let error = "extents at the origin do not match their hashes".to_owned();
        let holding = v1::Holding { asset: asset.0, extents_total: 5, error, origin_damaged: true, extents_held: 0 };
        self.memory().holdings.insert(asset, holding);
    }

    /// Says with the next report that an order about `asset` was not followed.
    pub(crate) fn refuse(&self, asset: AssetId, reason: &str) {
        self.memory().refusals.push(v1::Refusal { asset: asset.0, reason: reason.into() });
    }

    /// The orders to push that it was given.
    pub(crate) fn pushes(&self) -> Vec<v1::PushOrder> {
        let push = |order| match order {
            Order::Push(push) => Some(push),
            _ => None,
        };
        self.orders().into_iter().filter_map(push).collect()
    }

    /// The reasons of the orders to drop `asset`.
    pub(crate) fn drops(&self, asset: AssetId) -> Vec<v1::DropReason> {
        let drop = |order: &Order| match order {
            Order::Drop(drop) if drop.asset == asset.0 => Some(drop.reason()),
            _ => None,
        };
        self.orders().iter().filter_map(drop).collect()
    }

    /// Waits until the master has taken in a report that says all that this server has been told to report so far.
    pub(crate) async fn is_heard(&self, master: &Running) {
        let marker = self.manners.borrow().sent_bytes + 1;
        self.change(|manners| manners.sent_bytes = marker);
        let heard = async || (master.server(&self.id).await.sent_bytes == marker).then_some(());
        eventually("the master hears of it", heard).await;
    }

    /// Sends this result with the next report.
    pub(crate) fn answer_probe(&self, probe_id: u64) {
        self.memory().probes.push(v1::ProbeResult { probe_id, answered: true });
    }

    pub(crate) fn holds(&self, asset: AssetId) -> bool {
        self.memory().holdings.contains_key(&asset)
    }

    /// Opens a ticket with the keys that the master gave this server.
    pub(crate) fn open(&self, ticket: &[u8]) -> Option<Ticket> {
        let id = key_id(ticket)?;
        let keys = self.keys();
        let key = keys.iter().find(|key| key.key_id == id)?;
        TicketKey::new(id, key.key.as_slice().try_into().expect("32 bytes")).open(ticket)
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().expect("no panic while it was held")
    }
}

async fn live(
    memory: Arc<Mutex<Memory>>,
    manners: watch::Receiver<Manners>,
    reports: mpsc::Sender<v1::ServerReport>,
    mut orders: tonic::Streaming<v1::MasterOrder>,
) {
    let mut ticks = tokio::time::interval(REPORT_INTERVAL);
    loop {
        let order = tokio::select! {
            _ = ticks.tick() => None,
            order = orders.next() => match order {
                Some(Ok(v1::MasterOrder { order: Some(order) })) => Some(order),
                _ => return,
            },
        };
        let manners = manners.borrow().clone();
        let report = {
            let mut memory = memory.lock().expect("no panic while it was held");
            if let Some(order) = order {
                memory.obey(&manners, &order);
                memory.orders.push(order);
            }
            manners.reports.then(|| memory.report(&manners))
        };
        if let Some(report) = report
            && reports.send(report).await.is_err()
        {
            return;
        }
    }
}

impl Memory {
    fn obey(&mut self, manners: &Manners, order: &Order) {
        match order {
            Order::Hold(hold) if manners.fills => {
                let extents = (hold.pack_bytes - hold.header_bytes) / SEALED_EXTENT_BYTES as u64;
                let holding = v1::Holding {
                    asset: hold.asset,
                    extents_held: extents,
                    extents_total: extents,
                    ..v1::Holding::default()
                };
                self.holdings.insert(AssetId(hold.asset), holding);
            }
            Order::Drop(drop) => {
                let id = AssetId(drop.asset);
                let whole = self.holdings.get(&id).is_some_and(|held| held.extents_held == held.extents_total);
                // A whole copy too many stays until its room is needed.
                if !(whole && drop.reason() == v1::DropReason::Surplus) {
                    self.holdings.remove(&id);
                }
            }
            Order::TicketKeys(keys) => self.keys = keys.keys.clone(),
            Order::Probe(probe) if manners.answers_probes => {
                self.probes.push(v1::ProbeResult { probe_id: probe.probe_id, answered: true });
            }
            Order::Hold(_) | Order::Probe(_) | Order::Verify(_) | Order::Push(_) => {}
        }
    }

    fn report(&mut self, manners: &Manners) -> v1::ServerReport {
        let is_news = |(asset, holding): &(&AssetId, &v1::Holding)| self.told.get(asset) != Some(holding);
        let holdings = self.holdings.iter().filter(is_news).map(|(_, holding)| holding.clone()).collect();
        let gone = self.told.keys().filter(|asset| !self.holdings.contains_key(asset)).map(|asset| asset.0).collect();
        self.told = self.holdings.clone();
        v1::ServerReport {
            clock_ms: now_ms(manners.clock_ahead_ms),
            used_bytes: 1_000,
            free_bytes: FREE_BYTES,
            sessions: manners.sessions,
            sent_bytes: manners.sent_bytes,
            holdings,
            gone,
            probes: std::mem::take(&mut self.probes),
            refusals: std::mem::take(&mut self.refusals),
            complete: manners.complete,
        }
    }
}
