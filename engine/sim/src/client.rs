//! A client of a world: the shipping [`Fetcher`], driven by its contract, and what becomes of the extents it fetches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use braidcast_client::fetcher::{
    Buffer, Checked, FailureKind, Fetcher, FetcherConfig, Filled, Job, JobList, Notice, Order, SourceList, SourceNo,
    Traffic, Verdict,
};
use braidcast_media::layout::PACKET_BYTES;
use braidcast_media::{ExtentNo, StreamId};
use braidcast_transport::congestion::Retained;
use braidcast_transport::limits::CHUNKS_PER_PULL_MAX;

use crate::asset::{ASSET, Asset, content_key};
use crate::film::{Film, FilmConfig};
use crate::network::{Endpoint, HostNo, Network, Packet, Payload};
use crate::server::Clock;

/// What a client does with the asset.
#[derive(Clone, Copy, Debug)]
pub enum Purpose {
    /// It fetches all of it as fast as it can.
    Download,
    /// It plays it.
    Film(FilmConfig),
}

/// How a client is to be made.
#[derive(Clone, Copy, Debug)]
pub struct ClientConfig {
    /// What it does with the asset.
    pub purpose: Purpose,
    /// Extents in memory at a time, for a download; a film has its window.
    pub extents_max: usize,
    /// How it shares its path with others.
    pub traffic: Traffic,
    /// What the kernel grants for each socket.
    pub receive_buffer_bytes: usize,
    /// What it remembers of each path.
    pub retained: Option<Retained>,
    /// From a wish of the client to the master's answer.
    pub master_delay: Duration,
    /// How long nothing may come before it gives up.
    pub stall: Duration,
    /// Something that goes wrong within the client, to see whether it is found.
    pub planted: Option<Planted>,
}

impl Default for ClientConfig {
    /// What the `braidcast` command does.
    fn default() -> Self {
        Self {
            purpose: Purpose::Download,
            extents_max: 160,
            traffic: Traffic::Normal,
            receive_buffer_bytes: 16 * 1024 * 1024,
            retained: None,
            master_delay: Duration::from_millis(50),
            stall: Duration::from_secs(10),
            planted: None,
        }
    }
}

/// A fault in what the fetcher is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Planted {
    /// It is told to forget and to fetch the same again, while answers are on their way.
    DoublePull,
    /// A buffer that was lent does not come back.
    LeakedBuffer,
    /// An extent whose hash is wrong is called good.
    WrongChunkAccepted,
}

/// An extent between two of which a planted fault strikes.
const PLANTED_EVERY: u32 = 8;
/// Extents of one job list; all that are to be fetched at once if they are fewer than two lists.
const JOB_EXTENTS: u32 = 128;

/// Something that must never happen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// When.
    pub at: Duration,
    /// What.
    pub what: String,
}

/// A client.
pub struct Client {
    host: HostNo,
    config: ClientConfig,
    asset: Arc<Asset>,
    fetcher: Fetcher,
    /// Where each source of the fetcher runs.
    sources: Vec<HostNo>,
    film: Option<Film>,
    /// One past the last extent that the fetcher was told to fetch.
    told: u32,
    /// Extents that a download has.
    have: Vec<bool>,
    /// Buffers that the fetcher was told are lent, less those that came back.
    lent: usize,
    extents_had: u32,
    /// Extents that came since the start, repeated ones included.
    extents_come: u32,
    /// When lists of servers will come, and the first extent of each.
    lists_due: VecDeque<(Duration, u32)>,
    is_fetched: bool,
    done_at: Option<Duration>,
    first_data_at: Option<Duration>,
    has_seeked: bool,
    /// Extents whose hashes were wrong.
    forged: Vec<ExtentNo>,
    datagram: Vec<u8>,
    violation: Option<Violation>,
}

