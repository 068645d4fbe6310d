//! What a client believes of what servers, and others, send to it.

use std::time::Duration;

use braidcast_media::layout::PACKET_BYTES;
use braidcast_media::{AssetId, ChunkNo, Run, Sealer, StreamId};
use braidcast_transport::packet::Runs;
use braidcast_transport::puller::{Arrival, Counters, Event, Failure, Loss};

use crate::asset::{ASSET, OTHER_ASSET, content_key};
use crate::scripted::{HANDLE, Scripted, complete, transmitted};
use crate::wire::{
    BUSY, EXPIRED, EndText, MALFORMED, NOT_HELD, OVER_LIMIT, Session, UNKNOWN_ASSET, WireLimits, reset, versions,
};

fn lost(runs: &[Run], why: Loss) -> Event {
    Event::Lost { stream: StreamId::ORIGINAL, runs: runs.to_vec(), why }
}

fn rejected(chunk: u32) -> Arrival {
    Arrival::Rejected { stream: StreamId::ORIGINAL, chunk: ChunkNo(chunk) }
}

//= PROTOCOL W1: A client MUST ignore a WELCOME that does not echo its client random or does not open.
#[test]
fn only_the_welcome_of_its_own_hello_opens_a_session() {
    let mut client = Scripted::open();
    let hello = client.greet().expect("HELLO is due");
    let (_, good) = Session::welcome(&hello, &client.pass.secret, 5, WireLimits::default());
    let (_, without_secret) = Session::welcome(&hello, &[0; 32], 5, WireLimits::default());
    let mut other_hello = hello;
    other_hello[4] ^= 1;
    let (_, other_random) = Session::welcome(&other_hello, &client.pass.secret, 5, WireLimits::default());
    let mut forged = vec![without_secret, other_random];
    for at in [4, 12, 20, 51, 52, 68, 83] {
        let mut altered = good.clone();
        altered[at] ^= 1;
        forged.push(altered);
    }
    for packet in &forged {
        client.puller.handle_datagram(client.now, packet);
        assert_eq!(client.events(), []);
    }
    assert_eq!(client.puller.counters().dropped, forged.len() as u64);
    client.puller.handle_datagram(client.now, &good);
    assert_eq!(client.events(), [Event::Opened]);
    client.puller.handle_datagram(client.now, &good);
    assert_eq!(client.events(), [], "a WELCOME opens once");
}

//= PROTOCOL H6: A client MUST draw a fresh client random for every session, and repeat the same HELLO while it waits.
#[test]
fn every_greeting_has_its_own_random_and_repeats_itself() {
    let mut client = Scripted::open();
    let first = client.greet().expect("HELLO is due");
    client.advance(Duration::from_millis(300));
    assert_eq!(transmitted(&mut client.puller, client.now).as_ref(), Some(&first));
    let second = client.greet().expect("HELLO is due");
    assert_ne!(first[4..36], second[4..36], "another session, another random");
    assert_eq!(first[36..1_216], second[36..1_216], "the same ticket");
}

//= PROTOCOL V2: A client MUST ignore a VERSIONS that does not echo its HELLO or that lists the version in use.
#[test]
fn a_server_of_other_versions_is_believed_once_and_only_when_it_echoes() {
    let mut client = Scripted::open();
    let hello = client.greet().expect("HELLO is due");
    let mut other_hello = hello.clone();
    other_hello[11] ^= 1;
    for packet in [versions(&other_hello, &[2, 3]), versions(&hello, &[2, 1]), versions(&hello, &[])] {
        client.puller.handle_datagram(client.now, &packet);
        assert_eq!(client.events(), []);
    }
    let told = versions(&hello, &[2, 3]);
    client.puller.handle_datagram(client.now, &told);
    assert_eq!(client.events(), [Event::Failed(Failure::OtherVersions(vec![2, 3]))]);
    // Mechanism: the greeting went on, so every copy of the packet failed the source again, and so did the end of
    // the greeting.
    client.puller.handle_datagram(client.now, &told);
    client.advance(Duration::from_secs(10));
    assert_eq!(transmitted(&mut client.puller, client.now), None);
    client.puller.handle_timeout(client.now);
    assert_eq!(client.events(), []);
}

