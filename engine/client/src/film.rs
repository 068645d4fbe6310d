//! A film as its frames: access units in decode order, verified, from all servers that hold them.
//!
//! **[`FrameStream::next`], called again and again by one thread, gives frame after frame; [`FrameControl`], from any
//! thread, seeks, tells how things stand and ends it.** The same engine as a download's fetches the extents that the
//! frames stand in. It is told of them window by window, each asked of the master ahead of need, and has as many
//! buffers as the window allows: who stops taking frames stops the servers within one round trip.

mod assembly;
mod early;
mod error;
mod info;
mod stalls;
mod steering;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use braidcast_media::frames::{FRAME_BYTES_MAX, FrameEntry};
use braidcast_media::layout::EXTENT_BYTES;
use crossbeam::channel::{Receiver, select, unbounded};
use tokio::sync::mpsc;

use crate::control::{Control, Window};
use crate::engine::{Engine, EngineConfig, Lanes, SnapshotReader};
use crate::error::ControlError;
use crate::fetcher::{FetcherConfig, Order, Traffic};
use crate::sink::{Given, Sink};
use crate::trace::writer::TraceWriter;
use assembly::Assembly;
use early::EARLY_SECONDS;
pub use error::FilmError;
pub use info::{FilmInfo, TrackInfo, TrackKind};
use stalls::Stalls;
use steering::{Event, Span, Steering, Wish};
pub use steering::{FilmStats, SourceStats};

/// Settings of a frame stream.
#[derive(Clone, Debug)]
pub struct FilmOptions {
    /// How much of the film is fetched ahead of what was taken. Default 10 s.
    pub ahead: Duration,
    /// Memory for what was fetched, in bytes; never less than it takes to hold one frame, and never more than 1.2 GB.
    /// Default 32 MiB.
    pub window_bytes: u64,
    /// Most bytes per second of packets, from all servers together. Default: no bound.
    pub rate_max: Option<f64>,
    /// How long nothing may come from anyone before it is given up, and how long no server need hold the film yet.
    /// Default 10 s.
    pub stall: Duration,
    /// Where to write what was done and when, a [`crate::trace::Record`] a line. Default: nowhere.
    pub trace: Option<PathBuf>,
}

impl Default for FilmOptions {
    fn default() -> Self {
        Self {
            ahead: Duration::from_secs(10),
            window_bytes: 32 * 1024 * 1024,
            rate_max: None,
            stall: Duration::from_secs(10),
            trace: None,
        }
    }
}

/// An access unit of the film's video track.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its number in decode order, from 0.
    pub number: u64,
    /// What the index says of it.
    pub entry: FrameEntry,
    /// Its bytes.
    pub data: Vec<u8>,
    /// The hashes of all extents that it stands in were checked. If not, that comes later, and ends the stream with
    /// [`FilmError::Misled`] if the frame is not what was published.
    pub verified: bool,
}

/// What comes next in a frame stream.
#[derive(Debug)]
pub enum Next {
    /// The next frame.
    Frame(Frame),
    /// A seek is done: the frames from here on belong to another part of the film. A decoder is to be flushed.
    Seeked(SeekPoint),
    /// There are no more frames. A seek goes on.
    End,
    /// Nothing has come in time.
    Waiting,
}

/// Where a seek leads to.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct SeekPoint {
    /// What [`FrameControl::seek`] gave: seeks are numbered from 1.
    pub seek: u64,
    /// The time that was asked for, in seconds from the first picture.
    pub seconds: f64,
    /// Pictures shown before the key frame that comes next.
    pub pictures_before: u64,
}

