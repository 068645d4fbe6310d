//! Whole films over good links and bad ones.

use std::time::Duration;

use braidcast_media::layout::PACKET_BYTES;
use braidcast_transport::puller::{Counters, Event, Loss};

use crate::asset::PassFor;
use crate::link::{Faults, Link};
use crate::world::{DELAY, Setting, World};

const PULL: u8 = 0x13;

#[test]
fn a_perfect_link_carries_every_byte_once() {
    for bytes in [1, 1_200, 1_201, 62_400, 62_401, 307_201, 2_000_001] {
        let mut world = World::new(Setting { bytes, ..Setting::default() });
        world.download();
        let counters = Counters { accepted_bytes: bytes as u64, ..Counters::default() };
        assert_eq!(*world.puller.counters(), counters, "{bytes} bytes");
        assert_eq!(world.events.iter().map(|(_, event)| event).collect::<Vec<_>>(), [&Event::Opened]);
        let trains = u64::from(world.asset.chunks()).div_ceil(52);
        assert_eq!(world.up.sent_of_kind[&PULL], trains);
        assert_eq!(world.responder.counters().pulls, trains);
    }
}

#[test]
fn the_window_and_the_round_trip_set_the_pace() {
    let trains_in_flight = 4;
    let window_bytes = trains_in_flight * 52 * PACKET_BYTES as u64;
    let mut world = World::new(Setting { window_bytes, bytes: 40 * 52 * 1_200, ..Setting::default() });
    world.download();
    // One round trip for the handshake and one for each windowful.
    assert_eq!(world.elapsed(), 2 * DELAY * (1 + 40 / trains_in_flight as u32));
    assert_eq!(world.puller.rtt(), Some(2 * DELAY));
}

#[test]
fn the_round_trip_leaves_out_what_the_server_held_back() {
    let mut world = World::new(Setting { service_time: Duration::from_millis(35), ..Setting::default() });
    world.download();
    world.run_for(Duration::from_millis(50));
    assert_eq!(world.puller.rtt(), Some(2 * DELAY));
}

/// A link that nobody would want.
const BAD: Faults = Faults { loss: 5, duplication: 5, reordering: 5, corruption: 5 };

#[test]
fn five_percent_of_every_fault_both_ways_spoils_no_byte() {
    for seed in 0..12 {
        let mut world = World::new(Setting { seed, faults: BAD, bytes: 3_000_001, ..Setting::default() });
        world.download();
        let counters = world.puller.counters();
        assert_eq!(counters.accepted_bytes, 3_000_001, "seed {seed}");
        assert!(counters.lost_chunks > 0 && counters.rejected > 0, "seed {seed}: {counters:?}");
        // What comes in vain is what the link delivered twice, and chunks that were given up a little too early:
        // at most one in a hundred.
        let in_vain = counters.unwanted_bytes.saturating_sub(world.down.duplicated_bytes);
        assert!(in_vain <= 3_000_001 / 100, "seed {seed}: {in_vain} bytes came in vain, {counters:?}");
        assert!(world.elapsed() < Duration::from_secs(20), "seed {seed}: {:?}", world.elapsed());
    }
}

/// Mechanism: a PULL that three later ones had overtaken was given up at once, and patience was measured before the
/// first round trip was known; either had whole trains sent twice.
#[test]
fn packets_that_overtake_each_other_are_not_taken_for_lost() {
    let reordered = |seed| Link::new(DELAY, Faults { reordering: 30, ..Faults::default() }, seed);
    for seed in 0..4 {
        for upwards in [true, false] {
            let mut world = World::new(Setting::default());
            let link = if upwards { &mut world.up } else { &mut world.down };
            *link = reordered(seed);
            world.download();
            let counters = world.puller.counters();
            assert_eq!((counters.lost_chunks, counters.unwanted_bytes), (0, 0), "seed {seed}, upwards: {upwards}");
        }
    }
}

#[test]
fn half_of_all_packets_lost_is_slow_and_right() {
    let faults = Faults { loss: 50, ..Faults::default() };
    World::new(Setting { faults, bytes: 600_001, ..Setting::default() }).download();
}

#[test]
fn holes_are_told_and_all_else_is_fetched() {
    let mut world = World::new(Setting { bytes: 480_000, ..Setting::default() });
    world.holes = (0..400).filter(|n| n % 7 == 0 || (100..230).contains(n)).collect();
    let missing = world.holes.len();
    world.run_until(|world| world.chunks_had() == 400 - missing);
    let mut told = std::collections::BTreeSet::new();
    for (_, event) in &world.events {
        match event {
            Event::Lost { runs, why, .. } => {
                assert_eq!(*why, Loss::NotHeld);
                told.extend(runs.iter().flat_map(|run| run.chunks()).map(|chunk| chunk.0));
            }
            other => assert_eq!(*other, Event::Opened),
        }
    }
    assert_eq!(told, world.holes);
    assert_eq!(world.puller.counters().lost_chunks, 0, "a hole is no loss");
}

/// Mechanism: the client kept 2 MiB in flight whatever the server granted, so nearly all PULLs of a session with a
/// low rate were refused and asked again at once.
#[test]
fn a_session_with_a_rate_is_pulled_at_that_rate_without_a_storm_of_refusals() {
    let pass = PassFor { rate_kib_s: 1_000, ..PassFor::number(1) };
    let mut world = World::new(Setting { pass, bytes: 5_120_000, window_bytes: 2 << 20, ..Setting::default() });
    world.download();
    // 5,256,534 bytes of packets at 1,024,000 a second, the first second's worth at once.
    let seconds = world.elapsed().as_secs_f64();
    assert!((3.9..6.0).contains(&seconds), "{seconds} s");
    // 4 ms at that rate are 3 chunks.
    let needed = u64::from(world.asset.chunks()).div_ceil(3);
    let pulls = world.up.sent_of_kind[&PULL];
    assert!(pulls <= needed + needed / 10, "{pulls} PULLs where {needed} do");
    assert_eq!(world.responder.counters().over_limit, 0);
}

#[test]
fn a_proof_travels_back_with_every_pull() {
    // Eight times the bound on unproven bytes: without proofs the server would stop.
    let mut world = World::new(Setting { bytes: 32 << 20, window_bytes: 2 << 20, ..Setting::default() });
    world.download();
    assert_eq!(world.responder.counters().over_limit, 0);
}
