//! What of a request can be sent, as far as a pack goes. Reads the pack's sets and changes nothing.

use std::ops::Range;

use arrayvec::ArrayVec;
use braidcast_io::MappedFile;
use braidcast_media::layout::{CHUNKS_PER_EXTENT, PACKET_BYTES};
use braidcast_media::{ChunkNo, ExtentNo, Run, StreamId};
use braidcast_transport::limits::RUNS_PER_PULL_MAX;
use braidcast_transport::responder::Runs;

use crate::limits::{EXTENTS_AHEAD, EXTENTS_PER_PULL_MAX};
use crate::pack::Pack;

/// The answer to a request.
#[derive(Default, Debug)]
pub(crate) struct Plan {
    /// What is sent, in the order that was asked for.
    pub(crate) pieces: ArrayVec<Piece, RUNS_PER_PULL_MAX>,
    /// Chunks in the pieces.
    pub(crate) chunks: u16,
    /// For each run that cannot be sent as a whole, its rest.
    pub(crate) not_held: Runs,
    /// Extents of the pieces that must be made hot before anything is sent.
    pub(crate) cold: ArrayVec<u32, EXTENTS_PER_PULL_MAX>,
    /// What will be asked for next, as far as it is cold.
    pub(crate) ahead: ArrayVec<u32, EXTENTS_AHEAD>,
    /// What the pieces are sent from: it stays open until they have left. `None`: the pack is closed, and all that
    /// would be sent is cold.
    pub(crate) file: Option<MappedFile>,
}

/// Consecutive packets in the pack's file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Piece {
    pub(crate) offset: u64,
    pub(crate) bytes: usize,
}

impl Plan {
    /// The pieces that hold the chunks `range`, counted from 0 over all that is sent.
    pub(crate) fn pieces_of(&self, range: Range<u16>) -> impl Iterator<Item = Piece> {
        let at = |chunks: u16| usize::from(chunks) * PACKET_BYTES;
        let (from, to) = (at(range.start), at(range.end));
        let ends = self.pieces.iter().scan(0, |end, piece| {
            *end += piece.bytes;
            Some(*end)
        });
        self.pieces.iter().zip(ends).filter_map(move |(piece, end)| {
            let start = end - piece.bytes;
            let (first, last) = (from.max(start), to.min(end));
            (first < last).then(|| Piece { offset: piece.offset + (first - start) as u64, bytes: last - first })
        })
    }
}

/// Looks `runs` up in `pack`. A run is cut at its first chunk that is not held or does not exist.
pub(crate) fn plan(pack: &Pack, stream: StreamId, runs: &[Run]) -> Plan {
    let mut plan = Plan { file: pack.open_file(), ..Plan::default() };
    let is_open = plan.file.is_some();
    for &run in runs {
        let sent = held_chunks(pack, is_open, stream, run, &mut plan.cold);
        if sent > 0
            && let Some(offset) = pack.layout().chunk_offset(stream, run.first)
        {
            plan.pieces.push(Piece { offset, bytes: usize::from(sent) * PACKET_BYTES });
            plan.chunks += sent;
            if plan.ahead.is_empty() {
                plan.ahead = cold_ahead(pack, stream, run.first.0 + u32::from(sent) - 1);
            }
        }
        if sent < run.count {
            plan.not_held.push(Run { first: ChunkNo(run.first.0 + u32::from(sent)), count: run.count - sent });
        }
    }
    plan
}

/// Which of the extents behind that of chunk `last` are held and cold, by their numbers in the pack. None while `last` stands
/// in the first half of its own: who jumps about does not come to the next one.
fn cold_ahead(pack: &Pack, stream: StreamId, last: u32) -> ArrayVec<u32, EXTENTS_AHEAD> {
    if last % CHUNKS_PER_EXTENT < CHUNKS_PER_EXTENT / 2 {
        return ArrayVec::new();
    }
    let behind = (last / CHUNKS_PER_EXTENT + 1..).take(EXTENTS_AHEAD);
    let numbers = behind.filter_map(|extent| pack.layout().pack_extent(stream, ExtentNo(extent)));
    numbers.filter(|&number| pack.held().contains(number) && !pack.hot().contains(number)).collect()
}

/// How many chunks from the start of `run` are held. Cold extents among them go to `cold`; all are, unless `is_open`.
fn held_chunks(
    pack: &Pack,
    is_open: bool,
    stream: StreamId,
    run: Run,
    cold: &mut ArrayVec<u32, EXTENTS_PER_PULL_MAX>,
) -> u16 {
    let Some(layout) = pack.layout().stream(stream) else {
        return 0;
    };
    let first = u64::from(run.first.0);
    let end = run.end().min(layout.chunks().into());
    let mut next = first;
    while next < end {
        let extent = ExtentNo((next / u64::from(CHUNKS_PER_EXTENT)) as u32);
        let Some(number) = pack.layout().pack_extent(stream, extent).filter(|number| pack.held().contains(*number))
        else {
            break;
        };
        let is_hot = is_open && pack.hot().contains(number);
        if !is_hot && !cold.contains(&number) {
            cold.push(number);
        }
        next = end.min(u64::from(extent.0 + 1) * u64::from(CHUNKS_PER_EXTENT));
    }
    next.saturating_sub(first) as u16
}

#[cfg(test)]
mod tests {
    use braidcast_media::AssetId;
    use braidcast_media::PackLayout;
    use braidcast_media::layout::{EXTENT_BYTES, SEALED_EXTENT_BYTES};
    use braidcast_media::pack::PackHeader;

    use super::*;
    use crate::open_packs::{OpenPacks, Slot};

