//! Pictures per second end to end: a film from 1 and 3 server processes on loopback, verified, decoded and put in order,
//! the opening included; and beside it the same film decoded by FFmpeg alone from the local file, with as many threads.
#![allow(missing_docs, reason = "criterion's macros make public items")]

mod common;
#[path = "common/film.rs"]
mod film;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use braidcast_client::{Control, Profile};
use braidcast_player::{Player, PlayerOptions, Taken};
use common::Dev;
use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

const PICTURES: u64 = 600;
const NAME: &str = "film.mp4";

fn decode_alone(path: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-i"])
        .arg(path)
        .args(["-map", "0:v:0", "-f", "null", "-"])
        .status();
    assert!(status.is_ok_and(|status| status.success()), "ffmpeg decodes");
}

async fn play(control: &Control) -> Player {
    Player::open(control.clone(), NAME, PlayerOptions::default()).await.expect("the film opens")
}

fn play_once(runtime: &Runtime, control: &Control) {
    let player = runtime.block_on(play(control));
    let mut pictures = 0;
    loop {
        match player.take().expect("the film plays") {
            Taken::Picture(_) => pictures += 1,
            Taken::Waiting => player.wait(Duration::from_secs(10)),
            Taken::End => break,
        }
    }
    assert_eq!(pictures, PICTURES);
}

fn first_picture(runtime: &Runtime, control: &Control) {
    let player = runtime.block_on(play(control));
    player.wait(Duration::from_secs(10));
    assert!(matches!(player.take(), Ok(Taken::Picture(_))), "the first picture comes");
}

fn benches(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let local = folder.path().join(NAME);
    film::make(&local);
    let mut group = c.benchmark_group("play");
    group.sampling_mode(SamplingMode::Flat).sample_size(10).measurement_time(Duration::from_secs(10));
    group.throughput(Throughput::Elements(PICTURES));
    group.bench_function("ffmpeg alone", |b| b.iter(|| decode_alone(&local)));
    for servers in [1, 3] {
        let dev = Dev::start(servers, NAME, |path| {
            std::fs::copy(&local, path).expect("room on the disk");
        });
        let profile = Profile::load(dev.profile()).expect("dev wrote it");
        let control = runtime.block_on(Control::connect(&profile)).expect("the master runs");
        group.throughput(Throughput::Elements(PICTURES));
        group.bench_function(BenchmarkId::new("servers", servers), |b| b.iter(|| play_once(&runtime, &control)));
        group.throughput(Throughput::Elements(1));
        let name = BenchmarkId::new("first picture, servers", servers);
        group.bench_function(name, |b| b.iter(|| first_picture(&runtime, &control)));
    }
    group.finish();
}

criterion_group!(play_benches, benches);
criterion_main!(play_benches);
