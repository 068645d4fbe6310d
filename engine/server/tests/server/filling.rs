//! Bringing packs here, and keeping them sound.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use braidcast_media::layout::{EXTENT_BYTES, PACKET_BYTES, SEALED_EXTENT_BYTES};
use braidcast_media::pack::PackHeader;
use braidcast_media::{AssetId, PackLayout, Run, hashes};
use braidcast_proto::v1::master_order::Order;
use braidcast_proto::v1::{DropOrder, DropReason, HoldOrder, VerifyOrder};

use crate::asset::Film;
use crate::master::{self, Master};
use crate::rig::{self, Rig, appears};

const EXTENT: u64 = SEALED_EXTENT_BYTES as u64;

fn verify(film: &Film, extents: &[u64]) -> Order {
    Order::Verify(VerifyOrder { asset: film.id.0, stream: 0, extents: extents.to_vec() })
}

#[tokio::test(flavor = "multi_thread")]
async fn films_of_every_edge_length_are_filled_exactly() {
    let rig = Rig::start().await;
    for (id, bytes) in [0, 1, 1_199, 1_200, 1_201, 307_200, 307_201].into_iter().enumerate() {
        let film = Film::new(id as u64, bytes);
        rig.master.publish(film.id, film.pack.clone());
        rig.master.order(Order::Hold(film.order())).await;
        let extents = u64::from(film.layout().extents());
        rig.master.holding(film.id, |h| (h.extents_held, h.extents_total) == (extents, extents)).await;
        let path = rig.file(&film, "pack");
        appears(&path).await;
        //= PROTOCOL K1: A pack MUST appear under its name complete or not at all.
        assert_eq!(fs::read(&path).expect("the pack"), film.pack, "{bytes} bytes");
        assert!(!rig.file(&film, "filling").exists());
    }
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fill_that_was_broken_off_goes_on_and_reads_only_what_is_missing() {
    let film = Film::new(1, 8 * EXTENT_BYTES);
    let rig = Rig::start().await;
    rig.master.publish(film.id, film.pack.clone());
    // The header, and somewhat more than three extents.
    rig.master.limit_pieces(1 + 9);
    rig.master.order(Order::Hold(film.order())).await;
    let held = rig.master.holding(film.id, |h| h.extents_held >= 3).await.extents_held;
    assert!(held < 8 && !rig.file(&film, "pack").exists());
    // What is there already is served while the rest is on its way.
    rig.client(&film).pull(&[Run::new(0, 52)]).assert_chunks(&film, &[Run::new(0, 52)]);

    let rig = rig.restart().await;
    rig.master.take_reads();
    rig.master.unlimited_pieces();
    rig.master.order(Order::Hold(film.order())).await;
    rig.master.held_in_full(film.id).await;
    let read: u64 = rig.master.take_reads().iter().map(|range| range.end - range.start).sum();
    // The last extent, of the hash list, has one chunk, and the hole behind it is not read.
    let missing = (u64::from(film.layout().extents()) - held - 1) * EXTENT + PACKET_BYTES as u64;
    assert_eq!(read, missing, "the header and {held} extents are not read again, nor what is not used");
    rig.client(&film).pull(&[Run::new(2_000, 48)]).assert_chunks(&film, &[Run::new(2_000, 48)]);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_damaged_while_the_server_was_down_is_found_when_a_fill_goes_on() {
    let film = Film::new(1, 4 * EXTENT_BYTES);
    let rig = Rig::start().await;
    rig.master.publish(film.id, film.pack.clone());
    rig.master.limit_pieces(1 + 9);
    rig.master.order(Order::Hold(film.order())).await;
    rig.master.holding(film.id, |h| h.extents_held >= 3).await;
    let path = rig.file(&film, "filling");
    let rig = {
        let Rig { master, server, dir } = rig;
        server.shutdown().await;
        let file = OpenOptions::new().write(true).open(&path).expect("the file that is being filled");
        file.write_all_at(&[0x55; 64], film.layout().extent_offset(1) + 1_000).expect("writable");
        Rig::start_in(master, dir).await
    };
    rig.master.unlimited_pieces();
    rig.master.order(Order::Hold(film.order())).await;
    rig.master.held_in_full(film.id).await;
    let run = Run::new(256, 52);
    rig.client(&film).pull(&[run]).assert_chunks(&film, &[run]);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_is_wrong_at_the_origin_is_never_served() {
    let film = Film::new(1, 3 * EXTENT_BYTES);
    let rig = Rig::start().await;
    let mut rotten = film.pack.clone();
    rotten[film.layout().extent_offset(1) as usize + 5_000] ^= 0x80;
    rig.master.publish(film.id, rotten);
    rig.master.order(Order::Hold(film.order())).await;
    let holding = rig.master.holding(film.id, |h| !h.error.is_empty()).await;
    assert_eq!(holding.extents_held, holding.extents_total - 1, "the others are filled");
    assert!(holding.error.contains("do not match"), "{}", holding.error);
    assert!(holding.origin_damaged, "the master is to look at its pack");
    //= PROTOCOL K2: A server MUST check a filled extent's hash against the header that the master vouches for before it serves a chunk of it.
    let mut client = rig.client(&film);
    assert_eq!(client.pull(&[Run::new(256, 52)]).data(), 0);
    assert!(!rig.file(&film, "pack").exists());

    rig.master.publish(film.id, film.pack.clone());
    rig.master.held_in_full(film.id).await;
    client.pull(&[Run::new(256, 52)]).assert_chunks(&film, &[Run::new(256, 52)]);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_that_the_master_does_not_vouch_for_is_not_taken() {
    let film = Film::new(1, 3 * EXTENT_BYTES);
    let rig = Rig::start().await;
    let mut forged = film.pack.clone();
    forged[100] ^= 1;
    rig.master.publish(film.id, forged);
    rig.master.order(Order::Hold(film.order())).await;
    let holding = rig.master.holding(film.id, |h| !h.error.is_empty()).await;
    assert_eq!(holding.extents_held, 0);
    assert!(holding.error.contains("vouches") && holding.origin_damaged, "{}", holding.error);
    assert!(!rig.file(&film, "filling").exists());
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_to_verify_finds_a_rotten_extent_and_fills_it_again() {
    let film = Film::new(1, 3 * EXTENT_BYTES);
    let rig = Rig::holding(&film).await;
    let file = OpenOptions::new().write(true).open(rig.file(&film, "pack")).expect("the pack");
    file.write_all_at(&[0xAA; 32], film.layout().extent_offset(2) + 70_000).expect("writable");
    rig.master.limit_pieces(0);
    rig.master.take_reads();

    rig.master.order(verify(&film, &[0, 2, 77])).await;
    rig.master.holding(film.id, |h| h.extents_held == h.extents_total - 1).await;
    assert!(!rig.file(&film, "pack").exists(), "a pack with a hole has not the name of a whole one");
    let mut client = rig.client(&film);
    assert_eq!(client.pull(&[Run::new(512, 52)]).data(), 0);
    client.pull(&[Run::new(0, 52)]).assert_chunks(&film, &[Run::new(0, 52)]);

    rig.master.unlimited_pieces();
    rig.master.held_in_full(film.id).await;
    client.pull(&[Run::new(512, 52)]).assert_chunks(&film, &[Run::new(512, 52)]);
    let read: u64 = rig.master.take_reads().iter().map(|range| range.end - range.start).sum();
    assert_eq!(read, EXTENT, "one extent is read again");
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_to_verify_leaves_a_sound_pack_alone() {
    let film = Film::new(1, 3 * EXTENT_BYTES);
    let rig = Rig::holding(&film).await;
    rig.master.take_reads();
    rig.master.order(verify(&film, &[0, 1, 2])).await;
    // Orders to verify are followed in turn, so the second proves that the first is done.
    let file = OpenOptions::new().write(true).open(rig.file(&film, "pack")).expect("the pack");
    file.write_all_at(&[0xAA; 32], film.layout().extent_offset(3)).expect("writable");
    let hashes = VerifyOrder { asset: film.id.0, stream: 3, extents: vec![0] };
    rig.master.order(Order::Verify(hashes)).await;
    let offset = film.layout().extent_offset(3);
    let mut reads = Vec::new();
    rig::eventually("the rotten extent is read again", || {
        reads.extend(rig.master.take_reads());
        !reads.is_empty()
    })
    .await;
    assert!(reads.first().is_some_and(|range| range.start == offset), "only the rotten extent: {reads:?}");
    rig.master.held_in_full(film.id).await;
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_cut_short_under_the_server_is_filled_anew() {
    let film = Film::new(1, 3 * EXTENT_BYTES);
    let rig = Rig::holding(&film).await;
    let mut client = rig.client(&film);
    let run = Run::new(600, 20);
    client.pull(&[run]).assert_chunks(&film, &[run]);
    rig.master.take_reads();
    // While extents are hot the send itself meets the missing pages; others are met by the helpers.
    let file = OpenOptions::new().write(true).open(rig.file(&film, "pack")).expect("the pack");
    file.set_len(film.layout().extent_offset(1)).expect("cut short");
    let until = Instant::now() + master::WAIT;
    loop {
        client.send_pull(&[run]);
        let answer = client.collect(1, Duration::from_millis(200));
        if answer.data() == 20 {
            answer.assert_chunks(&film, &[run]);
            break;
        }
        assert_eq!(answer.data(), 0);
        assert!(Instant::now() < until, "the pack is filled anew");
        // Whatever the client makes of it, a new session asks again.
        client = rig.client(&film);
    }
    assert!(!rig.master.take_reads().is_empty());
    assert!(rig.file(&film, "pack").exists() && rig.aside(&film).exists(), "what was whole is set aside");
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_pack_is_served_after_a_restart_without_being_read_again() {
    let film = Film::new(1, 2 * EXTENT_BYTES);
    let rig = Rig::holding(&film).await;
    let rig = rig.restart().await;
    rig.master.take_reads();
    rig.master.order(Order::Hold(film.order())).await;
    rig.master.held_in_full(film.id).await;
    rig.client(&film).pull(&[Run::new(0, 52)]).assert_chunks(&film, &[Run::new(0, 52)]);
    assert!(rig.master.take_reads().is_empty());
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_for_another_pack_of_the_asset_replaces_the_old_one() {
    let film = Film::new(1, 2 * EXTENT_BYTES);
    let rig = Rig::holding(&film).await;
    let longer = Film::new(1, 3 * EXTENT_BYTES);
    rig.master.publish(film.id, longer.pack.clone());
    rig.master.order(Order::Hold(longer.order())).await;
    let extents = u64::from(longer.layout().extents());
    rig.master.holding(film.id, |h| h.extents_held == extents).await;
    rig.client(&longer).pull(&[Run::new(700, 20)]).assert_chunks(&longer, &[Run::new(700, 20)]);
    assert_eq!(fs::read(rig.aside(&film)).expect("the old one was set aside"), film.pack);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_asset_is_gone_from_disk_and_from_service() {
    let film = Film::new(1, 2 * EXTENT_BYTES);
    let rig = Rig::holding(&film).await;
    rig.client(&film).pull(&[Run::new(0, 1)]).assert_chunks(&film, &[Run::new(0, 1)]);
    rig.master.order(Order::Drop(DropOrder { asset: film.id.0, reason: DropReason::Removed.into() })).await;
    let report = rig.master.report(|report| report.holdings.is_empty()).await;
    assert_eq!(report.used_bytes, 0);
    assert!(!rig.file(&film, "pack").exists() && !rig.file(&film, "filling").exists());
    assert_eq!(rig.client(&film).pull(&[Run::new(0, 1)]).data(), 0);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_that_just_fits_is_filled_and_one_more_is_refused_with_the_reason() {
    let (film, second) = (Film::new(1, EXTENT_BYTES), Film::new(2, EXTENT_BYTES));
    let rig = Rig::holding_with(&film, |config| config.capacity_bytes = film.layout().disk_bytes()).await;
    assert_eq!(rig.master.joins()[0].capacity_bytes, film.layout().disk_bytes());
    rig.master.publish(second.id, second.pack.clone());
    rig.master.order(Order::Hold(second.order())).await;
    let holding = rig.master.holding(second.id, |h| !h.error.is_empty()).await;
    assert!(holding.error.contains("capacity"), "{}", holding.error);
    assert_eq!((holding.extents_held, holding.extents_total), (0, 2));
    // Room made by a drop is used by the next attempt.
    rig.master.order(Order::Drop(DropOrder { asset: film.id.0, reason: DropReason::Removed.into() })).await;
    rig.master.held_in_full(second.id).await;
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_of_another_length_than_ordered_is_not_taken() {
    let rig = Rig::start().await;
    let film = Film::new(1, 5_000);
    rig.master.publish(film.id, film.pack.clone());
    let order = HoldOrder { pack_bytes: film.order().pack_bytes + EXTENT, ..film.order() };
    rig.master.order(Order::Hold(order)).await;
    let holding = rig.master.holding(film.id, |h| !h.error.is_empty()).await;
    assert!(holding.error.contains("another asset or length"), "{}", holding.error);
    assert!(!rig.file(&film, "filling").exists());
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pack_longer_than_the_disk_is_refused_before_a_byte_of_it_is_written() {
    // As long as a header may be; its extents need not exist, because they are never asked for.
    let layout = PackLayout::of_file(140 << 30).expect("short enough for a pack");
    let small_disk = Path::new("/dev/shm");
    let free = nix::sys::statvfs::statvfs(small_disk).map_or(u64::MAX, |s| s.blocks_available() * s.fragment_size());
    if free >= layout.pack_bytes() {
        eprintln!("skipped: {} is no disk smaller than 140 GiB", small_disk.display());
        return;
    }
    let asset = AssetId(1);
    let sealed_hashes = vec![[0; 32]; layout.extents() as usize];
    let header = PackHeader { asset, layout: layout.clone(), sealed_hashes }.to_bytes();
    let order = HoldOrder {
        asset: asset.0,
        header_hash: hashes::hash(&header).to_vec(),
        header_bytes: layout.header_bytes(),
        pack_bytes: layout.pack_bytes(),
    };
    let (master, dir) = (Master::start().await, tempfile::tempdir_in(small_disk).expect("temporary folder"));
    master.publish(asset, header);
    let rig = Rig::start_in(master, dir).await;
    rig.master.order(Order::Hold(order)).await;
    let holding = rig.master.holding(asset, |h| !h.error.is_empty()).await;
    assert!(holding.error.contains("the disk has") && holding.error.contains("/dev/shm"), "{}", holding.error);
    assert!(!rig.dir.path().join(format!("{asset}.filling")).exists());
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rubbish_in_the_state_folder_does_not_keep_a_server_from_starting() {
    let film = Film::new(1, 2 * EXTENT_BYTES);
    let rig = Rig::holding(&film).await;
    let Rig { master, server, dir } = rig;
    server.shutdown().await;
    fs::write(dir.path().join("00000000000000aa.pack"), b"no pack at all").expect("writable");
    fs::write(dir.path().join("00000000000000bb.filling"), b"").expect("writable");
    fs::copy(dir.path().join(format!("{}.pack", film.id)), dir.path().join("00000000000000cc.pack")).expect("copied");
    let rig = Rig::start_in(master, dir).await;
    rig.master.held_in_full(film.id).await;
    let report = rig.master.report(|report| report.holdings.len() == 1).await;
    assert_eq!(report.holdings[0].asset, film.id.0);
    // The second is a copy of the film, whose name is taken.
    for name in ["00000000000000aa.pack", "0000000000000001.pack"] {
        assert!(rig.dir.path().join("aside").join(name).exists(), "{name} had the name of a whole pack");
    }
    rig.client(&film).pull(&[Run::new(0, 52)]).assert_chunks(&film, &[Run::new(0, 52)]);
    rig.server.shutdown().await;
}
