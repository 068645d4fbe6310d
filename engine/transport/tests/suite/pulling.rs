//! PULLs, as a server takes them: what is granted, what is refused with an END, and what deserves no answer.

use std::time::Duration;

use braidcast_media::Run;
use braidcast_media::layout::PACKET_BYTES;
use braidcast_transport::limits::{CHUNKS_PER_PULL_MAX, HINTS_PER_SECOND, REPLAY_WINDOW, UNPROVEN_BYTES_MAX};
use braidcast_transport::packet::Status;
use braidcast_transport::responder::{Action, Outcome, ResponderConfig};

use crate::asset::{ASSET, EPOCH_S, OTHER_ASSET, PassFor};
use crate::server::{Client, Server, address, all_sent, granted};
use crate::wire::{
    BUSY, EXPIRED, MALFORMED, NOT_HELD, OK, OVER_LIMIT, PULL_BYTES, PullText, UNKNOWN_ASSET, WireRun, reset,
};

const WHOLE: WireRun = (0, CHUNKS_PER_PULL_MAX);

fn whole_train_bytes() -> u64 {
    u64::from(CHUNKS_PER_PULL_MAX) * PACKET_BYTES as u64
}

#[test]
fn a_pull_within_the_limits_is_granted_as_it_was_asked() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let request = client.granted(&mut server, &[(10, 20), (u32::MAX, 1), (5, 31)]);
    assert_eq!((request.to, request.handle, request.sequence), (client.address, client.session.handle, 1));
    assert_eq!((request.asset, request.stream.0, request.chunks()), (ASSET, 0, 52));
    assert_eq!(request.runs[..], [Run::new(10, 20), Run::new(u32::MAX, 1), Run::new(5, 31)]);
    server.advance(Duration::from_micros(250));
    let end = server.answer(&request, &all_sent(&request));
    let end = client.read(&end);
    assert_eq!((end.sequence, end.status, end.flags, end.sent_chunks, end.held_us), (1, OK, 0, 52, 250));
    assert_eq!((end.highest, end.seen), (1, 0));
}

#[test]
fn ends_tell_which_sequences_were_seen() {
    let mut server = Server::new();
    let mut client = server.open_default();
    for sequence in [1, 2, 4, 7] {
        client.sequence = sequence - 1;
        client.granted(&mut server, &[(0, 1)]);
    }
    client.sequence = 7;
    let end = client.served(&mut server, &[(0, 1)]);
    // Below 8: 7 seen, 6 and 5 not, 4 seen, 3 not, 2 and 1 seen.
    assert_eq!((end.highest, end.seen), (8, 0b110_1001));
}

//= PROTOCOL U6: A PULL that names more runs or chunks than the limits, no run, or an empty run MUST be answered with status MALFORMED and no DATA.
#[test]
fn limits_of_runs_and_chunks_hold_to_the_last_one() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let eight: Vec<WireRun> = (0..8).map(|n| (n * 100, 6)).collect();
    let text = |runs: &[WireRun]| PullText::new(ASSET.0, runs);
    let says_nine = PullText { run_count: 9, ..text(&eight) };
    let says_255 = PullText { run_count: 255, ..text(&eight) };
    let malformed = [
        text(&[]),
        says_nine,
        says_255,
        text(&[(0, 0)]),
        text(&[(0, 51), (60, 0)]),
        text(&[(0, 53)]),
        text(&[(0, 52), (60, 1)]),
        text(&[(0, u16::MAX)]),
        text(&[(0, u16::MAX), (0, u16::MAX), (0, 54)]),
    ];
    for text in &malformed {
        let proof = client.proof;
        assert_eq!(client.refused(&mut server, &text.clone().proving(proof)).status, MALFORMED, "{text:?}");
    }
    for runs in [&eight[..], &[(0, 52)], &[(0, 51), (60, 1)], &[(0, 1)]] {
        assert_eq!(client.served(&mut server, runs).status, OK, "{runs:?}");
    }
}

