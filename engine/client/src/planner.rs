//! Which source pulls what, and when: a pure function of what was told to it.
//!
//! An extent is cut into *pieces* of at most one PULL. A piece waits in the queue of the source that the master named
//! first for it. A source that runs out of its own pieces steals from the one that is expected to finish last; what a
//! source cannot give goes to another, and never back to one that is barred from it.

use std::collections::VecDeque;
use std::time::Duration;

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

    /// All but this one.
    pub fn all_but(source: SourceNo) -> Self {
        Self(!(1 << source.0))
    }
}

/// Chunks of one extent that are asked for together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Which stream.
    pub stream: StreamId,
    /// Which chunks: at most [`CHUNKS_PER_PULL_MAX`], of one extent.
    pub run: Run,
    /// Sources that must not be asked for it.
    pub barred: SourceSet,
}

/// What the planner knows of a source.
struct Source {
    queue: VecDeque<Piece>,
    queued_chunks: u32,
    usable: bool,
    /// Nothing until it was measured.
    bytes_per_s: Option<f64>,
}

/// The plan of one download.
#[derive(Default)]
pub struct Planner {
    sources: Vec<Source>,
    /// Pieces that no usable source may be asked for.
    orphans: VecDeque<Piece>,
}

/// A source is stolen from only if it would be this much later than the thief. Servers that share a machine with others
/// stop for some ten milliseconds now and then; pieces that wander for that would make equal servers' shares unequal.
const STEAL_PATIENCE: Duration = Duration::from_millis(100);

impl Planner {
    /// A source more, not usable yet; nothing if there are [`SOURCES_MAX`].
    pub fn add_source(&mut self) -> Option<SourceNo> {
        let number = u8::try_from(self.sources.len()).ok().filter(|&n| usize::from(n) < SOURCES_MAX)?;
        self.sources.push(Source { queue: VecDeque::new(), queued_chunks: 0, usable: false, bytes_per_s: None });
        Some(SourceNo(number))
    }

    /// A source can be asked, or no longer. What an unusable one had queued goes to others.
    pub fn set_usable(&mut self, source: SourceNo, usable: bool) {
        let state = &mut self.sources[usize::from(source.0)];
        if state.usable == usable {
            return;
        }
        state.usable = usable;
        let homeless = if usable {
            std::mem::take(&mut self.orphans)
        } else {
            state.queued_chunks = 0;
            std::mem::take(&mut state.queue)
        };
        for piece in homeless {
            self.place(piece, &[]);
        }
    }

    /// What a source delivers, in bytes per second.
    pub fn set_rate(&mut self, source: SourceNo, bytes_per_s: f64) {
        self.sources[usize::from(source.0)].bytes_per_s = Some(bytes_per_s.max(1.0));
    }

    /// Plans the chunks of `run`, which lie in one extent. `preferred`: first choice, then the alternates. `barred`:
    /// never to be asked.
    pub fn add_run(&mut self, stream: StreamId, run: Run, preferred: &[SourceNo], barred: SourceSet) {
        let mut done = 0;
        while done < run.count {
            let count = (run.count - done).min(CHUNKS_PER_PULL_MAX);
            let run = Run { first: ChunkNo(run.first.0 + u32::from(done)), count };
            self.place(Piece { stream, run, barred }, preferred);
            done += count;
        }
    }

    /// Plans a piece again that a source did not give; another source is asked for it if there is one.
    pub fn retry(&mut self, source: SourceNo, piece: Piece) {
        let may_stay = self.may_ask(source, &piece);
        let other = self.best(&piece, Some(source));
        match other {
            Some(other) => self.push_front(other, piece),
            None if may_stay => self.push_front(source, piece),
            None => self.orphans.push_back(piece),
        }
    }

    /// The next PULL for `source`, of at most `capacity` chunks; pieces are pulled whole.
    pub fn next_pull(&mut self, source: SourceNo, capacity: u32) -> Option<(StreamId, Runs)> {
        let capacity = capacity.min(CHUNKS_PER_PULL_MAX.into());
        let first = match self.pop(source, None, capacity) {
            Some(piece) => piece,
            None if self.is_idle(source) => self.steal(source, capacity)?,
            None => return None,
        };
        let mut left = capacity - u32::from(first.run.count);
        let mut runs = Runs::new();
        runs.push(first.run);
        while runs.len() < RUNS_PER_PULL_MAX {
            let Some(piece) = self.pop(source, Some(first.stream), left) else { break };
            left -= u32::from(piece.run.count);
            match runs.last_mut() {
                Some(last) if last.end() == u64::from(piece.run.first.0) => last.count += piece.run.count,
                _ => runs.push(piece.run),
            }
        }
        Some((first.stream, runs))
    }

    /// A piece for which every source is barred, whether or not it is usable at the moment.
    pub fn impossible(&self) -> Option<&Piece> {
        let all = (0..self.sources.len()).map(|n| SourceNo(n as u8));
        self.orphans.iter().find(|piece| all.clone().all(|source| piece.barred.contains(source)))
    }

