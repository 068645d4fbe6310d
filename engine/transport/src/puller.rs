//! The client's side of one server: greets it, asks it for chunks, and finds out what will not come.

mod answers;
mod asking;
mod connection;
mod delivery;
mod outstanding;
mod pace;
mod rtt;
mod waiting;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use braidcast_media::chunk::DataHeader;
use braidcast_media::layout::{CHUNK_BYTES, PACKET_BYTES, PackLayout};
use braidcast_media::ticket::SessionSecret;
use braidcast_media::{ChunkNo, Opener, Run, StreamId};

use crate::congestion::{Congestion, Retained};
use crate::limits::CHUNKS_PER_PULL_MAX;
use crate::packet::{Kind, SmallPacket};
use connection::Connection;
use delivery::Delivery;
use outstanding::{Outstanding, Phase};
use pace::Pace;
use rtt::Rtt;

/// Something that the planner must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A session is open: chunks may be asked for.
    Opened,
    /// These chunks were asked for and will not come from this PULL.
    Lost {
        /// Of which stream.
        stream: StreamId,
        /// Which.
        runs: Vec<Run>,
        /// How that is known.
        why: Loss,
    },
    /// The ticket has expired: [`Puller::greet`] with another.
    TicketExpired,
    /// The source cannot be used. What was asked for has been told as lost.
    Failed(Failure),
}

/// How it is known that chunks will not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// END says they were sent, and they did not come or did not open.
    Data,
    /// The server has not seen the PULL.
    Pull,
    /// No answer came in time.
    Timeout,
    /// The server does not hold them.
    NotHeld,
    /// The server did not send them: busy, over its limit, or ticket expired.
    Refused,
}

/// Why a source cannot be used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Failure {
    /// No HELLO was answered.
    Unanswered,
    /// Three time-outs in a row.
    Silent,
    /// It speaks these versions of the protocol and not this one.
    OtherVersions(Vec<u8>),
    /// It does not serve this asset to this ticket.
    UnknownAsset,
    /// It calls a PULL malformed that is not, or grants a session under which nothing may be asked for.
    Misbehaves,
}

/// What became of a DATA packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arrival {
    /// Opened into its place.
    Accepted {
        /// Of which stream.
        stream: StreamId,
        /// Which chunk.
        chunk: ChunkNo,
        /// Its bytes without padding.
        payload_bytes: usize,
        /// It had been told as lost.
        is_late: bool,
    },
    /// Does not open, or its length is wrong: damaged or forged.
    Rejected {
        /// Of which stream it claims to be.
        stream: StreamId,
        /// Which chunk it claims to be.
        chunk: ChunkNo,
    },
    /// Not asked for, or no longer missing.
    Unwanted,
    /// No packet that a client takes.
    Malformed,
}

/// What was counted since the start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Bytes of chunks that were taken, without padding.
    pub accepted_bytes: u64,
    /// Bytes of chunks that were not needed.
    pub unwanted_bytes: u64,
    /// Chunks that were sent, on the word of END, or asked for in a lost PULL, and did not come.
    pub lost_chunks: u64,
    /// DATA that did not open.
    pub rejected: u64,
    /// Other packets dropped.
    pub dropped: u64,
}

/// Settings of a [`Puller`].
pub struct PullerConfig {
    /// Random and secret: client randoms come from it.
    pub seed: [u8; 32],
    /// How much may be in flight.
    pub congestion: Box<dyn Congestion>,
}

/// The client's side of one source, for one asset.
pub struct Puller {
    opener: Opener,
    layout: PackLayout,
    congestion: Box<dyn Congestion>,
    connection: Connection,
    out: VecDeque<SmallPacket>,
    pulls: VecDeque<Outstanding>,
    /// Given up, yet welcome while it is still missing.
    late: VecDeque<Outstanding>,
    /// Index into `pulls` of the one that the last chunk belonged to.
    cursor: usize,
    in_flight_chunks: u32,
    delivery: Delivery,
    pace: Pace,
    rtt: Rtt,
    /// Most bytes in flight, whatever the path takes: what this host's receive buffer holds.
    in_flight_bytes_max: u64,
    /// Most bytes per second, whatever the path takes.
    rate_max: Option<f64>,
    /// Loss before then is this host's own: its receive buffer was full.
    local_drops_until: Option<Instant>,
    timeouts: u32,
    heard_at: Option<Instant>,
    busy_until: Option<Instant>,
    events: VecDeque<Event>,
    counters: Counters,
}

