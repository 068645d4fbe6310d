//! Plans as they should be.

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
    let path = |bytes_s, rtt, in_flight_bytes| Path { bytes_s, rtt, in_flight_bytes, is_late: false };
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
    planner.set_path(s[0], Path { is_late: true, ..path(12_000_000.0) });
    assert_eq!(planner.next_pull(s[1], 5).unwrap().1[..], [Run::new(5, 5)], "nobody waits for who is late");
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

/// Mechanism: what a fast source would have delivered sooner was left to it though it had fallen silent, so that the most
/// urgent chunks of all were asked of nobody.
#[test]
fn nothing_is_left_to_a_fast_source_that_is_late() {
    let (mut planner, s) = planner(2);
    planner.add(piece(0, 256, &s, &[]));
    let fast = Path { bytes_s: 1_200_000.0, rtt: 20 * MS, ..Path::default() };
    planner.set_path(s[1], Path { bytes_s: 120_000.0, rtt: 120 * MS, ..Path::default() });
    planner.set_path(s[0], Path { is_late: true, ..fast });
    assert_eq!(planner.next_pull(s[1], 5).unwrap().1[..], [Run::new(0, 5)]);
    planner.set_path(s[0], fast);
    assert_eq!(planner.next_pull(s[1], 5).unwrap().1[..], [Run::new(105, 5)]);
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
