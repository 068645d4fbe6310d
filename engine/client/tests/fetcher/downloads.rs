//! What comes, from whom, and that it comes the same way again.

use std::time::Duration;

use braidcast_client::fetcher::{FetchError, JobList, Notice};
use braidcast_media::layout::EXTENT_BYTES;
use braidcast_media::{ExtentNo, StreamId};

use crate::asset::Asset;
use crate::world::{Checking, DELAY, EXTENTS_MAX, World};

#[test]
fn a_file_comes_whole_from_two_servers_and_each_gives_a_good_part() {
    let mut world = World::new(Asset::new(5_000_001), 2);
    world.begin();
    world.download();
    let snapshot = world.fetcher.snapshot();
    assert_eq!(snapshot.accepted_bytes, 5_000_001);
    assert_eq!(snapshot.unwanted_bytes, 0);
    assert!(snapshot.sources.iter().all(|source| source.bytes > 1_500_000), "{:?}", snapshot.sources);
    assert!(world.failures().is_empty());
}

#[test]
fn extents_of_another_stream_are_told_and_not_counted_as_written() {
    let mut world = World::new(Asset::new(1_000_000), 1);
    let list = world.list();
    world.fetcher.handle_list(world.now, list);
    world.fetcher.fetch(world.now, [world.asset.list_jobs()]);
    world.run_until(World::is_fetched);
    let told = world.notices.iter().find_map(|notice| match notice {
        Notice::Extent { extent: ExtentNo(0), bytes } => Some(bytes),
        _ => None,
    });
    assert_eq!(told, Some(&world.asset.hashes.concat()));
    assert_eq!(world.fetcher.snapshot().written_bytes, 0);
}

#[test]
fn a_list_that_ends_too_early_is_asked_for_once_and_the_next_one_is_taken_up() {
    let mut world = World::new(Asset::new(3_000_000), 1);
    let whole = world.list();
    let mut short = whole.clone();
    short.ranges.truncate(2);
    world.fetcher.handle_list(world.now, short);
    world.fetcher.fetch(world.now, [world.asset.jobs()]);
    world.run_until(|world| world.given.len() == 2 && world.in_flight_bytes() == 0);
    let wanted: Vec<ExtentNo> = world
        .notices
        .iter()
        .filter_map(|notice| match notice {
            Notice::WantList { first } => Some(*first),
            _ => None,
        })
        .collect();
    assert_eq!(wanted, [ExtentNo(2)]);
    world.fetcher.handle_list(world.now, whole);
    world.download();
}

#[test]
fn jobs_that_are_none_are_fetched_at_once() {
    let mut world = World::new(Asset::new(0), 0);
    world.fetcher.fetch(world.now, [world.asset.jobs()]);
    assert!(matches!(world.fetcher.poll_notice(), Some(Notice::Fetched)));
    assert_eq!(world.fetcher.poll_timeout(), None, "there is neither a source nor anything to fetch");
}

#[test]
fn the_same_seed_and_the_same_input_give_the_same_datagrams_at_the_same_times() {
    let trace = || {
        let mut world = World::new(Asset::new(2_000_000), 3);
        world.servers[1].is_silent = true;
        world.begin();
        world.download();
        (world.elapsed(), world.trace.finalize())
    };
    assert_eq!(trace(), trace());
}

#[test]
fn a_pull_costs_a_client_no_allocation() {
    let mut world = World::without_trace(Asset::new(100_000_000), 2);
    world.begin();
    let written = |bytes| move |world: &World| world.fetcher.snapshot().written_bytes >= bytes;
    // What grows at the start stays as large; rates are remembered for two seconds, which is 55 MB here.
    world.run_until(written(65_000_000));
    world.allocations = 0;
    world.run_until(written(95_000_000));
    assert_eq!(world.allocations, 0, "in 30 MB");
    world.download();
}

#[test]
fn what_comes_before_its_hashes_is_held_back_until_they_are_known() {
    let mut world = World::new(Asset::new(3_000_000), 2);
    let list = world.list();
    world.fetcher.handle_list(world.now, list);
    let stream = *world.asset.layout.stream(StreamId::ORIGINAL).expect("a file");
    world.fetcher.fetch(world.now, [JobList::awaiting_hashes(stream)]);
    world.run_for(Duration::from_secs(2));
    assert_eq!((world.given.len(), world.fetcher.buffers()), (0, EXTENTS_MAX), "as much as there is memory for");
    assert!(!world.is_fetched());
    let hashes = world.asset.hashes.clone().into();
    world.fetcher.set_hashes(StreamId::ORIGINAL, &hashes);
    world.download();
    assert_eq!(world.fetcher.snapshot().accepted_bytes, 3_000_000, "nothing was asked for twice");
}

#[test]
fn what_waits_for_hashes_goes_when_all_is_abandoned() {
    let mut world = World::new(Asset::new(3_000_000), 1);
    let list = world.list();
    world.fetcher.handle_list(world.now, list);
    let stream = *world.asset.layout.stream(StreamId::ORIGINAL).expect("a file");
    world.fetcher.fetch(world.now, [JobList::awaiting_hashes(stream)]);
    world.run_for(Duration::from_secs(2));
    world.fetcher.abandon(world.now);
    assert_eq!(world.fetcher.buffers(), 0);
    world.begin();
    world.download();
}