impl Client {
    /// A client that begins at `now` by asking the master who has what.
    pub fn new(
        clock: &Clock,
        now: Duration,
        host: HostNo,
        asset: Arc<Asset>,
        config: ClientConfig,
        seed: [u8; 32],
    ) -> Self {
        let extents = asset.stream().extents();
        let (film, extents_max, order) = match config.purpose {
            Purpose::Download => (None, config.extents_max, Order::AsPlanned),
            Purpose::Film(film) => (Some(Film::new(film, extents)), film.extents_max(), Order::AsNeeded),
        };
        let fetcher = FetcherConfig {
            asset: ASSET,
            content_key: content_key(),
            layout: asset.layout().clone(),
            stream: StreamId::ORIGINAL,
            extents_max,
            order,
            traffic: config.traffic,
            rate_max: None,
            stall: config.stall,
            joins: false,
            trace_from: None,
        };
        let mut client = Self {
            host,
            config: ClientConfig { extents_max, ..config },
            asset,
            fetcher: Fetcher::new(clock.at(now), fetcher, seed),
            sources: Vec::new(),
            film,
            told: 0,
            have: vec![false; extents as usize],
            lent: 0,
            extents_had: 0,
            extents_come: 0,
            lists_due: VecDeque::from([(now + config.master_delay, 0)]),
            is_fetched: false,
            done_at: None,
            first_data_at: None,
            has_seeked: false,
            forged: Vec::new(),
            datagram: Vec::with_capacity(PACKET_BYTES),
            violation: None,
        };
        client.feed(clock, now);
        client
    }

    /// Where it runs.
    pub fn host(&self) -> HostNo {
        self.host
    }

    /// Whether it asks each server for the ranges that the master gave it first, and for a fixed amount at a time.
    pub fn follows_the_plain_rule(&self) -> bool {
        matches!(self.config.traffic, Traffic::Plain { .. })
    }

    /// What drives it.
    pub fn fetcher(&self) -> &Fetcher {
        &self.fetcher
    }

    /// Its player, if it plays.
    pub fn film(&self) -> Option<&Film> {
        self.film.as_ref()
    }

    /// When everything was there and, for a film, played.
    pub fn done_at(&self) -> Option<Duration> {
        self.done_at
    }

    /// When the first DATA came.
    pub fn first_data_at(&self) -> Option<Duration> {
        self.first_data_at
    }

    /// Payload that has come and was needed, whole extents or not.
    pub fn accepted_bytes(&self) -> u64 {
        self.fetcher.snapshot().accepted_bytes
    }

    /// Of all payload that has come, the share that was not needed.
    pub fn redundant_share(&self) -> f64 {
        let snapshot = self.fetcher.snapshot();
        snapshot.unwanted_bytes as f64 / (snapshot.accepted_bytes + snapshot.unwanted_bytes).max(1) as f64
    }

    /// What must never happen, and has.
    pub fn violation(&self) -> Option<&Violation> {
        self.violation.as_ref()
    }

    /// Whether it has seeked since the last call.
    pub fn take_seek(&mut self) -> bool {
        std::mem::take(&mut self.has_seeked)
    }

    /// The next extent that was found to be forged since the last call.
    pub fn poll_forged(&mut self) -> Option<ExtentNo> {
        self.forged.pop()
    }

    /// Goes on playing from another extent.
    pub fn seek(&mut self, clock: &Clock, now: Duration, extent: u32) {
        let Some(film) = &mut self.film else { return };
        let extent = extent.min(self.asset.stream().extents());
        for buffer in film.seek(extent) {
            self.lent -= 1;
            self.fetcher.give_back(buffer);
        }
        self.has_seeked = true;
        self.start_over(clock, now, extent);
    }

    /// The first extent that a list of servers must name now.
    pub fn poll_list_wish(&mut self, now: Duration) -> Option<u32> {
        self.lists_due.pop_front_if(|(at, _)| *at <= now).map(|(_, first)| first)
    }

    /// A list of servers comes.
    pub fn handle_list(&mut self, clock: &Clock, now: Duration, list: SourceList) {
        self.fetcher.handle_list(clock.at(now), list);
    }

    /// A packet comes.
    pub fn handle_packet(&mut self, clock: &Clock, now: Duration, packet: &Packet) {
        let Some(source) = self.sources.iter().position(|host| *host == packet.from.host) else { return };
        let source = SourceNo(source as u8);
        match &packet.payload {
            Payload::Refusal => {
                let reason = "nothing listens there".to_owned();
                self.fetcher.on_path_error(clock.at(now), source, FailureKind::Refused, reason);
            }
            payload => {
                if matches!(payload, Payload::Chunk(..)) {
                    self.first_data_at.get_or_insert(now);
                }
                let datagram = payload.datagram().unwrap_or_default();
                self.fetcher.handle_datagram(clock.at(now), source, datagram);
            }
        }
    }

