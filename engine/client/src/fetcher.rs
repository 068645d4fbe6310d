//! The client engine without I/O: which source is asked for what, and what is done when one fails, lies or is slow.
//!
//! A [`Fetcher`] owns the sources of one download or film: a puller for each, the plan, the extents under way. It reads
//! no clock, draws no random number, opens no socket and starts no thread: `now`, a seed and bytes come in.
//!
//! **The driving contract, again and again:**
//! 1. **Hand in what there is**: lists of servers ([`Fetcher::handle_list`]), what to fetch ([`Fetcher::fetch`]),
//!    datagrams ([`Fetcher::handle_datagram`]), checked extents ([`Fetcher::handle_checked`]).
//! 2. **Call [`Fetcher::handle_timeout`] when [`Fetcher::poll_timeout`] has come**; earlier does no harm.
//! 3. **Drain all five**: [`Fetcher::poll_connect`], each answered by [`Fetcher::on_connected`] or
//!    [`Fetcher::on_unreachable`]; [`Fetcher::poll_transmit`]; [`Fetcher::poll_filled`], each answered by
//!    [`Fetcher::handle_checked`], sooner or later; [`Fetcher::poll_early`], before them; [`Fetcher::poll_notice`]. Where
//!    there is a trace, also [`Fetcher::poll_record`].
//! 4. **Sleep** until there is input or [`Fetcher::poll_timeout`].
//!
//! `crate::engine` drives it with sockets and threads. What a filled extent is worth is for [`Filled::check`] to say,
//! on whatever thread.

mod aggregate;
mod asking;
mod checked;
mod early;
mod jobs;
mod late;
mod lists;
mod notice;
mod setbacks;
mod snapshot;
mod source;
mod ticks;
mod trace;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidcast_media::chunk::DATA_KIND;
use braidcast_media::hashes::Hash;
use braidcast_media::layout::PACKET_BYTES;
use braidcast_media::{AssetId, ContentKey, PackLayout, StreamId};
use braidcast_transport::congestion::Retained;
use braidcast_transport::puller::Arrival;

pub use crate::control::{Host, Range};
pub use crate::planner::SourceNo;
use crate::planner::{Holders, Planner};
pub use crate::trace::Record;
use crate::window::Window;
pub use crate::window::{Buffer, Expected, ExtentKey, Filled, Job, Suspect};
use aggregate::Aggregate;
pub use checked::{Checked, Verdict};
use early::Early;
pub use early::{EarlyPart, EarlyPiece};
pub use jobs::JobList;
use lists::Arriving;
pub use lists::SourceList;
pub use notice::{FailureKind, FetchError, Notice, SourceFailure};
use setbacks::Impossible;
pub use snapshot::{Snapshot, SourceSnapshot};
use source::{Source, State};
use ticks::TICK;
use trace::Tracer;

/// Settings of a [`Fetcher`].
#[derive(Clone, Debug)]
pub struct FetcherConfig {
    /// Which asset.
    pub asset: AssetId,
    /// What opens its chunks.
    pub content_key: ContentKey,
    /// Its streams.
    pub layout: PackLayout,
    /// The fetcher's own stream: the one that lists of servers speak of, and that goes to an output. Extents of others
    /// are told by [`Notice::Extent`].
    pub stream: StreamId,
    /// Extents in memory at a time, each of 307,200 bytes.
    pub extents_max: usize,
    /// Which extent comes before which.
    pub order: Order,
    /// How it shares the path with others.
    pub traffic: Traffic,
    /// Most bytes of packets per second, from all sources together. Default: no bound.
    pub rate_max: Option<f64>,
    /// How long nothing may come before it is given up.
    pub stall: Duration,
    /// Others fetch from the same lists already: nothing is taken before a source is up, and none need ever be, unless
    /// they leave their part to this one.
    pub joins: bool,
    /// Makes records of what it does, with times counted from then ([`Fetcher::poll_record`]); nothing makes none.
    pub trace_from: Option<Instant>,
}

/// What a fetcher asks for before what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// What is needed first, of whichever server is there first: a player waits for it.
    AsNeeded,
    /// Each server gives what the master named it for as the first choice, unless it is late with that.
    AsPlanned,
}

/// How a fetcher shares the path with others.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Traffic {
    /// Takes a fair share.
    #[default]
    Normal,
    /// Takes what others leave.
    Background,
    /// Keeps a fixed number of bytes in flight to each source, whatever the path does: what the others are measured
    /// against.
    Plain {
        /// That number.
        window_bytes: u64,
    },
}

