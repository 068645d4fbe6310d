//! The extents that are being fetched: a bounded number of buffers, each filled chunk by chunk, in place.

use std::collections::HashMap;
use std::ops::Range;

use braidcast_media::hashes::Hash;
use braidcast_media::layout::{CHUNK_BYTES, CHUNKS_PER_EXTENT, EXTENT_BYTES};
use braidcast_media::{ChunkNo, ExtentNo, Run, StreamId};

use crate::planner::{Holders, Piece, SourceNo, SourceSet};

/// Plain bytes of one extent; always [`EXTENT_BYTES`] long.
pub type Buffer = Box<[u8]>;

/// An extent of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ExtentKey {
    /// Which stream.
    pub stream: StreamId,
    /// Which extent of it.
    pub extent: ExtentNo,
}

/// Something to fetch, and what it must hash to.
#[derive(Clone, Copy, Debug)]
pub struct Job {
    /// Which extent.
    pub key: ExtentKey,
    /// How many chunks it has: 1 to 256.
    pub chunks: u32,
    /// Plain bytes of it.
    pub bytes: usize,
    /// What they must hash to.
    pub hash: Expected,
    /// How often everything had been abandoned when it was started.
    pub generation: u32,
}

impl Job {
    /// The hashes of its stream's extents have become known.
    pub(crate) fn set_hash(&mut self, hashes: &[Hash]) {
        if self.hash == Expected::Awaited
            && let Some(hash) = hashes.get(self.key.extent.0 as usize)
        {
            self.hash = Expected::Hash(*hash);
        }
    }
}

/// What the plain bytes of an extent must hash to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// The list of hashes is still to come.
    Awaited,
    /// This BLAKE3, vouched for by the master.
    Hash(Hash),
    /// It is not hashed: that each packet opened is enough.
    Unchecked,
}

/// An extent whose chunks are all there. Nothing is known yet of whether it is what was published.
#[derive(Debug)]
pub struct Filled {
    /// What was to be fetched.
    pub job: Job,
    /// The plain bytes.
    pub buffer: Buffer,
    /// Which source each chunk came from.
    pub origins: Origins,
    /// An earlier copy whose hash was wrong: whoever gave a chunk of it that differs has lied.
    pub suspect: Option<Box<Suspect>>,
}

/// Which source gave each chunk of an extent.
pub type Origins = [SourceNo; CHUNKS_PER_EXTENT as usize];

/// A copy of an extent whose hash was wrong, made of chunks of several sources.
#[derive(Debug)]
pub struct Suspect {
    /// The plain bytes.
    pub buffer: Buffer,
    /// Who gave them.
    pub origins: Origins,
    /// What a player was given of it, or of a copy before it.
    pub shown: Vec<Shown>,
}

/// Bytes of an extent that a player was given before its hash was checked.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Their place in the extent.
    pub bytes: Range<usize>,
    /// BLAKE3 of what was given.
    pub hash: Hash,
    /// The sources that they came from.
    pub givers: Vec<SourceNo>,
}

struct Slot {
    job: Job,
    /// Empty until the first chunk comes: what is asked for later takes the memory that what came before gave back, which
    /// is still in a core's cache.
    buffer: Buffer,
    origins: Origins,
    /// Bit i: chunk i is missing.
    missing: [u64; 4],
    holders: Holders,
    barred: SourceSet,
    /// The one source that is asked.
    pin: Option<SourceNo>,
    suspect: Option<Box<Suspect>>,
    /// Chunks that came and did not open, by place and source.
    damage: HashMap<(usize, SourceNo), Damage>,
}

impl Slot {
    /// Chunks of this extent as they are to be asked for.
    fn piece(&self, run: Run) -> Piece {
        let barred = self.pin.map_or(self.barred, SourceSet::all_but);
        Piece { stream: self.job.key.stream, run, holders: self.holders, barred }
    }
}

