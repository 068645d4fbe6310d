//! Golden packets, made once by another implementation (Python's `cryptography`) from PROTOCOL.md, and parsers under
//! arbitrary bytes.

use braidcast_media::ticket::SessionSecret;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};

use super::*;
use crate::handshake::{Greeting, parse_hello};

/// The same cases in every run; `PROPTEST_CASES` asks for more of them.
fn fixed_seed() -> Config {
    Config { rng_seed: RngSeed::Fixed(0x7061_636b_6574), failure_persistence: None, ..Config::default() }
}

/// The bytes of spaced hexadecimal digits.
fn hex(spaced: &str) -> Vec<u8> {
    let digits: Vec<u8> = spaced
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).expect("golden bytes are hexadecimal") as u8)
        .collect();
    digits.as_chunks::<2>().0.iter().map(|[high, low]| high << 4 | low).collect()
}

fn counting<const N: usize>(first: u8) -> [u8; N] {
    std::array::from_fn(|i| first + i as u8)
}

const HANDLE: u64 = 0x0500_abcd_ef01_2345;

/// The ticket of braidcast-media's golden test; HELLO does not look into it.
const TICKET: &str = "
    00000007  a0a1a2a3 a4a5a6a7 a8a9aaab
    a6593e6e 018e44f8 2a2ccd98 4b378e91 20fd0b43 c6e2143b c4577cdd 23f62b5e
    c35474bb fa4424b5  5f9c04c8 623351f9  471b0868  60
    d1187d45 5b0d59ac 6197a3a0 a9937828
    b840abee a6e3fc84 7b96b853 441bbc80";

fn greeting() -> Greeting {
    Greeting::new(&hex(TICKET), SessionSecret::new(counting(0x40)), counting(0x80)).expect("a ticket of 101 bytes")
}

fn golden_welcome_clear() -> [u8; WELCOME_CLEAR_BYTES] {
    welcome_clear(&counting(0x80), HANDLE, &counting(0xc0))
}

fn session_keys() -> SessionKeys {
    SessionKeys::derive(&SessionSecret::new(counting(0x40)), greeting().hello(), &golden_welcome_clear())
}

fn limits() -> Limits {
    Limits { chunks_per_pull: 52, runs_per_pull: 8, rate_kib_s: 20_000, lifetime_s: 3_600, pulls_unanswered: 512 }
}

#[test]
fn hello_has_these_bytes() {
    let greeting = greeting();
    let hello = greeting.hello();
    // kind, reserved | client random | T
    let start = "11 000000
        80818283 84858687 88898a8b 8c8d8e8f 90919293 94959697 98999a9b 9c9d9e9f
        0065";
    assert_eq!(hello[..38], hex(start));
    assert_eq!(hello[38..139], hex(TICKET));
    assert!(hello[139..1_216].iter().all(|&byte| byte == 0));
    assert_eq!(hello[1_216..], hex("ef57dc5f f5e6f13f 23538059 9363bc43"));
}

const WELCOME_GOLDEN: &str = "
    12 000000  80818283 84858687  0500abcd ef012345
    c0c1c2c3 c4c5c6c7 c8c9cacb cccdcecf d0d1d2d3 d4d5d6d7 d8d9dadb dcdddedf
    f8f60d78 d51c53b0 6aaccb96 7d3e2bab
    8c0b370b d355cce8 4eb8436d 84219461";

#[test]
fn welcome_has_these_bytes_and_opens() {
    let packet = welcome(&golden_welcome_clear(), &session_keys(), limits());
    assert_eq!(packet[..], hex(WELCOME_GOLDEN));
    let session = greeting().handle_welcome(&packet).expect("the golden WELCOME answers the golden HELLO");
    assert_eq!((session.handle, session.limits), (HANDLE, limits()));
}

fn golden_pull() -> Pull {
    Pull {
        asset: AssetId(0x0102_0304_0506_0708),
        stream: StreamId::ORIGINAL,
        rate_kib_s: 1_024,
        proof: Proof { sent_bytes: 64_064, mac: counting(0xf0) },
        runs: [Run::new(0, 50), Run::new(300, 2)].into_iter().collect(),
    }
}