/// The frames of a film. See the module's description.
pub struct FrameStream {
    events: Receiver<Event>,
    given: Receiver<Given>,
    wishes: mpsc::UnboundedSender<Wish>,
    shared: Arc<Shared>,
    assembly: Assembly,
    /// Of the frames that the assembly holds.
    epoch: u64,
    /// The last frame of the film is among those that the assembly knows.
    knows_end: bool,
    /// Frames below which the next window is asked for; none once it was.
    more_below: Option<usize>,
    failed: Option<FilmError>,
    /// A seek that is done and was not told yet.
    seeked: Option<SeekPoint>,
    stalls: Stalls,
    info: Arc<FilmInfo>,
}

/// What both ends and the task between them see.
#[derive(Debug, Default)]
struct Shared {
    /// Number of the newest seek.
    epoch: AtomicU64,
    /// Presentation time of the last frame taken, in seconds from the first picture, as bits of an f64.
    position: AtomicU64,
    /// Whoever takes frames waits for the next one.
    starves: AtomicBool,
    /// Frames that were taken before they were verified.
    frames_early: AtomicU64,
    lists: AtomicU64,
    redistributions: AtomicU64,
}

/// Steers a [`FrameStream`] from any thread. Cheap to clone.
#[derive(Clone)]
pub struct FrameControl {
    wishes: mpsc::UnboundedSender<Wish>,
    shared: Arc<Shared>,
    info: Arc<FilmInfo>,
    snapshot: SnapshotReader,
    ended: Arc<Mutex<std::sync::mpsc::Receiver<()>>>,
}

/// Opens the current version of a film at its start. Must be called within a tokio runtime, which must run until the
/// stream has ended.
///
/// # Errors
/// [`FilmError`]: no such film, no film at all, nobody who holds it, or what the master said.
pub async fn open(
    control: Control,
    name: &str,
    options: FilmOptions,
) -> Result<(FrameControl, FrameStream), FilmError> {
    let trace = start_trace(options.trace.clone()).await?;
    let window = Window::Time { start: 0.0, end: options.ahead.as_secs_f64() };
    let mut list = match control.distribution_once_held(name, window, options.stall).await {
        Err(ControlError::Precondition { reason, .. }) => {
            return Err(FilmError::NotAFilm { name: name.to_owned(), reason });
        }
        other => other?,
    };
    let info = Arc::new(FilmInfo::of(&list).map_err(|reason| FilmError::BadFilm { name: name.to_owned(), reason })?);
    let frames = list.frames.take();
    let stream = frames.as_ref().map(|frames| frames.stream).ok_or(FilmError::NoFrames { name: name.to_owned() })?;
    let fetcher = FetcherConfig {
        asset: list.asset,
        content_key: list.content_key.clone(),
        layout: list.layout.clone(),
        stream,
        extents_max: (options.window_bytes / EXTENT_BYTES as u64).clamp(EXTENTS_MIN, EXTENTS_MAX) as usize,
        order: Order::AsNeeded,
        traffic: Traffic::Normal,
        rate_max: options.rate_max,
        stall: options.stall,
        joins: false,
        trace_from: trace.as_ref().map(|trace| trace.recorder().start()),
    };
    let stalls = Stalls::new(trace.as_ref().map(|trace| trace.recorder().clone()));
    let config = EngineConfig { fetcher, checkers: 1, trace, lanes: Lanes::ONE };
    let (give, given) = unbounded();
    let (engine, notices) = Engine::start(config, Sink::Player(give)).map_err(FilmError::System)?;
    let (tell, events) = unbounded();
    let (wishes, heard) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared::default());
    let (returns, snapshot) = (engine.returns(), engine.snapshot_reader());
    let (ended, end) = std::sync::mpsc::channel();
    let mut steering = Steering::new(control, &list, Arc::clone(&info), options, engine, tell, Arc::clone(&shared));
    list.frames = frames;
    steering.begin(list)?;
    tokio::spawn(steering.run(heard, notices, ended));
    let frame_control = FrameControl {
        wishes: wishes.clone(),
        shared: Arc::clone(&shared),
        info: Arc::clone(&info),
        snapshot,
        ended: Arc::new(Mutex::new(end)),
    };
    let stream = FrameStream {
        events,
        given,
        wishes,
        shared,
        assembly: Assembly::new(returns),
        epoch: 0,
        knows_end: false,
        more_below: None,
        failed: None,
        seeked: None,
        stalls,
        info,
    };
    Ok((frame_control, stream))
}

