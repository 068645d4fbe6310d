//! The server's side: greets clients, opens their PULLs, and says which chunks may be sent where.
//!
//! It never sees a chunk. The caller looks the runs of a [`Request`] up, sends them, and ends the answer with the
//! packet that [`Responder::answer`] makes. All state of a client is one `Session`.

mod by_user;
mod greeting;
pub mod paced;
mod session;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;
use braidcast_media::ticket::TicketKey;
use braidcast_media::{AssetId, Run, StreamId};

use crate::limits;
use crate::packet::{self, Kind, Limits, SmallPacket, Status};
pub use crate::packet::{Runs, SmallPacket as EndPacket};
use crate::seeded::Seeded;
use by_user::ByUser;
use greeting::{HelloTag, TicketTag};
use session::Session;

/// Both clocks, as the caller reads them.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// Monotonic.
    pub instant: Instant,
    /// Unix time in seconds; tickets expire by it.
    pub unix_s: u64,
}

/// Settings of a [`Responder`].
#[derive(Clone, Debug)]
pub struct ResponderConfig {
    /// Number of this shard, the top byte of its handles. Default 0.
    pub shard: u8,
    /// How far the master's clock may be ahead or behind. Default 60 s: more lets expired tickets live longer, less
    /// turns clients away whose master's clock drifts.
    pub clock_skew: Duration,
    /// Most that one session may take, in KiB/s, whatever its ticket says; 0 = not limited. Default 0.
    pub rate_kib_s: u32,
    /// Most chunks of one PULL. Default [`limits::CHUNKS_PER_PULL_MAX`], which is also the most.
    pub chunks_per_pull: u16,
    /// Sessions of this shard. Beyond it the user who holds the most gives way. Default [`limits::SESSIONS_MAX`].
    pub sessions_max: usize,
    /// Sessions that have not pulled yet, at least 1. Beyond it the user who holds the most of them gives way. Default
    /// [`limits::HALF_OPEN_MAX`].
    pub half_open_max: usize,
}

impl Default for ResponderConfig {
    fn default() -> Self {
        Self {
            shard: 0,
            clock_skew: limits::CLOCK_SKEW,
            rate_kib_s: 0,
            chunks_per_pull: limits::CHUNKS_PER_PULL_MAX,
            sessions_max: limits::SESSIONS_MAX,
            half_open_max: limits::HALF_OPEN_MAX,
        }
    }
}

/// What the caller does with a datagram.
#[derive(Debug)]
pub enum Action {
    /// Send this packet to where the datagram came from.
    Send(SmallPacket),
    /// Send these chunks, then what [`Responder::answer`] gives.
    Pull(Request),
}

/// A PULL that may be answered with DATA: authentic, new, within every limit.
#[derive(Clone, Debug)]
pub struct Request {
    /// Where the session lives.
    pub to: SocketAddr,
    /// Which session.
    pub handle: u64,
    /// Which PULL of the session.
    pub sequence: u32,
    /// Which asset; within the ticket's scope.
    pub asset: AssetId,
    /// Which stream.
    pub stream: StreamId,
    /// 1 to 8 runs of together 1 to 52 chunks. They need not exist.
    pub runs: Runs,
    /// When it came.
    pub received_at: Instant,
    /// When its answer may begin: behind those of the session's PULLs before it.
    pub start_at: Instant,
    /// Most chunks of one train.
    pub train_chunks: u16,
    /// From the start of a train to that of the next, for each of its chunks. Zero where no rate is named.
    pub chunk_time: Duration,
    /// When the first train of its answer left; nothing if it leaves with END.
    pub started_at: Option<Instant>,
}

impl Request {
    /// Chunks asked for.
    pub fn chunks(&self) -> u16 {
        self.runs.iter().map(|run| run.count).sum()
    }

    /// Whether an answer of `chunks` chunks is one train that may leave at `now`; [`paced::Paced`] is for the others.
    pub fn is_one_train(&self, now: Instant, chunks: u16) -> bool {
        chunks <= self.train_chunks && self.start_at <= now
    }
}

/// How a request went.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// [`Status::Ok`], [`Status::NotHeld`], [`Status::Busy`] or [`Status::UnknownAsset`].
    pub status: Status,
    /// Chunks sent.
    pub sent_chunks: u16,
    /// At most 8 runs that were asked for and are not here.
    pub not_held: &'a [Run],
    /// With [`Status::Busy`].
    pub retry_after: Duration,
    /// The server, not the path, slowed this answer down.
    pub server_limited: bool,
}

/// What was dropped or refused, by reason; all since the start.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Wrong size, unknown kind, or a kind that only clients take.
    pub malformed: u64,
    /// HELLO whose ticket does not open.
    pub bad_ticket: u64,
    /// HELLO whose ticket has expired.
    pub expired_ticket: u64,
    /// HELLO without proof of the secret.
    pub bad_proof: u64,
    /// HELLO beyond the bounds on sessions.
    pub too_many_sessions: u64,
    /// Session that left a full table for a newer one.
    pub displaced_sessions: u64,
    /// PULL that does not open.
    pub bad_tag: u64,
    /// PULL seen before, or too old.
    pub replayed: u64,
    /// PULL for a session that is not here.
    pub unknown_session: u64,
    /// PULL beyond the bound on unproven bytes.
    pub over_limit: u64,
    /// PULL accepted.
    pub pulls: u64,
}

