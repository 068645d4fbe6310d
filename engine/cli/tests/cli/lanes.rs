//! A download by several threads, each with sessions and extents of its own, is a download like any other.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use crate::support::proxy::{Faults, Proxy};
use crate::support::{
    Cluster, Dev, DevBuilder, SlowReader, chunks, eventually, hash_list_bytes, missing_chunks, partial_path,
    sha256_of_file, wait_written, write_film,
};

/// Exit code of `get` where nobody serves.
const NO_SOURCE: i32 = 5;
const FILM: &str = "film";
const FILM_BYTES: u64 = 50_000_000;
/// KiB/s of each session: two lanes at three servers have 12 MiB/s after a burst of 12 MiB.
const RATE_KIB_S: &str = "2048";

fn slow_dev() -> DevBuilder {
    Dev::of([(FILM, FILM_BYTES)]).flag("--rate", RATE_KIB_S)
}

#[test]
fn each_chunk_comes_once_by_whichever_lane_and_the_report_adds_them_up() {
    let dev = Dev::of([(FILM, FILM_BYTES)]).start();
    let mut sent_before = 0;
    for lanes in ["1", "2", "5"] {
        let copy = dev.path(lanes);
        let report = dev.client().get(FILM).flag("--lanes", lanes).to(&copy).finish().report();
        assert!(report.verified && report.redistributions == 0, "{report:?}");
        assert_eq!(report.sources.len(), 3, "{report:?}");
        assert_eq!(report.source_bytes(), FILM_BYTES + hash_list_bytes(FILM_BYTES), "{report:?}");
        assert_eq!(sha256_of_file(&copy), dev.film(FILM).sha256, "{lanes} lanes");
        let sent: u64 = dev.client().sent_bytes().values().sum();
        report.check_sent(chunks(FILM_BYTES), sent - sent_before);
        sent_before = sent;
    }
}

#[test]
fn standard_output_gets_what_several_lanes_fetch_in_order() {
    let dev = Dev::of([(FILM, FILM_BYTES)]).start();
    let mut running = dev.client().get(FILM).flag("--lanes", "3").piped().start();
    let reader = SlowReader::start(running.take_stdout(), 40_000_000);
    let report = running.wait().report();
    assert_eq!(reader.finish(), (FILM_BYTES, dev.film(FILM).sha256.clone()));
    assert!(report.verified, "{report:?}");
    assert_eq!(report.source_bytes(), FILM_BYTES + hash_list_bytes(FILM_BYTES), "{report:?}");
}

#[test]
fn all_lanes_move_away_from_a_server_that_dies() {
    let dev = slow_dev().start();
    let copy = dev.path("copy");
    let mut running = dev.client().get(FILM).flag("--lanes", "2").to(&copy).start();
    wait_written(&copy, FILM_BYTES / 2);
    running.hold();
    dev.kill_server(2);
    running.go_on();
    let report = running.wait().report();
    assert!(report.verified && report.redistributions >= 1, "{report:?}");
    assert_eq!(report.failed(), dev.addresses(&[2]), "{report:?}");
    assert_eq!(sha256_of_file(&copy), dev.film(FILM).sha256);
}

/// A lane that lost all its servers had the download fail, though another went on. What comes after its part fills all
/// the memory of the other by then, because it is written in order.
#[test]
fn what_a_lane_that_is_cut_off_had_taken_is_fetched_by_the_other() {
    /// More than 160 extents in 10 s.
    const RATE_KIB_S: &str = "8192";
    const BYTES: u64 = 100_000_000;
    let proxy = Proxy::start(1, Faults::NONE);
    let mut cluster = Cluster::start(&[]);
    let flags = ["--shards", "1", "--rate", RATE_KIB_S, "--advertise", &proxy.address().to_string()];
    proxy.connect(cluster.add_server(&flags));
    cluster.wait_listed(1);
    let film = cluster.path(FILM);
    let sha256 = write_film(&film, BYTES, 1);
    cluster.publish(&film, FILM, 1);
    let mut running = cluster.client().get(FILM).flag("--lanes", "2").piped().start();
    let reader = SlowReader::start(running.take_stdout(), BYTES);
    eventually("both lanes fetch", || (proxy.receivers() == 2).then_some(()));
    proxy.cut_one_receiver();
    assert!(!running.has_ended(), "the download is not over yet");
    let report = running.wait().report();
    assert!(report.verified, "{report:?}");
    assert_eq!(reader.finish(), (BYTES, sha256));
}

/// That they do so together, and not one after the other, is asserted in virtual time (`client/tests/fetcher/setbacks.rs`).
#[test]
fn lanes_that_have_all_lost_their_servers_give_up() {
    let dev = Dev::of([(FILM, FILM_BYTES)]).servers(1).flag("--rate", RATE_KIB_S).start();
    let copy = dev.path("copy");
    let running = dev.client().get(FILM).flag("--lanes", "4").to(&copy).start();
    wait_written(&copy, 0);
    dev.kill_server(1);
    running.wait().failure(NO_SOURCE);
}

#[test]
fn what_several_lanes_have_fetched_is_taken_up_again() {
    let dev = slow_dev().start();
    let copy = dev.path("copy");
    let running = dev.client().get(FILM).flag("--lanes", "2").to(&copy).start();
    wait_written(&copy, FILM_BYTES / 2);
    running.kill();
    // Each lane has its own part of the film under way, so how much was written is not told by how far.
    let missing = missing_chunks(&partial_path(&copy), &dev.original(FILM));
    assert!((1..chunks(FILM_BYTES)).contains(&missing), "it was killed in the middle: {missing}");
    let before: u64 = dev.client().sent_bytes().values().sum();
    let report = dev.client().get(FILM).flag("--lanes", "2").to(&copy).finish().report();
    let after: u64 = dev.client().sent_bytes().values().sum();
    assert!(report.verified, "{report:?}");
    report.check_sent(missing, after - before);
    assert_eq!(sha256_of_file(&copy), dev.film(FILM).sha256);
}

#[test]
fn what_was_fetched_with_packets_alone_verified_is_hashed_when_it_is_taken_up_again() {
    let dev = slow_dev().start();
    let copy = dev.path("copy");
    let running = dev.client().get(FILM).flag("--verify", "packets").to(&copy).start();
    wait_written(&copy, FILM_BYTES / 2);
    running.kill();
    let partial = partial_path(&copy);
    let missing = missing_chunks(&partial, &dev.original(FILM));
    assert!((1..chunks(FILM_BYTES)).contains(&missing), "it was killed in the middle: {missing}");
    let written = File::options().write(true).open(&partial).expect("it stays");
    written.write_all_at(b"forged", FILM_BYTES / 2).expect("writable");
    let report = dev.client().get(FILM).to(&copy).finish().report();
    assert!(report.verified, "{report:?}");
    assert_eq!(sha256_of_file(&copy), dev.film(FILM).sha256);
}

#[test]
fn a_bound_on_the_rate_holds_for_all_lanes_together() {
    const BYTES: u64 = 6_000_000;
    const RATE_MIB_S: u64 = 2;
    let dev = Dev::of([(FILM, BYTES)]).start();
    let get = dev.client().get(FILM).flag("--lanes", "4").flag("--max-rate", format!("{RATE_MIB_S}MiB"));
    let ended = get.to(&dev.path("copy")).finish();
    let at_that_rate = Duration::from_secs_f64(BYTES as f64 / (RATE_MIB_S << 20) as f64);
    // A second for what is under way before the bound is known to all sources.
    assert!(ended.elapsed > at_that_rate - Duration::from_secs(1), "{:?}", ended.elapsed);
    assert!(ended.report().verified);
}
