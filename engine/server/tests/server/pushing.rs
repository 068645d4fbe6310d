//! Copies that are sent to the origin because it has lost its own.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use braidcast_media::layout::EXTENT_BYTES;
use braidcast_proto::v1::master_order::Order;
use braidcast_proto::v1::push_request::Part;
use braidcast_proto::v1::{PackExtents, PushExtent, PushOrder, PushStart};

use crate::asset::Film;
use crate::rig::Rig;

fn push(film: &Film, header: bool, extents: &[(u32, u32)]) -> Order {
    let extents = extents.iter().map(|&(first, last)| PackExtents { first, last }).collect();
    Order::Push(PushOrder { asset: film.id.0, header, extents })
}

fn extent(film: &Film, number: u32) -> Part {
    let start = film.layout().extent_offset(number) as usize;
    let sealed = film.pack[start..start + film.layout().sealed_bytes(number)].to_vec();
    Part::Extent(PushExtent { number, sealed })
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_master_orders_is_sent_in_order_and_nothing_else() {
    let film = Film::new(1, 3 * EXTENT_BYTES + 5);
    let rig = Rig::holding(&film).await;
    rig.master.order(push(&film, true, &[(0, 1), (4, 4)])).await;
    let start = || Part::Start(PushStart { asset: film.id.0 });
    let expected =
        [start(), Part::Header(film.header.to_bytes()), extent(&film, 0), extent(&film, 1), extent(&film, 4)];
    assert_eq!(rig.master.pushed(5).await, expected);
    rig.master.order(push(&film, false, &[(3, 3)])).await;
    assert_eq!(rig.master.pushed(7).await[5..], [start(), extent(&film, 3)]);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_extent_that_is_rotten_here_too_is_not_sent_and_is_filled_again() {
    let film = Film::new(1, 3 * EXTENT_BYTES);
    let rig = Rig::holding(&film).await;
    let file = OpenOptions::new().write(true).open(rig.file(&film, "pack")).expect("the pack");
    file.write_all_at(&[0xAA; 32], film.layout().extent_offset(1) + 70_000).expect("writable");
    rig.master.limit_pieces(0);
    rig.master.order(push(&film, false, &[(0, 3)])).await;
    rig.master.holding(film.id, |holding| holding.extents_held == holding.extents_total - 1).await;
    assert_eq!(rig.master.pushed(2).await, [Part::Start(PushStart { asset: film.id.0 }), extent(&film, 0)]);

    // While a part is missing, and of orders that no pack can follow, the start alone is sent: the master asks another
    // server then.
    rig.master.order(push(&film, false, &[(0, 0)])).await;
    rig.master.order(push(&film, false, &[(2, 1), (7, 900)])).await;
    rig.master.unlimited_pieces();
    rig.master.held_in_full(film.id).await;
    rig.master.order(push(&film, false, &[(1, 1)])).await;
    let start = || Part::Start(PushStart { asset: film.id.0 });
    assert_eq!(rig.master.pushed(6).await[2..], [start(), start(), start(), extent(&film, 1)]);
    rig.server.shutdown().await;
}

/// A server that went on calling such a copy whole would be asked for it again and again.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_a_push_finds_ruined_is_held_no_longer() {
    let ruins: [fn(&std::fs::File); 2] =
        [|file| file.write_all_at(&[0xAA; 8], 40).expect("writable"), |file| file.set_len(30_000).expect("cut short")];
    for ruin in ruins {
        let film = Film::new(1, 3 * EXTENT_BYTES);
        let rig = Rig::holding_with(&film, |config| config.scrub_bytes_s = 0).await;
        rig.master.limit_pieces(0);
        ruin(&OpenOptions::new().write(true).open(rig.file(&film, "pack")).expect("the pack"));
        rig.master.order(push(&film, true, &[(0, 3)])).await;
        rig.master.holding(film.id, |holding| holding.extents_held == 0).await;
        assert!(rig.aside(&film).exists(), "it was whole");
        assert_eq!(rig.master.pushed(1).await[0], Part::Start(PushStart { asset: film.id.0 }), "the master is told");
        rig.server.shutdown().await;
    }
}
