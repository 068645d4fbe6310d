//! Looking frames up: entries read from the bytes of an index, and a whole window asked of a real master on loopback, by
//! time and by frames, with entries, hashes, servers and tickets in the answer.
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod common;
#[path = "common/film.rs"]
mod film;

use std::hint::black_box;

use braidcast_client::control::{VideoRef, Window};
use braidcast_client::{Control, Profile};
use braidcast_media::frames::{FrameEntry, parse_frames};
use common::Dev;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const NAME: &str = "film.mp4";
/// As many as one answer of the master holds.
const ENTRIES: u64 = 4_096;

fn entries(c: &mut Criterion) {
    let entry = |n: u64| FrameEntry { offset: n * 5_000, size: 5_000, pts: Some(n as i64), ..FrameEntry::default() };
    let index: Vec<u8> = (0..ENTRIES).flat_map(|n| entry(n).to_bytes().expect("it fits")).collect();
    let mut group = c.benchmark_group("index");
    group.throughput(Throughput::Elements(ENTRIES));
    group.bench_function("entries", |b| b.iter(|| parse_frames(black_box(&index))));
    group.finish();
}

fn windows(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let dev = Dev::start(3, NAME, film::make);
    let profile = Profile::load(dev.profile()).expect("dev wrote it");
    let control = runtime.block_on(Control::connect(&profile)).expect("the master runs");
    let ask = |window| {
        let list = runtime.block_on(control.distribution(VideoRef::Name(NAME), window)).expect("the master answers");
        list.frames.expect("a film has frames").entries.len()
    };
    let mut group = c.benchmark_group("window of 100 frames");
    group.throughput(Throughput::Elements(100));
    group.bench_function("by time", |b| b.iter(|| ask(Window::Time { start: 11.2, end: 14.5 })));
    group.bench_function("by frames", |b| b.iter(|| ask(Window::Frames { first: 336, last: 435 })));
    group.finish();
}

criterion_group!(benches, entries, windows);
criterion_main!(benches);
