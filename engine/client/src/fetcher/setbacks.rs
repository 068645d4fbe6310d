//! What goes wrong, and what is done about it: lost and damaged chunks, sources that fail or lie, and the end of hope.

use std::time::{Duration, Instant};

use braidcast_media::{ExtentNo, Run, StreamId};
use braidcast_transport::limits::RUNS_PER_PULL_MAX;
use braidcast_transport::puller::{Event, Failure, Loss};

use super::source::{Source, State};
use super::{FailureKind, FetchError, Fetcher, Notice, SourceFailure};
use crate::planner::{Holders, Piece, SourceNo, SourceSet};
use crate::window::{ExtentKey, Job, Suspect};

/// How often a source may send a chunk that does not open before it is not asked for that extent any more. Random
/// corruption of 5% of all packets does so to one chunk in three million.
const DAMAGE_MAX: u32 = 5;
/// How often an extent that no source can give is asked for anew, after a pause in which a server may mend its copy.
const AMNESTIES_MAX: u32 = 3;
/// That pause.
const AMNESTY_PAUSE: Duration = Duration::from_secs(1);

/// Extents that no source can give at the moment.
#[derive(Default)]
pub(super) struct Impossible {
    since: Option<Instant>,
    amnesties: std::collections::HashMap<ExtentKey, u32>,
}

impl Fetcher {
    pub(super) fn take_events(&mut self, now: Instant, index: usize) {
        while let Some(event) = self.sources[index].puller.poll_event() {
            let source = &mut self.sources[index];
            let number = source.number;
            match event {
                Event::Opened => match source.puller.pull_limits() {
                    (1.., RUNS_PER_PULL_MAX) => {
                        source.on_opened();
                        if let Some(tracer) = &mut self.tracer {
                            tracer.on_opened(now, number);
                        }
                        self.planner.set_usable(number, true);
                    }
                    (chunks, runs) => {
                        let reason = format!("takes only {chunks} chunks in {runs} pieces at a time");
                        self.fail_source(now, number, FailureKind::Silent, reason);
                    }
                },
                Event::Lost { stream, runs, why } => self.on_lost(now, number, stream, &runs, why),
                Event::TicketExpired if source.has_spare_ticket() => source.greet(now),
                Event::TicketExpired => self.want_tickets(now),
                Event::Failed(failure) => {
                    let (kind, reason) = in_words(&failure);
                    self.fail_source(now, number, kind, reason);
                }
            }
        }
    }

    fn on_lost(&mut self, now: Instant, from: SourceNo, stream: StreamId, runs: &[Run], why: Loss) {
        if let Some(tracer) = &mut self.tracer {
            tracer.on_lost(from, runs.iter().map(|run| u64::from(run.count)).sum(), why);
        }
        for &run in runs {
            match why {
                Loss::NotHeld => self.bar(stream, run, from),
                Loss::Data => self.on_lost_data(now, from, stream, run),
                Loss::Pull | Loss::Timeout | Loss::Refused => {}
            }
            for piece in self.window.still_missing(stream, run) {
                self.plan_unasked(piece);
            }
        }
        if why == Loss::NotHeld {
            self.trace_failed(now, from, FailureKind::NotHeld, "does not hold what the master says it holds");
            self.report(now, from, FailureKind::NotHeld);
        }
    }

    /// END says that these were sent. If packets came that did not open in their place, the copy there may be rotten.
    fn on_lost_data(&mut self, now: Instant, from: SourceNo, stream: StreamId, run: Run) {
        let Some((chunk, times)) = self.window.confirm_damage(stream, run, from) else { return };
        if times < DAMAGE_MAX {
            return;
        }
        let (kind, reason) =
            (FailureKind::Damaged { stream, chunk }, format!("chunk {chunk} of stream {stream} is damaged there"));
        self.trace_failed(now, from, kind, &reason);
        self.sources[usize::from(from.0)].reason = Some(reason);
        self.bar(stream, Run { first: chunk, count: 1 }, from);
        self.report(now, from, kind);
    }

