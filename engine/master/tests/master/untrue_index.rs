//! Films whose index lies or is damaged: an error that says so, and never more than that.

use braidcast_media::frames::{FrameEntry, OFFSET_MAX};
use braidcast_media::{ContentKey, StreamId};
use braidcast_proto::v1::get_distribution_request::Window;
use tonic::Code;

use crate::fake_server::FakeServer;
use crate::films::{ask, frames, time};
use crate::harness::{Running, eventually};
use crate::made_film::MadeFilm;

/// 601 frames over 13 chunks, with 51 key frames.
fn honest() -> MadeFilm {
    MadeFilm::new(200, 1_000)
}

async fn assert_found_out(master: &Running, name: &str, window: Option<Window>, said: &str) {
    let refused = ask(master, name, window).await.expect_err(said);
    assert_eq!(refused.code(), Code::DataLoss, "{refused}");
    assert!(refused.message().contains(said), "{said}: {refused}");
    assert!(refused.message().contains(&format!("{name:?}")), "the video is named: {refused}");
}

#[tokio::test]
async fn frames_that_stand_where_they_cannot_are_found_out() {
    let master = Running::start().await;
    let bytes = honest().original.len() as u64;
    type Lie = fn(&mut FrameEntry, u64);
    let lies: [(&str, Lie); 5] = [
        ("frame 120 stands at bytes", |frame, _| frame.size = u32::MAX),
        ("frame 120 stands at bytes", |frame, _| frame.offset = OFFSET_MAX),
        ("frame 120 stands at bytes", |frame, bytes| (frame.offset, frame.size) = (bytes, 1)),
        ("frame 120 stands at bytes", |frame, bytes| (frame.offset, frame.size) = (bytes + 1, 0)),
        ("frame 120 stands at byte 0, which is before", |frame, _| frame.offset = 0),
    ];
    for (n, (said, lie)) in lies.into_iter().enumerate() {
        let (name, mut made) = (format!("film-{n}"), honest());
        lie(&mut made.frames[120], bytes);
        made.publish(&master, &name).await.expect("publishes: only reading tells");
        assert_found_out(&master, &name, frames(100, Some(200)), said).await;
        assert_found_out(&master, &name, time(3.0, Some(6.0)), said).await;
        // Frames around the lie are good; that nobody holds them comes after the index.
        for window in [frames(0, Some(119)), frames(121, None)] {
            assert_eq!(ask(&master, &name, window).await.expect_err("nobody").code(), Code::Unavailable);
        }
    }
}

#[tokio::test]
async fn key_frames_that_cannot_be_are_found_out() {
    let master = Running::start().await;
    type Lie = fn(&mut MadeFilm);
    let lies: [(&str, Lie); 7] = [
        ("key frame 10 is out of order", |made| made.keys[10].frame = made.keys[9].frame),
        ("key frame 10 is out of order", |made| made.keys[10].pts = made.keys[9].pts - 1),
        ("key frame 10 is out of order", |made| made.keys[10].picture = 0),
        ("key frame 50 is frame 601", |made| made.keys[50].frame = 601),
        ("key frame 50 is frame 4294967295", |made| made.keys[50].frame = u32::MAX),
        ("pictures, and the track has 601", |made| made.keys[50].picture = u32::MAX),
        ("names frame 599, which", |made| made.keys[50].frame = 599),
    ];
    for (n, (said, lie)) in lies.into_iter().enumerate() {
        let (name, mut made) = (format!("film-{n}"), honest());
        lie(&mut made);
        made.publish(&master, &name).await.expect("publishes: only reading tells");
        assert_found_out(&master, &name, time(20.03, None), said).await;
        let by_frame = ask(&master, &name, frames(0, None)).await.expect_err("nobody holds it");
        assert_eq!(by_frame.code(), Code::Unavailable, "frames do not need the key frames");
    }
}

#[tokio::test]
async fn chunks_that_do_not_open_are_found_out() {
    let master = Running::start().await;
    for (name, stream, said) in [
        ("frames", StreamId::FRAMES, "chunk 2 of stream 1 does not open"),
        ("keys", StreamId::KEY_FRAMES, "chunk 0 of stream 2 does not open"),
        ("hashes", StreamId::PLAIN_HASHES, "chunk 0 of stream 3 does not open"),
    ] {
        let key = |id| (id == stream).then(|| ContentKey::new([9; 16]));
        honest().publish_sealed(&master, name, key).await.expect("publishes: only opening tells");
        assert_found_out(&master, name, time(0.0, None), said).await;
    }
}

#[tokio::test]
async fn a_pack_that_was_cut_off_is_found_out_and_one_that_is_gone_is_lost() {
    let master = Running::start().await;
    let upload = honest().publish(&master, "film").await.expect("publishes");
    let pack = master.origin().join(format!("{}.pack", upload.asset));
    std::fs::OpenOptions::new().write(true).open(&pack).expect("the pack").set_len(100_000).expect("cut");
    assert_found_out(&master, "film", frames(0, None), "the pack ends before chunk").await;
    std::fs::remove_file(&pack).expect("removed");
    let refused = ask(&master, "film", frames(0, None)).await.expect_err("gone");
    assert_eq!(refused.code(), Code::DataLoss);
    assert!(refused.message().contains("lost the pack"), "{refused}");
}

#[tokio::test]
async fn times_that_make_no_sense_give_frames_of_the_film() {
    let master = Running::start().await;
    let _server = FakeServer::listed(&master, "s1", 9001).await;
    type Lie = fn(usize, &mut FrameEntry);
    let lies: [(&str, Lie); 4] = [
        ("back", |n, frame| (frame.pts, frame.dts) = (Some(-(n as i64)), Some(-(n as i64)))),
        ("none", |_, frame| (frame.pts, frame.dts) = (None, None)),
        ("wild", |n, frame| frame.dts = Some((n as i64 * 7_919) % 100_000)),
        ("late", |_, frame| (frame.pts, frame.dts) = (Some(1 << 46), Some(1 << 46))),
    ];
    for (name, lie) in lies {
        let mut made = honest();
        made.frames.iter_mut().enumerate().for_each(|(n, frame)| lie(n, frame));
        made.publish(&master, name).await.expect("publishes");
        eventually("held", async || master.videos().await.iter().all(|video| video.replicas_held == 1).then_some(()))
            .await;
        let key = made.keys[10];
        let start = f64::from(key.picture) * 3_003.0 / 90_000.0;
        let span = ask(&master, name, time(start, Some(start + 1.0))).await.expect("answers").frames.expect("frames");
        assert_eq!(span.frame_start, u64::from(key.frame), "{name}");
        assert!(span.frame_end >= span.frame_start && span.frame_end < 601, "{name}: {span:?}");
        assert_eq!(span.entries.len() as u64, (span.frame_end - span.frame_start + 1) * 24);
    }
}
