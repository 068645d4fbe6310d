//! Films of every container through real processes: fetched as files, asked for by frames and times, and played.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use braidcast_client::Control;
use braidcast_client::control::{FrameSpan, VideoRef, Window};
use braidcast_client::publish::{Kind, ProbeCommand, PublishError, PublishOptions, publish_file};
use braidcast_media::frames::{FrameEntry, KeyEntry};
use braidcast_player::{PlayError, Player, PlayerOptions, ShownPicture, Taken};
use braidcast_proto::prost::Message;
use braidcast_proto::v1::{self, probe_report};
use tokio::runtime::Runtime;

use crate::clips::{CLIPS, Clip, find};
use crate::reference;
use crate::support::{Client, Dev, PATIENCE, sha256_of_file};

/// Exit code of a command that a local file has stopped.
const LOCAL_FILE: i32 = 7;

/// A dev that has published these clips, each named after its clip.
fn dev_with(clips: &[&Clip]) -> Dev {
    let builder = Dev::of([]);
    for clip in clips {
        fs::copy(clip.path(), builder.folder().join(clip.name)).expect("room on the disk");
    }
    builder.start()
}

pub(crate) fn open(runtime: &Runtime, control: &Control, name: &str) -> Result<Player, PlayError> {
    runtime.block_on(Player::open(control.clone(), name, PlayerOptions::default()))
}

/// The pictures of a film to its end.
pub(crate) fn play_to_end(player: &Player) -> Result<Vec<ShownPicture>, PlayError> {
    let mut pictures = Vec::new();
    loop {
        match player.take()? {
            Taken::Picture(picture) => pictures.push(picture),
            Taken::Waiting => player.wait(PATIENCE),
            Taken::End => return Ok(pictures),
        }
    }
}

fn as_reference(shown: &ShownPicture) -> reference::Frame {
    let picture = &shown.picture;
    reference::Frame {
        pts: shown.pts,
        key: shown.key_frame,
        kind: picture.picture_type(),
        size: (picture.width(), picture.height()),
        format: picture.format().to_owned(),
    }
}

pub(crate) fn samples(pictures: &[ShownPicture]) -> Vec<u8> {
    let mut samples = Vec::new();
    for shown in pictures {
        for plane in shown.picture.planes().expect("a format with planes") {
            plane.rows().for_each(|row| samples.extend_from_slice(row));
        }
    }
    samples
}

pub(crate) fn runtime_and_control(client: &Client) -> (Runtime, Control) {
    let runtime = Runtime::new().expect("a runtime");
    let profile = braidcast_client::Profile::load(client.profile()).expect("dev wrote it");
    let control = runtime.block_on(Control::connect(&profile)).expect("the master answers");
    (runtime, control)
}

#[test]
fn films_of_every_container_come_back_as_files_and_play_as_ffmpeg_plays_them() {
    let dev = dev_with(&CLIPS.iter().collect::<Vec<_>>());
    let (runtime, control) = runtime_and_control(dev.client());
    for clip in CLIPS {
        let info = dev.client().run(["info", clip.name]).success();
        let tracks = |kind: &str| info.lines().filter(|line| line.starts_with(&format!("track      {kind}"))).count();
        assert_eq!(["video", "audio", "subtitles"].map(tracks), clip.tracks, "{}: {info}", clip.name);
        let copy = dev.path("copy");
        dev.client().get(clip.name).to(&copy).finish().report();
        assert_eq!(sha256_of_file(&copy), sha256_of_file(&clip.path()), "{}", clip.name);
        fs::remove_file(&copy).expect("own file");

        let player = open(&runtime, &control, clip.name).unwrap_or_else(|error| panic!("{}: {error}", clip.name));
        let pictures = play_to_end(&player).unwrap_or_else(|error| panic!("{}: {error}", clip.name));
        let described: Vec<reference::Frame> = pictures.iter().map(as_reference).collect();
        assert_eq!(described, reference::frames(&clip.path()), "{}", clip.name);
        assert!(samples(&pictures) == reference::decoded(&clip.path(), None), "{}: samples differ", clip.name);
        assert!(pictures.iter().map(|picture| picture.index).eq(0..pictures.len() as u64), "{}", clip.name);
        assert_eq!(player.film().pictures, pictures.len() as u64, "{}", clip.name);
        assert_eq!(player.stats().decode_errors, 0, "{}", clip.name);
    }
}

