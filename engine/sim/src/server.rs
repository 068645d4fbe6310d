//! A media server of a world: the shipping [`Responder`] in front of an asset, with what can go wrong with it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidcast_media::layout::CHUNKS_PER_EXTENT;
use braidcast_media::ticket::{SessionSecret, Ticket, TicketKey};
use braidcast_media::{ChunkNo, ExtentNo, Run, StreamId};
use braidcast_transport::packet::Status;
use braidcast_transport::responder::paced::Paced;
use braidcast_transport::responder::{Action, Now, Outcome, Request, Responder, ResponderConfig, Runs};

use crate::asset::{ASSET, Asset};
use crate::network::{AnswerNo, HostNo, Network, Packet, Payload};
use crate::rng::Rng;

/// Unix time at which worlds begin.
const EPOCH_S: u64 = 1_700_000_000;
/// How long tickets are good.
pub const TICKET_LIFETIME: Duration = Duration::from_secs(3_600);
/// Datagrams that the socket of a server that does not read them holds.
const INBOX_MAX: usize = 256;

/// The clocks of a world.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    epoch: Instant,
}

impl Clock {
    /// Time 0 is now. Nothing follows from when that is.
    pub fn start() -> Self {
        Self { epoch: Instant::now() }
    }

    /// Time since the start as the shipping code takes it.
    pub fn at(&self, now: Duration) -> Instant {
        self.epoch + now
    }

    /// Time since the start of a time that the shipping code gave.
    pub fn since_start(&self, at: Instant) -> Duration {
        at.duration_since(self.epoch)
    }

    fn both(&self, now: Duration) -> Now {
        Now { instant: self.at(now), unix_s: EPOCH_S + now.as_secs() }
    }
}

/// Whether a server does its work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Health {
    /// It does.
    Up,
    /// It reads nothing for a while, and then all that has come meanwhile.
    Frozen,
    /// Its process is gone; its host says so, or does not.
    Dead {
        /// ICMP port unreachable answers what comes.
        refuses: bool,
    },
}

/// How a server lies, with a probability per chunk, or per PULL for [`Lie::FalseEnd`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lie {
    /// Chunks that open and say something else: sealed with the content key.
    Wrong,
    /// The chunk of the same index in another extent.
    Stale,
    /// Chunks that do not open.
    Forged,
    /// Chunks are not sent, and END says that they were.
    FalseEnd,
}

/// A request that was answered with DATA.
pub struct Served {
    /// The PULL.
    pub request: Request,
    /// When the client sent it.
    pub sent_at: Duration,
    /// The answer.
    pub answer: AnswerNo,
}

/// A media server.
pub struct Server {
    host: HostNo,
    asset: Arc<Asset>,
    key: Arc<TicketKey>,
    responder: Responder,
    health: Health,
    inbox: VecDeque<Packet>,
    /// How it lies, and how probably.
    lie: Option<(Lie, f64)>,
    /// Extents that it does not hold.
    holes: BTreeSet<u32>,
    answers: u32,
    paced: Paced<Answer>,
    tickets: u32,
    rng: Rng,
}

/// What is sent for a PULL.
struct Answer {
    cause: Packet,
    number: AnswerNo,
    chunks: Vec<ChunkNo>,
    not_held: Runs,
    known: bool,
    /// END says that they were sent, and they are not.
    is_false: bool,
}

impl Server {
    /// A server of all of `asset`.
    pub fn new(host: HostNo, asset: Arc<Asset>, mut rng: Rng) -> Self {
        let key = Arc::new(TicketKey::new(u32::from(host.0), &rng.bytes()));
        let responder = new_responder(&key, &mut rng);
        Self {
            host,
            asset,
            key,
            responder,
            health: Health::Up,
            inbox: VecDeque::new(),
            lie: None,
            holes: BTreeSet::new(),
            answers: 0,
            paced: Paced::default(),
            tickets: 0,
            rng,
        }
    }

    /// Where it runs.
    pub fn host(&self) -> HostNo {
        self.host
    }

    /// Whether it does its work.
    pub fn health(&self) -> Health {
        self.health
    }