/// Mechanism: limits of zero were taken, and the first PULL that keeps to them is an empty one, which panics.
#[test]
fn a_server_that_grants_nothing_fails() {
    let default = WireLimits::default();
    for limits in [
        WireLimits { chunks_per_pull: 0, ..default },
        WireLimits { runs_per_pull: 0, ..default },
        WireLimits { pulls_unanswered: 0, ..default },
    ] {
        let mut client = Scripted::with(limits);
        assert_eq!(client.events(), [Event::Failed(Failure::Misbehaves)], "{limits:?}");
        assert_eq!((client.puller.is_open(), client.puller.capacity_chunks(client.now)), (false, 0));
    }
}

#[test]
fn smaller_limits_are_kept_and_larger_ones_do_not_tempt() {
    let small = WireLimits { chunks_per_pull: 7, runs_per_pull: 2, pulls_unanswered: 3, ..WireLimits::default() };
    let mut client = Scripted::with(small);
    assert_eq!(client.puller.pull_limits(), (7, 2));
    for first in [0, 10, 20] {
        assert!(client.puller.capacity_chunks(client.now) > 0);
        client.pull(&[(first, 7)]);
    }
    assert_eq!(client.puller.capacity_chunks(client.now), 0, "three PULLs are unanswered");
    let large = WireLimits { chunks_per_pull: u16::MAX, runs_per_pull: u8::MAX, ..WireLimits::default() };
    assert_eq!(Scripted::with(large).puller.pull_limits(), (52, 8));
}

#[test]
fn a_pull_that_fits_no_limits_is_a_bug_of_the_caller() {
    for runs in [&[][..], &[(0, 53)], &[(0, 0)], &[(0, 5), (10, 0)]] {
        let mut client = Scripted::open();
        let runs: Runs = runs.iter().map(|&(first, count)| Run::new(first, count)).collect();
        let pull = std::panic::AssertUnwindSafe(|| client.puller.pull(client.now, StreamId::ORIGINAL, runs.clone()));
        assert!(std::panic::catch_unwind(pull).is_err(), "{runs:?}");
    }
}

//= PROTOCOL D1: A client MUST accept DATA only for a chunk that it has asked this source for and still lacks.
#[test]
fn only_chunks_that_were_asked_for_and_are_missing_are_taken() {
    let mut client = Scripted::open();
    client.pull(&[(10, 3), (40, 1)]);
    for chunk in [9, 13, 39, 41, 1_000] {
        let packet = client.packet(chunk);
        assert_eq!(client.data(&packet), Arrival::Unwanted, "chunk {chunk} was not asked for");
    }
    client.arrive(10..12);
    let packet = client.packet(10);
    assert_eq!(client.data(&packet), Arrival::Unwanted, "a duplicate");
    client.have[12] = true;
    let packet = client.packet(12);
    assert_eq!(client.data(&packet), Arrival::Unwanted, "another source was faster");
    client.arrive(40..41);
    let counters = Counters { accepted_bytes: 3 * 1_200, unwanted_bytes: 6 * 1_200 + 1, ..Counters::default() };
    assert_eq!(*client.puller.counters(), counters);
    assert_eq!(client.puller.in_flight_chunks(), 0);
}

//= PROTOCOL D2: A client MUST take a chunk's bytes only after its tag verifies.
#[test]
fn an_altered_chunk_stays_missing() {
    let mut client = Scripted::open();
    client.pull(&[(10, 1)]);
    let good = client.packet(10);
    // Text, tag, payload length, asset: what is left to name the chunk still does.
    for at in [16, 700, 1_215, 1_216, 1_231, 3, 8] {
        let mut altered = good.clone();
        altered[at] ^= 0x10;
        assert_eq!(client.data(&altered), rejected(10), "byte {at}");
    }
    // A good packet under another name.
    let mut renamed = client.packet(11);
    renamed[4..8].copy_from_slice(&10_u32.to_be_bytes());
    assert_eq!(client.data(&renamed), rejected(10));
    assert_eq!(client.puller.counters().rejected, 8);
    client.arrive(10..11);
}