/// The frames of a window, and the bytes of each cut from the published streams by a player.
fn ask(runtime: &Runtime, control: &Control, name: &str, window: Window) -> FrameSpan {
    let list = runtime.block_on(control.distribution(VideoRef::Name(name), window)).expect("the master answers");
    list.frames.expect("a film has frames")
}

fn assert_same_packets(span: &FrameSpan, packets: &[reference::Packet], what: &str) {
    let expected = &packets[span.first as usize..span.end() as usize];
    for ((entry, packet), number) in span.entries.iter().zip(expected).zip(span.first..) {
        let found = (entry.pts, entry.dts, entry.size, entry.key, entry.discard);
        let wanted = (packet.pts, packet.dts, packet.size, packet.key, packet.discard);
        assert_eq!(found, wanted, "{what}: frame {number}");
    }
}

/// B-frames, an open group of pictures, and a container whose frames stand in a stream of their own.
const ORDERED_OTHERWISE: [&str; 3] = [
    "h264 with B-frames and two audio tracks",
    "h265 with open groups of pictures",
    "h264 in a transport stream with B-frames",
];

#[test]
fn frames_asked_for_by_number_are_those_of_the_container_in_decode_order() {
    let dev = dev_with(&ORDERED_OTHERWISE.map(find));
    let (runtime, control) = runtime_and_control(dev.client());
    for name in ORDERED_OTHERWISE {
        let packets = reference::packets(&find(name).path()).swap_remove(0);
        let last = packets.len() as u64 - 1;
        for (first, until) in [(0, 0), (0, last), (7, 19), (last, last), (last - 3, u64::MAX)] {
            let span = ask(&runtime, &control, name, Window::Frames { first, last: until });
            assert_eq!((span.first, span.end() - 1), (first, until.min(last)), "{name}");
            assert_same_packets(&span, &packets, name);
            assert_eq!(u32::from(span.stream.0), find(name).frames_stream, "{name}");
        }
        let past = Window::Frames { first: last + 1, last: last + 1 };
        assert!(runtime.block_on(control.distribution(VideoRef::Name(name), past)).is_err(), "{name}");
    }
}

#[test]
fn times_asked_for_give_the_frames_from_the_key_frame_needed_to_the_last_one_shown() {
    let dev = dev_with(&ORDERED_OTHERWISE.map(find));
    let (runtime, control) = runtime_and_control(dev.client());
    for name in ORDERED_OTHERWISE {
        let packets = reference::packets(&find(name).path()).swap_remove(0);
        let film = open(&runtime, &control, name).expect("it opens");
        let info = film.film().clone();
        let seconds = |packet: &reference::Packet| info.seconds(packet.pts.expect("these have times"));
        let mut times: Vec<f64> = packets.iter().filter(|packet| !packet.discard).map(seconds).collect();
        times.sort_by(f64::total_cmp);
        // Just when a picture is shown, just before the next, and in between.
        let starts = [times[0], times[1], times[1] - 1e-6, times[20], (times[20] + times[21]) / 2.0, times[49]];
        for start in starts {
            for end in [start, times[30], f64::from(u16::MAX)] {
                if end < start {
                    continue;
                }
                let what = format!("{name}: {start} to {end}");
                let span = ask(&runtime, &control, name, Window::Time { start, end });
                assert_same_packets(&span, &packets, &what);
                let key =
                    packets.iter().rposition(|packet| packet.key && seconds(packet) <= start).expect("a key frame");
                assert_eq!(span.first as usize, key, "{what}");
                let shown = packets.iter().rposition(|packet| seconds(packet) <= end).expect("a picture");
                assert_eq!(span.end() as usize - 1, shown.max(key), "{what}");
                let before = times.iter().filter(|&&time| time < seconds(&packets[key])).count();
                assert_eq!(span.pictures_before, Some(before as u64), "{what}");
            }
        }
    }
}

