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
    /// The one that takes it, unless it is [`PATIENCE`] later than another; nothing if all are alike.
    pub first: Option<SourceNo>,
}

/// How much later than another a first choice may be, and keep what is its. Within a host, ranges of 16 extents come from
/// one of three servers in 30 ms; beyond it a download ends so much later at worst.
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

/// What is known of the way to a source.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Path {
    /// What it delivers, in bytes per second; 0 before it was measured.
    pub bytes_s: f64,
    /// Its round trip.
    pub rtt: Duration,
    /// Bytes that it was asked for and that are still to come.
    pub in_flight_bytes: u64,
    /// It did not answer in time: nobody waits for it.
    pub is_silent: bool,
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
    /// `helps`, one whose first choice would come to it [`PATIENCE`] later.
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
            took if took.is_finite() && !source.path.is_silent => source.path.delay() + took,
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
            if other.usable { (other.path.bytes_s * sooner / CHUNK_BYTES as f64).round() as u64 } else { 0 }
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

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId::ORIGINAL;
    const MS: Duration = Duration::from_millis(1);

    fn planner(sources: usize) -> (Planner, Vec<SourceNo>) {
        let mut planner = Planner::default();
        let numbers: Vec<SourceNo> = (0..sources).map(|_| planner.add_source().unwrap()).collect();
        for &number in &numbers {
            planner.set_usable(number, true);
        }
        (planner, numbers)
    }

    fn set(sources: &[SourceNo]) -> SourceSet {
        let mut set = SourceSet::default();
        sources.iter().for_each(|&source| set.insert(source));
        set
    }

    fn piece(first: u32, count: u16, holders: &[SourceNo], barred: &[SourceNo]) -> Piece {
        let holders = Holders { all: set(holders), first: None };
        Piece { stream: STREAM, run: Run::new(first, count), holders, barred: set(barred) }
    }

    /// All chunks that `source` is told to pull, in order.
    fn drain(planner: &mut Planner, source: SourceNo) -> Vec<u32> {
        let mut chunks = Vec::new();
        while let Some((_, runs)) = planner.next_pull(source, 52) {
            chunks.extend(runs.iter().flat_map(|run| run.chunks()).map(|chunk| chunk.0));
        }
        chunks
    }

    #[test]
    fn every_chunk_is_pulled_once_the_first_ones_first() {
        let (mut planner, s) = planner(2);
        planner.add(piece(256, 256, &s, &[]));
        planner.add(piece(0, 256, &s, &[]));
        let (stream, runs) = planner.next_pull(s[1], 10).unwrap();
        assert_eq!((stream, &runs[..]), (STREAM, &[Run::new(0, 10)][..]));
        let mut all: Vec<u32> = (0..10).collect();
        all.extend(drain(&mut planner, s[0]));
        assert_eq!(all, (0..512).collect::<Vec<_>>());
        assert!(planner.is_empty());
    }

    #[test]
    fn what_was_lost_is_asked_for_before_all_else_in_one_pull_with_what_follows() {
        let (mut planner, s) = planner(1);
        planner.add(piece(500, 12, &s, &[]));
        for lost in [30, 7, 90] {
            planner.add(piece(lost, 1, &s, &[]));
        }
        let (_, runs) = planner.next_pull(s[0], 8).unwrap();
        assert_eq!(runs[..], [Run::new(7, 1), Run::new(30, 1), Run::new(90, 1), Run::new(500, 5)]);
        assert_eq!(drain(&mut planner, s[0]), (505..512).collect::<Vec<_>>());
    }

    #[test]
    fn a_slow_source_leaves_to_fast_ones_what_they_deliver_sooner() {
        let (mut planner, s) = planner(2);
        planner.add(piece(0, 256, &s, &[]));
        let path = |bytes_s, rtt, in_flight_bytes| Path { bytes_s, rtt, in_flight_bytes, is_silent: false };
        planner.set_path(s[0], path(1_200_000.0, 20 * MS, 0));
        planner.set_path(s[1], path(120_000.0, 120 * MS, 0));
        let (_, runs) = planner.next_pull(s[1], 5).unwrap();
        assert_eq!(runs[..], [Run::new(100, 5)], "0.1 s at 1,000 chunks a second");
        // What is queued at it makes a source slow, too.
        planner.set_path(s[1], path(120_000.0, 20 * MS, 18_000));
        let (_, runs) = planner.next_pull(s[1], 5).unwrap();
        assert_eq!(runs[..], [Run::new(135, 5)], "150 ms of queue, less the fast one's 20 ms");
        assert_eq!(planner.next_pull(s[0], 1).unwrap().1[..], [Run::new(0, 1)]);
    }

    #[test]
    fn at_the_end_whoever_would_be_last_does_not_ask() {
        let (mut planner, s) = planner(2);
        planner.add(piece(0, 50, &s, &[]));
        planner.set_path(s[0], Path { bytes_s: 1_200_000.0, rtt: 20 * MS, ..Path::default() });
        planner.set_path(s[1], Path { bytes_s: 120_000.0, rtt: 120 * MS, ..Path::default() });
        assert!(planner.next_pull(s[1], 5).is_none());
        planner.set_usable(s[0], false);
        assert!(planner.next_pull(s[1], 5).is_some(), "there is nobody else");
    }

    #[test]
    fn nothing_is_left_to_a_fast_source_that_is_barred_from_it() {
        let (mut planner, s) = planner(3);
        planner.add(piece(0, 5, &s, &[s[1]]));
        for (source, rtt) in [(0, 71), (1, 23), (2, 81)] {
            planner.set_path(s[source], Path { bytes_s: 800_000.0, rtt: rtt * MS, ..Path::default() });
        }
        assert!(planner.next_pull(s[1], 52).is_none());
        assert_eq!(planner.next_pull(s[0], 52).unwrap().1[..], [Run::new(0, 5)], "the fastest that may be asked");
    }

    #[test]
    fn what_the_master_named_a_source_for_is_left_to_it_unless_it_would_be_late() {
        let (mut planner, s) = planner(2);
        for (first, source) in [(0, s[0]), (256, s[1])] {
            let holders = Holders { all: set(&s), first: Some(source) };
            planner.add(Piece { holders, ..piece(first, 256, &[], &[]) });
        }
        planner.add(piece(512, 10, &s, &[]));
        let path = |bytes_s| Path { bytes_s, rtt: 20 * MS, ..Path::default() };
        s.iter().for_each(|&source| planner.set_path(source, path(12_000_000.0)));
        assert_eq!(
            drain(&mut planner, s[1]),
            (256..522).collect::<Vec<_>>(),
            "256 chunks of the other are there within 26 ms"
        );
        planner.set_path(s[0], path(7_000_000.0));
        assert_eq!(planner.next_pull(s[1], 5).unwrap().1[..], [Run::new(0, 5)], "within 43 ms");
        planner.set_path(s[0], path(12_000_000.0));
        assert!(planner.next_pull(s[1], 5).is_none());
        planner.set_path(s[0], Path { is_silent: true, ..path(12_000_000.0) });
        assert_eq!(planner.next_pull(s[1], 5).unwrap().1[..], [Run::new(5, 5)], "nobody waits for who is silent");
        planner.set_path(s[0], path(0.0));
        assert_eq!(planner.next_pull(s[1], 5).unwrap().1[..], [Run::new(10, 5)], "nor for who was never measured");
        planner.set_path(s[0], path(12_000_000.0));
        planner.set_usable(s[0], false);
        assert_eq!(planner.next_pull(s[1], 5).unwrap().1[..], [Run::new(15, 5)], "nor for who cannot be asked");
    }

    /// Mechanism: a first choice left its last pieces to a source that would deliver them sooner, and that source left
    /// them to the first choice, because it was not late enough.
    #[test]
    fn what_a_first_choice_leaves_to_others_they_may_take() {
        let (mut planner, s) = planner(2);
        planner.add(Piece { holders: Holders { all: set(&s), first: Some(s[0]) }, ..piece(0, 5, &[], &[]) });
        for (source, rtt) in [(s[0], 30), (s[1], 1)] {
            planner.set_path(source, Path { bytes_s: 120_000_000.0, rtt: rtt * MS, ..Path::default() });
        }
        assert!(planner.next_pull(s[1], 5).is_none(), "29 ms are not late");
        assert_eq!(planner.next_pull(s[0], 5).unwrap().1[..], [Run::new(0, 5)]);
    }

    #[test]
    fn who_is_not_known_to_hold_a_piece_is_asked_only_if_no_holder_can_be() {
        let (mut planner, s) = planner(2);
        planner.add(piece(7, 3, &[s[0]], &[]));
        assert!(planner.next_pull(s[1], 52).is_none());
        planner.set_usable(s[0], false);
        assert!(planner.next_pull(s[1], 52).is_some());
    }

    #[test]
    fn a_piece_that_all_are_barred_from_is_impossible_and_never_pulled() {
        let (mut planner, s) = planner(2);
        planner.add(piece(7, 3, &s, &[s[0]]));
        assert!(planner.impossible().is_none());
        planner.set_usable(s[1], false);
        assert!(planner.impossible().is_none(), "a source that is only down may come back");
        planner.ban(s[1]);
        assert_eq!(planner.impossible().map(|piece| piece.run), Some(Run::new(7, 3)));
        assert!(s.iter().all(|&source| planner.next_pull(source, 52).is_none()));
    }

    #[test]
    fn pulls_of_two_streams_are_not_mixed_and_hashes_come_first() {
        let (mut planner, s) = planner(1);
        planner.add(piece(0, 3, &s, &[]));
        planner.add(Piece { stream: StreamId::PLAIN_HASHES, ..piece(9, 2, &s, &[]) });
        assert_eq!(planner.next_pull(s[0], 52).unwrap().0, StreamId::PLAIN_HASHES);
        assert_eq!(planner.next_pull(s[0], 52).unwrap().0, STREAM);
    }

    #[test]
    fn a_chunk_that_came_late_is_not_asked_for_again() {
        let (mut planner, s) = planner(1);
        planner.add(piece(10, 3, &s, &[]));
        for chunk in [9, 11, 13] {
            planner.on_arrived(STREAM, ChunkNo(chunk));
        }
        assert_eq!(drain(&mut planner, s[0]), [10, 12]);
    }

    /// Mechanism: an extent that was planned anew, because the source that alone was to give it could not, held chunks that
    /// were then told as lost by that source and planned once more (world 9486 of the simulator).
    #[test]
    fn what_is_planned_already_is_not_planned_again() {
        let (mut planner, s) = planner(1);
        planner.add(piece(10, 5, &s, &[]));
        planner.add(piece(20, 5, &s, &[]));
        planner.add(piece(8, 20, &s, &[]));
        planner.add(piece(12, 1, &s, &[]));
        assert_eq!(drain(&mut planner, s[0]), (8..28).collect::<Vec<_>>());
    }

    #[test]
    fn a_cancelled_extent_is_not_pulled() {
        let (mut planner, s) = planner(1);
        planner.add(piece(0, 256, &s, &[]));
        planner.add(piece(256, 3, &s, &[]));
        planner.cancel(STREAM, ExtentNo(0));
        assert_eq!(drain(&mut planner, s[0]), [256, 257, 258]);
    }
}
