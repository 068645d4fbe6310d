//! HELLO and VERSIONS, as a server takes them.

use std::sync::Arc;
use std::time::Duration;

use braidcast_media::ticket::TicketKey;
use braidcast_transport::limits::{SESSION_IDLE, SESSIONS_PER_TICKET_MAX};
use braidcast_transport::responder::{Counters, Responder, ResponderConfig};

use crate::asset::{EPOCH_S, Pass, PassFor, ticket_key};
use crate::server::{Server, address, granted};
use crate::wire::{HELLO_BYTES, Session, WireLimits, hello, reset};

fn hello_of(pass: &Pass, random: u8) -> Vec<u8> {
    hello(&pass.ticket, &pass.secret, &[random; 32])
}

fn other_key(id: u32, byte: u8) -> Arc<TicketKey> {
    Arc::new(TicketKey::new(id, &[byte; 32]))
}

#[test]
fn a_good_hello_is_welcomed_with_the_limits() {
    let mut server = Server::new();
    let pass = PassFor { rate_kib_s: 2_000, ..PassFor::number(1) }.sealed();
    let client = server.open(address(1), &pass, 1);
    let granted = WireLimits { rate_kib_s: 2_000, ..WireLimits::default() };
    assert_eq!(client.limits, granted);
    assert_eq!(server.responder.counters(), &Counters::default());
}

//= PROTOCOL W2: A WELCOME MUST be smaller than a HELLO.
#[test]
fn a_welcome_is_smaller_than_its_hello() {
    let hello = hello_of(&PassFor::number(1).sealed(), 1);
    let welcome = Server::new().reply(address(1), &hello).expect("a good HELLO is answered");
    assert!(welcome.len() < hello.len(), "{} bytes for {}", welcome.len(), hello.len());
}

//= PROTOCOL H1: A server MUST answer a HELLO only if its ticket opens under the server's current or previous ticket key.
#[test]
fn tickets_of_the_current_and_previous_key_are_taken_and_no_others() {
    let mut server = Server::new();
    let (current, previous, before) = (other_key(9, 9), other_key(8, 8), other_key(7, 0x77));
    server.responder.set_ticket_keys(vec![current.clone(), previous.clone(), before]);
    for (number, key, taken) in [
        (1, &current, true),
        (2, &previous, true),
        (3, &Arc::new(ticket_key()), false),
        (4, &other_key(9, 8), false),
        (5, &other_key(10, 9), false),
    ] {
        let pass = PassFor::number(number).sealed_by(key);
        let answer = server.reply(address(1), &hello_of(&pass, 1));
        assert_eq!(answer.is_some(), taken, "ticket {number}");
    }
    assert_eq!(server.responder.counters().bad_ticket, 3);
    assert_eq!(server.responder.sessions(), 2);
}

/// Mechanism: keys given at construction were not cut to the two that count.
#[test]
fn a_third_key_at_the_start_is_ignored() {
    let keys = vec![other_key(9, 9), other_key(8, 8), Arc::new(ticket_key())];
    let mut server = Server::new();
    server.responder = Responder::new(ResponderConfig::default(), [1; 32], keys);
    assert_eq!(server.reply(address(1), &hello_of(&PassFor::number(1).sealed(), 1)), None);
}

#[test]
fn bytes_that_are_no_ticket_are_not_answered() {
    let mut server = Server::new();
    let good = PassFor::number(1).sealed();
    let mut altered = good.ticket.clone();
    altered[20] ^= 1;
    for ticket in [&[][..], &good.ticket[..15], &good.ticket[..good.ticket.len() - 1], &altered, &[7; 512]] {
        assert_eq!(server.reply(address(1), &hello(ticket, &good.secret, &[1; 32])), None);
    }
    let mut too_long = hello_of(&good, 1);
    too_long[36..38].copy_from_slice(&513_u16.to_be_bytes());
    assert_eq!(server.reply(address(1), &too_long), None);
    assert_eq!(server.responder.sessions(), 0);
}

//= PROTOCOL H2: A server MUST answer a HELLO only if the proof shows that the sender holds the ticket's session secret.
#[test]
fn a_stolen_ticket_without_its_secret_is_not_answered() {
    let mut server = Server::new();
    let pass = PassFor::number(1).sealed();
    assert_eq!(server.reply(address(1), &hello(&pass.ticket, &[2; 32], &[1; 32])), None);
    // The proof covers every byte before it: random, length, ticket and the zeros behind it.
    for at in [1, 4, 35, 600, 1_215, 1_216, 1_231] {
        let mut altered = hello_of(&pass, 1);
        altered[at] ^= 0x80;
        assert_eq!(server.reply(address(1), &altered), None, "byte {at}");
    }
    assert_eq!(server.responder.counters().bad_proof, 8);
    assert_eq!(server.responder.sessions(), 0);
}

