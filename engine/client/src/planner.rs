//! Which source pulls what, and when: a pure function of what was told to it.
//!
//! All chunks that are to be asked for stand in one queue, the most urgent first. A source that may have more in flight
//! takes from it at the place that fits its path: what faster sources will have delivered by the time its own answer
//! could be here is left to them. So a slow source never holds up what is needed next, nobody has to steal from anybody,
//! and at the end those that would finish last stop asking.
//!
//! Pieces that the master named a first choice for are left to it, as long as it is about as quick as whoever else could
//! take them: so equal servers are used alike, and each reads its own parts of a film from its disk, one after the other.
//!
//! (The idea is that of delay-aware schedulers of multipath transports: Kuhn et al., "DAPS", IEEE ICC 2014, and Lim et al.,
//! "ECF", ACM CoNEXT 2017. There a sender fills paths; here each source takes, because only it knows when it can.)

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use arrayvec::ArrayVec;
use braidcast_media::layout::CHUNK_BYTES;
use braidcast_media::{ChunkNo, ExtentNo, Run, StreamId};
use braidcast_transport::limits::{CHUNKS_PER_PULL_MAX, RUNS_PER_PULL_MAX};
use braidcast_transport::packet::Runs;

/// Number of a source within one download.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SourceNo(pub u8);

/// A set of sources.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct SourceSet(u64);

/// Most sources that one download uses; [`SourceSet`] has a bit for each.
pub const SOURCES_MAX: usize = 64;

impl SourceSet {
    /// With `source` in it.
    pub fn insert(&mut self, source: SourceNo) {
        self.0 |= 1 << source.0;
    }

    /// Whether `source` is in it.
    pub fn contains(self, source: SourceNo) -> bool {
        self.0 >> source.0 & 1 == 1
    }

    /// Whether nothing is in it.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All but this one.
    pub fn all_but(source: SourceNo) -> Self {
        Self(!(1 << source.0))
    }
}

/// Who can be asked for a piece.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Holders {
    /// Sources that hold it, as far as is known. Others are asked only if none of these can be.
    pub all: SourceSet,
    /// The one that takes it, unless it is 40 ms too late with all that is its; nothing if all are alike.
    pub first: Option<SourceNo>,
}

/// How much later than another a first choice may be done with all that is its, and keep it. A range of 16 extents, at 150
/// MB/s from each of three servers on one host, takes 33 ms; elsewhere a download ends so much later at worst.
const PATIENCE: Duration = Duration::from_millis(40);

/// Consecutive chunks of one extent that are to be asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Which stream.
    pub stream: StreamId,
    /// Which chunks, of one extent.
    pub run: Run,
    /// Who holds them.
    pub holders: Holders,
    /// Sources that must not be asked for it.
    pub barred: SourceSet,
}

impl Piece {
    /// Whether `source` holds it, as far as is known, and is not barred from it.
    pub fn is_for(&self, source: SourceNo) -> bool {
        let holders = self.holders.all;
        !self.barred.contains(source) && (holders.is_empty() || holders.contains(source))
    }
}

/// What is known of the way to a source.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Path {
    /// What it delivers, in bytes per second; 0 before it was measured.
    pub bytes_s: f64,
    /// Its round trip.
    pub rtt: Duration,
    /// Bytes that it was asked for and that are still to come.
    pub in_flight_bytes: u64,
    /// It does not answer in time, or takes no PULLs at the moment: nobody waits for it.
    pub is_late: bool,
}

impl Path {
    /// When what is asked for now will be here.
    fn delay(&self) -> f64 {
        let queued = if self.bytes_s > 0.0 { self.in_flight_bytes as f64 / self.bytes_s } else { 0.0 };
        // What is in flight arrives during the round trip, unless there is more than the path holds.
        self.rtt.as_secs_f64().max(queued)
    }
}

/// What the planner knows of a source.
#[derive(Default)]
struct Source {
    usable: bool,
    path: Path,
}

/// Chunks in the order in which they are needed: hash lists first, then by place.
type Place = (bool, StreamId, u32);

/// By source, in seconds from now.
type Ends = ArrayVec<f64, SOURCES_MAX>;

/// The plan of one download.
#[derive(Default)]
pub struct Planner {
    sources: Vec<Source>,
    /// By the place of their first chunks; they do not overlap.
    queue: BTreeMap<Place, Piece>,
}

