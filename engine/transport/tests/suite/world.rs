//! A puller and a responder with a link between them, in virtual time that jumps to the next thing that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidcast_media::layout::{CHUNK_BYTES, PACKET_BYTES};
use braidcast_media::{ChunkNo, Run, StreamId};
use braidcast_transport::congestion::FixedWindow;
use braidcast_transport::packet::Status;
use braidcast_transport::puller::{Arrival, Event, Loss, Puller, PullerConfig};
use braidcast_transport::responder::{Action, Now, Outcome, Request, Responder, ResponderConfig, Runs};

use crate::asset::{ASSET, Asset, EPOCH_S, PassFor, ticket_key};
use crate::link::{Faults, Link};
use crate::server::address;

/// One way through the link.
pub(crate) const DELAY: Duration = Duration::from_millis(10);

/// No run of these tests takes so long; the limit makes a standstill a failure.
const RUN_MAX: Duration = Duration::from_secs(120);

/// How a world is to be made.
#[derive(Clone, Copy)]
pub(crate) struct Setting {
    pub(crate) bytes: usize,
    pub(crate) seed: u64,
    pub(crate) faults: Faults,
    pub(crate) window_bytes: u64,
    pub(crate) pass: PassFor,
    /// Most chunks of one PULL.
    pub(crate) chunks_per_pull: u32,
    /// From a PULL to its answer.
    pub(crate) service_time: Duration,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            bytes: 2_000_001,
            seed: 1,
            faults: Faults::default(),
            window_bytes: 8 * 52 * PACKET_BYTES as u64,
            pass: PassFor::number(1),
            chunks_per_pull: 52,
            service_time: Duration::ZERO,
        }
    }
}

/// What a client fetches: which chunks it has, and which it has yet to ask for.
struct Film {
    bytes: Vec<[u8; CHUNK_BYTES]>,
    have: Vec<bool>,
    wanted: BTreeSet<u32>,
}

pub(crate) struct World {
    pub(crate) asset: Asset,
    pub(crate) responder: Responder,
    pub(crate) puller: Puller,
    pub(crate) up: Link,
    pub(crate) down: Link,
    pub(crate) start: Instant,
    pub(crate) now: Instant,
    /// Everything that the puller told, and when.
    pub(crate) events: Vec<(Duration, Event)>,
    /// Chunks that the server does not hold.
    pub(crate) holes: BTreeSet<u32>,
    /// Whether the client asks for what it lacks.
    pub(crate) asking: bool,
    setting: Setting,
    film: Film,
    answers_due: BTreeMap<(Instant, u64), Request>,
    answers: u64,
    /// Of the newest PULL that reached the server.
    handle: u64,
}

impl World {
    pub(crate) fn new(setting: Setting) -> Self {
        let asset = Asset::new(setting.bytes);
        let start = Instant::now();
        let congestion = Box::new(FixedWindow { bytes: setting.window_bytes });
        let config = PullerConfig { seed: [0xc1; 32], congestion };
        let mut puller = Puller::new(config, asset.opener(), asset.layout.clone());
        let pass = setting.pass.sealed();
        assert!(puller.greet(start, pass.ticket.clone(), pass.session_secret()));
        let chunks = asset.chunks() as usize;
        let film = Film {
            bytes: vec![[0xee; CHUNK_BYTES]; chunks],
            have: vec![false; chunks],
            wanted: (0..chunks as u32).collect(),
        };
        Self {
            puller,
            responder: responder(0x5e),
            up: Link::new(DELAY, setting.faults, setting.seed),
            down: Link::new(DELAY, setting.faults, !setting.seed),
            start,
            now: start,
            events: Vec::new(),
            holes: BTreeSet::new(),
            asking: true,
            film,
            asset,
            setting,
            answers_due: BTreeMap::new(),
            answers: 0,
            handle: 0,
        }
    }

