//! The engine's loop.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use braidcast_io::{ClientSocket, ReceiveBuffer, Selector};
use braidcast_media::layout::PACKET_BYTES;
use crossbeam::channel::{Sender, TryRecvError};

use super::{Command, EngineConfig, EngineError, Inbox, Listener};
use crate::checker::Checker;
use crate::fetcher::{FailureKind, Fetcher, Notice, Snapshot, SourceNo};
use crate::planner::SourceSet;
use crate::sink::{Given, Sink};

/// How often the snapshot is renewed.
const PUBLISH_INTERVAL: Duration = Duration::from_millis(100);
/// Batches that are taken from one socket before the others get their turn.
const BATCHES_MAX: usize = 4;

/// Everything that the thread owns.
pub(super) struct Drive {
    fetcher: Fetcher,
    /// One for each source, at the place of its number.
    sockets: Vec<Arc<ClientSocket>>,
    selector: Selector,
    checker: Checker,
    /// Takes what cannot wait for the checker.
    player: Option<Sender<Given>>,
    inbox: Inbox,
    listener: Listener,
    snapshot: Arc<Mutex<Snapshot>>,
    published_at: Instant,
    buffer: ReceiveBuffer,
    datagram: Vec<u8>,
}

impl Drive {
    pub(super) fn new(
        config: EngineConfig,
        sink: Sink,
        selector: Selector,
        inbox: Inbox,
        listener: Listener,
        snapshot: Arc<Mutex<Snapshot>>,
    ) -> io::Result<Self> {
        let EngineConfig { fetcher: config, checkers } = config;
        let waker = selector.waker();
        let player = match &sink {
            Sink::Player(player) => Some(player.clone()),
            Sink::File(_) | Sink::Ordered(_) => None,
        };
        let checker = Checker::start(checkers, config.extents_max, config.stream, sink, move || waker.wake())?;
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).map_err(|_| io::Error::other("no random numbers"))?;
        let now = Instant::now();
        Ok(Self {
            fetcher: Fetcher::new(now, config, seed),
            sockets: Vec::new(),
            selector,
            checker,
            player,
            inbox,
            listener,
            snapshot,
            published_at: now,
            buffer: ReceiveBuffer::new(),
            datagram: Vec::with_capacity(PACKET_BYTES),
        })
    }

    /// Runs until told to stop, or until it cannot go on.
    pub(super) fn run(mut self) {
        let stopped = self.drive();
        self.pass_notices_on();
        self.publish_snapshot();
        if let Err(error) = stopped {
            // Nobody listens any more once the download is dropped.
            let _ = self.listener.send(Err(error));
        }
    }

    fn drive(&mut self) -> Result<(), EngineError> {
        while self.take_commands()? {
            while let Some(checked) = self.checker.poll() {
                self.fetcher.handle_checked(Instant::now(), checked.map_err(EngineError::Output)?);
            }
            let now = Instant::now();
            self.fetcher.handle_timeout(now)?;
            self.send(now);
            self.hand_filled_over();
            self.pass_notices_on();
            if now.duration_since(self.published_at) >= PUBLISH_INTERVAL {
                self.published_at = now;
                self.publish_snapshot();
            }
            self.receive(now)?;
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
                Ok(Command::Fetch(jobs)) => self.fetcher.fetch(Instant::now(), jobs),
                Ok(Command::Abandon) => self.fetcher.abandon(),
                Ok(Command::WantEarly(parts)) => self.fetcher.want_early(parts),
                Ok(Command::Return(buffer)) => self.fetcher.give_back(buffer),
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => return Ok(false),
                Err(TryRecvError::Empty) => return Ok(true),
            }
        }
    }

    fn connect(&mut self, now: Instant) -> Result<(), EngineError> {
        while let Some((source, address)) = self.fetcher.poll_connect() {
            match ClientSocket::connect(address).map(Arc::new) {
                Ok(socket) => {
                    self.selector.add(source.0.into(), Arc::clone(&socket)).map_err(EngineError::System)?;
                    self.fetcher.on_connected(now, source, socket.granted_receive_bytes());
                    // Sources are numbered in the order in which they are connected to.
                    self.sockets.push(socket);
                }
                Err(error) => self.fetcher.on_unreachable(now, source, error.to_string()),
            }
        }
        Ok(())
    }

    fn send(&mut self, now: Instant) {
        while let Some(source) = self.fetcher.poll_transmit(now, &mut self.datagram) {
            // A full send buffer loses the datagram like a full router would; the fetcher finds out.
            if let Err(error) = self.sockets[usize::from(source.0)].send(&self.datagram)
                && error.kind() != io::ErrorKind::WouldBlock
            {
                self.on_socket_error(now, source, &error);
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
            }
            // Nobody listens any more once the download is dropped; the next command tells.
            let _ = self.listener.send(Ok(notice));
        }
    }

    /// Waits for input, or until the next deadline, and takes it in.
    fn receive(&mut self, now: Instant) -> Result<(), EngineError> {
        let wait = self.fetcher.poll_timeout().map(|at| at.saturating_duration_since(now));
        let mut ready = SourceSet::default();
        self.selector.wait(wait, |key| ready.insert(SourceNo(key as u8))).map_err(EngineError::System)?;
        let now = Instant::now();
        for source in (0..self.sockets.len()).map(|number| SourceNo(number as u8)) {
            if ready.contains(source) {
                self.receive_from(now, source);
            }
        }
        Ok(())
    }

    fn receive_from(&mut self, now: Instant, source: SourceNo) {
        for _ in 0..BATCHES_MAX {
            let (fetcher, socket) = (&mut self.fetcher, &self.sockets[usize::from(source.0)]);
            let received = socket.recv(&mut self.buffer, |datagram| fetcher.handle_datagram(now, source, datagram));
            if let Err(error) = &received {
                self.on_socket_error(now, source, error);
            }
            self.send(now);
            self.hand_filled_over();
            if received.map_or(true, |received| received.would_block) {
                return;
            }
        }
    }

    fn on_socket_error(&mut self, now: Instant, source: SourceNo, error: &io::Error) {
        let (kind, reason) = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                (FailureKind::Refused, "the port is closed: the server is not running".to_owned())
            }
            _ => (FailureKind::Silent, format!("cannot be reached: {error}")),
        };
        self.fetcher.on_path_error(now, source, kind, reason);
    }

    fn publish_snapshot(&self) {
        *self.snapshot.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = self.fetcher.snapshot();
    }
}