//= PROTOCOL D4: The payload length of a chunk MUST equal what the stream's length implies; other chunks are treated as damaged.
#[test]
fn a_chunk_of_another_length_is_damaged_though_it_opens() {
    let mut client = Scripted::open();
    client.pull(&[(999, 2)]);
    let sealer = Sealer::new(&content_key(), ASSET);
    let mut packet = [0; PACKET_BYTES];
    let plain = [7; 1_200];
    for (chunk, bytes) in [(999, 1_199), (1_000, 1_200), (1_000, 2)] {
        sealer.seal(StreamId::ORIGINAL, ChunkNo(chunk), &plain[..bytes], &mut packet);
        assert_eq!(client.data(&packet), rejected(chunk), "{bytes} bytes");
    }
    client.arrive(999..1_001);
}

#[test]
fn chunks_of_other_assets_and_streams_are_not_taken() {
    let mut client = Scripted::open();
    client.pull(&[(0, 1)]);
    let mut packet = [0; PACKET_BYTES];
    let seal = |asset: AssetId, stream: u8, packet: &mut [u8; PACKET_BYTES]| {
        Sealer::new(&content_key(), asset).seal(StreamId(stream), ChunkNo(0), &[7; 1_200], packet);
    };
    seal(OTHER_ASSET, 0, &mut packet);
    assert_eq!(client.data(&packet), rejected(0));
    seal(ASSET, 3, &mut packet);
    assert_eq!(client.data(&packet), Arrival::Unwanted);
}

//= PROTOCOL P3: A packet that fails to open MUST change no state beyond a counter.
#[test]
fn packets_that_do_not_open_change_counters_and_nothing_else() {
    let mut client = Scripted::open();
    let (sequence, _) = client.pull(&[(0, 52)]);
    client.arrive(0..50);
    let state = |client: &mut Scripted| {
        let puller = &mut client.puller;
        let capacity = puller.capacity_chunks(client.now);
        (puller.in_flight_chunks(), capacity, puller.poll_timeout(), puller.rtt(), puller.is_open())
    };
    let before = state(&mut client);
    let mut altered_end = client.session.end(1, &complete(sequence, 52));
    altered_end[87] ^= 1;
    let mut longer_end = client.session.end(1, &complete(sequence, 52));
    longer_end.push(0);
    let mut welcome = vec![0; 84];
    welcome[0] = 0x12;
    let mut unopened_end = vec![0; 88];
    unopened_end[0] = 0x15;
    let strangers_end =
        Session::welcome(&[0; 1_232], &[9; 32], HANDLE, WireLimits::default()).0.end(1, &complete(1, 52));
    let control = [
        altered_end,
        longer_end,
        welcome,
        strangers_end,
        reset(HANDLE, 77),
        vec![0x15; 88],
        unopened_end,
        vec![],
        vec![0x77],
    ];
    client.advance(Duration::from_millis(1));
    for packet in &control {
        client.puller.handle_datagram(client.now, packet);
    }
    let mut altered_data = client.packet(50);
    altered_data[100] ^= 1;
    client.data(&altered_data);
    assert_eq!(state(&mut client), before);
    assert_eq!((client.events(), transmitted(&mut client.puller, client.now)), (vec![], None));
    let counters = client.puller.counters();
    assert_eq!((counters.dropped, counters.rejected, counters.lost_chunks), (control.len() as u64, 1, 0));
    // The sequence and counter that the forgeries named are still good.
    client.arrive(50..52);
    client.end(&complete(sequence, 52));
    assert!(client.puller.rtt().is_some());
}

#[test]
fn kinds_that_only_servers_take_are_dropped() {
    let mut client = Scripted::open();
    let hello = client.greet().expect("HELLO is due");
    let pull = client.session.pull(1, &crate::wire::PullText::new(ASSET.0, &[(0, 1)]));
    for packet in [&hello, &pull, &client.packet(0)] {
        client.puller.handle_datagram(client.now, packet);
    }
    assert_eq!(client.puller.counters().dropped, 3);
    assert_eq!(client.data(&hello), Arrival::Malformed);
    assert_eq!(client.puller.counters().dropped, 4);
}