    /// It falls ill.
    pub fn set_health(&mut self, health: Health) {
        self.health = health;
        if matches!(health, Health::Dead { .. }) {
            self.inbox.clear();
            self.paced = Paced::default();
        }
    }

    /// Another process takes the place of the server's, with the same ticket key and no sessions.
    pub fn restart(&mut self) {
        self.responder = new_responder(&self.key, &mut self.rng);
        self.inbox.clear();
        self.paced = Paced::default();
        self.health = Health::Up;
    }

    /// It lies from now on, with a probability.
    pub fn set_lie(&mut self, lie: Lie, probability: f64) {
        self.lie = Some((lie, probability));
    }

    /// It does not hold an extent.
    pub fn add_hole(&mut self, extent: ExtentNo) {
        self.holes.insert(extent.0);
    }

    /// Whether it holds an extent.
    pub fn holds(&self, extent: ExtentNo) -> bool {
        !self.holes.contains(&extent.0)
    }

    /// What a master hands to a client that is to be served: a ticket, and the secret in it.
    pub fn ticket(&mut self, now: Duration) -> (Vec<u8>, SessionSecret) {
        self.tickets += 1;
        let secret = SessionSecret::new(self.rng.bytes());
        let ticket = Ticket {
            secret: secret.clone(),
            user: 1,
            expires_at: EPOCH_S + (now + TICKET_LIFETIME).as_secs(),
            rate_kib_s: 0,
            assets: vec![ASSET],
        };
        let mut nonce = [0; 12];
        nonce[..4].copy_from_slice(&self.tickets.to_be_bytes());
        (self.key.seal(&ticket, nonce), secret)
    }

    /// Sessions in memory.
    pub fn sessions(&self) -> usize {
        self.responder.sessions()
    }

    /// Takes a packet in. Gives the request if DATA was sent.
    pub fn handle_packet(&mut self, clock: &Clock, now: Duration, packet: Packet, net: &mut Network) -> Option<Served> {
        match self.health {
            Health::Up => self.answer(clock, now, &packet, net),
            Health::Frozen => {
                if self.inbox.len() < INBOX_MAX {
                    self.inbox.push_back(packet);
                }
                None
            }
            Health::Dead { refuses } => {
                if refuses {
                    let (from, to) = (net.endpoint(self.host), packet.from);
                    net.send(Packet { from, to, sent_at: now, payload: Payload::Refusal, answer: None });
                }
                None
            }
        }
    }

    /// The next packet that came while the server was frozen, once it is not.
    pub fn poll_inbox(&mut self) -> Option<Packet> {
        if self.health == Health::Up { self.inbox.pop_front() } else { None }
    }

    /// When [`Server::handle_timeout`] is due.
    pub fn poll_timeout(&self, clock: &Clock) -> Option<Duration> {
        let due = [self.responder.poll_timeout(), self.paced.poll_timeout()].into_iter().flatten().min();
        due.filter(|_| self.health == Health::Up).map(|at| clock.since_start(at))
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, clock: &Clock, now: Duration, net: &mut Network) {
        if self.health != Health::Up {
            return;
        }
        if self.responder.poll_timeout().is_some_and(|at| clock.since_start(at) <= now) {
            self.responder.handle_timeout(clock.both(now));
        }
        while let Some(train) = self.paced.poll_due(clock.at(now)) {
            for n in train.chunks.clone() {
                self.send_chunk(now, &train.content, n.into(), net);
            }
            if train.is_last() {
                self.end(clock, now, &train.request, &train.content, net);
            }
            self.paced.resume(train);
        }
    }

    fn answer(&mut self, clock: &Clock, now: Duration, packet: &Packet, net: &mut Network) -> Option<Served> {
        let datagram = packet.payload.datagram()?;
        match self.responder.handle_datagram(clock.both(now), packet.from.address(), datagram)? {
            Action::Send(answer) => {
                self.send(now, packet, Payload::Datagram(answer.as_slice().into()), None, net);
                None
            }
            Action::Pull(request) => {
                self.answers += 1;
                let answer = AnswerNo(u32::from(self.host.0) << ANSWER_SHIFT | self.answers);
                self.serve(clock, now, packet, &request, answer, net);
                Some(Served { request, sent_at: packet.sent_at, answer })
            }
        }
    }