    /// Since the start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(crate) fn is_done(&self) -> bool {
        self.film.have.iter().all(|&have| have)
    }

    /// How many chunks have come.
    pub(crate) fn chunks_had(&self) -> usize {
        self.film.have.iter().filter(|&&have| have).count()
    }

    /// The handle that an eavesdropper reads from the newest PULL.
    pub(crate) fn handle_on_the_path(&self) -> u64 {
        self.handle
    }

    /// Puts a server in the place of this one that knows nothing of its sessions.
    pub(crate) fn restart_server(&mut self) {
        self.responder = responder(0x5f);
        self.answers_due.clear();
    }

    /// Greets with a ticket of another number, good for an hour from the start.
    pub(crate) fn renew(&mut self, number: u8) {
        let pass = PassFor::number(number).sealed();
        assert!(self.puller.greet(self.now, pass.ticket.clone(), pass.session_secret()));
    }

    /// Runs until every chunk is there, and checks the film.
    pub(crate) fn download(&mut self) {
        self.run_until(World::is_done);
        let mut bytes = self.film.bytes.concat();
        assert!(bytes.split_off(self.asset.plain.len()).iter().all(|&byte| byte == 0), "padding is zeros");
        assert!(bytes == self.asset.plain, "the film is not what was published");
    }

    /// Runs for a while.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_until(|world| world.next_thing().is_none_or(|at| at > end));
        self.now = end;
    }

    /// Runs until `done` says so.
    pub(crate) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        loop {
            self.step();
            if done(self) {
                return;
            }
            let next =
                self.next_thing().unwrap_or_else(|| panic!("seed {}: nothing will ever happen", self.setting.seed));
            assert!(next > self.now, "seed {}: a deadline passed and nothing came of it", self.setting.seed);
            assert!(next < self.start + RUN_MAX, "seed {}: no end after {:?}", self.setting.seed, self.elapsed());
            self.now = next;
        }
    }

    /// All that happens at one moment, in the order of the driving contract.
    fn step(&mut self) {
        self.run_server();
        while let Some(packet) = self.down.receive(self.now) {
            self.receive(&packet);
        }
        if self.puller.poll_timeout().is_some_and(|at| at <= self.now) {
            self.puller.handle_timeout(self.now);
        }
        while let Some(event) = self.puller.poll_event() {
            // There is no other source: what is not held is not asked for again.
            if let Event::Lost { runs, why, .. } = &event
                && *why != Loss::NotHeld
            {
                let lost = runs.iter().flat_map(|run| run.chunks());
                self.film.wanted.extend(lost.map(|chunk| chunk.0).filter(|&n| !self.film.have[n as usize]));
            }
            self.events.push((self.elapsed(), event));
        }
        self.ask();
        let mut datagram = Vec::new();
        while self.puller.poll_transmit(self.now, &mut datagram) {
            self.up.send(self.now, &datagram);
        }
        let in_flight = u64::from(self.puller.in_flight_chunks()) * PACKET_BYTES as u64;
        assert!(in_flight <= self.setting.window_bytes, "more is in flight than the window holds");
    }

    fn next_thing(&self) -> Option<Instant> {
        let answer = self.answers_due.first_key_value().map(|((at, _), _)| *at);
        [answer, self.up.next_arrival(), self.down.next_arrival(), self.puller.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    fn ask(&mut self) {
        while self.asking {
            let (chunks_max, runs_max) = self.puller.pull_limits();
            let capacity = self.puller.capacity_chunks(self.now).min(chunks_max.into());
            let chunks = capacity.min(self.setting.chunks_per_pull);
            let runs = self.film.take(chunks, runs_max);
            if runs.is_empty() {
                return;
            }
            self.puller.pull(self.now, StreamId::ORIGINAL, runs);
        }
    }

    fn receive(&mut self, packet: &[u8]) {
        if packet[0] != 0x14 {
            return self.puller.handle_datagram(self.now, packet);
        }
        let film = &mut self.film;
        let arrival = self.puller.handle_data(self.now, packet, |stream, chunk| {
            let at = chunk.0 as usize;
            let missing = stream == StreamId::ORIGINAL && !film.have[at];
            missing.then(|| &mut film.bytes[at])
        });
        if let Arrival::Accepted { chunk, payload_bytes, .. } = arrival {
            let at = chunk.0 as usize;
            let published = &self.asset.plain[at * CHUNK_BYTES..][..payload_bytes];
            assert!(film.bytes[at][..payload_bytes] == *published, "chunk {chunk} is not what was published");
            film.have[at] = true;
            film.wanted.remove(&chunk.0);
        }
    }

    fn run_server(&mut self) {
        let now = self.server_now();
        while let Some(packet) = self.up.receive(self.now) {
            match self.responder.handle_datagram(now, client_address(), &packet) {
                Some(Action::Send(answer)) => self.down.send(self.now, &answer),
                Some(Action::Pull(request)) => {
                    self.handle = request.handle;
                    self.answers += 1;
                    self.answers_due.insert((self.now + self.setting.service_time, self.answers), request);
                }
                None => {}
            }
        }
        while let Some(first) = self.answers_due.first_entry().filter(|first| first.key().0 <= now.instant) {
            let request = first.remove();
            self.answer(&request);
        }
        if self.responder.poll_timeout().is_some_and(|at| at <= self.now) {
            self.responder.handle_timeout(now);
        }
    }

    fn answer(&mut self, request: &Request) {
        assert_eq!((request.asset, request.stream), (ASSET, StreamId::ORIGINAL));
        let asked = request.runs.iter().flat_map(|run| run.chunks());
        let (held, holes): (Vec<ChunkNo>, Vec<ChunkNo>) = asked.partition(|chunk| !self.holes.contains(&chunk.0));
        for &chunk in &held {
            let packet = self.asset.packet(chunk).expect("clients ask for what there is");
            self.down.send(self.now, packet);
        }
        let mut not_held: Vec<Run> = Vec::new();
        for chunk in holes {
            match not_held.last_mut() {
                Some(run) if run.end() == u64::from(chunk.0) => run.count += 1,
                _ => not_held.push(Run { first: chunk, count: 1 }),
            }
        }
        let status = if held.is_empty() { Status::NotHeld } else { Status::Ok };
        let sent_chunks = held.len() as u16;
        let outcome =
            Outcome { status, sent_chunks, not_held: &not_held, retry_after: Duration::ZERO, server_limited: false };
        if let Some(end) = self.responder.answer(self.server_now(), request, &outcome) {
            self.down.send(self.now, &end);
        }
    }

    fn server_now(&self) -> Now {
        Now { instant: self.now, unix_s: EPOCH_S + self.elapsed().as_secs() }
    }
}

impl Film {
    /// The next runs to ask for, of together at most `chunks`.
    fn take(&mut self, chunks: u32, runs_max: usize) -> Runs {
        let mut runs = Runs::new();
        for _ in 0..chunks {
            let Some(&next) = self.wanted.first() else { break };
            let is_full = runs.len() == runs_max;
            match runs.last_mut() {
                Some(run) if run.end() == u64::from(next) => run.count += 1,
                _ if is_full => break,
                _ => runs.push(Run::new(next, 1)),
            }
            self.wanted.remove(&next);
        }
        runs
    }
}

fn client_address() -> SocketAddr {
    address(4_000)
}

fn responder(seed: u8) -> Responder {
    Responder::new(ResponderConfig::default(), [seed; 32], vec![Arc::new(ticket_key())])
}
