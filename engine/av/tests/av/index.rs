//! The index says what FFmpeg's own demuxer says.

use std::collections::HashMap;
use std::fmt::Write;

use braidcast_av::limits::VIDEO_CODECS;
use braidcast_media::frames::FrameEntry;
use braidcast_media::layout::CHUNK_BYTES;
use braidcast_proto::v1;
use sha2::{Digest, Sha256};

use crate::clips::{CLIPS, Clip, find};
use crate::player::{Published, publish};
use crate::reference;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

fn as_reference(published: &Published, entry: &FrameEntry) -> reference::Packet {
    reference::Packet {
        pts: entry.pts,
        dts: entry.dts,
        duration: entry.duration,
        size: entry.size,
        key: entry.key,
        discard: entry.discard,
        sha256: hex(&Sha256::digest(published.data(entry))),
    }
}

fn compare_packets(clip: &Clip, published: &Published) {
    let expected = reference::packets(&clip.path());
    assert_eq!(published.film.tracks.len(), expected.len(), "{}: tracks", clip.name);
    for (number, (track, expected)) in published.film.tracks.iter().zip(expected).enumerate() {
        let entries = published.entries(track);
        assert_eq!(entries.len(), expected.len(), "{}: frames of track {number}", clip.name);
        for (at, (entry, expected)) in entries.iter().zip(expected).enumerate() {
            assert_eq!(as_reference(published, entry), expected, "{}: track {number}, frame {at}", clip.name);
        }
        assert!(entries.is_sorted_by_key(|entry| entry.offset), "{}: track {number} goes back", clip.name);
    }
}

#[test]
fn entries_and_bytes_are_those_of_ffmpegs_demuxer() {
    for clip in CLIPS {
        compare_packets(clip, &publish(&clip.path()));
    }
}

#[test]
fn frames_stand_in_the_file_where_the_container_keeps_them_whole() {
    for clip in CLIPS {
        let published = publish(&clip.path());
        assert_eq!(published.film.frames_stream, clip.frames_stream, "{}", clip.name);
        let apart = if clip.frames_stream == 0 { 0 } else { published.bytes.len() as u64 };
        assert_eq!(published.probed.access_unit_bytes, apart, "{}", clip.name);
    }
}

#[test]
fn each_track_begins_a_chunk_after_zeros_and_the_index_ends_with_the_last_entry() {
    for clip in CLIPS {
        let published = publish(&clip.path());
        let index = &published.probed.frame_index;
        let (mut chunk, mut end) = (0, 0);
        for track in &published.film.tracks {
            assert_eq!(track.first_chunk, chunk, "{}", clip.name);
            let start = chunk as usize * CHUNK_BYTES;
            assert!(index[end..start].iter().all(|&byte| byte == 0), "{}", clip.name);
            end = start + track.frames as usize * 24;
            chunk += track.frames.div_ceil(50) as u32;
        }
        assert_eq!(index.len(), end, "{}", clip.name);
    }
}

#[test]
fn tracks_are_described_as_ffmpeg_describes_them() {
    for clip in CLIPS {
        let published = publish(&clip.path());
        let streams = reference::streams(&clip.path());
        let kinds = |kind| published.film.tracks.iter().filter(|track| track.kind() == kind).count();
        let found = [v1::track::Kind::Video, v1::track::Kind::Audio, v1::track::Kind::Subtitle].map(kinds);
        assert_eq!(found, clip.tracks, "{}: tracks", clip.name);
        for (track, stream) in published.film.tracks.iter().zip(streams) {
            compare_track(clip.name, track, &stream);
        }
        assert!(VIDEO_CODECS.contains(&published.video().codec.as_str()));
    }
}

