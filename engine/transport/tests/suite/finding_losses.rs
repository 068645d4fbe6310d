//! How long it takes to find out what will not come, and how sure that is.

use std::time::Duration;

use braidcast_media::{Run, StreamId};
use braidcast_transport::puller::{Event, Failure, Loss};

use crate::link::Filter;
use crate::scripted::Scripted;
use crate::world::{DELAY, Setting, World};

const WELCOME: u8 = 0x12;
const PULL: u8 = 0x13;
const DATA: u8 = 0x14;
const END: u8 = 0x15;

/// Loses the packets of one kind whose numbers, from 0, `which` names.
fn nth_of_kind(kind: u8, which: impl Fn(u64) -> bool + 'static) -> Option<Filter> {
    let mut count = 0;
    Some(Box::new(move |packet| {
        let hit = packet[0] == kind && which(count);
        count += u64::from(packet[0] == kind);
        hit
    }))
}

fn losses(world: &World) -> Vec<(Duration, Loss, u32)> {
    let lost = world.events.iter().filter_map(|(at, event)| match event {
        Event::Lost { runs, why, .. } => Some((*at, *why, runs.iter().map(|run| u32::from(run.count)).sum())),
        _ => None,
    });
    lost.collect()
}

//= PROTOCOL E3: A client MUST treat an unseen sequence below `highest`, within the bitmap, as a lost PULL and pull its chunks again.
#[test]
fn a_lost_pull_is_found_from_a_later_end_without_a_time_out() {
    // The handshake takes one round trip; the first PULLs leave then and their ENDs are there one later.
    let answered = 4 * DELAY;
    let patience = DELAY;
    for which in [0, 2, 5] {
        let mut world = World::new(Setting::default());
        world.up.lose = nth_of_kind(PULL, move |n| n == which);
        world.download();
        let [(at, why, chunks)] = losses(&world)[..] else { panic!("one PULL was lost: {:?}", losses(&world)) };
        assert_eq!((why, chunks), (Loss::Pull, 52), "PULL {which}");
        assert!(at <= answered + patience, "PULL {which} was given up after {at:?}");
        assert_eq!(world.puller.counters().unwanted_bytes, 0);
    }
}

#[test]
fn lost_data_is_found_from_its_end() {
    let mut world = World::new(Setting::default());
    world.down.lose = nth_of_kind(DATA, |n| n % 52 == 7);
    world.download();
    let losses = losses(&world);
    assert!(!losses.is_empty() && losses.iter().all(|(_, why, _)| *why == Loss::Data), "{losses:?}");
    let total: u32 = losses.iter().map(|(_, _, chunks)| chunks).sum();
    assert_eq!(u64::from(total), world.puller.counters().lost_chunks);
    assert_eq!(world.puller.counters().unwanted_bytes, 0);
}

#[test]
fn a_lost_end_costs_nothing_when_its_data_came() {
    for which in [0, 3, 31] {
        let mut world = World::new(Setting::default());
        world.down.lose = nth_of_kind(END, move |n| n == which);
        world.download();
        world.run_for(Duration::from_secs(3));
        assert_eq!(losses(&world), [], "END {which}");
        assert_eq!(world.puller.in_flight_chunks(), 0);
    }
}

#[test]
fn data_lost_with_its_end_is_found_from_a_later_end() {
    let mut world = World::new(Setting { bytes: 5_000_000, ..Setting::default() });
    // The first train loses its last two chunks and its END.
    world.down.lose = Some(Box::new({
        let mut n = 0;
        move |packet| {
            n += u32::from(packet[0] == DATA || packet[0] == END);
            (51..=53).contains(&n) && packet[0] != WELCOME
        }
    }));
    world.download();
    let [(at, Loss::Data, 2)] = losses(&world)[..] else { panic!("two chunks were lost: {:?}", losses(&world)) };
    assert!(at <= 5 * DELAY, "{at:?}: a later END tells that the PULL was answered, so nothing waits for a time-out");
}

/// What the kernel counts as dropped for want of room in the receive buffer was sent faster than this host takes it.
#[test]
fn less_is_in_flight_after_this_host_has_dropped_packets_once_for_each_round_trip() {
    let mut world = World::new(Setting::default());
    world.run_until(|world| world.chunks_had() > 100);
    let window = world.puller.window_bytes();
    world.puller.on_local_drops(world.now);
    world.puller.on_local_drops(world.now);
    assert_eq!(world.puller.window_bytes(), window / 4 * 3);
    world.download();
    assert_eq!(world.puller.window_bytes(), window / 4 * 3, "and it stays so");
}

/// Mechanism: an END's bitmap reaches 64 sequences back; a lost PULL below it was waited for as long as the source was
/// heard at all, so that a download's window stood still on it.
#[test]
fn a_lost_pull_beyond_the_bitmap_is_found_while_the_source_goes_on() {
    let mut world = World::new(Setting { bytes: 24_000_000, chunks_per_pull: 2, ..Setting::default() });
    // The first of 212 PULLs that leave, and are answered, at once.
    world.up.lose = nth_of_kind(PULL, |n| n == 0);
    world.run_until(|world| !losses(world).is_empty());
    assert!(!world.is_done(), "the source was still being pulled from");
    let [(at, _, 2)] = losses(&world)[..] else { panic!("one PULL was lost: {:?}", losses(&world)) };
    assert!(at <= 4 * DELAY + Duration::from_millis(500), "{at:?}");
    world.download();
}