    /// Drops what is planned of an extent.
    pub fn cancel(&mut self, stream: StreamId, extent: ExtentNo) {
        let keep = |piece: &Piece| piece.stream != stream || piece.run.first.extent() != extent;
        self.orphans.retain(keep);
        for source in &mut self.sources {
            source.queue.retain(keep);
            source.queued_chunks = source.queue.iter().map(|piece| u32::from(piece.run.count)).sum();
        }
    }

    /// Drops all that is planned.
    pub fn clear(&mut self) {
        self.orphans.clear();
        for source in &mut self.sources {
            source.queue.clear();
            source.queued_chunks = 0;
        }
    }

    /// Bars a source from everything that is planned.
    pub fn ban(&mut self, banned: SourceNo) {
        self.set_usable(banned, false);
        let queues = self.sources.iter_mut().map(|source| &mut source.queue).chain([&mut self.orphans]);
        for piece in queues.flatten() {
            piece.barred.insert(banned);
        }
    }

    /// Whether nothing waits for `source`.
    fn is_idle(&self, source: SourceNo) -> bool {
        self.sources[usize::from(source.0)].queue.is_empty()
    }

    fn may_ask(&self, source: SourceNo, piece: &Piece) -> bool {
        self.sources[usize::from(source.0)].usable && !piece.barred.contains(source)
    }

    /// Queues a piece with the first of `preferred` that may be asked, or else with the source that is done first.
    fn place(&mut self, piece: Piece, preferred: &[SourceNo]) {
        let choice = preferred.iter().copied().find(|&source| self.may_ask(source, &piece));
        match choice.or_else(|| self.best(&piece, None)) {
            Some(source) => {
                let state = &mut self.sources[usize::from(source.0)];
                state.queued_chunks += u32::from(piece.run.count);
                state.queue.push_back(piece);
            }
            None => self.orphans.push_back(piece),
        }
    }

    fn push_front(&mut self, source: SourceNo, piece: Piece) {
        let state = &mut self.sources[usize::from(source.0)];
        state.queued_chunks += u32::from(piece.run.count);
        state.queue.push_front(piece);
    }

    /// The source that would deliver a piece first.
    fn best(&self, piece: &Piece, except: Option<SourceNo>) -> Option<SourceNo> {
        (0..self.sources.len())
            .map(|n| SourceNo(n as u8))
            .filter(|&source| Some(source) != except && self.may_ask(source, piece))
            .min_by_key(|&source| (self.backlog(source), self.sources[usize::from(source.0)].queued_chunks))
    }

    /// How long a source needs for what is queued. One that was not measured is taken for as good as the best.
    fn backlog(&self, source: SourceNo) -> Duration {
        self.time_for(source, self.sources[usize::from(source.0)].queued_chunks)
    }

    fn time_for(&self, source: SourceNo, chunks: u32) -> Duration {
        let best =
            || self.sources.iter().filter_map(|source| source.bytes_per_s).reduce(f64::max).unwrap_or(f64::INFINITY);
        let rate = self.sources[usize::from(source.0)].bytes_per_s.unwrap_or_else(best);
        Duration::from_secs_f64((f64::from(chunks) * CHUNK_BYTES as f64 / rate).min(1e6))
    }

    fn pop(&mut self, source: SourceNo, stream: Option<StreamId>, room: u32) -> Option<Piece> {
        let state = &mut self.sources[usize::from(source.0)];
        let fits =
            |piece: &Piece| u32::from(piece.run.count) <= room && stream.is_none_or(|stream| piece.stream == stream);
        let piece = state.queue.pop_front_if(|piece| fits(piece))?;
        state.queued_chunks -= u32::from(piece.run.count);
        Some(piece)
    }

