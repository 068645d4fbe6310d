//! Files and messages made to break their reader are errors.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use braidcast_av::limits::VIDEO_CODECS;
use braidcast_av::{DecodeError, Decoder, TrackError};
use braidcast_media::frames::FrameEntry;
use braidcast_proto::v1;
use tempfile::TempDir;

use crate::clips::find;
use crate::player::{play, publish};
use crate::probe::look;
use crate::random::Random;

/// One of each container and of most codecs.
const VICTIMS: [&str; 8] = [
    "h264 with B-frames and two audio tracks",
    "fragments",
    "mpeg4 and mp3",
    "vp8 with hidden frames",
    "subtitles of matroska",
    "h264, ac3 and mp2",
    "mpeg2 and mp2",
    "av1",
];
const CUTS: usize = 12;
const FLIPPED_FILES: u64 = 12;

fn write(directory: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = directory.path().join("film");
    fs::write(&path, bytes).expect("the directory takes files");
    path
}

/// The index of a broken film points into the film all the same.
fn check(path: &PathBuf, what: &str) {
    let Ok(probed) = look(path) else { return };
    let film = probed.film.expect("what was probed has a film");
    let end = if film.frames_stream == 0 {
        fs::metadata(path).expect("just written").len()
    } else {
        probed.access_unit_bytes
    };
    for track in &film.tracks {
        let start = track.first_chunk as usize * 1_200;
        let (entries, _) = probed.frame_index[start..][..track.frames as usize * 24].as_chunks();
        let inside = |bytes| FrameEntry::from_bytes(bytes).end() <= end;
        assert!(entries.iter().all(inside), "{what}: an entry points beyond the film");
    }
}

#[test]
fn files_cut_off_anywhere_are_films_or_are_not() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    for name in VICTIMS {
        let whole = find(name).bytes();
        for cut in 0..CUTS {
            // More of them near the beginning, where the headers are.
            let length = whole.len() * cut * cut / (CUTS * CUTS);
            check(&write(&directory, &whole[..length]), &format!("{name} cut to {length} bytes"));
        }
    }
}

#[test]
fn files_with_flipped_bits_are_films_or_are_not() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    for name in VICTIMS {
        let whole = find(name).bytes();
        for seed in 0..FLIPPED_FILES {
            let mut random = Random(seed);
            let mut bytes = whole.clone();
            // Every other file has its damage in the header.
            let within = if seed % 2 == 0 { bytes.len() } else { bytes.len().min(2_000) };
            for _ in 0..1 << (seed % 7) {
                bytes[random.below(within)] ^= 1 << random.below(8);
            }
            check(&write(&directory, &bytes), &format!("{name} with bits flipped by seed {seed}"));
        }
    }
}

#[test]
fn files_of_zeros_and_of_noise_are_no_films() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    assert!(look(&write(&directory, &[0; 100_000])).is_err());
    assert!(look(&write(&directory, &Random(1).bytes(100_000))).is_err());
}

#[test]
fn lists_that_name_other_files_are_no_films() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let film = directory.path().join("secret.ts");
    fs::copy(find("small h264").path(), &film).expect("the directory takes files");
    let film = film.display();
    let lists = [
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\n{film}\n#EXT-X-ENDLIST\n"),
        format!("#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nfile://{film}\n#EXT-X-ENDLIST\n"),
        format!("ffconcat version 1.0\nfile '{film}'\n"),
        format!("<?xml version=\"1.0\"?><MPD xmlns=\"urn:mpeg:dash:schema:mpd:2011\"><BaseURL>{film}</BaseURL></MPD>"),
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n".to_owned(),
    ];
    for list in lists {
        let why = look(&write(&directory, list.as_bytes())).expect_err("a list is no film");
        assert!(why.contains("which Braidcast does not index") || why.contains("no container"), "{why}");
    }
}

/// Whether a film that `ffmpeg` makes with these options is one.
fn made(directory: &TempDir, name: &str, options: &[&str]) -> Result<v1::Probed, String> {
    let path = directory.path().join(name);
    let mut command = Command::new("ffmpeg");
    let status = command.args(["-v", "error", "-nostdin", "-y"]).args(options).arg(&path).status();
    assert!(status.expect("the ffmpeg program is installed").success(), "{command:?}");
    look(&path)
}