/// Time-outs in a row after which a source is given up.
const TIMEOUTS_MAX: u32 = 3;
/// PULLs that were given up and whose chunks are still taken.
const LATE_MAX: usize = 64;

impl Puller {
    /// A source of the asset that `opener` opens. [`Puller::greet`] comes next.
    pub fn new(config: PullerConfig, opener: Opener, layout: PackLayout) -> Self {
        Self {
            opener,
            layout,
            congestion: config.congestion,
            connection: Connection::new(config.seed),
            out: VecDeque::new(),
            pulls: VecDeque::new(),
            late: VecDeque::new(),
            cursor: 0,
            in_flight_chunks: 0,
            delivery: Delivery::default(),
            pace: Pace::default(),
            rtt: Rtt::default(),
            in_flight_bytes_max: u64::MAX,
            rate_max: None,
            local_drops_until: None,
            timeouts: 0,
            heard_at: None,
            busy_until: None,
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Opens a session with a ticket from the master, or the next one while the present one goes on. Says no if the
    /// ticket is too long to be one.
    pub fn greet(&mut self, now: Instant, ticket: Vec<u8>, secret: SessionSecret) -> bool {
        self.connection.greet(now, ticket, secret)
    }

    /// Whether a session is open.
    pub fn is_open(&self) -> bool {
        self.connection.current.is_some()
    }

    /// Whether a HELLO awaits its WELCOME.
    pub fn is_greeting(&self) -> bool {
        self.connection.is_greeting()
    }

    /// Writes the next datagram to send into `out`; no if there is none.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> bool {
        out.clear();
        if let Some(hello) = self.connection.poll_hello(now) {
            out.extend_from_slice(hello);
            return true;
        }
        self.out.pop_front().map(|packet| out.extend_from_slice(&packet)).is_some()
    }

    /// The next thing that the planner must know.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Takes a DATA packet in. `place` gives the room of a chunk that is still missing; the chunk is opened straight
    /// into it. On [`Arrival::Rejected`] the room holds nothing of use.
    pub fn handle_data<'a>(
        &mut self,
        now: Instant,
        packet: &[u8],
        place: impl FnOnce(StreamId, ChunkNo) -> Option<&'a mut [u8; CHUNK_BYTES]>,
    ) -> Arrival {
        let Some(header) = DataHeader::parse(packet) else {
            self.counters.dropped += 1;
            return Arrival::Malformed;
        };
        //= PROTOCOL D1: A client MUST accept DATA only for a chunk that it has asked this source for and still lacks.
        let found = self.find(header.stream, header.chunk);
        let room = found.and_then(|_| place(header.stream, header.chunk));
        let (Some((list, index, bit)), Some(room)) = (found, room) else {
            self.counters.unwanted_bytes += u64::from(header.payload_bytes);
            if let Some((list, index, bit)) = found {
                self.on_arrived(now, list, index, bit);
            }
            return Arrival::Unwanted;
        };
        //= PROTOCOL D4: The payload length of a chunk MUST equal what the stream's length implies; other chunks are treated as damaged.
        let expected = self.layout.stream(header.stream).and_then(|s| s.payload_bytes(header.chunk));
        let length_fits = expected == Some(usize::from(header.payload_bytes));
        //= PROTOCOL D2: A client MUST take a chunk's bytes only after its tag verifies.
        if !length_fits || self.opener.open(&header, packet, room).is_err() {
            //= PROTOCOL P3: A packet that fails to open MUST change no state beyond a counter.
            self.counters.rejected += 1;
            return Arrival::Rejected { stream: header.stream, chunk: header.chunk };
        }
        self.heard(now);
        self.on_arrived(now, list, index, bit);
        self.counters.accepted_bytes += u64::from(header.payload_bytes);
        Arrival::Accepted {
            stream: header.stream,
            chunk: header.chunk,
            payload_bytes: usize::from(header.payload_bytes),
            is_late: matches!(list, List::Late),
        }
    }

