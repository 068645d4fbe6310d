//! The thread that fetches: it gives a [`crate::fetcher`] its clock, its sockets and its random seed.
//!
//! **The loop, until all is fetched or it is told to stop:**
//! 1. take commands (lists of servers, what to fetch) and extents that were checked;
//! 2. let time pass;
//! 3. connect to new servers, send, hand filled extents to the checker, pass notices on;
//! 4. wait for input or the next deadline, and hand in what comes; after each batch of datagrams send.
//!
//! Nothing here waits for a disk, a hash or the master: these are [`crate::checker`] and the caller of
//! [`Engine::start`], who hears of everything through the channel that it gives.

mod carrier;
mod drive;
mod link;

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use braidcast_io::{Selector, SelectorWaker};
use braidcast_media::hashes::Hash;
use braidcast_media::{ChunkNo, StreamId};
use crossbeam::channel::{Receiver, Sender, unbounded};
use tokio::sync::mpsc;

use crate::fetcher::{Buffer, EarlyPart, FetchError, FetcherConfig, JobList, Notice, Snapshot, SourceList};
use crate::sink::Sink;
use crate::trace::writer::TraceWriter;

/// Settings of an engine.
#[derive(Debug)]
pub(crate) struct EngineConfig {
    /// What is fetched, and how; its own stream goes to the sink.
    pub(crate) fetcher: FetcherConfig,
    /// Threads that hash and write.
    pub(crate) checkers: usize,
    /// Where the fetcher's records go, if it makes any.
    pub(crate) trace: Option<TraceWriter>,
}

/// What the engine is told.
pub(crate) enum Command {
    /// Who holds what from here on; also brings new tickets.
    List(SourceList),
    /// Fetch these, after what is to be fetched already; the end of all is told once.
    Fetch(Vec<JobList>),
    /// What the extents of a stream must hash to, that are fetched already.
    Hashes(StreamId, Arc<[Hash]>),
    /// Forget what was to be fetched and who holds it; sessions stay. What is being checked still arrives.
    Abandon,
    /// Give a player these bytes as soon as they are there, before their extents' hashes are checked; in place of what
    /// was wanted so before.
    WantEarly(Vec<EarlyPart>),
    /// A buffer that was lent to a player comes back.
    Return(Buffer),
    /// End the thread.
    Stop,
}

/// Why an engine gave up.
#[derive(Debug)]
pub(crate) enum EngineError {
    /// Nothing came from anyone for too long. Each source with its reason.
    NoSources(Vec<(String, String)>),
    /// The master has named no servers for what comes next for too long.
    NoList,
    /// No source has a right copy of this chunk. Each source that was tried with its reason.
    Unobtainable { stream: StreamId, chunk: ChunkNo, sources: Vec<(String, String)> },
    /// Bytes that a player was given before their extent's hash was checked are wrong. Who gave them.
    Misled(Vec<String>),
    /// The output takes no more.
    Output(io::Error),
    /// A socket or thread could not be had.
    System(io::Error),
}

impl From<FetchError> for EngineError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::NoSources(sources) => Self::NoSources(sources),
            FetchError::NoList => Self::NoList,
            FetchError::Misled(sources) => Self::Misled(sources),
            FetchError::Unobtainable { stream, chunk, sources } => Self::Unobtainable { stream, chunk, sources },
        }
    }
}

/// What the engine tells; after an error it has stopped.
pub(crate) type Told = Result<Notice, EngineError>;

/// A running engine.
pub(crate) struct Engine {
    commands: Sender<Command>,
    waker: SelectorWaker,
    snapshot: Arc<Mutex<Snapshot>>,
    stream: StreamId,
    thread: Option<JoinHandle<()>>,
    /// The output may keep a writer waiting for ever: whoever reads a pipe has stopped.
    may_block: bool,
}

impl Engine {
    /// Starts the thread. What it tells comes out of the channel.
    ///
    /// # Errors
    /// What the system says if there is no descriptor or thread to be had.
    pub(crate) fn start(config: EngineConfig, sink: Sink) -> io::Result<(Self, mpsc::UnboundedReceiver<Told>)> {
        let (commands, inbox) = unbounded();
        // The fetcher tells of each thing once, and limits by time what can repeat without end.
        let (notices, heard) = mpsc::unbounded_channel();
        let selector = Selector::new()?;
        let waker = selector.waker();
        let snapshot = Arc::new(Mutex::new(Snapshot::default()));
        let stream = config.fetcher.stream;
        let may_block = matches!(sink, Sink::Ordered(_));
        let drive = drive::Drive::new(config, sink, selector, inbox, notices, Arc::clone(&snapshot))?;
        let thread = std::thread::Builder::new().name("pull".into()).spawn(move || drive.run())?;
        Ok((Self { commands, waker, snapshot, stream, thread: Some(thread), may_block }, heard))
    }

    /// Tells the engine something.
    pub(crate) fn send(&self, command: Command) {
        // A stopped engine has said why; there is nothing to add.
        let _ = self.commands.send(command);
        self.waker.wake();
    }

    /// What gives buffers back, from any thread.
    pub(crate) fn returns(&self) -> Returns {
        Returns { commands: self.commands.clone(), waker: self.waker.clone() }
    }

    /// The stream that goes to the sink.
    pub(crate) fn stream(&self) -> StreamId {
        self.stream
    }

    /// How things stand.
    pub(crate) fn snapshot(&self) -> Snapshot {
        self.snapshot_reader().read()
    }

    /// What tells how things stand, from any thread, also when the engine has stopped.
    pub(crate) fn snapshot_reader(&self) -> SnapshotReader {
        SnapshotReader(Arc::clone(&self.snapshot))
    }

    /// Stops the thread and waits until all that was checked is written.
    pub(crate) fn stop(&mut self) {
        self.send(Command::Stop);
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and the download ends either way.
            let _ = thread.join();
        }
    }
}

/// Tells how things stand in an engine.
#[derive(Clone)]
pub(crate) struct SnapshotReader(Arc<Mutex<Snapshot>>);

impl SnapshotReader {
    pub(crate) fn read(&self) -> Snapshot {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone()
    }
}

/// A player's way to the engine: buffers that were lent come back, and what it waits for is told.
pub(crate) struct Returns {
    commands: Sender<Command>,
    waker: SelectorWaker,
}

impl Returns {
    /// A way back that ends at the receiver.
    #[cfg(test)]
    pub(crate) fn apart(selector: &Selector) -> (Self, Receiver<Command>) {
        let (commands, returned) = unbounded();
        (Self { commands, waker: selector.waker() }, returned)
    }

    pub(crate) fn give_back(&self, buffer: Buffer) {
        // A stopped engine needs no buffers.
        let _ = self.commands.send(Command::Return(buffer));
        self.waker.wake();
    }

    pub(crate) fn want_early(&self, parts: Vec<EarlyPart>) {
        // A stopped engine gives nothing any more.
        let _ = self.commands.send(Command::WantEarly(parts));
        self.waker.wake();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.may_block {
            self.send(Command::Stop);
        } else {
            self.stop();
        }
    }
}

type Inbox = Receiver<Command>;
type Listener = mpsc::UnboundedSender<Told>;