#[test]
fn after_a_seek_comes_the_picture_shown_at_that_time_and_then_those_after_it() {
    let dev = dev_with(&ORDERED_OTHERWISE.map(find));
    let (runtime, control) = runtime_and_control(dev.client());
    for name in ORDERED_OTHERWISE {
        let player = open(&runtime, &control, name).expect("it opens");
        let whole = play_to_end(&player).expect("it plays");
        let last = whole.len() - 1;
        for target in [last, 0, 25, 24, 26, 1, last - 1] {
            let to = whole[target].time + if target == last { 0.0 } else { 1e-4 };
            player.seek(to).expect("the film has that time");
            let rest = play_to_end(&player).expect("it plays");
            let place = |pictures: &[ShownPicture]| -> Vec<(u64, Option<i64>)> {
                pictures.iter().map(|picture| (picture.index, picture.pts)).collect()
            };
            assert_eq!(place(&rest), place(&whole[target..]), "{name}: picture {target}");
            assert!(samples(&rest) == samples(&whole[target..]), "{name}: picture {target}");
        }
        for wrong in [-0.1, f64::NAN, player.film().duration, f64::INFINITY] {
            assert!(player.seek(wrong).is_err(), "{wrong}");
        }
    }
}

#[test]
fn of_many_seeks_in_a_row_the_last_counts() {
    let dev = dev_with(&[find(ORDERED_OTHERWISE[0])]);
    let (runtime, control) = runtime_and_control(dev.client());
    let player = open(&runtime, &control, ORDERED_OTHERWISE[0]).expect("it opens");
    let whole = play_to_end(&player).expect("it plays");
    for round in 0..20 {
        // The wishes of threads that seek at once come in any order.
        std::thread::scope(|scope| {
            for target in [40, 3, 30, 12] {
                let (player, whole) = (&player, &whole);
                scope.spawn(move || player.seek(whole[target].time).expect("the film has that time"));
            }
        });
        player.seek(whole[round].time).expect("the film has that time");
        let rest = play_to_end(&player).expect("it plays");
        assert_eq!((rest[0].index, rest.len()), (round as u64, whole.len() - round));
    }
}

/// A dev with a film of a minute at 25 pictures a second, called `minute`.
fn dev_with_a_minute() -> Dev {
    let builder = Dev::of([]);
    let status = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=size=320x180:rate=25:duration=60"])
        .args(["-c:v", "libx264", "-preset", "ultrafast", "-f", "mp4"])
        .arg(builder.folder().join("minute"))
        .status();
    assert!(status.expect("the ffmpeg program is installed").success());
    builder.start()
}

#[test]
fn a_film_is_asked_for_window_by_window_and_no_further_than_it_is_watched() {
    let dev = dev_with_a_minute();
    let (runtime, control) = runtime_and_control(dev.client());
    let player = open(&runtime, &control, "minute").expect("it opens");
    player.wait(PATIENCE);
    let watched = |pictures: usize| {
        for _ in 0..pictures {
            while matches!(player.take().expect("it plays"), Taken::Waiting) {
                player.wait(PATIENCE);
            }
        }
        player.stats().film
    };
    let at_start = watched(1);
    assert_eq!(at_start.lists, 1, "one window until half of it was watched");
    let length = player.film().bytes;
    assert!(at_start.bytes < length / 3, "{} of {length} bytes for one picture", at_start.bytes);
    play_to_end(&player).expect("it plays");
    let at_end = player.stats().film;
    assert!((5..=12).contains(&at_end.lists), "{} windows", at_end.lists);
}

