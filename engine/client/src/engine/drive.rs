//! The engine's loop.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use braidcast_io::{ClientSocket, ReceiveBuffer, Selector};
use braidcast_media::{ExtentNo, Run};
use crossbeam::channel::TryRecvError;

use super::setbacks::Impossible;
use super::source::{Source, State};
use super::{
    Command, EngineConfig, EngineError, FailureKind, Inbox, JobList, Notice, Notices, Snapshot, SourceSnapshot, TICK,
};
use crate::checker::{Checker, Verdict};
use crate::control::{Distribution, Host};
use crate::planner::{Planner, SourceNo};
use crate::sink::Sink;
use crate::window::{ExtentKey, Job, Suspect, Window};

/// At most one wish for tickets in this time.
const TICKET_WISH_PAUSE: Duration = Duration::from_secs(1);

/// Everything that the thread owns.
pub(super) struct Drive {
    pub(super) config: EngineConfig,
    pub(super) inbox: Inbox,
    pub(super) notices: Notices,
    pub(super) snapshot: Arc<Mutex<Snapshot>>,
    pub(super) selector: Selector,
    pub(super) buffer: ReceiveBuffer,
    pub(super) datagram: Vec<u8>,
    pub(super) sources: Vec<Source>,
    pub(super) by_server: HashMap<String, SourceNo>,
    /// Servers that no socket can be connected to, and why.
    pub(super) unreachable: HashMap<SocketAddr, String>,
    pub(super) planner: Planner,
    pub(super) window: Window,
    pub(super) checker: Checker,
    /// Extents with the checker.
    pub(super) checking: usize,
    /// Extents whose buffers a player has. One that comes back before the checker has told of it counts as -1 and as 1
    /// in `checking`.
    pub(super) lent: isize,
    /// Something is to be fetched, and the end of it was not told yet.
    pub(super) fetching: bool,
    pub(super) jobs: VecDeque<JobList>,
    /// How often everything was abandoned.
    pub(super) generation: u32,
    /// Extents whose hash was wrong, to be fetched anew from one source each.
    pub(super) again: Vec<(Job, Box<Suspect>)>,
    pub(super) impossible: Impossible,
    /// First choices by extent of the sink's stream: (last extent, sources), in order.
    pub(super) lists: VecDeque<(ExtentNo, Vec<SourceNo>)>,
    /// One past the last extent that a list covers.
    pub(super) listed: u32,
    pub(super) list_wanted: Option<u32>,
    pub(super) tickets_wanted_at: Option<Instant>,
    pub(super) written_bytes: u64,
    pub(super) progress_at: Instant,
    pub(super) ticked_at: Instant,
}

impl Drive {
    pub(super) fn new(
        config: EngineConfig,
        sink: Sink,
        selector: Selector,
        inbox: Inbox,
        notices: Notices,
        snapshot: Arc<Mutex<Snapshot>>,
    ) -> io::Result<Self> {
        let waker = selector.waker();
        let checker = Checker::start(config.checkers, config.extents_max, config.stream, sink, move || waker.wake())?;
        let now = Instant::now();
        Ok(Self {
            window: Window::new(config.extents_max),
            config,
            inbox,
            notices,
            snapshot,
            selector,
            buffer: ReceiveBuffer::new(),
            datagram: Vec::with_capacity(braidcast_media::layout::PACKET_BYTES),
            sources: Vec::new(),
            by_server: HashMap::new(),
            unreachable: HashMap::new(),
            planner: Planner::default(),
            checker,
            checking: 0,
            lent: 0,
            fetching: false,
            jobs: VecDeque::new(),
            generation: 0,
            again: Vec::new(),
            impossible: Impossible::default(),
            lists: VecDeque::new(),
            listed: 0,
            list_wanted: None,
            tickets_wanted_at: None,
            written_bytes: 0,
            progress_at: now,
            ticked_at: now,
        })
    }

    /// Runs until told to stop, or until it cannot go on.
    pub(super) fn run(mut self) {
        let stopped = self.drive();
        self.publish_snapshot();
        if let Err(error) = stopped {
            self.tell(Notice::Stopped(error));
        }
    }

    fn drive(&mut self) -> Result<(), EngineError> {
        loop {
            if !self.take_commands()? {
                return Ok(());
            }
            self.take_checked()?;
            let now = Instant::now();
            self.let_time_pass(now)?;
            self.start_extents();
            self.ask_and_send(now);
            self.receive(now)?;
        }
    }

