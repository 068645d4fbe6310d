//! Helper threads that read cold extents in, so that no shard ever waits for the disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use crossbeam::channel::{Receiver, Sender, bounded};
use tracing::{debug, warn};

use crate::catalogue::Shelf;
use crate::keeper::Keeper;
use crate::limits::{WARM_AHEAD_MAX, WARM_QUEUE_MAX, WARM_THREADS};
use crate::mailbox::{Mailbox, Warmed};
use crate::pack::{Pack, PackFault};

/// What shards ask the helpers with; cheap to clone. The helpers end when the last one is gone.
#[derive(Clone)]
pub(crate) struct Warmer {
    jobs: Sender<Job>,
    inspection_asked: Arc<AtomicBool>,
}

/// What helpers are asked to do.
pub(crate) enum Job {
    /// Make an extent hot and tell the shard.
    Warm { pack: Arc<Pack>, extent: u32, shard: u8 },
    /// A send met a page that is not there: look for packs that were cut short.
    Inspect,
}

/// What a helper works on.
#[derive(Clone)]
struct Helper {
    jobs: Receiver<Job>,
    mailboxes: Arc<[Mailbox]>,
    keeper: Arc<Keeper>,
    shelf: Arc<Shelf>,
    inspection_asked: Arc<AtomicBool>,
}

/// Starts the helpers.
pub(crate) fn start(
    mailboxes: Arc<[Mailbox]>,
    keeper: Arc<Keeper>,
    shelf: Arc<Shelf>,
) -> io::Result<(Warmer, Vec<JoinHandle<()>>)> {
    let (sender, jobs) = bounded(WARM_QUEUE_MAX);
    let inspection_asked = Arc::new(AtomicBool::new(false));
    let warmer = Warmer { jobs: sender, inspection_asked: Arc::clone(&inspection_asked) };
    let helper = Helper { jobs, mailboxes, keeper, shelf, inspection_asked };
    let threads = (0..WARM_THREADS)
        .map(|n| {
            let helper = helper.clone();
            std::thread::Builder::new().name(format!("warm-{n}")).spawn(move || helper.work())
        })
        .collect::<io::Result<_>>()?;
    Ok((warmer, threads))
}

impl Warmer {
    /// Asks for an extent; says whether there was room. The shard's mailbox hears when it is done.
    pub(crate) fn ask(&self, pack: &Arc<Pack>, extent: u32, shard: u8) -> bool {
        self.jobs.try_send(Job::Warm { pack: Arc::clone(pack), extent, shard }).is_ok()
    }

    /// The same for an extent that nobody waits for yet: no if others wait for theirs.
    pub(crate) fn ask_ahead(&self, pack: &Arc<Pack>, extent: u32, shard: u8) -> bool {
        self.jobs.len() < WARM_AHEAD_MAX && self.ask(pack, extent, shard)
    }

    /// A warmer whose jobs nobody does.
    #[cfg(test)]
    pub(crate) fn without_helpers(queue: usize) -> (Self, Receiver<Job>) {
        let (jobs, receiver) = bounded(queue);
        (Self { jobs, inspection_asked: Arc::default() }, receiver)
    }

    /// Asks for a look at all packs. While one is asked for, another is none the better.
    pub(crate) fn ask_inspection(&self) {
        if !self.inspection_asked.swap(true, Ordering::AcqRel) && self.jobs.try_send(Job::Inspect).is_err() {
            self.inspection_asked.store(false, Ordering::Release);
        }
    }
}

impl Helper {
    fn work(&self) {
        for job in &self.jobs {
            match job {
                Job::Warm { pack, extent, shard } => {
                    let failed = !self.warm(&pack, extent);
                    self.mailboxes[usize::from(shard)].on_warmed(Warmed { asset: pack.asset(), extent, failed });
                }
                Job::Inspect => {
                    self.inspection_asked.store(false, Ordering::Release);
                    self.inspect();
                }
            }
        }
    }

    /// Makes an extent hot, or finds out why it cannot be; says whether whoever waits may look again.
    fn warm(&self, pack: &Arc<Pack>, extent: u32) -> bool {
        use io::ErrorKind::{OutOfMemory, Unsupported};
        match pack.warm(extent) {
            Ok(()) => {}
            // Nothing is wrong with the pack: it is sent as it is, and that may wait for the disk.
            Err(PackFault::Io(error)) if matches!(error.kind(), Unsupported | OutOfMemory) => {
                debug!(asset = %pack.asset(), extent, %error, "sending an extent without reading it in first");
                pack.on_not_warmed(extent);
            }
            Err(PackFault::Io(_)) if pack.has_its_length() => self.keeper.on_rotten(pack, &[extent]),
            Err(fault) if fault.is_ruin() => self.keeper.on_ruined(pack),
            Err(PackFault::Dropped) => {}
            Err(fault) => {
                warn!(asset = %pack.asset(), %fault, "a pack that clients ask for cannot be opened");
                return false;
            }
        }
        true
    }

    fn inspect(&self) {
        for pack in self.shelf.newest().packs.values() {
            if !pack.has_its_length() {
                self.keeper.on_ruined(pack);
            }
        }
    }
}
