//! Which packs are open: a bounded number of files, of which the one that was not used for longest closes first.
//!
//! A server may hold far more packs than a process may have files. What it knows of a pack stays in memory for all of
//! them ([`crate::pack::Pack`]); the mapped file stands in a [`Slot`] that may be empty. Helpers fill slots, and the
//! bound empties them again. A shard only looks whether a slot is full, and notes that it used the pack.
//!
//! Files are counted as long as they are open in fact: one that was taken out of its slot counts until the last send
//! from it has left.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};

use braidcast_io::MappedFile;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tracing::{info, warn};

use crate::extents::ExtentSet;
use crate::limits;
use crate::pack::PackFault;

/// The place of one pack's open file.
#[derive(Debug)]
pub(crate) struct Slot {
    /// The lock is held for the moment of taking or giving the file, never while the disk is waited for.
    file: RwLock<Option<MappedFile>>,
    /// Somebody used the pack since the bound last looked at it.
    used: AtomicBool,
    /// The pack was dropped: its slot stays empty.
    retired: AtomicBool,
    /// Extents whose pages are in memory, as far as is known. None while the slot is empty.
    hot: ExtentSet,
}

impl Slot {
    /// The empty slot of a pack of `extents` extents.
    pub(crate) fn empty(extents: u32) -> Arc<Self> {
        Arc::new(Self {
            file: RwLock::default(),
            used: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            hot: ExtentSet::empty(extents),
        })
    }

    pub(crate) fn hot(&self) -> &ExtentSet {
        &self.hot
    }

    /// The file, if it is open; never waits, so that shards may ask. `None` also in the moment in which it is closed.
    pub(crate) fn file(&self) -> Option<MappedFile> {
        // Most often it is set already, and then no other core's copy of it becomes stale.
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
        }
        self.file.try_read().ok()?.clone()
    }

    /// The same for somebody who only looks at all packs: that is no use which keeps a pack open.
    pub(crate) fn peek(&self) -> Option<MappedFile> {
        self.file.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// `extent` was read in, unless the file was closed meanwhile.
    pub(crate) fn on_warmed(&self, extent: u32) {
        if self.file.read().unwrap_or_else(PoisonError::into_inner).is_some() {
            self.hot.insert(extent);
        }
    }

    /// Closes the file for good.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        drop(self.close());
    }

    /// Takes a file that was opened for this slot; gives back the one that stands in it now, which another thread may
    /// have opened a moment ago. The flag says whether it is `file`.
    fn install(&self, file: MappedFile) -> Result<(MappedFile, bool), PackFault> {
        let mut slot = self.file.write().unwrap_or_else(PoisonError::into_inner);
        // Asked under the lock that closing takes: a pack that is dropped from now on closes this file.
        if self.retired.load(Ordering::Acquire) {
            return Err(PackFault::Dropped);
        }
        self.used.store(true, Ordering::Relaxed);
        let is_new = slot.is_none();
        Ok((slot.get_or_insert(file).clone(), is_new))
    }

    /// Takes the file out. It closes when what is given back and all sends from it are gone.
    fn close(&self) -> Option<MappedFile> {
        let mut slot = self.file.write().unwrap_or_else(PoisonError::into_inner);
        self.hot.clear();
        slot.take()
    }
}

/// The bound on open packs, shared by all of a server.
#[derive(Debug)]
pub(crate) struct OpenPacks {
    files: Arc<AtomicUsize>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    files_max: usize,
    /// Slots that were filled; some may be empty again, or gone.
    queue: SecondChance<Weak<Slot>>,
}