async fn start_trace(path: Option<PathBuf>) -> Result<Option<TraceWriter>, FilmError> {
    let Some(path) = path else { return Ok(None) };
    tokio::task::spawn_blocking(move || match TraceWriter::create(&path) {
        Ok(trace) => Ok(Some(trace)),
        Err(source) => Err(FilmError::Trace { path, source }),
    })
    .await
    .map_err(|_| FilmError::Closed)?
}

/// Longest wait for a frame; a longer one is cut.
const TIMEOUT_MAX: Duration = Duration::from_hours(24);
/// How long a frame is waited for before it is asked for early: what is no longer is not seen.
const STARVED_AFTER: Duration = Duration::from_millis(20);
/// Buffers at most: 1.2 GB.
const EXTENTS_MAX: u64 = 4_096;
/// Buffers that the longest frame needs, wherever it begins, and one to fetch ahead.
const EXTENTS_MIN: u64 = FRAME_BYTES_MAX as u64 / EXTENT_BYTES as u64 + 3;

impl FrameStream {
    /// Waits at most `timeout` for what comes next.
    ///
    /// # Errors
    /// [`FilmError`], once all frames that had come before were taken; the stream has ended then.
    pub fn next(&mut self, timeout: Duration) -> Result<Next, FilmError> {
        let start = Instant::now();
        let deadline = start + timeout.min(TIMEOUT_MAX);
        let mut starved_at = start + STARVED_AFTER;
        loop {
            self.take_all();
            if let Some(point) = self.seeked.take() {
                self.stalls.on_seeked();
                return Ok(Next::Seeked(point));
            }
            if let Some(error) = self.failed.take_if(|error| matches!(error, FilmError::Misled { .. })) {
                // What has come before may be as wrong.
                self.assembly.clear();
                return Err(error);
            }
            let frame = self.assembly.next_frame();
            self.shared.starves.store(frame.is_none(), Ordering::Relaxed);
            if let Some(frame) = frame {
                self.stalls.on_frame();
                self.on_taken(&frame);
                return Ok(Next::Frame(frame));
            }
            if self.knows_end && self.assembly.is_empty() && !self.is_seeking() {
                return Ok(Next::End);
            }
            if let Some(error) = self.failed.take() {
                return Err(error);
            }
            self.stalls.on_waiting();
            if self.wait(deadline.min(starved_at)) {
                continue;
            }
            let now = Instant::now();
            if now >= starved_at {
                self.assembly.ask_early(self.info.frames_in(EARLY_SECONDS) as usize);
                starved_at = now + TIMEOUT_MAX;
            }
            if now >= deadline {
                return Ok(Next::Waiting);
            }
        }
    }

    /// Whether a seek has been asked for whose frames are still to come.
    fn is_seeking(&self) -> bool {
        self.shared.epoch.load(Ordering::Acquire) != self.epoch
    }

    fn take_all(&mut self) {
        if self.is_seeking() {
            // What is here is obsolete, and its buffers are needed for what is to come.
            self.assembly.clear();
        }
        while let Ok(event) = self.events.try_recv() {
            self.take_event(event);
        }
        while let Ok(given) = self.given.try_recv() {
            self.take_given(given);
        }
    }

    fn take_event(&mut self, event: Event) {
        match event {
            Event::Span(span) => self.take_span(span),
            Event::Failed(error) => self.failed = Some(error),
        }
    }

