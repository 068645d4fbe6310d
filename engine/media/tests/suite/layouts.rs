//! Where things stand in a pack, for every shape of pack.

use braidcast_media::layout::{
    CHUNK_BYTES, CHUNKS_PER_EXTENT, EXTENT_BYTES, LayoutError, PACKET_BYTES, PAGE_BYTES, SEALED_EXTENT_BYTES,
    STREAM_BYTES_MAX, STREAMS_MAX,
};
use braidcast_media::{ChunkNo, ExtentNo, PackLayout, Run, StreamId, StreamLayout, hashes};
use proptest::prelude::*;

/// Lengths around the edges of chunks and extents, where mistakes live.
fn stream_bytes() -> impl Strategy<Value = u64> {
    let edge = (0_u64..6, prop_oneof![Just(CHUNK_BYTES as u64), Just(EXTENT_BYTES as u64)], -2_i64..=2)
        .prop_map(|(times, unit, off)| (times * unit).saturating_add_signed(off));
    prop_oneof![edge, 0_u64..3_000_000, (STREAM_BYTES_MAX - 3 * EXTENT_BYTES as u64)..=STREAM_BYTES_MAX]
}

/// One to eight different streams, in any order.
pub(crate) fn layouts() -> impl Strategy<Value = PackLayout> {
    let ids = proptest::sample::subsequence((0..=12_u8).collect::<Vec<_>>(), 1..=STREAMS_MAX).prop_shuffle();
    ids.prop_flat_map(|ids| {
        let lengths = proptest::collection::vec(stream_bytes(), ids.len());
        lengths.prop_map(move |lengths| {
            let streams = ids.iter().zip(lengths).map(|(&id, bytes)| StreamLayout { id: StreamId(id), bytes });
            PackLayout::new(streams.collect()).expect("different streams of lawful lengths")
        })
    })
}

