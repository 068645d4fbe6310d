//! Worlds as a whole: one seed gives one run, and clients get what was published.

use std::time::Duration;

use braidcast_sim::asset::Asset;
use braidcast_sim::client::{ClientConfig, Violation};
use braidcast_sim::link::LinkConfig;
use braidcast_sim::world::World;

const MBIT: u64 = 1_000_000;

/// One client and one server on a link of 100 Mbit/s and 50 ms with some of every fault.
fn download(seed: u64, bytes: u64) -> (World, Result<(), Violation>) {
    let mut world = World::new(seed, Asset::new(bytes));
    let (client, server) = (world.add_client(ClientConfig::default()), world.add_server());
    let up = LinkConfig { delay: Duration::from_millis(25), loss: 0.01, ..LinkConfig::default() };
    let down = LinkConfig {
        rate_bit_s: Some(100 * MBIT),
        queue_bytes: Some(625_000),
        reordering: 0.01,
        reordering_delay: Duration::from_millis(3),
        duplication: 0.01,
        corruption: 0.01,
        ..up
    };
    let path = world.add_path(down, up);
    world.connect(server, client, &[path]);
    let result = world.run_until_done(Duration::from_secs(60));
    (world, result)
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_a_different_one() {
    let hash = |seed| {
        let (world, result) = download(seed, 5_000_000);
        result.map(|()| world.trace_hash())
    };
    assert_eq!(hash(1), hash(1));
    assert_ne!(hash(1), hash(2));
}

#[test]
fn a_download_over_a_link_with_every_fault_gets_all() {
    let (world, result) = download(3, 20_000_001);
    assert_eq!(result, Ok(()));
    assert!(world.client(0).accepted_bytes() >= 20_000_001);
    println!("{:?} {:?}", world.client(0).done_at(), world.client(0).fetcher().snapshot());
}