/// One shard's sessions.
pub struct Responder {
    config: ResponderConfig,
    keys: Vec<Arc<TicketKey>>,
    random: Seeded,
    mac_key: [u8; 32],
    /// Each apart: a table that doubles would hold room for twice as many, and the old one for a while.
    sessions: HashMap<u64, Box<Session>>,
    /// The session that each HELLO opened, for as long as it lives.
    by_hello: HashMap<HelloTag, u64>,
    /// Whose session leaves when `sessions` is full.
    by_user: ByUser,
    /// Sessions that have not pulled yet.
    half_open: ByUser,
    sessions_of_ticket: HashMap<TicketTag, u16>,
    hints: HintBudget,
    epoch: Option<Instant>,
    swept_at: Option<Instant>,
    counters: Counters,
}

impl Responder {
    /// A shard without sessions. `seed` must be random and secret: handles, randoms and proofs come from it.
    pub fn new(config: ResponderConfig, seed: [u8; 32], keys: Vec<Arc<TicketKey>>) -> Self {
        let mut random = Seeded::new(seed);
        let mac_key = random.draw();
        let mut responder = Self {
            config,
            keys: Vec::new(),
            random,
            mac_key,
            sessions: HashMap::new(),
            by_hello: HashMap::new(),
            by_user: ByUser::default(),
            half_open: ByUser::default(),
            sessions_of_ticket: HashMap::new(),
            hints: HintBudget::default(),
            epoch: None,
            swept_at: None,
            counters: Counters::default(),
        };
        responder.set_ticket_keys(keys);
        responder
    }

    /// Replaces the ticket keys: the current one, then the previous one. Others are ignored.
    pub fn set_ticket_keys(&mut self, mut keys: Vec<Arc<TicketKey>>) {
        keys.truncate(TICKET_KEYS_MAX);
        self.keys = keys;
    }

    /// Takes a datagram in. Nothing comes back for what deserves no answer.
    pub fn handle_datagram(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) -> Option<Action> {
        match Kind::of(datagram) {
            Some(Kind::Hello) => self.handle_hello(now, from, datagram.try_into().ok()?).map(Action::Send),
            Some(Kind::Pull) => self.handle_pull(now, from, datagram),
            //= PROTOCOL P4: A packet of a kind that the receiver does not accept MUST be dropped without an answer.
            Some(Kind::Welcome | Kind::Data | Kind::End | Kind::Reset) => {
                self.counters.malformed += 1;
                None
            }
            None => self.handle_other_version(now, datagram).map(Action::Send),
        }
    }

    /// Makes the END of a request; nothing if its session is gone. To be called once for each request.
    pub fn answer(&mut self, now: Now, request: &Request, outcome: &Outcome<'_>) -> Option<EndPacket> {
        let epoch = *self.epoch.get_or_insert(now.instant);
        let session = self.sessions.get_mut(&request.handle)?;
        session.release(request, outcome);
        Some(session.end(now.instant, epoch, &self.mac_key, request, outcome))
    }

