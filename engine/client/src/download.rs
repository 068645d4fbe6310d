//! A whole file, byte for byte what was published, from all servers that hold it.

mod error;
mod output;
mod progress;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidcast_media::hashes::{self, Hash};
use braidcast_media::layout::HASH_BYTES;
use braidcast_media::{ExtentNo, PackLayout, StreamId, StreamLayout};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::MissedTickBehavior;

use crate::control::{Control, Window};
use crate::engine::{Command, Engine, EngineConfig, EngineError, Lanes, Told};
use crate::error::ControlError;
use crate::fetcher::{FetcherConfig, JobList, Notice, Order, Traffic};
use crate::reports::{Answered, Reports, Request};
use crate::trace::writer::TraceWriter;
pub use error::DownloadError;
use output::Output;
pub use progress::{Progress, Report, SourceProgress, SourceReport};

/// Where a download goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A file. While it is fetched it is named with [`PARTIAL_SUFFIX`] at the end, and what such a file already holds
    /// is kept if its hashes are right. What exists and is no regular file (`/dev/null`, a pipe) is written as it is.
    Path(PathBuf),
    /// Standard output, in order.
    Stdout,
}

/// What of a download is checked.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Verify {
    /// Every packet, and the BLAKE3 of every extent under the roots that the master vouches for: what comes is what was
    /// published.
    #[default]
    Extents,
    /// Every packet alone: what comes was sealed by somebody who holds the content key, which the publisher, the master
    /// and all viewers of the video do. It takes a fifth to three tenths less of the
    /// client's processors (`make bench-peers`).
    Packets,
}

/// Suffix of a file that is not complete.
pub const PARTIAL_SUFFIX: &str = ".part";

/// Settings of a download.
#[derive(Clone, Debug)]
pub struct DownloadOptions {
    /// How it shares the path with others. Default: [`Traffic::Normal`].
    pub traffic: Traffic,
    /// Most bytes per second of packets, from all servers together. Default: no bound.
    pub rate_max: Option<f64>,
    /// Extents (307,200 bytes) in memory at a time, and as many again for all further lanes. Default 160, 47 MiB.
    pub extents_max: usize,
    /// How long nothing may come from anyone before it is given up, and how long no server need hold the video yet.
    /// Default 10 s.
    pub stall: Duration,
    /// What is checked. Default: [`Verify::Extents`].
    pub verify: Verify,
    /// Where to write what was done and when, a [`crate::trace::Record`] a line. Default: nowhere.
    pub trace: Option<PathBuf>,
    /// Lanes: threads that receive and open packets, each with sessions of its own. Default 0: one, and more, up to one a
    /// core, while it cannot keep up. There is always one with a trace, a bound on the rate, or
    /// [`Traffic::Background`].
    pub lanes: usize,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        let stall = Duration::from_secs(10);
        let verify = Verify::Extents;
        Self { traffic: Traffic::Normal, rate_max: None, extents_max: 160, stall, verify, trace: None, lanes: 0 }
    }
}

/// Extents that one list of servers is asked for: 157 MB.
const LIST_EXTENTS: u32 = 512;
/// How often progress is told.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Hash list that is held in memory: enough for 2.5 TB of film.
const HASH_LIST_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Most lanes of a download: one takes in 20 Gbit/s.
pub const LANES_MAX: usize = 8;
/// How long a master that does not answer is asked again while servers go on.
const MASTER_RETRY: Duration = Duration::from_millis(500);
/// How long the master is waited for to say why nobody serves a video any more.
const MASTER_WAIT: Duration = Duration::from_secs(2);