//= PROTOCOL H3: A server MUST refuse a ticket whose expiry is more than the tolerated clock skew in the past.
#[test]
fn a_ticket_is_taken_to_the_last_second_of_the_tolerated_skew() {
    for (expired_for_s, taken) in [(0, true), (60, true), (61, false), (3_600, false)] {
        let mut server = Server::new();
        let pass = PassFor { expires_at: EPOCH_S - expired_for_s, ..PassFor::number(1) }.sealed();
        let answer = server.reply(address(1), &hello_of(&pass, 1));
        assert_eq!(answer.is_some(), taken, "expired for {expired_for_s} s");
        assert_eq!(server.responder.counters().expired_ticket, u64::from(!taken));
    }
}

//= PROTOCOL H4: A server MUST answer the same HELLO from the same address with the same WELCOME.
#[test]
fn the_same_hello_gets_the_same_welcome_before_and_after_the_first_pull() {
    let mut server = Server::new();
    let pass = PassFor::number(1).sealed();
    let hello = hello_of(&pass, 1);
    let welcome = server.reply(address(1), &hello).expect("a good HELLO is answered");
    assert_eq!(server.reply(address(1), &hello).as_ref(), Some(&welcome));
    let (session, _) = Session::open(&hello, &welcome, &pass.secret).expect("WELCOME opens");
    let pull = session.pull(1, &crate::wire::PullText::new(crate::asset::ASSET.0, &[(0, 1)]));
    granted(server.handle(address(1), &pull));
    assert_eq!(server.reply(address(1), &hello).as_ref(), Some(&welcome));
    assert_eq!(server.responder.sessions(), 1);
}

#[test]
fn the_same_hello_from_elsewhere_opens_another_session() {
    let mut server = Server::new();
    let pass = PassFor::number(1).sealed();
    let first = server.open(address(1), &pass, 1);
    let second = server.open(address(2), &pass, 1);
    assert_ne!(first.session.handle, second.session.handle);
    let third = server.open(address(1), &pass, 2);
    assert_ne!(first.session.handle, third.session.handle, "another random");
}

/// Mechanism: the ring of greetings forgot the HELLO of a session that had long been established, when newer
/// greetings pushed its entry out, and a repeated HELLO opened a second session.
#[test]
fn an_established_session_keeps_its_welcome_however_many_greet_after_it() {
    let mut server = Server::with(ResponderConfig { half_open_max: 4, ..ResponderConfig::default() });
    let pass = PassFor::number(1).sealed();
    let hello = hello_of(&pass, 1);
    let welcome = server.reply(address(1), &hello).expect("a good HELLO is answered");
    let mut client = server.open(address(1), &pass, 1);
    client.granted(&mut server, &[(0, 1)]);
    for random in 2..20 {
        server.open(address(1), &pass, random);
    }
    assert_eq!(server.reply(address(1), &hello), Some(welcome));
    assert_eq!(server.responder.sessions(), 1 + 4);
}

/// Mechanism: an entry of the ring outlived its session; falling out of the ring, it took the same HELLO's later
/// greeting with it.
#[test]
fn a_hello_repeated_after_its_session_was_forgotten_is_remembered_anew() {
    let mut server = Server::with(ResponderConfig { half_open_max: 4, ..ResponderConfig::default() });
    let pass = PassFor::number(1).sealed();
    let hello = hello_of(&pass, 1);
    let first = server.reply(address(1), &hello);
    server.advance(SESSION_IDLE);
    let now = server.now();
    server.responder.handle_timeout(now);
    let second = server.reply(address(1), &hello).expect("a good HELLO is answered");
    assert_ne!(first.as_ref(), Some(&second), "the first session is gone");
    for random in 2..5 {
        server.open(address(1), &pass, random);
    }
    assert_eq!(server.reply(address(1), &hello), Some(second));
}

//= PROTOCOL H5: A server MUST bound the sessions of a shard, those of them that are half-open, and those of each ticket.
#[test]
fn half_open_sessions_are_a_ring_from_which_the_oldest_goes_first() {
    let mut server = Server::with(ResponderConfig { half_open_max: 8, ..ResponderConfig::default() });
    let pass = PassFor::number(1).sealed();
    let mut clients: Vec<_> = (0..8).map(|random| server.open(address(1), &pass, random)).collect();
    assert_eq!(server.responder.sessions(), 8);
    // One that has pulled is out of the ring's reach; the others go, the oldest first.
    clients[0].granted(&mut server, &[(0, 1)]);
    server.open(address(1), &pass, 100);
    server.open(address(1), &pass, 101);
    let alive = |server: &mut Server, client: &mut crate::server::Client| {
        let pull = client.pull(&[(0, 1)]);
        match server.handle(client.address, &pull) {
            Some(braidcast_transport::responder::Action::Pull(_)) => true,
            Some(braidcast_transport::responder::Action::Send(packet)) => {
                assert_eq!(packet[0], 0x16, "RESET");
                false
            }
            None => panic!("an authentic PULL is answered"),
        }
    };
    assert!(alive(&mut server, &mut clients[0]));
    assert!(!alive(&mut server, &mut clients[1]), "the oldest that never pulled");
    assert!(alive(&mut server, &mut clients[2]));
    assert!(server.responder.sessions() <= 8 + 2);
}