    /// When to call [`Responder::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.sessions.is_empty()).then_some(self.swept_at? + SWEEP_INTERVAL)
    }

    /// Forgets sessions that were silent for [`limits::SESSION_IDLE`].
    pub fn handle_timeout(&mut self, now: Now) {
        self.swept_at = Some(now.instant);
        let idle = self.sessions.iter().filter(|(_, session)| session.is_idle(now.instant)).map(|(handle, _)| *handle);
        for handle in idle.collect::<Vec<_>>() {
            self.forget(handle);
        }
    }

    /// How many sessions there are, half-open ones included.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// What was dropped and why.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Where a PULL names the shard that made its handle: the byte with which PULLs begin, and the place of the byte that
    /// is the shard's number.
    pub const SHARD_IN_PULL: (u8, usize) = (packet::PULL, 4);

    fn handle_pull(&mut self, now: Now, from: SocketAddr, datagram: &[u8]) -> Option<Action> {
        let (handle, sequence) = packet::handle_and_sequence(datagram)?;
        //= PROTOCOL U3: A server MUST send DATA only for a PULL that opens under an established session and arrives from that session's address pair.
        let Some(session) = self.sessions.get_mut(&handle).filter(|session| session.client() == from) else {
            self.counters.unknown_session += 1;
            //= PROTOCOL R1: A server MUST limit the rate of RESETs, and never send one larger than the packet that caused it.
            return self.hints.spend_reset(now.instant).then(|| Action::Send(packet::reset(handle, sequence)));
        };
        let Some(opened) = session.open_pull(datagram, sequence) else {
            self.counters.bad_tag += 1;
            return None;
        };
        if !session.accept_sequence(now.instant, sequence) {
            self.counters.replayed += 1;
            return None;
        }
        self.by_user.on_heard(session.entries().by_user);
        if let Some(place) = session.establish() {
            self.half_open.remove(place);
        }
        let pull = opened.as_ref().ok();
        let refusal = match pull {
            None => Some(Refusal::of(Status::Malformed)),
            Some(pull) => {
                session.take_proof(handle, &self.mac_key, pull.proof);
                session.refusal(now, pull, &self.config)
            }
        };
        let pacing = pull.map_or(Pacing::NONE, |pull| Pacing::at(pull.rate_kib_s));
        let mut request = Request {
            to: from,
            handle,
            sequence,
            asset: pull.map_or(AssetId(0), |p| p.asset),
            stream: pull.map_or(StreamId(0), |p| p.stream),
            runs: pull.map(|p| p.runs.clone()).unwrap_or_default(),
            received_at: now.instant,
            start_at: now.instant,
            train_chunks: pacing.train_chunks,
            chunk_time: pacing.chunk_time,
            started_at: None,
        };
        let slot = match refusal {
            Some(refusal) => Err(refusal),
            None => session.take_slot(now.instant, &request),
        };
        let Err(refusal) = slot.map(|start_at| request.start_at = start_at) else {
            session.reserve(&request);
            self.counters.pulls += 1;
            return Some(Action::Pull(request));
        };
        if refusal.status == Status::OverLimit {
            self.counters.over_limit += 1;
        }
        let outcome = Outcome {
            status: refusal.status,
            sent_chunks: 0,
            not_held: &[],
            retry_after: refusal.retry_after,
            server_limited: true,
        };
        let epoch = *self.epoch.get_or_insert(now.instant);
        Some(Action::Send(session.end(now.instant, epoch, &self.mac_key, &request, &outcome)))
    }

    fn handle_other_version(&mut self, now: Now, datagram: &[u8]) -> Option<SmallPacket> {
        self.counters.malformed += 1;
        //= PROTOCOL V1: A server MUST answer a packet of 1,232 bytes and unknown version with VERSIONS, rate-limited, and any other packet of unknown version not at all.
        let cause = datagram.try_into().ok().filter(|_| packet::is_other_version(datagram))?;
        self.hints.spend_versions(now.instant).then(|| packet::versions(cause))
    }

    fn limits(&self, ticket_rate_kib_s: u32, lifetime_s: u32) -> Limits {
        Limits {
            chunks_per_pull: self.config.chunks_per_pull.min(limits::CHUNKS_PER_PULL_MAX),
            runs_per_pull: limits::RUNS_PER_PULL_MAX as u8,
            rate_kib_s: session::effective_rate(ticket_rate_kib_s, self.config.rate_kib_s),
            lifetime_s,
            pulls_unanswered: limits::PULLS_UNANSWERED_MAX,
        }
    }
}

/// Why a PULL gets an END without DATA.
struct Refusal {
    status: Status,
    retry_after: Duration,
}

impl Refusal {
    fn of(status: Status) -> Self {
        Self { status, retry_after: Duration::ZERO }
    }
}

/// How the answer to a PULL is spread over time.
struct Pacing {
    train_chunks: u16,
    chunk_time: Duration,
}

impl Pacing {
    /// One train, at once.
    const NONE: Self = Self { train_chunks: limits::CHUNKS_PER_PULL_MAX, chunk_time: Duration::ZERO };

    //= PROTOCOL U9: A server MUST space the trains of a session to the rate that each PULL names, and make none longer than the greater of 2 chunks and 1 ms at that rate.
    fn at(rate_kib_s: u32) -> Self {
        if rate_kib_s == 0 {
            return Self::NONE;
        }
        let bytes_s = u64::from(rate_kib_s.max(limits::RATE_KIB_S_MIN)) * 1024;
        let nanos = PACKET_BYTES as u64 * 1_000_000_000 / bytes_s;
        let chunks = limits::TRAIN_TIME.as_nanos() as u64 / nanos.max(1);
        let most = u64::from(limits::CHUNKS_PER_PULL_MAX);
        let train_chunks = chunks.clamp(limits::TRAIN_CHUNKS_MIN.into(), most) as u16;
        Self { train_chunks, chunk_time: Duration::from_nanos(nanos) }
    }
}

/// How many RESETs and VERSIONS are left in this second.
#[derive(Default)]
struct HintBudget {
    second: Option<Instant>,
    resets: u32,
    versions: u32,
}

impl HintBudget {
    fn spend_reset(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.resets += 1;
        self.resets <= limits::HINTS_PER_SECOND
    }

    fn spend_versions(&mut self, now: Instant) -> bool {
        self.refill(now);
        self.versions += 1;
        self.versions <= limits::HINTS_PER_SECOND
    }

    fn refill(&mut self, now: Instant) {
        if self.second.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1)) {
            *self = Self { second: Some(now), resets: 0, versions: 0 };
        }
    }
}

const TICKET_KEYS_MAX: usize = 2;
const SHARD_SHIFT: u32 = 56;
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);