/// Fetches the current version of a video.
///
/// Dropped before it is done it stops, and what was fetched stays in the partial file for the next attempt.
///
/// # Errors
/// [`DownloadError`] names the culprit and what to do; the partial file is kept.
pub async fn download(
    control: Control,
    name: &str,
    target: Target,
    options: DownloadOptions,
    mut on_progress: impl FnMut(&Progress),
) -> Result<Report, DownloadError> {
    let started = Instant::now();
    let trace = start_trace(options.trace).await?;
    let window = Window::Extents { first: ExtentNo(0), last: Some(ExtentNo(LIST_EXTENTS - 1)) };
    let first_list = control.distribution_once_held(name, window, options.stall).await?;
    let original = *first_list.layout.stream(StreamId::ORIGINAL).ok_or(DownloadError::NoFile)?;
    let mut output = tokio::task::spawn_blocking(move || Output::open(&target, original.bytes))
        .await
        .map_err(|_| DownloadError::Interrupted)??;
    let resumable = output.is_resumable();
    let fetcher = FetcherConfig {
        asset: first_list.asset,
        content_key: first_list.content_key.clone(),
        layout: first_list.layout.clone(),
        stream: StreamId::ORIGINAL,
        extents_max: options.extents_max,
        order: Order::AsPlanned,
        traffic: options.traffic,
        rate_max: options.rate_max,
        stall: options.stall,
        joins: false,
        trace_from: trace.as_ref().map(|trace| trace.recorder().start()),
    };
    let is_alone = trace.is_some() || options.rate_max.is_some() || options.traffic != Traffic::Normal;
    let lanes = if is_alone { Lanes::ONE } else { lanes(options.lanes) };
    let config = EngineConfig { fetcher, checkers: if resumable { checker_threads() } else { 1 }, trace, lanes };
    let sink = output.sink().map_err(|error| output.error(error))?;
    let (engine, notices) = Engine::start(config, sink).map_err(DownloadError::System)?;
    let mut run = Run {
        reports: Reports::new(control, first_list.asset),
        name: first_list.name.clone(),
        verify: options.verify,
        bytes: original.bytes,
        resumed_bytes: 0,
        list_bytes: 0,
        layout: first_list.layout.clone(),
        engine,
        notices,
        wanted_from: 0,
        master_error: None,
    };
    let roots = first_list.plain_roots.clone();
    run.engine.send(Command::List(first_list.into()));
    let fetched = run.fetch_all(&mut output, original, roots, &mut on_progress).await;
    run.engine.stop();
    on_progress(&run.progress());
    fetched.map_err(|error| error.at(&output))?;
    if !run.is_complete() {
        return Err(DownloadError::Interrupted);
    }
    let path = tokio::task::spawn_blocking(move || output.finish()).await.map_err(|_| DownloadError::Interrupted)??;
    Ok(run.report(started, path))
}

