//! Telling by a file's beginning that it is no film, which saves starting the program that looks into films.
//!
//! That program loads FFmpeg with all the libraries that FFmpeg comes with, which takes longer than publishing a small file.
//! What is told here is one-sided: where a demuxer of `braidcast-probe` (mov, avi, matroska, mpegts, mpeg) could take the
//! file, the program is asked. The conditions are weaker than those of FFmpeg 5 to 8 in the functions named below, and
//! look at as much of the file as FFmpeg does.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a file that FFmpeg looks at to tell its format: `PROBE_BUF_MAX` in libavformat/format.c.
const HEAD_BYTES: u64 = 1 << 20;

/// `ebml_header` of Matroska and WebM (`matroska_probe`), AVI's two (`avi_probe`), and a tag of MP3's in front of any
/// format, which FFmpeg passes over (`av_probe_input_format3`).
const STARTS: [&[u8]; 4] = [&[0x1a, 0x45, 0xdf, 0xa3], b"RIFF", b"ON2 ", b"ID3"];

/// Boxes of MP4 and MOV that no other file has by chance, wherever they stand (`mov_probe`).
const STRONG_BOXES: [&[u8; 4]; 6] = [b"moov", b"mdat", b"ftyp", b"moof", b"pnot", b"udta"];
/// Boxes whose names other files have, too.
const WEAK_BOXES: [&[u8; 4]; 9] =
    [b"wide", b"ediw", b"free", b"junk", b"pict", b"skip", b"uuid", b"prfl", &[0x82, 0x82, 0x7f, 0x7d]];
/// First byte of a box's length. A weak box of 128 MiB or more is believed at the file's beginning alone: text has
/// larger bytes than this in front of the word.
const LENGTH_BYTE_MAX: u8 = 0x07;

/// Least byte behind 00 00 01 in a program stream (`mpegps_probe`); the lower ones are those of the video in it.
const PROGRAM_STREAM_CODE_MIN: u8 = 0xb9;

/// Lengths of a transport stream's packets, and the byte that each begins with (`mpegts_probe`).
const TRANSPORT_PACKET_BYTES: [usize; 3] = [188, 192, 204];
const TRANSPORT_SYNC: u8 = 0x47;
/// Packets that are looked at together. FFmpeg asks for seven of ten.
const TRANSPORT_PACKETS: usize = 10;
/// A film has at least two packets: one that says what is in it, and one of a picture.
const TRANSPORT_PACKETS_MIN: usize = 2;

/// Whether the file at `path` surely is no film. If it says no, only looking into the file tells. Blocks.
///
/// # Errors
/// The file cannot be read.
pub fn is_surely_no_film(path: &Path) -> io::Result<bool> {
    let mut head = Vec::new();
    File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
    Ok(!may_be_film(&head))
}

/// Whether a demuxer of the probe's could take a file that begins so.
fn may_be_film(head: &[u8]) -> bool {
    STARTS.iter().any(|start| head.starts_with(start))
        || may_be_mov(head)
        || may_be_program_stream(head)
        || TRANSPORT_PACKET_BYTES.iter().any(|&packet| may_be_transport_stream(head, packet))
}

fn may_be_mov(head: &[u8]) -> bool {
    let is_of = |boxes: &[&[u8; 4]], name: &[u8]| boxes.iter().any(|known| known[..] == *name);
    let first_is_box = head.get(4..8).is_some_and(|name| is_of(&WEAK_BOXES, name));
    let is_strong = |window: &[u8]| is_of(&STRONG_BOXES, window);
    let is_weak = |window: &[u8]| window[0] <= LENGTH_BYTE_MAX && is_of(&WEAK_BOXES, &window[4..]);
    first_is_box || head.windows(4).any(is_strong) || head.windows(8).any(is_weak)
}

fn may_be_program_stream(head: &[u8]) -> bool {
    head.windows(4).any(|window| window[..3] == [0, 0, 1] && window[3] >= PROGRAM_STREAM_CODE_MIN)
}

/// Whether half of some ten packets that follow each other could begin where a packet begins.
fn may_be_transport_stream(head: &[u8], packet: usize) -> bool {
    head.chunks(packet * TRANSPORT_PACKETS).any(|block| {
        let mut syncs = [0_usize; TRANSPORT_PACKET_BYTES[TRANSPORT_PACKET_BYTES.len() - 1]];
        for (at, _) in block.iter().enumerate().filter(|(_, byte)| **byte == TRANSPORT_SYNC) {
            syncs[at % packet] += 1;
        }
        let packets = block.len().div_ceil(packet);
        syncs.iter().any(|&syncs| syncs >= TRANSPORT_PACKETS_MIN && 2 * syncs >= packets)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_pictures_and_noise_are_no_film() {
        let line = |n: u32| format!("{n}: wide is the gate, and free the way: skip it. Give it a uuid, Greta.\n");
        let text: Vec<u8> = (0..20_000).flat_map(|n| line(n).into_bytes()).collect();
        let png = [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x01\0".to_vec(), vec![0x5a; 5_000]].concat();
        // A linear congruential generator (Knuth); its high bytes are noise enough.
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        let noise: Vec<u8> = (0..100_000).map(|_| next()).collect();
        for (name, head) in [("nothing", &b""[..]), ("text", &text), ("png", &png), ("noise", &noise), ("G", b"G")] {
            assert!(!may_be_film(head), "{name}");
        }
        assert!(!may_be_film(&[0; 10_000]));
    }

    #[test]
    fn every_beginning_of_a_container_is_looked_into() {
        let mov = |name: &[u8; 4]| [&[0, 0, 0, 0x20][..], name, &[0; 100]].concat();
        for name in STRONG_BOXES.iter().chain(&WEAK_BOXES) {
            assert!(may_be_film(&mov(name)), "{name:?}");
            // Behind what FFmpeg passes over.
            assert!(may_be_film(&[&[0; 40][..], &mov(name)].concat()), "{name:?}");
        }
        for start in STARTS {
            assert!(may_be_film(&[start, &[0; 100]].concat()), "{start:?}");
        }
        for code in [0xba, 0xbb, 0xbd, 0xc0, 0xe0, 0xfd] {
            assert!(may_be_film(&[&[9; 50][..], &[0, 0, 1, code], &[9; 50]].concat()), "{code:#x}");
        }
        for packet in TRANSPORT_PACKET_BYTES {
            for packets in [2, 3, 10, 25] {
                let stream = [&[TRANSPORT_SYNC][..], &vec![0; packet - 1]].concat().repeat(packets);
                assert!(may_be_film(&stream), "{packets} packets of {packet}");
                // As after a cut: the stream begins within a packet, and three packets of ten are damaged.
                let mut cut = stream[50..].to_vec();
                cut.chunks_mut(packet).step_by(4).for_each(|packet| packet.fill(0));
                assert!(may_be_film(&cut) || packets < 4, "{packets} packets of {packet}, cut");
            }
        }
    }
}