    /// When [`Client::run`] has something to do.
    pub fn poll_timeout(&self, clock: &Clock) -> Option<Duration> {
        if self.violation.is_some() {
            return None;
        }
        let fetcher = self.fetcher.poll_timeout().map(|at| clock.since_start(at));
        let film = self.film.as_ref().and_then(Film::poll_timeout);
        let list = self.lists_due.front().map(|(at, _)| *at);
        [fetcher, film, list].into_iter().flatten().min()
    }

    /// Lets time pass and does all that the contract asks for.
    pub fn run(&mut self, clock: &Clock, now: Duration, net: &mut Network) {
        if self.violation.is_some() {
            return;
        }
        if self.fetcher.poll_timeout().is_some_and(|at| at <= clock.at(now))
            && let Err(error) = self.fetcher.handle_timeout(clock.at(now))
        {
            return self.violate(now, format!("the fetcher gave up: {error:?}"));
        }
        self.play(now);
        self.connect(clock, now, net);
        // Checked extents make room for others, which are asked for at once.
        loop {
            self.transmit(clock, now, net);
            let Some(filled) = self.fetcher.poll_filled() else { break };
            self.check(clock, now, filled);
            self.play(now);
        }
        while let Some(notice) = self.fetcher.poll_notice() {
            self.take_notice(now, notice);
        }
        self.finish(now);
        self.check_bounds(now);
    }

    fn connect(&mut self, clock: &Clock, now: Duration, net: &Network) {
        while let Some((source, address)) = self.fetcher.poll_connect() {
            match Endpoint::of(address) {
                Some(endpoint) if usize::from(source.0) == self.sources.len() => {
                    debug_assert_eq!(net.endpoint(endpoint.host), endpoint, "servers keep their addresses");
                    self.sources.push(endpoint.host);
                    let (room, retained) = (self.config.receive_buffer_bytes, self.config.retained);
                    self.fetcher.on_connected(clock.at(now), source, room, retained);
                }
                _ => self.fetcher.on_unreachable(clock.at(now), source, "not of this network".to_owned()),
            }
        }
    }

    fn transmit(&mut self, clock: &Clock, now: Duration, net: &mut Network) {
        while let Some(source) = self.fetcher.poll_transmit(clock.at(now), &mut self.datagram) {
            let from = net.endpoint(self.host);
            let to = net.endpoint(self.sources[usize::from(source.0)]);
            let payload = Payload::Datagram(self.datagram.as_slice().into());
            net.send(Packet { from, to, sent_at: now, payload, answer: None });
        }
    }

    fn check(&mut self, clock: &Clock, now: Duration, filled: Filled) {
        let Checked { job, verdict, misled_by } = filled.check();
        let verdict = match verdict {
            Verdict::Forged { copy } if self.config.planted == Some(Planted::WrongChunkAccepted) => {
                Verdict::Good { buffer: copy.buffer, liars: Vec::new() }
            }
            verdict => verdict,
        };
        if matches!(verdict, Verdict::Forged { .. }) {
            self.forged.push(job.key.extent);
        }
        let verdict = match verdict {
            Verdict::Good { buffer, liars } => self.deliver(now, job, buffer, liars),
            verdict => verdict,
        };
        self.fetcher.handle_checked(clock.at(now), Checked { job, verdict, misled_by });
        self.feed(clock, now);
        if self.planted_strikes(Planted::DoublePull) && self.have.contains(&false) {
            let next = self.film.as_ref().map_or_else(|| self.first_lacking(), |film| film.position());
            self.start_over(clock, now, next);
        }
    }

    /// An extent that is called good goes to where it is wanted.
    fn deliver(&mut self, now: Duration, job: Job, buffer: Buffer, liars: Vec<SourceNo>) -> Verdict {
        let extent = job.key.extent;
        let published = self.asset.extent(extent);
        if job.key.stream != StreamId::ORIGINAL || buffer[..job.bytes] != *published.plain() {
            self.violate(now, format!("extent {} is not what was published", extent.0));
        }
        self.extents_come += 1;
        if !std::mem::replace(&mut self.have[extent.0 as usize], true) {
            self.extents_had += 1;
        }
        match &mut self.film {
            None => Verdict::Good { buffer, liars },
            Some(film) => match film.insert(extent.0, buffer) {
                None => {
                    self.lent += 1;
                    Verdict::Lent { liars }
                }
                Some(buffer) => Verdict::Good { buffer, liars },
            },
        }
    }

