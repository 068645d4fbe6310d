//! What a client's thread spends on a train: asking for it, and opening its chunks into their places. And what choosing
//! it costs.
#![allow(missing_docs, reason = "criterion's macros make public items")]

#[path = "common/pair.rs"]
mod pair;

use std::time::Duration;

use braidcast_client::planner::{Holders, Path, Piece, Planner, SourceNo, SourceSet};
use braidcast_media::layout::{CHUNK_BYTES, CHUNKS_PER_EXTENT, PACKET_BYTES};
use braidcast_media::{ChunkNo, Run, Sealer, StreamId};
use braidcast_transport::packet::Runs;
use braidcast_transport::puller::Arrival;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pair::{ASSET, Pair, content_key};

fn ingest(c: &mut Criterion) {
    let sealer = Sealer::new(&content_key(), ASSET);
    let mut group = c.benchmark_group("train");
    for chunks in [1_u16, 4, 16, 52] {
        let mut train = vec![0; usize::from(chunks) * PACKET_BYTES];
        for (number, packet) in (0..).zip(train.chunks_exact_mut(PACKET_BYTES)) {
            let packet = packet.try_into().expect("cut to packets");
            sealer.seal(StreamId::ORIGINAL, ChunkNo(number), &[0x5a; CHUNK_BYTES], packet);
        }
        let runs: Runs = [Run::new(0, chunks)].into_iter().collect();
        let mut room = vec![[0; CHUNK_BYTES]; usize::from(chunks)];
        let mut pair = Pair::open();
        group.throughput(Throughput::Bytes(u64::from(chunks) * CHUNK_BYTES as u64));
        group.bench_function(BenchmarkId::new("asked for and taken in, chunks", chunks), |b| {
            b.iter(|| {
                pair.exchange(&runs, chunks, |puller, now| {
                    for datagram in train.chunks_exact(PACKET_BYTES) {
                        let arrival = puller.handle_data(now, datagram, |_, chunk| room.get_mut(chunk.0 as usize));
                        assert!(matches!(arrival, Arrival::Accepted { .. }));
                    }
                });
            });
        });
    }
    group.finish();
}

/// Extents of a download's window.
const EXTENTS: u32 = 160;

/// A window's extents are planned, and taken train by train by sources in turn.
fn plan(c: &mut Criterion) {
    let mut group = c.benchmark_group("planner");
    group.throughput(Throughput::Bytes(u64::from(EXTENTS * CHUNKS_PER_EXTENT) * CHUNK_BYTES as u64));
    for sources in [1_u8, 3, 5] {
        let mut planner = Planner::default();
        let numbers: Vec<SourceNo> = (0..sources).map(|_| planner.add_source().expect("as many as that")).collect();
        let mut all = SourceSet::default();
        for number in &numbers {
            all.insert(*number);
            planner.set_usable(*number, true);
            let path = Path { bytes_s: 3e8, rtt: Duration::from_micros(300), ..Path::default() };
            planner.set_path(*number, path);
        }
        group.bench_function(BenchmarkId::new("a window of extents, sources", sources), |b| {
            b.iter(|| {
                for extent in 0..EXTENTS {
                    let first = numbers[extent as usize / 16 % numbers.len()];
                    let run = Run::new(extent * CHUNKS_PER_EXTENT, CHUNKS_PER_EXTENT as u16);
                    let holders = Holders { all, first: Some(first) };
                    planner.add(Piece { stream: StreamId::ORIGINAL, run, holders, barred: SourceSet::default() });
                }
                let mut turns = numbers.iter().cycle();
                while !planner.is_empty() {
                    let source = turns.next().expect("a cycle has no end");
                    planner.next_pull(*source, 52);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, ingest, plan);
criterion_main!(benches);
