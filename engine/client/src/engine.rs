//! The thread that pulls: it owns the sockets, drives one puller per source, and does what the planner says.
//!
//! **The loop, until all is fetched or it is told to stop:**
//! 1. take commands (lists of servers, what to fetch) and extents that were checked;
//! 2. let time pass for every source: time-outs, greetings, pauses that are over;
//! 3. start extents while there are buffers, and ask sources for pieces while they may have more in flight;
//! 4. send, wait for input or the next deadline, and open what comes straight into its place.
//!
//! Nothing here waits for a disk, a hash or the master: these are [`crate::checker`] and the caller of
//! [`Engine::start`], who hears of everything through [`Notice`].

mod drive;
mod job;
mod net;
mod setbacks;
mod source;

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use braidcast_io::{Selector, SelectorWaker};
use braidcast_media::{AssetId, ChunkNo, ContentKey, ExtentNo, PackLayout, StreamId};
use crossbeam::channel::{Receiver, Sender, unbounded};
use tokio::sync::mpsc;

use crate::control::Distribution;
use crate::sink::Sink;
use crate::window::Buffer;
pub(crate) use job::JobList;

/// Settings of an engine.
#[derive(Clone, Debug)]
pub(crate) struct EngineConfig {
    /// Which asset.
    pub(crate) asset: AssetId,
    pub(crate) content_key: ContentKey,
    pub(crate) layout: PackLayout,
    /// The stream that goes to the sink, and that lists of servers speak of.
    pub(crate) stream: StreamId,
    /// Most bytes in flight to one source.
    pub(crate) window_bytes: u64,
    /// Extents in memory at a time.
    pub(crate) extents_max: usize,
    /// Threads that hash and write.
    pub(crate) checkers: usize,
    /// How long nothing may come before the download is given up.
    pub(crate) stall: Duration,
}

/// What the engine is told.
pub(crate) enum Command {
    /// Who holds what from here on; also brings new tickets.
    List(Box<Distribution>),
    /// Fetch this, after what is to be fetched already.
    Fetch(JobList),
    /// Forget what was to be fetched and who holds it; sessions stay. What is being checked still arrives.
    Abandon,
    /// A buffer that was lent to a player comes back.
    Return(Buffer),
    /// End the thread.
    Stop,
}

/// What the engine tells.
#[derive(Debug)]
pub(crate) enum Notice {
    /// A verified extent of a stream that does not go to the sink.
    Extent { extent: ExtentNo, bytes: Vec<u8> },
    /// All that was to be fetched is there, verified and written.
    Fetched,
    /// Extents from here on have no sources yet; asked ahead of need.
    WantList { first: ExtentNo },
    /// Tickets are past half of their life.
    WantTickets,
    /// A source failed.
    SourceFailed(SourceFailure),
    /// The engine has stopped.
    Stopped(EngineError),
}

/// What the master should know of a source that failed.
#[derive(Clone, Debug)]
pub(crate) struct SourceFailure {
    pub(crate) server_id: String,
    pub(crate) kind: FailureKind,
    /// Since the last good chunk.
    pub(crate) last_good: Option<Duration>,
}

/// How a source failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FailureKind {
    Silent,
    Refused,
    NotHeld,
    Damaged { stream: StreamId, chunk: ChunkNo },
    Forged,
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
    /// The output takes no more.
    Output(io::Error),
    /// A socket or thread could not be had.
    System(io::Error),
}

/// How things stand; copied out now and then.
#[derive(Clone, Default, Debug)]
pub(crate) struct Snapshot {
    /// Plain bytes of the sink's stream that are verified and written.
    pub(crate) written_bytes: u64,
    /// Payload that was taken from the network, for whatever stream.
    pub(crate) accepted_bytes: u64,
    /// Payload that was not needed.
    pub(crate) unwanted_bytes: u64,
    pub(crate) sources: Vec<SourceSnapshot>,
}

/// One source of a [`Snapshot`].
#[derive(Clone, Debug)]
pub(crate) struct SourceSnapshot {
    pub(crate) address: std::net::SocketAddr,
    pub(crate) bytes: u64,
    pub(crate) bytes_per_s: f64,
    pub(crate) lost: u64,
    pub(crate) rejected: u64,
    pub(crate) ever_failed: bool,
    pub(crate) state: &'static str,
}

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
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says if there is no descriptor or thread to be had.
    pub(crate) fn start(config: EngineConfig, sink: Sink) -> io::Result<(Self, mpsc::UnboundedReceiver<Notice>)> {
        let (commands, inbox) = unbounded();
        // The engine tells of each thing once; what can repeat without end is limited by time where it is told.
        let (notices, heard) = mpsc::unbounded_channel();
        let selector = Selector::new()?;
        let waker = selector.waker();
        let snapshot = Arc::new(Mutex::new(Snapshot::default()));
        let stream = config.stream;
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

/// The way back of buffers that were lent to a player.
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
type Notices = mpsc::UnboundedSender<Notice>;

/// How often rates are measured and the snapshot is renewed.
const TICK: Duration = Duration::from_millis(100);

/// The time since `at`, in words.
fn since(now: Instant, at: Option<Instant>) -> Option<Duration> {
    at.map(|at| now.duration_since(at))
}
