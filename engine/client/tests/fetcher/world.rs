//! A fetcher and its servers, in virtual time that jumps to the next thing that happens.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidcast_client::fetcher::{
    EarlyPiece, FailureKind, FetchError, Fetcher, FetcherConfig, Filled, Notice, Order, Range, Record, SourceList,
    SourceNo, Traffic, Verdict,
};
use braidcast_media::layout::PACKET_BYTES;
use braidcast_media::{ExtentNo, StreamId};
use braidcast_transport::packet::Status;
use braidcast_transport::responder::{Action, Now, Outcome, Request, Responder, ResponderConfig};

use crate::asset::{ASSET, Asset, EPOCH_S, content_key, host, ticket_key};

/// One way to a server or back.
pub(crate) const DELAY: Duration = Duration::from_millis(10);
/// Extents that fetchers in these tests hold.
pub(crate) const EXTENTS_MAX: usize = 6;
/// Most bytes in flight to one source.
pub(crate) const WINDOW_BYTES: u64 = 256 * 1024;
/// How long nothing may come.
pub(crate) const STALL: Duration = Duration::from_secs(10);
/// No run of these tests takes so long; the limit makes a standstill a failure.
const RUN_MAX: Duration = Duration::from_secs(120);

/// What the world does with extents whose chunks are all there.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checking {
    /// Hashes them at once.
    AtOnce,
    /// Leaves them lying.
    Never,
    /// Hashes them at once, and lends them to a player that keeps them.
    Lending,
}

/// A media server behind links of its own.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) responder: Responder,
    /// What it holds.
    asset: Arc<Asset>,
    /// Neither hears nor says anything.
    pub(crate) is_silent: bool,
    up: VecDeque<(Instant, Vec<u8>)>,
    down: VecDeque<(Instant, Vec<u8>)>,
}

pub(crate) struct World {
    pub(crate) asset: Arc<Asset>,
    pub(crate) fetcher: Fetcher,
    pub(crate) servers: Vec<Server>,
    /// Addresses that no socket can be connected to.
    pub(crate) out_of_reach: Vec<SocketAddr>,
    pub(crate) checking: Checking,
    pub(crate) unchecked: VecDeque<Filled>,
    /// What was given before it was checked.
    pub(crate) early: Vec<EarlyPiece>,
    pub(crate) lent: Vec<Box<[u8]>>,
    pub(crate) notices: Vec<Notice>,
    pub(crate) records: Vec<Record>,
    /// Extents that were verified and given out, in order.
    pub(crate) given: Vec<ExtentNo>,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    /// BLAKE3 of all that was sent, and when.
    pub(crate) trace: blake3::Hasher,
    /// Heap allocations in calls of the fetcher that are made again and again.
    pub(crate) allocations: u64,
    /// Extents that the fetcher may hold.
    pub(crate) extents_max: usize,
    /// The server of each source.
    connected: Vec<usize>,
}

impl World {
    /// `servers` that hold `asset`, and a fetcher that has not heard of them and makes records.
    pub(crate) fn new(asset: Asset, servers: usize) -> Self {
        Self::begun(asset, servers, |_| {})
    }

    /// The same with a fetcher that makes no records.
    pub(crate) fn without_trace(asset: Asset, servers: usize) -> Self {
        Self::begun(asset, servers, |config| config.trace_from = None)
    }

    /// The same with one that joins others.
    pub(crate) fn that_joins(asset: Asset, servers: usize) -> Self {
        Self::begun(asset, servers, |config| config.joins = true)
    }

    /// The same with settings that `change` has changed.
    pub(crate) fn begun(asset: Asset, servers: usize, change: impl FnOnce(&mut FetcherConfig)) -> Self {
        let (asset, start) = (Arc::new(asset), Instant::now());
        let mut config = FetcherConfig {
            asset: ASSET,
            content_key: content_key(),
            layout: asset.layout.clone(),
            stream: StreamId::ORIGINAL,
            extents_max: EXTENTS_MAX,
            order: Order::AsPlanned,
            traffic: Traffic::Plain { window_bytes: WINDOW_BYTES },
            rate_max: None,
            stall: STALL,
            joins: false,
            trace_from: Some(start),
        };
        change(&mut config);
        let mut world = Self {
            extents_max: config.extents_max,
            fetcher: Fetcher::new(start, config, [0xc1; 32]),
            servers: Vec::new(),
            out_of_reach: Vec::new(),
            checking: Checking::AtOnce,
            unchecked: VecDeque::new(),
            early: Vec::new(),
            lent: Vec::new(),
            notices: Vec::new(),
            records: Vec::new(),
            given: Vec::new(),
            start,
            now: start,
            trace: blake3::Hasher::new(),
            allocations: 0,
            connected: Vec::new(),
            asset: Arc::clone(&asset),
        };
        for _ in 0..servers {
            world.add_server(Arc::clone(&asset));
        }
        world
    }

