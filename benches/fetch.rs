//! Bytes per second end to end: `braidcast get` from 1 and 3 server processes on loopback, process start included,
//! every packet and every extent verified, to `/dev/null`.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use tempfile::TempDir;

const FILE_BYTES: u64 = 512 * 1024 * 1024;
const NAME: &str = "film.bin";

/// A master and servers that run until this is dropped.
struct Dev {
    child: Child,
    profile: PathBuf,
    _folder: TempDir,
}

impl Dev {
    fn start(servers: usize) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let films = folder.path().join("films");
        let state = folder.path().join("state");
        std::fs::create_dir(&films).expect("an empty folder");
        write_film(&films.join(NAME));
        let mut child = Command::new(braidcast())
            .arg("dev")
            .arg(&films)
            .args(["--servers", &servers.to_string(), "--state"])
            .arg(&state)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the braidcast command; `make bench` builds it");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        let ready = out.lines().map_while(Result::ok).any(|line| line.starts_with("ready"));
        assert!(ready, "dev ended before it was ready");
        Self { child, profile: state.join("profile.toml"), _folder: folder }
    }

    fn fetch(&self) {
        let status = Command::new(braidcast())
            .args(["get", NAME, "-o", "/dev/null", "--profile"])
            .arg(&self.profile)
            .stderr(Stdio::inherit())
            .status()
            .expect("the braidcast command");
        assert!(status.success(), "get failed: {status}");
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        // Closing politely lets dev end its parts; a dev that is gone already needs nothing.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
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

fn braidcast() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/braidcast")
}

fn fetch(c: &mut Criterion) {
    let mut group = c.benchmark_group("fetch");
    group
        .throughput(Throughput::Bytes(FILE_BYTES))
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));
    for servers in [1, 3] {
        let dev = Dev::start(servers);
        group.bench_with_input(BenchmarkId::new("servers", servers), &dev, |b, dev| b.iter(|| dev.fetch()));
    }
    group.finish();
}

criterion_group!(benches, fetch);
criterion_main!(benches);
