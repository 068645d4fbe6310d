//! Bytes that must never change: made once by another implementation (Python's `cryptography`) from PROTOCOL.md.

use braidcast_media::chunk::DataHeader;
use braidcast_media::layout::{CHUNK_BYTES, PACKET_BYTES, PAGE_BYTES};
use braidcast_media::pack::PackHeader;
use braidcast_media::ticket::{self, SessionSecret, Ticket, TicketKey};
use braidcast_media::{AssetId, ChunkNo, ContentKey, Opener, PackLayout, Sealer, StreamId, StreamLayout};

use crate::hex::{bytes, counting};

const ASSET: AssetId = AssetId(0x0102_0304_0506_0708);

#[test]
fn the_last_chunk_of_a_stream_seals_into_these_bytes() {
    let sealer = Sealer::new(&ContentKey::new(counting(0x60)), ASSET);
    let mut packet = [0xff; PACKET_BYTES];
    sealer.seal(StreamId::ORIGINAL, ChunkNo(258), b"braid", &mut packet);
    // kind, stream, payload | chunk | asset
    assert_eq!(packet[..16], bytes("14 00 0005  00000102  01020304 05060708"));
    let sealed = "ce1e16b5 141f4f70 51e2b913 f0fc3b34  1683d8fc 95c9cf4d 044a3f95 3b6c83f1";
    assert_eq!(packet[16..48], bytes(sealed));
    assert_eq!(packet[1_216..], bytes("4a40e530 a96f40fe 9afa2283 9441f320"), "the tag covers the padding");
}

#[test]
fn stream_and_high_chunk_numbers_enter_the_nonce() {
    let (key, chunk) = (ContentKey::new(counting(0x60)), ChunkNo(0xffff_fefe));
    let plain: Vec<u8> = (0..CHUNK_BYTES).map(|i| (i % 251) as u8).collect();
    let mut packet = [0; PACKET_BYTES];
    Sealer::new(&key, ASSET).seal(StreamId::PLAIN_HASHES, chunk, &plain, &mut packet);
    assert_eq!(packet[..16], bytes("14 03 04b0  fffffefe  01020304 05060708"));
    assert_eq!(packet[16..32], bytes("ae3cf736 00fdac38 ed1166c5 4397442e"));
    assert_eq!(packet[1_216..], bytes("423733eb 4bf03809 bed588a4 75de094a"));

    let header = DataHeader::parse(&packet).expect("what was sealed is DATA");
    let mut out = [0; CHUNK_BYTES];
    Opener::new(&key, ASSET).open(&header, &packet, &mut out).expect("what was sealed opens");
    assert_eq!(out[..], plain);
}

/// A ticket for two assets under key 7.
const TICKET: &str = "
    00000007  a0a1a2a3 a4a5a6a7 a8a9aaab
    a6593e6e 018e44f8 2a2ccd98 4b378e91 20fd0b43 c6e2143b c4577cdd 23f62b5e
    c35474bb fa4424b5
    5f9c04c8 623351f9
    471b0868
    60
    d1187d45 5b0d59ac 6197a3a0 a9937828
    b840abee a6e3fc84 7b96b853 441bbc80";

fn ticket() -> Ticket {
    Ticket {
        secret: SessionSecret::new(counting(0x40)),
        user: 0x1122_3344_5566_7788,
        expires_at: 1_800_000_000,
        rate_kib_s: 20_000,
        assets: vec![ASSET, AssetId(0x1112_1314_1516_1718)],
    }
}

#[test]
fn a_ticket_seals_into_these_bytes_and_opens_again() {
    let key = TicketKey::new(7, &counting(0));
    let sealed = key.seal(&ticket(), counting(0xa0));
    assert_eq!(sealed, bytes(TICKET));
    assert_eq!(ticket::key_id(&sealed), Some(7));

    let opened = key.open(&bytes(TICKET)).expect("the golden ticket opens");
    let expected = ticket();
    assert_eq!(opened.secret.expose(), expected.secret.expose());
    assert_eq!((opened.user, opened.expires_at), (expected.user, expected.expires_at));
    assert_eq!((opened.rate_kib_s, opened.assets), (expected.rate_kib_s, expected.assets));
}

#[test]
fn a_ticket_does_not_open_under_another_number_of_the_same_key() {
    assert!(TicketKey::new(8, &counting(0)).open(&bytes(TICKET)).is_none());
    let mut renumbered = bytes(TICKET);
    renumbered[3] = 8;
    assert!(TicketKey::new(8, &counting(0)).open(&renumbered).is_none(), "the number is authenticated");
}

#[test]
fn a_pack_header_has_these_bytes() {
    // 307,201 bytes are two extents; their two hashes, 64 bytes, are the only extent of stream 3.
    let layout = PackLayout::of_file(307_201).expect("a short file");
    let sealed_hashes = vec![counting(0xa0), counting(0xc0), counting(0x20)];
    let header = PackHeader { asset: ASSET, layout, sealed_hashes };
    let golden = "
        42524149 44504b31  01020304 05060708
        0002 0000 00001000
        00 00000000000000  00000000 0004b001  00000000 00000000
        03 00000000000000  00000000 00000040  00000000 00000002
        a0a1a2a3 a4a5a6a7 a8a9aaab acadaeaf b0b1b2b3 b4b5b6b7 b8b9babb bcbdbebf
        c0c1c2c3 c4c5c6c7 c8c9cacb cccdcecf d0d1d2d3 d4d5d6d7 d8d9dadb dcdddedf
        20212223 24252627 28292a2b 2c2d2e2f 30313233 34353637 38393a3b 3c3d3e3f";
    let mut golden = bytes(golden);
    golden.resize(PAGE_BYTES, 0);
    assert_eq!(header.to_bytes(), golden);
    assert_eq!(PackHeader::parse(&golden), Ok(header));
}

#[test]
fn a_pack_header_grows_by_whole_pages() {
    // Fixed part and two table entries take 72 bytes; 125 hashes fit behind them in one page and 126 do not.
    let header_bytes = |extents: u64| {
        let stream = |id, bytes| StreamLayout { id: StreamId(id), bytes };
        let layout = PackLayout::new(vec![stream(0, (extents - 1) * 307_200), stream(3, 1)]);
        layout.expect("two different streams").header_bytes()
    };
    assert_eq!((header_bytes(125), header_bytes(126)), (4_096, 8_192));
}
