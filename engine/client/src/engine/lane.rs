//! One thread of an engine, and what it is told and tells.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use braidcast_io::{Selector, SelectorWaker};
use crossbeam::channel::{Receiver, Sender, unbounded};
use tokio::sync::{Notify, mpsc};

use super::drive::Drive;
use super::{Command, SnapshotReader, Told};
use crate::fetcher::{FetcherConfig, Notice};
use crate::sink::{Given, Sink};
use crate::trace::writer::TraceWriter;

/// Settings of a lane.
pub(super) struct LaneConfig {
    pub(super) fetcher: FetcherConfig,
    /// Threads that hash and write.
    pub(super) checkers: usize,
    /// Takes what cannot wait for a checker.
    pub(super) player: Option<Sender<Given>>,
    pub(super) trace: Option<TraceWriter>,
    /// It writes down what it has learnt of networks and paths.
    pub(super) remembers: bool,
    /// To be told, once, if the thread cannot keep up with what comes.
    pub(super) overloaded: Option<Arc<Notify>>,
}

/// A running lane.
pub(super) struct Lane {
    commands: Sender<Command>,
    waker: SelectorWaker,
    snapshot: SnapshotReader,
    thread: Option<JoinHandle<()>>,
}

/// What a lane is told.
pub(super) type Inbox = Receiver<Command>;

impl Lane {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the system says if there is no descriptor or thread to be had.
    pub(super) fn start(
        name: String,
        config: LaneConfig,
        sink: &Arc<Mutex<Sink>>,
        listener: Listener,
    ) -> io::Result<Self> {
        let (commands, inbox) = unbounded();
        let selector = Selector::new()?;
        let (waker, snapshot) = (selector.waker(), SnapshotReader::default());
        listener.on_started(waker.clone());
        let drive = Drive::new(config, sink, selector, inbox, listener, snapshot.clone())?;
        let thread = std::thread::Builder::new().name(name).spawn(move || drive.run())?;
        Ok(Self { commands, waker, snapshot, thread: Some(thread) })
    }

    /// Tells it something.
    pub(super) fn send(&self, command: Command) {
        // A stopped lane has said why; there is nothing to add.
        let _ = self.commands.send(command);
        self.waker.wake();
    }

    /// What tells it something, from any thread.
    pub(super) fn way_in(&self) -> (Sender<Command>, SelectorWaker) {
        (self.commands.clone(), self.waker.clone())
    }

    /// What tells how things stand in it.
    pub(super) fn snapshot(&self) -> &SnapshotReader {
        &self.snapshot
    }

    /// Waits until the thread has ended.
    pub(super) fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic there has been printed, and the download ends either way.
            let _ = thread.join();
        }
    }
}

/// Where the lanes' news go. That all is fetched is passed on when the last of them says so.
#[derive(Clone)]
pub(super) struct Listener {
    news: mpsc::UnboundedSender<Told>,
    /// Lanes that were told to fetch, once for each time, and have not said yet that all of it is there.
    fetching: Arc<AtomicUsize>,
    /// Lanes that something may still come to.
    able: Arc<AtomicUsize>,
    lanes: Arc<Mutex<Vec<SelectorWaker>>>,
}

impl Listener {
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<Told>) {
        let (news, heard) = mpsc::unbounded_channel();
        (Self { news, fetching: Arc::default(), able: Arc::default(), lanes: Arc::default() }, heard)
    }

    /// There is another lane.
    fn on_started(&self, waker: SelectorWaker) {
        self.lanes.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(waker);
    }

    /// Something may come to a lane now, or nothing any more.
    pub(super) fn on_able(&self, is_able: bool) {
        if is_able {
            self.able.fetch_add(1, Ordering::AcqRel);
        } else {
            self.able.fetch_sub(1, Ordering::AcqRel);
        }
    }

    /// A lane leaves its part to others; no if there is none that something may still come to. `is_able`: whether it is
    /// counted itself.
    pub(super) fn leave(&self, is_able: bool) -> bool {
        let own = usize::from(is_able);
        let others = |able: usize| (able > own).then(|| able - own);
        self.able.fetch_update(Ordering::AcqRel, Ordering::Acquire, others).is_ok()
    }

    /// So many lanes are told to fetch.
    pub(super) fn expect(&self, lanes: usize) {
        self.fetching.fetch_add(lanes, Ordering::AcqRel);
    }

    /// Others were told to fetch what a lane has left to them by [`Notice::Withdrew`].
    pub(super) fn on_handed_on(&self) {
        self.on_fetched(1);
    }

    /// Another lane takes part. No if all is fetched already.
    pub(super) fn expect_one_more(&self) -> bool {
        let more = |lanes: usize| (lanes > 0).then_some(lanes + 1);
        self.fetching.fetch_update(Ordering::AcqRel, Ordering::Relaxed, more).is_ok()
    }

    /// A lane has all that it was told to fetch, in so many commands. Passed on if it was the last.
    pub(super) fn on_fetched(&self, commands: usize) {
        if commands == 0 {
            return;
        }
        let less = |left: usize| Some(left.saturating_sub(commands));
        let was_last = self.fetching.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less) == Ok(commands);
        if was_last {
            return self.tell(Ok(Notice::Fetched));
        }
        // One that waits for a source may have nothing to do any more.
        let lanes = self.lanes.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        lanes.iter().for_each(SelectorWaker::wake);
    }

    /// Passes other news on. What a lane leaves to others holds the end up until [`Listener::on_handed_on`].
    pub(super) fn tell(&self, told: Told) {
        if matches!(told, Ok(Notice::Withdrew { .. })) {
            self.expect(1);
        }
        // Nobody listens any more once the download is dropped; the next command tells.
        let _ = self.news.send(told);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_told_when_the_last_lane_tells_it() {
        let (listener, mut heard) = Listener::new();
        assert!(!listener.expect_one_more(), "nothing is being fetched");
        listener.expect(2);
        assert!(listener.expect_one_more());
        for _ in 0..2 {
            listener.on_fetched(1);
            assert!(heard.try_recv().is_err());
        }
        listener.on_fetched(1);
        assert!(matches!(heard.try_recv(), Ok(Ok(Notice::Fetched))));
        assert!(!listener.expect_one_more(), "it is over");
        listener.on_fetched(0);
        assert!(heard.try_recv().is_err(), "nothing was to be fetched");
    }

    /// Two that left their parts to each other were both gone, and the end was told.
    #[test]
    fn the_last_lane_that_something_may_come_to_does_not_leave() {
        let (listener, _heard) = Listener::new();
        assert!(!listener.leave(false), "nobody is there");
        listener.on_able(true);
        listener.on_able(true);
        assert!(listener.leave(true));
        assert!(!listener.leave(true), "the other has left");
        assert!(listener.leave(false), "to the one that stays");
        listener.on_able(false);
        assert!(!listener.leave(false));
    }

    #[test]
    fn the_end_waits_for_what_a_lane_has_left_to_others() {
        let (listener, mut heard) = Listener::new();
        listener.expect(2);
        listener.tell(Ok(Notice::Withdrew { extents: Vec::new() }));
        assert!(matches!(heard.try_recv(), Ok(Ok(Notice::Withdrew { .. }))));
        // Both have nothing to do before the owner of the engine has acted on it.
        listener.on_fetched(1);
        listener.on_fetched(1);
        assert!(heard.try_recv().is_err());
        listener.expect(2);
        listener.on_handed_on();
        listener.on_fetched(1);
        assert!(heard.try_recv().is_err());
        listener.on_fetched(1);
        assert!(matches!(heard.try_recv(), Ok(Ok(Notice::Fetched))));
    }
}
