//! Publishing, and the packs that come of it.

use std::time::Duration;

use braidcast_media::{AssetId, hashes};
use braidcast_proto::v1;
use braidcast_proto::v1::upload_request::Part;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use crate::fake_server::{FakeServer, Manners, join_request};
use crate::harness::{PATIENCE, Running, Upload, eventually, with_token};

async fn read(master: &Running, token: &str, asset: u64, offset: u64, length: u64) -> Result<Vec<u8>, Status> {
    let request = with_token(token, v1::ReadPackRequest { asset, offset, length });
    let mut pieces = master.origin_client().read_pack(request).await?.into_inner();
    let mut bytes = Vec::new();
    while let Some(piece) = pieces.next().await {
        let piece = piece?.data;
        assert!(piece.len() <= 1024 * 1024, "a piece of {} bytes", piece.len());
        bytes.extend(piece);
    }
    Ok(bytes)
}

async fn server_token(master: &Running) -> String {
    let joined = master.cluster().join(join_request(master, "reader", 9)).await.expect("joins");
    joined.into_inner().server_token
}

#[tokio::test]
async fn a_lost_pack_is_told_from_a_removed_asset_so_that_servers_keep_their_copies() {
    let mut master = Running::start().await;
    let lost = master.publish("lost", 1_000).await.expect("publishes").asset;
    let removed = master.publish("removed", 1_000).await.expect("publishes").asset;
    let remove = v1::RemoveVideoRequest { name: "removed".to_owned() };
    master.catalogue().remove_video(with_token(&master.admin().await, remove)).await.expect("removes");
    std::fs::remove_file(master.config.state_dir.join("origin").join(format!("{lost}.pack"))).expect("it is there");
    for restarted in [false, true] {
        if restarted {
            master.restart(|_| {}).await;
        }
        let token = server_token(&master).await;
        let code = async |asset: AssetId| read(&master, &token, asset.0, 0, 1).await.expect_err("no pack").code();
        assert_eq!((code(lost).await, code(removed).await), (Code::DataLoss, Code::NotFound), "{restarted}");
    }
}

/// A video under `name`, or an error, is all that is left: no file, and no attempt that could still be used.
async fn assert_no_trace(master: &Running) {
    eventually("the origin is empty", async || master.origin_files().is_empty().then_some(())).await;
    assert!(master.videos().await.is_empty());
}

#[tokio::test]
async fn a_published_file_is_listed_and_its_pack_can_be_read_back() {
    let master = Running::start().await;
    let token = server_token(&master).await;
    for bytes in [0, 1, 1_199, 1_200, 1_201, 307_200, 307_201, 2_000_000] {
        let name = format!("a film of {bytes} bytes.mp4");
        let upload = master.publish(&name, bytes).await.expect("publishes");
        let videos = master.videos().await;
        let video = videos.iter().find(|video| video.name == name).expect("is listed");
        assert_eq!((video.bytes, video.asset), (bytes as u64, upload.asset.0));
        let header = read(&master, &token, upload.asset.0, 0, upload.header.len() as u64).await.expect("reads");
        assert_eq!(header, upload.header);
        let mut offset = header.len() as u64;
        for extent in &upload.extents {
            let sealed = read(&master, &token, upload.asset.0, offset, extent.len() as u64).await.expect("reads");
            assert!(sealed == *extent, "the extent at {offset}");
            offset += 315_392;
        }
    }
}

