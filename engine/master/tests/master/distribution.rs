//! Lists of hosts.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use braidcast_media::AssetId;
use braidcast_proto::v1;
use braidcast_proto::v1::get_distribution_request::{Video, Window};
use braidcast_proto::v1::master_order::Order;
use tonic::{Code, Status};

use crate::fake_server::{FakeServer, Manners};
use crate::harness::{Running, eventually, with_token};

const EXTENT: usize = 307_200;

async fn ask(
    master: &Running,
    token: &str,
    video: Video,
    window: Option<Window>,
) -> Result<v1::GetDistributionResponse, Status> {
    let request = v1::GetDistributionRequest { video: Some(video), window };
    Ok(master.distribution().get_distribution(with_token(token, request)).await?.into_inner())
}

fn film() -> Video {
    Video::VideoFilename("film".into())
}

fn extents(extent_start: u64, extent_end: Option<u64>) -> Option<Window> {
    Some(Window::Extents(v1::ExtentWindow { extent_start, extent_end }))
}

/// A master with a film of `count` extents that three listed servers hold.
async fn three_holders(count: usize) -> (Running, Vec<FakeServer>, AssetId) {
    let master = Running::start().await;
    let mut servers = Vec::new();
    for (id, port) in [("s1", 9001), ("s2", 9002), ("s3", 9003)] {
        servers.push(FakeServer::listed(&master, id, port).await);
    }
    let asset = master.publish("film", count * EXTENT).await.expect("publishes").asset;
    eventually("all hold it", async || (master.videos().await[0].replicas_held == 3).then_some(())).await;
    (master, servers, asset)
}

/// Checks that the ranges cover the window and name hosts that there are.
fn assert_covers(answer: &v1::GetDistributionResponse, first: u64, last: u64) {
    let mut next = first;
    for range in &answer.ranges {
        assert_eq!(range.extent_start, next, "no gap and no overlap");
        assert!(range.extent_end >= range.extent_start);
        assert_eq!((range.frame_start, range.frame_end), (range.extent_start, range.extent_end));
        assert!(!range.hosts.is_empty());
        assert_eq!(range.hosts.iter().collect::<HashSet<_>>().len(), range.hosts.len());
        assert!(range.hosts.iter().all(|host| (*host as usize) < answer.hosts.len()));
        next = range.extent_end + 1;
    }
    assert_eq!(next, last + 1);
}

fn named(answer: &v1::GetDistributionResponse) -> BTreeSet<&str> {
    let indices = answer.ranges.iter().flat_map(|range| &range.hosts);
    indices.map(|host| answer.hosts[*host as usize].server_id.as_str()).collect()
}

#[tokio::test]
async fn servers_that_hold_a_film_share_it_evenly() {
    let (master, _servers, asset) = three_holders(60).await;
    let token = master.admin().await;
    for (window, first, last) in [
        (None, 0, 59),
        (extents(0, None), 0, 59),
        (extents(7, Some(21)), 7, 21),
        (extents(58, Some(1_000)), 58, 59),
        (Some(Window::Frames(v1::FrameWindow { frame_start: 12, frame_end: Some(23) })), 12, 23),
    ] {
        let answer = ask(&master, &token, film(), window).await.expect("answers");
        assert_covers(&answer, first, last);
        assert_eq!(answer.end_of_file, last == 59);
        let mut shares = BTreeMap::new();
        for range in &answer.ranges {
            *shares.entry(range.hosts[0]).or_insert(0) += range.extent_end - range.extent_start + 1;
        }
        let fair = (last - first + 1) / 3;
        assert!(shares.values().all(|share| share.abs_diff(fair) <= fair / 3 + 1), "{shares:?} of {first}..={last}");
    }
    let by_id = ask(&master, &token, Video::Asset(asset.0), None).await.expect("answers");
    assert_covers(&by_id, 0, 59);
}

#[tokio::test]
async fn the_answer_says_all_that_a_client_needs_to_open_the_film() {
    let master = Running::start().await;
    let _server = FakeServer::listed(&master, "s1", 9001).await;
    let upload = master.publish("film", 1_000_000).await.expect("publishes");
    eventually("held", async || (master.videos().await[0].replicas_held == 1).then_some(())).await;
    let answer = ask(&master, &master.admin().await, film(), None).await.expect("answers");
    let metadata = answer.metadata.expect("metadata");
    assert_eq!((metadata.name.as_str(), metadata.asset), ("film", upload.asset.0));
    assert_eq!(metadata.content_key, upload.content_key.expose());
    assert_eq!(metadata.plain_roots, upload.plain_roots);
    let streams: Vec<_> = metadata.streams.iter().map(|stream| (stream.id, stream.bytes)).collect();
    assert_eq!(streams, [(0, 1_000_000), (3, 4 * 32)]);
}

