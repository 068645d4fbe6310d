//! A file sealed, written as a pack, and opened again chunk by chunk.

use std::io::{self, Cursor, Read};

use braidcast_media::chunk::{DataHeader, NotAuthentic};
use braidcast_media::layout::{CHUNK_BYTES, PACKET_BYTES, STREAM_BYTES_MAX};
use braidcast_media::pack::{PackHeader, PackWriter};
use braidcast_media::seal::{FileSealer, SealError, Sealed, StreamSource};
use braidcast_media::{AssetId, ChunkNo, ContentKey, ExtentNo, Opener, PackLayout, StreamId, StreamLayout, hashes};

const ASSET: AssetId = AssetId(0x00c0_ffee);

fn key() -> ContentKey {
    ContentKey::new([0x42; 16])
}

/// Bytes that repeat nowhere near a chunk's length.
pub(crate) fn film(bytes: usize) -> Vec<u8> {
    (0..bytes as u32).map(|i| (i.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect()
}

/// All sealed extents of `plain`, in file order, and what came out at the end.
pub(crate) fn seal(plain: &[u8]) -> (Vec<Vec<u8>>, Sealed) {
    let mut sealer = FileSealer::new(plain, plain.len() as u64, &key(), ASSET).expect("a short file");
    let (mut extents, mut sealed) = (Vec::new(), Vec::new());
    while let Some(number) = sealer.next_extent(&mut sealed).expect("the file is as long as it was") {
        assert_eq!(number as usize, extents.len());
        extents.push(sealed.clone());
    }
    (extents, sealer.finish().expect("the file ends where it should"))
}

/// Opens all chunks of a stream that stands in `pack`.
fn open_stream(pack: &[u8], layout: &PackLayout, stream: StreamLayout) -> Vec<u8> {
    let opener = Opener::new(&key(), ASSET);
    let mut plain = Vec::new();
    for chunk in (0..stream.chunks()).map(ChunkNo) {
        let at = layout.chunk_offset(stream.id, chunk).expect("the chunk exists") as usize;
        let packet = &pack[at..at + PACKET_BYTES];
        let header = DataHeader::parse(packet).expect("a pack holds DATA packets");
        assert_eq!((header.stream, header.chunk, header.asset), (stream.id, chunk, ASSET));
        let mut out = [0xee; CHUNK_BYTES];
        opener.open(&header, packet, &mut out).expect("the chunk opens");
        let (payload, padding) = out.split_at(header.payload_bytes.into());
        assert!(padding.iter().all(|&byte| byte == 0), "padding is zeros");
        assert_eq!(stream.payload_bytes(chunk), Some(payload.len()));
        plain.extend_from_slice(payload);
    }
    plain
}

#[test]
fn a_file_of_every_awkward_length_comes_back() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for bytes in [0, 1, 1_199, 1_200, 1_201, 307_199, 307_200, 307_201] {
        let plain = film(bytes);
        let (extents, sealed) = seal(&plain);
        let path = folder.path().join(format!("{bytes}.pack"));
        let layout = PackLayout::of_file(bytes as u64).expect("a short file");
        let mut writer = PackWriter::create(&path, ASSET, layout.clone()).expect("the folder is writable");
        for (number, extent) in (0..).zip(&extents) {
            writer.write_extent(number, extent).expect("the extent has its length");
        }
        let header = writer.finish(&sealed.header.to_bytes()).expect("the pack is whole");

        let pack = std::fs::read(&path).expect("the pack stands under its name");
        assert_eq!(pack.len() as u64, layout.pack_bytes());
        let parsed = PackHeader::parse(&pack[..layout.header_bytes() as usize]);
        assert_eq!(parsed.as_ref(), Ok(&header), "{bytes} bytes");
        assert_eq!(header.layout, layout);
        let stream = |id| *layout.stream(id).expect("a file has streams 0 and 3");
        assert_eq!(open_stream(&pack, &layout, stream(StreamId::ORIGINAL)), plain, "{bytes} bytes");
        check_hashes(&plain, &open_stream(&pack, &layout, stream(StreamId::PLAIN_HASHES)), &sealed, &extents);
    }
}

/// Both lists: of plain extents up to the roots, and of sealed extents in the header.
fn check_hashes(plain: &[u8], list: &[u8], sealed: &Sealed, extents: &[Vec<u8>]) {
    let layout = &sealed.header.layout;
    let list_hashes = hashes::parse_list(list).expect("stream 3 holds whole hashes");
    let mut vouched = 0;
    for (number, extent) in plain.chunks(307_200).enumerate() {
        let index = hashes::index_in_list(layout, StreamId::ORIGINAL, ExtentNo(number as u32));
        assert_eq!(index, Some(number as u64));
        assert_eq!(list_hashes[number], hashes::hash(extent));
        vouched += 1;
    }
    assert_eq!(list_hashes.len(), vouched);
    let roots: Vec<u8> = list.chunks(307_200).flat_map(hashes::hash).collect();
    assert_eq!(sealed.plain_roots, roots, "the roots vouch for stream 3");
    let of_sealed: Vec<_> = extents.iter().map(|extent| hashes::hash(extent)).collect();
    assert_eq!(sealed.header.sealed_hashes, of_sealed);
}

#[test]
fn a_file_that_shrank_is_refused() {
    for (said, there) in [(1, 0), (1_201, 1_200), (307_201, 307_200), (700_000, 400_000)] {
        let mut sealer = FileSealer::new(Cursor::new(film(there)), said, &key(), ASSET).expect("a short file");
        let mut sealed = Vec::new();
        let error = loop {
            match sealer.next_extent(&mut sealed) {
                Ok(number) => assert!(number.is_some(), "{there} of {said} bytes were taken for all"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SealError::LengthChanged { expected, .. } if expected == said), "{error}");
    }
}

#[test]
fn a_file_that_grew_is_refused() {
    for (said, there) in [(0, 1), (1_200, 1_201), (307_200, 307_201), (307_200, 700_000)] {
        let mut sealer = FileSealer::new(Cursor::new(film(there)), said, &key(), ASSET).expect("a short file");
        let mut sealed = Vec::new();
        while sealer.next_extent(&mut sealed).expect("there are bytes enough").is_some() {}
        let error = sealer.finish().err().expect("the file goes on");
        assert!(matches!(error, SealError::LengthChanged { expected, .. } if expected == said), "{error}");
    }
}

/// A reader that a signal interrupts before every read.
struct Interrupted<R> {
    inner: R,
    next_fails: bool,
}

impl<R: Read> Read for Interrupted<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.next_fails = !self.next_fails;
        if self.next_fails { Err(io::ErrorKind::Interrupted.into()) } else { self.inner.read(out) }
    }
}