#[test]
fn a_flood_of_greetings_does_not_grow_a_server() {
    let mut server = Server::with(ResponderConfig { half_open_max: 16, ..ResponderConfig::default() });
    for number in 0..40 {
        let pass = PassFor::number(number).sealed();
        for random in 0..10 {
            server.open(address(1), &pass, random);
        }
    }
    assert_eq!(server.responder.sessions(), 16);
}

#[test]
fn a_ticket_opens_its_share_of_sessions_and_not_one_more() {
    let mut server = Server::new();
    let pass = PassFor::number(1).sealed();
    for random in 0..SESSIONS_PER_TICKET_MAX as u8 {
        server.open(address(1), &pass, random).granted(&mut server, &[(0, 1)]);
    }
    assert_eq!(server.reply(address(1), &hello_of(&pass, 200)), None);
    assert_eq!(server.responder.counters().too_many_sessions, 1);
    server.open(address(1), &PassFor::number(2).sealed(), 200);

    server.advance(SESSION_IDLE);
    let now = server.now();
    server.responder.handle_timeout(now);
    server.open(address(1), &pass, 201);
    assert_eq!(server.responder.sessions(), 1, "idle sessions give their ticket's share back");
}

#[test]
fn a_session_is_forgotten_after_two_silent_minutes_and_not_before() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let sweep = |server: &mut Server, by| {
        server.advance(by);
        let now = server.now();
        server.responder.handle_timeout(now);
        server.responder.sessions()
    };
    let instant = Duration::from_millis(1);
    assert_eq!(sweep(&mut server, SESSION_IDLE - instant), 1);
    client.granted(&mut server, &[(0, 1)]);
    assert_eq!(sweep(&mut server, SESSION_IDLE - instant), 1, "a PULL is a sign of life");
    assert!(server.responder.poll_timeout().is_some());
    assert_eq!(sweep(&mut server, instant), 0);
    assert_eq!(server.responder.poll_timeout(), None);
}

//= PROTOCOL V1: A server MUST answer a packet of 1,232 bytes and unknown version with VERSIONS, rate-limited, and any other packet of unknown version not at all.
#[test]
fn other_versions_are_told_the_known_ones_a_thousand_times_a_second() {
    let mut server = Server::new();
    for first_byte in [0x01, 0x21, 0x2f, 0xf1, 0xff] {
        let mut cause = vec![0x33; HELLO_BYTES];
        cause[0] = first_byte;
        cause[4..12].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
        let answer = server.reply(address(1), &cause);
        assert_eq!(answer.as_deref(), Some(&[0, 1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 1][..]));
        for size in [1, 16, HELLO_BYTES - 1, HELLO_BYTES + 1] {
            let mut other_size = cause.clone();
            other_size.resize(size, 0);
            assert_eq!(server.reply(address(1), &other_size), None, "{size} bytes");
        }
    }
    let cause = vec![0x21; HELLO_BYTES];
    let answers = |server: &mut Server| (0..3_000).filter(|_| server.reply(address(1), &cause).is_some()).count();
    server.advance(Duration::from_secs(1));
    assert_eq!(answers(&mut server), 1_000);
    server.advance(Duration::from_secs(1));
    assert_eq!(answers(&mut server), 1_000);
}

//= PROTOCOL P4: A packet of a kind that the receiver does not accept MUST be dropped without an answer.
#[test]
fn kinds_that_only_clients_take_are_dropped_and_counted() {
    let mut server = Server::new();
    let client = server.open_default();
    let mut data = vec![0; HELLO_BYTES];
    data[0] = 0x14;
    let mut welcome = vec![0; 84];
    welcome[0] = 0x12;
    let mut unknown_kind = vec![0; HELLO_BYTES];
    unknown_kind[0] = 0x17;
    let versions = vec![0; HELLO_BYTES];
    let end = client.session.end(1, &crate::wire::EndText::default());
    let packets = [data, welcome, end, reset(client.session.handle, 1), unknown_kind, versions, vec![]];
    for packet in &packets {
        assert_eq!(server.reply(address(1), packet), None);
    }
    assert_eq!(server.responder.counters().malformed, packets.len() as u64);
}

#[test]
fn handles_name_their_shard() {
    let mut server = Server::with(ResponderConfig { shard: 0xa7, ..ResponderConfig::default() });
    let mut client = server.open_default();
    let pull = client.pull(&[(0, 1)]);
    let (kind, shard_at) = Responder::SHARD_IN_PULL;
    assert_eq!((pull[0], pull[shard_at]), (kind, 0xa7));
}