/// The player's own window ends there, so that each answer for itself goes forward.
#[test]
fn an_index_that_goes_back_where_one_window_ends_is_an_error_and_no_standstill() {
    let dev = dev_with_a_minute();
    let (runtime, control) = runtime_and_control(dev.client());
    let mut probed = probe(&dev.original("minute"));
    let mut frames = braidcast_media::frames::parse_frames(&probed.frame_index).expect("whole entries");
    let honest = open(&runtime, &control, "minute").expect("it opens");
    let first = runtime
        .block_on(control.distribution(VideoRef::Name("minute"), Window::Time { start: 0.0, end: 10.0 }))
        .expect("the master answers");
    // Where the second window ends, which a player asks for by frames: the master looks at no others for it.
    let border = first.frames.expect("a film has frames").end() as usize + 250;
    let start = frames[3].offset;
    frames[border..].iter_mut().for_each(|frame| frame.offset = start);
    probed.frame_index = frames.iter().flat_map(|frame| frame.to_bytes().expect("it fits")).collect();
    let kind = Kind::Film(lying_probe(&dev.path(""), probed));
    let options = PublishOptions { kind, name: Some("lie".to_owned()), replicas: 0, replace: false };
    runtime.block_on(publish_file(&control, &dev.original("minute"), &options, |_| {})).expect("nobody looks there");
    dev.client().wait_held("lie", 3);
    let error = play_to_end(&open(&runtime, &control, "lie").expect("it opens")).expect_err("it goes back");
    assert!(error.to_string().contains("goes back"), "{error}");
    assert!(play_to_end(&honest).is_ok());
}

/// Dropping once waited for a task that the waiting thread itself was to run.
#[test]
fn a_player_may_be_dropped_within_a_task() {
    let dev = dev_with(&[find("key frames only")]);
    let profile = braidcast_client::Profile::load(dev.client().profile()).expect("dev wrote it");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let control = Control::connect(&profile).await.expect("the master answers");
        let player = Player::open(control, "key frames only", PlayerOptions::default()).await.expect("it opens");
        assert!(player.seek(0.0).is_ok());
        drop(player);
    });
}

#[test]
fn what_is_no_film_is_refused_with_what_was_found_unless_it_is_to_be_plain_bytes() {
    let dev = Dev::of([("bytes", 100_000)]).start();
    let (runtime, control) = runtime_and_control(dev.client());
    let found = dev.client().run(["info", "bytes"]).success();
    assert!(found.contains("plain bytes"), "dev publishes what is no film all the same: {found}");
    let Err(error) = open(&runtime, &control, "bytes") else { panic!("plain bytes cannot be played") };
    assert!(error.to_string().contains("braidcast get"), "{error}");

    let sound = dev.path("sound.mp4");
    let status = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-f", "lavfi", "-i", "sine=duration=1"])
        .arg(&sound)
        .status();
    assert!(status.expect("the ffmpeg program is installed").success());
    let refused = dev.client().run([Path::new("publish"), &sound]);
    refused.assert_refused(LOCAL_FILE, &["sound.mp4", "aac and no video", "--as-file"]);
    assert!(!dev.client().names().contains(&"sound.mp4".to_owned()));
    dev.client().run([Path::new("publish"), &sound, Path::new("--as-file")]).success();
    let film = find("mjpeg").path();
    let published = dev.client().run([Path::new("publish"), &film, Path::new("--name"), Path::new("film")]).success();
    assert!(published.contains("video mjpeg 128x96"), "{published}");
}

#[test]
fn broken_films_are_published_or_refused_and_end_nobody() {
    let mut dev = dev_with(&[find("mjpeg")]);
    let (runtime, control) = runtime_and_control(dev.client());
    for (number, name) in
        ["fragments", "vorbis, flac and opus", "h264, ac3 and mp2", "mpeg4 and mp3"].iter().enumerate()
    {
        let whole = find(name).bytes();
        let mut broken: Vec<Vec<u8>> = [2, 3, 10].iter().map(|part| whole[..whole.len() / part].to_vec()).collect();
        for step in [997, 10_007] {
            let mut flipped = whole.clone();
            flipped.iter_mut().step_by(step).for_each(|byte| *byte ^= 0x10);
            broken.push(flipped);
        }
        for (case, bytes) in broken.into_iter().enumerate() {
            let file = dev.path(&format!("broken {number} {case}"));
            fs::write(&file, &bytes).expect("writable");
            let output = dev.client().run([Path::new("publish"), &file]);
            match output.code {
                Some(0) => play_broken(&runtime, &control, &file),
                _ => output.assert_refused(LOCAL_FILE, &["broken", "--as-file"]),
            }
        }
    }
    assert!(open(&runtime, &control, "mjpeg").is_ok_and(|player| play_to_end(&player).is_ok()), "all parts still run");
    assert!(!dev.process().has_ended());
}

