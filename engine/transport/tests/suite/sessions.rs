//! Sessions that are opened, renewed, forgotten and lied about, as a client sees them.

use std::time::Duration;

use braidcast_transport::puller::{Event, Failure, Loss};

use crate::asset::{EPOCH_S, PassFor};
use crate::link::Faults;
use crate::wire::reset;
use crate::world::{DELAY, Setting, World};

const HELLO: u8 = 0x11;
const WELCOME: u8 = 0x12;
const RESET: u8 = 0x16;

fn count(world: &World, wanted: &Event) -> usize {
    world.events.iter().filter(|(_, event)| event == wanted).count()
}

#[test]
fn a_hello_is_repeated_at_doubled_intervals_and_given_up_after_four() {
    let mut world = World::new(Setting::default());
    let start = world.start;
    world.up.lose = Some(Box::new(|_| true));
    let mut sent = Vec::new();
    loop {
        let before = world.up.sent_of_kind.get(&HELLO).copied().unwrap_or(0);
        let deadline = world.puller.poll_timeout().expect("a greeting has a deadline");
        world.run_for(deadline - world.now);
        let after = world.up.sent_of_kind[&HELLO];
        if after > before {
            sent.push((world.now - start).as_millis());
        }
        if count(&world, &Event::Failed(Failure::Unanswered)) == 1 {
            break;
        }
    }
    assert_eq!(sent, [0, 300, 900, 2_100]);
    assert_eq!(world.elapsed(), Duration::from_millis(4_500));
    assert_eq!(world.puller.poll_timeout(), None);
}

#[test]
fn a_lost_welcome_is_given_again() {
    let mut world = World::new(Setting::default());
    let mut welcomes = 0;
    world.down.lose = Some(Box::new(move |packet| {
        welcomes += u32::from(packet[0] == WELCOME);
        packet[0] == WELCOME && welcomes <= 2
    }));
    world.download();
    assert_eq!(world.responder.sessions(), 1, "the same HELLO got the same session");
    assert_eq!(world.events[0], (Duration::from_millis(900) + 2 * DELAY, Event::Opened));
}

#[test]
fn a_server_that_forgot_the_session_is_greeted_again_and_goes_on() {
    let mut world = World::new(Setting { bytes: 10_000_000, ..Setting::default() });
    world.run_until(|world| world.chunks_had() > 3_000);
    world.restart_server();
    let restarted_at = world.elapsed();
    world.run_until(|world| count(world, &Event::Opened) == 2);
    // A PULL on its way or the next one, its RESET, HELLO, WELCOME.
    assert!(world.elapsed() <= restarted_at + 6 * DELAY, "{:?}", world.elapsed() - restarted_at);
    world.download();
    assert_eq!(world.up.sent_of_kind[&HELLO], 2);
    let timeouts = world.events.iter().filter(|(_, e)| matches!(e, Event::Lost { why: Loss::Timeout, .. })).count();
    assert_eq!(timeouts, 0, "the RESET said it all");
}

//= PROTOCOL R3: A client MUST keep its session until the WELCOME of the next one has opened.
#[test]
fn a_reset_whose_greeting_fails_ends_nothing() {
    let mut world = World::new(Setting { bytes: 20_000_000, ..Setting::default() });
    world.run_until(|world| world.chunks_had() > 1_000);
    // RESETs for everything, forged by the path; the new HELLOs are lost, so the session in use must do.
    world.up.lose = Some(Box::new(|packet| packet[0] == HELLO));
    for _ in 0..40 {
        forge_resets(&mut world);
        world.run_for(DELAY / 2);
        assert!(world.puller.is_open());
    }
    world.download();
    assert_eq!(count(&world, &Event::Opened), 1);
    assert_eq!(world.puller.counters().lost_chunks, 0);
}

/// A RESET for every sequence that can be unanswered; the path sees handles.
fn forge_resets(world: &mut World) {
    let handle = world.handle_on_the_path();
    for sequence in 1..1_000 {
        world.puller.handle_datagram(world.now, &reset(handle, sequence));
    }
}

//= PROTOCOL R2: A client MUST act on a RESET only if it echoes the handle and the sequence of an unanswered PULL, at most once a second.
#[test]
fn forged_resets_cost_one_greeting_a_second() {
    let mut world = World::new(Setting { bytes: 60_000_000, window_bytes: 128 * 1_024, ..Setting::default() });
    world.run_until(|world| world.chunks_had() > 1_000);
    let begun = world.elapsed();
    while world.elapsed() < begun + Duration::from_millis(3_500) && !world.is_done() {
        forge_resets(&mut world);
        world.run_for(DELAY / 2);
    }
    assert!(!world.is_done(), "the film is long enough");
    assert_eq!(world.up.sent_of_kind[&HELLO], 1 + 4, "at 0, 1, 2 and 3 s");
    world.download();
}