    /// Takes any other packet in.
    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) {
        match Kind::of(datagram) {
            Some(Kind::Welcome) => {
                let greeted = self.connection.handle_welcome(now, datagram);
                self.on_greeted(now, greeted);
            }
            Some(Kind::End) => self.handle_end(now, datagram),
            Some(Kind::Reset) => self.handle_reset(now, datagram),
            Some(Kind::Hello | Kind::Pull | Kind::Data) => self.counters.dropped += 1,
            None => {
                let greeted = self.connection.handle_versions(datagram);
                self.on_greeted(now, greeted);
            }
        }
    }

    /// When to call [`Puller::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let silence = self.silence_deadline();
        let closing = self.pulls.iter().filter_map(|pull| match pull.phase {
            Phase::Closing(at, _) => Some(at),
            Phase::Waiting => None,
        });
        let single = [silence, self.connection.poll_timeout(), self.busy_until, self.pace.deadline()];
        single.into_iter().flatten().chain(closing).min()
    }

    /// Gives up what is overdue.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.busy_until.is_some_and(|until| until <= now) {
            self.busy_until = None;
        }
        self.pace.handle_timeout(now);
        if let Some(begun) = self.connection.poll_failed(now)
            && !(self.connection.is_usable() && self.heard_at.is_some_and(|at| at > begun))
        {
            self.fail(now, Failure::Unanswered);
        }
        let silent = self.silence_deadline().is_some_and(|deadline| deadline <= now);
        // What was sent a moment ago may still be answered, however long the source had been silent before.
        let patience = self.rtt.timeout(0);
        let mut is_unanswered = false;
        let mut index = 0;
        while index < self.pulls.len() {
            let why = match self.pulls[index].phase {
                Phase::Closing(at, why) if at <= now => Some(why),
                Phase::Waiting if silent && now >= self.pulls[index].stamp.sent_at + patience => Some(Loss::Timeout),
                Phase::Closing(..) | Phase::Waiting => None,
            };
            match why {
                Some(why) => {
                    is_unanswered |= why == Loss::Timeout && !self.pulls[index].is_complete();
                    self.give_up(now, index, why);
                }
                None => index += 1,
            }
        }
        if is_unanswered {
            self.congestion.on_timeout();
        }
        if silent {
            self.timeouts += 1;
            self.heard_at = Some(now);
            if self.timeouts >= TIMEOUTS_MAX {
                self.fail(now, Failure::Silent);
            } else {
                // A server that was started anew, or one for which this client has another address now, answers a
                // greeting and nothing else: greeting now saves the round trip in which it would say so.
                self.connection.greet_again(now);
            }
        }
    }

    /// Gives up everything that was asked for; the chunks are told as lost.
    pub fn abandon(&mut self, now: Instant) {
        while !self.pulls.is_empty() {
            self.give_up(now, 0, Loss::Pull);
        }
        self.out.clear();
    }

    /// Forgets everything that was asked for: nobody wants it any more. What comes of it still counts as delivered.
    pub fn cancel(&mut self) {
        while let Some(pull) = self.remove(0) {
            self.in_flight_chunks -= pull.missing_chunks();
            self.retire(pull);
        }
        self.out.clear();
    }

    /// Smoothed round trip; nothing before the first answer.
    pub fn rtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// Chunks asked for and neither arrived nor given up.
    pub fn in_flight_chunks(&self) -> u32 {
        self.in_flight_chunks
    }

    /// The same in bytes of packets.
    pub fn in_flight_bytes(&self) -> u64 {
        u64::from(self.in_flight_chunks) * PACKET_BYTES as u64
    }

    /// Bytes of packets that have come, wanted or not.
    pub fn delivered_bytes(&self) -> u64 {
        self.delivery.bytes()
    }

    /// Begins with what an earlier session has found out of the path.
    pub fn resume(&mut self, retained: Retained) {
        self.congestion.resume(retained);
    }

    /// What is known of the path.
    pub fn congestion(&self) -> &dyn Congestion {
        self.congestion.as_ref()
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn fail(&mut self, now: Instant, failure: Failure) {
        self.abandon(now);
        self.events.push_back(Event::Failed(failure));
    }

    fn heard(&mut self, now: Instant) {
        self.heard_at = Some(now);
        self.timeouts = 0;
    }

    /// When a source that answers nothing is given up: counted from the last packet, or from the first PULL after it.
    fn silence_deadline(&self) -> Option<Instant> {
        let oldest =
            self.pulls.iter().filter(|pull| pull.phase == Phase::Waiting).map(|pull| pull.stamp.sent_at).min()?;
        let since = self.heard_at.map_or(oldest, |heard| heard.max(oldest));
        Some(since + self.rtt.timeout(self.timeouts))
    }

    fn find(&mut self, stream: StreamId, chunk: ChunkNo) -> Option<(List, usize, u32)> {
        let count = self.pulls.len();
        for step in 0..count {
            let index = (self.cursor + step) % count;
            if let Some(bit) = self.pulls[index].find(stream, chunk) {
                self.cursor = index;
                return Some((List::Pulls, index, bit));
            }
        }
        let late = self.late.iter().enumerate();
        late.filter_map(|(index, pull)| Some((List::Late, index, pull.find(stream, chunk)?))).next()
    }

    /// A chunk that was asked for has come, wanted or not.
    fn on_arrived(&mut self, now: Instant, list: List, index: usize, bit: u32) {
        let bytes = PACKET_BYTES as u64;
        self.delivery.on_arrived(now, bytes);
        match list {
            List::Pulls => {
                let pull = &mut self.pulls[index];
                pull.first_data_at.get_or_insert(now);
                pull.arrived(bit);
                self.in_flight_chunks -= 1;
                if pull.is_complete() && pull.phase != Phase::Waiting {
                    self.remove(index);
                }
            }
            List::Late => {
                self.late[index].arrived(bit);
                self.delivery.on_spurious_loss(bytes);
                self.congestion.on_spurious_loss(bytes);
                self.rtt.on_spurious_loss(now);
            }
        }
    }

    fn position(&self, session: u32, sequence: u32) -> Option<usize> {
        self.pulls.iter().position(|pull| pull.session == session && pull.sequence == sequence)
    }

    fn give_up(&mut self, now: Instant, index: usize, why: Loss) {
        let Some(pull) = self.remove(index) else { return };
        let chunks = pull.missing_chunks();
        if chunks == 0 {
            return;
        }
        self.in_flight_chunks -= chunks;
        if why != Loss::Refused {
            self.counters.lost_chunks += u64::from(chunks);
            self.rtt.on_loss(now);
            if self.local_drops_until.is_none_or(|until| until <= now) {
                self.delivery.on_lost(u64::from(chunks) * PACKET_BYTES as u64);
                self.congestion.on_lost(now, u64::from(chunks) * PACKET_BYTES as u64);
            }
        }
        self.events.push_back(Event::Lost { stream: pull.stream, runs: pull.missing_runs(), why });
        self.retire(pull);
    }

    fn retire(&mut self, pull: Outstanding) {
        self.late.push_back(pull);
        if self.late.len() > LATE_MAX {
            self.late.pop_front();
        }
    }

    fn remove(&mut self, index: usize) -> Option<Outstanding> {
        if self.cursor > index {
            self.cursor -= 1;
        }
        self.pulls.remove(index)
    }
}

const TRAIN_BYTES: u64 = CHUNKS_PER_PULL_MAX as u64 * PACKET_BYTES as u64;

/// Where a chunk was found.
#[derive(Clone, Copy)]
enum List {
    Pulls,
    Late,
}
