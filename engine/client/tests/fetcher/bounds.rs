//! What a fetcher holds at most, and what a seek drops.

use std::time::Duration;

use braidcast_client::fetcher::Notice;
use braidcast_media::ExtentNo;

use crate::asset::Asset;
use crate::world::{Checking, DELAY, EXTENTS_MAX, World};

#[test]
fn no_more_is_asked_for_than_there_are_buffers_however_slow_the_checker_is() {
    let mut world = World::new(Asset::new(10_000_000), 2);
    world.checking = Checking::Never;
    world.begin();
    world.run_for(Duration::from_secs(60));
    assert_eq!((world.unchecked.len(), world.fetcher.buffers()), (EXTENTS_MAX, EXTENTS_MAX));
    assert_eq!(world.in_flight_bytes(), 0);
    assert!(world.failures().is_empty(), "it is not the servers who are slow");
    world.checking = Checking::AtOnce;
    world.download();
}

#[test]
fn buffers_that_a_player_keeps_are_not_used_again_before_they_come_back() {
    let mut world = World::new(Asset::new(10_000_000), 2);
    world.checking = Checking::Lending;
    world.begin();
    world.run_for(Duration::from_secs(60));
    assert_eq!((world.lent.len(), world.fetcher.buffers()), (EXTENTS_MAX, EXTENTS_MAX));
    let buffer = world.lent.pop().expect("six are there");
    world.fetcher.give_back(buffer);
    world.run_for(Duration::from_secs(1));
    assert_eq!((world.given.len(), world.fetcher.buffers()), (EXTENTS_MAX + 1, EXTENTS_MAX));
}

#[test]
fn what_is_abandoned_is_not_taken_when_it_comes_and_the_session_goes_on() {
    let mut world = World::new(Asset::new(10_000_000), 1);
    world.begin();
    world.run_until(|world| world.in_flight_bytes() > 0);
    world.fetcher.abandon(world.now);
    assert_eq!(world.fetcher.buffers(), 0);
    world.run_for(4 * DELAY);
    let snapshot = world.fetcher.snapshot();
    assert!(snapshot.accepted_bytes == 0 && snapshot.unwanted_bytes > 0, "{snapshot:?}");
    assert!(world.given.is_empty() && !world.is_fetched(), "nothing was fetched");

    let first = ExtentNo(20);
    let list = world.list();
    world.fetcher.handle_list(world.now, list);
    world.fetcher.fetch(world.now, [world.asset.jobs_from(first)]);
    world.run_until(World::is_fetched);
    world.given.sort_unstable();
    assert_eq!(world.given, (first.0..world.asset.extents()).map(ExtentNo).collect::<Vec<_>>());
    assert_eq!(world.servers[0].responder.sessions(), 1);
}

#[test]
fn an_extent_that_was_being_checked_when_all_was_abandoned_still_arrives() {
    let mut world = World::new(Asset::new(10_000_000), 1);
    world.checking = Checking::Never;
    world.begin();
    world.run_until(|world| !world.unchecked.is_empty());
    let unchecked = world.unchecked.len();
    world.fetcher.abandon(world.now);
    assert_eq!(world.fetcher.buffers(), unchecked);
    world.checking = Checking::AtOnce;
    world.run_for(4 * DELAY);
    assert_eq!((world.given.len(), world.fetcher.buffers()), (unchecked, 0));
    assert!(!world.notices.iter().any(|notice| matches!(notice, Notice::Fetched)));
}
