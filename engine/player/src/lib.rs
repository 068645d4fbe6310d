//! A film as decoded pictures, in the order in which they are shown, from all servers that hold it.
//!
//! ```text
//! servers -> client::film (pull, check) -> frames -> decode thread -> av::Decoder -> Queue -> Player::take
//! ```
//! **[`Player::take`] never blocks; [`Player::wait`] and [`Player::readiness`] tell when it has something.** Decoding
//! runs ahead of whoever takes pictures until the queue is full; then it stops, and with it the servers.
#![forbid(unsafe_code)]

mod decoding;
mod head;
mod places;
mod queue;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use braidcast_av::{DecodeError, Decoder, Picture};
use braidcast_client::Control;
use braidcast_client::film::{self, FilmError, FilmOptions, FilmStats, FrameControl};

pub use braidcast_av as av;
pub use braidcast_client::film::{FilmInfo, SourceStats, TrackInfo, TrackKind};
use decoding::Decoding;
use queue::Queue;

/// Settings of a player.
#[derive(Clone, Debug)]
pub struct PlayerOptions {
    /// How much of the film is fetched ahead. Default 10 s.
    pub ahead: Duration,
    /// Memory for what was fetched and not decoded, in bytes. Default 32 MiB.
    pub window_bytes: u64,
    /// Pictures that are decoded ahead, at most; see also [`PICTURES_BYTES_MAX`]. Default 8.
    pub pictures_max: usize,
    /// Threads that decode. Default 0: one for each core.
    pub threads: usize,
    /// Most bytes per second of packets, from all servers together. Default: no bound.
    pub rate_max: Option<f64>,
    /// How long nothing may come from anyone before it is given up. Default 10 s.
    pub stall: Duration,
    /// Where to write what was done and when, a `braidcast_client::trace::Record` a line. Default: nowhere.
    pub trace: Option<PathBuf>,
}

impl Default for PlayerOptions {
    fn default() -> Self {
        let film = FilmOptions::default();
        Self {
            ahead: film.ahead,
            window_bytes: film.window_bytes,
            pictures_max: 8,
            threads: 0,
            rate_max: film.rate_max,
            stall: film.stall,
            trace: film.trace,
        }
    }
}

/// Memory for pictures that were decoded and not taken: five of 3,840 x 2,160 with 4:2:0 samples of 8 bits. One picture
/// is kept however large it is.
pub const PICTURES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A picture, and its place in the film.
#[derive(Debug)]
pub struct ShownPicture {
    /// What is to be shown.
    pub picture: Picture,
    /// Pictures shown before it.
    pub index: u64,
    /// Presentation time in units of [`FilmInfo::time_base`].
    pub pts: Option<i64>,
    /// Presentation time in seconds from the first picture.
    pub time: f64,
    /// It was coded without reference to others.
    pub key_frame: bool,
}

/// What [`Player::take`] has.
#[derive(Debug)]
pub enum Taken {
    /// The next picture.
    Picture(ShownPicture),
    /// Not yet.
    Waiting,
    /// The last picture was taken before. A seek goes on.
    End,
}

/// A film cannot be played, or goes no further. Each message names the culprit and what to do.
#[derive(Debug, thiserror::Error)]
pub enum PlayError {
    /// Its frames do not come.
    #[error(transparent)]
    Film(#[from] FilmError),
    /// Its frames cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The thread that decodes has panicked; standard error tells where.
    #[error("the thread that decodes has ended unexpectedly; what it printed says more")]
    Panicked,
    /// No thread or descriptor can be had.
    #[error("the system gives no thread or descriptor: {0}")]
    System(io::Error),
}

/// How a player stands.
#[derive(Clone, Debug)]
pub struct PlayerStats {
    /// What came from where.
    pub film: FilmStats,
    /// Frames that were given to the decoder.
    pub frames: u64,
    /// Pictures that came out of it, less those before the time of a seek.
    pub pictures: u64,
    /// Frames that could not be decoded.
    pub decode_errors: u64,
    /// Pictures that wait to be taken.
    pub pictures_waiting: usize,
}

/// Counted by the decode thread.
#[derive(Debug, Default)]
struct Counters {
    frames: AtomicU64,
    pictures: AtomicU64,
    decode_errors: AtomicU64,
}

/// A film that is being played. Dropped, it ends all its threads, and waits for that outside of a runtime's tasks.
pub struct Player {
    control: FrameControl,
    queue: Arc<Queue>,
    counters: Arc<Counters>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Player {
    /// Opens the current version of a film at its start. Must be called within a tokio runtime, which must run for as
    /// long as the player does.
    ///
    /// # Errors
    /// [`PlayError`]: no such film, nobody who holds it, no decoder for it, or what the master said.
    pub async fn open(control: Control, name: &str, options: PlayerOptions) -> Result<Self, PlayError> {
        let film = FilmOptions {
            ahead: options.ahead,
            window_bytes: options.window_bytes,
            rate_max: options.rate_max,
            stall: options.stall,
            trace: options.trace,
        };
        let (control, stream) = film::open(control, name, film).await?;
        let decoder = Decoder::new(&control.info().video, options.threads)?;
        let queue = Arc::new(Queue::new(options.pictures_max.max(1)).map_err(PlayError::System)?);
        let counters = Arc::new(Counters::default());
        let decoding =
            Decoding::new(stream, decoder, Arc::clone(control.info()), Arc::clone(&queue), Arc::clone(&counters));
        let thread = std::thread::Builder::new().name("decode".into()).spawn(move || decoding.run());
        let thread = Mutex::new(Some(thread.map_err(PlayError::System)?));
        Ok(Self { control, queue, counters, thread })
    }

    /// What is known of the film.
    pub fn film(&self) -> &FilmInfo {
        self.control.info()
    }

    /// The next picture, if it is there.
    ///
    /// # Errors
    /// [`PlayError`], once all pictures before were taken; [`FilmError::Closed`] ever after.
    pub fn take(&self) -> Result<Taken, PlayError> {
        self.queue.take()
    }

    /// Waits until [`Player::take`] has something other than [`Taken::Waiting`], at most for `timeout`.
    pub fn wait(&self, timeout: Duration) {
        self.queue.wait(timeout);
    }

    /// A descriptor that is readable while [`Player::take`] has something other than [`Taken::Waiting`]. Not to be read.
    pub fn readiness(&self) -> BorrowedFd<'_> {
        self.queue.readiness()
    }

    /// Goes to another time, in seconds from the first picture. The next picture is the one shown at that time. Does not
    /// wait for it.
    ///
    /// # Errors
    /// [`FilmError::Seek`] for a time that the film does not have; nothing has changed then.
    pub fn seek(&self, seconds: f64) -> Result<(), PlayError> {
        let seek = self.control.seek(seconds)?;
        self.queue.start_seek(seek);
        Ok(())
    }

    /// How things stand.
    pub fn stats(&self) -> PlayerStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PlayerStats {
            film: self.control.stats(),
            frames: count(&self.counters.frames),
            pictures: count(&self.counters.pictures),
            decode_errors: count(&self.counters.decode_errors),
            pictures_waiting: self.queue.len(),
        }
    }

    /// Ends all threads and waits for that. Not to be called from a task of the runtime: it blocks.
    pub fn close(&self) {
        self.queue.close();
        self.control.close();
        let thread = self.thread.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
        if let Some(thread) = thread {
            // A panic there has been printed.
            let _ = thread.join();
        }
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        if tokio::runtime::Handle::try_current().is_ok() {
            // In a task: what would be waited for may be this very thread's to do.
            self.queue.close();
            self.control.close_soon();
        } else {
            self.close();
        }
    }
}