/// A chunk that does not open as one source sends it.
#[derive(Default)]
struct Damage {
    /// Such a packet came since the last END that spoke of the chunk.
    suspected: bool,
    /// How often an END said that the chunk was sent when one had come.
    confirmed: u32,
}

/// The extents under way, at most as many as there are buffers.
pub struct Window {
    slots: Vec<Option<Slot>>,
    by_key: HashMap<ExtentKey, usize>,
    spare: Vec<Buffer>,
    /// Where the last chunk went; the next one mostly goes there too.
    last: Option<(ExtentKey, usize)>,
}

impl Window {
    /// A window of at most `extents` extents; their memory is taken as their first chunks come.
    pub fn new(extents: usize) -> Self {
        Self {
            slots: (0..extents).map(|_| None).collect(),
            by_key: HashMap::with_capacity(extents),
            spare: Vec::new(),
            last: None,
        }
    }

    /// Room for `extents` more.
    pub fn grow(&mut self, extents: usize) {
        self.slots.extend((0..extents).map(|_| None));
    }

    /// Whether another extent can be started. `out`: buffers that are elsewhere, being checked.
    pub fn has_room(&self, out: usize) -> bool {
        self.by_key.len() + out < self.slots.len()
    }

    /// Extents that are under way.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether nothing is under way.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Whether an extent is under way.
    pub fn contains(&self, key: ExtentKey) -> bool {
        self.by_key.contains_key(&key)
    }

    /// The extents that are under way.
    pub fn keys(&self) -> impl Iterator<Item = ExtentKey> {
        self.by_key.keys().copied()
    }

    /// Starts an extent. It must not be under way, and [`Window::has_room`] must have said yes. `pin`: the one source
    /// that is to give all of it; `suspect`: an earlier copy, to be compared. Gives what is to be planned.
    pub fn start(
        &mut self,
        job: Job,
        holders: Holders,
        barred: SourceSet,
        pin: Option<SourceNo>,
        suspect: Option<Box<Suspect>>,
    ) -> Piece {
        let index = self.slots.iter().position(Option::is_none).expect("has_room said that a slot is free");
        let mut missing = [0; 4];
        for chunk in 0..job.chunks as usize {
            missing[chunk / 64] |= 1 << (chunk % 64);
        }
        let origins = [SourceNo(0); CHUNKS_PER_EXTENT as usize];
        let buffer = Buffer::default();
        let slot = Slot { job, buffer, origins, missing, holders, barred, pin, suspect, damage: HashMap::new() };
        let piece = slot.piece(Run { first: job.key.extent.first_chunk(), count: job.chunks as u16 });
        self.slots[index] = Some(slot);
        self.by_key.insert(job.key, index);
        piece
    }

    /// The room of a chunk that is still missing.
    pub fn place(&mut self, stream: StreamId, chunk: ChunkNo) -> Option<&mut [u8; CHUNK_BYTES]> {
        let slot = self.find(stream, chunk)?;
        let slot = self.slots[slot].as_mut()?;
        let index = chunk.index_in_extent();
        if slot.missing[index / 64] >> (index % 64) & 1 == 0 {
            return None;
        }
        if slot.buffer.is_empty() {
            slot.buffer = self.spare.pop().unwrap_or_else(|| vec![0; EXTENT_BYTES].into_boxed_slice());
        }
        slot.buffer.as_chunks_mut::<CHUNK_BYTES>().0.get_mut(index)
    }

    /// A chunk has been opened into its place. Gives the extent if that was its last one.
    pub fn arrived(&mut self, stream: StreamId, chunk: ChunkNo, from: SourceNo) -> Option<Filled> {
        let slot = self.slot(stream, chunk)?;
        let index = chunk.index_in_extent();
        slot.missing[index / 64] &= !(1 << (index % 64));
        slot.origins[index] = from;
        if slot.missing != [0; 4] {
            return None;
        }
        let key = slot.job.key;
        let taken = self.by_key.remove(&key).and_then(|index| self.slots[index].take())?;
        self.last = None;
        Some(Filled { job: taken.job, buffer: taken.buffer, origins: taken.origins, suspect: taken.suspect })
    }