/// Mechanism: the probe for bytes behind the expected end was a bare `read`, which a signal makes fail.
#[test]
fn a_signal_does_not_spoil_sealing() {
    for bytes in [0, 1_201, 307_201] {
        let reader = Interrupted { inner: Cursor::new(film(bytes)), next_fails: false };
        let mut sealer = FileSealer::new(reader, bytes as u64, &key(), ASSET).expect("a short file");
        let mut sealed = Vec::new();
        while sealer.next_extent(&mut sealed).expect("interrupted reads are repeated").is_some() {}
        assert!(sealer.finish().is_ok(), "{bytes} bytes");
    }
}

fn source(id: StreamId, bytes: usize, plain: &[u8]) -> StreamSource<&[u8]> {
    StreamSource { layout: StreamLayout { id, bytes: bytes as u64 }, reader: plain }
}

#[test]
fn several_streams_stand_one_after_the_other_and_the_hash_list_vouches_for_all() {
    let streams = [(StreamId::ORIGINAL, film(307_201)), (StreamId::FRAMES, film(0)), (StreamId::ACCESS_UNITS, film(5))];
    let sources = streams.iter().map(|(id, plain)| source(*id, plain.len(), plain)).collect();
    let mut sealer = FileSealer::of_streams(sources, &key(), ASSET).expect("short streams");
    let (mut pack, mut sealed) = (Vec::new(), Vec::new());
    let layout = sealer.layout().clone();
    while let Some(number) = sealer.next_extent(&mut sealed).expect("they are as long as they were") {
        pack.resize(layout.extent_offset(number) as usize, 0);
        pack.extend_from_slice(&sealed);
    }
    let roots = sealer.finish().expect("they end where they should").plain_roots;
    for (id, plain) in &streams {
        let stream = *layout.stream(*id).expect("it was sealed");
        assert_eq!(&open_stream(&pack, &layout, stream), plain, "stream {id}");
    }
    let list = open_stream(&pack, &layout, *layout.streams().last().expect("the hash list"));
    assert_eq!(roots, hashes::hash(&list));
    let units = hashes::index_in_list(&layout, StreamId::ACCESS_UNITS, ExtentNo(0)).expect("it has an extent");
    assert_eq!(list[units as usize * 32..][..32], hashes::hash(&streams[2].1));
}

#[test]
fn a_stream_that_is_too_long_or_too_short_is_named() {
    for said in [4, 6] {
        let plain = film(5);
        let sources = vec![source(StreamId::ORIGINAL, 5, &plain), source(StreamId::FRAMES, said, &plain)];
        let mut sealer = FileSealer::of_streams(sources, &key(), ASSET).expect("short streams");
        let mut sealed = Vec::new();
        let error = loop {
            match sealer.next_extent(&mut sealed) {
                Ok(Some(_)) => {}
                Ok(None) => break sealer.finish().map(|_| ()).expect_err("the stream goes on"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, SealError::LengthChanged { stream: StreamId::FRAMES, .. }), "{error}");
    }
}

#[test]
fn a_file_longer_than_any_stream_is_refused_at_once() {
    let seal = |bytes| FileSealer::new(io::empty(), bytes, &key(), ASSET).map(|_| ());
    assert!(seal(STREAM_BYTES_MAX).is_ok());
    assert!(matches!(seal(STREAM_BYTES_MAX + 1), Err(SealError::Layout(_))));
}

#[test]
fn a_chunk_opens_only_unaltered_in_its_place_and_under_its_key() {
    let (extents, _) = seal(&film(1_201));
    let packet = &extents[0][PACKET_BYTES..2 * PACKET_BYTES];
    let open = |packet: &[u8], key: &ContentKey, asset| {
        let header = DataHeader::parse(packet).expect("the length and kind were left alone");
        Opener::new(key, asset).open(&header, packet, &mut [0; CHUNK_BYTES])
    };
    assert_eq!(open(packet, &key(), ASSET), Ok(()));
    assert_eq!(open(packet, &ContentKey::new([0x43; 16]), ASSET), Err(NotAuthentic));
    assert_eq!(open(packet, &key(), AssetId(1)), Err(NotAuthentic));
    // A bit of: stream, payload length, chunk number, asset, text, padding, tag.
    for at in [1, 3, 7, 15, 16, 1_215, 1_231] {
        let mut altered = packet.to_vec();
        altered[at] ^= 1;
        assert_eq!(open(&altered, &key(), ASSET), Err(NotAuthentic), "byte {at}");
    }
}

#[test]
fn keys_are_not_printed() {
    let shown = format!("{:?}", ContentKey::new([0x42; 16]));
    assert_eq!(shown, "ContentKey(..)");
}