//= PROTOCOL U1: A server MUST check the replay window after a PULL's tag verifies, and move it only then.
#[test]
fn a_forged_sequence_does_not_move_the_window() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let pull = client.pull(&[(0, 1)]);
    let mut forged = pull.clone();
    forged[12..16].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(server.reply(client.address, &forged), None);
    let mut altered = pull.clone();
    altered[PULL_BYTES - 1] ^= 1;
    assert_eq!(server.reply(client.address, &altered), None, "its sequence is not used up either");
    assert_eq!(server.responder.counters().bad_tag, 2);
    assert_eq!(granted(server.handle(client.address, &pull)).sequence, 1);
}

//= PROTOCOL U2: A server MUST NOT answer a sequence that it has seen, nor one older than the replay window.
#[test]
fn a_replayed_or_stale_pull_gets_nothing() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let first = client.pull(&[(0, 1)]);
    granted(server.handle(client.address, &first));
    assert_eq!(server.reply(client.address, &first), None, "a replay before its answer");
    client.sequence = 1 + REPLAY_WINDOW;
    client.granted(&mut server, &[(0, 1)]);
    let text = PullText::new(ASSET.0, &[(0, 1)]);
    let (stale, oldest) = (client.session.pull(2, &text), client.session.pull(3, &text));
    assert_eq!(server.reply(client.address, &stale), None, "one older than the window");
    granted(server.handle(client.address, &oldest));
    assert_eq!(server.reply(client.address, &oldest), None, "the oldest in the window, again");
    assert_eq!(server.reply(client.address, &client.session.pull(0, &text)), None, "sequences start at 1");
    assert_eq!(server.responder.counters().replayed, 4);
}

//= PROTOCOL U3: A server MUST send DATA only for a PULL that opens under an established session and arrives from that session's address pair.
#[test]
fn a_pull_from_another_address_gets_a_reset_and_no_data() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let pull = client.pull(&[(0, 1)]);
    for elsewhere in [address(2), "198.51.100.7:1".parse().expect("an address")] {
        assert_eq!(server.reply(elsewhere, &pull), Some(reset(client.session.handle, 1)));
    }
    granted(server.handle(client.address, &pull));
    let unknown = server.reply(client.address, &{
        let mut other = pull.clone();
        other[11] ^= 1;
        other
    });
    assert_eq!(unknown, Some(reset(client.session.handle ^ 1, 1)));
    assert_eq!(server.responder.counters().unknown_session, 3);
}

//= PROTOCOL R1: A server MUST limit the rate of RESETs, and never send one larger than the packet that caused it.
#[test]
fn resets_are_small_and_a_thousand_a_second() {
    let mut server = Server::new();
    let pull = server.open_default().pull(&[(0, 1)]);
    for _ in 0..2 {
        let resets: Vec<_> = (0..3_000).filter_map(|_| server.reply(address(2), &pull)).collect();
        assert_eq!(resets.len(), HINTS_PER_SECOND as usize);
        assert!(resets.iter().all(|reset| reset.len() <= pull.len()));
        server.advance(Duration::from_secs(1));
    }
}

/// Chunks that a client which returns no proof can have sent.
fn unproven_chunks(server: &mut Server, client: &mut Client) -> u64 {
    let mut chunks = 0;
    loop {
        let pull = client.pull_text(&PullText::new(ASSET.0, &[WHOLE]));
        let Some(Action::Pull(request)) = server.handle(client.address, &pull) else {
            return chunks;
        };
        chunks += u64::from(request.chunks());
        server.answer(&request, &all_sent(&request));
    }
}