/// Fetches extents of one asset from several servers. See the module's description.
pub struct Fetcher {
    config: FetcherConfig,
    seed: [u8; 32],
    /// Each at the place of its number.
    sources: Vec<Source>,
    by_server: HashMap<String, SourceNo>,
    /// Servers that no socket can be connected to, and why.
    unreachable: BTreeMap<SocketAddr, String>,
    /// Lists whose servers were not all met yet.
    arriving: VecDeque<Arriving>,
    planner: Planner,
    aggregate: Aggregate,
    window: Window,
    /// Extents whose chunks are all there, and that were not taken yet.
    filled: VecDeque<Filled>,
    /// The same whose hashes are still to come.
    unhashed: Vec<Filled>,
    /// Others fetch from the same lists.
    shares: bool,
    /// It has left its part to others.
    has_withdrawn: bool,
    /// A source that may have more in flight has taken nothing of what there was, since extents were started last.
    is_starved: bool,
    /// Extents that were filled and not checked yet.
    checking: usize,
    /// Extents whose buffers a player has. One that comes back before it was told of as lent counts as -1 and as 1 in
    /// `checking`.
    lent: isize,
    /// Something is to be fetched, and the end of it was not told yet.
    fetching: bool,
    jobs: VecDeque<JobList>,
    /// Taken from `jobs`, and not started: no list says who holds it yet.
    held_up: Option<Job>,
    /// How often everything was abandoned.
    generation: u32,
    /// Extents whose hash was wrong, to be fetched anew from one source each.
    again: Vec<(Job, Box<Suspect>)>,
    impossible: Impossible,
    early: Early,
    /// When time last passed: what was late by then has been looked at.
    passed_at: Option<Instant>,
    /// Holders by extents of the fetcher's own stream, in order.
    lists: VecDeque<(RangeInclusive<u32>, Holders)>,
    /// One past the last extent that a list covers.
    listed: u32,
    /// A list was asked for and has not come.
    list_wanted: bool,
    tickets_wanted_at: Option<Instant>,
    notices: VecDeque<Notice>,
    /// The place of the source whose turn it is to ask and send; nothing between rounds.
    turn: Option<usize>,
    written_bytes: u64,
    progress_at: Instant,
    ticked_at: Instant,
    tracer: Option<Tracer>,
}

impl Fetcher {
    /// A fetcher with nothing to fetch and nobody to ask. `seed` must be random and secret: what pullers need of
    /// randomness comes from it.
    pub fn new(now: Instant, config: FetcherConfig, seed: [u8; 32]) -> Self {
        Self {
            window: Window::new(config.extents_max),
            tracer: config.trace_from.map(|start| Tracer::new(start, &config)),
            shares: config.joins,
            has_withdrawn: false,
            is_starved: false,
            config,
            seed,
            sources: Vec::new(),
            by_server: HashMap::new(),
            unreachable: BTreeMap::new(),
            arriving: VecDeque::new(),
            planner: Planner::default(),
            aggregate: Aggregate::default(),
            filled: VecDeque::new(),
            unhashed: Vec::new(),
            checking: 0,
            lent: 0,
            fetching: false,
            jobs: VecDeque::new(),
            held_up: None,
            generation: 0,
            again: Vec::new(),
            impossible: Impossible::default(),
            early: Early::default(),
            passed_at: None,
            lists: VecDeque::new(),
            listed: 0,
            list_wanted: false,
            tickets_wanted_at: None,
            notices: VecDeque::new(),
            turn: None,
            written_bytes: 0,
            progress_at: now,
            ticked_at: now,
        }
    }

    /// Fetches these, after what is to be fetched already. [`Notice::Fetched`] tells the end of all.
    pub fn fetch(&mut self, now: Instant, lists: impl IntoIterator<Item = JobList>) {
        self.progress_at = now;
        self.fetching = true;
        self.jobs.extend(lists);
        self.tell_if_fetched(now);
    }

    /// Others fetch from the same lists from here on: no more is taken of them than is asked for soon.
    pub fn share(&mut self) {
        self.shares = true;
    }

    /// Another has left `extents` of these lists, which take the place of all that was told before. They need room: where
    /// bytes are written in order, all there was may hold what comes after them.
    pub fn take_over(&mut self, now: Instant, lists: impl IntoIterator<Item = JobList>, extents: usize) {
        if !self.fetching {
            self.progress_at = now;
        }
        self.fetching = true;
        self.config.joins = false;
        self.jobs = lists.into_iter().collect();
        self.window.grow(extents);
        self.tell_if_fetched(now);
    }

    /// The hashes of all extents of a stream have become known ([`JobList::awaiting_hashes`]).
    pub fn set_hashes(&mut self, stream: StreamId, hashes: &Arc<[Hash]>) {
        self.jobs.iter_mut().for_each(|jobs| jobs.set_hashes(stream, hashes));
        if let Some(job) = self.held_up.as_mut().filter(|job| job.key.stream == stream) {
            job.set_hash(hashes);
        }
        self.window.set_hashes(stream, hashes);
        for filled in self.unhashed.iter_mut().filter(|filled| filled.job.key.stream == stream) {
            filled.job.set_hash(hashes);
        }
        self.filled.extend(self.unhashed.extract_if(.., |filled| filled.job.hash != Expected::Awaited));
    }

