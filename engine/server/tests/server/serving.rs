//! What a client gets.

use std::time::Duration;

use braidcast_media::layout::{CHUNK_BYTES, EXTENT_BYTES};
use braidcast_media::{Run, StreamId};
use braidcast_proto::v1::master_order::Order;
use braidcast_server::IoMode;
use braidcast_transport::puller::{Event, Failure, Loss};

use crate::asset::Film;
use crate::client::Client;
use crate::master;
use crate::rig::Rig;

const FILM_BYTES: usize = 2 * EXTENT_BYTES + 12_345;

async fn everything_comes_back(io: IoMode, described: &str) {
    let film = Film::new(1, FILM_BYTES);
    let rig = Rig::holding_with(&film, |config| {
        config.io = io;
        config.shards = 2;
    })
    .await;
    assert!(rig.server.describe().starts_with(described), "{}", rig.server.describe());
    let mut client = rig.client(&film);
    let chunks = film.layout().stream(StreamId::ORIGINAL).expect("a film").chunks();
    for first in (0..chunks).step_by(52) {
        let run = Run::new(first, 52.min(chunks - first) as u16);
        client.pull(&[run]).assert_chunks(&film, &[run]);
    }
    assert_eq!(rig.server.counters().sent_bytes, u64::from(chunks) * CHUNK_BYTES as u64);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filled_film_comes_back_byte_for_byte_over_plain_sockets() {
    everything_comes_back(IoMode::Portable, "io=portable shards=2 gso=").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filled_film_comes_back_byte_for_byte_over_the_best_that_the_kernel_permits() {
    let uring = braidcast_io::Capabilities::probe().expect("a probe").uring.is_ok();
    let described = if uring { "io=uring shards=2 gso=" } else { "io=portable shards=2 gso=" };
    everything_comes_back(IoMode::Auto, described).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_of_scattered_runs_is_answered_whole() {
    let film = Film::new(1, FILM_BYTES);
    let rig = Rig::holding(&film).await;
    let runs: Vec<Run> = (0..8).map(|n| Run::new(n * 60, 6)).collect();
    rig.client(&film).pull(&runs).assert_chunks(&film, &runs);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cold_extents_are_read_in_before_their_chunks_are_sent() {
    let film = Film::new(1, FILM_BYTES);
    let rig = Rig::holding(&film).await;
    let mut client = rig.client(&film);
    assert_eq!(rig.server.counters().parked, 0);
    let across = Run::new(250, 12);
    client.pull(&[across]).assert_chunks(&film, &[across]);
    assert_eq!(rig.server.counters().parked, 1);
    client.pull(&[across]).assert_chunks(&film, &[across]);
    assert_eq!(rig.server.counters().parked, 1, "what is hot is sent at once");
    let cold = Run::new(512, 1);
    client.pull(&[cold]).assert_chunks(&film, &[cold]);
    assert_eq!(rig.server.counters().parked, 2);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_into_a_hole_is_cut_and_its_rest_named_as_not_held() {
    let film = Film::new(1, FILM_BYTES);
    let rig = Rig::start().await;
    let mut rotten = film.pack.clone();
    rotten[film.layout().extent_offset(1) as usize + 100] ^= 1;
    rig.master.publish(film.id, rotten);
    rig.master.order(Order::Hold(film.order())).await;
    rig.master.holding(film.id, |h| h.extents_held == h.extents_total - 1).await;

    let mut client = rig.client(&film);
    let answer = client.pull(&[Run::new(250, 10), Run::new(512, 2)]);
    answer.assert_chunks(&film, &[Run::new(250, 6), Run::new(512, 2)]);
    let lost = Event::Lost { stream: StreamId::ORIGINAL, runs: vec![Run::new(256, 4)], why: Loss::NotHeld };
    assert!(answer.events.contains(&lost), "{:?}", answer.events);

    let answer = client.pull(&[Run::new(300, 10)]);
    assert_eq!(answer.data(), 0);
    let lost = Event::Lost { stream: StreamId::ORIGINAL, runs: vec![Run::new(300, 10)], why: Loss::NotHeld };
    assert!(answer.events.contains(&lost), "{:?}", answer.events);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_past_the_end_of_a_stream_and_of_strange_streams_are_not_held() {
    let film = Film::new(1, 1_201);
    let rig = Rig::holding(&film).await;
    let mut client = rig.client(&film);
    client.pull(&[Run::new(0, 50)]).assert_chunks(&film, &[Run::new(0, 2)]);
    client.send_pull_of(StreamId(9), &[Run::new(0, 1)]);
    let answer = client.collect(1, Duration::from_secs(20));
    assert_eq!((answer.data(), answer.ends), (0, 1));
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_that_are_not_here_and_assets_outside_of_the_ticket_are_answered_alike() {
    let (film, other) = (Film::new(1, 5_000), Film::new(2, 5_000));
    let rig = Rig::holding(&film).await;
    let unknown = Event::Failed(Failure::UnknownAsset);

    let ticket = master::ticket(&[film.id, other.id], master::in_seconds(600));
    let answer = Client::greet(rig.server.udp_addr(), &other, ticket).pull(&[Run::new(0, 1)]);
    assert!(answer.data() == 0 && answer.events.contains(&unknown), "{:?}", answer.events);

    //= PROTOCOL U8: A server MUST answer a PULL for an asset outside of the ticket's scope as it would one for an asset that does not exist.
    let ticket = master::ticket(&[other.id], master::in_seconds(600));
    let answer = Client::greet(rig.server.udp_addr(), &film, ticket).pull(&[Run::new(0, 1)]);
    assert!(answer.data() == 0 && answer.events.contains(&unknown), "{:?}", answer.events);
    rig.server.shutdown().await;
}