/// Counts one open file for as long as it lives.
struct Place(Arc<AtomicUsize>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl OpenPacks {
    /// At most `files_max` packs are open at a time.
    pub(crate) fn new(files_max: usize) -> Arc<Self> {
        let state = State { files_max, queue: SecondChance::default() };
        Arc::new(Self { files: Arc::default(), state: Mutex::new(state) })
    }

    /// The file of `slot`, opened by `open` if it is closed. Waits for the disk.
    pub(crate) fn file(
        &self,
        slot: &Arc<Slot>,
        open: impl Fn() -> Result<File, PackFault>,
    ) -> Result<MappedFile, PackFault> {
        if let Some(file) = slot.file() {
            return Ok(file);
        }
        let mut shortage = None;
        for _ in 0..limits::OPEN_TRIES {
            let Some(place) = self.make_place() else { break };
            let opened = open().and_then(|file| MappedFile::guarded(file, place).map_err(PackFault::Open));
            match opened {
                Ok(file) => return self.install(slot, file),
                Err(PackFault::Open(error)) if is_shortage(&error) => {
                    self.shrink(&error);
                    shortage = Some(error);
                }
                Err(fault) => return Err(fault),
            }
        }
        let source = shortage.unwrap_or_else(|| Errno::EMFILE.into());
        Err(PackFault::Shortage { source, descriptors: descriptors_max() })
    }

    fn install(&self, slot: &Arc<Slot>, file: MappedFile) -> Result<MappedFile, PackFault> {
        let (file, is_new) = slot.install(file)?;
        if is_new {
            let mut state = self.state();
            let State { files_max, queue } = &mut *state;
            queue.push(Arc::downgrade(slot));
            // Packs that were dropped leave entries behind.
            if queue.len() > 2 * *files_max {
                queue.retain(|slot| slot.strong_count() > 0);
            }
        }
        Ok(file)
    }

    /// A place for one more open file; others close until there is one. `None` if sends keep all of them open.
    fn make_place(&self) -> Option<Place> {
        loop {
            let closed = {
                let mut state = self.state();
                if self.files.load(Ordering::Acquire) < state.files_max {
                    self.files.fetch_add(1, Ordering::AcqRel);
                    return Some(Place(Arc::clone(&self.files)));
                }
                state.close_one()?
            };
            // Unmapping a large file takes a while, in which others need not wait.
            drop(closed);
        }
    }

    /// The system let no more files be opened, or mapped: fewer packs are open from now on.
    fn shrink(&self, error: &io::Error) {
        let mut closed = Vec::new();
        let (files_max, has_shrunk) = {
            let mut state = self.state();
            let open = self.files.load(Ordering::Acquire);
            let smaller = open.saturating_sub(limits::OPEN_PACKS_SHRINK).max(limits::OPEN_PACKS_MIN);
            let has_shrunk = smaller < state.files_max;
            state.files_max = state.files_max.min(smaller);
            closed.extend((0..limits::OPEN_PACKS_SHRINK).map_while(|_| state.close_one()));
            (state.files_max, has_shrunk)
        };
        // Once the bound is at its least, whoever needs the pack is told that it cannot be opened.
        if !has_shrunk {
            return;
        }
        warn!(
            %error, packs = files_max, descriptors = descriptors_max(),
            "fewer packs are open from now on: raise the limit on open files (`ulimit -n`, or LimitNOFILE= of the \
             service) or that on maps (`sysctl vm.max_map_count`)"
        );
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Closes the pack that was not used for longest; `None` if none is open.
    fn close_one(&mut self) -> Option<MappedFile> {
        let mut closed = None;
        self.queue.take_out(|slot| {
            let Some(slot) = slot.upgrade() else { return Verdict::Forget };
            if slot.used.swap(false, Ordering::Relaxed) {
                return Verdict::Spare;
            }
            closed = slot.close();
            if closed.is_some() { Verdict::Take } else { Verdict::Forget }
        });
        closed
    }
}

/// A queue from which the entry goes first that was not used for longest, as far as one bit per entry tells (the
/// CLOCK algorithm, Corbato 1968). Use costs its user a store, not a lock and a move within a list.
#[derive(Debug)]
struct SecondChance<T> {
    entries: VecDeque<T>,
}

/// What becomes of the entry at the front.
enum Verdict {
    /// It was used: it goes to the back.
    Spare,
    /// It is of no account any more.
    Forget,
    /// It is the one.
    Take,
}

impl<T> Default for SecondChance<T> {
    fn default() -> Self {
        Self { entries: VecDeque::new() }
    }
}

impl<T> SecondChance<T> {
    fn len(&self) -> usize {
        self.entries.len()
    }

    fn push(&mut self, entry: T) {
        self.entries.push_back(entry);
    }

    fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.entries.retain(keep);
    }

    /// Takes the first entry out that `judge` neither spares nor forgets. Each is looked at twice at most: who uses
    /// entries all the time does not keep this going.
    fn take_out(&mut self, mut judge: impl FnMut(&T) -> Verdict) -> Option<T> {
        for _ in 0..2 * self.entries.len() {
            let entry = self.entries.pop_front()?;
            match judge(&entry) {
                Verdict::Spare => self.entries.push_back(entry),
                Verdict::Forget => {}
                Verdict::Take => return Some(entry),
            }
        }
        None
    }
}

/// How the files that this process may have open are shared out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Shares {
    /// Packs that are open at a time.
    pub(crate) packs: usize,
    /// Connections of clients over TCP.
    pub(crate) connections: usize,
}