impl Planner {
    /// A source more, not usable yet; nothing if there are [`SOURCES_MAX`].
    pub fn add_source(&mut self) -> Option<SourceNo> {
        let number = u8::try_from(self.sources.len()).ok().filter(|&n| usize::from(n) < SOURCES_MAX)?;
        self.sources.push(Source::default());
        Some(SourceNo(number))
    }

    /// A source can be asked, or no longer.
    pub fn set_usable(&mut self, source: SourceNo, usable: bool) {
        self.sources[usize::from(source.0)].usable = usable;
    }

    /// What is known now of the way to a source.
    pub fn set_path(&mut self, source: SourceNo, path: Path) {
        self.sources[usize::from(source.0)].path = path;
    }

    /// Plans the chunks of a piece, less those that are planned already.
    pub fn add(&mut self, piece: Piece) {
        let end = piece.run.end();
        let mut from = u64::from(piece.run.first.0);
        while from < end {
            let at = place(piece.stream, ChunkNo(from as u32));
            let planned = |(_, planned): (&Place, &Piece)| (planned.stream == piece.stream).then_some(planned.run);
            if let Some(before) = self.queue.range(..=at).next_back().and_then(planned)
                && before.end() > from
            {
                from = before.end();
                continue;
            }
            let next =
                self.queue.range(at..).next().and_then(planned).map_or(end, |run| u64::from(run.first.0).min(end));
            let run = Run { first: ChunkNo(from as u32), count: (next - from) as u16 };
            self.queue.insert(at, Piece { run, ..piece });
            from = next;
        }
    }

    /// A chunk that was to be asked for again has come after all.
    pub fn on_arrived(&mut self, stream: StreamId, chunk: ChunkNo) {
        let up_to = place(stream, chunk);
        let Some((&at, &piece)) = self.queue.range(..=up_to).next_back() else { return };
        if piece.stream == stream && u64::from(chunk.0) < piece.run.end() {
            self.take(at, piece, (chunk.0 - piece.run.first.0) as u16, 1);
        }
    }

    /// The next PULL for `source`, of at most `capacity` chunks.
    pub fn next_pull(&mut self, source: SourceNo, capacity: u32) -> Option<(StreamId, Runs)> {
        let mut left = u16::try_from(capacity.min(CHUNKS_PER_PULL_MAX.into())).unwrap_or(CHUNKS_PER_PULL_MAX);
        if left == 0 || !self.sources[usize::from(source.0)].usable {
            return None;
        }
        let ends = self.ends();
        let own = self.start_for(source, &ends, None).map(|start| (start, None));
        let helping = || Some((self.start_for(source, &ends, Some(&ends))?, Some(&ends)));
        let ((mut from, mut skipped), helps) = own.or_else(helping)?;
        let stream = from.1;
        let mut runs = Runs::new();
        while left > 0 && runs.len() < RUNS_PER_PULL_MAX {
            let Some((&at, &piece)) = self.queue.range(from..).find(|(_, piece)| self.may_take(source, piece, helps))
            else {
                break;
            };
            if piece.stream != stream {
                break;
            }
            let run = self.take(at, piece, std::mem::take(&mut skipped), left);
            left -= run.count;
            from = at;
            match runs.last_mut() {
                Some(last) if last.end() == u64::from(run.first.0) => last.count += run.count,
                _ => runs.push(run),
            }
        }
        (!runs.is_empty()).then_some((stream, runs))
    }

    /// Pieces that are left to be asked for: one of an extent of which nothing was asked for, more of one that lost much.
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether nothing is left to be asked for.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// A piece for which every source is barred, whether or not it is usable at the moment.
    pub fn impossible(&self) -> Option<&Piece> {
        let all = self.numbers();
        let mut barred = self.queue.values().filter(|piece| !piece.barred.is_empty());
        barred.find(|piece| all.clone().all(|source| piece.barred.contains(source)))
    }

    /// Drops what is planned of an extent.
    pub fn cancel(&mut self, stream: StreamId, extent: ExtentNo) {
        self.queue.retain(|_, piece| piece.stream != stream || piece.run.first.extent() != extent);
    }

    /// Drops all that is planned.
    pub fn clear(&mut self) {
        self.queue.clear();
    }

    /// Bars a source from everything that is planned.
    pub fn ban(&mut self, banned: SourceNo) {
        self.set_usable(banned, false);
        for piece in self.queue.values_mut() {
            piece.barred.insert(banned);
        }
    }

