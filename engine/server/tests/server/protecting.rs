//! Copies that wrong orders, a wrong master and damage do not delete.

use std::fs;
use std::time::Duration;

use braidcast_media::layout::EXTENT_BYTES;
use braidcast_media::{AssetId, LibraryId, Run};
use braidcast_proto::v1::DropOrder;
use braidcast_proto::v1::DropReason::{self, Removed, Surplus, Unspecified};
use braidcast_proto::v1::master_order::Order;
use tonic::Status;

use crate::asset::Film;
use crate::master::{self, LIBRARY, Master};
use crate::rig::{Rig, appears};

fn drop_order(film: &Film, reason: DropReason) -> Order {
    Order::Drop(DropOrder { asset: film.id.0, reason: reason.into() })
}

fn films<const N: usize>(extents: usize) -> [Film; N] {
    std::array::from_fn(|n| Film::new(n as u64 + 1, extents * EXTENT_BYTES))
}

fn assert_served(rig: &Rig, film: &Film) {
    rig.client(film).pull(&[Run::new(0, 20)]).assert_chunks(film, &[Run::new(0, 20)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mass_drop_that_does_not_say_why_deletes_nothing_and_is_reported() {
    let films: [Film; 3] = films(1);
    let rig = Rig::holding_all(&films.each_ref(), 0).await;
    for film in &films {
        rig.master.order(drop_order(film, Unspecified)).await;
    }
    for film in &films {
        let reason = rig.master.refusal(film.id).await;
        assert!(reason.contains("did not say why"), "{reason}");
        assert!(rig.file(film, "pack").exists());
        assert_served(&rig, film);
    }
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_of_removed_videos_are_deleted_however_many_they_are() {
    let films: [Film; 3] = films(1);
    let rig = Rig::holding_all(&films.each_ref(), 0).await;
    for film in &films {
        rig.master.order(drop_order(film, Removed)).await;
    }
    rig.master.report(|report| report.holdings.is_empty()).await;
    assert!(films.iter().all(|film| !rig.file(film, "pack").exists()));
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_too_many_is_served_until_its_room_is_needed_and_only_one_goes_in_a_minute() {
    let films: [Film; 4] = films(2);
    let [first, second, third, fourth] = &films;
    let pack_bytes = first.layout().disk_bytes();
    let rig = Rig::holding_all(&[first, second], 2 * pack_bytes).await;
    rig.master.report(|report| report.free_bytes == 0).await;
    rig.master.order(drop_order(first, Surplus)).await;
    rig.master.order(drop_order(second, Surplus)).await;
    rig.master.report(|report| report.free_bytes == 2 * pack_bytes).await;
    assert_served(&rig, first);

    rig.fill(third).await;
    assert!(!rig.file(first, "pack").exists(), "the one that was spare first makes room");
    assert_served(&rig, second);

    rig.master.publish(fourth.id, fourth.pack.clone());
    rig.master.order(Order::Hold(fourth.order())).await;
    let holding = rig.master.holding(fourth.id, |holding| !holding.error.is_empty()).await;
    assert!(holding.error.contains("more than a tenth"), "{}", holding.error);
    let reason = rig.master.refusal(fourth.id).await;
    assert!(reason.contains("another copy is kept"), "{reason}");
    assert_served(&rig, second);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spare_copy_that_is_wanted_again_makes_room_for_nobody() {
    let films: [Film; 2] = films(1);
    let [first, second] = &films;
    let rig = Rig::holding_all(&[first], first.layout().disk_bytes()).await;
    rig.master.order(drop_order(first, Surplus)).await;
    rig.master.report(|report| report.free_bytes > 0).await;
    rig.master.order(Order::Hold(first.order())).await;
    rig.master.report(|report| report.free_bytes == 0).await;
    rig.master.publish(second.id, second.pack.clone());
    rig.master.order(Order::Hold(second.order())).await;
    let holding = rig.master.holding(second.id, |holding| !holding.error.is_empty()).await;
    assert!(holding.error.contains("capacity"), "{}", holding.error);
    assert_served(&rig, first);
    rig.server.shutdown().await;
}

/// A server whose fill of `film` stops after a few extents.
async fn holding_a_part(film: &Film) -> Rig {
    let rig = Rig::start().await;
    rig.master.publish(film.id, film.pack.clone());
    rig.master.limit_pieces(1 + 9);
    rig.master.order(Order::Hold(film.order())).await;
    rig.master.holding(film.id, |holding| holding.extents_held >= 3).await;
    rig
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_of_a_copy_too_many_is_deleted() {
    let film = Film::new(1, 8 * EXTENT_BYTES);
    let rig = holding_a_part(&film).await;
    rig.master.order(drop_order(&film, Surplus)).await;
    rig.master.report(|report| report.holdings.is_empty()).await;
    assert!(!rig.file(&film, "filling").exists());
    rig.server.shutdown().await;
}

/// A master whose database is older than the copy knows nothing of the asset: that is no order to delete it.
#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_knows_nothing_of_an_asset_does_not_cost_what_is_held_of_it() {
    let film = Film::new(1, 8 * EXTENT_BYTES);
    let rig = holding_a_part(&film).await;
    rig.master.unpublish(film.id);
    let rig = rig.restart().await;
    rig.master.order(Order::Hold(film.order())).await;
    let holding = rig.master.holding(film.id, |holding| !holding.error.is_empty()).await;
    assert!(holding.error.contains("knows no such asset") && holding.extents_held >= 3, "{holding:?}");
    assert!(!holding.origin_damaged);

    rig.master.publish(film.id, film.pack.clone());
    rig.master.unlimited_pieces();
    rig.master.held_in_full(film.id).await;
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_copy_whose_header_rotted_while_the_server_was_down_is_set_aside_and_filled_anew() {
    const MAGIC_AT: usize = 0;
    const ASSET_ID_AT: usize = 8;
    for rotten_byte in [MAGIC_AT, ASSET_ID_AT + 4] {
        let film = Film::new(1, 2 * EXTENT_BYTES);
        let rig = Rig::holding(&film).await;
        let Rig { master, server, dir } = rig;
        server.shutdown().await;
        let path = dir.path().join(format!("{}.pack", film.id));
        let mut rotten = film.pack.clone();
        rotten[rotten_byte] ^= 1;
        fs::write(&path, &rotten).expect("writable");
        let rig = Rig::start_in(master, dir).await;
        assert_eq!(fs::read(rig.aside(&film)).expect("set aside"), rotten);
        // No copy of an asset that nobody knows, either.
        rig.master.report(|report| report.holdings.is_empty()).await;
        rig.master.order(Order::Hold(film.order())).await;
        rig.master.held_in_full(film.id).await;
        appears(&path).await;
        rig.master.order(drop_order(&film, Removed)).await;
        rig.master.report(|report| report.holdings.is_empty()).await;
        assert!(!rig.aside(&film).exists(), "it was a copy of the removed video, too");
        rig.server.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_copies_whose_files_were_swapped_get_their_names_back_and_are_served() {
    let films: [Film; 2] = films(2);
    let [first, second] = &films;
    let rig = Rig::holding_all(&[first, second], 0).await;
    let (of_first, of_second) = (rig.file(first, "pack"), rig.file(second, "pack"));
    let Rig { master, server, dir } = rig;
    server.shutdown().await;
    let third = dir.path().join("third");
    for (from, to) in [(&of_first, &third), (&of_second, &of_first), (&third, &of_second)] {
        fs::rename(from, to).expect("renamed");
    }
    let rig = Rig::start_in(master, dir).await;
    let whole = |holding: &braidcast_proto::v1::Holding| holding.extents_held == holding.extents_total;
    for film in &films {
        rig.master.holding(film.id, whole).await;
        assert_eq!(fs::read(rig.file(film, "pack")).expect("under its name"), film.pack);
        assert_served(&rig, film);
        assert!(!rig.aside(film).exists());
    }
    rig.server.shutdown().await;
}

/// Two copies aside, which together are more than a tenth of what is held, and neither of which makes enough room alone.
#[tokio::test(flavor = "multi_thread")]
async fn no_copy_that_stands_aside_is_deleted_if_the_guard_does_not_let_all_go_that_would_have_to() {
    let large = Film::new(1, 4 * EXTENT_BYTES);
    let small: [Film; 2] = [Film::new(2, EXTENT_BYTES), Film::new(3, EXTENT_BYTES)];
    let dir = tempfile::tempdir().expect("temporary folder");
    fs::create_dir(dir.path().join("aside")).expect("new folder");
    for film in &small {
        fs::write(dir.path().join("aside").join(format!("{}.pack", film.id)), &film.pack).expect("written");
    }
    let capacity = large.layout().disk_bytes() + small[0].layout().disk_bytes() / 2;
    let rig = Rig::start_in_with(Master::start().await, dir, |config| config.capacity_bytes = capacity).await;
    let told = rig.master.refusal(AssetId(0)).await;
    assert!(told.contains("2 copies") && told.contains("aside"), "{told}");
    rig.master.publish(large.id, large.pack.clone());
    rig.master.order(Order::Hold(large.order())).await;
    let holding = rig.master.holding(large.id, |holding| !holding.error.is_empty()).await;
    assert!(holding.error.contains("more than a tenth"), "{}", holding.error);
    assert!(small.iter().all(|film| rig.aside(film).exists()), "none went in vain");
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_keeps_the_library_of_its_first_join_and_its_copies_from_the_master_of_another() {
    let film = Film::new(1, EXTENT_BYTES);
    let rig = Rig::holding(&film).await;
    assert_eq!(rig.master.joins()[0].library_id, "");
    let kept = fs::read_to_string(rig.dir.path().join("library-id")).expect("kept");
    assert_eq!(kept, LIBRARY.to_string());

    // A master that takes any server: the server itself finds that the library is another.
    rig.master.change_library(LibraryId([2; 16]));
    rig.master.end_heartbeat();
    while rig.master.joins().len() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(rig.master.joins()[1..].iter().all(|join| join.library_id == LIBRARY.to_string()));
    assert!(rig.file(&film, "pack").exists());
    assert_served(&rig, &film);

    // One that refuses it, as masters do.
    rig.master.refuse_joins(Some(Status::failed_precondition("your library is another")));
    let joins = rig.master.joins().len();
    while rig.master.joins().len() < joins + 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The right database is back: no restart is needed.
    rig.master.refuse_joins(None);
    rig.master.change_library(LIBRARY);
    let second = Film::new(2, EXTENT_BYTES);
    rig.fill(&second).await;
    assert_served(&rig, &film);
    let ticket = master::ticket(&[second.id], master::in_seconds(600));
    crate::client::Client::greet(rig.server.udp_addr(), &second, ticket);
    rig.server.shutdown().await;
}