//= PROTOCOL U4: A server MUST NOT send more than the lesser of 16 MiB and one second at the session's rate beyond the newest proof that the client returned.
#[test]
fn a_client_that_stops_proving_attracts_no_more_than_the_bound() {
    for (rate_kib_s, bound) in [(0, UNPROVEN_BYTES_MAX), (1_000_000, UNPROVEN_BYTES_MAX), (1_000, 1_024_000)] {
        let mut server = Server::new();
        let mut client = server.open(address(1), &PassFor { rate_kib_s, ..PassFor::number(1) }.sealed(), 1);
        let sent = unproven_chunks(&mut server, &mut client) * PACKET_BYTES as u64;
        assert!(sent <= bound, "{sent} of {bound} bytes");
        assert!(sent + whole_train_bytes() > bound, "{sent} of {bound} bytes are too few");
        // Time alone changes nothing.
        server.advance(Duration::from_secs(30));
        assert_eq!(unproven_chunks(&mut server, &mut client), 0);
    }
}

//= PROTOCOL U5: A server MUST answer a PULL that would exceed that bound with an END of status OVER_LIMIT and no DATA.
#[test]
fn beyond_the_bound_an_end_says_so_and_its_proof_lifts_it() {
    let mut server = Server::new();
    let mut client = server.open_default();
    unproven_chunks(&mut server, &mut client);
    let end = client.refused(&mut server, &PullText::new(ASSET.0, &[WHOLE]));
    assert_eq!(end.status, OVER_LIMIT);
    assert_eq!(server.responder.counters().over_limit, 2);
    // The refusal itself brings a proof of all that was sent.
    assert_eq!(client.served(&mut server, &[WHOLE]).status, OK);
}

#[test]
fn requests_that_are_not_answered_yet_count_against_the_bound() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let requests = UNPROVEN_BYTES_MAX / whole_train_bytes();
    let granted: Vec<_> = (0..requests).map(|_| client.granted(&mut server, &[WHOLE])).collect();
    assert_eq!(client.refused(&mut server, &PullText::new(ASSET.0, &[WHOLE])).status, OVER_LIMIT);
    // What turns out not to be here is not held against the client.
    let nothing = Outcome { status: Status::NotHeld, sent_chunks: 0, ..all_sent(&granted[0]) };
    for request in &granted {
        let end = server.answer(request, &nothing);
        assert_eq!(client.read(&end).status, NOT_HELD);
    }
    assert_eq!(client.served(&mut server, &[WHOLE]).status, OK);
}

#[test]
fn proofs_of_other_sessions_and_invented_ones_prove_nothing() {
    let mut server = Server::new();
    let mut client = server.open_default();
    unproven_chunks(&mut server, &mut client);
    let mut neighbour = server.open(address(2), &PassFor::number(2).sealed(), 1);
    while neighbour.served(&mut server, &[WHOLE]).sequence < 100 {}
    let mut altered = client.refused(&mut server, &PullText::new(ASSET.0, &[WHOLE])).proof;
    altered[15] ^= 1;
    let mut inflated = client.proof;
    inflated[..8].fill(0xff);
    for proof in [neighbour.proof, altered, inflated, [0xff; 16], [0; 16]] {
        let text = PullText::new(ASSET.0, &[WHOLE]).proving(proof);
        assert_eq!(client.refused(&mut server, &text).status, OVER_LIMIT);
    }
}

#[test]
fn an_older_proof_does_not_take_a_newer_one_back() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let old = client.served(&mut server, &[WHOLE]).proof;
    while client.served(&mut server, &[WHOLE]).sequence < 200 {}
    client.proof = old;
    assert_eq!(client.served(&mut server, &[WHOLE]).status, OK);
}

//= PROTOCOL E1: An END MUST NOT exceed the size of its PULL unless it is covered by the bound of U4.
#[test]
fn ends_larger_than_their_pull_are_used_up_like_data() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let runs: Vec<WireRun> = (0..8).map(|n| (n * 10, 1)).collect();
    let not_held: Vec<Run> = runs.iter().map(|&(first, count)| Run::new(first, count)).collect();
    let mut excess = 0;
    for _ in 0..200_000 {
        // A client that shows no proof, as one that spoofs cannot.
        let pull = client.pull_text(&PullText::new(ASSET.0, &runs));
        let end = match server.handle(client.address, &pull).expect("an authentic PULL is answered") {
            Action::Send(end) => end.to_vec(),
            Action::Pull(request) => {
                let none = Outcome { sent_chunks: 0, not_held: &not_held, ..all_sent(&request) };
                server.answer(&request, &none)
            }
        };
        excess += end.len().saturating_sub(pull.len()) as u64;
    }
    assert!(excess > 0 && excess <= UNPROVEN_BYTES_MAX, "{excess} bytes more came out than went in");
    let end = client.refused(&mut server, &PullText::new(ASSET.0, &runs));
    assert_eq!(end.status, OVER_LIMIT);
}

