//! The threads that fetch: each gives a [`crate::fetcher`] its clock, its sockets and its random seed.
//!
//! **The loop of one, until all is fetched or it is told to stop:**
//! 1. take commands (lists of servers, what to fetch) and extents that were checked;
//! 2. let time pass;
//! 3. connect to new servers, send, hand filled extents to the checker, pass notices on;
//! 4. wait for input or the next deadline, and hand in what comes; after each batch of datagrams send.
//!
//! Nothing here waits for a disk, a hash or the master: these are [`crate::checker`] and the caller of
//! [`Engine::start`], who hears of everything through the channel that it gives.
//!
//! **Lanes.** One such thread takes in what a network card of 20 Gbit/s brings. A download whose thread cannot keep up
//! gets another one, with sessions of its own and whole extents of its own: what is to be fetched is shared
//! ([`JobList`]), and so is the output. A lane takes a share of a path like a client of its own, so there is a second one
//! only where the path gives more than a core can take.

mod carrier;
mod drive;
mod lane;
mod link;
mod load;

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use braidcast_io::SelectorWaker;
use braidcast_media::hashes::Hash;
use braidcast_media::{ChunkNo, ExtentNo, StreamId};
use crossbeam::channel::Sender;
use tokio::sync::{Notify, mpsc};

use crate::fetcher::{
    Buffer, EarlyPart, ExtentKey, FetchError, FetcherConfig, Host, JobList, Notice, Snapshot, SourceList,
};
use crate::sink::Sink;
use crate::trace::writer::TraceWriter;
use lane::{Lane, LaneConfig, Listener};

/// Settings of an engine.
#[derive(Debug)]
pub(crate) struct EngineConfig {
    /// What is fetched, and how; its own stream goes to the sink. Further lanes together have no more extents than the
    /// first.
    pub(crate) fetcher: FetcherConfig,
    /// Threads of each lane that hash and write.
    pub(crate) checkers: usize,
    /// Where the fetcher's records go, if it makes any; there is one lane then.
    pub(crate) trace: Option<TraceWriter>,
    /// Lanes.
    pub(crate) lanes: Lanes,
}

/// How many lanes there are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lanes {
    /// At the start; at least 1.
    pub(crate) first: usize,
    /// With those that [`Engine::add_lane`] starts.
    pub(crate) most: usize,
}

impl Lanes {
    /// One, whatever comes.
    pub(crate) const ONE: Self = Self { first: 1, most: 1 };
}

/// What the engine is told.
pub(crate) enum Command {
    /// Who holds what from here on; also brings new tickets.
    List(SourceList),
    /// Fetch these, after what is to be fetched already; the end of all is told once.
    Fetch(Vec<JobList>),
    /// There is another lane.
    Share,
    /// Fetch what is left of these, which is all that is to be fetched: a lane has left so many extents of them.
    TakeOver(Vec<JobList>, usize),
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

impl Command {
    /// The same for another lane; nothing of what concerns a player, who has one lane.
    fn for_further_lanes(&self) -> Option<Self> {
        Some(match self {
            Self::List(list) => Self::List(list.clone()),
            Self::Fetch(lists) => Self::Fetch(lists.clone()),
            Self::TakeOver(lists, extents) => Self::TakeOver(lists.clone(), *extents),
            Self::Hashes(stream, hashes) => Self::Hashes(*stream, Arc::clone(hashes)),
            Self::Abandon => Self::Abandon,
            Self::Stop => Self::Stop,
            Self::Share | Self::WantEarly(_) | Self::Return(_) => return None,
        })
    }
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

/// What the engine tells; after an error it is of no more use.
pub(crate) type Told = Result<Notice, EngineError>;

/// A running engine.
pub(crate) struct Engine {
    lanes: Vec<Lane>,
    lanes_max: usize,
    /// What another lane begins with.
    fetcher: FetcherConfig,
    checkers: usize,
    sink: Arc<Mutex<Sink>>,
    listener: Listener,
    overloaded: Arc<Notify>,
    told: Briefing,
    /// The output may keep a writer waiting for ever: whoever reads a pipe has stopped.
    may_block: bool,
}

/// What a lane that comes later must know.
#[derive(Default)]
struct Briefing {
    lists: Vec<SourceList>,
    /// Every server as the newest list has named it: with its newest ticket.
    hosts: HashMap<String, Host>,
    jobs: Vec<JobList>,
}

impl Briefing {
    /// The first extent of `stream` that is not started; the first of all before any is to be fetched.
    fn next_extent(&self, stream: StreamId) -> ExtentNo {
        let of_stream = self.jobs.iter().filter(|jobs| jobs.stream() == stream);
        of_stream.map(JobList::next_extent).min().unwrap_or(ExtentNo(0))
    }

