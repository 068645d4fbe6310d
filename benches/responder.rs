//! What a server's thread spends on a PULL, system calls aside: open it, check it, make its END. And what a client
//! spends to ask, and to take the END in.
#![allow(missing_docs, reason = "criterion's macros make public items")]

#[path = "common/pair.rs"]
mod pair;

use braidcast_media::Run;
use braidcast_media::layout::CHUNK_BYTES;
use braidcast_transport::packet::Runs;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use pair::Pair;

/// As if no chunk were held, so that none has to be opened.
fn pull(c: &mut Criterion) {
    let mut group = c.benchmark_group("PULL to END");
    for chunks in [1, 4, 16, 52] {
        let runs: Runs = [Run::new(0, chunks)].into_iter().collect();
        let mut pair = Pair::open();
        group.throughput(Throughput::Bytes(u64::from(chunks) * CHUNK_BYTES as u64));
        group.bench_with_input(BenchmarkId::new("chunks", chunks), &runs, |b, runs| {
            b.iter(|| pair.exchange(runs, 0, |_, _| ()));
        });
    }
    group.finish();
}

criterion_group!(benches, pull);
criterion_main!(benches);