#[test]
fn pictures_larger_than_the_limit_are_refused() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let wide = |width| {
        let source = format!("color=size={width}x16:duration=0.2");
        made(&directory, "wide.avi", &["-f", "lavfi", "-i", &source, "-c:v", "mjpeg"])
    };
    assert!(wide(16_384).is_ok());
    let why = wide(16_400).expect_err("it is too wide");
    assert!(why.starts_with("its video track cannot be played: a picture of 16400 x 16 pixels"), "{why}");
}

#[test]
fn more_tracks_than_the_limit_are_refused() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let with = |audio_tracks: usize| {
        let mut options = vec!["-f", "lavfi", "-i", "testsrc2=size=32x32:duration=0.2"];
        options.extend(["-f", "lavfi", "-i", "sine=duration=0.2", "-c:v", "mpeg4", "-c:a", "mp2", "-map", "0"]);
        options.extend(["-map", "1"].repeat(audio_tracks));
        made(&directory, "many.mkv", &options).map(|probed| probed.film.map_or(0, |film| film.tracks.len()))
    };
    assert_eq!(with(63), Ok(64));
    assert_eq!(with(64), Err("it has 65 tracks (at most 64)".to_owned()));
}

fn track(codec: &str) -> v1::Track {
    v1::Track {
        kind: v1::track::Kind::Video.into(),
        codec: codec.to_owned(),
        codec_descriptions: vec![Vec::new()],
        profile: -99,
        level: -99,
        time_base: Some(v1::Rational { numerator: 1, denominator: 1_000 }),
        video: Some(v1::VideoTrack { width: 64, height: 48, ..v1::VideoTrack::default() }),
        ..v1::Track::default()
    }
}

#[test]
fn noise_is_skipped_and_counted_by_every_decoder() {
    for codec in VIDEO_CODECS {
        let mut random = Random(7);
        let mut decoder = Decoder::new(&track(codec), 2).expect("FFmpeg has all these decoders");
        let noise: Vec<Vec<u8>> =
            (0..64).map(|_| random.below(3_000)).map(|size| Random(size as u64).bytes(size)).collect();
        let units = noise.iter().enumerate().map(|(at, data)| {
            let time = Some(at as i64);
            (
                FrameEntry { size: data.len() as u32, pts: time, dts: time, key: true, ..FrameEntry::default() },
                data.as_slice(),
            )
        });
        let pictures = play(&mut decoder, units).expect("noise is no reason to give up");
        assert!(pictures.is_empty(), "{codec}");
        // Those of MPEG-1 and 2 look for start codes and drop what has none without a word.
        let looks_for_start_codes = ["mpeg1video", "mpeg2video"].contains(&codec);
        assert_eq!(decoder.errors() == 0, looks_for_start_codes, "{codec}");
    }
}

#[test]
fn access_units_with_flipped_bits_never_break_the_decoder() {
    let names = VICTIMS.into_iter().chain(["vp9 and opus", "mjpeg", "prores and pcm", "h265 of 10 bits", "mpeg1"]);
    for name in names {
        let published = publish(&find(name).path());
        let entries = published.entries(published.video());
        for seed in 0..4 {
            let mut random = Random(seed);
            let mut units: Vec<Vec<u8>> = entries.iter().map(|entry| published.data(entry).to_vec()).collect();
            for unit in &mut units {
                for _ in 0..random.below(4) {
                    let at = random.below(unit.len());
                    unit[at] ^= 1 << random.below(8);
                }
                unit.truncate(1 + random.below(unit.len() * 4).min(unit.len() - 1));
            }
            let units = entries
                .iter()
                .zip(&units)
                .map(|(entry, unit)| (FrameEntry { size: unit.len() as u32, ..*entry }, unit.as_slice()));
            let mut decoder = Decoder::new(published.video(), 2).expect("the description is whole");
            for picture in play(&mut decoder, units).unwrap_or_default() {
                picture.planes().expect("a picture that comes out is all there");
            }
        }
    }
}

