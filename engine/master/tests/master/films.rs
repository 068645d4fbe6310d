//! Films: asked for by frame and by time, and their descriptions.

use std::ops::RangeInclusive;

use braidcast_media::StreamId;
use braidcast_media::frames::FrameEntry;
use braidcast_media::hashes::hash;
use braidcast_proto::v1;
use braidcast_proto::v1::get_distribution_request::{Video, Window};
use braidcast_proto::v1::master_order::Order;
use prost::Message;
use tonic::{Code, Status};

use crate::fake_server::FakeServer;
use crate::harness::{Running, Upload, eventually, with_token};
use crate::made_film::{MadeFilm, RATE, START, STEP};

const EXTENT: u64 = 307_200;

pub(crate) async fn ask(
    master: &Running,
    name: &str,
    window: Option<Window>,
) -> Result<v1::GetDistributionResponse, Status> {
    let request = v1::GetDistributionRequest { video: Some(Video::VideoFilename(name.into())), window };
    let token = master.admin().await;
    Ok(master.distribution().get_distribution(with_token(&token, request)).await?.into_inner())
}

pub(crate) fn frames(frame_start: u64, frame_end: Option<u64>) -> Option<Window> {
    Some(Window::Frames(v1::FrameWindow { frame_start, frame_end }))
}

pub(crate) fn time(start_time: f64, end_time: Option<f64>) -> Option<Window> {
    Some(Window::Time(v1::TimeWindow { start_time, end_time }))
}

/// Seconds from the first picture to when picture `n` is shown.
fn seconds(n: i64) -> f64 {
    (n * STEP) as f64 / RATE as f64
}

/// A master with these films, `film-0` and so on, that one listed server holds.
async fn held(films: &[&MadeFilm]) -> (Running, FakeServer, Vec<Upload>) {
    let master = Running::start().await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    let mut uploads = Vec::new();
    for (n, film) in films.iter().enumerate() {
        uploads.push(film.publish(&master, &format!("film-{n}")).await.expect("publishes"));
    }
    eventually("it holds them", async || {
        master.videos().await.iter().all(|video| video.replicas_held == 1).then_some(())
    })
    .await;
    (master, server, uploads)
}

/// Checks an answer about frames against the film as it was made.
fn assert_frames(made: &MadeFilm, answer: &v1::GetDistributionResponse, expected: RangeInclusive<u64>) {
    let span = answer.frames.as_ref().expect("frames");
    assert_eq!(span.frame_start..=span.frame_end, expected);
    let wanted = &made.frames[*expected.start() as usize..=*expected.end() as usize];
    let entries: Vec<u8> = wanted.iter().flat_map(|frame| frame.to_bytes().expect("the format holds it")).collect();
    assert!(span.entries == entries, "the entries of {expected:?}");
    let (stream, plain) = made.stream();
    assert_eq!(span.stream, u32::from(stream.0));
    assert_eq!(answer.end_of_file, *expected.end() == made.frames.len() as u64 - 1);

    let with_bytes = || wanted.iter().filter(|frame| frame.size > 0);
    let first = with_bytes().next().expect("bytes").offset / EXTENT;
    let last = (with_bytes().next_back().expect("bytes").end() - 1) / EXTENT;
    let mut next = first;
    for range in &answer.ranges {
        assert_eq!(range.extent_start, next, "no gap and no overlap");
        assert_eq!((range.frame_start, range.frame_end), labels(made, &expected, range));
        assert_eq!(range.hosts, [0]);
        next = range.extent_end + 1;
    }
    assert_eq!(next, last + 1);
    let extents = plain.chunks(EXTENT as usize).skip(first as usize).take((last - first) as usize + 1);
    assert!(span.extent_hashes == extents.flat_map(hash).collect::<Vec<u8>>(), "the hashes of {first}..={last}");

    let metadata = answer.metadata.as_ref().expect("metadata");
    assert_eq!(metadata.film.as_ref(), Some(&made.film));
}