#[tokio::test]
async fn reads_are_kept_within_the_pack() {
    let master = Running::start().await;
    let token = server_token(&master).await;
    let asset = master.publish("film", 3_000_000).await.expect("publishes").asset.0;
    let pack = std::fs::read(master.origin().join(format!("{asset:016x}.pack"))).expect("the pack");
    let bytes = pack.len() as u64;
    assert!(read(&master, &token, asset, 0, bytes).await.expect("all of it") == pack);
    assert!(read(&master, &token, asset, 5, 1_100_000).await.expect("across pieces") == pack[5..1_100_005]);
    assert!(read(&master, &token, asset, bytes, 0).await.expect("nothing at the end").is_empty());
    for (offset, length) in [(0, bytes + 1), (bytes, 1), (u64::MAX, u64::MAX)] {
        let refused = read(&master, &token, asset, offset, length).await.expect_err("past the end");
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    }
    assert_eq!(read(&master, &token, 7, 0, 1).await.expect_err("no such asset").code(), Code::NotFound);
    let admin = master.admin().await;
    assert_eq!(read(&master, &admin, asset, 0, 1).await.expect_err("no server").code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_taken_name_is_refused_unless_it_is_to_be_replaced() {
    let master = Running::start().await;
    let old = master.publish("film", 1_000).await.expect("publishes");
    let refused = master.publish("film", 2_000).await.map(|_| ()).expect_err("taken");
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("film") && refused.message().contains("replace"), "{refused}");
    let new = master.publish_with("film", 2_000, true, 0).await.expect("replaces");
    assert_ne!(old.asset, new.asset);
    let videos = master.videos().await;
    assert_eq!(videos.iter().map(|video| (video.asset, video.bytes)).collect::<Vec<_>>(), [(new.asset.0, 2_000)]);
    assert_eq!(master.origin_files(), [format!("{}.pack", new.asset)], "the old pack is gone");
}

#[tokio::test]
async fn of_two_that_publish_one_name_at_a_time_one_wins_and_the_other_leaves_no_trace() {
    let master = Running::start().await;
    let token = master.admin().await;
    let first = master.begin(&token, "film", 1_000, false, 0).await.expect("begins");
    let second = master.begin(&token, "film", 2_000, false, 0).await.expect("begins too");
    assert_ne!(first.asset, second.asset);
    assert_ne!(first.content_key.expose(), second.content_key.expose());
    master.upload(&token, second.parts()).await.expect("is first");
    assert_eq!(master.upload(&token, first.parts()).await.expect_err("is late").code(), Code::AlreadyExists);
    assert_eq!(master.origin_files(), [format!("{}.pack", second.asset)]);
}

#[tokio::test]
async fn a_removed_video_is_gone_with_its_pack() {
    let master = Running::start().await;
    let token = master.admin().await;
    master.publish("film", 1_000).await.expect("publishes");
    let remove = || with_token(&token, v1::RemoveVideoRequest { name: "film".into() });
    master.catalogue().remove_video(remove()).await.expect("removes");
    assert_no_trace(&master).await;
    assert_eq!(master.catalogue().remove_video(remove()).await.expect_err("gone").code(), Code::NotFound);
    master.publish("film", 1_000).await.expect("the name is free again");
}

#[tokio::test]
async fn names_follow_the_rules_of_files() {
    let master = Running::start().await;
    for name in ["with spaces .mp4", "映画 🎬.mkv", &"é".repeat(127)] {
        master.publish(name, 1).await.expect(name);
        let request = with_token(&master.admin().await, v1::GetVideoRequest { name: name.into() });
        assert_eq!(master.catalogue().get_video(request).await.expect(name).into_inner().video.expect("it").name, name);
    }
    for name in ["", "../up", "a/b", "a\\b", "two\nlines", "nul\0", ".", "..", &"x".repeat(300)] {
        let refused = master.publish(name, 1).await.map(|_| ()).expect_err(name);
        assert_eq!(refused.code(), Code::InvalidArgument, "{name:?}");
        assert!(refused.message().contains("give "), "{name:?}: {}", refused.message());
    }
    assert_eq!(master.videos().await.len(), 3);
}

#[tokio::test]
async fn a_file_that_no_pack_can_hold_is_refused_at_once() {
    let master = Running::start().await;
    let token = master.admin().await;
    for bytes in [u64::MAX, 1 << 50] {
        let request = v1::BeginPublishRequest { name: "film".into(), bytes, ..Default::default() };
        let refused = master.publishing().begin_publish(with_token(&token, request)).await.expect_err("too long");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
}

//= PROTOCOL K1: A pack MUST appear under its name complete or not at all.
#[tokio::test]
async fn an_upload_that_breaks_off_leaves_no_trace() {
    let master = Running::start().await;
    let token = master.admin().await;
    let untouched = master.begin(&token, "film", 1_000_000, false, 0).await.expect("begins");
    // Before the first extent, between extents, and before the end.
    for sent in [1, 3, untouched.parts().len() - 1] {
        let upload = master.begin(&token, "film", 1_000_000, false, 0).await.expect("begins");
        let _open = break_off(&master, &token, upload.parts().into_iter().take(sent)).await;
        assert_no_trace(&master).await;
        let retry = master.upload(&token, upload.parts()).await.expect_err("an attempt is good for one upload");
        assert_eq!(retry.code(), Code::FailedPrecondition);
    }
    master.upload(&token, untouched.parts()).await.expect("another attempt is not touched");
}

#[tokio::test]
async fn a_publisher_that_goes_before_it_was_answered_leaves_the_whole_video_or_nothing() {
    let master = Running::start().await;
    let token = master.admin().await;
    let upload = master.begin(&token, "film", 1_000_000, false, 0).await.expect("begins");
    let _open = break_off(&master, &token, upload.parts()).await;
    eventually("one or the other", async || {
        let (files, videos) = (master.origin_files(), master.videos().await);
        match files.as_slice() {
            [] => videos.is_empty().then_some(()),
            [pack] if *pack == format!("{}.pack", upload.asset) => (videos.len() == 1).then_some(()),
            _ => None,
        }
    })
    .await;
}

/// Begins an upload and hangs up once the parts are sent. The stream must stay open for as long as the test looks:
/// closed before the hang-up is through, it would have ended as a whole upload does.
async fn break_off(
    master: &Running,
    token: &str,
    parts: impl IntoIterator<Item = Part>,
) -> mpsc::Sender<v1::UploadRequest> {
    let (sender, stream) = mpsc::channel(16);
    let mut client = master.publishing();
    let request = with_token(token, ReceiverStream::new(stream));
    let call = tokio::spawn(async move { client.upload(request).await });
    for part in parts {
        sender.send(v1::UploadRequest { part: Some(part) }).await.expect("the call is open");
    }
    eventually("the upload has begun", async || (!master.origin_files().is_empty()).then_some(())).await;
    call.abort();
    sender
}

#[tokio::test]
async fn a_pack_that_does_not_match_its_hashes_is_refused_and_leaves_no_trace() {
    let master = Running::start().await;
    let token = master.admin().await;
    let mut upload = master.begin(&token, "film", 700_000, false, 0).await.expect("begins");
    upload.extents[1][5_000] ^= 1;
    let refused = master.upload(&token, upload.parts()).await.expect_err("a flipped bit");
    assert_eq!(refused.code(), Code::DataLoss);
    assert!(refused.message().contains("extent 1"), "{refused}");
    assert_no_trace(&master).await;
}

#[tokio::test]
async fn an_upload_out_of_order_is_refused_and_leaves_no_trace() {
    let master = Running::start().await;
    let token = master.admin().await;
    type Shuffle = fn(&Upload) -> Vec<Part>;
    let cases: [(Shuffle, Code); 9] = [
        (|_| vec![], Code::FailedPrecondition),
        (|u| u.parts().split_off(1), Code::FailedPrecondition),
        (|u| vec![u.start(), u.start()], Code::FailedPrecondition),
        (|u| vec![u.start(), u.finish()], Code::FailedPrecondition),
        (|u| vec![u.start(), Part::Extent(vec![0; 10])], Code::FailedPrecondition),
        (
            |u| {
                let mut parts = u.parts();
                parts.swap(1, 3);
                parts
            },
            Code::FailedPrecondition,
        ),
        (
            |u| {
                let mut parts = u.parts();
                parts.pop();
                parts
            },
            Code::FailedPrecondition,
        ),
        (
            |u| {
                let mut parts = u.parts();
                parts.push(u.finish());
                parts
            },
            Code::FailedPrecondition,
        ),
        (
            |u| {
                let mut parts = u.parts();
                parts.pop();
                let finish = v1::UploadFinish { header: u.header.clone(), plain_roots: vec![0; 31] };
                parts.push(Part::Finish(finish));
                parts
            },
            Code::InvalidArgument,
        ),
    ];
    for (n, (shuffle, code)) in cases.into_iter().enumerate() {
        let upload = master.begin(&token, "film", 700_000, false, 0).await.expect("begins");
        let refused = master.upload(&token, shuffle(&upload)).await.expect_err("refused");
        assert_eq!(refused.code(), code, "case {n}: {refused}");
        assert_no_trace(&master).await;
    }
}

#[tokio::test]
async fn a_header_of_another_asset_is_refused() {
    let master = Running::start().await;
    let token = master.admin().await;
    let mine = master.begin(&token, "film", 1_000, false, 0).await.expect("begins");
    let other = master.begin(&token, "other", 1_000, false, 0).await.expect("begins");
    let longer = master.begin(&token, "longer", 2_000, false, 0).await.expect("begins");
    for header in [other.header, longer.header] {
        let finish = Part::Finish(v1::UploadFinish { header, plain_roots: mine.plain_roots.clone() });
        let again = master.begin(&token, "film", 1_000, false, 0).await.expect("begins");
        let mut parts = again.parts();
        parts.pop();
        parts.push(finish);
        assert_eq!(master.upload(&token, parts).await.expect_err("refused").code(), Code::FailedPrecondition);
    }
    assert_no_trace(&master).await;
}

#[tokio::test]
async fn an_attempt_belongs_to_the_user_that_began_it() {
    let master = Running::start().await;
    let admin = master.admin().await;
    let paul = master.user("paul", v1::Role::Publisher).await;
    let upload = master.begin(&admin, "film", 1_000, false, 0).await.expect("begins");
    assert_eq!(master.upload(&paul, upload.parts()).await.expect_err("foreign").code(), Code::FailedPrecondition);
    master.upload(&admin, upload.parts()).await.expect("the owner's is not spent by that");
}

/// As many as a master takes of one user at a time, `UPLOADS_PER_USER_MAX`; of two it takes all that it takes.
const UPLOADS_PER_USER_MAX: usize = 8;

/// An upload that has begun and sends nothing.
struct Stalled {
    upload: Upload,
    parts: mpsc::Sender<v1::UploadRequest>,
    running: JoinHandle<Result<(), Status>>,
}

impl Stalled {
    async fn begin(master: &Running, token: &str, name: &str) -> Self {
        let upload = master.begin(token, name, 1_000_000, true, 0).await.expect("begins");
        let (parts, waiting) = mpsc::channel(1);
        parts.send(v1::UploadRequest { part: Some(upload.start()) }).await.expect("room");
        let request = with_token(token, ReceiverStream::new(waiting));
        let mut publishing = master.publishing();
        let running = tokio::spawn(async move { publishing.upload(request).await.map(|_| ()) });
        Self { upload, parts, running }
    }

    /// Sends the rest, of which a master that has hung up takes nothing.
    async fn finish(self) -> Result<(), Status> {
        for part in self.upload.parts().split_off(1) {
            let _taken = self.parts.send(v1::UploadRequest { part: Some(part) }).await;
        }
        drop(self.parts);
        self.running.await.expect("no panic")
    }
}

/// One publisher whose uploads hung took all turns, and nobody else could publish.
#[tokio::test]
async fn uploads_of_one_user_wait_for_their_turn_and_keep_no_other_user_waiting() {
    let master = Running::start().await;
    let admin = master.admin().await;
    let paul = master.user("paul", v1::Role::Publisher).await;
    let mut stalled = Vec::new();
    for n in 0..UPLOADS_PER_USER_MAX {
        stalled.push(Stalled::begin(&master, &paul, &format!("stalled-{n}")).await);
    }
    let all_are_taken = async || (master.origin_files().len() == UPLOADS_PER_USER_MAX).then_some(());
    eventually("all turns of paul are taken", all_are_taken).await;
    let late = master.begin(&paul, "late", 1_000, false, 0).await.expect("begins");
    let mut waiting = std::pin::pin!(master.upload(&paul, late.parts()));
    let too_early = tokio::time::timeout(Duration::from_millis(500), &mut waiting).await;
    assert!(too_early.is_err(), "it waits: {too_early:?}");
    let other = master.begin(&admin, "other", 1_000, false, 0).await.expect("begins");
    master.upload(&admin, other.parts()).await.expect("another user has turns of its own");
    stalled.pop().expect("there are some").finish().await.expect("it goes on");
    waiting.await.expect("its turn has come");
}

/// Who publishes was looked at once, when the upload began: hours later a removed publisher still replaced a video.
#[tokio::test]
async fn an_upload_whose_publisher_was_removed_meanwhile_ends_and_replaces_nothing() {
    let master = Running::start().await;
    let admin = master.admin().await;
    let kept = master.publish("film", 1_000).await.expect("publishes");
    let paul = master.user("paul", v1::Role::Publisher).await;
    let stalled = Stalled::begin(&master, &paul, "film").await;
    eventually("it has begun", async || (master.origin_files().len() == 2).then_some(())).await;
    let remove = v1::RemoveUserRequest { username: "paul".into() };
    master.users().remove_user(with_token(&admin, remove)).await.expect("removes");
    assert_eq!(stalled.finish().await.expect_err("paul is out").code(), Code::Unauthenticated);
    let only_the_old = async || (master.origin_files() == [format!("{}.pack", kept.asset)]).then_some(());
    eventually("nothing is left of it", only_the_old).await;
    assert_eq!(master.videos().await.first().map(|video| video.asset), Some(kept.asset.0));
}

#[tokio::test]
async fn servers_are_told_the_roots_that_they_must_check_against() {
    let master = Running::start().await;
    let server = FakeServer::start(&master, "s1", 9001, Manners::default()).await;
    let upload = master.publish("film", 1_000_000).await.expect("publishes");
    let hold = eventually("an order to hold it", async || {
        server.orders().into_iter().find_map(|order| match order {
            v1::master_order::Order::Hold(hold) if hold.asset == upload.asset.0 => Some(hold),
            _ => None,
        })
    })
    .await;
    assert_eq!(hold.header_hash, hashes::hash(&upload.header));
    assert_eq!(hold.header_bytes, upload.header.len() as u64);
    let length = std::fs::metadata(master.origin().join(format!("{}.pack", upload.asset))).expect("the pack").len();
    assert_eq!(hold.pack_bytes, length);
    tokio::time::timeout(PATIENCE, master.shutdown()).await.expect("open streams do not hold it up");
}

/// The database was changed by then, and what `ls` shows was not: the next start deleted packs that were shown as sound.
#[tokio::test]
async fn a_caller_who_hangs_up_while_a_video_is_removed_leaves_memory_and_database_alike() {
    let mut master = Running::start().await;
    let admin = master.admin().await;
    for number in 0..24_u64 {
        master.publish(&format!("video {number}"), 10).await.expect("publishes");
        let mut catalogue = master.catalogue();
        let remove = with_token(&admin, v1::RemoveVideoRequest { name: format!("video {number}") });
        let _ = tokio::time::timeout(Duration::from_micros(150 * number), catalogue.remove_video(remove)).await;
    }
    // Changes take turns: when this one was refused, those before it have ended.
    let none = with_token(&admin, v1::RemoveVideoRequest { name: "none".into() });
    master.catalogue().remove_video(none).await.expect_err("there is none");
    let names =
        async |master: &Running| -> Vec<String> { master.videos().await.into_iter().map(|video| video.name).collect() };
    let shown = names(&master).await;
    master.restart(|_| {}).await;
    assert_eq!(names(&master).await, shown);
}