//= PROTOCOL E2: A client MUST charge a source with loss or damage only on the word of an END of that source or on a time-out of its own.
#[test]
fn loss_is_charged_on_the_word_of_an_end_and_not_before() {
    let mut client = Scripted::open();
    let (sequence, _) = client.pull(&[(0, 10)]);
    client.arrive(0..8);
    // Anybody can send these; the source is charged with neither.
    let mut damaged = client.packet(8);
    damaged[500] ^= 1;
    client.data(&damaged);
    client.advance(Duration::from_millis(150));
    client.puller.handle_timeout(client.now);
    assert_eq!((client.puller.counters().lost_chunks, client.events()), (0, vec![]));

    client.end(&complete(sequence, 10));
    client.arrive(9..10);
    let until = client.puller.poll_timeout().expect("chunk 8 is waited for");
    client.now = until;
    client.puller.handle_timeout(client.now);
    assert_eq!(client.events(), [lost(&[Run::new(8, 1)], Loss::Data)]);
    assert_eq!(client.puller.counters().lost_chunks, 1);
}

//= PROTOCOL E4: A client MUST drop an END whose counter it has seen, and take from one whose sequence it does not wait for no more than its proof and its bitmap.
#[test]
fn a_replayed_end_is_dropped() {
    let mut client = Scripted::open();
    let (first, _) = client.pull(&[(0, 10)]);
    let end = client.session.end(1, &EndText { status: BUSY, retry_after_ms: 50, ..complete(first, 0) });
    client.puller.handle_datagram(client.now, &end);
    assert_eq!(client.events(), [lost(&[Run::new(0, 10)], Loss::Refused)]);
    client.advance(Duration::from_millis(50));
    client.puller.handle_timeout(client.now);
    assert!(client.puller.capacity_chunks(client.now) > 0);
    client.puller.handle_datagram(client.now, &end);
    assert!(client.puller.capacity_chunks(client.now) > 0, "a replay does not make the server busy again");
    assert_eq!(client.puller.counters().dropped, 1);
}

#[test]
fn an_end_for_a_sequence_that_is_not_waited_for_gives_its_proof_and_settles_nothing() {
    let mut client = Scripted::open();
    let (waited_for, _) = client.pull(&[(0, 10)]);
    for sequence in [0, waited_for + 1, 1_000] {
        for status in [BUSY, EXPIRED, UNKNOWN_ASSET, OVER_LIMIT, MALFORMED, NOT_HELD] {
            client.end(&EndText { sequence, status, proof: [sequence as u8; 16], ..EndText::default() });
        }
    }
    assert_eq!((client.events(), client.puller.in_flight_chunks()), (vec![], 10));
    assert!(client.puller.capacity_chunks(client.now) > 0);
    client.arrive(0..10);
    assert_eq!(client.pull(&[(20, 1)]).1.proof, [1_000_u32 as u8; 16]);
}

#[test]
fn the_newest_proof_goes_back_whatever_the_order_of_ends() {
    let mut client = Scripted::open();
    let first_proof = client.pull(&[(0, 1)]).1.proof;
    assert_eq!(first_proof, [0; 16], "zeros before the first END");
    let (second, third) = (client.pull(&[(1, 1)]).0, client.pull(&[(2, 1)]).0);
    let newer = client.session.end(8, &EndText { proof: [8; 16], ..complete(third, 1) });
    let older = client.session.end(7, &EndText { proof: [7; 16], ..complete(second, 1) });
    client.puller.handle_datagram(client.now, &newer);
    client.puller.handle_datagram(client.now, &older);
    assert_eq!(client.pull(&[(3, 1)]).1.proof, [8; 16]);
}