    fn take_span(&mut self, span: Span) {
        if span.epoch != self.shared.epoch.load(Ordering::Acquire) {
            return;
        }
        if span.epoch != self.epoch {
            self.epoch = span.epoch;
            self.assembly.clear();
            self.seeked = span.seek;
        }
        self.more_below = (!span.reaches_end).then_some(span.entries.len() / 2);
        self.knows_end = span.reaches_end;
        self.assembly.add_span(span.first, &span.entries);
        if let Some((end, parts)) = span.early {
            self.assembly.on_early_asked(end, parts);
        }
        self.ask_for_more();
    }

    fn take_given(&mut self, given: Given) {
        // The span that an extent belongs to was sent before the extent was asked for, so it is here already.
        while let Ok(event) = self.events.try_recv() {
            self.take_event(event);
        }
        match given {
            Given::Extent(extent) => self.assembly.add_extent(extent),
            Given::Early(piece) => self.assembly.add_early(piece),
        }
    }

    fn on_taken(&mut self, frame: &Frame) {
        if !frame.verified {
            self.shared.frames_early.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(shown) = frame.entry.shown_at() {
            self.shared.position.store(self.info.seconds(shown).to_bits(), Ordering::Relaxed);
        }
        self.ask_for_more();
    }

    /// Asks for the next window once half of the last one was taken.
    fn ask_for_more(&mut self) {
        if self.more_below.is_some_and(|least| self.assembly.frames() <= least) {
            self.more_below = None;
            // The task has ended if nobody hears, and says why.
            let _ = self.wishes.send(Wish::More { epoch: self.epoch });
        }
    }

    /// Waits until something has come; no if it is too late.
    fn wait(&mut self, deadline: Instant) -> bool {
        select! {
            recv(self.events) -> event => match event {
                Ok(event) => self.take_event(event),
                Err(_) => self.failed = Some(FilmError::Closed),
            },
            recv(self.given) -> given => match given {
                Ok(given) => self.take_given(given),
                // The engine has stopped, and the task that steers it is about to say why.
                Err(_) => match self.events.recv_deadline(deadline) {
                    Ok(event) => self.take_event(event),
                    Err(error) if error.is_timeout() => return false,
                    Err(_) => self.failed = Some(FilmError::Closed),
                },
            },
            default(deadline.saturating_duration_since(Instant::now())) => return false,
        }
        true
    }
}

impl FrameControl {
    /// What is known of the film.
    pub fn info(&self) -> &Arc<FilmInfo> {
        &self.info
    }

    /// Goes to another time, in seconds from the first picture: [`FrameStream::next`] gives a [`Next::Seeked`] and then
    /// the frames from the key frame on that the picture shown at that time needs. What is under way is dropped. Gives
    /// the number of the seek; of several in a row only the last is carried out.
    ///
    /// # Errors
    /// [`FilmError::Seek`] for a time that the film does not have; nothing has changed then.
    pub fn seek(&self, seconds: f64) -> Result<u64, FilmError> {
        // A film of one picture may have no length, and has a beginning all the same.
        if seconds != 0.0 && !(0.0..self.info.duration).contains(&seconds) {
            return Err(FilmError::Seek { seconds, duration: self.info.duration });
        }
        let epoch = self.shared.epoch.fetch_add(1, Ordering::AcqRel) + 1;
        // Once the stream has ended, it has said why.
        let _ = self.wishes.send(Wish::Seek { epoch, seconds });
        Ok(epoch)
    }

    /// How things stand.
    pub fn stats(&self) -> FilmStats {
        FilmStats::of(&self.snapshot.read(), &self.shared)
    }

    /// Ends the stream and all its threads, and waits for that. Not to be called from a task of the runtime: it blocks,
    /// and what it waits for may be that very thread's to do.
    pub fn close(&self) {
        self.close_soon();
        let ended = self.ended.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        // The other end is dropped when all has ended; nothing is ever sent.
        let _ = ended.recv();
    }

    /// Ends the stream and all its threads, and does not wait.
    pub fn close_soon(&self) {
        // A task that has ended needs not be told.
        let _ = self.wishes.send(Wish::Close);
    }
}
