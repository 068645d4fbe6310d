//! To whom no DATA leaves a server; each asserted on the socket.

use std::net::UdpSocket;
use std::time::Duration;

use braidcast_media::Run;
use braidcast_media::layout::{EXTENT_BYTES, PACKET_BYTES};
use braidcast_media::ticket::{SessionSecret, TicketKey};
use braidcast_transport::limits::{PULL_BYTES, UNPROVEN_BYTES_MAX, WELCOME_BYTES};
use braidcast_transport::packet::Kind;
use braidcast_transport::puller::Event;

use crate::asset::Film;
use crate::client::Client;
use crate::master;
use crate::rig::{self, Rig};

const RUN: Run = Run::new(0, 10);

/// Greets with `ticket` and asserts that nothing at all comes back.
fn assert_no_answer(rig: &Rig, film: &Film, ticket: (Vec<u8>, SessionSecret)) {
    let mut client = Client::new(rig.server.udp_addr(), film);
    assert!(!client.say_hello(ticket), "a session from a worthless ticket");
    assert!(client.receive().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn hello_without_a_sound_ticket_is_not_answered() {
    let film = Film::new(1, 50_000);
    let rig = Rig::holding(&film).await;
    let soon = master::in_seconds(600);

    //= PROTOCOL H1: A server MUST answer a HELLO only if its ticket opens under the server's current or previous ticket key.
    assert_no_answer(&rig, &film, (Vec::new(), SessionSecret::new([3; 32])));
    assert_no_answer(&rig, &film, master::foreign_ticket(&[film.id], soon));
    assert_no_answer(&rig, &film, master::sealed_ticket(&TicketKey::new(9, &[9; 32]), &[film.id], soon));
    let (mut forged, secret) = master::ticket(&[film.id], soon);
    forged[20] ^= 1;
    assert_no_answer(&rig, &film, (forged, secret));

    //= PROTOCOL H2: A server MUST answer a HELLO only if the proof shows that the sender holds the ticket's session secret.
    let (stolen, _) = master::ticket(&[film.id], soon);
    assert_no_answer(&rig, &film, (stolen, SessionSecret::new([4; 32])));

    //= PROTOCOL H3: A server MUST refuse a ticket whose expiry is more than the tolerated clock skew in the past.
    assert_no_answer(&rig, &film, master::ticket(&[film.id], master::in_seconds(-120)));

    rig::eventually("each refusal is counted", || {
        let packets = rig.server.counters().packets;
        packets.bad_ticket >= 4 && packets.bad_proof >= 1 && packets.expired_ticket >= 1
    })
    .await;
    assert_eq!(rig.server.counters().sent_bytes, 0);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_expires_ends_its_session() {
    let film = Film::new(1, 50_000);
    let rig = Rig::holding_with(&film, |config| config.clock_skew = Duration::ZERO).await;
    // Time enough to greet and pull on a machine that is busy.
    let expires_at = master::in_seconds(8);
    let mut client = Client::greet(rig.server.udp_addr(), &film, master::ticket(&[film.id], expires_at));
    client.pull(&[RUN]).assert_chunks(&film, &[RUN]);
    rig::eventually("the ticket has expired", || master::in_seconds(0) > expires_at).await;
    //= PROTOCOL U7: A server MUST answer a PULL whose ticket has expired, skew included, with status EXPIRED and no DATA.
    let answer = client.pull(&[RUN]);
    assert_eq!(answer.data(), 0);
    assert!(answer.events.contains(&Event::TicketExpired), "{:?}", answer.events);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_pull_is_not_answered_again() {
    let film = Film::new(1, 50_000);
    let rig = Rig::holding(&film).await;
    let mut client = rig.client(&film);
    let first = client.send_pull(&[RUN]);
    client.collect(1, Duration::from_secs(20)).assert_chunks(&film, &[RUN]);
    client.pull(&[RUN]).assert_chunks(&film, &[RUN]);
    for _ in 0..3 {
        client.socket.send_to(&first, rig.server.udp_addr()).expect("loopback takes it");
    }
    assert!(client.receive().is_none());
    client.pull(&[RUN]).assert_chunks(&film, &[RUN]);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_pull_is_not_answered() {
    let film = Film::new(1, 50_000);
    let rig = Rig::holding(&film).await;
    let mut client = rig.client(&film);
    let mut pull = client.send_pull(&[RUN]);
    client.collect(1, Duration::from_secs(20)).assert_chunks(&film, &[RUN]);
    // A sequence that was not used yet, under which the packet does not open.
    pull[15] ^= 0x40;
    client.socket.send_to(&pull, rig.server.udp_addr()).expect("loopback takes it");
    assert!(client.receive().is_none());
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_never_saw_welcome_attracts_less_than_is_sent_in_its_name() {
    let film = Film::new(1, 50_000);
    let rig = Rig::holding(&film).await;
    let mut victim = Client::new(rig.server.udp_addr(), &film);
    // Whoever spoofs the victim's address does not see WELCOME, hence has neither handle nor keys: HELLO is all that
    // can be sent in its name, and PULLs that do not open.
    let (ticket, secret) = master::ticket(&[film.id], master::in_seconds(600));
    let greeting = braidcast_transport::handshake::Greeting::new(&ticket, secret, [5; 32]).expect("short ticket");
    let mut sent = 0;
    for n in 0_u8..20 {
        victim.socket.send_to(greeting.hello(), rig.server.udp_addr()).expect("loopback takes it");
        let mut pull = [n; PULL_BYTES];
        pull[0] = 0x13;
        victim.socket.send_to(&pull, rig.server.udp_addr()).expect("loopback takes it");
        sent += greeting.hello().len() + pull.len();
    }
    let mut attracted = 0;
    let mut next = Some(victim.wait());
    while let Some(datagram) = next.take() {
        //= PROTOCOL U3: A server MUST send DATA only for a PULL that opens under an established session and arrives from that session's address pair.
        assert!(matches!(Kind::of(&datagram), Some(Kind::Welcome | Kind::Reset)));
        //= PROTOCOL W2: A WELCOME MUST be smaller than a HELLO.
        assert!(datagram.len() <= WELCOME_BYTES);
        attracted += datagram.len();
        next = victim.receive();
    }
    assert!(attracted > 0 && attracted * 4 < sent, "{attracted} bytes for {sent}");
    assert_eq!(rig.server.counters().sent_bytes, 0);
    assert_eq!(victim.listen().data(), 0);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_does_not_move_to_another_address() {
    let film = Film::new(1, 50_000);
    let rig = Rig::holding_with(&film, |config| config.shards = 2).await;
    let mut client = rig.client(&film);
    client.pull(&[RUN]).assert_chunks(&film, &[RUN]);
    let mut pull = client.send_pull(&[RUN]);
    client.collect(1, Duration::from_secs(20)).assert_chunks(&film, &[RUN]);
    // Many sockets, so that each of both shards gets some of the PULLs.
    for n in 0..8 {
        pull[12..16].copy_from_slice(&(100_u32 + n).to_be_bytes());
        let elsewhere = UdpSocket::bind("127.0.0.1:0").expect("free port");
        elsewhere.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
        elsewhere.send_to(&pull, rig.server.udp_addr()).expect("loopback takes it");
        let mut room = [0; 2_048];
        let bytes = elsewhere.recv(&mut room).expect("a hint comes");
        assert_eq!(Kind::of(&room[..bytes]), Some(Kind::Reset));
        assert_eq!(room[4..16], pull[4..16], "handle and sequence are echoed");
        elsewhere.set_read_timeout(Some(Duration::from_millis(50))).expect("a time-out");
        assert!(elsewhere.recv(&mut room).is_err(), "nothing but the hint");
    }
    client.pull(&[RUN]).assert_chunks(&film, &[RUN]);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stops_echoing_ends_is_sent_no_more_than_the_bound() {
    let film = Film::new(1, EXTENT_BYTES);
    let rig = Rig::holding(&film).await;
    let mut client = rig.client(&film);
    client.deaf_to_ends = true;
    let train = Run::new(0, 52);
    let pulls_max = UNPROVEN_BYTES_MAX as usize / (52 * PACKET_BYTES);
    let mut packets = 0;
    let mut refused = 0;
    for _ in 0..pulls_max + 20 {
        client.send_pull(&[train]);
        let answer = client.collect(1, Duration::from_secs(20));
        //= PROTOCOL U5: A server MUST answer a PULL that would exceed that bound with an END of status OVER_LIMIT and no DATA.
        assert!(answer.ends == 1 && [0, 52].contains(&answer.data()), "{} chunks", answer.data());
        packets += answer.data();
        refused += usize::from(answer.data() == 0);
    }
    //= PROTOCOL U4: A server MUST NOT send more than the lesser of 16 MiB and one second at the session's rate beyond the newest proof that the client returned.
    assert!(packets * PACKET_BYTES <= UNPROVEN_BYTES_MAX as usize, "{packets} packets");
    assert!(packets >= 52 * (pulls_max - 1), "it is served up to the bound, not less: {packets} packets");
    assert!(refused >= 20);
    client.deaf_to_ends = false;
    rig.server.shutdown().await;
}
