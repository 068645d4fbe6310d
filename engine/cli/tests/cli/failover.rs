//! Servers die, freeze and come back while a film is fetched: it arrives as published, and what is told of it is true.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use braidcast_client::control::{Distribution, VideoRef, Window};
use braidcast_proto::v1::{FailedHost, FailureReason};

use crate::support::{
    Client, Dev, DevBuilder, Report, SlowReader, chunks, eventually, hash_list_bytes, missing_chunks, partial_path,
    sha256_of_file, wait_written,
};

const FILM: &str = "film";
const FILM_BYTES: u64 = 50_000_000;
/// KiB/s of each server: with three, 12 MiB/s after a burst of 12 MiB, so that a film lasts about three seconds.
const RATE_KIB_S: &str = "4096";
/// Exit code of a download that no server serves.
const NO_SOURCE: i32 = 5;

#[test]
fn killing_one_of_three_servers_in_the_middle_changes_nothing_of_what_arrives() {
    survives_the_loss_of(&[2], Dev::kill_server);
}

#[test]
fn killing_two_of_three_servers_in_the_middle_changes_nothing_of_what_arrives() {
    survives_the_loss_of(&[1, 3], Dev::kill_server);
}

#[test]
fn freezing_one_of_three_servers_in_the_middle_changes_nothing_of_what_arrives() {
    survives_the_loss_of(&[3], Dev::freeze_server);
}

fn survives_the_loss_of(victims: &[usize], lose: fn(&Dev, usize)) {
    let dev = slow_dev().start();
    let copy = dev.path("copy");
    let mut running = dev.client().get(FILM).to(&copy).start();
    wait_written(&copy, FILM_BYTES / 2);
    running.hold();
    for &victim in victims {
        lose(&dev, victim);
    }
    running.go_on();
    let report = running.wait().report();
    check_whole(&dev, &report, &copy);
    let lost = dev.addresses(victims);
    assert_eq!(report.failed(), lost, "{report:?}");
    assert!(report.redistributions >= 1, "{report:?}");
    check_named_by_no_range(&list(dev.client()), &lost);
}

#[test]
fn a_reported_server_is_in_no_new_list_of_the_reporter_and_in_those_of_everybody_else() {
    let dev = Dev::of([(FILM, 20_000_000)]).start();
    let (reporter, other) = (dev.client(), dev.client().add_viewer("ada"));
    let everybody = dev.addresses(&[1, 2, 3]);
    assert_eq!(hosts(&list(reporter)), everybody);

    let one = dev.addresses(&[1]);
    check_named_by_no_range(&report_failed(reporter, &one), &one);
    check_named_by_no_range(&list(reporter), &one);
    let two = dev.addresses(&[1, 2]);
    check_named_by_no_range(&report_failed(reporter, &dev.addresses(&[2])), &two);
    assert_eq!(hosts(&list(&other)), everybody, "a report changes the reporter's lists only");

    let all = report_failed(reporter, &dev.addresses(&[3]));
    assert_eq!(hosts(&all), everybody, "nobody else holds it: better a doubtful host than none");
}

#[test]
fn with_all_servers_dead_get_says_so_and_goes_on_when_they_are_back() {
    let mut dev = slow_dev().start();
    let copy = dev.path("copy");
    let mut running = dev.client().get(FILM).to(&copy).start();
    wait_written(&copy, FILM_BYTES / 2);
    running.hold();
    for victim in 1..=3 {
        dev.kill_server(victim);
    }
    running.go_on();
    // How soon it gives up is asserted in virtual time (`client/tests/fetcher/setbacks.rs`).
    let ended = running.wait();
    let said = ended.failure(NO_SOURCE);
    for address in dev.addresses(&[1, 2, 3]) {
        assert!(said.contains(&address.to_string()), "{address} is not named: {said}");
    }
    assert!(!copy.exists() && partial_path(&copy).exists(), "the partial file is kept as such");
    let missing = missing_chunks(&partial_path(&copy), &dev.original(FILM));
    assert!((1..chunks(FILM_BYTES)).contains(&missing), "they were killed in the middle: {missing}");

    for victim in 1..=3 {
        dev.restart_server(victim);
    }
    dev.client().wait_held(FILM, 3);
    let before: u64 = dev.client().sent_bytes().values().sum();
    let report = dev.client().get(FILM).to(&copy).finish().report();
    let after: u64 = dev.client().sent_bytes().values().sum();
    assert!(report.verified && report.bytes == FILM_BYTES, "{report:?}");
    assert_eq!(sha256_of_file(&copy), dev.film(FILM).sha256);
    report.check_sent(missing, after - before);
}