    fn play(&mut self, now: Duration) {
        while let Some(film) = &mut self.film {
            let played = film.advance(now);
            let goes_on = film.poll_timeout().is_some_and(|at| at <= now);
            match played {
                Some(buffer) if !self.planted_strikes(Planted::LeakedBuffer) => {
                    self.lent -= 1;
                    self.fetcher.give_back(buffer);
                }
                Some(_) => {}
                None if goes_on => {}
                None => return,
            }
        }
    }

    /// Forgets what was to be fetched, and fetches from `extent` on.
    fn start_over(&mut self, clock: &Clock, now: Duration, extent: u32) {
        self.fetcher.abandon(clock.at(now));
        self.told = extent;
        self.is_fetched = false;
        self.lists_due.push_back((now + self.config.master_delay, extent));
        self.feed(clock, now);
    }

    /// Tells the fetcher what comes next, well before it runs out. A short asset is told of as a whole.
    fn feed(&mut self, clock: &Clock, now: Duration) {
        let extents = self.asset.stream().extents();
        let at = self.film.as_ref().map_or(self.extents_had, Film::position);
        let ahead = at + self.config.extents_max as u32 + JOB_EXTENTS;
        while self.told < extents && self.told < ahead {
            let rest = extents - self.told;
            let count = if rest < 2 * JOB_EXTENTS { rest } else { JOB_EXTENTS };
            let first = ExtentNo(self.told);
            let have: Arc<[bool]> = match self.film {
                Some(_) => Arc::new([]),
                None => self.have[first.0 as usize..][..count as usize].into(),
            };
            let jobs = JobList::part(self.asset.stream(), first, self.asset.hashes(first, count), have);
            self.told += count;
            self.fetcher.fetch(clock.at(now), [jobs]);
        }
    }

    fn take_notice(&mut self, now: Duration, notice: Notice) {
        match notice {
            Notice::Fetched => self.is_fetched = self.told == self.asset.stream().extents(),
            Notice::WantList { first } => self.lists_due.push_back((now + self.config.master_delay, first.0)),
            Notice::WantTickets => self.lists_due.push_back((now + self.config.master_delay, self.told)),
            Notice::SourceFailed(_) => {}
            Notice::Withdrew { .. } => self.violate(now, "it gave up what nobody else fetches".to_owned()),
            Notice::Extent { extent, .. } => {
                self.violate(now, format!("extent {} of another stream came, which nobody wanted", extent.0));
            }
        }
    }

    fn finish(&mut self, now: Duration) {
        let over = match &self.film {
            Some(film) => film.is_over(),
            None => self.is_fetched,
        };
        if !over || self.done_at.is_some() {
            return;
        }
        self.done_at = Some(now);
        if self.film.is_none()
            && let Some(lacking) = self.have.iter().position(|have| !have)
        {
            self.violate(now, format!("all is said to be there, and extent {lacking} is not"));
        }
        if self.fetcher.buffers() > 0 {
            self.violate(now, format!("all is done, and {} buffers are not free", self.fetcher.buffers()));
        }
    }

    fn check_bounds(&mut self, now: Duration) {
        let held = self.film.as_ref().map_or(0, Film::held);
        if held != self.lent {
            self.violate(now, format!("{} buffers are lent, and the player has {held}", self.lent));
        }
        let buffers = self.fetcher.buffers();
        if buffers > self.config.extents_max {
            self.violate(now, format!("{buffers} extents are in memory, of at most {}", self.config.extents_max));
        }
        let bound = (self.config.receive_buffer_bytes as u64 / 2).max(TRAIN_BYTES);
        for source in 0..self.sources.len() {
            let in_flight = self.fetcher.in_flight_bytes(SourceNo(source as u8));
            if in_flight > bound {
                let host = self.sources[source].0;
                self.violate(now, format!("{in_flight} bytes are in flight from host {host}, of at most {bound}"));
            }
        }
    }

    fn planted_strikes(&self, fault: Planted) -> bool {
        self.config.planted == Some(fault) && self.extents_come % PLANTED_EVERY == PLANTED_EVERY - 1
    }

    fn first_lacking(&self) -> u32 {
        self.have.iter().position(|have| !have).unwrap_or(self.have.len()) as u32
    }

    fn violate(&mut self, at: Duration, what: String) {
        self.violation.get_or_insert(Violation { at, what });
    }
}

/// Fewest bytes that may be in flight: chunks are asked for in trains.
const TRAIN_BYTES: u64 = CHUNKS_PER_PULL_MAX as u64 * PACKET_BYTES as u64;