    /// A copy of bytes of an extent under way, and who gave them, in order of their numbers; nothing while a chunk of
    /// them is missing. Nobody knows yet whether they are what was published.
    pub fn copy(&mut self, key: ExtentKey, bytes: Range<usize>) -> Option<(Vec<u8>, Vec<SourceNo>)> {
        let slot = self.slot(key.stream, key.extent.first_chunk())?;
        if bytes.is_empty() || bytes.end > slot.job.bytes {
            return None;
        }
        let chunks = bytes.start / CHUNK_BYTES..=(bytes.end - 1) / CHUNK_BYTES;
        if chunks.clone().any(|index| slot.missing[index / 64] >> (index % 64) & 1 == 1) {
            return None;
        }
        let mut givers = slot.origins[chunks].to_vec();
        givers.sort_unstable();
        givers.dedup();
        Some((slot.buffer[bytes].to_vec(), givers))
    }

    /// The hashes of a stream's extents have become known.
    pub fn set_hashes(&mut self, stream: StreamId, hashes: &[Hash]) {
        for slot in self.slots.iter_mut().flatten().filter(|slot| slot.job.key.stream == stream) {
            slot.job.set_hash(hashes);
        }
    }

    /// Drops all that is under way.
    pub fn clear(&mut self) {
        self.by_key.clear();
        self.last = None;
        let dropped: Vec<Slot> = self.slots.iter_mut().filter_map(Option::take).collect();
        for slot in dropped.into_iter().filter(|slot| !slot.buffer.is_empty()) {
            self.recycle(slot.buffer);
        }
    }

    /// Takes a buffer back.
    pub fn recycle(&mut self, buffer: Buffer) {
        if self.spare.len() < self.slots.len() {
            self.spare.push(buffer);
        }
    }

    /// The parts of `run` that are still missing, for whoever is quickest: the first choice has had its turn.
    pub fn still_missing(&mut self, stream: StreamId, run: Run) -> Vec<Piece> {
        let mut out: Vec<Piece> = Vec::new();
        for chunk in run.chunks() {
            let Some(slot) = self.slot(stream, chunk) else { continue };
            let index = chunk.index_in_extent();
            if slot.missing[index / 64] >> (index % 64) & 1 == 0 {
                continue;
            }
            match out.last_mut() {
                Some(last) if last.run.end() == u64::from(chunk.0) && index != 0 => last.run.count += 1,
                _ => {
                    let piece = slot.piece(Run { first: chunk, count: 1 });
                    out.push(Piece { holders: Holders { first: None, ..piece.holders }, ..piece });
                }
            }
        }
        out
    }

    /// Never ask `source` for this extent again. Says whether it was pinned to that source.
    pub fn bar(&mut self, key: ExtentKey, source: SourceNo) -> bool {
        let Some(slot) = self.slot(key.stream, key.extent.first_chunk()) else { return false };
        slot.barred.insert(source);
        slot.pin == Some(source)
    }

    /// Never ask `source` for anything again.
    pub fn ban(&mut self, source: SourceNo) {
        for slot in self.slots.iter_mut().flatten() {
            slot.barred.insert(source);
        }
    }

    /// Lets an extent be asked for everywhere but at `barred`.
    pub fn forgive(&mut self, key: ExtentKey, barred: SourceSet) {
        if let Some(slot) = self.slot(key.stream, key.extent.first_chunk()) {
            slot.barred = barred;
            slot.damage.clear();
        }
    }

    /// The extents that `source` alone is asked for.
    pub fn pinned_to(&self, source: SourceNo) -> Vec<ExtentKey> {
        self.slots.iter().flatten().filter(|slot| slot.pin == Some(source)).map(|slot| slot.job.key).collect()
    }

