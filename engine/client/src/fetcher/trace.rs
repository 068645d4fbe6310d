//! What a fetcher tells of what it does, for people who ask why it was slow.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use braidcast_media::layout::EXTENT_BYTES;
use braidcast_media::{ChunkNo, StreamId};
use braidcast_transport::puller::Loss;

use super::lists::SourceList;
use super::source::Source;
use super::{FailureKind, Fetcher, FetcherConfig};
use crate::planner::SourceNo;
use crate::trace::{
    Cause, Extent, Failed, Fetched, Header, List, Lost, Opened, Record, Sample, Seek, Skipped, Source as Met, Stall,
    Unreachable, VERSION, WindowSample, milliseconds, seconds,
};
use crate::window::{ExtentKey, Filled};

/// Records that wait to be taken; more are left out and counted.
const RECORDS_MAX: usize = 4_096;
/// How long nothing may come, while chunks are wanted, before it is a stall.
const STALL_MIN: Duration = Duration::from_secs(1);
/// All causes, in the order of [`Tracer::lost`].
const CAUSES: [Cause; 5] = [Cause::Data, Cause::Pull, Cause::Timeout, Cause::NotHeld, Cause::Refused];

/// The trace of one fetcher.
pub(super) struct Tracer {
    start: Instant,
    records: VecDeque<Record>,
    skipped: u64,
    /// When the first chunk of each extent under way came.
    since: HashMap<ExtentKey, Instant>,
    /// The extent of the last chunk.
    last: Option<ExtentKey>,
    /// Chunks lost since the last tick, by source and cause.
    lost: Vec<[u64; CAUSES.len()]>,
    is_stalled: bool,
}

impl Tracer {
    pub(super) fn new(start: Instant, config: &FetcherConfig) -> Self {
        let header = Header {
            version: VERSION,
            asset: config.asset.to_string(),
            stream: config.stream.0,
            stream_bytes: config.layout.stream(config.stream).map_or(0, |stream| stream.bytes),
            extent_bytes: EXTENT_BYTES as u64,
            extents_max: config.extents_max as u64,
            rate_max_bytes_per_s: config.rate_max,
        };
        Self {
            start,
            records: VecDeque::from([Record::Trace(header)]),
            skipped: 0,
            since: HashMap::with_capacity(config.extents_max),
            last: None,
            lost: Vec::new(),
            is_stalled: false,
        }
    }

    fn t(&self, now: Instant) -> f64 {
        seconds(self.start, now)
    }

    fn push(&mut self, record: Record) {
        if self.records.len() >= RECORDS_MAX {
            self.skipped += 1;
            return;
        }
        if self.skipped > 0 {
            self.records.push_back(Record::Skipped(Skipped { t: record.t(), records: self.skipped }));
            self.skipped = 0;
        }
        self.records.push_back(record);
    }

    pub(super) fn on_list(&mut self, now: Instant, list: &SourceList) {
        let extents = list.ranges.first().zip(list.ranges.last()).map(|(first, last)| (first.first.0, last.last.0));
        self.push(Record::List(List { t: self.t(now), servers: list.hosts.len() as u64, extents }));
    }

    pub(super) fn on_met(&mut self, now: Instant, source: &Source) {
        self.lost.push([0; CAUSES.len()]);
        let (t, server) = (self.t(now), source.server_id.clone());
        self.push(Record::Source(Met { t, source: source.number.0, server, address: source.address }));
    }

    pub(super) fn on_unreachable(&mut self, now: Instant, address: std::net::SocketAddr, reason: &str) {
        self.push(Record::Unreachable(Unreachable { t: self.t(now), address, reason: reason.to_owned() }));
    }

    pub(super) fn on_opened(&mut self, now: Instant, source: SourceNo) {
        self.push(Record::Opened(Opened { t: self.t(now), source: source.0 }));
    }

    pub(super) fn on_failed(&mut self, now: Instant, source: SourceNo, kind: FailureKind, reason: &str) {
        let kind = match kind {
            FailureKind::Silent => "silent",
            FailureKind::Refused => "refused",
            FailureKind::NotHeld => "not_held",
            FailureKind::Damaged { .. } => "damaged",
            FailureKind::Forged => "forged",
        };
        let reason = reason.to_owned();
        self.push(Record::Failed(Failed { t: self.t(now), source: source.0, kind: kind.into(), reason }));
    }

    pub(super) fn on_lost(&mut self, source: SourceNo, chunks: u64, why: Loss) {
        let cause = match why {
            Loss::Data => Cause::Data,
            Loss::Pull => Cause::Pull,
            Loss::Timeout => Cause::Timeout,
            Loss::NotHeld => Cause::NotHeld,
            Loss::Refused => Cause::Refused,
        };
        let place = CAUSES.iter().position(|&listed| listed == cause);
        if let (Some(lost), Some(place)) = (self.lost.get_mut(usize::from(source.0)), place) {
            lost[place] += chunks;
        }
    }

    pub(super) fn on_chunk(&mut self, now: Instant, stream: StreamId, chunk: ChunkNo) {
        let key = ExtentKey { stream, extent: chunk.extent() };
        if self.last != Some(key) {
            self.last = Some(key);
            self.since.entry(key).or_insert(now);
        }
    }