/// The first and the last of `frames` with bytes in the range, or else the one that follows it.
fn labels(made: &MadeFilm, frames: &RangeInclusive<u64>, range: &v1::Range) -> (u64, u64) {
    let (from, to) = (range.extent_start * EXTENT, (range.extent_end + 1) * EXTENT);
    let entry = |n: &u64| &made.frames[*n as usize];
    let within = |n: &u64| entry(n).size > 0 && entry(n).offset < to && entry(n).end() > from;
    let mut found = frames.clone().filter(within);
    match found.next() {
        Some(first) => (first, found.next_back().unwrap_or(first)),
        None => {
            let next = frames.clone().find(|n| entry(n).offset >= to).expect("one follows");
            (next, next)
        }
    }
}

#[tokio::test]
async fn windows_of_frames_give_the_frames_at_both_ends_and_all_between() {
    // 301 frames over seven chunks of the index, in 40 extents and more.
    let (original, mut apart) = (MadeFilm::new(100, 30_000), MadeFilm::apart(100, 30_000));
    // Frames without bytes: behind the last byte, and one in the middle.
    let end = apart.frames[299].end();
    apart.frames[300] = FrameEntry { offset: end, size: 0, ..apart.frames[300] };
    apart.frames[150] = FrameEntry { size: 0, ..apart.frames[150] };
    let (master, _server, _uploads) = held(&[&original, &apart]).await;
    for (name, made) in [("film-0", &original), ("film-1", &apart)] {
        for (window, expected) in [
            (frames(0, None), 0..=300),
            (frames(0, Some(0)), 0..=0),
            (frames(49, Some(50)), 49..=50),
            (frames(50, Some(99)), 50..=99),
            (frames(7, Some(140)), 7..=140),
            (frames(150, Some(151)), 150..=151),
            (frames(299, None), 299..=300),
            (frames(250, Some(301)), 250..=300),
            (frames(250, Some(u64::MAX)), 250..=300),
        ] {
            let answer = ask(&master, name, window).await.expect("answers");
            assert_frames(made, &answer, expected);
            assert_eq!(answer.frames.expect("frames").picture_start, None);
        }
    }
    // Nothing to fetch, and nobody to fetch it from.
    let answer = ask(&master, "film-1", frames(300, None)).await.expect("answers");
    let span = answer.frames.expect("frames");
    assert_eq!((span.frame_start, span.frame_end, answer.end_of_file), (300, 300, true));
    assert!(answer.ranges.is_empty() && span.extent_hashes.is_empty() && span.entries.len() == 24);
}

#[tokio::test]
async fn windows_of_time_give_the_frames_that_their_pictures_need() {
    let (original, apart) = (MadeFilm::new(100, 30_000), MadeFilm::apart(100, 3_000));
    let (master, _server, _uploads) = held(&[&original, &apart]).await;
    for (name, made) in [("film-0", &original), ("film-1", &apart)] {
        // From picture, and to picture, the latter a little early and a little late.
        for (from, to) in
            [(0, 0), (0, 1), (1, 2), (9, 9), (10, 11), (11, 12), (12, 12), (13, 30), (100, 299), (288, 300)]
        {
            for early in [0.0, 0.001, 0.03] {
                let window = time(seconds(from) + early, Some(seconds(to) + early));
                let key = made.keys.iter().rfind(|key| i64::from(key.picture) <= from).expect("the first at least");
                let shown = |frame: &FrameEntry| frame.pts <= Some(START + to * STEP);
                let last = made.frames.iter().rposition(shown).expect("the first at least");
                let answer = ask(&master, name, window).await.expect("answers");
                assert_frames(made, &answer, u64::from(key.frame)..=last as u64);
                assert_eq!(answer.frames.expect("frames").picture_start, Some(key.picture.into()), "{from} to {to}");
            }
        }
        // The last two key frames are those of the pictures 288 and 300.
        let [.., key, last_key] = made.keys.as_slice() else { panic!("two keys at least") };
        for (window, key) in [
            (time(seconds(300), None), last_key),
            (time(seconds(299), None), key),
            (time(seconds(295), Some(1e9)), key),
            (time(seconds(288), Some(f64::INFINITY)), key),
        ] {
            let answer = ask(&master, name, window).await.expect("answers");
            assert_frames(made, &answer, u64::from(key.frame)..=300);
        }
        assert_frames(made, &ask(&master, name, time(0.0, None)).await.expect("answers"), 0..=300);
    }
}