    /// Lets any source be asked for an extent, and gives all that is missing of it.
    pub fn unpin(&mut self, key: ExtentKey) -> Vec<Piece> {
        let first = key.extent.first_chunk();
        let Some(slot) = self.slot(key.stream, first) else { return Vec::new() };
        slot.pin = None;
        let count = slot.job.chunks as u16;
        self.still_missing(key.stream, Run { first, count })
    }

    /// A packet that claims to be this chunk has come from `source` and does not open. Anyone can send such a packet:
    /// nothing follows from it until the source's own END says that it has sent the chunk.
    pub fn note_rejected(&mut self, stream: StreamId, chunk: ChunkNo, source: SourceNo) {
        if let Some(slot) = self.slot(stream, chunk) {
            slot.damage.entry((chunk.index_in_extent(), source)).or_default().suspected = true;
        }
    }

    /// `source` says that it has sent the chunks of `run`, and they are missing. Gives the one that most often came
    /// damaged in such a case, and how often.
    pub fn confirm_damage(&mut self, stream: StreamId, run: Run, source: SourceNo) -> Option<(ChunkNo, u32)> {
        let mut worst = None;
        for chunk in run.chunks() {
            let Some(slot) = self.slot(stream, chunk) else { continue };
            let Some(damage) = slot.damage.get_mut(&(chunk.index_in_extent(), source)) else { continue };
            if std::mem::take(&mut damage.suspected) {
                damage.confirmed += 1;
                worst = worst.max(Some((damage.confirmed, chunk)));
            }
        }
        worst.map(|(count, chunk)| (chunk, count))
    }

    fn slot(&mut self, stream: StreamId, chunk: ChunkNo) -> Option<&mut Slot> {
        let index = self.find(stream, chunk)?;
        self.slots[index].as_mut()
    }

