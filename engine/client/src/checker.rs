//! Threads that hash what was fetched and hand on what is right, so that the thread that receives never waits for a
//! hash or a disk.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use braidcast_media::layout::CHUNK_BYTES;
use braidcast_media::{StreamId, hashes};
use crossbeam::channel::{Receiver, Sender, bounded, unbounded};

use crate::planner::SourceNo;
use crate::sink::{Lent, Parallel, Sink};
use crate::window::{Buffer, Filled, Job, Origins, Suspect};

/// An extent that was hashed.
pub(crate) struct Checked {
    /// What was to be fetched.
    pub(crate) job: Job,
    /// How it went.
    pub(crate) verdict: Verdict,
}

/// How checking an extent went.
pub(crate) enum Verdict {
    /// It is what was published, and stands in the output. The buffer is the plain bytes of a hash list, or spare.
    Good {
        /// To be used again.
        buffer: Buffer,
        /// Who gave chunks of an earlier copy that differ from it.
        liars: Vec<SourceNo>,
    },
    /// It is right, and its buffer is with a player now.
    Lent {
        /// Who gave chunks of an earlier copy that differ from it.
        liars: Vec<SourceNo>,
    },
    /// It is right and kept until those before it are written.
    Kept {
        /// Who gave chunks of an earlier copy that differ from it.
        liars: Vec<SourceNo>,
    },
    /// Its hash is wrong.
    Forged {
        /// The copy, to be compared with a right one later.
        copy: Box<Suspect>,
    },
    /// It is right, and the output does not take it.
    Unwritable {
        /// What the system said.
        error: io::Error,
    },
}

/// The checking threads of one download.
pub(crate) struct Checker {
    work: Option<Sender<Filled>>,
    done: Receiver<Checked>,
    threads: Vec<JoinHandle<()>>,
}

impl Checker {
    /// Starts `threads` threads that put what is right of `stream` into `sink`, give back what is right of other
    /// streams, and call `wake` for each extent that is done. An output that must be written in order takes one thread.
    ///
    /// # Errors
    /// What the system says if a thread cannot be started.
    pub(crate) fn start(
        threads: usize,
        capacity: usize,
        stream: StreamId,
        sink: Sink,
        wake: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let (work, inbox) = bounded::<Filled>(capacity);
        // Never more than the window's buffers are in it.
        let (outbox, done) = unbounded();
        let sink = Arc::new(Mutex::new(sink));
        let threads = (0..threads)
            .map(|number| {
                let (inbox, outbox, wake, sink) = (inbox.clone(), outbox.clone(), wake.clone(), Arc::clone(&sink));
                std::thread::Builder::new().name(format!("check-{number}")).spawn(move || {
                    for filled in inbox {
                        let released = check(filled, stream, &sink);
                        let open = released.into_iter().all(|checked| outbox.send(checked).is_ok());
                        wake();
                        if !open {
                            return;
                        }
                    }
                })
            })
            .collect::<io::Result<Vec<_>>>()?;
        Ok(Self { work: Some(work), done, threads })
    }

    /// Hands an extent over.
    ///
    /// # Panics
    /// If more extents are handed over than the capacity allows; the window bounds them.
    pub(crate) fn submit(&self, filled: Filled) {
        let work = self.work.as_ref().expect("the queue is open until the checker is dropped");
        assert!(work.try_send(filled).is_ok(), "the window bounds what is being checked");
    }

    /// The next extent that is done.
    pub(crate) fn poll(&self) -> Option<Checked> {
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

fn check(filled: Filled, stream: StreamId, sink: &Mutex<Sink>) -> Vec<Checked> {
    let Filled { job, buffer, origins, suspect } = filled;
    //= PROTOCOL D3: A client MUST NOT call an extent verified before its BLAKE3 hash equals the one that the master's roots vouch for.
    if hashes::hash(&buffer[..job.bytes]) != job.hash {
        return vec![Checked { job, verdict: Verdict::Forged { copy: Box::new(Suspect { buffer, origins }) } }];
    }
    let liars = suspect.map(|suspect| liars(&buffer, &suspect.buffer, &suspect.origins)).unwrap_or_default();
    if job.key.stream != stream {
        return vec![Checked { job, verdict: Verdict::Good { buffer, liars } }];
    }
    write(job, buffer, liars, sink)
}

fn write(job: Job, buffer: Buffer, liars: Vec<SourceNo>, sink: &Mutex<Sink>) -> Vec<Checked> {
    let parallel = sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).parallel();
    let verdict = match parallel {
        Some(Parallel::File(file)) => match file.write(job.key.extent, &buffer[..job.bytes]) {
            Ok(()) => Verdict::Good { buffer, liars },
            Err(error) => Verdict::Unwritable { error },
        },
        Some(Parallel::Player(player)) => match player.send(Lent { key: job.key, bytes: job.bytes, buffer }) {
            Ok(()) => Verdict::Lent { liars },
            // The player has gone, and the engine is being stopped.
            Err(returned) => Verdict::Good { buffer: returned.into_inner().buffer, liars },
        },
        None => return write_in_order(job, buffer, liars, sink),
    };
    vec![Checked { job, verdict }]
}

fn write_in_order(job: Job, buffer: Buffer, liars: Vec<SourceNo>, sink: &Mutex<Sink>) -> Vec<Checked> {
    let mut sink = sink.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let Sink::Ordered(ordered) = &mut *sink else { unreachable!("the others are used side by side") };
    match ordered.write(job, buffer) {
        Err(error) => vec![Checked { job, verdict: Verdict::Unwritable { error } }],
        Ok(written) => {
            let mut out = Vec::with_capacity(written.len() + 1);
            let mut liars = Some(liars);
            for (done, buffer) in written {
                let liars = if done.key == job.key { liars.take().unwrap_or_default() } else { Vec::new() };
                out.push(Checked { job: done, verdict: Verdict::Good { buffer, liars } });
            }
            if let Some(liars) = liars {
                out.push(Checked { job, verdict: Verdict::Kept { liars } });
            }
            out
        }
    }
}

/// Who gave chunks of `bad` that differ from `good`.
fn liars(good: &[u8], bad: &[u8], origins: &Origins) -> Vec<SourceNo> {
    let chunks = good.chunks(CHUNK_BYTES).zip(bad.chunks(CHUNK_BYTES)).zip(origins);
    let mut liars: Vec<SourceNo> = chunks.filter(|((good, bad), _)| good != bad).map(|(_, from)| *from).collect();
    liars.sort_unstable();
    liars.dedup();
    liars
}