    /// A server more, with a file that should be the same.
    pub(crate) fn add_server(&mut self, asset: Arc<Asset>) {
        let number = self.servers.len() as u8;
        let config = ResponderConfig::default();
        self.servers.push(Server {
            address: SocketAddr::from(([192, 0, 2, number], 4_000)),
            responder: Responder::new(config, [number; 32], vec![Arc::new(ticket_key())]),
            asset,
            is_silent: false,
            up: VecDeque::new(),
            down: VecDeque::new(),
        });
    }

    /// A list in which every server is named, and each is the first choice for every so-and-so-manyth extent.
    pub(crate) fn list(&self) -> SourceList {
        let count = self.servers.len();
        let hosts = self.servers.iter().enumerate().map(|(n, server)| host(&format!("s{n}"), server.address)).collect();
        let range = |extent| {
            let hosts = (0..count).map(|n| (extent as usize + n) % count).collect();
            Range { first: ExtentNo(extent), last: ExtentNo(extent), hosts }
        };
        SourceList { hosts, ranges: (0..self.asset.extents()).map(range).collect() }
    }

    /// Tells the fetcher who holds what, and what to fetch: all.
    pub(crate) fn begin(&mut self) {
        let list = self.list();
        self.fetcher.handle_list(self.now, list);
        self.fetcher.fetch(self.now, [self.asset.jobs()]);
    }

    /// Runs until all was fetched, and checks that each extent of the file came once.
    pub(crate) fn download(&mut self) {
        self.run_until(World::is_fetched);
        let mut given = std::mem::take(&mut self.given);
        given.sort_unstable();
        assert_eq!(given, (0..self.asset.extents()).map(ExtentNo).collect::<Vec<_>>());
        assert_eq!(self.fetcher.snapshot().written_bytes, self.asset.plain.len() as u64);
    }

    pub(crate) fn is_fetched(&self) -> bool {
        self.notices.iter().any(|notice| matches!(notice, Notice::Fetched))
    }

    /// How each source that was reported has failed, in order.
    pub(crate) fn failures(&self) -> Vec<(String, FailureKind)> {
        let failure = |notice: &Notice| match notice {
            Notice::SourceFailed(failure) => Some((failure.server_id.clone(), failure.kind)),
            _ => None,
        };
        self.notices.iter().filter_map(failure).collect()
    }

    /// Bytes in flight to all sources.
    pub(crate) fn in_flight_bytes(&self) -> u64 {
        (0..self.connected.len()).map(|n| self.fetcher.in_flight_bytes(SourceNo(n as u8))).sum()
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Runs until `done` says so.
    ///
    /// # Panics
    /// If the fetcher gives up.
    pub(crate) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        if let Err(error) = self.try_run_until(done) {
            panic!("given up after {:?}: {error:?}", self.elapsed());
        }
    }

