//! The program `braidcast-probe`.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use braidcast_proto::v1;
use prost::Message;

use crate::clips::find;
use crate::player::{publish, report};

/// Longer than any probe of a small file takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);

/// Runs the program; it has to end in time, and not by a signal.
pub(crate) fn run(what: &str, path: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_braidcast-probe"));
    let started = Instant::now();
    let output = command.arg(what).arg(path).stdin(Stdio::null()).output().expect("the program was built");
    assert!(started.elapsed() < PATIENCE, "{command:?}");
    assert!(output.status.code().is_some(), "{command:?} was ended by {}", output.status);
    output
}

/// The program's report on a file.
pub(crate) fn look(path: &Path) -> Result<v1::Probed, String> {
    let output = run("report", path);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = v1::ProbeReport::decode(output.stdout.as_slice()).expect("a whole report");
    match report.result.expect("a report has a result") {
        v1::probe_report::Result::Probed(probed) => Ok(probed),
        v1::probe_report::Result::NotAFilm(why) => Err(why),
    }
}

#[test]
fn the_program_says_what_the_library_says() {
    for name in ["h264 with B-frames and two audio tracks", "vorbis, flac and opus", "mpeg1"] {
        let path = find(name).path();
        assert_eq!(look(&path), report(&path), "{name}");
    }
}

#[test]
fn the_program_writes_the_access_units_that_the_index_points_to() {
    let path = find("h264, ac3 and mp2").path();
    let published = publish(&path);
    let output = run("access-units", &path);
    assert!(output.status.success());
    assert_eq!(output.stdout.len() as u64, published.probed.access_unit_bytes);
    assert!(output.stdout == published.bytes);
}

#[test]
fn the_program_writes_into_no_file() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let path = directory.path().join("report");
    let out = fs::File::create(&path).expect("the directory takes files");
    let mut command = Command::new(env!("CARGO_BIN_EXE_braidcast-probe"));
    let status = command.arg("report").arg(find("mjpeg").path()).stdin(Stdio::null()).stdout(out).status();
    assert!(!status.expect("the program was built").success());
    assert_eq!(fs::metadata(&path).expect("it was created").len(), 0);
}

#[test]
fn what_is_no_film_is_named() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let mp3 = directory.path().join("music.mp3");
    let clip = find("mpeg4 and mp3").path();
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(clip)
        .args(["-vn", "-c", "copy"])
        .arg(&mp3)
        .args(["-vn", "-c", "copy"])
        .arg(directory.path().join("music.mp4"))
        .status();
    assert!(made.expect("the ffmpeg program is installed").success());
    let film = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).expect("the directory takes files");
        path
    };
    let found = [
        look(&mp3),
        look(&directory.path().join("music.mp4")),
        look(&film("empty.mp4", b"")),
        look(&film("letter.txt", b"Dear Sir or Madam,\nthis is no film.\n")),
        look(&film("zeros.mkv", &[0; 10_000])),
    ];
    let found = found.map(|result| result.expect_err("none is a film"));
    assert!(found[0].starts_with("FFmpeg knows the format `mp3` ("), "{}", found[0]);
    assert!(found[0].ends_with(", which Braidcast does not index"), "{}", found[0]);
    assert_eq!(found[1], "a `mov,mp4,m4a,3gp,3g2,mj2` file with mp3 and no video");
    assert_eq!(found[2], "the file is empty");
    assert_eq!(found[3], "no container that FFmpeg knows: Invalid data found when processing input");
    assert_eq!(found[4], "no container that FFmpeg knows: Invalid data found when processing input");
}

#[test]
fn a_cover_picture_is_no_film() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let song = directory.path().join("song.mp4");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "sine=duration=1"])
        .args(["-f", "lavfi", "-i", "color=red:size=32x32:rate=1:duration=1", "-map", "0", "-map", "1"])
        .args(["-c:a", "aac", "-c:v", "mjpeg", "-disposition:v", "attached_pic"])
        .arg(&song)
        .status();
    assert!(made.expect("the ffmpeg program is installed").success());
    assert_eq!(look(&song), Err("a `mov,mp4,m4a,3gp,3g2,mj2` file with aac and no video".to_owned()));
}

#[test]
fn a_codec_that_is_not_played_is_named() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let path = directory.path().join("lossless.mkv");
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=64x48:duration=1", "-c:v", "ffv1"])
        .arg(&path)
        .status();
    assert!(made.expect("the ffmpeg program is installed").success());
    let why = look(&path).expect_err("ffv1 is not played");
    assert!(why.starts_with("its video track cannot be played: its codec `ffv1` is not one"), "{why}");
}

#[test]
fn an_encrypted_film_is_named() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let path = directory.path().join("protected.mp4");
    let key = "00112233445566778899aabbccddeeff";
    let made = Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-i"])
        .arg(find("key frames only").path())
        .args(["-c", "copy", "-encryption_scheme", "cenc-aes-ctr"])
        .args(["-encryption_key", key, "-encryption_kid", key])
        .arg(&path)
        .status();
    assert!(made.expect("the ffmpeg program is installed").success());
    assert_eq!(look(&path), Err("track 0 is encrypted, and nobody could play it".to_owned()));
}

#[test]
fn names_that_look_like_addresses_and_that_are_no_text_are_files() {
    use std::os::unix::ffi::OsStrExt;
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let bytes = find("key frames only").bytes();
    for name in [&b"concat:a|b"[..], b"http:film.mp4", b"film-%03d.mp4", b"caf\xe9.mp4"] {
        let path = directory.path().join(std::ffi::OsStr::from_bytes(name));
        fs::write(&path, &bytes).expect("the directory takes files");
        assert!(look(&path).is_ok(), "{}", path.display());
    }
}

#[test]
fn a_file_that_cannot_be_read_and_a_wrong_command_fail() {
    let directory = tempfile::tempdir().expect("a directory for temporary files");
    let failed = |what, path: &Path| {
        let output = run(what, path);
        assert!(!output.status.success() && output.stdout.is_empty());
        String::from_utf8(output.stderr).expect("text")
    };
    assert!(failed("report", &directory.path().join("nothing")).contains("No such file"));
    assert!(failed("report", directory.path()).contains("not a regular file"));
    assert!(failed("look", &find("mjpeg").path()).contains("usage: "));
    assert!(failed("access-units", &find("subtitles of mp4").path().with_extension("none")).contains("No such file"));
}