    /// Never asks `source` for the extents of `run` again.
    fn bar(&mut self, stream: StreamId, run: Run, source: SourceNo) {
        for key in extents_of(stream, run) {
            if self.window.bar(key, source) {
                self.replan(key);
            }
        }
    }

    /// A source failed: others take over at once, and it is tried again after a pause.
    pub(super) fn fail_source(&mut self, now: Instant, number: SourceNo, kind: FailureKind, reason: String) {
        let source = &mut self.sources[usize::from(number.0)];
        if matches!(source.state, State::Banned | State::Down { .. }) {
            return;
        }
        tracing::info!(server = %source.address, reason, "source failed");
        if let Some(tracer) = &mut self.tracer {
            tracer.on_failed(now, number, kind, &reason);
        }
        source.on_failed(now, reason);
        if source.is_first_failure() {
            self.report(now, number, kind);
        }
        self.after_failure(now, number);
    }

    /// Moves what the source had to others.
    pub(super) fn after_failure(&mut self, now: Instant, number: SourceNo) {
        self.planner.set_usable(number, false);
        self.take_events(now, usize::from(number.0));
        // Those who had their turn may now have more to do.
        self.turn = None;
        for key in self.window.pinned_to(number) {
            self.replan(key);
        }
    }

    /// Plans all that is missing of an extent anew, for any source that is not barred from it.
    fn replan(&mut self, key: ExtentKey) {
        self.planner.cancel(key.stream, key.extent);
        self.early.on_replanned(key);
        for piece in self.window.unpin(key) {
            self.plan_unasked(piece);
        }
    }

    /// An extent opened chunk by chunk and its hash is wrong: somebody who holds the content key made it up.
    pub(super) fn on_forged(&mut self, now: Instant, job: Job, copy: Box<Suspect>) {
        // From now on this film waits for hashes: who lied once may have helpers.
        self.early.stop();
        let mut givers: Vec<SourceNo> = copy.origins[..job.chunks as usize].to_vec();
        givers.sort_unstable();
        givers.dedup();
        if let [only] = givers[..] {
            self.ban_all(now, &[only]);
        }
        if self.has_withdrawn {
            self.notices.push_back(Notice::Withdrew { extents: vec![job.key] });
            self.window.recycle(copy.buffer);
        } else if job.generation == self.generation {
            self.again.push((job, copy));
        } else {
            // A seek came between: nobody wants it any more, and it will not be known what of it was right.
            if !copy.shown.is_empty() {
                self.on_misled(copy.shown.iter().flat_map(|shown| shown.givers.iter().copied()).collect());
            }
            self.window.recycle(copy.buffer);
        }
    }

    pub(super) fn ban_all(&mut self, now: Instant, liars: &[SourceNo]) {
        for &liar in liars {
            let source = &mut self.sources[usize::from(liar.0)];
            if source.state == State::Banned {
                continue;
            }
            tracing::warn!(server = %source.address, "forged chunks: banned");
            let reason = "sent forged chunks, found out by the extent's hash";
            source.ban(now, reason.into());
            self.trace_failed(now, liar, FailureKind::Forged, reason);
            self.planner.ban(liar);
            self.window.ban(liar);
            self.report(now, liar, FailureKind::Forged);
            self.after_failure(now, liar);
        }
    }

    /// Fetches an extent from one source alone, so that it is known who gave all of it.
    pub(super) fn start_pinned(&mut self, job: Job, suspect: Box<Suspect>) {
        let up = self.sources.iter().filter(|source| source.state == State::Up);
        let pin = up
            .max_by(|a, b| a.bytes_per_s.unwrap_or(0.0).total_cmp(&b.bytes_per_s.unwrap_or(0.0)))
            .map(|source| source.number);
        let piece = self.window.start(job, Holders::default(), self.banned(), pin, Some(suspect));
        self.plan_unasked(piece);
    }

    pub(super) fn banned(&self) -> SourceSet {
        let mut set = SourceSet::default();
        for source in self.sources.iter().filter(|source| source.state == State::Banned) {
            set.insert(source.number);
        }
        set
    }

