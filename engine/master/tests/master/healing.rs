//! A durable copy that is lost or damaged is mended from a media server.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::Duration;

use braidcast_media::PackLayout;
use braidcast_proto::v1;
use braidcast_proto::v1::get_distribution_request::Window;
use braidcast_proto::v1::master_order::Order;
use braidcast_proto::v1::push_request::Part;
use tonic::{Code, Status};

use crate::fake_server::FakeServer;
use crate::films::{ask, frames};
use crate::harness::{Running, Upload, eventually, with_token};
use crate::made_film::MadeFilm;

/// Four extents of the file, and one of hashes.
const BYTES: usize = 1_000_000;
const ALL: Option<Window> = Some(Window::Extents(v1::ExtentWindow { extent_start: 0, extent_end: None }));

fn pack_path(master: &Running, upload: &Upload) -> PathBuf {
    master.origin().join(format!("{}.pack", upload.asset))
}

/// A video that the server holds, and its pack.
async fn held(master: &Running, server: &FakeServer) -> (Upload, Vec<u8>) {
    let upload = master.publish("film", BYTES).await.expect("publishes");
    eventually("held", async || server.holds(upload.asset).then_some(())).await;
    let pack = fs::read(pack_path(master, &upload)).expect("the pack");
    (upload, pack)
}

async fn video(master: &Running) -> v1::Video {
    master.videos().await.into_iter().next().expect("a video")
}

async fn becomes(master: &Running, condition: v1::Condition) -> v1::Video {
    eventually("the condition", async || {
        let video = video(master).await;
        (video.condition() == condition).then_some(video)
    })
    .await
}

async fn ordered(server: &FakeServer, count: usize) -> v1::PushOrder {
    eventually("an order to push", async || server.pushes().get(count - 1).cloned()).await
}

/// The parts that follow an order, as a server with a whole copy sends them.
fn parts(upload: &Upload, order: &v1::PushOrder) -> Vec<Part> {
    let start = Part::Start(v1::PushStart { asset: upload.asset.0 });
    let header = order.header.then(|| Part::Header(upload.header.clone()));
    let numbers = order.extents.iter().flat_map(|run| run.first..=run.last);
    let extent = |number: u32| v1::PushExtent { number, sealed: upload.extents[number as usize].clone() };
    std::iter::once(start).chain(header).chain(numbers.map(|number| Part::Extent(extent(number)))).collect()
}

async fn push(master: &Running, token: &str, parts: Vec<Part>) -> Result<(), Status> {
    let messages: Vec<_> = parts.into_iter().map(|part| v1::PushRequest { part: Some(part) }).collect();
    master.origin_client().push_pack(with_token(token, tokio_stream::iter(messages))).await.map(drop)
}

fn flip(path: &std::path::Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the pack");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("within the pack");
    file.write_all_at(&[!byte[0]], offset).expect("writable");
}