#[tokio::test]
async fn pictures_before_the_first_key_frame_are_decoded_from_the_first_frame() {
    let mut made = MadeFilm::new(20, 1_000);
    made.keys.remove(0);
    made.frames[0].key = false;
    made.film.key_frames -= 1;
    let mut without = made.clone();
    without.keys.clear();
    without.film.key_frames = 0;
    let (master, _server, _uploads) = held(&[&made, &without]).await;
    for (name, from, made) in [("film-0", 11, &made), ("film-1", 40, &without)] {
        let answer = ask(&master, name, time(seconds(from), Some(seconds(from)))).await.expect("answers");
        let last = answer.frames.as_ref().expect("frames").frame_end;
        assert_eq!(answer.frames.as_ref().expect("frames").picture_start, Some(0));
        assert_eq!(made.frames[last as usize].pts, Some(START + from * STEP));
        assert_frames(made, &answer, 0..=last);
    }
}

#[tokio::test]
async fn containers_without_decode_times_give_the_same_frames() {
    let made = MadeFilm::new(60, 1_000);
    let mut without = made.clone();
    without.frames.iter_mut().for_each(|frame| frame.dts = None);
    let (master, _server, _uploads) = held(&[&without]).await;
    for to in 40..80 {
        let shown = |frame: &FrameEntry| frame.pts <= Some(START + to * STEP);
        let last = without.frames.iter().rposition(shown).expect("the first at least");
        let answer = ask(&master, "film-0", time(seconds(37), Some(seconds(to)))).await.expect("answers");
        assert_frames(&without, &answer, 34..=last as u64);
    }
}

#[tokio::test]
async fn a_long_window_is_answered_in_parts_that_cover_it_once() {
    // 9,001 frames: 181 chunks of the frame index, ten of the key-frame index.
    let made = MadeFilm::new(3_000, 100);
    let (master, _server, _uploads) = held(&[&made]).await;
    let (mut next, mut parts) = (0, 0);
    while next < 9_001 {
        let answer = ask(&master, "film-0", frames(next, None)).await.expect("answers");
        assert_frames(&made, &answer, next..=(next + 4_095).min(9_000));
        next = answer.frames.expect("frames").frame_end + 1;
        parts += 1;
    }
    assert_eq!(parts, 3);
    for picture in [0_i64, 11, 12, 899, 900, 901, 4_500, 8_987, 8_988, 9_000] {
        let answer = ask(&master, "film-0", time(seconds(picture), None)).await.expect("answers");
        let key = made.keys.iter().rfind(|key| i64::from(key.picture) <= picture).expect("the first at least");
        let first = u64::from(key.frame);
        assert_frames(&made, &answer, first..=(first + 4_095).min(9_000));
        assert_eq!(answer.frames.expect("frames").picture_start, Some(key.picture.into()));
    }
}

#[tokio::test]
async fn extents_of_a_film_are_those_of_its_file() {
    let made = MadeFilm::apart(100, 3_000);
    let (master, _server, _uploads) = held(&[&made]).await;
    let count = (made.original.len() as u64).div_ceil(EXTENT);
    let window = Some(Window::Extents(v1::ExtentWindow { extent_start: 0, extent_end: None }));
    for window in [None, window] {
        let answer = ask(&master, "film-0", window).await.expect("answers");
        assert!(answer.frames.is_none() && answer.end_of_file);
        assert_eq!(answer.ranges.last().map(|range| range.extent_end), Some(count - 1));
        assert!(answer.ranges.iter().all(|range| range.frame_start == range.extent_start));
        let metadata = answer.metadata.expect("metadata");
        assert_eq!(metadata.film.as_ref(), Some(&made.film));
        let ids: Vec<_> = metadata.streams.iter().map(|stream| stream.id).collect();
        assert_eq!(ids, [0, 1, 2, 4, 3]);
    }
}

