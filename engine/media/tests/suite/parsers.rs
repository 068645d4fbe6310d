//! Parsers take any bytes without a panic, and give back what was encoded.

use braidcast_media::chunk::DataHeader;
use braidcast_media::hashes;
use braidcast_media::layout::{CHUNK_BYTES, PACKET_BYTES};
use braidcast_media::pack::{HeaderError, PackHeader};
use braidcast_media::ticket::{SessionSecret, TICKET_ASSETS_MAX, Ticket, TicketKey};
use braidcast_media::{AssetId, ChunkNo, PackLayout, StreamId, StreamLayout};
use proptest::collection::vec;
use proptest::prelude::*;

fn data_header() -> impl Strategy<Value = DataHeader> {
    (any::<u8>(), 0..=CHUNK_BYTES as u16, any::<u32>(), any::<u64>()).prop_map(
        |(stream, payload_bytes, chunk, asset)| DataHeader {
            stream: StreamId(stream),
            payload_bytes,
            chunk: ChunkNo(chunk),
            asset: AssetId(asset),
        },
    )
}

fn ticket() -> impl Strategy<Value = Ticket> {
    let assets = vec(any::<u64>().prop_map(AssetId), 1..=TICKET_ASSETS_MAX);
    (any::<[u8; 32]>(), any::<u64>(), any::<u64>(), any::<u32>(), assets).prop_map(
        |(secret, user, expires_at, rate_kib_s, assets)| Ticket {
            secret: SessionSecret::new(secret),
            user,
            expires_at,
            rate_kib_s,
            assets,
        },
    )
}

/// Headers of small packs, so that there are not too many hashes to make.
fn pack_header() -> impl Strategy<Value = PackHeader> {
    (any::<u64>(), vec(0_u64..40_000_000, 1..=8), any::<u8>()).prop_map(|(asset, lengths, fill)| {
        let streams = (0..).zip(lengths).map(|(id, bytes)| StreamLayout { id: StreamId(id), bytes });
        let layout = PackLayout::new(streams.collect()).expect("different streams");
        let sealed_hashes = (0..layout.extents()).map(|n| [fill.wrapping_add(n as u8); 32]).collect();
        PackHeader { asset: AssetId(asset), layout, sealed_hashes }
    })
}