    /// Whether there is still hope.
    pub(super) fn check_hope(&mut self, now: Instant) -> Result<(), FetchError> {
        let wants_chunks = !self.window.is_empty() || !self.again.is_empty();
        let output_is_slow = !wants_chunks && self.out() > 0;
        if !self.fetching || output_is_slow || self.has_no_part_yet() {
            // It is not those who send that are slow.
            self.progress_at = now;
        }
        if now.duration_since(self.progress_at) < self.config.stall {
            return Ok(());
        }
        Err(if wants_chunks { FetchError::NoSources(self.reasons()) } else { FetchError::NoList })
    }

    /// Leaves to others what was taken and is not whole yet, and all that is to be fetched: there is no hope here.
    /// [`Notice::Withdrew`] tells what was taken, and [`Notice::Fetched`] when the rest is checked.
    pub fn withdraw(&mut self, now: Instant) {
        let started = self.window.keys();
        let others = self.held_up.iter().chain(self.again.iter().map(|(job, _)| job)).map(|job| job.key);
        self.notices.push_back(Notice::Withdrew { extents: started.chain(others).collect() });
        self.has_withdrawn = true;
        self.forget_started();
        self.progress_at = now;
        self.tell_if_fetched(now);
    }

    pub(super) fn check_impossible(&mut self, now: Instant) -> Result<(), FetchError> {
        let Some(&Piece { stream, run, .. }) = self.planner.impossible() else {
            self.impossible.since = None;
            return Ok(());
        };
        let since = *self.impossible.since.get_or_insert(now);
        if now.duration_since(since) < AMNESTY_PAUSE {
            return Ok(());
        }
        self.impossible.since = None;
        let key = ExtentKey { stream, extent: run.first.extent() };
        let granted = self.impossible.amnesties.entry(key).or_default();
        *granted += 1;
        if *granted > AMNESTIES_MAX || self.sources.iter().all(|source| source.state == State::Banned) {
            return Err(FetchError::Unobtainable { stream, chunk: run.first, sources: self.reasons() });
        }
        self.window.forgive(key, self.banned());
        self.replan(key);
        Ok(())
    }

    fn reasons(&self) -> Vec<(String, String)> {
        let reason = |source: &Source| match (&source.reason, source.state) {
            (Some(reason), _) => reason.clone(),
            (None, State::Greeting) => "does not answer".to_owned(),
            (None, _) => "sends nothing".to_owned(),
        };
        let known = self.sources.iter().map(|source| (source.address.to_string(), reason(source)));
        let unreachable = self.unreachable.iter().map(|(address, reason)| (address.to_string(), reason.clone()));
        known.chain(unreachable).collect()
    }

    fn report(&mut self, now: Instant, number: SourceNo, kind: FailureKind) {
        let source = &self.sources[usize::from(number.0)];
        let last_good = source.last_good_at.map(|at| now.duration_since(at));
        let failure = SourceFailure { server_id: source.server_id.clone(), kind, last_good };
        self.notices.push_back(Notice::SourceFailed(failure));
    }
}

fn extents_of(stream: StreamId, run: Run) -> impl Iterator<Item = ExtentKey> {
    let mut extents: Vec<ExtentNo> = run.chunks().map(|chunk| chunk.extent()).collect();
    extents.dedup();
    extents.into_iter().map(move |extent| ExtentKey { stream, extent })
}

fn in_words(failure: &Failure) -> (FailureKind, String) {
    match failure {
        Failure::Unanswered => (FailureKind::Silent, "does not answer a greeting".to_owned()),
        Failure::Silent => (FailureKind::Silent, "went silent".to_owned()),
        Failure::OtherVersions(versions) => {
            (FailureKind::Silent, format!("speaks versions {versions:?} of the protocol and not version 1"))
        }
        Failure::UnknownAsset => (FailureKind::NotHeld, "does not serve this video".to_owned()),
        Failure::Misbehaves => (FailureKind::Silent, "breaks the protocol".to_owned()),
    }
}