#[test]
fn what_a_thawed_server_sends_late_is_counted_as_redundant() {
    let dev = Dev::of([(FILM, FILM_BYTES)]).flag("--rate", "2048").start();
    let copy = dev.path("copy");
    let mut running = dev.client().get(FILM).to(&copy).start();
    wait_written(&copy, FILM_BYTES / 2);
    dev.freeze_server(2);
    let frozen = dev.addresses(&[2]);
    eventually("the frozen server is reported", || (!hosts(&list(dev.client())).contains(&frozen[0])).then_some(()));
    running.hold();
    // What it was asked for has waited in its socket. It sends that now, while the download is held in its middle.
    dev.thaw_server(2);
    eventually("the master has heard of all that it sent", || dev.servers_are_listed().then_some(()));
    dev.client().sent_bytes();
    running.go_on();
    let report = running.wait().report();
    check_whole(&dev, &report, &copy);
    assert_eq!(report.failed(), frozen, "{report:?}");
    assert!(report.redistributions >= 1, "{report:?}");
    let sent: u64 = dev.client().sent_bytes().values().sum();
    report.check_sent(chunks(FILM_BYTES), sent);
    assert!(report.redundant_bytes > 0, "{report:?}");
}

#[test]
fn a_ticket_that_expires_during_a_download_is_renewed_unnoticed() {
    const LIFETIME: Duration = Duration::from_secs(2);
    /// Eight seconds, however fast the servers are.
    const READER_BYTES_PER_S: u64 = FILM_BYTES / 8;
    let dev = Dev::of([(FILM, FILM_BYTES)]).flag("--ticket-lifetime", "2s").flag("--clock-skew", "0s").start();
    let mut running = dev.client().get(FILM).piped().start();
    let reader = SlowReader::start(running.take_stdout(), READER_BYTES_PER_S);
    let ended = running.wait();
    assert!(ended.elapsed > LIFETIME * 3, "it lasts for more than one ticket's life: {:?}", ended.elapsed);
    assert_eq!(reader.finish(), (FILM_BYTES, dev.film(FILM).sha256.clone()));
    let report = ended.report();
    assert!(report.verified, "{report:?}");
    assert_eq!((report.failed(), report.redistributions), (vec![], 0), "{report:?}");
}

fn slow_dev() -> DevBuilder {
    Dev::of([(FILM, FILM_BYTES)]).flag("--rate", RATE_KIB_S)
}

fn check_whole(dev: &Dev, report: &Report, copy: &Path) {
    assert!(report.verified && report.bytes == FILM_BYTES, "{report:?}");
    assert_eq!(report.source_bytes(), FILM_BYTES + hash_list_bytes(FILM_BYTES), "{report:?}");
    assert_eq!(sha256_of_file(copy), dev.film(FILM).sha256);
}

/// Who holds what, as the master tells `client` now.
fn list(client: &Client) -> Distribution {
    client
        .ask(async |control| control.distribution(VideoRef::Name(FILM), Window::ALL).await.expect("somebody holds it"))
}

/// Reports that these servers are silent, and gives the new list.
fn report_failed(client: &Client, addresses: &[SocketAddr]) -> Distribution {
    let failed = addresses.iter().map(|address| FailedHost {
        server_id: client.server_id(*address),
        reason: FailureReason::Silent.into(),
        failed_parts: 3,
        last_good_ms: 1_000,
        ..FailedHost::default()
    });
    let failed = failed.collect();
    let asset = list(client).asset;
    client.ask(async |control| control.redistribute(asset, Window::ALL, failed).await.expect("others hold it"))
}

/// Addresses of all hosts that a list names for some range, sorted.
fn hosts(list: &Distribution) -> Vec<SocketAddr> {
    let places = list.ranges.iter().flat_map(|range| &range.hosts);
    let mut hosts: Vec<_> = places.map(|&place| list.hosts[place].address).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

fn check_named_by_no_range(list: &Distribution, dead: &[SocketAddr]) {
    let named = hosts(list);
    assert!(
        !named.is_empty() && dead.iter().all(|address| !named.contains(address)),
        "{named:?} names one of {dead:?}"
    );
}