#[tokio::test]
async fn each_host_comes_with_a_ticket_that_it_alone_can_open() {
    let (master, servers, asset) = three_holders(3).await;
    let token = master.user("anna", v1::Role::Viewer).await;
    let first = ask(&master, &token, film(), None).await.expect("answers");
    let second = ask(&master, &token, film(), None).await.expect("answers");
    let mut secrets = HashSet::new();
    for host in first.hosts.iter().chain(&second.hosts) {
        assert_eq!(host.ticket_expires_in_sec, 600);
        for server in &servers {
            let ticket = server.open(&host.ticket);
            assert_eq!(ticket.is_some(), server.id == host.server_id);
            let Some(ticket) = ticket else { continue };
            assert_eq!(ticket.assets, [asset], "good for this film only");
            assert_eq!(&ticket.secret.expose()[..], host.session_secret);
        }
        secrets.insert(host.session_secret.clone());
    }
    assert_eq!(secrets.len(), 6, "a secret of its own for every host and call");
}

#[tokio::test]
async fn a_busy_server_is_given_less() {
    let (master, servers, _) = three_holders(120).await;
    servers[0].change(|manners| manners.sessions = 1_000_000);
    eventually("the load is known", async || (master.server("s1").await.sessions > 0).then_some(())).await;
    let answer = ask(&master, &master.admin().await, film(), None).await.expect("answers");
    assert_covers(&answer, 0, 119);
    let first_choices = |id| {
        let is = |range: &&v1::Range| answer.hosts[range.hosts[0] as usize].server_id == id;
        answer.ranges.iter().filter(is).count()
    };
    assert!(first_choices("s1") * 4 < first_choices("s2"), "{} and {}", first_choices("s1"), first_choices("s2"));
}

