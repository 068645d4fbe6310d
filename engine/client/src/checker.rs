//! Threads that hash what was fetched and hand on what is right, so that the thread that receives never waits for a
//! hash or a disk.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use braidcast_io::SelectorWaker;
use braidcast_media::StreamId;
use crossbeam::channel::{Receiver, SendError, Sender, unbounded};

use crate::fetcher::{Buffer, Checked, Filled, Job, SourceNo, Verdict};
use crate::sink::{Given, Lent, Parallel, Sink};

/// The checking threads of one lane of a download.
pub(crate) struct Checker {
    work: Option<Sender<Filled>>,
    done: Receiver<io::Result<Checked>>,
    threads: Vec<JoinHandle<()>>,
}

/// How a lane hears of its extents, from whichever thread puts them into the output.
#[derive(Clone)]
pub(crate) struct Reply {
    outbox: Sender<io::Result<Checked>>,
    waker: SelectorWaker,
}

impl Reply {
    /// Says whether the lane still listens.
    fn send(&self, checked: io::Result<Checked>) -> bool {
        let is_heard = self.outbox.send(checked).is_ok();
        self.waker.wake();
        is_heard
    }
}

impl Checker {
    /// Starts `threads` threads that put what is right of `stream` into `sink`, give back what is right of other
    /// streams, and wake the lane for each extent that is done. An output that must be written in order takes one thread of
    /// each lane.
    ///
    /// # Errors
    /// What the system says if a thread cannot be started.
    pub(crate) fn start(
        threads: usize,
        stream: StreamId,
        sink: &Arc<Mutex<Sink>>,
        waker: SelectorWaker,
    ) -> io::Result<Self> {
        // Never more than the window's buffers are in either.
        let (work, inbox) = unbounded::<Filled>();
        let (outbox, done) = unbounded();
        let reply = Reply { outbox, waker };
        let threads = (0..threads)
            .map(|number| {
                let (inbox, reply, sink) = (inbox.clone(), reply.clone(), Arc::clone(sink));
                std::thread::Builder::new().name(format!("check-{number}")).spawn(move || {
                    for filled in inbox {
                        if !check(filled, stream, &sink, &reply) {
                            return;
                        }
                    }
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self { work: Some(work), done, threads })
    }

    /// Hands an extent over.
    pub(crate) fn submit(&self, filled: Filled) {
        let work = self.work.as_ref().expect("the queue is open until the checker is dropped");
        // Threads that have ended have said why, or are told to.
        let _ = work.send(filled);
    }

    /// The next extent that is done, or what the system said of one that is right and that the output does not take.
    pub(crate) fn poll(&self) -> Option<io::Result<Checked>> {
        self.done.try_recv().ok()
    }
}

impl Drop for Checker {
    fn drop(&mut self) {
        self.work = None;
        for thread in self.threads.drain(..) {
            // A panic there has been printed, and the download ends either way.
            let _ = thread.join();
        }
    }
}

/// Says whether the lane still listens.
fn check(filled: Filled, stream: StreamId, sink: &Mutex<Sink>, reply: &Reply) -> bool {
    let checked = filled.check();
    let Checked { job, verdict, misled_by } = checked;
    match verdict {
        Verdict::Good { buffer, liars } if job.key.stream == stream => {
            write(job, buffer, liars, misled_by, sink, reply)
        }
        verdict => reply.send(Ok(Checked { job, verdict, misled_by })),
    }
}

fn write(
    job: Job,
    buffer: Buffer,
    liars: Vec<SourceNo>,
    misled_by: Vec<SourceNo>,
    sink: &Mutex<Sink>,
    reply: &Reply,
) -> bool {
    let parallel = sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).parallel();
    let verdict = match parallel {
        Some(Parallel::File(file)) => {
            file.write(job.key.extent, &buffer[..job.bytes]).map(|()| Verdict::Good { buffer, liars })
        }
        Some(Parallel::Player(player)) => Ok(lend(&job, buffer, liars, &player)),
        None => return write_in_order(job, buffer, liars, sink, reply),
    };
    reply.send(verdict.map(|verdict| Checked { job, verdict, misled_by }))
}

fn lend(job: &Job, buffer: Buffer, liars: Vec<SourceNo>, player: &Sender<Given>) -> Verdict {
    let lent = Lent { key: job.key, bytes: job.bytes, buffer };
    match player.send(Given::Extent(lent)).map_err(SendError::into_inner) {
        // The player has gone, and the engine is being stopped.
        Err(Given::Extent(lent)) => Verdict::Good { buffer: lent.buffer, liars },
        Ok(()) | Err(Given::Early(_)) => Verdict::Lent { liars },
    }
}

/// Tells each extent that is written to the lane that brought it.
fn write_in_order(job: Job, buffer: Buffer, liars: Vec<SourceNo>, sink: &Mutex<Sink>, reply: &Reply) -> bool {
    let mut sink = sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let Sink::Ordered(ordered) = &mut *sink else { unreachable!("the others are used side by side") };
    let written = match ordered.write(job, buffer, reply.clone()) {
        Ok(written) => written,
        Err(error) => return reply.send(Err(error)),
    };
    let mut liars = Some(liars);
    for (done, buffer, lane) in written {
        let liars = if done.key == job.key { liars.take().unwrap_or_default() } else { Vec::new() };
        let verdict = Verdict::Good { buffer, liars };
        // A lane that has ended needs to hear nothing: it has said why, or all of them are told to stop.
        lane.send(Ok(Checked { job: done, verdict, misled_by: Vec::new() }));
    }
    liars.is_none_or(|liars| reply.send(Ok(Checked { job, verdict: Verdict::Kept { liars }, misled_by: Vec::new() })))
}
