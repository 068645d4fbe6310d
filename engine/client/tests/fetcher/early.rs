//! What a player is given before its extent is complete, and what follows if it was wrong.

use std::ops::Range;
use std::sync::Arc;

use braidcast_client::fetcher::{EarlyPart, FailureKind, FetchError};
use braidcast_media::ExtentNo;
use braidcast_media::layout::{CHUNK_BYTES, EXTENT_BYTES};

use crate::asset::Asset;
use crate::world::{DELAY, World};

fn part(extent: u32, bytes: Range<usize>) -> EarlyPart {
    EarlyPart { extent: ExtentNo(extent), bytes }
}

/// The file with one byte changed.
fn forged(world: &World, at: usize) -> Arc<Asset> {
    let mut plain = world.asset.plain.clone();
    plain[at] ^= 1;
    Arc::new(Asset::of(plain))
}

#[test]
fn what_a_player_waits_for_comes_after_two_round_trips_long_before_its_extent_is_complete() {
    let mut world = World::new(Asset::new(5_000_000), 1);
    world.fetcher.want_early(vec![part(0, 100..30_000)]);
    world.begin();
    world.run_until(|world| !world.early.is_empty());
    assert_eq!(world.elapsed(), 4 * DELAY, "a greeting, and the first PULL");
    assert!(world.early[0].data == world.asset.plain[100..30_000] && world.given.is_empty());
    world.download();
    assert_eq!(world.early.len(), 1, "it is given once");
}

#[test]
fn what_stands_before_it_in_its_extent_is_asked_for_later() {
    let mut world = World::new(Asset::new(5_000_000), 1);
    world.fetcher.want_early(vec![part(3, EXTENT_BYTES - 20_000..EXTENT_BYTES), part(4, 0..3)]);
    let list = world.list();
    world.fetcher.handle_list(world.now, list);
    world.fetcher.fetch(world.now, [world.asset.jobs_from(ExtentNo(3))]);
    world.run_until(|world| world.early.len() == 2);
    assert_eq!(world.elapsed(), 4 * DELAY);
    world.run_until(World::is_fetched);
    assert!(world.given.contains(&ExtentNo(3)));
}

#[test]
fn what_is_wanted_no_more_or_complete_is_not_given_early() {
    let mut world = World::new(Asset::new(5_000_000), 1);
    world.fetcher.want_early(vec![part(0, 0..EXTENT_BYTES), part(2, 0..1)]);
    world.begin();
    world.run_until(|world| world.given.contains(&ExtentNo(0)));
    world.fetcher.want_early(Vec::new());
    world.download();
    assert!(world.early.iter().all(|piece| piece.part.extent == ExtentNo(2)), "extent 0 came as a whole");
}

#[test]
fn a_player_that_was_given_forged_bytes_is_told_of_it_and_by_whom() {
    let mut world = World::new(Asset::new(5_000_000), 0);
    let forged = forged(&world, 10);
    world.add_server(forged);
    world.fetcher.want_early(vec![part(0, 0..20_000)]);
    world.begin();
    world.run_until(|world| !world.failures().is_empty());
    assert!(world.early[0].data != world.asset.plain[..20_000], "the player has them");
    assert_eq!(world.failures(), [("s0".to_owned(), FailureKind::Forged)], "banned when the extent was complete");
    world.add_server(Arc::clone(&world.asset));
    let list = world.list();
    world.fetcher.handle_list(world.now, list);
    let error = world.try_run_until(World::is_fetched).expect_err("pictures were wrong");
    let FetchError::Misled(servers) = error else { panic!("{error:?}") };
    assert_eq!(servers, ["192.0.2.0:4000"]);
}

#[test]
fn a_forged_extent_of_which_only_right_bytes_were_given_early_does_not_end_the_film() {
    let mut world = World::new(Asset::new(5_000_000), 0);
    let forged = forged(&world, 100 * CHUNK_BYTES);
    world.add_server(forged);
    world.fetcher.want_early(vec![part(0, 0..20_000), part(9, 0..20_000)]);
    world.begin();
    world.run_until(|world| !world.failures().is_empty());
    world.add_server(Arc::clone(&world.asset));
    let list = world.list();
    world.fetcher.handle_list(world.now, list);
    world.download();
    let early: Vec<ExtentNo> = world.early.iter().map(|piece| piece.part.extent).collect();
    assert_eq!(early, [ExtentNo(0)], "after a lie everything waits for its hash");
}
