//! The engine's loop.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use braidcast_io::{ClientSocket, ReceiveBuffer, Selector};
use braidcast_media::layout::PACKET_BYTES;
use braidcast_transport::packet::Kind;
use crossbeam::channel::{Sender, TryRecvError};
use tokio::sync::Notify;

use super::carrier::Way;
use super::lane::{Inbox, LaneConfig, Listener};
use super::link::{self, Link};
use super::load::Load;
use super::{Command, EngineError, SnapshotReader};
use crate::checker::Checker;
use crate::fetcher::{FailureKind, FetchError, Fetcher, Notice, SourceNo};
use crate::planner::SourceSet;
use crate::sink::{Given, Sink};

use crate::trace::writer::TraceWriter;
use crate::ways::Ways;

/// How often the snapshot is renewed.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
/// How often the kernel is asked whether a receive buffer has overflowed: sooner than a loss is judged to be one.
const OVERFLOW_INTERVAL: Duration = Duration::from_millis(2);
/// Batches that are taken from one socket before the others get their turn.
const BATCHES_MAX: usize = 4;

/// Everything that the thread of one lane owns.
pub(super) struct Drive {
    fetcher: Fetcher,
    /// One for each source, at the place of its number.
    links: Vec<Link>,
    ways: Ways,
    /// What is learnt of networks and paths is written down: one lane does.
    remembers: bool,
    selector: Selector,
    checker: Checker,
    /// Takes what cannot wait for the checker.
    player: Option<Sender<Given>>,
    inbox: Inbox,
    listener: Listener,
    /// Commands to fetch whose end was not told yet.
    fetching: usize,
    /// Something may still come to it, as others know.
    is_able: bool,
    snapshot: SnapshotReader,
    /// Told when this thread cannot keep up; once.
    overloaded: Option<Arc<Notify>>,
    load: Load,
    published_at: Instant,
    looked_for_overflow_at: Instant,
    buffer: ReceiveBuffer,
    datagram: Vec<u8>,
    trace: Option<TraceWriter>,
}