#[test]
fn wrong_decoder_configurations_are_errors_or_are_ignored() {
    let published = publish(&find("h264 with B-frames and two audio tracks").path());
    let entries = published.entries(published.video());
    for seed in 0..32 {
        let mut random = Random(seed);
        let mut track = published.video().clone();
        let good = track.codec_descriptions[0].clone();
        let mut bad = good.clone();
        let at = random.below(bad.len());
        bad[at] ^= 1 << random.below(8);
        track.codec_descriptions = vec![bad, good, random.bytes(100)];
        let Ok(mut decoder) = Decoder::new(&track, 2) else { continue };
        let units = entries.iter().map(|entry| {
            let codec = random.below(3) as u8;
            (FrameEntry { codec, ..*entry }, published.data(entry))
        });
        for picture in play(&mut decoder, units).unwrap_or_default() {
            picture.planes().expect("a picture that comes out is all there");
        }
    }
}

#[test]
fn entries_that_do_not_fit_the_track_or_the_bytes_are_errors() {
    let mut decoder = Decoder::new(&track("h264"), 1).expect("FFmpeg has the decoder");
    let entry = FrameEntry { size: 3, codec: 1, ..FrameEntry::default() };
    assert_eq!(decoder.send(&entry, b"abc"), Err(DecodeError::Description { number: 1, count: 1 }));
    let entry = FrameEntry { size: 4, ..FrameEntry::default() };
    assert_eq!(decoder.send(&entry, b"abc"), Err(DecodeError::Size { bytes: 3, size: 4 }));
    assert_eq!(decoder.send(&FrameEntry::default(), b""), Ok(true));
    assert_eq!(decoder.errors(), 1, "an empty access unit is skipped");
}

#[test]
fn absurd_tracks_are_refused_and_those_at_the_edge_are_not() {
    let with = |change: &dyn Fn(&mut v1::Track, &mut v1::VideoTrack)| {
        let mut track = track("h264");
        let mut video = track.video.take().expect("it has one");
        change(&mut track, &mut video);
        track.video = Some(video);
        match Decoder::new(&track, 1) {
            Ok(_) => None,
            Err(DecodeError::Track(error)) => Some(error),
            Err(error) => panic!("{error}"),
        }
    };
    let size = |width, height| with(&|_, video| (video.width, video.height) = (width, height));
    assert_eq!(size(16_384, 4_096), None);
    assert_eq!(size(16_385, 1), Some(TrackError::Size { width: 16_385, height: 1 }));
    assert_eq!(size(16_384, 4_097), Some(TrackError::Size { width: 16_384, height: 4_097 }));
    assert_eq!(size(0, 1), Some(TrackError::Size { width: 0, height: 1 }));
    assert_eq!(size(u32::MAX, u32::MAX), Some(TrackError::Size { width: u32::MAX, height: u32::MAX }));
    let descriptions = |count, bytes| with(&|track, _| track.codec_descriptions = vec![vec![0; bytes]; count]);
    assert_eq!(descriptions(32, 0), None);
    assert_eq!(descriptions(33, 0), Some(TrackError::Descriptions(33)));
    assert_eq!(descriptions(0, 0), Some(TrackError::Descriptions(0)));
    assert_eq!(descriptions(2, (1 << 19) + 1), Some(TrackError::DescriptionBytes((1 << 20) + 2)));
    assert_eq!(with(&|track, _| track.codec = "ffv1".to_owned()), Some(TrackError::Codec("ffv1".to_owned())));
    assert_eq!(with(&|track, _| track.kind = v1::track::Kind::Audio.into()), Some(TrackError::NotVideo));
    assert_eq!(with(&|track, _| track.time_base = None), Some(TrackError::TimeBase(0, 0)));
    assert_eq!(with(&|_, video| video.reorder = 16), None);
    assert!(matches!(with(&|_, video| video.reorder = 17), Some(TrackError::Number { value: 17, max: 16, .. })));
    assert_eq!(with(&|_, video| video.color_matrix = 255), None);
    assert!(matches!(with(&|_, video| video.color_matrix = u32::MAX), Some(TrackError::Number { .. })));
    assert_eq!(with(&|_, video| video.pixel_format = "no\0name".to_owned()), None);
}