    /// Forgets what was to be fetched and who holds it; sessions stay. What is being checked still arrives.
    pub fn abandon(&mut self, now: Instant) {
        self.generation += 1;
        self.fetching = false;
        self.early.forget(&self.window);
        self.forget_started();
        self.checking -= self.unhashed.len();
        self.unhashed.drain(..).for_each(|filled| self.window.recycle(filled.buffer));
        self.forget_lists();
        if let Some(tracer) = &mut self.tracer {
            tracer.on_abandoned(now);
        }
    }

    /// Forgets what was to be fetched, and what of it is not whole yet.
    pub(super) fn forget_started(&mut self) {
        for source in &mut self.sources {
            source.puller.cancel();
        }
        self.jobs.clear();
        self.held_up = None;
        self.again.clear();
        self.window.clear();
        self.planner.clear();
        self.impossible = Impossible::default();
    }

    /// Takes in a datagram that came from a source.
    pub fn handle_datagram(&mut self, now: Instant, source: SourceNo, datagram: &[u8]) {
        let Some(from) = self.sources.get_mut(usize::from(source.0)) else { return };
        if datagram.first() != Some(&DATA_KIND) {
            from.puller.handle_datagram(now, datagram);
            return;
        }
        let window = &mut self.window;
        match from.puller.handle_data(now, datagram, |stream, chunk| window.place(stream, chunk)) {
            Arrival::Accepted { stream, chunk, is_late, .. } => {
                if is_late {
                    self.planner.on_arrived(stream, chunk);
                }
                from.on_good(now);
                self.progress_at = now;
                if let Some(tracer) = &mut self.tracer {
                    tracer.on_chunk(now, stream, chunk);
                }
                self.early.on_arrived();
                if let Some(filled) = self.window.arrived(stream, chunk, source) {
                    if stream == self.config.stream {
                        self.early.on_filled(chunk.extent());
                    }
                    if let Some(tracer) = &mut self.tracer {
                        tracer.on_filled(now, &filled);
                    }
                    self.checking += 1;
                    match filled.job.hash {
                        Expected::Awaited => self.unhashed.push(filled),
                        Expected::Hash(_) | Expected::Unchecked => self.filled.push_back(filled),
                    }
                }
            }
            Arrival::Rejected { stream, chunk } => self.window.note_rejected(stream, chunk, source),
            Arrival::Unwanted | Arrival::Malformed => {}
        }
    }

    /// Takes in what became of an extent that [`Fetcher::poll_filled`] gave.
    pub fn handle_checked(&mut self, now: Instant, Checked { job, verdict, misled_by }: Checked) {
        self.progress_at = now;
        let shown = self.early.take_shown(job.key);
        match verdict {
            Verdict::Good { buffer, liars } => {
                self.checking -= 1;
                self.ban_all(now, &liars);
                if job.key.stream == self.config.stream {
                    self.written_bytes += job.bytes as u64;
                } else {
                    let bytes = buffer[..job.bytes].to_vec();
                    self.notices.push_back(Notice::Extent { extent: job.key.extent, bytes });
                }
                self.window.recycle(buffer);
            }
            Verdict::Lent { liars } => {
                self.checking -= 1;
                self.lent += 1;
                self.written_bytes += job.bytes as u64;
                self.ban_all(now, &liars);
            }
            Verdict::Kept { liars } => self.ban_all(now, &liars),
            Verdict::Forged { mut copy } => {
                self.checking -= 1;
                copy.shown.extend(shown);
                self.on_forged(now, job, copy);
            }
        }
        if !misled_by.is_empty() {
            self.on_misled(misled_by);
        }
        self.tell_if_fetched(now);
    }

    /// A lent buffer comes back. It may do so before [`Fetcher::handle_checked`] has told that it was lent.
    pub fn give_back(&mut self, buffer: Buffer) {
        self.lent -= 1;
        self.window.recycle(buffer);
    }

    /// The way to a source tells of an error: its host says that nothing listens there, say.
    pub fn on_path_error(&mut self, now: Instant, source: SourceNo, kind: FailureKind, reason: String) {
        if usize::from(source.0) < self.sources.len() {
            self.fail_source(now, source, kind, reason);
        }
    }

    /// This host's receive buffer for a source has overflowed: what is lost of it now was not lost by the network.
    pub fn on_local_drops(&mut self, now: Instant, source: SourceNo) {
        if let Some(source) = self.sources.get_mut(usize::from(source.0)) {
            source.puller.on_local_drops(now);
        }
    }