#[tokio::test]
async fn a_lost_pack_is_shown_and_served_and_comes_back_from_the_server_that_is_asked() {
    let master = Running::start().await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    let (upload, pack) = held(&master, &server).await;
    let path = pack_path(&master, &upload);
    fs::remove_file(&path).expect("removed");
    let read = v1::ReadPackRequest { asset: upload.asset.0, offset: 0, length: 1 };
    let refused = master.origin_client().read_pack(with_token(&server.token, read)).await.expect_err("gone");
    assert_eq!(refused.code(), Code::DataLoss);

    let order = ordered(&server, 1).await;
    assert_eq!((order.asset, order.header), (upload.asset.0, true));
    assert_eq!(order.extents, [v1::PackExtents { first: 0, last: 4 }]);
    let shown = becomes(&master, v1::Condition::Lost).await;
    assert!(shown.condition_reason.contains("gone") && shown.condition_reason.contains("s1"), "{shown:?}");
    let list = ask(&master, "film", ALL).await.expect("whole copies are served all the while");
    assert_eq!(list.hosts.len(), 1);
    assert!(server.drops(upload.asset).is_empty());

    push(&master, &server.token, parts(&upload, &order)).await.expect("takes it");
    becomes(&master, v1::Condition::Sound).await;
    assert_eq!(fs::read(&path).expect("the pack is back"), pack);
    let again = push(&master, &server.token, parts(&upload, &order)).await.expect_err("only what is asked for");
    assert_eq!(again.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn damage_of_every_kind_is_found_at_the_start_or_by_the_scrub_and_mended_in_place() {
    let layout = PackLayout::of_file(BYTES as u64).expect("short");
    type Damaging = fn(&std::path::Path, &PackLayout);
    let cases: [(&str, Damaging, bool); 4] = [
        ("a byte of an extent", |path, layout| flip(path, layout.extent_offset(2) + 5_000), false),
        ("a byte of the header", |path, _| flip(path, 40), true),
        ("a byte of the asset's id in the header", |path, _| flip(path, 12), true),
        (
            "cut short",
            |path, layout| {
                let file = OpenOptions::new().write(true).open(path).expect("the pack");
                file.set_len(layout.extent_offset(1) + 7).expect("cut");
            },
            false,
        ),
    ];
    for (what, damage, header) in cases {
        let mut master = Running::start().await;
        let server = FakeServer::listed(&master, "s1", 9001).await;
        let (upload, pack) = held(&master, &server).await;
        drop(server);
        let path = pack_path(&master, &upload);
        master.restart(|_| damage(&path, &layout)).await;
        let shown = becomes(&master, v1::Condition::Damaged).await;
        assert!(!shown.condition_reason.is_empty(), "{what}");
        let server = FakeServer::listed(&master, "s1", 9001).await;
        server.hold(upload.asset, 5, 5, "");
        let order = ordered(&server, 1).await;
        assert_eq!(order.header, header, "{what}");
        push(&master, &server.token, parts(&upload, &order)).await.expect(what);
        becomes(&master, v1::Condition::Sound).await;
        assert_eq!(fs::read(&path).expect("the pack"), pack, "{what}");
    }
}

#[tokio::test]
async fn a_part_that_does_not_match_or_was_not_asked_for_is_not_written() {
    let master = Running::start().await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    let (upload, _) = held(&master, &server).await;
    let path = pack_path(&master, &upload);
    let layout = PackLayout::of_file(BYTES as u64).expect("short");
    flip(&path, layout.extent_offset(1) + 9);
    let damaged = fs::read(&path).expect("the pack");
    // A server that fills finds it first.
    server.accuse_the_origin(upload.asset);
    becomes(&master, v1::Condition::Damaged).await;
    server.hold(upload.asset, 5, 5, "");
    let order = ordered(&server, 1).await;
    assert_eq!((order.header, order.extents.as_slice()), (false, &[v1::PackExtents { first: 1, last: 1 }][..]));
    let stranger = FakeServer::listed(&master, "s2", 9002).await;
    let refused = push(&master, &stranger.token, parts(&upload, &order)).await.expect_err("another server was asked");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let mut wrong = parts(&upload, &order);
    if let Some(Part::Extent(extent)) = wrong.last_mut() {
        extent.sealed[77] ^= 1;
    }
    let refused = push(&master, &server.token, wrong).await.expect_err("it does not match");
    assert_eq!(refused.code(), Code::DataLoss, "{refused}");
    assert_eq!(fs::read(&path).expect("the pack"), damaged);
    let shown = becomes(&master, v1::Condition::Damaged).await;
    assert!(shown.condition_reason.contains("does not match"), "{shown:?}");

    // The other one is asked next.
    stranger.hold(upload.asset, 5, 5, "");
    let order = ordered(&stranger, 1).await;
    push(&master, &stranger.token, parts(&upload, &order)).await.expect("takes it");
    becomes(&master, v1::Condition::Sound).await;
    assert_ne!(fs::read(&path).expect("the pack"), damaged);
}

#[tokio::test]
async fn a_lost_video_without_copies_is_shown_and_can_be_replaced_removed_or_put_back() {
    let mut master = Running::start().await;
    let mut packs = Vec::new();
    for name in ["back", "gone", "new"] {
        packs.push(pack_path(&master, &master.publish(name, 1_000).await.expect("publishes")));
    }
    let kept = fs::read(&packs[0]).expect("the pack");
    master.restart(|_| packs.iter().for_each(|pack| fs::remove_file(pack).expect("removed"))).await;
    let videos = master.videos().await;
    assert_eq!(videos.len(), 3);
    assert!(videos.iter().all(|video| video.condition() == v1::Condition::Lost), "{videos:?}");
    eventually("the remedy", async || {
        video(&master).await.condition_reason.contains("publish the video again").then_some(())
    })
    .await;
    let taken = master.publish("new", 1_000).await.map(|_| ()).expect_err("the name is still taken");
    assert_eq!(taken.code(), Code::AlreadyExists);
    master.publish_with("new", 1_000, true, 0).await.expect("replaces");
    let remove = with_token(&master.admin().await, v1::RemoveVideoRequest { name: "gone".into() });
    master.catalogue().remove_video(remove).await.expect("removes");
    fs::write(&packs[0], kept).expect("put back by hand");
    tokio::time::timeout(Duration::from_secs(60), async {
        while master.videos().await.iter().any(|video| video.condition() != v1::Condition::Sound) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    })
    .await
    .expect("what was put back is found");
}

#[tokio::test]
async fn the_pack_of_another_video_is_never_written_over_and_packs_that_were_swapped_go_home() {
    let mut master = Running::with(|config| config.scrub_bytes_s = 0).await;
    let mut packs = Vec::new();
    for name in ["v1", "v2"] {
        let path = pack_path(&master, &master.publish(name, BYTES).await.expect("publishes"));
        packs.push((fs::read(&path).expect("the pack"), path));
    }
    master
        .restart(|_| {
            for n in [0, 1] {
                fs::write(&packs[n].1, &packs[1 - n].0).expect("swapped");
            }
        })
        .await;
    eventually("both packs are at home", async || {
        let at_home = packs.iter().all(|(bytes, path)| fs::read(path).is_ok_and(|found| found == *bytes));
        at_home.then_some(())
    })
    .await;
    eventually("both are sound", async || {
        master.videos().await.iter().all(|video| video.condition() == v1::Condition::Sound).then_some(())
    })
    .await;
}

/// Nothing but its name and the database says whose pack it is: it is that pack, damaged, and may be the only copy.
#[tokio::test]
async fn a_pack_without_a_header_is_damaged_and_stays_in_its_place_until_a_whole_one_is_there() {
    type Damaging = fn(&[u8]) -> Vec<u8>;
    let cases: [(&str, Damaging); 3] = [
        ("its first page is zeros", |pack| [&[0; 4_096], &pack[4_096..]].concat()),
        ("the id and a hash of the header are wrong", |pack| {
            let mut pack = pack.to_vec();
            pack[12] ^= 1;
            pack[100] ^= 1;
            pack
        }),
        ("it is empty", |_| Vec::new()),
    ];
    for (what, damage) in cases {
        let mut master = Running::with(|config| config.scrub_bytes_s = 0).await;
        let server = FakeServer::listed(&master, "s1", 9001).await;
        let (upload, pack) = held(&master, &server).await;
        drop(server);
        let (path, damaged) = (pack_path(&master, &upload), damage(&pack));
        let orphan = master.origin().join("orphans").join(path.file_name().expect("a name"));
        master.restart(|_| fs::write(&path, &damaged).expect("written")).await;
        let shown = becomes(&master, v1::Condition::Damaged).await;
        assert!(shown.condition_reason.contains("cannot be told to be its pack"), "{what}: {shown:?}");
        eventually("nobody can heal it", async || {
            video(&master).await.condition_reason.contains("no connected media server").then_some(())
        })
        .await;
        assert!(fs::read(&path).expect("in its place") == damaged && !orphan.exists(), "{what}");

        let server = FakeServer::listed(&master, "s1", 9001).await;
        server.hold(upload.asset, 5, 5, "");
        let order = ordered(&server, 1).await;
        assert_eq!((order.header, order.extents.as_slice()), (true, &[v1::PackExtents { first: 0, last: 4 }][..]));
        push(&master, &server.token, parts(&upload, &order)).await.expect(what);
        becomes(&master, v1::Condition::Sound).await;
        assert_eq!(fs::read(&path).expect("the pack"), pack, "{what}");
        assert_eq!(fs::read(&orphan).expect("what stood there is kept"), damaged, "{what}");
    }
}

#[tokio::test]
async fn what_stands_in_the_place_of_a_pack_is_moved_aside_and_the_pack_healed() {
    let master = Running::start().await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    let (upload, pack) = held(&master, &server).await;
    let path = pack_path(&master, &upload);
    fs::remove_file(&path).expect("removed");
    fs::create_dir(&path).expect("made");
    fs::write(path.join("precious"), "x").expect("written");
    server.accuse_the_origin(upload.asset);
    becomes(&master, v1::Condition::Lost).await;
    server.hold(upload.asset, 5, 5, "");
    let order = ordered(&server, 1).await;
    push(&master, &server.token, parts(&upload, &order)).await.expect("takes it");
    becomes(&master, v1::Condition::Sound).await;
    assert_eq!(fs::read(&path).expect("the pack"), pack);
    let aside = master.origin().join("orphans").join(path.file_name().expect("a name"));
    assert_eq!(fs::read_to_string(aside.join("precious")).expect("kept"), "x");
}

#[tokio::test]
async fn a_healed_header_makes_no_pack_sound_whose_extents_were_not_read() {
    let mut master = Running::with(|config| config.scrub_bytes_s = 0).await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    let (upload, pack) = held(&master, &server).await;
    drop(server);
    let (path, layout) = (pack_path(&master, &upload), PackLayout::of_file(BYTES as u64).expect("short"));
    master
        .restart(|_| {
            flip(&path, 40);
            flip(&path, layout.extent_offset(2) + 5_000);
        })
        .await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    server.hold(upload.asset, 5, 5, "");
    let header = ordered(&server, 1).await;
    assert!(header.header && header.extents.is_empty(), "{header:?}");
    push(&master, &server.token, parts(&upload, &header)).await.expect("takes it");
    assert_eq!(video(&master).await.condition(), v1::Condition::Damaged, "its extents were not read");
    let extent = ordered(&server, 2).await;
    assert_eq!((extent.header, extent.extents.as_slice()), (false, &[v1::PackExtents { first: 2, last: 2 }][..]));
    push(&master, &server.token, parts(&upload, &extent)).await.expect("takes it");
    becomes(&master, v1::Condition::Sound).await;
    assert_eq!(fs::read(&path).expect("the pack"), pack);
}

#[tokio::test]
async fn a_pack_that_was_unsound_when_the_master_was_killed_is_read_whole_at_the_start() {
    let mut master = Running::with(|config| config.scrub_bytes_s = 0).await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    let (upload, pack) = held(&master, &server).await;
    let (path, layout) = (pack_path(&master, &upload), PackLayout::of_file(BYTES as u64).expect("short"));
    let mark = path.with_added_extension("unsound");
    server.accuse_the_origin(upload.asset);
    flip(&path, layout.extent_offset(1) + 9);
    becomes(&master, v1::Condition::Damaged).await;
    eventually("the mark", async || mark.exists().then_some(())).await;
    drop(server);
    // Length and header are right: nothing but the mark tells.
    master.restart(|_| {}).await;
    let shown = becomes(&master, v1::Condition::Damaged).await;
    assert!(shown.condition_reason.contains("extent"), "{shown:?}");
    let server = FakeServer::listed(&master, "s1", 9001).await;
    server.hold(upload.asset, 5, 5, "");
    let order = ordered(&server, 1).await;
    assert_eq!(order.extents, [v1::PackExtents { first: 1, last: 1 }]);
    push(&master, &server.token, parts(&upload, &order)).await.expect("takes it");
    becomes(&master, v1::Condition::Sound).await;
    assert_eq!(fs::read(&path).expect("the pack"), pack);
    eventually("no mark", async || (!mark.exists()).then_some(())).await;
}

#[tokio::test]
async fn copies_that_were_too_many_are_wanted_again_while_the_durable_one_is_not_sound() {
    let master = Running::start().await;
    let servers = [FakeServer::listed(&master, "s1", 9001).await, FakeServer::listed(&master, "s2", 9002).await];
    let upload = master.publish_with("film", BYTES, false, 1).await.expect("publishes");
    let asset = upload.asset;
    eventually("one holds it", async || servers.iter().any(|server| server.holds(asset)).then_some(())).await;
    let spare = servers.iter().find(|server| !server.holds(asset)).expect("one of two");
    spare.hold(asset, 5, 5, "");
    eventually("a copy too many", async || (!spare.drops(asset).is_empty()).then_some(())).await;
    fs::remove_file(pack_path(&master, &upload)).expect("removed");
    spare.accuse_the_origin(asset);
    spare.is_heard(&master).await;
    spare.hold(asset, 5, 5, "");
    let is_hold = |order: &Order| matches!(order, Order::Hold(hold) if hold.asset == asset.0);
    eventually("it is wanted again", async || spare.orders().iter().any(is_hold).then_some(())).await;
    becomes(&master, v1::Condition::Lost).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(spare.drops(asset), [v1::DropReason::Surplus], "nothing is too many while the pack is lost");
}

#[tokio::test]
async fn a_damaged_index_is_waited_for_while_a_server_can_heal_it() {
    let master = Running::start().await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    let upload = MadeFilm::new(200, 1_000).publish(&master, "film").await.expect("publishes");
    eventually("held", async || server.holds(upload.asset).then_some(())).await;
    let path = pack_path(&master, &upload);
    let pack = fs::read(&path).expect("the pack");
    ask(&master, "film", frames(0, None)).await.expect("the index is sound");
    fs::remove_file(&path).expect("removed");
    let waits = ask(&master, "film", frames(0, None)).await.expect_err("the index is gone");
    assert_eq!(waits.code(), Code::Unavailable);
    assert!(waits.message().contains("healed"), "{waits}");
    ask(&master, "film", ALL).await.expect("extents need no index");
    let order = ordered(&server, 1).await;
    push(&master, &server.token, parts(&upload, &order)).await.expect("takes it");
    ask(&master, "film", frames(0, None)).await.expect("the index is back");
    assert_eq!(fs::read(&path).expect("the pack"), pack);
}

#[tokio::test]
async fn a_pack_that_vanishes_while_nobody_reads_it_is_noticed() {
    let master = Running::with(|config| config.scrub_bytes_s = 0).await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    let (upload, _) = held(&master, &server).await;
    fs::remove_file(pack_path(&master, &upload)).expect("removed");
    becomes(&master, v1::Condition::Lost).await;
    assert_eq!(ordered(&server, 1).await.asset, upload.asset.0);
}