    /// Takes the last piece of the source with the longest backlog, if it would be done with it later than the thief.
    fn steal(&mut self, thief: SourceNo, room: u32) -> Option<Piece> {
        let own = self.time_for(thief, CHUNKS_PER_PULL_MAX.into()) + STEAL_PATIENCE;
        let mut victims: Vec<SourceNo> = (0..self.sources.len())
            .map(|n| SourceNo(n as u8))
            .filter(|&victim| victim != thief && self.backlog(victim) > own)
            .collect();
        victims.sort_by_key(|&victim| std::cmp::Reverse(self.backlog(victim)));
        if !self.sources[usize::from(thief.0)].usable {
            return None;
        }
        for victim in victims {
            let state = &mut self.sources[usize::from(victim.0)];
            let found = state
                .queue
                .iter()
                .rposition(|piece| !piece.barred.contains(thief) && u32::from(piece.run.count) <= room);
            if let Some(piece) = found.and_then(|index| state.queue.remove(index)) {
                state.queued_chunks -= u32::from(piece.run.count);
                return Some(piece);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: StreamId = StreamId::ORIGINAL;

    fn planner(sources: usize) -> (Planner, Vec<SourceNo>) {
        let mut planner = Planner::default();
        let numbers: Vec<SourceNo> = (0..sources).map(|_| planner.add_source().unwrap()).collect();
        for &number in &numbers {
            planner.set_usable(number, true);
        }
        (planner, numbers)
    }

    fn add_extent(planner: &mut Planner, extent: u32, preferred: &[SourceNo]) {
        let run = Run { first: ChunkNo(extent * 256), count: 256 };
        planner.add_run(STREAM, run, preferred, SourceSet::default());
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
    fn every_chunk_is_pulled_once_and_whole_extents_go_to_their_first_choice() {
        let (mut planner, s) = planner(2);
        add_extent(&mut planner, 0, &[s[0], s[1]]);
        add_extent(&mut planner, 1, &[s[1], s[0]]);
        let (stream, runs) = planner.next_pull(s[0], 52).unwrap();
        assert_eq!((stream, &runs[..]), (STREAM, &[Run::new(0, 52)][..]));
        let mut all: Vec<u32> = (0..52).collect();
        all.extend(drain(&mut planner, s[1]));
        all.extend(drain(&mut planner, s[0]));
        all.sort_unstable();
        assert_eq!(all, (0..512).collect::<Vec<_>>());
    }

    #[test]
    fn an_idle_source_steals_from_the_longest_backlog_and_takes_its_last_piece() {
        let (mut planner, s) = planner(3);
        for &source in &s {
            planner.set_rate(source, 1e6);
        }
        add_extent(&mut planner, 0, &[s[0]]);
        add_extent(&mut planner, 1, &[s[1]]);
        add_extent(&mut planner, 2, &[s[1]]);
        let (_, runs) = planner.next_pull(s[2], 52).unwrap();
        assert_eq!(runs[0].first, ChunkNo(2 * 256 + 208), "the last piece of the busiest source");
    }

    #[test]
    fn equal_sources_keep_their_own_pieces() {
        let (mut planner, s) = planner(2);
        add_extent(&mut planner, 0, &[s[1]]);
        assert!(planner.next_pull(s[0], 52).is_none(), "nothing is known yet of the other's rate");
        planner.set_rate(s[0], 1e8);
        planner.set_rate(s[1], 1e8);
        assert!(planner.next_pull(s[0], 52).is_none(), "3 ms of backlog are no reason");
        planner.set_rate(s[1], 1e6);
        assert!(planner.next_pull(s[0], 52).is_some(), "300 ms are");
    }

    #[test]
    fn what_an_unusable_source_had_goes_to_the_others_and_waits_when_there_are_none() {
        let (mut planner, s) = planner(2);
        add_extent(&mut planner, 0, &[s[0]]);
        planner.set_usable(s[0], false);
        planner.set_usable(s[1], false);
        assert!(planner.next_pull(s[0], 52).is_none() && planner.next_pull(s[1], 52).is_none());
        assert!(planner.impossible().is_none(), "a source that is only down may come back");
        planner.set_usable(s[0], true);
        assert_eq!(drain(&mut planner, s[0]).len(), 256);
    }

    #[test]
    fn a_lost_piece_goes_to_another_source_and_back_to_the_same_only_if_it_is_alone() {
        let (mut two, s) = planner(2);
        let lost = Piece { stream: STREAM, run: Run::new(7, 3), barred: SourceSet::default() };
        two.retry(s[0], lost);
        assert!(two.next_pull(s[1], 52).is_some());
        let (mut one, s) = planner(1);
        one.retry(s[0], lost);
        assert!(one.next_pull(s[0], 52).is_some());
    }

    #[test]
    fn a_piece_that_all_are_barred_from_is_impossible_and_never_pulled() {
        let (mut planner, s) = planner(2);
        let mut barred = SourceSet::default();
        barred.insert(s[0]);
        let piece = Piece { stream: STREAM, run: Run::new(7, 3), barred };
        planner.retry(s[0], piece);
        assert!(planner.impossible().is_none());
        planner.ban(s[1]);
        assert_eq!(planner.impossible().map(|piece| piece.run), Some(Run::new(7, 3)));
        assert!(planner.next_pull(s[0], 52).is_none() && planner.next_pull(s[1], 52).is_none());
    }

    #[test]
    fn pieces_are_pulled_whole_and_lost_ones_together() {
        let (mut planner, s) = planner(1);
        for first in [10, 20, 30] {
            planner.retry(s[0], Piece { stream: STREAM, run: Run::new(first, 2), barred: SourceSet::default() });
        }
        let (_, runs) = planner.next_pull(s[0], 5).unwrap();
        assert_eq!(runs.iter().map(|run| run.count).sum::<u16>(), 4, "a third piece does not fit into 5 chunks");
        assert!(planner.next_pull(s[0], 1).is_none());
    }

    #[test]
    fn the_sixty_fifth_source_is_refused() {
        let (mut planner, _) = planner(SOURCES_MAX);
        assert_eq!(planner.add_source(), None);
    }
}