    /// No if the engine is to stop.
    fn take_commands(&mut self) -> Result<bool, EngineError> {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::List(list)) => self.take_list(*list)?,
                Ok(Command::Fetch(jobs)) => {
                    self.progress_at = Instant::now();
                    self.fetching = true;
                    self.jobs.push_back(jobs);
                }
                Ok(Command::Abandon) => self.abandon(),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(false),
                Ok(Command::Return(buffer)) => {
                    self.lent -= 1;
                    self.window.recycle(buffer);
                }
                Err(TryRecvError::Empty) => return Ok(true),
            }
        }
    }

    fn take_list(&mut self, list: Distribution) -> Result<(), EngineError> {
        let now = Instant::now();
        let mut numbers = Vec::with_capacity(list.hosts.len());
        for host in list.hosts {
            numbers.push(self.take_host(now, host)?);
        }
        for range in &list.ranges {
            if range.last.0 < self.listed {
                continue;
            }
            let sources = range.hosts.iter().filter_map(|&host| numbers.get(host).copied().flatten()).collect();
            self.lists.push_back((range.last, sources));
            self.listed = range.last.0 + 1;
        }
        self.list_wanted = None;
        Ok(())
    }

    fn abandon(&mut self) {
        self.generation += 1;
        self.jobs.clear();
        self.again.clear();
        self.window.clear();
        self.planner.clear();
        self.impossible = Impossible::default();
        self.lists.clear();
        self.listed = 0;
        self.list_wanted = None;
    }

    fn take_host(&mut self, now: Instant, host: Host) -> Result<Option<SourceNo>, EngineError> {
        if let Some(&number) = self.by_server.get(&host.server_id) {
            let source = &mut self.sources[usize::from(number.0)];
            if source.address == host.address {
                source.take_ticket(now, host);
                return Ok(Some(number));
            }
            if source.state == State::Banned {
                return Ok(None);
            }
            // The server came back at another address: the old one is not asked any more.
            self.fail_source(now, number, FailureKind::Silent, format!("moved to {}", host.address));
        }
        let socket = match ClientSocket::connect(host.address) {
            Ok(socket) => Arc::new(socket),
            Err(error) => {
                // Of the other family of addresses, say; others may well be reached.
                tracing::warn!(server = %host.address, %error, "cannot be reached from here");
                self.unreachable.insert(host.address, format!("cannot be reached from here: {error}"));
                return Ok(None);
            }
        };
        let Some(number) = self.planner.add_source() else { return Ok(None) };
        let server_id = host.server_id.clone();
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| EngineError::System(io::Error::other("no random numbers")))?;
        let asset = (self.config.asset, &self.config.content_key, &self.config.layout);
        let source = Source::greeted(now, number, (host, socket), asset, self.config.window_bytes, seed);
        self.selector.add(number.0.into(), Arc::clone(&source.socket)).map_err(EngineError::System)?;
        self.by_server.insert(server_id, number);
        self.sources.push(source);
        Ok(Some(number))
    }

    fn take_checked(&mut self) -> Result<(), EngineError> {
        while let Some(checked) = self.checker.poll() {
            let now = Instant::now();
            let key = checked.job.key;
            match checked.verdict {
                Verdict::Good { buffer, liars } => {
                    self.checking -= 1;
                    self.ban_all(now, &liars);
                    if key.stream == self.config.stream {
                        self.written_bytes += checked.job.bytes as u64;
                    } else {
                        let bytes = buffer[..checked.job.bytes].to_vec();
                        self.tell(Notice::Extent { extent: key.extent, bytes });
                    }
                    self.window.recycle(buffer);
                }
                Verdict::Lent { liars } => {
                    self.checking -= 1;
                    self.lent += 1;
                    self.written_bytes += checked.job.bytes as u64;
                    self.ban_all(now, &liars);
                }
                Verdict::Kept { liars } => self.ban_all(now, &liars),
                Verdict::Forged { copy } => {
                    self.checking -= 1;
                    self.on_forged(now, checked.job, copy);
                }
                Verdict::Unwritable { error } => return Err(EngineError::Output(error)),
            }
            self.progress_at = now;
        }
        while self.jobs.front().is_some_and(JobList::is_empty) {
            self.jobs.pop_front();
        }
        let idle = self.jobs.is_empty() && self.window.is_empty() && self.checking == 0 && self.again.is_empty();
        if self.fetching && idle {
            self.fetching = false;
            self.publish_snapshot();
            self.tell(Notice::Fetched);
        }
        Ok(())
    }

    fn let_time_pass(&mut self, now: Instant) -> Result<(), EngineError> {
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
        }
        self.check_hope(now)
    }

    fn tick(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.ticked_at);
        self.ticked_at = now;
        let mut want_tickets = false;
        for source in &mut self.sources {
            source.measure(elapsed);
            if let Some(rate) = source.bytes_per_s {
                self.planner.set_rate(source.number, rate);
            }
            if source.state == State::Up && source.renewal_is_due(now) {
                want_tickets = true;
            }
            if source.state == State::Up && source.has_spare_ticket() {
                source.greet(now);
            }
        }
        let paused = self.tickets_wanted_at.is_some_and(|at| now.duration_since(at) < TICKET_WISH_PAUSE);
        if want_tickets && !paused {
            self.want_tickets(now);
        }
        self.publish_snapshot();
    }

    pub(super) fn want_tickets(&mut self, now: Instant) {
        self.tickets_wanted_at = Some(now);
        self.tell(Notice::WantTickets);
    }

    /// Buffers that are elsewhere: being checked, or with a player.
    pub(super) fn out(&self) -> usize {
        self.checking.saturating_add_signed(self.lent)
    }

    fn start_extents(&mut self) {
        while self.window.has_room(self.out()) {
            if let Some((job, suspect)) = self.again.pop() {
                if self.window.contains(job.key) {
                    continue;
                }
                self.start_pinned(job, suspect);
                continue;
            }
            let Some(jobs) = self.jobs.front() else { return };
            let Some(job) = jobs.peek(self.generation) else {
                self.jobs.pop_front();
                continue;
            };
            if self.window.contains(job.key) {
                return;
            }
            let Some(preferred) = self.preferred(job.key) else { return };
            let barred = self.banned();
            self.window.start(job, barred, None, None);
            let run = Run { first: job.key.extent.first_chunk(), count: job.chunks as u16 };
            self.planner.add_run(job.key.stream, run, &preferred, barred);
            if let Some(jobs) = self.jobs.front_mut() {
                jobs.advance();
            }
        }
    }

    /// Who should be asked for an extent, best first; nothing if no list covers it yet.
    fn preferred(&mut self, key: ExtentKey) -> Option<Vec<SourceNo>> {
        if key.stream != self.config.stream {
            return (!self.sources.is_empty()).then(Vec::new);
        }
        let covered = key.extent.0 < self.listed;
        while covered && self.lists.front().is_some_and(|(last, _)| *last < key.extent) {
            self.lists.pop_front();
        }
        let end = self.config.layout.stream(self.config.stream).map_or(0, |stream| stream.extents());
        let ahead = self.listed.saturating_sub(key.extent.0);
        if self.listed < end && ahead <= LIST_AHEAD_EXTENTS && self.list_wanted.is_none() {
            self.list_wanted = Some(self.listed);
            self.tell(Notice::WantList { first: ExtentNo(self.listed.max(key.extent.0)) });
        }
        if !covered {
            return None;
        }
        self.lists.front().map(|(_, sources)| sources.clone())
    }

    fn publish_snapshot(&self) {
        let sources = self.sources.iter().map(|source| {
            let counters = source.puller.counters();
            SourceSnapshot {
                address: source.address,
                bytes: counters.accepted_bytes,
                bytes_per_s: source.bytes_per_s.unwrap_or(0.0),
                lost: counters.lost_chunks,
                rejected: counters.rejected,
                ever_failed: source.ever_failed,
                state: match source.state {
                    State::Greeting => "greeting",
                    State::Up => "up",
                    State::Down { .. } => "down",
                    State::Banned => "banned",
                },
            }
        });
        let sources: Vec<_> = sources.collect();
        let unwanted = self.sources.iter().map(|source| source.puller.counters().unwanted_bytes).sum();
        let snapshot = Snapshot {
            written_bytes: self.written_bytes,
            accepted_bytes: sources.iter().map(|source| source.bytes).sum(),
            unwanted_bytes: unwanted,
            sources,
        };
        *self.snapshot.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = snapshot;
    }

    pub(super) fn tell(&self, notice: Notice) {
        // Nobody listens any more once the download is dropped; the next command tells.
        let _ = self.notices.send(notice);
    }
}

/// Extents that a list must reach beyond the one that is started now; below that the next list is asked for.
const LIST_AHEAD_EXTENTS: u32 = 384;