    fn take_note(&mut self, command: &Command, stream: StreamId) {
        match command {
            Command::List(list) => {
                let next = self.next_extent(stream);
                self.lists.retain(|list| list.ranges.iter().any(|range| range.last >= next));
                self.lists.push(list.clone());
                self.hosts.extend(list.hosts.iter().map(|host| (host.server_id.clone(), host.clone())));
            }
            Command::Fetch(lists) => self.jobs.extend(lists.iter().cloned()),
            Command::Hashes(stream, hashes) => self.jobs.iter_mut().for_each(|jobs| jobs.set_hashes(*stream, hashes)),
            Command::Abandon => *self = Self::default(),
            Command::Share | Command::TakeOver(..) | Command::WantEarly(_) | Command::Return(_) | Command::Stop => {}
        }
    }

    /// The lists that may still matter.
    fn lists(&self) -> impl Iterator<Item = SourceList> {
        self.lists.iter().map(|list| {
            let newest = |host: &Host| self.hosts.get(&host.server_id).unwrap_or(host).clone();
            SourceList { hosts: list.hosts.iter().map(newest).collect(), ranges: list.ranges.clone() }
        })
    }
}

impl Engine {
    /// Starts the threads. What they tell comes out of the channel.
    ///
    /// # Errors
    /// What the system says if there is no descriptor or thread to be had.
    pub(crate) fn start(config: EngineConfig, sink: Sink) -> io::Result<(Self, mpsc::UnboundedReceiver<Told>)> {
        let EngineConfig { fetcher, checkers, trace, lanes } = config;
        // The fetcher tells of each thing once, and limits by time what can repeat without end.
        let (listener, heard) = Listener::new();
        let overloaded = Arc::new(Notify::new());
        let may_block = matches!(sink, Sink::Ordered(_));
        let player = match &sink {
            Sink::Player(player) => Some(player.clone()),
            Sink::File(_) | Sink::Ordered(_) => None,
        };
        let sink = Arc::new(Mutex::new(sink));
        let wants_more = lanes.most > 1;
        let first = LaneConfig {
            fetcher: fetcher.clone(),
            checkers,
            player,
            trace,
            remembers: true,
            overloaded: wants_more.then(|| Arc::clone(&overloaded)),
        };
        let first = Lane::start("pull".to_owned(), first, &sink, listener.clone())?;
        let told = Briefing::default();
        let lanes_max = lanes.most;
        let mut engine =
            Self { lanes: vec![first], lanes_max, fetcher, checkers, sink, listener, overloaded, told, may_block };
        for _ in 1..lanes.first {
            let lane = engine.further_lane()?;
            engine.push(lane);
        }
        Ok((engine, heard))
    }

    /// What is told when a lane cannot keep up with what comes: time for [`Engine::add_lane`].
    pub(crate) fn overloaded(&self) -> Arc<Notify> {
        Arc::clone(&self.overloaded)
    }

    /// Has another lane take part in what is being fetched, if there may be one more.
    ///
    /// # Errors
    /// What the system says if there is no descriptor or thread to be had; all goes on without it.
    pub(crate) fn add_lane(&mut self) -> io::Result<()> {
        if self.lanes.len() >= self.lanes_max {
            return Ok(());
        }
        let mut lane = self.further_lane()?;
        if !self.listener.expect_one_more() {
            lane.send(Command::Stop);
            lane.join();
            return Ok(());
        }
        tracing::debug!(lanes = self.lanes.len() + 1, "one thread cannot keep up: another takes part");
        self.told.lists().for_each(|list| lane.send(Command::List(list)));
        lane.send(Command::Fetch(self.told.jobs.clone()));
        self.push(lane);
        Ok(())
    }

    fn push(&mut self, lane: Lane) {
        self.lanes.push(lane);
        self.lanes[0].send(Command::Share);
    }

    fn further_lane(&self) -> io::Result<Lane> {
        let extents_max = (self.fetcher.extents_max / self.lanes_max).max(1);
        let fetcher = FetcherConfig { extents_max, joins: true, ..self.fetcher.clone() };
        let overloaded = Some(Arc::clone(&self.overloaded));
        let (checkers, player) = (self.checkers, None);
        let config = LaneConfig { fetcher, checkers, player, trace: None, remembers: false, overloaded };
        Lane::start(format!("pull-{}", self.lanes.len()), config, &self.sink, self.listener.clone())
    }

    /// Tells the engine something.
    pub(crate) fn send(&mut self, command: Command) {
        if self.lanes_max > 1 {
            self.told.take_note(&command, self.fetcher.stream);
        }
        if matches!(command, Command::Fetch(_) | Command::TakeOver(..)) {
            self.listener.expect(self.lanes.len());
        }
        for lane in &self.lanes[1..] {
            if let Some(copy) = command.for_further_lanes() {
                lane.send(copy);
            }
        }
        self.lanes[0].send(command);
    }