#[test]
fn an_end_lists_what_is_not_held() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let runs: Vec<WireRun> = (0..8).map(|n| (n * 10, 2)).collect();
    let request = client.granted(&mut server, &runs);
    let not_held: Vec<Run> = request.runs.to_vec();
    let end = server.answer(&request, &Outcome { sent_chunks: 0, not_held: &not_held, ..all_sent(&request) });
    assert_eq!(end.len(), 136);
    assert_eq!(client.read(&end).not_held, runs);
}

//= PROTOCOL U7: A server MUST answer a PULL whose ticket has expired, skew included, with status EXPIRED and no DATA.
#[test]
fn a_ticket_that_expires_during_a_session_ends_it_after_the_skew() {
    let mut server = Server::new();
    let pass = PassFor { expires_at: EPOCH_S + 10, ..PassFor::number(1) }.sealed();
    let mut client = server.open(address(1), &pass, 1);
    assert_eq!(client.limits.lifetime_s, 10);
    server.advance(Duration::from_secs(70));
    assert_eq!(client.served(&mut server, &[WHOLE]).status, OK);
    server.advance(Duration::from_secs(1));
    let proof = client.proof;
    let text = PullText::new(ASSET.0, &[WHOLE]).proving(proof);
    assert_eq!(client.refused(&mut server, &text).status, EXPIRED);
}

//= PROTOCOL U8: A server MUST answer a PULL for an asset outside of the ticket's scope as it would one for an asset that does not exist.
#[test]
fn an_asset_out_of_scope_looks_like_one_that_does_not_exist() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let out_of_scope = client.refused(&mut server, &PullText::new(OTHER_ASSET.0, &[WHOLE]));
    assert_eq!(out_of_scope.status, UNKNOWN_ASSET);

    // In scope, yet the server finds no such asset.
    let request = client.granted(&mut server, &[WHOLE]);
    let unknown = Outcome { status: Status::UnknownAsset, sent_chunks: 0, server_limited: true, ..all_sent(&request) };
    let end = server.answer(&request, &unknown);
    let not_there = client.read(&end);
    let same = |end: &crate::wire::EndText| (end.status, end.flags, end.sent_chunks, end.not_held.clone());
    assert_eq!(same(&out_of_scope), same(&not_there));
}

#[test]
fn a_session_over_its_rate_is_told_when_to_come_back_and_served_then() {
    let mut server = Server::new();
    // 52 chunks are 64,064 bytes: at 100 KiB/s one second holds one train and not two.
    let mut client = server.open(address(1), &PassFor { rate_kib_s: 100, ..PassFor::number(1) }.sealed(), 1);
    assert_eq!(client.limits.rate_kib_s, 100);
    assert_eq!(client.served(&mut server, &[WHOLE]).status, OK);
    for _ in 0..20 {
        let proof = client.proof;
        let busy = client.refused(&mut server, &PullText::new(ASSET.0, &[WHOLE]).proving(proof));
        assert_eq!((busy.status, busy.flags), (BUSY, 1));
        assert!((1..=1_000).contains(&busy.retry_after_ms));
        // Mechanism: the time was rounded down to milliseconds, so whoever kept to it came too early.
        server.advance(Duration::from_millis(busy.retry_after_ms.into()));
        assert_eq!(client.served(&mut server, &[WHOLE]).status, OK);
    }
    let elapsed = server.now().unix_s - EPOCH_S;
    assert!((12..=13).contains(&elapsed), "21 trains at 100 KiB/s, one of them at once, took {elapsed} s");
}

