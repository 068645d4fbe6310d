//! What one chunk costs: sealed once by the publisher, opened by every client, hashed with its extent.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::hint::black_box;

use braidcast_media::chunk::DataHeader;
use braidcast_media::layout::{CHUNK_BYTES, EXTENT_BYTES, PACKET_BYTES};
use braidcast_media::{AssetId, ChunkNo, ContentKey, Opener, Sealer, StreamId, hashes};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ASSET: AssetId = AssetId(0x0123_4567_89ab_cdef);

fn chunk(c: &mut Criterion) {
    let key = ContentKey::new([7; 16]);
    let (sealer, opener) = (Sealer::new(&key, ASSET), Opener::new(&key, ASSET));
    let plain = [0x5a; CHUNK_BYTES];
    let mut packet = [0; PACKET_BYTES];
    let mut room = [0; CHUNK_BYTES];
    let mut group = c.benchmark_group("chunk");
    group.throughput(Throughput::Bytes(CHUNK_BYTES as u64));
    group.bench_function("seal", |b| {
        b.iter(|| sealer.seal(StreamId::ORIGINAL, ChunkNo(1), black_box(&plain), &mut packet));
    });
    group.bench_function("parse and open", |b| {
        b.iter(|| {
            let header = DataHeader::parse(black_box(&packet)).expect("sealed above");
            opener.open(&header, &packet, &mut room).expect("sealed above");
        });
    });
    group.finish();
}

fn extent(c: &mut Criterion) {
    let plain = vec![0x5a; EXTENT_BYTES];
    let mut group = c.benchmark_group("extent");
    group.throughput(Throughput::Bytes(EXTENT_BYTES as u64));
    group.bench_function("hash", |b| b.iter(|| hashes::hash(black_box(&plain))));
    group.finish();
}

criterion_group!(benches, chunk, extent);
criterion_main!(benches);
