//! The task between a player and the master: it asks for windows ahead of need, tells the engine what to fetch, and
//! reports servers that fail.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc as std_mpsc};
use std::time::{Duration, Instant};

use braidcast_media::frames::FrameEntry;
use braidcast_media::{PackLayout, StreamId};
use crossbeam::channel::Sender;
use tokio::sync::mpsc;

use super::early::{self, EARLY_SECONDS};
use super::{FilmError, FilmInfo, FilmOptions, SeekPoint, Shared};
use crate::control::{Control, Distribution, FrameSpan, Window, extent_of, last_byte};
use crate::engine::{Command, Engine, Told};
use crate::error::ControlError;
use crate::fetcher::{JobList, Notice, Snapshot};
use crate::reports::{Answered, Reports, Request};

/// How long a master that does not answer is left alone before it is asked again.
const MASTER_RETRY: Duration = Duration::from_millis(500);
/// What a report on the way is granted when a film ends with an error.
const REPORT_TIME: Duration = Duration::from_secs(1);
/// Of a film's length: where the last window by time may begin at the latest, so that rounding keeps it in the film.
const LAST_START: f64 = 1.0 - 1e-9;

/// What a player wants.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Wish {
    /// The window after the last one.
    More { epoch: u64 },
    /// Another part of the film.
    Seek { epoch: u64, seconds: f64 },
    /// The end.
    Close,
}

/// What a player is told.
pub(super) enum Event {
    Span(Span),
    Failed(FilmError),
}

/// Frames that are being fetched.
pub(super) struct Span {
    /// Of which seek they are.
    pub(super) epoch: u64,
    /// Number of the first.
    pub(super) first: u64,
    pub(super) entries: Vec<FrameEntry>,
    /// The film ends with the last.
    pub(super) reaches_end: bool,
    /// Where nothing is there to be shown: one past the last frame that the engine was asked for early, and in how many
    /// parts.
    pub(super) early: Option<(u64, usize)>,
    /// With the first frames of a seek.
    pub(super) seek: Option<SeekPoint>,
}

/// How a film stands.
#[derive(Clone, Debug)]
pub struct FilmStats {
    /// Payload bytes taken from servers.
    pub bytes: u64,
    /// Payload bytes that were not needed.
    pub redundant_bytes: u64,
    /// Windows that the master was asked for.
    pub lists: u64,
    /// New lists that the master gave because of a report.
    pub redistributions: u64,
    /// Frames that were given before the hashes of their extents were checked.
    pub frames_early: u64,
    /// The servers, in the order in which they were first named.
    pub sources: Vec<SourceStats>,
}

/// One server's part in a film.
#[derive(Clone, Debug)]
pub struct SourceStats {
    /// Where it serves.
    pub address: std::net::SocketAddr,
    /// Payload bytes taken from it.
    pub bytes: u64,
    /// Chunks asked for that did not come.
    pub lost: u64,
    /// Packets that did not open.
    pub rejected: u64,
    /// It failed at some time.
    pub failed: bool,
    /// "greeting", "up", "down" or "banned".
    pub state: &'static str,
}

impl FilmStats {
    pub(super) fn of(snapshot: &Snapshot, shared: &Shared) -> Self {
        let sources = snapshot.sources.iter().map(|source| SourceStats {
            address: source.address,
            bytes: source.bytes,
            lost: source.lost,
            rejected: source.rejected,
            failed: source.ever_failed,
            state: source.state,
        });
        Self {
            bytes: snapshot.accepted_bytes,
            redundant_bytes: snapshot.unwanted_bytes,
            lists: shared.lists.load(Ordering::Relaxed),
            redistributions: shared.redistributions.load(Ordering::Relaxed),
            frames_early: shared.frames_early.load(Ordering::Relaxed),
            sources: sources.collect(),
        }
    }
}

/// See the module's description.
pub(super) struct Steering {
    reports: Reports,
    engine: Engine,
    events: Sender<Event>,
    shared: Arc<Shared>,
    info: Arc<FilmInfo>,
    layout: PackLayout,
    options: FilmOptions,
    epoch: u64,
    /// The window that the master is being asked for.
    asked: Option<Window>,
    /// The seek that `asked` belongs to, if it does.
    seek: Option<f64>,
    /// Number of the first frame that was not asked for.
    next: u64,
    /// Extents below this one were asked of the servers since the last seek.
    fetched: u32,
    /// Where the last frame of the window before begins: a player only goes forward.
    last_offset: u64,
    /// Since when the master has not answered while the player had nothing left.
    failing_since: Option<Instant>,
}