/// Mechanism: as above, for the last PULL of a session that was replaced: no later END speaks of it.
#[test]
fn a_pull_lost_with_the_old_session_is_found_while_the_new_one_goes_on() {
    let renewed = |lost: Option<u64>| {
        let mut world = World::new(Setting { bytes: 24_000_000, ..Setting::default() });
        world.up.lose = nth_of_kind(PULL, move |n| Some(n) == lost);
        world.run_until(|world| world.chunks_had() > 1_000);
        world.renew(2);
        world.asking = false;
        let opened = |world: &World| world.events.iter().filter(|(_, event)| *event == Event::Opened).count();
        world.run_until(|world| opened(world) == 2);
        world.asking = true;
        world
    };
    let last_of_the_old = renewed(None).up.sent_of_kind[&PULL] - 1;
    let mut world = renewed(Some(last_of_the_old));
    assert!(world.puller.in_flight_chunks() > 0, "the new session opened before the loss was known");
    let renewed_at = world.elapsed();
    world.run_until(|world| !losses(world).is_empty());
    assert!(!world.is_done(), "the source was still being pulled from");
    let [(at, _, 52)] = losses(&world)[..] else { panic!("one PULL was lost: {:?}", losses(&world)) };
    assert!(at <= renewed_at + Duration::from_millis(500), "{at:?}, renewed at {renewed_at:?}");
    world.download();
}

#[test]
fn packets_that_overtake_each_other_are_waited_for() {
    let mut world = World::new(Setting { bytes: 62_400, ..Setting::default() });
    // The END of the only train arrives first; its DATA follows within a quarter of the round trip.
    let mut held = Vec::new();
    world.run_until(|world| world.chunks_had() == 0 && world.puller.in_flight_chunks() == 52);
    world.run_for(DELAY);
    while let Some(packet) = world.down.receive(world.now + DELAY) {
        held.push(packet);
    }
    assert_eq!(held.len(), 53);
    world.now += DELAY;
    world.puller.handle_datagram(world.now, &held[52]);
    for packet in &held[..52] {
        world.down.send(world.now - DELAY + DELAY / 8, packet);
    }
    world.download();
    assert_eq!(losses(&world), []);
}

#[test]
fn a_server_that_falls_silent_fails_after_three_time_outs() {
    let mut world = World::new(Setting { bytes: 20_000_000, ..Setting::default() });
    world.run_until(|world| world.chunks_had() > 3_000);
    let silent_since = world.elapsed();
    world.down.lose = Some(Box::new(|_| true));
    world.run_until(|world| world.events.iter().any(|(_, event)| matches!(event, Event::Failed(_))));
    let timeouts = losses(&world);
    assert!(timeouts.iter().all(|(_, why, _)| *why == Loss::Timeout));
    let mut moments: Vec<Duration> = timeouts.iter().map(|(at, _, _)| *at).collect();
    moments.dedup();
    assert_eq!(moments.len(), 3);
    let failure = world.events.last().expect("the failure is told last");
    assert_eq!(failure, &(moments[2], Event::Failed(Failure::Silent)));
    // 200, 400 and 800 ms: the least time-out, and it doubles.
    let took = moments[2] - silent_since;
    assert!(took >= Duration::from_millis(1_400) && took <= Duration::from_millis(1_500), "{took:?}");
}

#[test]
fn a_time_out_leaves_one_train_to_try_the_source_with() {
    let mut world = World::new(Setting { bytes: 20_000_000, ..Setting::default() });
    world.run_until(|world| world.chunks_had() > 3_000);
    world.down.lose = Some(Box::new(|_| true));
    world.run_until(|world| !losses(world).is_empty());
    assert!(world.puller.in_flight_chunks() <= 52);
    world.down.lose = None;
    world.download();
    let failed = world.events.iter().any(|(_, event)| matches!(event, Event::Failed(_)));
    assert!(!failed, "it came back in time");
}

#[test]
fn an_idle_source_does_not_time_out() {
    let mut world = World::new(Setting { bytes: 62_400, ..Setting::default() });
    world.download();
    world.run_for(Duration::from_secs(60));
    assert_eq!(losses(&world), []);
    assert_eq!(world.puller.poll_timeout(), None);
}

#[test]
fn late_data_is_taken_once_after_it_was_given_up() {
    let mut world = World::new(Setting { bytes: 62_400, ..Setting::default() });
    // The server's answer takes longer than the first time-out.
    let mut held = Vec::new();
    world.run_until(|world| world.puller.in_flight_chunks() == 52);
    world.run_for(DELAY);
    while let Some(packet) = world.down.receive(world.now + DELAY) {
        held.push(packet);
    }
    world.asking = false;
    world.run_until(|world| !losses(world).is_empty());
    assert_eq!(world.puller.in_flight_chunks(), 0);
    for packet in held.iter().chain(&held) {
        world.down.send(world.now, packet);
    }
    world.download();
    world.run_for(2 * DELAY);
    let counters = world.puller.counters();
    assert_eq!((counters.accepted_bytes, counters.unwanted_bytes), (62_400, 62_400));
    assert_eq!(counters.lost_chunks, 52);
}

/// Mechanism: when a source had been silent for too long, PULLs that had only just been sent were given up along with the
/// old ones, and asked for again while their answers were on the way (world 4772 of the simulator).
#[test]
fn a_pull_that_was_sent_a_moment_ago_outlives_a_time_out() {
    let mut client = Scripted::open();
    client.pull(&[(0, 10)]);
    let timeout = client.puller.poll_timeout().expect("an answer is waited for") - client.now;
    client.advance(timeout - Duration::from_millis(10));
    client.pull(&[(10, 10)]);
    client.advance(Duration::from_millis(10));
    client.puller.handle_timeout(client.now);
    let first = Event::Lost { stream: StreamId::ORIGINAL, runs: vec![Run::new(0, 10)], why: Loss::Timeout };
    assert_eq!(client.events(), [first]);
    assert_eq!(client.puller.in_flight_chunks(), 10);
}