/// Two fetchers of the same file, with a server each, that share what is to be fetched.
fn two_on_one_list(bytes: usize) -> ([World; 2], JobList) {
    let mut worlds = [(); 2].map(|()| World::new(Asset::new(bytes), 1));
    let jobs = worlds[0].asset.jobs();
    for world in &mut worlds {
        let list = world.list();
        world.fetcher.handle_list(world.now, list);
        world.fetcher.fetch(world.now, [jobs.clone()]);
    }
    (worlds, jobs)
}

/// What seemed to be left when it was told was taken by another before it asked: nothing else would have told the end.
#[test]
fn a_fetcher_that_others_have_left_nothing_to_tells_the_end() {
    let ([mut first, mut second], _) = two_on_one_list(3_000_000);
    first.download();
    second.run_until(World::is_fetched);
    assert_eq!(second.given, []);
    assert!(second.elapsed() < Duration::from_millis(1), "{:?}", second.elapsed());
}

#[test]
fn two_fetchers_share_a_list_and_each_extent_comes_once() {
    let ([mut first, mut second], _) = two_on_one_list(6_000_000);
    // In turns, a round trip at a time.
    while !(first.is_fetched() && second.is_fetched()) {
        for world in [&mut first, &mut second] {
            world.run_for(Duration::from_millis(10));
        }
    }
    assert!(!first.given.is_empty() && !second.given.is_empty());
    let mut given = [first.given, second.given].concat();
    given.sort_unstable();
    assert_eq!(given, (0..first.asset.extents()).map(ExtentNo).collect::<Vec<_>>());
}

/// What a fetcher without hope had taken was lost to the others, and with it the download.
#[test]
fn what_one_that_withdraws_had_taken_is_fetched_by_another() {
    let ([mut first, mut second], jobs) = two_on_one_list(6_000_000);
    first.fetcher.share();
    second.run_for(5 * DELAY);
    second.servers[0].is_silent = true;
    first.run_until(World::is_fetched);
    let error = second.try_run_until(|_| false).expect_err("its only server is silent");
    assert!(matches!(error, FetchError::NoSources(_)), "{error:?}");
    second.fetcher.withdraw(second.now);
    second.run_for(DELAY);
    assert!(second.is_fetched(), "it has nothing to do any more");
    assert_eq!(second.fetcher.buffers(), 0);

    let taken = second.notices.iter().find_map(|notice| match notice {
        Notice::Withdrew { extents } => Some(extents.clone()),
        _ => None,
    });
    let taken = taken.expect("it has told");
    assert!(!taken.is_empty());
    jobs.give_back(&taken);
    first.notices.clear();
    first.extents_max += taken.len();
    first.fetcher.take_over(first.now, [jobs], taken.len());
    first.run_until(World::is_fetched);
    let mut given = [first.given, second.given].concat();
    given.sort_unstable();
    assert_eq!(given, (0..first.asset.extents()).map(ExtentNo).collect::<Vec<_>>());
}

/// Where bytes are written in order, those that wait for what was left took all the room.
#[test]
fn what_is_taken_over_finds_room_where_there_was_none() {
    let mut world = World::new(Asset::new(20 * EXTENT_BYTES), 1);
    world.checking = Checking::Never;
    world.begin();
    world.run_for(Duration::from_secs(2));
    assert_eq!((world.unchecked.len(), world.fetcher.buffers()), (EXTENTS_MAX, EXTENTS_MAX));
    let (jobs, extent) = (world.asset.jobs(), world.unchecked[0].job.key);
    jobs.give_back(&[extent]);
    world.extents_max += 1;
    world.fetcher.take_over(world.now, [jobs], 1);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.unchecked.back().map(|filled| filled.job.key), Some(extent));
}

/// With a short queue the planner sees nobody who is to be helped.
#[test]
fn one_that_shares_takes_more_where_a_source_may_not_take_what_there_is() {
    let mut world = World::begun(Asset::new(40 * EXTENT_BYTES), 2, |config| config.extents_max = 40);
    world.fetcher.share();
    let mut list = world.list();
    list.ranges.iter_mut().for_each(|range| range.hosts = vec![0]);
    world.fetcher.handle_list(world.now, list);
    world.fetcher.fetch(world.now, [world.asset.jobs()]);
    world.run_for(3 * DELAY);
    assert_eq!(world.fetcher.buffers(), 40);
    world.download();
}

/// Lanes that took as much as their windows hold waited for each other's extents where these are written in order.
#[test]
fn one_that_shares_takes_no_more_than_it_asks_for_soon() {
    let taken = |shares: bool| {
        let mut world = World::begun(Asset::new(40 * EXTENT_BYTES), 1, |config| config.extents_max = 40);
        if shares {
            world.fetcher.share();
        }
        world.begin();
        // Long enough to be greeted and to ask.
        world.run_for(3 * DELAY);
        let taken = world.fetcher.buffers();
        world.download();
        taken
    };
    assert_eq!(taken(false), 40);
    // 16, and what is under way: 256 KiB of packets.
    assert!((16..=18).contains(&taken(true)), "{}", taken(true));
}

#[test]
fn one_that_joins_takes_nothing_without_a_source_and_does_not_give_up() {
    let mut world = World::that_joins(Asset::new(3_000_000), 1);
    let jobs = world.asset.jobs();
    let list = world.list();
    world.servers[0].is_silent = true;
    world.fetcher.handle_list(world.now, list);
    world.fetcher.fetch(world.now, [jobs.clone()]);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.fetcher.buffers(), 0);

    let mut other = World::new(Asset::new(3_000_000), 1);
    let list = other.list();
    other.fetcher.handle_list(other.now, list);
    other.fetcher.fetch(other.now, [jobs]);
    other.download();
    world.run_until(World::is_fetched);
}