    /// Stream 0 of two whole extents and three chunks, of which the extents `held` are held and hot.
    fn pack(held: &[u32]) -> (tempfile::TempDir, Pack) {
        let layout = PackLayout::of_file(2 * EXTENT_BYTES as u64 + 3_600).expect("short file");
        let sealed_hashes = vec![[0; 32]; layout.extents() as usize];
        let header = PackHeader { asset: AssetId(1), layout, sealed_hashes };
        let dir = tempfile::tempdir().expect("temporary folder");
        let pack = Pack::create(&dir.path().join("p"), &header.to_bytes(), &OpenPacks::new(1)).expect("new pack");
        for &extent in held {
            pack.held().insert(extent);
            pack.hot().insert(extent);
        }
        (dir, pack)
    }

    fn original(pack: &Pack, runs: &[Run]) -> Plan {
        plan(pack, StreamId::ORIGINAL, runs)
    }

    #[test]
    fn runs_become_pieces_in_the_order_asked_for() {
        let (_dir, pack) = pack(&[0, 1, 2, 3]);
        let plan = original(&pack, &[Run::new(300, 2), Run::new(0, 50)]);
        let at = |n: u64| pack.layout().header_bytes() + n * PACKET_BYTES as u64;
        assert_eq!(
            plan.pieces[..],
            [Piece { offset: at(300), bytes: 2 * PACKET_BYTES }, Piece { offset: at(0), bytes: 50 * PACKET_BYTES }]
        );
        assert_eq!((plan.chunks, plan.not_held.len(), plan.cold.len()), (52, 0, 0));
    }

    #[test]
    fn a_part_of_the_answer_is_cut_out_of_its_pieces() {
        let (_dir, pack) = pack(&[0, 1, 2, 3]);
        let plan = original(&pack, &[Run::new(300, 2), Run::new(0, 50)]);
        let at = |n: u64| pack.layout().header_bytes() + n * PACKET_BYTES as u64;
        let part = |range| plan.pieces_of(range).map(|p| (p.offset, p.bytes / PACKET_BYTES)).collect::<Vec<_>>();
        assert_eq!(part(0..52), [(at(300), 2), (at(0), 50)]);
        assert_eq!(part(1..4), [(at(301), 1), (at(0), 2)]);
        assert_eq!(part(2..3), [(at(0), 1)]);
        assert_eq!(part(51..52), [(at(49), 1)]);
        assert_eq!(part(52..52), []);
    }

    #[test]
    fn a_run_across_extents_is_one_piece() {
        let (_dir, pack) = pack(&[0, 1]);
        let plan = original(&pack, &[Run::new(250, 52)]);
        assert_eq!(plan.pieces.len(), 1);
        assert_eq!(plan.chunks, 52);
        assert_eq!(SEALED_EXTENT_BYTES, 256 * PACKET_BYTES);
    }

    #[test]
    fn a_run_is_cut_at_a_hole() {
        let (_dir, pack) = pack(&[0, 2]);
        let plan = original(&pack, &[Run::new(250, 52), Run::new(255, 1), Run::new(256, 1)]);
        assert_eq!(plan.chunks, 7);
        assert_eq!(plan.not_held[..], [Run::new(256, 46), Run::new(256, 1)]);
    }

    #[test]
    fn a_run_is_cut_at_the_end_of_its_stream() {
        let (_dir, pack) = pack(&[0, 1, 2, 3]);
        let plan = original(&pack, &[Run::new(510, 10), Run::new(515, 1), Run::new(u32::MAX, 5)]);
        assert_eq!(plan.chunks, 5);
        assert_eq!(plan.not_held[..], [Run::new(515, 5), Run::new(515, 1), Run::new(u32::MAX, 5)]);
    }

    #[test]
    fn a_stream_that_is_not_there_is_not_held() {
        let (_dir, pack) = pack(&[0, 1, 2, 3]);
        let plan = plan(&pack, StreamId(1), &[Run::new(0, 4)]);
        assert_eq!((plan.chunks, plan.pieces.len()), (0, 0));
        assert_eq!(plan.not_held[..], [Run::new(0, 4)]);
    }

    #[test]
    fn of_a_closed_pack_all_is_cold() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let layout = PackLayout::of_file(EXTENT_BYTES as u64).expect("short file");
        let sealed_hashes = vec![[0; 32]; layout.extents() as usize];
        let header = PackHeader { asset: AssetId(1), layout, sealed_hashes };
        let open_packs = OpenPacks::new(1);
        let pack = Pack::create(&dir.path().join("p"), &header.to_bytes(), &open_packs).expect("new pack");
        pack.held().insert(0);
        pack.hot().insert(0);
        assert_eq!(original(&pack, &[Run::new(0, 9)]).cold.len(), 0);
        let other = dir.path().join("other");
        std::fs::write(&other, "x").expect("writable");
        let open = || std::fs::File::open(&other).map_err(crate::pack::PackFault::Open);
        open_packs.file(&Slot::empty(1), open).expect("it closes the pack");
        let plan = original(&pack, &[Run::new(0, 9)]);
        assert_eq!((plan.cold[..].to_vec(), plan.file.is_none()), (vec![0], true));
        pack.warm(0).expect("opens again");
        let plan = original(&pack, &[Run::new(0, 9)]);
        assert_eq!((plan.cold.len(), plan.chunks, plan.file.is_some()), (0, 9, true));
    }

    #[test]
    fn cold_extents_are_named_once_and_only_where_something_is_sent() {
        let (_dir, pack) = pack(&[0, 1]);
        pack.hot().remove(1);
        let plan = original(&pack, &[Run::new(250, 10), Run::new(300, 10), Run::new(512, 1)]);
        assert_eq!(plan.cold[..], [1]);
    }
}