#[test]
fn the_lowest_rate_wins_and_none_is_too_low_for_a_train() {
    let rate_of = |ticket, config| {
        let config = ResponderConfig { rate_kib_s: config, ..ResponderConfig::default() };
        let mut server = Server::with(config);
        let mut client = server.open(address(1), &PassFor { rate_kib_s: ticket, ..PassFor::number(1) }.sealed(), 1);
        let mut chunks = 0;
        loop {
            let pull = client.pull(&[WHOLE]);
            let Some(Action::Pull(request)) = server.handle(client.address, &pull) else {
                return (client.limits.rate_kib_s, chunks * PACKET_BYTES as u64 / 1_024);
            };
            chunks += u64::from(request.chunks());
            let end = server.answer(&request, &all_sent(&request));
            client.read(&end);
        }
    };
    // In one instant a session takes what one second at its rate holds, in whole trains of 62.6 KiB.
    assert_eq!(rate_of(200, 0), (200, 187));
    assert_eq!(rate_of(0, 200), (200, 187));
    assert_eq!(rate_of(500, 200), (200, 187));
    assert_eq!(rate_of(1, 0), (64, 62), "the least rate holds a train");
}

//= PROTOCOL U9: A server MUST space the trains of a session to the rate that each PULL names, and make none longer than the greater of 2 chunks and 1 ms at that rate.
#[test]
fn a_named_rate_sets_the_trains_and_when_the_next_answer_begins() {
    let trains_at = |rate_kib_s| {
        let mut server = Server::new();
        let mut client = server.open_default();
        let mut pull = || {
            let text = PullText { rate_kib_s, ..PullText::new(ASSET.0, &[(0, 26)]).proving(client.proof) };
            let pull = client.pull_text(&text);
            granted(server.handle(client.address, &pull))
        };
        let (first, second) = (pull(), pull());
        assert_eq!(first.start_at, first.received_at);
        (first.train_chunks, (second.start_at - first.start_at).as_micros())
    };
    // 26 chunks are 32,032 bytes.
    assert_eq!(trains_at(0), (52, 0), "no rate is named");
    assert_eq!(trains_at(10_000), (8, 3_128), "8 chunks are 0.96 ms, 9 would be more than one");
    assert_eq!(trains_at(1_000), (2, 31_281), "the least train");
    assert_eq!(trains_at(1), (2, 488_769), "64 KiB/s is the least rate");
    assert_eq!(trains_at(u32::MAX), (52, 0), "a train never holds more than a PULL");
}

#[test]
fn a_client_that_asks_faster_than_it_names_is_told_so() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let mut answered = 0;
    loop {
        let text = PullText { rate_kib_s: 100, ..PullText::new(ASSET.0, &[(0, 10)]).proving(client.proof) };
        let pull = client.pull_text(&text);
        match server.handle(client.address, &pull) {
            Some(Action::Pull(_)) => answered += 1,
            Some(Action::Send(end)) => {
                let end = client.read(&end);
                assert_eq!((end.status, end.flags), (BUSY, 1));
                assert!(end.retry_after_ms > 0);
                // 12,320 bytes take 120 ms: the tenth begins after 1.08 s.
                assert_eq!(answered, 9);
                return;
            }
            None => panic!("an authentic PULL is answered"),
        }
    }
}

#[test]
fn ends_tell_which_pulls_are_not_answered_yet() {
    let mut server = Server::new();
    let mut client = server.open_default();
    let requests: Vec<_> = (0..4).map(|n| client.granted(&mut server, &[(n, 1)])).collect();
    let end = server.answer(&requests[2], &all_sent(&requests[2]));
    let end = client.read(&end);
    // Below 4: 3 is answered, 2 and 1 wait.
    assert_eq!((end.highest, end.seen, end.waiting), (4, 0b111, 0b110));
}