async fn start_trace(path: Option<PathBuf>) -> Result<Option<TraceWriter>, DownloadError> {
    let Some(path) = path else { return Ok(None) };
    tokio::task::spawn_blocking(move || match TraceWriter::create(&path) {
        Ok(trace) => Ok(Some(trace)),
        Err(source) => Err(DownloadError::Trace { path, source }),
    })
    .await
    .map_err(|_| DownloadError::Interrupted)?
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn checker_threads() -> usize {
    cores().min(2)
}

/// `wanted`: so many, or 0.
fn lanes(wanted: usize) -> Lanes {
    match wanted {
        0 => Lanes { first: 1, most: cores().min(LANES_MAX) },
        wanted => Lanes { first: wanted.min(LANES_MAX), most: wanted.min(LANES_MAX) },
    }
}

/// The hash list as it comes.
struct HashList {
    plain: Vec<u8>,
    /// Bytes that are still to come.
    missing: usize,
}

impl HashList {
    /// Takes an extent of it; says whether it is whole.
    fn take(&mut self, notice: &Notice) -> bool {
        if let Notice::Extent { extent, bytes } = notice {
            let at = extent.0 as usize * braidcast_media::layout::EXTENT_BYTES;
            if let Some(room) = self.plain.get_mut(at..at + bytes.len()) {
                room.copy_from_slice(bytes);
                self.missing = self.missing.saturating_sub(bytes.len());
            }
        }
        self.missing == 0
    }
}

fn is_fetched(notice: &Notice) -> bool {
    matches!(notice, Notice::Fetched)
}

/// One download under way.
struct Run {
    reports: Reports,
    name: String,
    verify: Verify,
    bytes: u64,
    resumed_bytes: u64,
    /// Of the list of hashes, if it is fetched.
    list_bytes: u64,
    layout: PackLayout,
    engine: Engine,
    notices: UnboundedReceiver<Told>,
    /// The first extent that lists are still needed for.
    wanted_from: u32,
    /// Why the last list was not given.
    master_error: Option<ControlError>,
}

impl Run {
    /// The hash list and what the file lacks. Where it lacks everything, both at once: on a long path the list alone would
    /// cost round trips in which nothing else comes.
    async fn fetch_all(
        &mut self,
        output: &mut Output,
        original: StreamLayout,
        roots: Vec<Hash>,
        on_progress: &mut impl FnMut(&Progress),
    ) -> Result<(), DownloadError> {
        let list = *self.layout.stream(StreamId::PLAIN_HASHES).ok_or(DownloadError::NoHashes)?;
        let starts_afresh = list.bytes > 0 && output.is_empty().map_err(|error| output.error(error))?;
        if starts_afresh && self.verify == Verify::Packets {
            self.engine.send(Command::Fetch(vec![JobList::unchecked(original, Arc::new([]))]));
            return self.run_until(on_progress, is_fetched).await;
        }
        if list.bytes > HASH_LIST_BYTES_MAX {
            return Err(DownloadError::TooLong { bytes: original.bytes });
        }
        self.list_bytes = list.bytes;
        let mut plain = HashList { plain: vec![0; list.bytes as usize], missing: list.bytes as usize };
        if list.bytes > 0 {
            let mut jobs = vec![JobList::new(list, roots.into(), Arc::new([]))];
            // In one command: a list that is there before the file is asked for would be the end of all.
            jobs.extend(starts_afresh.then(|| JobList::awaiting_hashes(original)));
            self.engine.send(Command::Fetch(jobs));
            self.run_until(on_progress, |notice| plain.take(notice)).await?;
        }
        let all = hashes::parse_list(&plain.plain).ok_or(DownloadError::NoHashes)?;
        let first = hashes::index_in_list(&self.layout, StreamId::ORIGINAL, ExtentNo(0)).unwrap_or(0) as usize;
        let hashes: Arc<[Hash]> =
            all.get(first..first + original.extents() as usize).ok_or(DownloadError::NoHashes)?.into();
        if starts_afresh {
            self.engine.send(Command::Hashes(StreamId::ORIGINAL, hashes));
        } else {
            if list.bytes > 0 {
                self.run_until(on_progress, is_fetched).await?;
            }
            let have = output.verified_extents(original, Arc::clone(&hashes)).await?;
            let resumed = have.iter().enumerate().filter(|(_, have)| **have);
            self.resumed_bytes = resumed.map(|(extent, _)| original.extent_bytes(ExtentNo(extent as u32)) as u64).sum();
            let missing = match self.verify {
                Verify::Extents => JobList::new(original, hashes, have.into()),
                Verify::Packets => JobList::unchecked(original, have.into()),
            };
            self.engine.send(Command::Fetch(vec![missing]));
        }
        self.run_until(on_progress, is_fetched).await
    }

    /// Answers what the engine asks for, until `is_done` says so of something that it tells.
    async fn run_until(
        &mut self,
        on_progress: &mut impl FnMut(&Progress),
        mut is_done: impl FnMut(&Notice) -> bool,
    ) -> Result<(), DownloadError> {
        let mut tick = tokio::time::interval(PROGRESS_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let overloaded = self.engine.overloaded();
        loop {
            tokio::select! {
                notice = self.notices.recv() => {
                    let notice = match notice {
                        Some(Ok(notice)) => notice,
                        Some(Err(EngineError::NoList)) => return Err(self.no_list()),
                        Some(Err(error @ EngineError::NoSources(_))) => {
                            let gone = self.reports.gone(MASTER_WAIT).await;
                            return Err(gone.map_or_else(|| error.into(), DownloadError::Control));
                        }
                        Some(Err(error)) => return Err(error.into()),
                        None => return Err(DownloadError::Interrupted),
                    };
                    if is_done(&notice) {
                        return Ok(());
                    }
                    if is_fetched(&notice) {
                        // Nothing more comes.
                        return Err(DownloadError::Interrupted);
                    }
                    self.take_notice(notice);
                }
                answered = self.reports.answered() => self.take_answer(answered)?,
                () = overloaded.notified() => {
                    if let Err(error) = self.engine.add_lane() {
                        tracing::info!(%error, "no further thread can be had to receive with");
                    }
                }
                _ = tick.tick() => on_progress(&self.progress()),
            }
        }
    }

    fn take_notice(&mut self, notice: Notice) {
        match notice {
            Notice::Fetched | Notice::Extent { .. } => {}
            Notice::Withdrew { extents } => self.engine.hand_on(&extents),
            Notice::WantList { first } => {
                self.wanted_from = first.0;
                self.reports.want_list(self.window());
            }
            Notice::WantTickets => self.reports.want_tickets(self.window()),
            Notice::SourceFailed(failure) => self.reports.failed(failure, self.window()),
        }
    }

    fn take_answer(&mut self, answered: Answered) -> Result<(), DownloadError> {
        let error = match answered.outcome {
            Ok(list) => {
                self.engine.send(Command::List(list.into()));
                return Ok(());
            }
            Err(error) => error,
        };
        // The version is gone or the account is: nobody will serve this download any more.
        if matches!(error, ControlError::NotFound { .. } | ControlError::NotPermitted { .. }) {
            return Err(error.into());
        }
        // Servers may well go on without the master; the engine's stall limit ends what does not.
        tracing::info!(%error, "the master gives no list");
        if matches!(answered.request, Request::List(_)) {
            self.reports.retry_after(MASTER_RETRY, answered.request);
            self.master_error = Some(error);
        }
        Ok(())
    }

    /// Why there is no list of servers: what the master said last, if it said anything.
    fn no_list(&mut self) -> DownloadError {
        self.master_error.take().map_or(DownloadError::NoSources { sources: Vec::new() }, DownloadError::Control)
    }

    fn window(&self) -> Window {
        let last = self.wanted_from.saturating_add(LIST_EXTENTS - 1);
        Window::Extents { first: ExtentNo(self.wanted_from), last: Some(ExtentNo(last)) }
    }

    fn progress(&self) -> Progress {
        Progress::new(&self.engine.snapshot(), self.bytes, self.resumed_bytes)
    }

    /// Whether every byte is there. All of them passed the checker, or the resume's, before they were counted.
    fn is_complete(&self) -> bool {
        self.engine.snapshot().written_bytes + self.resumed_bytes == self.bytes
    }

    fn report(&self, started: Instant, path: Option<PathBuf>) -> Report {
        let snapshot = self.engine.snapshot();
        let useful = self.bytes - self.resumed_bytes + self.list_bytes;
        debug_assert_eq!(self.list_bytes % HASH_BYTES as u64, 0);
        Report {
            name: self.name.clone(),
            path,
            bytes: self.bytes,
            resumed_bytes: self.resumed_bytes,
            elapsed: started.elapsed(),
            verified: self.is_complete() && self.verify == Verify::Extents,
            redundant_bytes: (snapshot.accepted_bytes + snapshot.unwanted_bytes).saturating_sub(useful),
            redistributions: self.reports.redistributions(),
            sources: snapshot.sources.iter().map(SourceReport::from).collect(),
        }
    }
}