    /// What a lane has told by [`Notice::Withdrew`] is fetched by the others.
    pub(crate) fn hand_on(&mut self, extents: &[ExtentKey]) {
        tracing::info!(extents = extents.len(), "a thread has lost all its servers: the others take over");
        self.told.jobs.iter().for_each(|jobs| jobs.give_back(extents));
        self.send(Command::TakeOver(self.told.jobs.clone(), extents.len()));
        self.listener.on_handed_on();
    }

    /// What gives buffers back, from any thread.
    pub(crate) fn returns(&self) -> Returns {
        let (commands, waker) = self.lanes[0].way_in();
        Returns { commands, waker }
    }

    /// The stream that goes to the sink.
    pub(crate) fn stream(&self) -> StreamId {
        self.fetcher.stream
    }

    /// How things stand.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let lanes = self.lanes.iter().map(|lane| lane.snapshot().read());
        lanes.reduce(Snapshot::with).unwrap_or_default()
    }

    /// What tells how things stand in the first lane, from any thread, also when the engine has stopped.
    pub(crate) fn snapshot_reader(&self) -> SnapshotReader {
        self.lanes[0].snapshot().clone()
    }

    /// Stops the threads and waits until all that was checked is written.
    pub(crate) fn stop(&mut self) {
        self.send(Command::Stop);
        self.lanes.iter_mut().for_each(Lane::join);
    }
}

/// Tells how things stand in an engine.
#[derive(Clone, Default)]
pub(crate) struct SnapshotReader(Arc<Mutex<Snapshot>>);

impl SnapshotReader {
    fn publish(&self, snapshot: Snapshot) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = snapshot;
    }

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
    pub(crate) fn apart(selector: &braidcast_io::Selector) -> (Self, crossbeam::channel::Receiver<Command>) {
        let (commands, returned) = crossbeam::channel::unbounded();
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use braidcast_media::layout::EXTENT_BYTES;
    use braidcast_media::{AssetId, ContentKey, PackLayout};

    use super::*;
    use crate::control::Range;
    use crate::fetcher::{Order, Traffic};

    /// An engine that knows no server, for a file of six extents; of one lane, and two at most.
    fn engine() -> (Engine, mpsc::UnboundedReceiver<Told>, JobList) {
        let layout = PackLayout::of_file(6 * EXTENT_BYTES as u64).expect("short");
        let stream = *layout.stream(StreamId::ORIGINAL).expect("every asset has one");
        let fetcher = FetcherConfig {
            asset: AssetId(1),
            content_key: ContentKey::new([0; 16]),
            layout,
            stream: StreamId::ORIGINAL,
            extents_max: 4,
            order: Order::AsPlanned,
            traffic: Traffic::Normal,
            rate_max: None,
            stall: Duration::from_secs(60),
            joins: false,
            trace_from: None,
        };
        let config = EngineConfig { fetcher, checkers: 1, trace: None, lanes: Lanes { first: 1, most: 2 } };
        let (engine, heard) = Engine::start(config, Sink::ordered(Box::new(io::sink()))).expect("threads");
        (engine, heard, JobList::new(stream, vec![[0; 32]; 6].into(), Arc::new([])))
    }

    fn list_to(last: u32) -> SourceList {
        let range = Range { first: ExtentNo(0), last: ExtentNo(last), hosts: Vec::new() };
        SourceList { hosts: Vec::new(), ranges: vec![range] }
    }

    #[test]
    fn lanes_come_while_something_is_fetched_and_no_more_than_there_may_be() {
        let (mut engine, _heard, jobs) = engine();
        engine.add_lane().expect("threads");
        assert_eq!(engine.lanes.len(), 1, "there is nothing to be fetched");
        engine.send(Command::Fetch(vec![jobs]));
        for _ in 0..2 {
            engine.add_lane().expect("threads");
            assert_eq!(engine.lanes.len(), 2);
        }
        engine.stop();
    }

    #[test]
    fn a_lane_that_comes_later_is_told_what_may_still_matter() {
        let (mut engine, _heard, jobs) = engine();
        let mut told = Briefing::default();
        told.take_note(&Command::List(list_to(1)), StreamId::ORIGINAL);
        told.take_note(&Command::Fetch(vec![jobs.clone()]), StreamId::ORIGINAL);
        told.take_note(&Command::List(list_to(3)), StreamId::ORIGINAL);
        assert_eq!(told.lists.len(), 2);
        assert!(jobs.take(0).is_some() && jobs.take(0).is_some());
        told.take_note(&Command::List(list_to(5)), StreamId::ORIGINAL);
        let lasts: Vec<u32> = told.lists.iter().map(|list| list.ranges[0].last.0).collect();
        assert_eq!(lasts, [3, 5], "extents 0 and 1 are under way");
        engine.stop();
    }
}