impl Steering {
    pub(super) fn new(
        control: Control,
        list: &Distribution,
        info: Arc<FilmInfo>,
        options: FilmOptions,
        engine: Engine,
        events: Sender<Event>,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            reports: Reports::new(control, list.asset),
            engine,
            events,
            shared,
            info,
            layout: list.layout.clone(),
            options,
            epoch: 0,
            asked: None,
            seek: None,
            next: 0,
            fetched: 0,
            last_offset: 0,
            failing_since: None,
        }
    }

    /// Takes the first window.
    pub(super) fn begin(&mut self, list: Distribution) -> Result<(), FilmError> {
        self.take_window(list)
    }

    /// Runs until the player wants no more. `ended` is dropped when all threads have ended.
    pub(super) async fn run(
        mut self,
        mut wishes: mpsc::UnboundedReceiver<Wish>,
        mut notices: mpsc::UnboundedReceiver<Told>,
        ended: std_mpsc::Sender<()>,
    ) {
        let outcome = loop {
            let step = tokio::select! {
                wish = wishes.recv() => match wish {
                    None | Some(Wish::Close) => break Ok(()),
                    Some(wish) => { self.take_wish(wish); Ok(()) }
                },
                notice = notices.recv() => self.take_notice(notice),
                answered = self.reports.answered() => self.take_answer(answered),
            };
            if step.is_err() {
                break step;
            }
        };
        if let Err(mut error) = outcome {
            if let FilmError::NoSources { .. } = error
                && let Some(gone) = self.reports.gone(REPORT_TIME).await
            {
                error = gone.into();
            }
            // A player that has gone does not care.
            let _ = self.events.send(Event::Failed(error));
            // Why it ends may be what the master has just been told of.
            self.reports.finish(REPORT_TIME).await;
        }
        // Joins the engine's threads.
        let joined = tokio::task::spawn_blocking(move || {
            drop(self);
            drop(ended);
        });
        // It fails only if the runtime ends, and the threads with it.
        let _ = joined.await;
    }

    fn take_wish(&mut self, wish: Wish) {
        match wish {
            Wish::More { epoch } if epoch == self.epoch && self.asked.is_none() => {
                let frames = self.info.frames_in(self.options.ahead.as_secs_f64());
                self.ask(Window::Frames { first: self.next, last: self.next + frames - 1 });
            }
            // Of two threads that seek at once the one with the lower number may come last.
            Wish::Seek { epoch, seconds } if epoch > self.epoch => {
                self.epoch = epoch;
                self.seek = Some(seconds);
                self.fetched = 0;
                self.last_offset = 0;
                self.engine.send(Command::Abandon);
                self.ask(self.time_window(seconds));
            }
            Wish::More { .. } | Wish::Seek { .. } | Wish::Close => {}
        }
    }

    fn time_window(&self, seconds: f64) -> Window {
        let start = seconds.clamp(0.0, (self.info.duration * LAST_START).max(0.0));
        let early = (start - self.info.seconds_early()).max(0.0);
        Window::Time { start: early, end: start + self.options.ahead.as_secs_f64() }
    }

    fn ask(&mut self, window: Window) {
        self.asked = Some(window);
        self.reports.want_list(window);
    }

    /// What is still wanted, for reports: from the time of the last good piece.
    fn wanted(&self) -> Window {
        self.time_window(f64::from_bits(self.shared.position.load(Ordering::Relaxed)))
    }

    fn take_notice(&mut self, notice: Option<Told>) -> Result<(), FilmError> {
        match notice {
            // Lists are asked for window by window, and what was fetched is told by the extents themselves.
            Some(Ok(Notice::Fetched | Notice::Withdrew { .. } | Notice::WantList { .. } | Notice::Extent { .. })) => {}
            Some(Ok(Notice::WantTickets)) => self.reports.want_tickets(self.wanted()),
            Some(Ok(Notice::SourceFailed(failure))) => self.reports.failed(failure, self.wanted()),
            Some(Err(error)) => return Err(error.into()),
            None => return Err(FilmError::Closed),
        }
        Ok(())
    }

    fn take_answer(&mut self, answered: Answered) -> Result<(), FilmError> {
        self.shared.redistributions.store(self.reports.redistributions().into(), Ordering::Relaxed);
        let is_asked = matches!(answered.request, Request::List(window) if self.asked == Some(window));
        match answered.outcome {
            Ok(list) if is_asked => {
                self.failing_since = None;
                self.asked = None;
                self.take_window(list)
            }
            Ok(mut list) => {
                // Tickets, and servers that take over; what they are to give is known.
                list.ranges.clear();
                self.engine.send(Command::List(list.into()));
                Ok(())
            }
            Err(error) if is_asked => self.on_no_window(error, answered.request),
            Err(error) => {
                tracing::info!(%error, "the master gives no list");
                Ok(())
            }
        }
    }

    /// A master that is away may come back while there is something left to play; what it refuses it refuses again.
    fn on_no_window(&mut self, error: ControlError, request: Request) -> Result<(), FilmError> {
        let passing = matches!(
            error,
            ControlError::Unreachable { .. } | ControlError::Timeout { .. } | ControlError::NoSource { .. }
        );
        if !self.shared.starves.load(Ordering::Relaxed) {
            self.failing_since = None;
        }
        let since = *self.failing_since.get_or_insert_with(Instant::now);
        if !passing || since.elapsed() >= self.options.stall {
            return Err(self.no_window(error));
        }
        self.reports.retry_after(MASTER_RETRY, request);
        Ok(())
    }

    /// Where nobody holds the film any more, those who did are named.
    fn no_window(&self, error: ControlError) -> FilmError {
        let ControlError::NoSource { reason, .. } = error else { return error.into() };
        let snapshot = self.engine.snapshot();
        let sources = snapshot.sources.iter().map(|source| (source.address.to_string(), reason.clone()));
        FilmError::NoSources { sources: sources.collect() }
    }

    /// Tells the player what comes, and then the engine.
    fn take_window(&mut self, mut list: Distribution) -> Result<(), FilmError> {
        self.shared.lists.fetch_add(1, Ordering::Relaxed);
        let name = || self.info.name.clone();
        let span = list.frames.take().ok_or_else(|| FilmError::NoFrames { name: name() })?;
        let seek = self.seek.take().map(|seconds| SeekPoint {
            seek: self.epoch,
            seconds,
            pictures_before: span.pictures_before.unwrap_or(0),
        });
        self.next = span.end();
        let is_start = self.fetched == 0;
        let jobs = self.jobs(&span)?;
        // The picture that a seek leads to may be any of a group, and is shown only when those before it are decoded.
        let seconds = if seek.is_some() { self.options.ahead.as_secs_f64() } else { EARLY_SECONDS };
        let frames = self.info.frames_in(seconds) as usize;
        let (frames, parts) = if is_start { early::ask(span.entries.iter().take(frames)) } else { (0, Vec::new()) };
        let span = Span {
            epoch: self.epoch,
            first: span.first,
            early: is_start.then_some((span.first + frames as u64, parts.len())),
            entries: span.entries,
            reaches_end: list.end_of_file,
            seek,
        };
        // A player that has gone closes in a moment.
        let _ = self.events.send(Event::Span(span));
        self.engine.send(Command::List(list.into()));
        if is_start {
            self.engine.send(Command::WantEarly(parts));
        }
        self.engine.send(Command::Fetch(vec![jobs]));
        Ok(())
    }

    /// The extents that the frames of a window stand in, less those that are being fetched for the window before.
    fn jobs(&mut self, span: &FrameSpan) -> Result<JobList, FilmError> {
        let bad = |reason: &str| FilmError::BadFilm { name: self.info.name.clone(), reason: reason.to_owned() };
        let stream = *self.layout.stream(span.stream).ok_or_else(|| bad("its frames stand nowhere"))?;
        if span.stream != self.stream() {
            return Err(bad("its frames stand now in one stream and now in another"));
        }
        let offset = |entry: Option<&FrameEntry>| entry.map_or(0, |entry| entry.offset);
        if offset(span.entries.first()) < self.last_offset {
            return Err(bad("its index goes back"));
        }
        self.last_offset = offset(span.entries.last());
        let first = span.first_extent.0;
        let mut have = vec![true; span.extent_hashes.len()];
        for entry in &span.entries {
            for extent in extent_of(entry.offset).0..=extent_of(last_byte(entry)).0 {
                have[(extent - first) as usize] = extent < self.fetched;
            }
        }
        self.fetched = self.fetched.max(first + have.len() as u32);
        Ok(JobList::part(stream, span.first_extent, span.extent_hashes.clone().into(), have.into()))
    }

    fn stream(&self) -> StreamId {
        self.engine.stream()
    }
}