    pub(super) fn on_filled(&mut self, now: Instant, filled: &Filled) {
        let key = filled.job.key;
        self.last = None;
        let since = self.since.remove(&key).unwrap_or(now);
        let mut origins: Vec<(u8, u16)> = Vec::new();
        for &SourceNo(source) in &filled.origins[..filled.job.chunks as usize] {
            match origins.last_mut() {
                Some((last, chunks)) if *last == source => *chunks += 1,
                _ => origins.push((source, 1)),
            }
        }
        self.push(Record::Extent(Extent {
            t: self.t(now),
            since: self.t(since),
            stream: key.stream.0,
            extent: key.extent.0,
            bytes: filled.job.bytes as u64,
            origins,
        }));
    }

    pub(super) fn on_abandoned(&mut self, now: Instant) {
        self.since.clear();
        self.last = None;
        self.push(Record::Seek(Seek { t: self.t(now) }));
        self.on_progress(now);
    }

    /// Something has come, or nothing is wanted.
    fn on_progress(&mut self, now: Instant) {
        if std::mem::take(&mut self.is_stalled) {
            self.push(Record::StallEnd(Stall { t: self.t(now), of: "fetch".into() }));
        }
    }

    /// Nothing has come since then.
    fn on_standstill(&mut self, since: Instant) {
        if !std::mem::replace(&mut self.is_stalled, true) {
            self.push(Record::Stall(Stall { t: self.t(since), of: "fetch".into() }));
        }
    }

    fn tell_lost(&mut self, now: Instant) {
        let t = self.t(now);
        for source in 0..self.lost.len() {
            for (chunks, cause) in std::mem::take(&mut self.lost[source]).into_iter().zip(CAUSES) {
                if chunks > 0 {
                    self.push(Record::Lost(Lost { t, source: source as u8, cause, chunks }));
                }
            }
        }
    }

    fn sample(&mut self, now: Instant, source: &Source) {
        let (puller, counters) = (&source.puller, source.puller.counters());
        let congestion = puller.congestion();
        let record = Record::Sample(Sample {
            t: self.t(now),
            source: source.number.0,
            state: source.state.name().into(),
            phase: congestion.phase().into(),
            bytes: counters.accepted_bytes,
            unwanted_bytes: counters.unwanted_bytes,
            bytes_per_s: source.bytes_per_s.map(f64::round),
            bandwidth_bytes_per_s: congestion.bandwidth().map(f64::round),
            pacing_bytes_per_s: puller.pacing_rate().map(f64::round),
            rtt_ms: puller.rtt().map(milliseconds),
            min_rtt_ms: congestion.min_rtt().map(milliseconds),
            in_flight_bytes: puller.in_flight_bytes(),
            window_bytes: puller.window_bytes(),
            lost: counters.lost_chunks,
            rejected: counters.rejected,
        });
        self.push(record);
    }
}

impl Fetcher {
    /// The next record of the trace; nothing, ever, unless [`FetcherConfig::trace_from`] says that there is one.
    pub fn poll_record(&mut self) -> Option<Record> {
        self.tracer.as_mut()?.records.pop_front()
    }

    /// Ends the trace: nobody takes its records any more.
    pub fn end_trace(&mut self) {
        self.tracer = None;
    }

    /// All is fetched: what came since the last tick is told, too.
    pub(super) fn trace_fetched(&mut self, now: Instant) {
        self.trace_tick(now);
        if let Some(tracer) = &mut self.tracer {
            tracer.push(Record::Fetched(Fetched { t: tracer.t(now) }));
        }
    }

    pub(super) fn trace_failed(&mut self, now: Instant, source: SourceNo, kind: FailureKind, reason: &str) {
        if let Some(tracer) = &mut self.tracer {
            tracer.on_failed(now, source, kind, reason);
        }
    }

    /// How all stands: once a tick.
    pub(super) fn trace_tick(&mut self, now: Instant) {
        let Some(tracer) = &mut self.tracer else { return };
        tracer.tell_lost(now);
        for source in &self.sources {
            tracer.sample(now, source);
        }
        tracer.push(Record::WindowSample(WindowSample {
            t: tracer.t(now),
            under_way: self.window.len() as u64,
            checking: self.checking as u64,
            lent: self.lent.max(0) as u64,
            written_bytes: self.written_bytes,
        }));
        if now.duration_since(self.progress_at) >= STALL_MIN {
            tracer.on_standstill(self.progress_at);
        } else {
            tracer.on_progress(self.progress_at);
        }
    }
}

#[cfg(test)]
mod tests {
    use braidcast_media::{AssetId, ContentKey, PackLayout, StreamLayout};

    use super::*;
    use crate::fetcher::{Order, Traffic};

    #[test]
    fn records_that_nobody_takes_are_bounded_and_those_left_out_are_counted() {
        let start = Instant::now();
        let config = FetcherConfig {
            asset: AssetId(1),
            content_key: ContentKey::new([7; 16]),
            layout: PackLayout::new(vec![StreamLayout { id: StreamId::ORIGINAL, bytes: 5 }]).expect("one stream"),
            stream: StreamId::ORIGINAL,
            extents_max: 3,
            order: Order::AsPlanned,
            traffic: Traffic::Normal,
            rate_max: None,
            stall: STALL_MIN,
            joins: false,
            trace_from: Some(start),
        };
        let mut tracer = Tracer::new(start, &config);
        let seek = |t| Record::Seek(Seek { t });
        (0..RECORDS_MAX + 9).for_each(|_| tracer.push(seek(1.0)));
        assert_eq!(tracer.records.len(), RECORDS_MAX);
        tracer.records.truncate(5);
        tracer.push(seek(2.0));
        assert_eq!(tracer.records.pop_back(), Some(seek(2.0)));
        assert_eq!(tracer.records.pop_back(), Some(Record::Skipped(Skipped { t: 2.0, records: 10 })));
    }
}