    fn can(&self, source: SourceNo, piece: &Piece) -> bool {
        self.sources[usize::from(source.0)].usable && !piece.barred.contains(source)
    }

    fn may_ask(&self, source: SourceNo, piece: &Piece) -> bool {
        if !self.can(source, piece) {
            return false;
        }
        let holders = piece.holders.all;
        let mut able = self.numbers().filter(|&n| holders.contains(n) && self.can(n, piece));
        holders.is_empty() || holders.contains(source) || able.next().is_none()
    }

    /// Whether `source` may take a piece: one that it is the first choice for, or nobody who can be asked is, or, if it
    /// `helps`, one whose first choice would be done with all that is its [`PATIENCE`] later.
    fn may_take(&self, source: SourceNo, piece: &Piece, helps: Option<&Ends>) -> bool {
        if !self.may_ask(source, piece) {
            return false;
        }
        let Some(first) = piece.holders.first.filter(|&first| first != source && self.can(first, piece)) else {
            return true;
        };
        let until = self.sources[usize::from(source.0)].path.delay() + PATIENCE.as_secs_f64();
        helps.is_some_and(|ends| ends[usize::from(first.0)] > until)
    }

    /// By source: when what is planned for it as the first choice would be here.
    fn ends(&self) -> Ends {
        let mut planned = [0_u64; SOURCES_MAX];
        for piece in self.queue.values() {
            if let Some(first) = piece.holders.first {
                planned[usize::from(first.0)] += u64::from(piece.run.count) * CHUNK_BYTES as u64;
            }
        }
        let end = |(source, planned): (&Source, u64)| match planned as f64 / source.path.bytes_s {
            took if took.is_finite() && !source.path.is_late => source.path.delay() + took,
            _ => f64::INFINITY,
        };
        self.sources.iter().zip(planned).map(end).collect()
    }

    fn numbers(&self) -> impl Iterator<Item = SourceNo> + Clone + use<> {
        (0..self.sources.len()).map(|n| SourceNo(n as u8))
    }

    /// By source: chunks that it will have delivered, of what is asked for from now on, by the time that the answer of
    /// `source` could be here.
    fn left_to_others(&self, source: SourceNo) -> ArrayVec<u64, SOURCES_MAX> {
        let own = self.sources[usize::from(source.0)].path.delay();
        let others = self.sources.iter().map(|other| {
            let sooner = (own - other.path.delay()).max(0.0);
            if other.usable && !other.path.is_late {
                (other.path.bytes_s * sooner / CHUNK_BYTES as f64).round() as u64
            } else {
                0
            }
        });
        others.collect()
    }

    /// Where `source` begins to take, and how many chunks of that piece are left to others; nothing if others will have
    /// delivered all that there is, or if it may not take what there is. Nothing is left to a source that may not take it.
    fn start_for(&self, source: SourceNo, ends: &Ends, helps: Option<&Ends>) -> Option<(Place, u16)> {
        let mut left = self.left_to_others(source);
        for (&at, piece) in self.queue.iter().filter(|(_, piece)| self.may_take(source, piece, helps)) {
            let mut rest = u64::from(piece.run.count);
            let others = left.iter_mut().enumerate().map(|(n, left)| (SourceNo(n as u8), left));
            for (_, left) in others.filter(|(other, left)| **left > 0 && self.may_take(*other, piece, Some(ends))) {
                let taken = rest.min(*left);
                *left -= taken;
                rest -= taken;
            }
            if rest > 0 {
                return Some((at, piece.run.count - rest as u16));
            }
        }
        None
    }

    /// Takes at most `most` chunks out of the piece at `at`, from its chunk `skipped` on.
    fn take(&mut self, at: Place, piece: Piece, skipped: u16, most: u16) -> Run {
        self.queue.remove(&at);
        let part = |first: u16, count: u16| Run { first: ChunkNo(piece.run.first.0 + u32::from(first)), count };
        let count = most.min(piece.run.count - skipped);
        self.add(Piece { run: part(0, skipped), ..piece });
        let rest = skipped + count;
        self.add(Piece { run: part(rest, piece.run.count - rest), ..piece });
        part(skipped, count)
    }
}

fn place(stream: StreamId, chunk: ChunkNo) -> Place {
    (stream != StreamId::PLAIN_HASHES, stream, chunk.0)
}