    /// Runs for a while.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(|world| world.next_thing() > end);
        self.now = end;
    }

    pub(crate) fn try_run_until(&mut self, done: impl Fn(&Self) -> bool) -> Result<(), FetchError> {
        loop {
            self.step()?;
            if done(self) {
                return Ok(());
            }
            let next = self.next_thing();
            assert!(next > self.now, "a deadline passed and nothing came of it");
            assert!(next < self.start + RUN_MAX, "no end after {:?}", self.elapsed());
            self.now = next;
        }
    }

    fn next_thing(&self) -> Instant {
        let arrivals = self.servers.iter().flat_map(|server| [server.up.front(), server.down.front()]);
        let arrivals = arrivals.flatten().map(|(at, _)| *at);
        arrivals.chain(self.fetcher.poll_timeout()).min().expect("something is always going on")
    }

    /// All that happens at one moment, in the order of the driving contract.
    fn step(&mut self) -> Result<(), FetchError> {
        for server in &mut self.servers {
            server.run(self.now, self.start);
        }
        for source in 0..self.connected.len() {
            let down = &mut self.servers[self.connected[source]].down;
            while let Some((_, packet)) = down.pop_front_if(|(at, _)| *at <= self.now) {
                let (fetcher, now) = (&mut self.fetcher, self.now);
                count(&mut self.allocations, || fetcher.handle_datagram(now, SourceNo(source as u8), &packet));
            }
        }
        let (fetcher, now) = (&mut self.fetcher, self.now);
        count(&mut self.allocations, || {
            if fetcher.poll_timeout().is_some_and(|at| at <= now) { fetcher.handle_timeout(now) } else { Ok(()) }
        })?;
        self.drain();
        assert!(self.fetcher.buffers() <= self.extents_max, "more extents are in memory than there are buffers");
        for source in 0..self.connected.len() {
            let in_flight = self.fetcher.in_flight_bytes(SourceNo(source as u8));
            assert!(in_flight <= WINDOW_BYTES, "more is in flight than the window holds");
        }
        Ok(())
    }

    fn drain(&mut self) {
        while let Some((source, address)) = self.fetcher.poll_connect() {
            if self.out_of_reach.contains(&address) {
                self.fetcher.on_unreachable(self.now, source, "no route".to_owned());
                continue;
            }
            let server = self.servers.iter().position(|server| server.address == address).expect("a known address");
            assert_eq!(usize::from(source.0), self.connected.len());
            self.connected.push(server);
            self.fetcher.on_connected(self.now, source, 4 * 1024 * 1024, None);
        }
        while let Some(piece) = self.fetcher.poll_early() {
            self.early.push(piece);
        }
        while let Some(filled) = self.fetcher.poll_filled() {
            self.unchecked.push_back(filled);
        }
        self.check_all();
        let mut datagram = Vec::with_capacity(PACKET_BYTES);
        loop {
            let (fetcher, now) = (&mut self.fetcher, self.now);
            let sent = count(&mut self.allocations, || fetcher.poll_transmit(now, &mut datagram));
            let Some(source) = sent else { break };
            self.trace.update(&self.elapsed().as_nanos().to_be_bytes());
            self.trace.update(&datagram);
            let server = &mut self.servers[self.connected[usize::from(source.0)]];
            server.up.push_back((self.now + DELAY, datagram.clone()));
        }
        while let Some(notice) = self.fetcher.poll_notice() {
            self.notices.push(notice);
        }
        while let Some(record) = self.fetcher.poll_record() {
            self.records.push(record);
        }
    }

    fn check_all(&mut self) {
        if self.checking == Checking::Never {
            return;
        }
        while let Some(filled) = self.unchecked.pop_front() {
            let mut checked = count(&mut self.allocations, || filled.check());
            if let Verdict::Good { buffer, liars } = &mut checked.verdict
                && checked.job.key.stream == StreamId::ORIGINAL
            {
                let extent = checked.job.key.extent;
                assert!(buffer[..checked.job.bytes] == *self.asset.extent(extent), "{extent:?} is not as published");
                self.given.push(extent);
                if self.checking == Checking::Lending {
                    self.lent.push(std::mem::take(buffer));
                    checked.verdict = Verdict::Lent { liars: std::mem::take(liars) };
                }
            }
            let (fetcher, now) = (&mut self.fetcher, self.now);
            count(&mut self.allocations, || fetcher.handle_checked(now, checked));
        }
    }
}

/// Adds the heap allocations of `work` to `allocations`.
fn count<R>(allocations: &mut u64, work: impl FnOnce() -> R) -> R {
    let mut result = None;
    *allocations += allocation_counter::measure(|| result = Some(work())).count_total;
    result.expect("it was called")
}

impl Server {
    fn run(&mut self, now: Instant, start: Instant) {
        let clocks = Now { instant: now, unix_s: EPOCH_S + (now - start).as_secs() };
        while let Some((_, packet)) = self.up.pop_front_if(|(at, _)| *at <= now) {
            if self.is_silent {
                continue;
            }
            match self.responder.handle_datagram(clocks, SocketAddr::from(([198, 51, 100, 1], 4_000)), &packet) {
                Some(Action::Send(answer)) => self.down.push_back((now + DELAY, answer.to_vec())),
                Some(Action::Pull(request)) => self.answer(clocks, &request),
                None => {}
            }
        }
    }

    fn answer(&mut self, now: Now, request: &Request) {
        let arrival = now.instant + DELAY;
        for chunk in request.runs.iter().flat_map(|run| run.chunks()) {
            let packet = self.asset.packet(request.stream, chunk).expect("clients ask for what there is");
            self.down.push_back((arrival, packet.to_vec()));
        }
        let outcome = Outcome {
            status: Status::Ok,
            sent_chunks: request.chunks(),
            not_held: &[],
            retry_after: Duration::ZERO,
            server_limited: false,
        };
        let end = self.responder.answer(now, request, &outcome).expect("the session lives");
        self.down.push_back((arrival, end.to_vec()));
    }
}