impl Shares {
    /// Those of this process; `ports` sockets are served.
    pub(crate) fn of_process(ports: usize) -> Self {
        let descriptors = descriptors_max();
        let shares = Self::of(descriptors, maps_max(), ports);
        let Self { packs, connections } = shares;
        info!(descriptors, packs, connections, "at most so many packs and TCP connections are open at a time");
        shares
    }

    /// Those of a process that may have `descriptors` files and `maps` maps.
    fn of(descriptors: u64, maps: u64, ports: usize) -> Self {
        let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
        let fixed = limits::DESCRIPTORS_RESERVED + ports * limits::DESCRIPTORS_PER_PORT;
        let rest = descriptors.saturating_sub(fixed);
        // Where there are few, clients over TCP get half of them.
        let connections = limits::DESCRIPTORS_FOR_TCP.min(rest / 2).max(1);
        let by_maps = usize::try_from(maps / limits::MAPS_PER_PACK).unwrap_or(usize::MAX);
        let packs = rest.saturating_sub(connections).min(by_maps);
        Self { packs: packs.clamp(limits::OPEN_PACKS_MIN, limits::OPEN_PACKS_MAX), connections }
    }
}

/// How many files this process may have open. Raises the soft limit to the hard one first: the soft one is low for the
/// sake of programs that use `select`, which this one does not.
pub(crate) fn descriptors_max() -> u64 {
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return limits::DESCRIPTORS_USUAL;
    };
    if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() { hard } else { soft }
}

/// How many maps this process may have.
fn maps_max() -> u64 {
    let said = fs::read_to_string("/proc/sys/vm/max_map_count").ok();
    said.and_then(|text| text.trim().parse().ok()).unwrap_or(limits::MAPS_USUAL)
}