    /// Lets time pass.
    ///
    /// # Errors
    /// [`FetchError`]: there is no hope left. The fetcher is of no more use then, except to [`Fetcher::withdraw`].
    pub fn handle_timeout(&mut self, now: Instant) -> Result<(), FetchError> {
        self.passed_at = Some(now);
        for index in 0..self.sources.len() {
            let source = &mut self.sources[index];
            if let State::Down { until } = source.state
                && until <= now
            {
                source.greet(now);
            }
            if source.puller.poll_timeout().is_some_and(|at| at <= now) {
                source.puller.handle_timeout(now);
            }
            self.take_events(now, index);
        }
        if now.duration_since(self.ticked_at) >= TICK {
            self.tick(now);
            self.check_impossible(now)?;
        }
        self.check_misled()?;
        self.check_hope(now)
    }

    /// When to call [`Fetcher::handle_timeout`]; nothing while there is neither a source nor something to fetch.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let deadlines = self.sources.iter().filter_map(|source| match source.state {
            State::Down { until } => Some(until),
            State::Banned => None,
            State::Greeting | State::Up => source.puller.poll_timeout(),
        });
        let ticks = self.fetching || !self.sources.is_empty();
        deadlines.chain(ticks.then(|| self.ticked_at + TICK)).chain(self.late_deadline()).min()
    }

    /// Writes the next datagram to send into `out`, and says to which source; nothing if there is none. Starts extents
    /// and asks sources for pieces first.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<SourceNo> {
        loop {
            let turn = self.turn.unwrap_or_else(|| self.begin_round(now));
            let Some(source) = self.sources.get_mut(turn) else {
                self.turn = None;
                return None;
            };
            if source.puller.poll_transmit(now, out) {
                return Some(source.number);
            }
            self.begin_turn(now, turn + 1);
        }
    }

    /// The next extent whose chunks are all there, to be hashed.
    pub fn poll_filled(&mut self) -> Option<Filled> {
        self.filled.pop_front()
    }

    /// The next thing to know.
    pub fn poll_notice(&mut self) -> Option<Notice> {
        self.notices.pop_front()
    }

    /// Whether a source has a session in use.
    pub fn is_up(&self, source: SourceNo) -> bool {
        self.sources.get(usize::from(source.0)).is_some_and(|source| source.state == State::Up)
    }

    /// Whether something may still come: a source has a session in use, or has sent something a short while ago.
    pub fn has_hope(&self, now: Instant) -> bool {
        let is_recent = |at: Instant| now.duration_since(at) < self.config.stall;
        self.sources.iter().any(|source| source.state == State::Up || source.last_good_at.is_some_and(is_recent))
    }

    /// Whether it has left its part to others.
    pub fn has_withdrawn(&self) -> bool {
        self.has_withdrawn
    }

    /// Whether a HELLO to a source awaits its WELCOME; it does so, too, when a session that is up is renewed.
    pub fn is_greeting(&self, source: SourceNo) -> bool {
        self.sources.get(usize::from(source.0)).is_some_and(|source| source.puller.is_greeting())
    }

    /// Bytes that a source was asked for and that neither came nor were given up, packets whole; 0 if there is no such
    /// source.
    pub fn in_flight_bytes(&self, source: SourceNo) -> u64 {
        let source = self.sources.get(usize::from(source.0));
        source.map_or(0, |source| u64::from(source.puller.in_flight_chunks()) * PACKET_BYTES as u64)
    }

    /// Bytes of packets that have come, of all sources.
    pub fn delivered_bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.puller.delivered_bytes()).sum()
    }

    /// What is worth remembering of the path to a source for the next session.
    pub fn retained(&self, source: SourceNo) -> Option<Retained> {
        self.sources.get(usize::from(source.0))?.puller.congestion().retained()
    }

    /// Extents in memory: under way, being checked, or lent; at most [`FetcherConfig::extents_max`], and what others have
    /// left to it. Copies that turned out to be forged and are kept to be compared are not counted; there is at most one
    /// for each.
    pub fn buffers(&self) -> usize {
        self.window.len() + self.out()
    }

    /// Buffers that are elsewhere: being checked, or with a player.
    fn out(&self) -> usize {
        self.checking.saturating_add_signed(self.lent)
    }

    pub(super) fn tell_if_fetched(&mut self, now: Instant) {
        while self.jobs.front().is_some_and(JobList::is_empty) {
            self.jobs.pop_front();
        }
        let all_started = self.jobs.is_empty() && self.held_up.is_none() && self.again.is_empty();
        let idle = all_started && self.window.is_empty() && self.checking == 0;
        if self.fetching && idle {
            self.fetching = false;
            self.notices.push_back(Notice::Fetched);
            self.trace_fetched(now);
        }
    }
}