#[tokio::test]
async fn windows_that_the_film_has_not_are_refused() {
    let made = MadeFilm::new(100, 100);
    let master = Running::start().await;
    made.publish(&master, "film").await.expect("publishes");
    for (window, said) in [
        (frames(301, None), "ends with 300"),
        (frames(u64::MAX, Some(u64::MAX)), "ends with 300"),
        (frames(5, Some(4)), "4 before 5"),
        (time(f64::NAN, None), "numbers of seconds"),
        (time(0.0, Some(f64::NAN)), "numbers of seconds"),
        (time(-0.5, Some(1.0)), "numbers of seconds"),
        (time(2.0, Some(1.5)), "1.5 s before 2 s"),
        (time(seconds(301), None), "ends at 10.04"),
        (time(f64::INFINITY, None), "ends at 10.04"),
    ] {
        let refused = ask(&master, "film", window).await.expect_err(said);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(said), "{refused}");
    }
    // A good window of a film that nobody holds yet.
    assert_eq!(ask(&master, "film", frames(0, None)).await.expect_err("nobody").code(), Code::Unavailable);
}

#[tokio::test]
async fn a_report_is_answered_for_whatever_is_still_wanted() {
    let made = MadeFilm::apart(100, 30_000);
    let (master, server, uploads) = held(&[&made]).await;
    let token = master.admin().await;
    let asset = uploads[0].asset.0;
    for (window, expected) in [
        (
            v1::redistribute_request::Window::Frames(v1::FrameWindow { frame_start: 7, frame_end: Some(140) }),
            frames(7, Some(140)),
        ),
        (v1::redistribute_request::Window::Time(v1::TimeWindow { start_time: 3.0, end_time: None }), time(3.0, None)),
    ] {
        let damaged = v1::FailedHost {
            server_id: "s1".into(),
            reason: v1::FailureReason::Damaged.into(),
            stream: 4,
            damaged_extents: vec![1, 1_000],
            ..v1::FailedHost::default()
        };
        let request = v1::RedistributeRequest { asset, window: Some(window), failed: vec![damaged] };
        let answer =
            master.distribution().redistribute(with_token(&token, request)).await.expect("answers").into_inner();
        let plainly = ask(&master, "film-0", expected).await.expect("answers");
        assert!(answer.frames.is_some());
        assert_eq!((answer.frames, answer.ranges), (plainly.frames, plainly.ranges));
    }
    let order = eventually("an order to verify", async || {
        server.orders().into_iter().find_map(|order| match order {
            Order::Verify(verify) => Some(verify),
            _ => None,
        })
    })
    .await;
    assert_eq!((order.asset, order.stream, order.extents), (asset, 4, vec![1]));
}

#[tokio::test]
async fn the_catalogue_tells_of_films_and_remembers_them() {
    let made = MadeFilm::new(10, 1_000);
    let mut master = Running::start().await;
    made.publish(&master, "film").await.expect("publishes");
    master.publish("plain", 1_000).await.expect("publishes");
    let mut summary = made.film.clone();
    summary.tracks = vec![summary.tracks.swap_remove(summary.video_track as usize)];
    summary.tracks[0].codec_descriptions.clear();
    summary.video_track = 0;
    for restarted in [false, true] {
        if restarted {
            master.restart(|_| {}).await;
        }
        let films: Vec<_> = master.videos().await.into_iter().map(|video| video.film).collect();
        assert_eq!(
            films,
            [Some(summary.clone()), None],
            "a list has the film's own track, without its decoder configurations"
        );
        let request = with_token(&master.admin().await, v1::GetVideoRequest { name: "film".into() });
        let video = master.catalogue().get_video(request).await.expect("it is there").into_inner().video;
        assert_eq!(video.expect("a video").film.as_ref(), Some(&made.film));
    }
}

