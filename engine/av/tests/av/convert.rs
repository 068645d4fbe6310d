//! Colours are those of swscale in its defaults, and nothing is written but the picture.

use braidcast_av::{ConvertError, Converter, PixelFormat, yuv420p_bytes};

use crate::clips::{CLIPS, Clip, find};
use crate::player::publish;
use crate::reference;

/// How far a sample may be off: the `ffmpeg` program may take another of swscale's ways.
const LEVELS: u8 = 2;
const FORMATS: [(PixelFormat, &str); 3] =
    [(PixelFormat::Rgb24, "rgb24"), (PixelFormat::Bgr24, "bgr24"), (PixelFormat::Gray8, "gray")];
const CANARY: u8 = 0xa5;

fn is_close(found: &[u8], expected: &[u8]) -> bool {
    found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= LEVELS)
}

fn compare(clip: &Clip, format: PixelFormat, name: &str) {
    let mut converter = Converter::new();
    let mut found = Vec::new();
    for picture in publish(&clip.path()).play(0) {
        let stride = picture.width() as usize * format.pixel_bytes();
        let start = found.len();
        found.resize(start + stride * picture.height() as usize, 0);
        converter.convert_into(&picture, format, &mut found[start..], stride).expect("swscale knows both formats");
    }
    assert!(is_close(&found, &reference::decoded(&clip.path(), Some(name))), "{}: {name}", clip.name);
}

#[test]
fn colours_are_those_of_the_ffmpeg_program() {
    for clip in CLIPS {
        for (format, name) in FORMATS {
            compare(clip, format, name);
        }
    }
}

#[test]
fn planes_of_yuv420p_are_copied_or_converted() {
    for name in ["h264 with B-frames and two audio tracks", "odd size", "h265 of 10 bits", "prores and pcm"] {
        let clip = find(name);
        let mut converter = Converter::new();
        let mut found = Vec::new();
        for picture in publish(&clip.path()).play(0) {
            let start = found.len();
            found.resize(start + yuv420p_bytes(picture.width(), picture.height()), 0);
            converter.convert_yuv420p(&picture, &mut found[start..]).expect("swscale knows both formats");
        }
        assert!(is_close(&found, &reference::decoded(&clip.path(), Some("yuv420p"))), "{name}");
    }
}

#[test]
fn nothing_is_written_beside_the_picture() {
    for name in ["odd size", "odd size of full chroma", "large h264", "h264 with B-frames and two audio tracks"] {
        let picture = publish(&find(name).path()).play(1).swap_remove(7);
        for (format, _) in FORMATS {
            for (gap, start) in [(0, 0), (0, 1), (5, 3), (64, 16)] {
                check_canary(&picture, format, gap, start);
            }
        }
    }
}

/// Converts into the middle of a field of canaries, with `gap` bytes between the rows.
fn check_canary(picture: &braidcast_av::Picture, format: PixelFormat, gap: usize, start: usize) {
    let row = picture.width() as usize * format.pixel_bytes();
    let (stride, rows) = (row + gap, picture.height() as usize);
    let end = start + stride * (rows - 1) + row;
    let mut field = vec![CANARY; end + 4_096];
    let mut plain = vec![0; row * rows];
    let mut converter = Converter::new();
    converter.convert_into(picture, format, &mut field[start..end], stride).expect("it fits");
    converter.convert_into(picture, format, &mut plain, row).expect("it fits");
    for (y, expected) in plain.chunks(row).enumerate() {
        let at = start + y * stride;
        assert_eq!(&field[at..at + row], expected, "row {y}");
        let behind = if y + 1 == rows { field.len() } else { at + stride };
        assert!(field[at + row..behind].iter().all(|&byte| byte == CANARY), "behind row {y}");
    }
    assert!(field[..start].iter().all(|&byte| byte == CANARY), "before the picture");
}

#[test]
fn room_for_a_byte_too_few_is_an_error() {
    let picture = publish(&find("odd size").path()).play(1).swap_remove(0);
    let (row, rows) = (101 * 3, 77);
    let mut out = vec![0; row * rows];
    let mut converter = Converter::new();
    let mut convert = |out: &mut [u8], stride| converter.convert_into(&picture, PixelFormat::Rgb24, out, stride);
    assert_eq!(convert(&mut out, row), Ok(()));
    let short = convert(&mut out[1..], row);
    assert_eq!(short, Err(ConvertError::Room { needed: row * rows, room: row * rows - 1, stride: row }));
    assert!(matches!(convert(&mut out, row - 1), Err(ConvertError::Room { .. })));
    assert!(matches!(convert(&mut out, usize::MAX), Err(ConvertError::Room { .. })));
    let needed = yuv420p_bytes(101, 77);
    assert_eq!(needed, 101 * 77 + 2 * 51 * 39);
    assert_eq!(converter.convert_yuv420p(&picture, &mut out[..needed]), Ok(()));
    assert!(matches!(converter.convert_yuv420p(&picture, &mut out[..needed - 1]), Err(ConvertError::Room { .. })));
}

#[test]
fn one_converter_serves_pictures_of_changing_size() {
    let pictures = publish(&find("size that changes").path()).play(1);
    let mut converter = Converter::new();
    let fresh = |converter: &mut Converter, picture: &braidcast_av::Picture| {
        let stride = picture.width() as usize * 3;
        let mut out = vec![0; stride * picture.height() as usize];
        converter.convert_into(picture, PixelFormat::Bgr24, &mut out, stride).expect("it fits");
        out
    };
    for picture in [&pictures[0], &pictures[60], &pictures[1]] {
        assert_eq!(fresh(&mut converter, picture), fresh(&mut Converter::new(), picture));
    }
}