#[test]
fn pull_has_these_bytes_and_opens() {
    // kind, reserved | handle | sequence | sealed | tag
    let golden = hex("
        13 000000  0500abcd ef012345  00000003
        18bed7ca 8a680e1b ce894281 e333ce99 2d8e051f 9f77e09d 5dbdf784 d6149550
        1e6b9a4a f40ee2e9 8c3a67e4 a6633e2f 5bd8f59c 527c71d7 6747568e 3d4b467b
        7dccbcef 24f5330f 994f903a a3efbc0e
        911648e3 c9da5510 1b08431a 9dde5cbe");
    let key = session_keys().client;
    assert_eq!(golden_pull().seal(HANDLE, 3, &key)[..], golden);
    assert_eq!(Pull::open(&golden, 3, &key), Some(Ok(golden_pull())));
    assert_eq!(Pull::open(&golden, 4, &key), None, "the sequence is the nonce");
}

fn golden_end() -> End {
    End {
        sequence: 3,
        status: Status::Ok,
        server_limited: false,
        not_held: Runs::new(),
        retry_after_ms: 0,
        sent_chunks: 52,
        held_us: 250,
        sent_at_us: 1_000_000,
        highest: 5,
        waiting: 0,
        seen: 0b1110,
        proof: Proof { sent_bytes: 64_064, mac: counting(0xe0) },
    }
}

fn check_end(end: &End, counter: u64, golden: &str) {
    let (golden, key) = (hex(golden), session_keys().server);
    assert_eq!(end.seal(HANDLE, counter, &key)[..], golden);
    assert_eq!(End::clear(&golden), Some((session_tag(HANDLE), counter)));
    assert_eq!(End::open(&golden, counter, &key).as_ref(), Some(end));
    assert_eq!(End::open(&golden, counter + 1, &key), None, "the counter is the nonce");
}

#[test]
fn end_without_runs_has_these_bytes_and_opens() {
    // kind, runs, reserved | handle, low 4 | counter | sealed | tag
    check_end(
        &golden_end(),
        9,
        "
        15 00 0000  ef012345  00000000 00000009
        56e9654b 3b591d1f 5ad98d5f c043ac2d 8a91f979 4ff73ec5 3d73cef2 dacc21b5
        d94c8ba7 a4318c9c 68fe225f f230622a 97132a4c 7ae53ceb
        410e377d de1ae30f 4774aff7 9782dff1",
    );
}

#[test]
fn end_of_a_busy_server_has_these_bytes_and_opens() {
    let busy = End {
        sequence: 4,
        status: Status::Busy,
        server_limited: true,
        retry_after_ms: 40,
        sent_chunks: 0,
        held_us: 0,
        sent_at_us: 1_000_001,
        seen: 0b1111,
        ..golden_end()
    };
    check_end(
        &busy,
        10,
        "
        15 00 0000  ef012345  00000000 0000000a
        b10cf830 eed5ea85 72bd3d94 a7a19218 9d0b1cfc 34b083c9 646af86e 2b023c49
        b70b4207 e4403933 610360de 256eb4f2 b7199c8e 381960cd
        0eccd2f3 8e999778 11ca69e5 c36daacc",
    );
}

#[test]
fn end_with_runs_has_these_bytes_and_opens() {
    let with_runs = End {
        sequence: 5,
        not_held: [Run::new(10, 5), Run::new(300, 7)].into_iter().collect(),
        sent_chunks: 40,
        held_us: 251,
        sent_at_us: 1_000_002,
        seen: 0b1111,
        proof: Proof { sent_bytes: 128_128, mac: counting(0xe0) },
        ..golden_end()
    };
    check_end(
        &with_runs,
        11,
        "
        15 02 0000  ef012345  00000000 0000000b
        c15e056a af0be257 6f58f9c2 7f85322e db88ed4a 9987d7e0 8b6e6e95 90507200
        e17ecb10 00a7fe6c 5f056257 f9a07b64 4ca6ac10 611dcc87
        4ab6fbb0 e3f53e02 c7f1c5df
        eed3fbfd 48452024 a33c5a7e 76cf17ef",
    );
}

#[test]
fn reset_and_versions_have_these_bytes() {
    // kind, reserved | handle | sequence
    assert_eq!(reset(HANDLE, 3)[..], hex("16 000000  0500abcd ef012345  00000003"));
    // kind, count, reserved | the cause's bytes 4..12 | version
    let packet = versions(greeting().hello());
    assert_eq!(packet[..], hex("00 01 0000  80818283 84858687  01"));
    assert_eq!(parse_versions(&packet, &counting(0x80)), Some(&[1][..]));
}

fn runs() -> impl Strategy<Value = Runs> {
    let run = (any::<u32>(), any::<u16>()).prop_map(|(first, count)| Run::new(first, count));
    vec(run, 0..=RUNS_PER_PULL_MAX).prop_map(|runs| runs.into_iter().collect())
}

fn proof() -> impl Strategy<Value = Proof> {
    (any::<u64>(), any::<[u8; 8]>()).prop_map(|(sent_bytes, mac)| Proof { sent_bytes, mac })
}

fn pulls() -> impl Strategy<Value = Pull> {
    (any::<u64>(), any::<u8>(), any::<u32>(), proof(), runs()).prop_map(|(asset, stream, rate_kib_s, proof, runs)| {
        Pull { asset: AssetId(asset), stream: StreamId(stream), rate_kib_s, proof, runs }
    })
}

prop_compose! {
    fn ends()(
        sequence in any::<u32>(),
        status in (0_u8..=6).prop_filter_map("a status of the table", Status::parse),
        server_limited in any::<bool>(),
        not_held in runs(),
        (retry_after_ms, sent_chunks, held_us, sent_at_us) in any::<(u16, u16, u32, u64)>(),
        (highest, waiting, seen) in any::<(u32, u32, u64)>(),
        proof in proof(),
    ) -> End {
        End {
            sequence, status, server_limited, not_held, retry_after_ms, sent_chunks, held_us, sent_at_us, highest,
            waiting, seen, proof,
        }
    }
}

#[test]
fn the_first_two_bytes_of_every_packet_tell_its_size() {
    let (key, runs) = (session_keys(), [Run::new(10, 5), Run::new(300, 7)]);
    let ends = (0..=2).map(|n| End { not_held: runs.into_iter().take(n).collect(), ..golden_end() });
    let mut packets: Vec<Vec<u8>> = ends.map(|end| end.seal(HANDLE, 9, &key.server).to_vec()).collect();
    packets.push(greeting().hello().to_vec());
    packets.push(welcome(&golden_welcome_clear(), &key, limits()).to_vec());
    packets.push(golden_pull().seal(HANDLE, 3, &key.client).to_vec());
    packets.push(reset(HANDLE, 3).to_vec());
    packets.push(versions(greeting().hello()).to_vec());
    for packet in packets {
        assert_eq!(packet_bytes([packet[0], packet[1]]), Some(packet.len()), "{:#x}", packet[0]);
    }
    assert_eq!(packet_bytes([0x14, 0]), Some(1_232));
    for start in [[0x15, 9], [0, 0], [0, 16], [0x10, 0], [0x17, 0], [0x21, 0], [b'G', b'E']] {
        assert_eq!(packet_bytes(start), None, "{start:x?}");
    }
}

proptest! {
    #![proptest_config(fixed_seed())]

    //= PROTOCOL P1: A receiver MUST drop a packet whose size is not one that its kind allows, and change no state.
    #[test]
    fn only_the_sizes_of_its_kind_are_a_packet(
        first_byte in prop_oneof![any::<u8>(), 0x10_u8..0x18], second_byte in 0_u8..10, size in 0_usize..1_400,
    ) {
        let end = 88 + 6 * usize::from(second_byte);
        let sizes = match first_byte {
            0x11 | 0x14 => 1_232..=1_232,
            0x12 => 84..=84,
            0x13 => 112..=112,
            0x15 if second_byte <= 8 => end..=end,
            0x16 => 16..=16,
            _ => usize::MAX..=usize::MAX,
        };
        for size in [size, 15, 16, 17, 83, 84, 85, 87, 88, 89, 93, 94, 111, 112, 113, 135, 136, 137, 142, 1_231, 1_232, 1_233] {
            let mut packet = vec![0; size];
            packet.splice(..2.min(size), [first_byte, second_byte].into_iter().take(size));
            prop_assert_eq!(Kind::of(&packet).is_some(), sizes.contains(&size), "{} bytes", size);
        }
    }

    #[test]
    fn any_bytes_open_as_nothing(bytes in vec(any::<u8>(), 0..200), counter in any::<u64>()) {
        let keys = session_keys();
        prop_assert_eq!(Pull::open(&bytes, counter as u32, &keys.client), None);
        prop_assert_eq!(End::open(&bytes, counter, &keys.server), None);
        let clear = End::clear(&bytes);
        prop_assert_eq!(clear.is_some(), bytes.len() >= CONTROL_HEADER_BYTES);
        prop_assert_eq!(handle_and_sequence(&bytes).is_some(), clear.is_some());
        prop_assert!(greeting().handle_welcome(&bytes).is_none());
    }

    #[test]
    fn pull_comes_back(pull in pulls(), handle in any::<u64>(), sequence in any::<u32>()) {
        let key = session_keys().client;
        let packet = pull.seal(handle, sequence, &key);
        prop_assert_eq!(packet.len(), PULL_BYTES);
        prop_assert_eq!(handle_and_sequence(&packet), Some((handle, sequence)));
        prop_assert_eq!(Pull::open(&packet, sequence, &key), Some(Ok(pull)));
    }

    #[test]
    fn end_comes_back(end in ends(), handle in any::<u64>(), counter in any::<u64>()) {
        let key = session_keys().server;
        let packet = end.seal(handle, counter, &key);
        prop_assert_eq!(packet.len(), END_BYTES_MIN + RUN_BYTES * end.not_held.len());
        prop_assert_eq!(Kind::of(&packet), Some(Kind::End));
        prop_assert_eq!(End::open(&packet, counter, &key), Some(end));
    }

    #[test]
    fn altered_pull_or_end_does_not_open(end in ends(), at in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let keys = session_keys();
        let mut pull = golden_pull().seal(HANDLE, 3, &keys.client);
        let mut end = end.seal(HANDLE, 9, &keys.server);
        for packet in [&mut pull, &mut end] {
            let at = at.index(packet.len());
            packet[at] ^= 1 << bit;
        }
        prop_assert_eq!(Pull::open(&pull, 3, &keys.client), None);
        prop_assert_eq!(End::open(&end, 9, &keys.server), None);
    }

    #[test]
    fn sealed_text_of_any_bytes_is_read_without_panic(
        pull in any::<[u8; 32]>(), end in vec(any::<u8>(), 56..=104), end_runs in 0_u8..12,
    ) {
        let keys = session_keys();
        let mut text = [0; PULL_TEXT_BYTES];
        text[..32].copy_from_slice(&pull);
        let mut header = [0; CONTROL_HEADER_BYTES];
        header[0] = PULL;
        let tag = keys.client.seal(1, &header, &mut text);
        let opened = Pull::open(&joined(&header, &text, &tag), 1, &keys.client).expect("the tag is right");
        prop_assert_eq!(opened.is_ok(), usize::from(pull[9]) <= RUNS_PER_PULL_MAX);

        let (status, runs, size) = (end[4], usize::from(end_runs), end.len());
        let mut text = end;
        header[..2].copy_from_slice(&[END, end_runs]);
        let tag = keys.server.seal(1, &header, &mut text);
        let packet: Vec<u8> = [&header[..], &text, &tag].concat();
        let opened = End::open(&packet, 1, &keys.server);
        prop_assert_eq!(opened.is_some(), status <= 6 && runs <= 8 && size == 56 + 6 * runs);
    }

    #[test]
    fn hello_of_any_bytes_has_a_ticket_of_lawful_length_or_none(bytes in vec(any::<u8>(), HELLO_BYTES)) {
        let hello: &[u8; HELLO_BYTES] = bytes[..].try_into().expect("1,232 bytes");
        let said = usize::from(be16(hello, 36));
        prop_assert_eq!(parse_hello(hello).map(|view| view.ticket.len()), (said <= 512).then_some(said));
    }

    #[test]
    fn hello_comes_back(ticket in vec(any::<u8>(), 0..=512), random in any::<[u8; 32]>(), secret in any::<[u8; 32]>()) {
        let greeting = Greeting::new(&ticket, SessionSecret::new(secret), random).expect("at most 512 bytes");
        let view = parse_hello(greeting.hello()).expect("a HELLO that was made here");
        prop_assert_eq!((view.ticket, view.client_random), (&ticket[..], &random));
    }

    #[test]
    fn versions_of_any_bytes(mut bytes in vec(any::<u8>(), 0..40), count in 0_usize..20, random in any::<[u8; 32]>()) {
        prop_assert_eq!(parse_versions(&bytes, &random), None, "chance does not echo 8 bytes");
        bytes.splice(0..0, [0, count as u8, 0, 0].into_iter().chain(random[..8].iter().copied()));
        let listed = bytes.len() - 12;
        let fits = listed == count && (1..=15).contains(&count);
        prop_assert_eq!(parse_versions(&bytes, &random), fits.then_some(&bytes[12..]));
    }

    #[test]
    fn limits_come_back(bytes in any::<[u8; LIMITS_BYTES]>()) {
        let limits = Limits::parse(&bytes);
        prop_assert_eq!(Limits::parse(&limits.to_bytes()), limits);
    }
}

#[test]
fn a_ticket_of_512_bytes_passes_and_one_of_513_does_not() {
    let greet = |bytes: usize| Greeting::new(&vec![0; bytes], SessionSecret::new([0; 32]), [0; 32]).is_ok();
    assert!(greet(512));
    assert!(!greet(513));
}