/// Mechanism: the runs of an END were told as lost as they came, so a server could have chunks pulled again that were
/// never asked of it, or had long arrived.
#[test]
fn only_what_was_asked_for_and_is_missing_is_told_as_not_held() {
    let mut client = Scripted::open();
    let (sequence, _) = client.pull(&[(100, 10), (200, 5)]);
    client.arrive(100..103);
    let not_held = vec![(0, u16::MAX), (105, 200), (u32::MAX, u16::MAX)];
    client.end(&EndText { not_held: vec![(0, 101), (107, 95)], ..complete(sequence, 10) });
    assert_eq!(client.events(), [lost(&[Run::new(107, 3), Run::new(200, 2)], Loss::NotHeld)]);
    assert_eq!(client.puller.in_flight_chunks(), 4 + 3);
    client.arrive(103..107);

    let (sequence, _) = client.pull(&[(300, 4)]);
    client.end(&EndText { not_held, ..complete(sequence, 10) });
    assert_eq!(client.events(), [lost(&[Run::new(300, 4)], Loss::NotHeld)]);
    client.arrive(202..205);
    assert_eq!(client.puller.in_flight_chunks(), 0);
}

#[test]
fn a_server_that_holds_nothing_says_so_for_all() {
    let mut client = Scripted::open();
    let (sequence, _) = client.pull(&[(5, 3), (60, 1)]);
    client.end(&EndText { status: NOT_HELD, ..complete(sequence, 0) });
    assert_eq!(client.events(), [lost(&[Run::new(5, 3), Run::new(60, 1)], Loss::NotHeld)]);
    assert_eq!((client.puller.in_flight_chunks(), client.puller.counters().lost_chunks), (0, 0));
}

#[test]
fn a_busy_server_is_left_alone_for_as_long_as_it_asks() {
    let mut client = Scripted::open();
    let (sequence, _) = client.pull(&[(0, 10)]);
    client.end(&EndText { status: BUSY, retry_after_ms: 700, ..complete(sequence, 0) });
    assert_eq!(client.events(), [lost(&[Run::new(0, 10)], Loss::Refused)]);
    assert_eq!(client.puller.capacity_chunks(client.now), 0);
    let until = client.now + Duration::from_millis(700);
    assert_eq!(client.puller.poll_timeout(), Some(until));
    client.now = until;
    client.puller.handle_timeout(until);
    assert!(client.puller.capacity_chunks(until) > 0);
    assert_eq!(client.puller.poll_timeout(), None);
}

#[test]
fn a_server_that_calls_a_good_pull_malformed_fails() {
    let mut client = Scripted::open();
    let (sequence, _) = client.pull(&[(0, 10)]);
    client.pull(&[(10, 10)]);
    client.end(&EndText { status: MALFORMED, ..complete(sequence, 0) });
    let told = client.events();
    assert_eq!(told.last(), Some(&Event::Failed(Failure::Misbehaves)));
    assert_eq!(told.len(), 3, "what was asked for is told as lost first: {told:?}");
    assert_eq!(client.puller.in_flight_chunks(), 0);
}

/// Mechanism: the replay window added its width to the counter, which overflows for counters near the end.
#[test]
fn counters_near_the_end_are_counters_like_others() {
    let mut client = Scripted::open();
    for (n, counter) in [5_000, u64::MAX - 1_000, u64::MAX].into_iter().enumerate() {
        let (sequence, _) = client.pull(&[(n as u32, 1)]);
        let end = client.session.end(counter, &EndText { status: NOT_HELD, ..complete(sequence, 0) });
        client.puller.handle_datagram(client.now, &end);
        assert_eq!(client.events().len(), 1, "counter {counter}");
        client.puller.handle_datagram(client.now, &end);
        assert_eq!(client.events(), [], "counter {counter} again");
    }
}

#[test]
fn abandoned_chunks_are_told_and_no_longer_in_flight() {
    let mut client = Scripted::open();
    client.pull(&[(0, 10)]);
    client.pull(&[(20, 10)]);
    client.arrive(0..4);
    client.puller.abandon(client.now);
    let told = [lost(&[Run::new(4, 6)], Loss::Pull), lost(&[Run::new(20, 10)], Loss::Pull)];
    assert_eq!(client.events(), told);
    assert_eq!((client.puller.in_flight_chunks(), client.puller.poll_timeout()), (0, None));
}