#[tokio::test]
async fn the_longest_description_travels_both_ways_and_a_longer_one_is_refused() {
    let mut made = MadeFilm::new(10, 1_000);
    made.film.tracks[0].codec_descriptions = vec![vec![3; 1 << 20]];
    made.film.tracks[1].codec_descriptions = vec![vec![4; (1 << 20) - 500]];
    let (master, _server, _uploads) = held(&[&made]).await;
    assert_frames(&made, &ask(&master, "film-0", time(0.0, None)).await.expect("answers"), 0..=30);
    made.film.tracks[1].codec_descriptions = vec![vec![4; 1 << 20]];
    let refused = made.publish(&master, "film-1").await.map(|_| ()).expect_err("over 2 MiB");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("`film` takes"), "{refused}");
}

#[tokio::test]
async fn a_description_that_does_not_fit_is_refused_when_publishing_begins() {
    let (master, made) = (Running::start().await, MadeFilm::new(10, 1_000));
    let token = master.admin().await;
    let good = made.request("film");
    let film = |change: &dyn Fn(&mut v1::Film)| {
        let mut film = made.film.clone();
        change(&mut film);
        v1::BeginPublishRequest { film: Some(film.encode_to_vec()), ..good.clone() }
    };
    for (field, request) in [
        ("`film.frames_stream`", film(&|film| film.frames_stream = u32::from(StreamId::PLAIN_HASHES.0))),
        ("`film.video_track`", film(&|film| film.video_track = 0)),
        ("`film.tracks[1].time_base`", film(&|film| film.tracks[1].time_base = None)),
        ("`film.tracks[1].first_chunk`", film(&|film| film.tracks[1].first_chunk = 1)),
        ("`film.key_frames`", film(&|film| film.key_frames = 1_000)),
        ("`frame_index_bytes`", v1::BeginPublishRequest { frame_index_bytes: 0, ..good.clone() }),
        ("`key_frame_index_bytes`", v1::BeginPublishRequest { key_frame_index_bytes: u64::MAX, ..good.clone() }),
        ("`film.frames_stream`", v1::BeginPublishRequest { access_unit_bytes: 1, ..good.clone() }),
        ("`frame_index_bytes`", v1::BeginPublishRequest { film: None, ..good.clone() }),
        ("file has", v1::BeginPublishRequest { bytes: u64::MAX, ..good.clone() }),
    ] {
        let refused = master.publishing().begin_publish(with_token(&token, request)).await.expect_err(field);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(field), "{field}: {refused}");
    }
    made.publish(&master, "film").await.expect("the good one is taken");
}

#[tokio::test]
async fn a_description_of_two_byte_tracks_is_refused_before_it_is_decoded_and_a_viewers_is_not_read() {
    let master = Running::start().await;
    // A track takes two bytes here and a few hundred in memory.
    let film = Some([0x1a, 0].repeat(1 << 20));
    let request = v1::BeginPublishRequest { name: "film".into(), bytes: 1, film, ..Default::default() };
    let admin = master.admin().await;
    let refused = master.publishing().begin_publish(with_token(&admin, request.clone())).await.expect_err("too many");
    assert!(refused.message().contains("`film.tracks` has 65 entries"), "{refused}");
    let longer = v1::BeginPublishRequest { film: Some(vec![0; (2 << 20) + 8 * 1024]), ..request.clone() };
    let refused = master.publishing().begin_publish(with_token(&admin, longer)).await.expect_err("too long");
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    let viewer = master.user("vera", v1::Role::Viewer).await;
    let refused = master.publishing().begin_publish(with_token(&viewer, request)).await.expect_err("a viewer");
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}
