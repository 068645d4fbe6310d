//! Join, Heartbeat, probes and keys.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use braidcast_media::Run;
use braidcast_media::layout::CHUNK_BYTES;
use braidcast_media::ticket::{SessionSecret, TicketKey};
use braidcast_proto::v1::master_order::Order;
use braidcast_proto::v1::{self, DropOrder, DropReason, ProbeOrder, ServerReport, TicketKeys};
use braidcast_server::limits::SHARDS_MAX;
use braidcast_server::{JoinToken, Server, ServerConfig, ServerError};
use prost::Message;
use tonic::Status;

use crate::asset::Film;
use crate::client::Client;
use crate::master::{self, Certificate, Master};
use crate::rig::{self, Rig};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_join_token_ends_the_start_with_an_error_that_does_not_show_it() {
    let master = Master::start().await;
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut config = rig::config(&master, &dir);
    config.join_token = JoinToken::new("not-this-one");
    let error = Server::start(config).await.expect_err("refused");
    assert!(matches!(error, ServerError::Refused { .. }), "{error:?}");
    let text = format!("{error} {error:?}");
    assert!(text.contains("join token") && !text.contains("not-this-one"), "{text}");
    // Nothing is left of it: the folder is free at once.
    Server::start(rig::config(&master, &dir)).await.expect("starts").shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_clock_is_off_joins_once_the_master_accepts_it() {
    let master = Master::start().await;
    master.refuse_joins(Some(Status::failed_precondition("your clock is 600 s behind")));
    let dir = tempfile::tempdir().expect("temporary folder");
    let server = Server::start(rig::config(&master, &dir)).await.expect("comes up all the same");
    rig::eventually("it tries again", || master.joins().len() >= 2).await;
    master.refuse_joins(None);
    master.report(|report| report.clock_ms > 0).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_refused_for_good_later_says_so() {
    let master = Master::start().await;
    master.refuse_joins(Some(Status::failed_precondition("your clock is 600 s behind")));
    let dir = tempfile::tempdir().expect("temporary folder");
    let mut server = Server::start(rig::config(&master, &dir)).await.expect("comes up all the same");
    master.refuse_joins(Some(Status::unauthenticated("the join token was replaced")));
    let failed = tokio::time::timeout(master::WAIT, server.failed()).await.expect("the server gives up");
    assert!(matches!(failed, ServerError::Refused { .. }), "{failed:?}");
    assert!(failed.to_string().contains("the join token was replaced"), "{failed}");
    server.shutdown().await;
}

/// An address at which nobody listens at present.
fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("free port");
    listener.local_addr().expect("bound")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_starts_before_its_master_joins_when_the_master_comes() {
    let film = Film::new(1, 5_000);
    let address = free_address();
    let (certificate, dir) = (Certificate::new(), tempfile::tempdir().expect("temporary folder"));
    let server = Server::start(rig::config_for(address, &certificate, &dir)).await.expect("comes up all the same");
    let master = Master::start_on(address, certificate).await;
    master.publish(film.id, film.pack.clone());
    master.order(Order::Hold(film.order())).await;
    master.held_in_full(film.id).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_master_that_another_authority_vouches_for_is_not_told_the_join_token() {
    let impostor = Master::start().await;
    let dir = tempfile::tempdir().expect("temporary folder");
    let config = rig::config_for(impostor.address, &Certificate::new(), &dir);
    let server = Server::start(config).await.expect("comes up all the same");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(impostor.joins().is_empty());
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_keeps_its_id_through_restarts_of_itself_and_of_the_master() {
    let film = Film::new(1, 50_000);
    let rig = Rig::holding(&film).await.restart().await;
    let joins = rig.master.joins();
    assert_eq!(joins[0].server_id, "");
    assert_eq!(joins[1].server_id, "server-of-the-tests");
    assert_eq!(joins[1].address, rig.server.udp_addr().to_string());

    let Rig { master, server, dir: _dir } = rig;
    let (address, certificate) = (master.address, master.certificate.clone());
    drop(master);
    let run = Run::new(0, 20);
    let ticket = master::ticket(&[film.id], master::in_seconds(600));
    Client::greet(server.udp_addr(), &film, ticket).pull(&[run]).assert_chunks(&film, &[run]);
    let master = Master::start_on(address, certificate).await;
    let report = master.report(|report| !report.holdings.is_empty()).await;
    assert_eq!(report.holdings[0].extents_held, report.holdings[0].extents_total);
    assert_eq!(master.joins()[0].server_id, "server-of-the-tests");
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_tell_the_bytes_sent_and_the_sessions() {
    let film = Film::new(1, 200_000);
    let rig = Rig::holding(&film).await;
    let mut client = rig.client(&film);
    client.pull(&[Run::new(0, 52)]).assert_chunks(&film, &[Run::new(0, 52)]);
    let sent = 52 * CHUNK_BYTES as u64;
    let report = rig.master.report(|report| report.sent_bytes > 0 && report.sessions > 0).await;
    assert_eq!((report.sent_bytes, report.sessions), (sent, 1));
    assert_eq!(rig.server.counters().sent_bytes, sent);
    assert_eq!(report.used_bytes, film.layout().disk_bytes(), "holes take no room");
    assert!(report.free_bytes > 0);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_named_once_on_a_stream_and_then_only_what_changes() {
    let film = Film::new(1, 200_000);
    let rig = Rig::holding(&film).await.restart().await;
    rig.master.report(|report| report.complete && report.holdings.len() == 1).await;
    // Until two reports came in which nothing had changed.
    let mut reports = Vec::new();
    let quiet = |report: &ServerReport| report.complete && report.holdings.is_empty();
    let until = Instant::now() + Duration::from_secs(30);
    while reports.iter().filter(|report| quiet(report)).count() < 2 {
        assert!(Instant::now() < until, "{reports:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
        reports.extend(rig.master.take_reports());
    }
    assert!(reports.iter().filter(|report| quiet(report)).all(|report| report.encoded_len() < 64));
    rig.master.order(Order::Drop(DropOrder { asset: film.id.0, reason: DropReason::Removed.into() })).await;
    rig.master.report(|report| report.complete && report.holdings.is_empty()).await;
    let gone: Vec<u64> = rig.master.take_reports().into_iter().flat_map(|report| report.gone).collect();
    assert_eq!(gone, [film.id.0]);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_ticket_keys_count_from_the_order_on_and_sessions_go_on() {
    let film = Film::new(1, 50_000);
    let rig = Rig::holding(&film).await;
    let mut old = rig.client(&film);
    let key = |id: u32| v1::TicketKey { key_id: id, key: vec![id as u8; 32] };
    rig.master.order(Order::TicketKeys(TicketKeys { keys: vec![key(21), key(20)] })).await;
    let soon = master::in_seconds(600);
    for id in [20_u32, 21] {
        let ticket = || master::sealed_ticket(&TicketKey::new(id, &[id as u8; 32]), &[film.id], soon);
        let mut client = Client::new(rig.server.udp_addr(), &film);
        let until = Instant::now() + master::WAIT;
        while !client.say_hello(ticket()) {
            assert!(Instant::now() < until, "the server takes the key {id}");
        }
        client.pull(&[Run::new(0, 5)]).assert_chunks(&film, &[Run::new(0, 5)]);
    }
    let outdated = master::ticket(&[film.id], soon);
    assert!(!Client::new(rig.server.udp_addr(), &film).say_hello(outdated));
    old.pull(&[Run::new(0, 5)]).assert_chunks(&film, &[Run::new(0, 5)]);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_tells_whether_the_holder_of_the_ticket_key_answers() {
    let film = Film::new(1, 5_000);
    let (prober, probed) = (Rig::start().await, Rig::start().await);
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("free port");
    let silent = silent.local_addr().expect("bound").to_string();
    let address = probed.server.udp_addr().to_string();
    let soon = master::in_seconds(600);
    let probe = async |probe_id, address: &str, (ticket, secret): (Vec<u8>, SessionSecret)| {
        let (address, session_secret) = (address.to_owned(), secret.expose().to_vec());
        prober.master.order(Order::Probe(ProbeOrder { probe_id, address, ticket, session_secret })).await;
        let report = prober.master.report(|report| report.probes.iter().any(|p| p.probe_id == probe_id)).await;
        report.probes.iter().find(|p| p.probe_id == probe_id).expect("just found").answered
    };
    let cases = [
        (1, &address, master::foreign_ticket(&[film.id], soon)),
        (2, &silent, master::ticket(&[film.id], soon)),
        (3, &"no address".to_owned(), master::ticket(&[film.id], soon)),
    ];
    for (probe_id, address, ticket) in cases {
        assert!(!probe(probe_id, address, ticket).await, "probe {probe_id}");
    }
    // A probe has a second. Whoever answers does so within it sooner or later, however busy the machine is.
    let mut tries = 4..64;
    while !probe(tries.next().expect("it answers"), &address, master::ticket(&[film.id], soon)).await {}
    prober.server.shutdown().await;
    probed.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wildcard_address_is_advertised_as_the_one_that_reaches_the_master() {
    let rig = Rig::start_with(|config| config.listen = ([0, 0, 0, 0], 0).into()).await;
    let port = rig.server.udp_addr().port();
    assert_eq!(rig.master.joins()[0].address, format!("127.0.0.1:{port}"));
    rig.server.shutdown().await;

    let advertise = "198.51.100.7:4000".parse().expect("an address");
    let rig = Rig::start_with(|config| config.advertise = Some(advertise)).await;
    assert_eq!(rig.master.joins()[0].address, "198.51.100.7:4000");
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_followed_end_the_start() {
    let rig = Rig::start().await;
    let dir = tempfile::tempdir().expect("temporary folder");
    let start = |change: fn(&mut ServerConfig, &Rig)| {
        let mut config = rig::config(&rig.master, &dir);
        change(&mut config, &rig);
        Server::start(config)
    };
    let taken = start(|config, rig| config.listen = rig.server.udp_addr()).await;
    assert!(matches!(taken, Err(ServerError::Listen(_))), "{taken:?}");
    let in_use = start(|config, rig| config.state_dir = rig.dir.path().to_owned()).await;
    assert!(matches!(in_use, Err(ServerError::StateInUse { .. })), "{in_use:?}");
    let file = start(|config, rig| config.state_dir = rig.dir.path().join("lock")).await;
    assert!(matches!(file, Err(ServerError::State { .. })), "{file:?}");
    let shards = start(|config, _| config.shards = SHARDS_MAX + 1).await;
    assert!(matches!(shards, Err(ServerError::TooManyShards { .. })), "{shards:?}");
    let master = start(|config, _| config.master = "no-port".to_owned()).await;
    assert!(matches!(master, Err(ServerError::Master { .. })), "{master:?}");
    rig.server.shutdown().await;
}