#[tokio::test]
async fn questions_that_have_no_answer_are_refused_with_what_to_ask_instead() {
    let (master, _servers, _) = three_holders(10).await;
    let token = master.admin().await;
    let time = Some(Window::Time(v1::TimeWindow { start_time: 0.0, end_time: Some(f64::NAN) }));
    let refused = ask(&master, &token, film(), time).await.expect_err("no time line");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("plain bytes"), "{refused}");
    for window in [extents(10, None), extents(5, Some(4)), extents(u64::MAX, Some(u64::MAX))] {
        let refused = ask(&master, &token, film(), window).await.expect_err("no such window");
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    let refused = ask(&master, &token, Video::VideoFilename("flim".into()), None).await.expect_err("misspelt");
    assert_eq!(refused.code(), Code::NotFound);
    assert!(refused.message().contains("flim"), "{refused}");
    assert_eq!(ask(&master, &token, Video::Asset(7), None).await.expect_err("unknown").code(), Code::NotFound);
    let nothing = with_token(&token, v1::GetDistributionRequest::default());
    let refused = master.distribution().get_distribution(nothing).await.expect_err("asks for nothing");
    assert_eq!(refused.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn a_film_that_nobody_holds_in_full_is_unavailable_for_now() {
    let master = Running::start().await;
    let lazy = Manners { fills: false, ..Manners::default() };
    let server = FakeServer::start(&master, "s1", 9001, lazy).await;
    let asset = master.publish("film", 1_000).await.expect("publishes").asset;
    let token = master.admin().await;
    let refused = ask(&master, &token, film(), None).await.expect_err("nobody");
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("film"), "{refused}");
    server.hold(asset, 1, 2, "");
    eventually("listed", async || master.server("s1").await.listed.then_some(())).await;
    server.is_heard(&master).await;
    assert_eq!(ask(&master, &token, film(), None).await.expect_err("half").code(), Code::Unavailable);
    server.hold(asset, 2, 2, "");
    eventually("available", async || ask(&master, &token, film(), None).await.ok()).await;
}

#[tokio::test]
async fn an_empty_file_is_whole_without_any_host() {
    let master = Running::start().await;
    master.publish("film", 0).await.expect("publishes");
    let token = master.admin().await;
    for window in [None, extents(0, None), extents(0, Some(9))] {
        let answer = ask(&master, &token, film(), window).await.expect("answers");
        assert!(answer.ranges.is_empty() && answer.end_of_file);
        let metadata = answer.metadata.expect("metadata");
        assert_eq!(metadata.streams.iter().map(|stream| stream.bytes).collect::<Vec<_>>(), [0, 0]);
        assert!(metadata.plain_roots.is_empty());
    }
    assert_eq!(
        ask(&master, &token, film(), extents(1, None)).await.expect_err("past it").code(),
        Code::InvalidArgument
    );
}

fn failed(server_id: &str, reason: v1::FailureReason) -> v1::FailedHost {
    v1::FailedHost { server_id: server_id.into(), reason: reason.into(), failed_parts: 3, ..v1::FailedHost::default() }
}

async fn redistribute(
    master: &Running,
    token: &str,
    asset: AssetId,
    failed: Vec<v1::FailedHost>,
) -> v1::GetDistributionResponse {
    let extents = v1::ExtentWindow { extent_start: 4, extent_end: None };
    let window = Some(v1::redistribute_request::Window::Extents(extents));
    let request = v1::RedistributeRequest { asset: asset.0, window, failed };
    master.distribution().redistribute(with_token(token, request)).await.expect("answers").into_inner()
}

#[tokio::test]
async fn a_report_keeps_a_server_out_of_the_reporters_lists_and_of_nobody_elses() {
    let (master, _servers, asset) = three_holders(24).await;
    let anna = master.user("anna", v1::Role::Viewer).await;
    let ben = master.user("ben", v1::Role::Viewer).await;
    let answer = redistribute(&master, &anna, asset, vec![failed("s2", v1::FailureReason::Silent)]).await;
    assert_covers(&answer, 4, 23);
    assert_eq!(named(&answer), BTreeSet::from(["s1", "s3"]));
    let later = ask(&master, &anna, film(), None).await.expect("answers");
    assert_eq!(named(&later), BTreeSet::from(["s1", "s3"]), "and of the lists that follow");
    let others = ask(&master, &ben, film(), None).await.expect("answers");
    assert_eq!(named(&others), BTreeSet::from(["s1", "s2", "s3"]));
    let answer = redistribute(&master, &anna, asset, vec![failed("s1", v1::FailureReason::Refused)]).await;
    assert_eq!(named(&answer), BTreeSet::from(["s3"]));
}

#[tokio::test]
async fn the_only_holders_are_named_even_when_they_have_failed() {
    let (master, servers, asset) = three_holders(24).await;
    let anna = master.user("anna", v1::Role::Viewer).await;
    let reports = ["s1", "s2", "s3"].map(|id| failed(id, v1::FailureReason::Silent));
    let answer = redistribute(&master, &anna, asset, reports.to_vec()).await;
    assert_eq!(named(&answer), BTreeSet::from(["s1", "s2", "s3"]));
    drop(servers);
    let refused = eventually("nobody is listed", async || ask(&master, &anna, film(), None).await.err()).await;
    assert_eq!(refused.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_report_about_servers_that_there_are_not_changes_nothing() {
    let (master, _servers, asset) = three_holders(24).await;
    let token = master.admin().await;
    let garbage = v1::FailedHost { reason: 99, stream: u32::MAX, ..failed("s9", v1::FailureReason::Silent) };
    let answer = redistribute(&master, &token, asset, vec![garbage; 1_000]).await;
    assert_eq!(named(&answer), BTreeSet::from(["s1", "s2", "s3"]));
    let request = v1::RedistributeRequest { asset: 7, window: None, failed: vec![] };
    let refused = master.distribution().redistribute(with_token(&token, request)).await.expect_err("unknown");
    assert_eq!(refused.code(), Code::NotFound);
}

#[tokio::test]
async fn a_server_with_damaged_chunks_is_told_to_check_those_that_exist() {
    let (master, servers, asset) = three_holders(10).await;
    let damaged = v1::FailedHost {
        stream: 0,
        damaged_extents: vec![3, 9, 10, u64::MAX],
        ..failed("s2", v1::FailureReason::Damaged)
    };
    redistribute(&master, &master.admin().await, asset, vec![damaged]).await;
    let order = eventually("an order to verify", async || {
        servers[1].orders().into_iter().find_map(|order| match order {
            Order::Verify(verify) => Some(verify),
            _ => None,
        })
    })
    .await;
    assert_eq!((order.asset, order.stream, order.extents), (asset.0, 0, vec![3, 9]));
    let verifies = |server: &FakeServer| server.orders().iter().any(|order| matches!(order, Order::Verify(_)));
    assert!(!verifies(&servers[0]) && !verifies(&servers[2]));
}