impl Drive {
    pub(super) fn new(
        config: LaneConfig,
        sink: &Arc<Mutex<Sink>>,
        selector: Selector,
        inbox: Inbox,
        listener: Listener,
        snapshot: SnapshotReader,
    ) -> io::Result<Self> {
        let LaneConfig { fetcher: config, checkers, player, trace, remembers, overloaded } = config;
        let checker = Checker::start(checkers, config.stream, sink, selector.waker())?;
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| io::Error::other("no random numbers"))?;
        let now = Instant::now();
        Ok(Self {
            fetcher: Fetcher::new(now, config, seed),
            links: Vec::new(),
            ways: Ways::load(),
            remembers,
            selector,
            checker,
            player,
            inbox,
            listener,
            fetching: 0,
            is_able: false,
            snapshot,
            overloaded,
            load: Load::new(now),
            published_at: now,
            looked_for_overflow_at: now,
            buffer: ReceiveBuffer::new(),
            datagram: Vec::with_capacity(PACKET_BYTES),
            trace,
        })
    }

    /// Runs until told to stop, or until it cannot go on.
    pub(super) fn run(mut self) {
        let stopped = self.drive();
        self.pass_notices_on();
        self.publish_snapshot();
        if let Err(error) = stopped {
            self.listener.tell(Err(error));
        }
        self.pass_records_on();
        if self.remembers {
            self.remember_paths();
            if let Err(error) = self.ways.save(SystemTime::now()) {
                tracing::debug!(%error, "what was learnt of networks and paths cannot be remembered");
            }
        }
        if let Some(trace) = self.trace {
            trace.finish();
        }
    }

    fn drive(&mut self) -> Result<(), EngineError> {
        while self.take_commands()? {
            while let Some(checked) = self.checker.poll() {
                self.fetcher.handle_checked(Instant::now(), checked.map_err(EngineError::Output)?);
            }
            let now = Instant::now();
            self.look_for_overflow(now);
            self.let_time_pass(now)?;
            self.let_ways_join(now);
            self.send(now);
            self.hand_filled_over();
            self.pass_notices_on();
            self.pass_records_on();
            if now.duration_since(self.published_at) >= PUBLISH_INTERVAL {
                self.published_at = now;
                self.publish_snapshot();
            }
            self.look_at_load(now);
            self.receive()?;
        }
        Ok(())
    }

    /// No if the engine is to stop.
    fn take_commands(&mut self) -> Result<bool, EngineError> {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::List(list)) => {
                    let now = Instant::now();
                    self.fetcher.handle_list(now, list);
                    self.connect(now)?;
                }
                Ok(Command::Fetch(_) | Command::TakeOver(..)) if self.fetcher.has_withdrawn() => {
                    self.listener.on_fetched(1);
                }
                Ok(Command::Fetch(lists)) => {
                    // An end that waits to be told is not the end of this.
                    self.pass_notices_on();
                    self.fetching += 1;
                    self.fetcher.fetch(Instant::now(), lists);
                }
                Ok(Command::TakeOver(lists, extents)) => {
                    self.pass_notices_on();
                    self.fetching += 1;
                    self.fetcher.take_over(Instant::now(), lists, extents);
                }
                Ok(Command::Share) => self.fetcher.share(),
                Ok(Command::Hashes(stream, hashes)) => self.fetcher.set_hashes(stream, &hashes),
                Ok(Command::Abandon) => self.fetcher.abandon(Instant::now()),
                Ok(Command::WantEarly(parts)) => self.fetcher.want_early(parts),
                Ok(Command::Return(buffer)) => self.fetcher.give_back(buffer),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(false),
                Err(TryRecvError::Empty) => return Ok(true),
            }
        }
    }

    /// A lane to which nothing comes leaves its part to others, if something may still come to one of them.
    fn let_time_pass(&mut self, now: Instant) -> Result<(), EngineError> {
        let passed = self.fetcher.handle_timeout(now);
        let is_able = self.fetcher.has_hope(now) && !self.fetcher.has_withdrawn();
        if std::mem::replace(&mut self.is_able, is_able) != is_able {
            self.listener.on_able(is_able);
        }
        match passed {
            Err(error @ FetchError::NoSources(_)) if self.listener.leave(is_able) => {
                tracing::debug!(?error, "nothing comes here: others are to take over");
                self.is_able = false;
                self.fetcher.withdraw(now);
                Ok(())
            }
            passed => passed.map_err(EngineError::from),
        }
    }

    fn connect(&mut self, now: Instant) -> Result<(), EngineError> {
        while let Some((source, address)) = self.fetcher.poll_connect() {
            match ClientSocket::connect(address) {
                Ok(socket) => {
                    let granted = socket.granted_receive_bytes();
                    let here = socket.local_addr().ok().map(|addr| addr.ip());
                    let needs_tcp = here.is_some_and(|here| self.ways.needs_tcp(here, address));
                    let retained = here.and_then(|here| self.ways.retained(here, address));
                    let link = Link::new(source, socket, needs_tcp, &mut self.selector).map_err(EngineError::System)?;
                    self.fetcher.on_connected(now, source, granted, retained);
                    // Sources are numbered in the order in which they are connected to.
                    self.links.push(link);
                }
                Err(error) => self.fetcher.on_unreachable(now, source, error.to_string()),
            }
        }
        Ok(())
    }

    fn send(&mut self, now: Instant) {
        // What a server that fails was to give is asked of others at once.
        while self.send_round(now) {}
    }

    /// Says whether a socket has failed.
    fn send_round(&mut self, now: Instant) -> bool {
        let mut has_failed = false;
        while let Some(source) = self.fetcher.poll_transmit(now, &mut self.datagram) {
            let is_up = self.fetcher.is_up(source);
            let link = &mut self.links[usize::from(source.0)];
            for way in link.route(now, &self.datagram, is_up, &mut self.selector) {
                let sent = self.links[usize::from(source.0)].send(way, &self.datagram, &mut self.selector);
                if let Err(error) = sent {
                    self.on_socket_error(now, source, way, &error);
                }
            }
        }
        for number in 0..self.links.len() {
            if let Err(error) = self.links[number].flush() {
                self.on_socket_error(now, SourceNo(number as u8), Way::Udp, &error);
                has_failed = true;
            }
        }
        has_failed
    }

    /// Tells of packets that got as far as this host. It comes before losses are judged.
    fn look_for_overflow(&mut self, now: Instant) {
        if now.duration_since(self.looked_for_overflow_at) < OVERFLOW_INTERVAL {
            return;
        }
        self.looked_for_overflow_at = now;
        for source in (0..self.links.len()).map(|number| SourceNo(number as u8)) {
            if self.links[usize::from(source.0)].poll_overflow() {
                self.fetcher.on_local_drops(now, source);
            }
        }
    }

    /// Has TCP join where a HELLO was unanswered for too long.
    fn let_ways_join(&mut self, now: Instant) {
        for source in (0..self.links.len()).map(|number| SourceNo(number as u8)) {
            let link = &mut self.links[usize::from(source.0)];
            if link.poll_timeout().is_some_and(|due| due <= now) {
                let is_greeting = self.fetcher.is_greeting(source);
                if let Err(error) = link.handle_timeout(now, is_greeting, &mut self.selector) {
                    self.on_socket_error(now, source, Way::Tcp, &error);
                }
            }
        }
    }

    fn hand_filled_over(&mut self) {
        if let Some(player) = &self.player {
            while let Some(piece) = self.fetcher.poll_early() {
                // The player has gone, and the engine is being stopped.
                let _ = player.send(Given::Early(piece));
            }
        }
        while let Some(filled) = self.fetcher.poll_filled() {
            self.checker.submit(filled);
        }
    }

    fn pass_notices_on(&mut self) {
        while let Some(notice) = self.fetcher.poll_notice() {
            if matches!(notice, Notice::Fetched) {
                self.publish_snapshot();
                self.listener.on_fetched(std::mem::take(&mut self.fetching));
            } else {
                self.listener.tell(Ok(notice));
            }
        }
    }

    fn pass_records_on(&mut self) {
        let Some(trace) = &self.trace else { return };
        let recorder = trace.recorder();
        while !recorder.is_full()
            && let Some(record) = self.fetcher.poll_record()
        {
            if !recorder.record(record) {
                self.trace = None;
                return self.fetcher.end_trace();
            }
        }
    }

    /// Waits for input, or until the next deadline, and takes it in.
    fn receive(&mut self) -> Result<(), EngineError> {
        let joins = self.links.iter().filter_map(Link::poll_timeout);
        let deadline = joins.chain(self.fetcher.poll_timeout()).min();
        let begun = Instant::now();
        let wait = deadline.map(|at| at.saturating_duration_since(begun));
        let [mut over_udp, mut over_tcp] = [SourceSet::default(); 2];
        let on_ready = |key| match link::of_key(key) {
            (source, Way::Udp) => over_udp.insert(source),
            (source, Way::Tcp) => over_tcp.insert(source),
        };
        self.selector.wait(wait, on_ready).map_err(EngineError::System)?;
        let now = Instant::now();
        self.load.on_waited(now - begun);
        for source in (0..self.links.len()).map(|number| SourceNo(number as u8)) {
            for (way, ready) in [(Way::Udp, over_udp), (Way::Tcp, over_tcp)] {
                if ready.contains(source) {
                    self.receive_from(now, source, way);
                }
            }
        }
        Ok(())
    }

    fn receive_from(&mut self, now: Instant, source: SourceNo, way: Way) {
        for _ in 0..BATCHES_MAX {
            let (fetcher, mut opened) = (&mut self.fetcher, false);
            let received = self.links[usize::from(source.0)].receive(way, &mut self.buffer, |datagram| {
                let may_open = Kind::of(datagram) == Some(Kind::Welcome) && fetcher.is_greeting(source);
                fetcher.handle_datagram(now, source, datagram);
                opened |= may_open && !fetcher.is_greeting(source);
            });
            if opened {
                self.on_opened(source, way);
            }
            if let Err(error) = &received {
                self.on_socket_error(now, source, way, error);
            }
            self.send(now);
            self.hand_filled_over();
            if received.map_or(true, |received| received.would_block) {
                return;
            }
        }
    }

    fn on_opened(&mut self, source: SourceNo, way: Way) {
        let link = &mut self.links[usize::from(source.0)];
        link.on_opened(way, &mut self.selector);
        if let Some(here) = link.here() {
            self.ways.on_answered(here, link.server(), way == Way::Tcp);
        }
    }

    /// Says so, once, if this thread cannot keep up with what comes.
    fn look_at_load(&mut self, now: Instant) {
        if self.overloaded.is_some() && self.load.is_due(now) {
            let is_overloaded = self.load.end_span(now, self.fetcher.delivered_bytes());
            if let Some(overloaded) = self.overloaded.take_if(|_| is_overloaded) {
                overloaded.notify_one();
            }
        }
    }

    fn remember_paths(&mut self) {
        for (number, link) in self.links.iter().enumerate() {
            if let (Some(here), Some(retained)) = (link.here(), self.fetcher.retained(SourceNo(number as u8))) {
                self.ways.on_measured(here, link.server(), retained);
            }
        }
    }

    fn on_socket_error(&mut self, now: Instant, source: SourceNo, way: Way, error: &io::Error) {
        let is_idle = self.fetcher.in_flight_bytes(source) == 0;
        if !self.links[usize::from(source.0)].on_error(now, way, is_idle, &mut self.selector) {
            return;
        }
        let (kind, reason) = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                (FailureKind::Refused, "the port is closed: the server is not running".to_owned())
            }
            _ => (FailureKind::Silent, format!("cannot be reached: {error}")),
        };
        self.fetcher.on_path_error(now, source, kind, reason);
    }

    fn publish_snapshot(&self) {
        self.snapshot.publish(self.fetcher.snapshot());
    }
}