#[test]
fn resets_of_other_handles_or_answered_pulls_are_dropped() {
    let mut world = World::new(Setting { bytes: 10_000_000, ..Setting::default() });
    world.run_until(|world| world.chunks_had() > 1_000);
    let handle = world.handle_on_the_path();
    let dropped = world.puller.counters().dropped;
    for packet in [reset(handle, 1), reset(handle, 100_000), reset(handle ^ 1, 20), reset(0, 0)] {
        world.puller.handle_datagram(world.now, &packet);
    }
    assert_eq!(world.puller.counters().dropped, dropped + 4);
    world.download();
    assert_eq!(world.up.sent_of_kind[&HELLO], 1);
    assert_eq!(world.down.sent_of_kind.get(&RESET), None);
}

#[test]
fn a_renewed_ticket_takes_over_without_a_gap() {
    let mut world = World::new(Setting { bytes: 20_000_000, ..Setting::default() });
    for number in 2..8 {
        let had = world.chunks_had();
        world.run_until(|world| world.chunks_had() > had + 1_000);
        world.renew(number);
    }
    world.download();
    assert_eq!(count(&world, &Event::Opened), 7);
    let counters = world.puller.counters();
    assert_eq!((counters.lost_chunks, counters.unwanted_bytes, counters.dropped), (0, 0, 0));
    assert_eq!(world.events.len(), 7, "nothing but sessions that opened: {:?}", world.events);
}

#[test]
fn renewal_on_a_bad_link_spoils_no_byte() {
    for seed in 0..6 {
        let faults = Faults { loss: 5, duplication: 5, reordering: 5, corruption: 5 };
        let mut world = World::new(Setting { seed, faults, bytes: 3_000_000, ..Setting::default() });
        for number in 2..6 {
            let had = world.chunks_had();
            world.run_until(|world| world.chunks_had() > had + 400);
            world.renew(number);
        }
        world.download();
    }
}

#[test]
fn an_expired_ticket_is_told_once_and_a_new_one_goes_on() {
    let pass = PassFor { expires_at: EPOCH_S - 59, ..PassFor::number(1) };
    let mut world = World::new(Setting { pass, bytes: 60_000_000, window_bytes: 256 * 1_024, ..Setting::default() });
    world.run_until(|world| count(world, &Event::TicketExpired) > 0);
    assert!(world.chunks_had() > 0 && !world.is_done());
    assert!(world.elapsed() >= Duration::from_secs(2), "60 s of skew are tolerated");

    // Mechanism: until the master had answered, everything was pulled and refused again, once a round trip, and each
    // refusal told of the expiry anew.
    let pulls = world.up.sent_of_kind[&0x13];
    world.run_for(Duration::from_secs(2));
    assert!(world.up.sent_of_kind[&0x13] - pulls <= 8, "what was on its way, and no more");
    assert_eq!(count(&world, &Event::TicketExpired), 1);
    world.renew(2);
    world.download();
    assert_eq!(count(&world, &Event::TicketExpired), 1);
    assert_eq!(world.puller.counters().lost_chunks, 0, "a refusal is no loss");
}

/// Mechanism: a greeting that was under way when the ticket expired kept the expiry from being told; when nobody
/// answered it, the source stood still for ever.
#[test]
fn an_expired_session_whose_renewal_stays_unanswered_fails() {
    let pass = PassFor { expires_at: EPOCH_S - 59, ..PassFor::number(1) };
    let mut world = World::new(Setting { pass, bytes: 60_000_000, window_bytes: 256 * 1_024, ..Setting::default() });
    world.run_until(|world| world.elapsed() >= Duration::from_millis(1_900));
    world.up.lose = Some(Box::new(|packet| packet[0] == HELLO));
    world.renew(2);
    world.run_until(|world| count(world, &Event::Failed(Failure::Unanswered)) > 0);
    assert!(!world.is_done());
    assert_eq!(world.puller.in_flight_chunks(), 0);
}

/// Mechanism: a source that had failed was greeted anew while its old session still counted as good; when all HELLOs got
/// lost nothing was told, and it stayed out of use for ever (world 1090 of the simulator).
#[test]
fn a_greeting_that_stays_unanswered_is_told_though_an_old_session_is_there() {
    let mut world = World::new(Setting { bytes: 60_000_000, ..Setting::default() });
    world.run_until(|world| world.chunks_had() > 100);
    world.asking = false;
    world.puller.abandon(world.now);
    world.up.lose = Some(Box::new(|_| true));
    world.run_for(Duration::from_secs(1));
    world.renew(2);
    world.run_until(|world| count(world, &Event::Failed(Failure::Unanswered)) > 0);
    world.up.lose = None;
    world.renew(3);
    world.run_until(|world| count(world, &Event::Opened) == 2);
}

#[test]
fn a_ticket_without_the_asset_fails_the_source() {
    let pass = PassFor { asset: crate::asset::OTHER_ASSET, ..PassFor::number(1) };
    let mut world = World::new(Setting { pass, ..Setting::default() });
    world.run_until(|world| count(world, &Event::Failed(Failure::UnknownAsset)) > 0);
    assert_eq!(world.chunks_had(), 0);
}