/// Plays what can be played: the end or an error, and never a crash.
fn play_broken(runtime: &Runtime, control: &Control, file: &Path) {
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    let Ok(player) = open(runtime, control, name) else { return };
    if let Err(error) = play_to_end(&player) {
        assert!(matches!(error, PlayError::Decode(_)), "{name}: {error}");
    }
}

/// A program that reports what it is told to report.
fn lying_probe(folder: &Path, probed: v1::Probed) -> ProbeCommand {
    let report = v1::ProbeReport { result: Some(probe_report::Result::Probed(probed)) };
    let (said, program) = (folder.join("said"), folder.join("probe.sh"));
    fs::write(&said, report.encode_to_vec()).expect("writable");
    fs::write(&program, format!("#!/bin/sh\nexec cat '{}'\n", said.display())).expect("writable");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).expect("own file");
    ProbeCommand { program: program.into(), arguments: Vec::new() }
}

/// What the true program says of a file.
fn probe(file: &Path) -> v1::Probed {
    let program = PathBuf::from(env!("CARGO_BIN_EXE_braidcast")).with_file_name("braidcast-probe");
    let output = std::process::Command::new(program).arg("report").arg(file).output().expect("it was built");
    match v1::ProbeReport::decode(&output.stdout[..]).expect("a report").result {
        Some(probe_report::Result::Probed(probed)) => probed,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_index_that_lies_is_an_error_and_nothing_is_read_out_of_bounds() {
    type Lie = fn(&mut Vec<FrameEntry>, &mut Vec<KeyEntry>);
    let lies: [(&str, Lie); 8] = [
        ("past the end", |frames, _| frames[9].offset = 1 << 40),
        ("longer than the file", |frames, _| frames[9].size = u32::MAX),
        ("backwards", |frames, _| frames.swap(3, 30)),
        ("all at once", |frames, _| frames.iter_mut().for_each(|frame| frame.offset = u64::from(u32::MAX))),
        ("a codec description that is not there", |frames, _| frames[9].codec = 31),
        ("key frames that are not there", |_, keys| keys.iter_mut().for_each(|key| key.frame = u32::MAX)),
        ("times without sense", |frames, _| {
            frames.iter_mut().for_each(|frame| frame.dts = Some(-frame.dts.unwrap_or(0)));
        }),
        ("other bytes", |frames, _| frames.iter_mut().for_each(|frame| frame.size = frame.size.min(5))),
    ];
    let clip = find("key frames only");
    let mut dev = dev_with(&[clip]);
    let (runtime, control) = runtime_and_control(dev.client());
    let mut refused = 0;
    for (what, lie) in lies {
        let mut probed = probe(&clip.path());
        let mut frames = braidcast_media::frames::parse_frames(&probed.frame_index).expect("whole entries");
        let mut keys: Vec<KeyEntry> =
            probed.key_frame_index.as_chunks::<16>().0.iter().map(KeyEntry::from_bytes).collect();
        lie(&mut frames, &mut keys);
        probed.frame_index = frames.iter().flat_map(|frame| frame.to_bytes().expect("it fits")).collect();
        probed.key_frame_index = keys.iter().flat_map(KeyEntry::to_bytes).collect();
        let kind = Kind::Film(lying_probe(&dev.path(""), probed));
        let options = PublishOptions { kind, name: Some(what.to_owned()), replicas: 0, replace: false };
        match runtime.block_on(publish_file(&control, &clip.path(), &options, |_| {})) {
            Ok(_) => {}
            Err(PublishError::Control(_)) => continue,
            Err(error) => panic!("{what}: {error}"),
        }
        dev.client().wait_held(what, 3);
        match open(&runtime, &control, what).and_then(|player| play_to_end(&player)) {
            Ok(pictures) => {
                assert!(["times without sense", "other bytes"].contains(&what), "{what}: {}", pictures.len());
            }
            Err(_) => refused += 1,
        }
    }
    assert!(refused >= 5, "{refused}");
    assert!(!dev.process().has_ended());
    let player = open(&runtime, &control, clip.name).expect("all parts still run");
    assert_eq!(play_to_end(&player).expect("it plays").len() as u64, player.film().pictures);
}