fn compare_track(name: &str, track: &v1::Track, stream: &HashMap<String, String>) {
    let base = track.time_base.expect("every track has one");
    assert_eq!(format!("{}/{}", base.numerator, base.denominator), stream["time_base"], "{name}");
    assert_eq!(track.codec, stream["codec_name"], "{name}");
    assert_eq!(format!("0x{:04x}", track.codec_tag), stream["codec_tag"], "{name}");
    if let Some(bytes) = stream.get("extradata_size") {
        assert_eq!(&track.codec_descriptions[0].len().to_string(), bytes, "{name}");
    }
    if let Some(video) = &track.video {
        let ratio = |rate: Option<v1::Rational>| {
            let rate = rate.expect("every video track has one");
            (f64::from(rate.numerator) / f64::from(rate.denominator)).to_string()
        };
        let expected = |key: &str| {
            let (numerator, denominator) = stream[key].split_once('/').expect("a fraction");
            let number = |text: &str| text.parse::<f64>().expect("a number");
            (number(numerator) / number(denominator)).to_string()
        };
        assert_eq!(video.width.to_string(), stream["width"], "{name}");
        assert_eq!(video.height.to_string(), stream["height"], "{name}");
        assert_eq!(video.pixel_format, stream["pix_fmt"], "{name}");
        assert_eq!(video.reorder.to_string(), stream["has_b_frames"], "{name}");
        let rotation = stream.get("rotation").map_or(0.0, |degrees| degrees.parse().expect("a number"));
        assert_eq!(video.rotation, rotation, "{name}");
        assert_eq!(ratio(video.average_frame_rate), expected("avg_frame_rate"), "{name}");
        assert_eq!(ratio(video.real_frame_rate), expected("r_frame_rate"), "{name}");
        assert_eq!(track.level.to_string(), stream["level"], "{name}");
    }
    if let Some(audio) = &track.audio {
        assert_eq!(audio.sample_rate.to_string(), stream["sample_rate"], "{name}");
        assert_eq!(audio.channels.to_string(), stream["channels"], "{name}");
        assert_eq!(audio.sample_format, stream["sample_fmt"], "{name}");
    }
}

#[test]
fn language_and_rotation_are_kept() {
    let published = publish(&find("h264 with B-frames and two audio tracks").path());
    let languages: Vec<&str> = published.film.tracks.iter().map(|track| track.language.as_str()).collect();
    assert_eq!(languages, ["", "", "deu"]);
    let rotation = |name| publish(&find(name).path()).video().video.as_ref().expect("video").rotation;
    assert_eq!(rotation("turned by a quarter"), 90.0);
    assert_eq!(rotation("one key frame"), 0.0);
}

#[test]
fn frames_that_an_edit_list_cuts_off_and_hidden_ones_are_no_pictures() {
    let counts = |name| {
        let published = publish(&find(name).path());
        let entries = published.entries(published.video());
        let count = |wanted: &dyn Fn(&FrameEntry) -> bool| entries.iter().filter(|entry| wanted(entry)).count();
        let shown = count(&|entry| entry.is_shown());
        assert_eq!(published.video().video.as_ref().expect("video").pictures, shown as u64);
        (count(&|entry| entry.discard), count(&|entry| entry.hidden))
    };
    let (cut, hidden) = counts("edit list that cuts");
    assert!(cut > 0 && hidden == 0, "{cut} {hidden}");
    let (cut, hidden) = counts("vp8 with hidden frames");
    assert!(cut == 0 && hidden > 0, "{cut} {hidden}");
}

#[test]
fn key_frames_stand_in_the_order_of_all_their_numbers() {
    for clip in CLIPS {
        let published = publish(&clip.path());
        let (entries, keys) = (published.entries(published.video()), published.keys());
        assert_eq!(keys.len(), published.film.key_frames as usize, "{}", clip.name);
        assert!(!keys.is_empty(), "{}", clip.name);
        let rising = |numbers: Vec<i64>| numbers.is_sorted_by(|a, b| a < b);
        assert!(rising(keys.iter().map(|key| key.frame.into()).collect()), "{}", clip.name);
        assert!(rising(keys.iter().map(|key| key.picture.into()).collect()), "{}", clip.name);
        assert!(rising(keys.iter().map(|key| key.pts).collect()), "{}", clip.name);
        for key in &keys {
            let entry = entries[key.frame as usize];
            assert!(entry.key && entry.is_shown() && entry.shown_at() == Some(key.pts), "{}", clip.name);
            let before = |other: &&FrameEntry| other.is_shown() && other.shown_at() < entry.shown_at();
            assert_eq!(key.picture as usize, entries.iter().filter(before).count(), "{}", clip.name);
        }
    }
    let keys = |name| publish(&find(name).path()).keys().len();
    assert_eq!((keys("one key frame"), keys("key frames only")), (1, 50));
}

#[test]
fn a_tracks_times_are_those_of_its_first_and_last_picture() {
    let published = publish(&find("edit list that delays").path());
    let track = published.video();
    let seconds = |time: i64| {
        let base = track.time_base.expect("every track has one");
        time as f64 * f64::from(base.numerator) / f64::from(base.denominator)
    };
    assert!((seconds(track.start) - 1.5).abs() < 0.01, "{}", seconds(track.start));
    assert!((seconds(track.end) - 3.5).abs() < 0.05, "{}", seconds(track.end));
}