proptest! {
    #![proptest_config(crate::fixed_seed())]

    #[test]
    fn data_header_of_any_bytes(bytes in vec(any::<u8>(), 0..2 * PACKET_BYTES)) {
        if let Some(header) = DataHeader::parse(&bytes) {
            prop_assert_eq!(bytes.len(), PACKET_BYTES);
            prop_assert_eq!(&header.to_bytes()[..], &bytes[..16]);
        }
    }

    #[test]
    fn data_header_comes_back(header in data_header(), first_byte in any::<u8>()) {
        let mut packet = vec![0; PACKET_BYTES];
        packet[..16].copy_from_slice(&header.to_bytes());
        prop_assert_eq!(DataHeader::parse(&packet), Some(header));
        packet[0] = first_byte;
        prop_assert_eq!(DataHeader::parse(&packet).is_some(), first_byte == 0x14);
    }

    #[test]
    fn a_payload_beyond_a_chunk_is_no_data(header in data_header(), payload in any::<u16>()) {
        let mut packet = vec![0; PACKET_BYTES];
        packet[..16].copy_from_slice(&header.to_bytes());
        packet[2..4].copy_from_slice(&payload.to_be_bytes());
        prop_assert_eq!(DataHeader::parse(&packet).is_some(), usize::from(payload) <= CHUNK_BYTES);
    }

    #[test]
    fn pack_header_of_any_bytes(bytes in vec(any::<u8>(), 0..9_000)) {
        prop_assert!(PackHeader::parse(&bytes).is_err(), "chance does not make the magic");
    }

    #[test]
    fn pack_header_comes_back(header in pack_header()) {
        prop_assert_eq!(PackHeader::parse(&header.to_bytes()), Ok(header));
    }

    #[test]
    fn damaged_pack_header_parses_to_what_it_says_or_not_at_all(
        header in pack_header(),
        hits in vec((0_usize..256, any::<u8>()), 1..8),
        cut in 0_usize..3,
    ) {
        let mut bytes = header.to_bytes();
        for (at, value) in hits {
            bytes[at] = value;
        }
        bytes.truncate(bytes.len() - cut);
        if let Ok(parsed) = PackHeader::parse(&bytes) {
            prop_assert_eq!(cut, 0);
            prop_assert_eq!(parsed.to_bytes().len(), bytes.len());
            prop_assert_eq!(PackHeader::parse(&parsed.to_bytes()), Ok(parsed));
        }
    }

    #[test]
    fn hash_list_divides_or_is_none(bytes in vec(any::<u8>(), 0..300)) {
        match hashes::parse_list(&bytes) {
            Some(list) => prop_assert_eq!(list.concat(), bytes),
            None => prop_assert_ne!(bytes.len() % 32, 0),
        }
    }

    #[test]
    fn ticket_of_any_bytes(mut bytes in vec(any::<u8>(), 0..600), own_number in any::<bool>()) {
        if own_number && bytes.len() >= 4 {
            bytes[..4].copy_from_slice(&7_u32.to_be_bytes());
        }
        prop_assert!(TicketKey::new(7, &[1; 32]).open(&bytes).is_none());
    }

    #[test]
    fn ticket_comes_back(ticket in ticket(), key in any::<[u8; 32]>(), id in any::<u32>(), nonce in any::<[u8; 12]>()) {
        let key = TicketKey::new(id, &key);
        let sealed = key.seal(&ticket, nonce);
        let opened = key.open(&sealed).expect("what was sealed opens");
        prop_assert_eq!(opened.secret.expose(), ticket.secret.expose());
        prop_assert_eq!((opened.user, opened.expires_at), (ticket.user, ticket.expires_at));
        prop_assert_eq!((opened.rate_kib_s, opened.assets), (ticket.rate_kib_s, ticket.assets));
    }

    #[test]
    fn altered_or_cut_ticket_does_not_open(ticket in ticket(), at in any::<proptest::sample::Index>(), bit in 0_u8..8) {
        let key = TicketKey::new(7, &[1; 32]);
        let mut sealed = key.seal(&ticket, [2; 12]);
        let at = at.index(sealed.len());
        prop_assert!(key.open(&sealed[..at]).is_none());
        sealed[at] ^= 1 << bit;
        prop_assert!(key.open(&sealed).is_none());
    }

    #[test]
    fn asset_id_comes_back_from_its_text(id in any::<u64>()) {
        let text = AssetId(id).to_string();
        prop_assert_eq!(text.len(), 16);
        prop_assert_eq!(text.parse(), Ok(AssetId(id)));
    }
}

#[test]
fn a_header_that_claims_too_much_is_refused_before_anything_is_allocated() {
    let layout = PackLayout::of_file(1).expect("one byte");
    let header = PackHeader { asset: AssetId(1), layout, sealed_hashes: vec![[0; 32]; 2] };
    let with = |at: usize, bytes: &[u8]| {
        let mut altered = header.to_bytes();
        altered[at..at + bytes.len()].copy_from_slice(bytes);
        PackHeader::parse(&altered)
    };
    assert!(with(0, b"BRAIDPK1").is_ok());
    assert_eq!(with(7, b"2"), Err(HeaderError::Magic));
    // Stream 0 of a terabyte needs more hashes than there are bytes.
    let hashes_needed = with(32, &(1_u64 << 40).to_be_bytes());
    assert!(matches!(hashes_needed, Err(HeaderError::Length { found: 4_096, needed }) if needed > 100_000_000));
    assert!(matches!(with(32, &u64::MAX.to_be_bytes()), Err(HeaderError::Layout(_))));
    assert!(matches!(with(16, &[0, 0]), Err(HeaderError::Layout(_))), "no streams");
    assert!(matches!(with(16, &[0, 9]), Err(HeaderError::Layout(_))), "nine streams");
    assert!(matches!(with(16, &[0xff, 0xff]), Err(HeaderError::Layout(_))));
    assert!(matches!(with(48, &[0]), Err(HeaderError::Layout(_))), "stream 0 twice");
    assert!(matches!(with(71, &[7]), Err(HeaderError::Layout(_))), "stream 3 starts elsewhere");
    assert!(matches!(with(23, &[1]), Err(HeaderError::Length { .. })), "another length than it has");
}