proptest! {
    #![proptest_config(crate::fixed_seed())]

    #[test]
    fn payloads_of_all_chunks_add_up_to_the_stream(bytes in 0_u64..2_000_000) {
        let stream = StreamLayout { id: StreamId::ORIGINAL, bytes };
        let payloads = (0..stream.chunks()).map(|n| stream.payload_bytes(ChunkNo(n)).expect("the chunk exists"));
        prop_assert_eq!(payloads.sum::<usize>() as u64, bytes);
        prop_assert_eq!(stream.payload_bytes(ChunkNo(stream.chunks())), None);
        let extents = (0..stream.extents()).map(ExtentNo);
        let in_extents = extents.clone().map(|e| stream.extent_bytes(e)).sum::<usize>();
        prop_assert_eq!(in_extents as u64, bytes);
        prop_assert_eq!(extents.map(|e| stream.extent_chunks(e)).sum::<u32>(), stream.chunks());
    }

    #[test]
    fn last_chunk_and_extent_of_a_long_stream_are_the_last(bytes in stream_bytes()) {
        let stream = StreamLayout { id: StreamId::ORIGINAL, bytes };
        let (chunks, extents) = (stream.chunks(), stream.extents());
        prop_assert_eq!(stream.extent_chunks(ExtentNo(extents)), 0);
        prop_assert_eq!(stream.extent_bytes(ExtentNo(extents)), 0);
        let Some(last) = chunks.checked_sub(1).map(ChunkNo) else { return Ok(()) };
        prop_assert_eq!(last.extent(), ExtentNo(extents - 1));
        let before = u64::from(last.0) * CHUNK_BYTES as u64;
        prop_assert_eq!(stream.payload_bytes(last).map(|rest| before + rest as u64), Some(bytes));
        prop_assert_eq!(stream.payload_bytes(ChunkNo(chunks)), None);
        let used = stream.extent_chunks(last.extent());
        prop_assert!((1..=CHUNKS_PER_EXTENT).contains(&used));
        prop_assert_eq!(last.index_in_extent() as u32, used - 1);
    }

    #[test]
    fn extent_numbers_translate_to_the_pack_and_back(layout in layouts(), drawn in any::<proptest::sample::Index>()) {
        prop_assert_eq!(layout.extent_at(layout.extents()), None);
        prop_assert_eq!(layout.sealed_bytes(layout.extents()), 0);
        if layout.extents() == 0 {
            return Ok(());
        }
        for number in [0, drawn.index(layout.extents() as usize) as u32, layout.extents() - 1] {
            let (stream, extent) = layout.extent_at(number).expect("the extent exists");
            prop_assert_eq!(layout.pack_extent(stream.id, extent), Some(number));
            prop_assert_eq!(layout.sealed_bytes(number), stream.extent_chunks(extent) as usize * PACKET_BYTES);
            let first = layout.chunk_offset(stream.id, extent.first_chunk());
            prop_assert_eq!(first, Some(layout.extent_offset(number)), "an extent starts with its first chunk");
        }
    }

    #[test]
    fn no_stream_reaches_into_the_next(layout in layouts()) {
        let mut free = layout.header_bytes();
        prop_assert_eq!(free % PAGE_BYTES as u64, 0);
        for stream in layout.streams() {
            let Some(last) = stream.chunks().checked_sub(1).map(ChunkNo) else {
                prop_assert_eq!(layout.chunk_offset(stream.id, ChunkNo(0)), None);
                continue;
            };
            prop_assert_eq!(layout.chunk_offset(stream.id, ChunkNo(0)), Some(free));
            let end = layout.chunk_offset(stream.id, last).expect("the chunk exists") + PACKET_BYTES as u64;
            prop_assert_eq!(layout.chunk_offset(stream.id, ChunkNo(last.0 + 1)), None);
            free += u64::from(stream.extents()) * SEALED_EXTENT_BYTES as u64;
            prop_assert!(end <= free && free - end < SEALED_EXTENT_BYTES as u64);
        }
        prop_assert_eq!(free, layout.pack_bytes());
    }

    #[test]
    fn every_vouched_extent_has_a_hash_of_its_own(lengths in proptest::collection::vec(0_u64..2_000_000, 5)) {
        let ids = [4, 0, 3, 2, 1];
        let streams = ids.iter().zip(lengths).map(|(&id, bytes)| StreamLayout { id: StreamId(id), bytes });
        let layout = PackLayout::new(streams.collect()).expect("five streams");
        // The list's order is by stream number, whatever the order in the file.
        let mut expected = 0;
        for id in [0, 1, 2, 4].map(StreamId) {
            let extents = layout.stream(id).map_or(0, StreamLayout::extents);
            for extent in (0..extents).map(ExtentNo) {
                prop_assert_eq!(hashes::index_in_list(&layout, id, extent), Some(expected));
                expected += 1;
            }
            prop_assert_eq!(hashes::index_in_list(&layout, id, ExtentNo(extents)), None);
        }
        prop_assert_eq!(hashes::index_in_list(&layout, StreamId::PLAIN_HASHES, ExtentNo(0)), None);
    }

    #[test]
    fn a_run_stops_at_the_last_chunk_number(first in any::<u32>(), count in any::<u16>()) {
        let run = Run::new(first, count);
        let chunks: Vec<ChunkNo> = run.chunks().collect();
        let room = u64::from(u32::MAX) + 1 - u64::from(first);
        prop_assert_eq!(chunks.len() as u64, u64::from(count).min(room));
        prop_assert_eq!(run.end(), u64::from(first) + u64::from(count));
        prop_assert!(chunks.first().is_none_or(|chunk| chunk.0 == first));
    }
}

#[test]
fn a_pack_of_one_to_eight_different_streams_passes_and_others_do_not() {
    let streams = |ids: std::ops::Range<u8>| {
        PackLayout::new(ids.map(|id| StreamLayout { id: StreamId(id), bytes: 1 }).collect()).err()
    };
    assert_eq!(streams(0..0), Some(LayoutError::BadStreams));
    assert_eq!(streams(0..1), None);
    assert_eq!(streams(0..8), None);
    assert_eq!(streams(0..9), Some(LayoutError::BadStreams));
    let twice = StreamLayout { id: StreamId(1), bytes: 1 };
    assert_eq!(PackLayout::new(vec![twice, twice]), Err(LayoutError::BadStreams));
}

#[test]
fn the_hash_list_of_a_file_has_one_hash_per_extent() {
    for (bytes, hashes) in [(0, 0), (1, 1), (EXTENT_BYTES as u64, 1), (EXTENT_BYTES as u64 + 1, 2)] {
        let layout = PackLayout::of_file(bytes).expect("a short file");
        let list = layout.stream(StreamId::PLAIN_HASHES).expect("a file has a hash list");
        assert_eq!(list.bytes, hashes * 32, "{bytes} bytes");
    }
}
