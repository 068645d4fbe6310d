//! Bytes per second end to end: `braidcast get` from 1, 3 and 5 server processes on loopback, process start included,
//! every packet and every extent verified, to `/dev/null`.
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod common;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use common::{Dev, braidcast};
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};

const FILE_BYTES: u64 = 512 * 1024 * 1024;
const NAME: &str = "film.bin";

fn fetch_once(dev: &Dev) {
    let status = Command::new(braidcast())
        .args(["get", NAME, "-o", "/dev/null", "--profile"])
        .arg(dev.profile())
        .stderr(Stdio::inherit())
        .status()
        .expect("the braidcast command");
    assert!(status.success(), "get failed: {status}");
}

/// Bytes that no disk and no file system can shorten.
fn write_film(path: &Path) {
    let mut file = File::create(path).expect("a new file");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0; 1 << 20];
    for _ in 0..FILE_BYTES / block.len() as u64 {
        for word in block.chunks_exact_mut(8) {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            word.copy_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).expect("room on the disk");
    }
}

fn fetch(c: &mut Criterion) {
    let mut group = c.benchmark_group("fetch");
    group
        .throughput(Throughput::Bytes(FILE_BYTES))
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));
    for servers in [1, 3, 5] {
        let dev = Dev::start(servers, NAME, write_film);
        group.bench_with_input(BenchmarkId::new("servers", servers), &dev, |b, dev| b.iter(|| fetch_once(dev)));
    }
    group.finish();
}

criterion_group!(benches, fetch);
criterion_main!(benches);
