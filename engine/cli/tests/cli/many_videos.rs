//! A media server holds far more videos than a process may have files, and serves all of them, also after a restart.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use braidcast_client::Control;
use braidcast_client::download::{DownloadOptions, Target, download};
use braidcast_media::chunk::ContentKey;
use braidcast_media::pack::PackWriter;
use braidcast_media::seal::{FileSealer, Sealed};
use braidcast_media::{AssetId, hashes};
use nix::sys::resource::{Resource, getrlimit};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};

use crate::support::{Cluster, cpu_time, rss_kib, skip};

const FILES_MAX: usize = 1_024;
/// A limit at which 1,500 packs, 1,024 connections and the rest fit.
const ENOUGH_FOR_ALL: u64 = 4_096;
/// How long anything is waited for here: many processes may share the machine's disk.
const PATIENCE: Duration = Duration::from_secs(600);
/// Threads that write packs: each waits for the disk most of the time.
const WRITERS: u64 = 16;
/// Downloads at a time.
const DOWNLOADS: usize = 8;
/// How long the master is watched at rest.
const REST: Duration = Duration::from_secs(5);

#[test]
fn ten_thousand_videos_are_all_served_after_a_restart_by_a_server_that_may_have_1024_files() {
    // Every sixteenth is fetched: more than can be open at a time.
    let descriptors_max = serves_all(10_000, 16, &format!("-n {FILES_MAX}"));
    assert!(descriptors_max < FILES_MAX, "{descriptors_max} descriptors of {FILES_MAX}");
}

#[test]
fn a_server_raises_its_usual_limit_to_what_it_may_have() {
    const VIDEOS: u64 = 1_500;
    let hard = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit").1;
    let descriptors_max = serves_all(VIDEOS, 1, &format!("-S -n {FILES_MAX}"));
    assert!(descriptors_max as u64 <= hard);
    if hard < ENOUGH_FOR_ALL {
        return skip(&format!("only {hard} files may be open here"));
    }
    assert!(descriptors_max as u64 > VIDEOS, "all packs stay open that were asked for: {descriptors_max} descriptors");
}

/// Has a server under `ulimit` hold a library of small videos, and fetches every `step`th after a restart. Gives the
/// most descriptors that the server was seen with.
fn serves_all(videos: u64, step: usize, ulimit: &str) -> usize {
    let mut cluster = Cluster::start(&[]);
    let mut phases = Phases::start();
    cluster.restart_master(|state| write_library(state, videos));
    phases.end("packs and rows written, master restarted");
    cluster.add_server_under(ulimit);
    wait_all_held(&cluster, videos);
    phases.end("all filled");
    cluster.restart_server_under(1, ulimit);
    phases.end("server restarted");
    wait_all_held(&cluster, videos);
    phases.end("all listed again");
    let pid = cluster.server(1).pid();
    let sample: Vec<u64> = (0..videos).step_by(step).collect();
    let descriptors_max = fetch(&cluster, &sample, || descriptors(pid));
    phases.end(&format!("{} videos fetched", sample.len()));
    let master = cluster.master().pid();
    let before = cpu_time(master);
    std::thread::sleep(REST);
    let busy = cpu_time(master) - before;
    eprintln!(
        "{videos} videos: server {} KiB and at most {descriptors_max} descriptors, master {} KiB and {:.2}% of a core at rest",
        rss_kib(pid).unwrap_or(0),
        rss_kib(master).unwrap_or(0),
        100.0 * busy.as_secs_f64() / REST.as_secs_f64(),
    );
    phases.end("watched at rest");
    let damage = ["damaged", "rotten", "ruined"];
    let said = cluster.server(1).stderr();
    assert!(!damage.iter().any(|word| said.contains(word)), "no pack is taken for a damaged one: {said}");
    drop(cluster);
    phases.end("ended and removed");
    descriptors_max
}

/// Prints how long each part took.
struct Phases(Instant);

impl Phases {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn end(&mut self, what: &str) {
        eprintln!("{what}: {:.1} s", self.0.elapsed().as_secs_f64());
        self.0 = Instant::now();
    }
}