/// Whether the system has no descriptor or no map left to give.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slots, and the file that all of them open.
    struct World {
        packs: Arc<OpenPacks>,
        path: std::path::PathBuf,
        _dir: tempfile::TempDir,
    }

    impl World {
        fn new(files_max: usize) -> Self {
            let dir = tempfile::tempdir().expect("temporary folder");
            let path = dir.path().join("file");
            fs::write(&path, [7; 100]).expect("writable");
            Self { packs: OpenPacks::new(files_max), path, _dir: dir }
        }

        fn open(&self, slot: &Arc<Slot>) -> Result<MappedFile, PackFault> {
            self.packs.file(slot, || File::open(&self.path).map_err(PackFault::Open))
        }

        fn files(&self) -> usize {
            self.packs.files.load(Ordering::Acquire)
        }
    }

    #[test]
    fn the_pack_that_was_not_used_for_longest_closes_and_is_cold_then() {
        let world = World::new(3);
        let slots = [(); 4].map(|()| Slot::empty(1));
        for slot in &slots[..3] {
            world.open(slot).expect("opens");
            slot.on_warmed(0);
        }
        // All were used when they were opened: what counts is who was used after the bound has looked.
        world.open(&slots[3]).expect("opens");
        assert_eq!(slots.each_ref().map(|slot| slot.peek().is_some()), [false, true, true, true]);
        assert!(!slots[0].hot().contains(0) && slots[1].hot().contains(0));
        assert!(slots[1].file().is_some());
        world.open(&slots[0]).expect("opens again");
        assert_eq!(slots.each_ref().map(|slot| slot.peek().is_some()), [true, true, false, true]);
        assert_eq!(world.files(), 3);
        slots[2].on_warmed(0);
        assert!(!slots[2].hot().contains(0), "a closed pack has no page in memory");
    }

    #[test]
    fn a_file_that_is_being_sent_counts_until_the_send_has_left() {
        let world = World::new(1);
        let [sending, waiting] = [(); 2].map(|()| Slot::empty(1));
        let region = world.open(&sending).expect("opens").region(0, 100).expect("within the file");
        assert!(matches!(world.open(&waiting), Err(PackFault::Shortage { .. })));
        assert_eq!(world.files(), 1);
        drop(region);
        assert_eq!(world.files(), 0);
        world.open(&waiting).expect("opens now");
        assert_eq!(world.files(), 1);
    }

    #[test]
    fn a_dropped_pack_closes_and_is_opened_no_more() {
        let world = World::new(4);
        for _ in 0..100 {
            let slot = Slot::empty(1);
            world.open(&slot).expect("opens");
            slot.retire();
            assert_eq!(world.files(), 0);
            assert!(matches!(world.open(&slot), Err(PackFault::Dropped)));
        }
        assert!(world.packs.state().queue.len() <= 9, "dropped packs are forgotten");
    }

    #[test]
    fn a_shortage_of_files_shrinks_the_bound_and_is_no_damage() {
        let world = World::new(1_000);
        let slots: Vec<_> = (0..100).map(|_| Slot::empty(1)).collect();
        for slot in &slots {
            world.open(slot).expect("opens");
        }
        let [late, last] = [(); 2].map(|()| Slot::empty(1));
        let tries = AtomicUsize::new(0);
        let short_once = || match tries.fetch_add(1, Ordering::Relaxed) {
            0 => Err(PackFault::Open(Errno::EMFILE.into())),
            _ => File::open(&world.path).map_err(PackFault::Open),
        };
        world.packs.file(&late, short_once).expect("the second try succeeds");
        assert!(world.files() <= 100 - limits::OPEN_PACKS_SHRINK + 1, "{}", world.files());
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM] {
            let fault = world.packs.file(&last, || Err(PackFault::Open(errno.into()))).expect_err("no try succeeds");
            assert!(!fault.is_ruin() && fault.to_string().contains("ulimit -n"), "{fault}");
        }
        assert!(world.packs.state().files_max >= limits::OPEN_PACKS_MIN);
        world.open(&last).expect("opens when there are files again");
    }

    #[test]
    fn entries_that_are_always_in_use_do_not_keep_the_queue_going() {
        let mut queue = SecondChance::default();
        for entry in 0..3 {
            queue.push(entry);
        }
        assert_eq!(queue.take_out(|_| Verdict::Spare), None);
        let mut spared = Vec::new();
        let taken = queue.take_out(|entry| {
            if *entry == 0 && !spared.contains(entry) {
                spared.push(*entry);
                return Verdict::Spare;
            }
            Verdict::Take
        });
        assert_eq!((taken, queue.len()), (Some(1), 2));
    }

    #[test]
    fn sockets_keep_their_reserve_whatever_the_limit() {
        let usual = limits::MAPS_USUAL;
        for (descriptors, ports) in [(1_024, 3), (4_096, 9), (20_000, 3), (1 << 20, 65)] {
            let Shares { packs, connections } = Shares::of(descriptors, usual, ports);
            let sockets = limits::DESCRIPTORS_RESERVED + ports * limits::DESCRIPTORS_PER_PORT;
            assert!((packs + connections + sockets) as u64 <= descriptors, "{descriptors}: {packs} {connections}");
            assert!(packs as u64 <= usual / limits::MAPS_PER_PACK);
        }
        assert_eq!(Shares::of(1_024, usual, 3), Shares { packs: 468, connections: 468 });
        assert_eq!(Shares::of(20_000, usual, 3), Shares { packs: 16_384, connections: 1_024 });
        assert_eq!(Shares::of(16, usual, 3), Shares { packs: limits::OPEN_PACKS_MIN, connections: 1 });
        assert_eq!(Shares::of(1 << 20, 1_000, 3).packs, 500);
    }
}