    /// The place of the slot of a chunk's extent.
    fn find(&mut self, stream: StreamId, chunk: ChunkNo) -> Option<usize> {
        let key = ExtentKey { stream, extent: chunk.extent() };
        match self.last {
            Some((last, index)) if last == key => Some(index),
            _ => {
                let index = *self.by_key.get(&key)?;
                self.last = Some((key, index));
                Some(index)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: SourceNo = SourceNo(0);
    const B: SourceNo = SourceNo(1);

    fn job(extent: u32, chunks: u32) -> Job {
        let key = ExtentKey { stream: StreamId::ORIGINAL, extent: ExtentNo(extent) };
        Job { key, chunks, bytes: chunks as usize * CHUNK_BYTES, hash: Expected::Hash([0; 32]), generation: 0 }
    }

    fn window(extent: u32, chunks: u32) -> Window {
        let mut window = Window::new(2);
        window.start(job(extent, chunks), Holders::default(), SourceSet::default(), None, None);
        window
    }

    fn fill(window: &mut Window, chunk: u32, from: SourceNo) -> Option<Filled> {
        window.place(StreamId::ORIGINAL, ChunkNo(chunk)).expect("still missing").fill(from.0 + 1);
        window.arrived(StreamId::ORIGINAL, ChunkNo(chunk), from)
    }

    #[test]
    fn an_extent_is_given_with_its_last_chunk_and_tells_who_gave_each() {
        let mut window = window(1, 3);
        assert!(fill(&mut window, 258, B).is_none());
        assert!(fill(&mut window, 256, A).is_none());
        let filled = fill(&mut window, 257, A).expect("that was the last one");
        assert_eq!(filled.origins[..3], [A, A, B]);
        assert_eq!([filled.buffer[0], filled.buffer[1_200], filled.buffer[2_400]], [1, 1, 2]);
        assert!(window.is_empty());
    }

    #[test]
    fn bytes_are_copied_out_once_all_of_their_chunks_have_come() {
        let mut window = window(1, 3);
        let key = job(1, 3).key;
        fill(&mut window, 257, B);
        assert_eq!(window.copy(key, 1_200..2_400), Some((vec![2; 1_200], vec![B])));
        assert_eq!(window.copy(key, 1_199..2_400), None, "the chunk before is missing");
        assert_eq!(window.copy(key, 2_399..2_401), None, "the chunk behind is missing");
        fill(&mut window, 256, A);
        assert_eq!(window.copy(key, 1_199..1_201), Some((vec![1, 2], vec![A, B])));
        assert_eq!(window.copy(key, 3_599..3_601), None, "the extent ends before");
        assert_eq!(window.copy(job(2, 3).key, 0..1), None, "it is not under way");
    }

    #[test]
    fn a_chunk_that_is_there_or_not_wanted_has_no_place() {
        let mut window = window(0, 3);
        fill(&mut window, 1, A);
        for chunk in [1, 3, 256] {
            assert!(window.place(StreamId::ORIGINAL, ChunkNo(chunk)).is_none(), "chunk {chunk}");
        }
        assert!(window.place(StreamId::PLAIN_HASHES, ChunkNo(0)).is_none());
    }

    #[test]
    fn an_extent_takes_memory_with_its_first_chunk_and_the_memory_that_was_used_last() {
        let mut window = window(0, 1);
        window.start(job(1, 1), Holders::default(), SourceSet::default(), None, None);
        let first = fill(&mut window, 0, A).expect("one chunk fills it").buffer;
        let address = first.as_ptr();
        window.recycle(first);
        let second = fill(&mut window, 256, A).expect("one chunk fills it").buffer;
        assert_eq!(second.as_ptr(), address, "started before, filled after");
    }

    #[test]
    fn buffers_being_checked_count_against_the_room() {
        let mut window = window(0, 1);
        assert!(window.has_room(0) && !window.has_room(1));
        let filled = fill(&mut window, 0, A).expect("one chunk fills it");
        assert!(window.has_room(1) && !window.has_room(2));
        window.recycle(filled.buffer);
    }

    #[test]
    fn still_missing_skips_what_arrived_and_splits_at_extents() {
        let mut window = window(0, 256);
        window.start(job(1, 256), Holders::default(), SourceSet::default(), None, None);
        fill(&mut window, 251, A);
        let missing = window.still_missing(StreamId::ORIGINAL, Run::new(250, 10));
        let runs: Vec<Run> = missing.into_iter().map(|piece| piece.run).collect();
        assert_eq!(runs, [Run::new(250, 1), Run::new(252, 4), Run::new(256, 4)]);
    }

    #[test]
    fn forged_packets_count_as_damage_only_when_the_source_itself_says_that_it_sent_the_chunk() {
        let mut window = window(0, 4);
        let (stream, chunk, run) = (StreamId::ORIGINAL, ChunkNo(2), Run::new(0, 4));
        for _ in 0..10 {
            window.note_rejected(stream, chunk, A);
        }
        assert_eq!(window.confirm_damage(stream, run, A), Some((chunk, 1)), "ten packets, one word of the source");
        assert_eq!(window.confirm_damage(stream, run, A), None, "lost this time, not damaged");
        assert_eq!(window.confirm_damage(stream, run, B), None);
    }

    #[test]
    fn a_pinned_extent_is_asked_of_one_source_until_it_is_barred_or_unpinned() {
        let mut window = Window::new(1);
        let key = job(0, 2).key;
        window.start(job(0, 2), Holders::default(), SourceSet::default(), Some(B), None);
        let barred = |window: &mut Window| window.still_missing(StreamId::ORIGINAL, Run::new(0, 2))[0].barred;
        assert!(barred(&mut window).contains(A) && !barred(&mut window).contains(B));
        assert_eq!(window.pinned_to(B), [key]);
        assert!(window.bar(key, B), "the pin is broken");
        let replanned = window.unpin(key);
        assert!(replanned[0].barred.contains(B) && !replanned[0].barred.contains(A));
    }
}