    fn serve(
        &mut self,
        clock: &Clock,
        now: Duration,
        packet: &Packet,
        request: &Request,
        number: AnswerNo,
        net: &mut Network,
    ) {
        let known = request.asset == ASSET && request.stream == StreamId::ORIGINAL;
        let is_false = self.lies(Lie::FalseEnd);
        let (mut chunks, mut not_held) = (Vec::new(), Runs::new());
        for run in request.runs.iter().filter(|_| known) {
            let held = self.held_chunks(*run);
            chunks.extend(run.chunks().take(held.into()));
            if held < run.count {
                not_held.push(Run { first: ChunkNo(run.first.0 + u32::from(held)), count: run.count - held });
            }
        }
        let total = chunks.len() as u16;
        let answer = Answer { cause: packet.clone(), number, chunks, not_held, known, is_false };
        if !request.is_one_train(clock.at(now), total) {
            self.paced.push(request.clone(), total, answer);
            return;
        }
        for n in 0..answer.chunks.len() {
            self.send_chunk(now, &answer, n, net);
        }
        self.end(clock, now, request, &answer, net);
    }

    fn send_chunk(&mut self, now: Duration, answer: &Answer, n: usize, net: &mut Network) {
        if !answer.is_false {
            let payload = self.data(answer.chunks[n]);
            self.send(now, &answer.cause, payload, Some(answer.number), net);
        }
    }

    fn end(&mut self, clock: &Clock, now: Duration, request: &Request, answer: &Answer, net: &mut Network) {
        let status = match answer.chunks.len() {
            _ if !answer.known => Status::UnknownAsset,
            0 => Status::NotHeld,
            _ => Status::Ok,
        };
        let outcome = Outcome {
            status,
            sent_chunks: answer.chunks.len() as u16,
            not_held: &answer.not_held,
            retry_after: Duration::ZERO,
            server_limited: false,
        };
        if let Some(end) = self.responder.answer(clock.both(now), request, &outcome) {
            self.send(now, &answer.cause, Payload::Datagram(end.as_slice().into()), Some(answer.number), net);
        }
    }

    /// How many chunks from the start of a run are held.
    fn held_chunks(&self, run: Run) -> u16 {
        let chunks = self.asset.stream().chunks();
        let held = run.chunks().take_while(|chunk| chunk.0 < chunks && self.holds(chunk.extent()));
        held.count() as u16
    }

    fn data(&mut self, chunk: ChunkNo) -> Payload {
        let (extent, index) = (self.asset.extent(chunk.extent()), chunk.index_in_extent());
        if self.lies(Lie::Wrong) {
            return Payload::Datagram(extent.wrong_packet(index));
        }
        if self.lies(Lie::Stale) {
            let other = ExtentNo(if chunk.0 < CHUNKS_PER_EXTENT { 1 } else { chunk.extent().0 - 1 });
            if self.asset.stream().extent_chunks(other) as usize > index {
                return Payload::Chunk(self.asset.extent(other), index as u8);
            }
        }
        if self.lies(Lie::Forged) {
            let mut packet = Box::<[u8]>::from(extent.packet(index));
            packet[FORGED_BYTE] ^= 1;
            return Payload::Datagram(packet);
        }
        Payload::Chunk(extent, index as u8)
    }

    fn lies(&mut self, how: Lie) -> bool {
        let Some((lie, probability)) = self.lie else { return false };
        lie == how && self.rng.happens(probability)
    }

    fn send(&self, now: Duration, cause: &Packet, payload: Payload, answer: Option<AnswerNo>, net: &mut Network) {
        let from = net.endpoint(self.host);
        net.send(Packet { from, to: cause.from, sent_at: now, payload, answer });
    }
}

fn new_responder(key: &Arc<TicketKey>, rng: &mut Rng) -> Responder {
    Responder::new(ResponderConfig::default(), rng.bytes(), vec![Arc::clone(key)])
}

/// Numbers of answers hold the server's above this bit.
const ANSWER_SHIFT: u32 = 24;
/// A byte of the sealed chunk.
const FORGED_BYTE: usize = 100;
