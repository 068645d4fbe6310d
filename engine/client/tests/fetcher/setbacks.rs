//! Servers that say nothing, lie, move or cannot be reached.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use braidcast_client::fetcher::{FailureKind, FetchError, SourceNo};
use braidcast_media::ExtentNo;
use braidcast_media::layout::{CHUNK_BYTES, EXTENT_BYTES};

use crate::asset::{Asset, host};
use crate::world::{STALL, World};

#[test]
fn a_server_that_never_answers_leaves_its_work_to_the_other() {
    let mut world = World::new(Asset::new(3_000_000), 2);
    world.servers[0].is_silent = true;
    world.begin();
    world.download();
    let snapshot = world.fetcher.snapshot();
    assert_eq!([snapshot.sources[0].bytes, snapshot.sources[1].bytes], [0, 3_000_000]);
}

#[test]
fn a_server_that_goes_silent_leaves_its_work_to_the_other_and_is_reported() {
    let mut world = World::new(Asset::new(80_000_000), 2);
    world.begin();
    world.run_until(|world| world.given.len() > 10);
    world.servers[0].is_silent = true;
    world.download();
    assert_eq!(world.failures(), [("s0".to_owned(), FailureKind::Silent)]);
    let snapshot = world.fetcher.snapshot();
    assert!(snapshot.sources[0].ever_failed && !snapshot.sources[1].ever_failed);
    assert_eq!(snapshot.unwanted_bytes, 0, "nothing comes twice");
}

/// Mechanism: what a silent server had been asked for last was asked of others only after a time-out of 200 ms at least,
/// though they had nothing else to do.
#[test]
fn what_a_silent_server_is_late_with_comes_from_another_before_the_time_out() {
    let time_with_silent = |silent: &[usize]| {
        let mut world = World::new(Asset::new(40 * EXTENT_BYTES), 3);
        world.begin();
        world.run_until(|world| world.given.len() >= 37);
        silent.iter().for_each(|&number| world.servers[number].is_silent = true);
        let silent_since = world.elapsed();
        world.download();
        world.elapsed() - silent_since
    };
    // Two that are silent at a time must not be each other's help.
    for silent in [&[0][..], &[1], &[0, 1], &[1, 2]] {
        let took = time_with_silent(silent);
        assert!(took < Duration::from_millis(200), "{took:?} with {silent:?} silent");
    }
}

#[test]
fn a_server_whose_port_is_closed_is_left_at_once_and_tried_again_later() {
    let mut world = World::new(Asset::new(20_000_000), 2);
    world.begin();
    world.run_until(|world| world.given.len() > 10);
    world.fetcher.on_path_error(world.now, SourceNo(0), FailureKind::Refused, "the port is closed".to_owned());
    assert_eq!(world.fetcher.snapshot().sources[0].state, "down");
    assert_eq!(world.fetcher.in_flight_bytes(SourceNo(0)), 0, "all of it is asked of the other");
    world.run_until(|world| world.fetcher.snapshot().sources[0].state == "up");
    world.download();
    assert_eq!(world.failures(), [("s0".to_owned(), FailureKind::Refused)]);
}

#[test]
fn when_nobody_sends_anything_it_is_given_up_in_time_and_each_server_is_named() {
    let mut world = World::new(Asset::new(1_000_000), 2);
    for server in &mut world.servers {
        server.is_silent = true;
    }
    world.begin();
    let error = world.try_run_until(World::is_fetched).expect_err("nobody answers");
    let FetchError::NoSources(sources) = error else { panic!("{error:?}") };
    let named: Vec<&str> = sources.iter().map(|(address, _)| address.as_str()).collect();
    assert_eq!(named, ["192.0.2.0:4000", "192.0.2.1:4000"]);
    assert!((STALL..STALL + Duration::from_secs(1)).contains(&world.elapsed()), "{:?}", world.elapsed());
}

/// Mechanism: lanes that had lost their servers together gave up one after the other, each after a time of its own from
/// when it had taken over what the one before had left.
#[test]
fn what_is_taken_over_from_a_lane_that_left_does_not_put_off_giving_up() {
    let mut world = World::new(Asset::new(80_000_000), 2);
    world.begin();
    world.run_until(|world| world.given.len() > 10);
    for server in &mut world.servers {
        server.is_silent = true;
    }
    let silent_since = world.elapsed();
    world.run_for(STALL * 3 / 4);
    let left = world.asset.jobs_from(ExtentNo(200));
    world.extents_max += 1;
    world.fetcher.take_over(world.now, [left], 1);
    let error = world.try_run_until(World::is_fetched).expect_err("nobody answers");
    assert!(matches!(error, FetchError::NoSources(_)), "{error:?}");
    let took = world.elapsed() - silent_since;
    assert!((STALL..STALL + Duration::from_secs(1)).contains(&took), "{took:?}");
}

#[test]
fn a_server_that_forges_chunks_is_found_out_banned_and_none_of_them_gets_through() {
    let mut world = World::new(Asset::new(5_000_000), 2);
    let mut forged = world.asset.plain.clone();
    for chunk in forged.chunks_mut(3 * CHUNK_BYTES) {
        chunk[0] ^= 1;
    }
    world.add_server(Arc::new(Asset::of(forged)));
    world.begin();
    world.download();
    let snapshot = world.fetcher.snapshot();
    let states: Vec<&str> = snapshot.sources.iter().map(|source| source.state).collect();
    assert_eq!(states, ["up", "up", "banned"]);
    assert_eq!(world.failures(), [("s2".to_owned(), FailureKind::Forged)]);
}

#[test]
fn a_server_that_cannot_be_reached_holds_nobody_up_and_its_number_goes_to_the_next() {
    let mut world = World::new(Asset::new(2_000_000), 3);
    world.out_of_reach = vec![world.servers[0].address];
    world.begin();
    world.download();
    let addresses: Vec<SocketAddr> = world.fetcher.snapshot().sources.iter().map(|source| source.address).collect();
    assert_eq!(addresses, [world.servers[1].address, world.servers[2].address]);
}

#[test]
fn a_server_at_another_address_is_a_new_source_and_the_old_one_is_not_asked_any_more() {
    let mut world = World::new(Asset::new(20_000_000), 1);
    world.begin();
    world.run_until(|world| world.given.len() > 10);
    world.servers[0].is_silent = true;
    world.add_server(Arc::clone(&world.asset));
    let mut list = world.list();
    list.hosts = vec![host("s0", world.servers[1].address)];
    list.ranges.clear();
    world.fetcher.handle_list(world.now, list);
    world.download();
    let snapshot = world.fetcher.snapshot();
    assert_eq!(snapshot.sources.len(), 2);
    assert!(snapshot.sources[1].bytes > 10_000_000);
}