/// Writes packs into the origin and rows into the catalogue of a master that does not run.
fn write_library(state: &Path, videos: u64) {
    let origin = state.join("origin");
    let rows: Vec<Row> = std::thread::scope(|scope| {
        let write = |first: u64| (first..videos).step_by(WRITERS as usize).map(|number| write_pack(&origin, number));
        let writers: Vec<_> = (0..WRITERS).map(|first| scope.spawn(move || write(first).collect::<Vec<_>>())).collect();
        writers.into_iter().flat_map(|writer| writer.join().expect("the origin takes packs")).collect()
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(state.join("master.db"));
        let pool = SqlitePool::connect_with(options).await.expect("the master's database");
        let mut transaction = pool.begin().await.expect("nobody else uses it");
        for row in rows {
            sqlx::query(
                "INSERT INTO assets (asset, name, content_key, bytes, header_hash, plain_roots, replicas, published_at)
                 VALUES (?, ?, ?, ?, ?, ?, 0, 1700000000)",
            )
            .bind(row.asset.0.cast_signed())
            .bind(name(row.number))
            .bind(&row.key.expose()[..])
            .bind(content(row.number).len() as i64)
            .bind(&row.header_hash[..])
            .bind(row.plain_roots)
            .execute(&mut *transaction)
            .await
            .expect("a row");
        }
        transaction.commit().await.expect("writable");
        pool.close().await;
    });
}

/// What the catalogue knows of a video.
struct Row {
    number: u64,
    asset: AssetId,
    key: ContentKey,
    header_hash: hashes::Hash,
    plain_roots: Vec<u8>,
}

fn write_pack(origin: &Path, number: u64) -> Row {
    let asset = AssetId((number + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let key = ContentKey::new(u128::from(number).to_le_bytes());
    let content = content(number);
    let mut sealer = FileSealer::new(&content[..], content.len() as u64, &key, asset).expect("a short file");
    let path = origin.join(format!("{asset}.pack"));
    let mut writer = PackWriter::create(&path, asset, sealer.layout().clone()).expect("writable");
    let mut sealed = Vec::new();
    while let Some(extent) = sealer.next_extent(&mut sealed).expect("it is as long as it was said to be") {
        writer.write_extent(extent, &sealed).expect("writable");
    }
    let Sealed { header, plain_roots } = sealer.finish().expect("it is as long as it was said to be");
    let header = header.to_bytes();
    writer.finish(&header).expect("whole");
    Row { number, asset, key, header_hash: hashes::hash(&header), plain_roots }
}

fn name(number: u64) -> String {
    format!("video {number:05}.bin")
}

/// One to three chunks that no other video has.
fn content(number: u64) -> Vec<u8> {
    let words = (0..25 + number % 400).map(|word| (number << 32 | word).to_le_bytes());
    words.flatten().collect()
}

/// Waits until the one server is listed and holds all videos.
fn wait_all_held(cluster: &Cluster, videos: u64) {
    let give_up = Instant::now() + PATIENCE;
    cluster.client().ask(async |control| {
        loop {
            let servers = control.list_servers().await.expect("the master lists servers");
            if servers.iter().any(|server| server.listed && u64::from(server.assets_held) == videos) {
                return;
            }
            assert!(Instant::now() < give_up, "all videos are held: {servers:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });
    let listed = cluster.client().ask(async |control| control.list_videos().await.expect("the master lists videos"));
    assert_eq!(listed.len() as u64, videos);
    assert!(listed.iter().all(|video| video.replicas_held == 1), "each of them is held");
}

/// Fetches videos, some at a time, and compares their bytes; gives the largest of the numbers that `watch` gave meanwhile.
fn fetch(cluster: &Cluster, sample: &[u64], watch: impl Fn() -> usize) -> usize {
    let dir = cluster.path("copies");
    fs::create_dir(&dir).expect("writable");
    cluster.client().ask(async |control| {
        let mut watched = watch();
        for videos in sample.chunks(DOWNLOADS) {
            let downloads = videos.iter().map(|number| tokio::spawn(fetch_one(control.clone(), dir.clone(), *number)));
            for download in downloads.collect::<Vec<_>>() {
                download.await.expect("it comes back as it was published");
            }
            watched = watched.max(watch());
        }
        watched
    })
}

async fn fetch_one(control: Control, dir: std::path::PathBuf, number: u64) {
    let (name, copy) = (name(number), dir.join(number.to_string()));
    let target = Target::Path(copy.clone());
    let report = download(control, &name, target, DownloadOptions::default(), |_| {}).await;
    let report = report.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert!(report.verified, "{report:?}");
    assert!(fs::read(&copy).expect("the copy") == content(number), "{name}");
    fs::remove_file(&copy).expect("its folder is the test's own");
}

fn descriptors(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).expect("it runs").count()
}
