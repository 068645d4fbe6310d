//! A master that strangers call: what they cost it, and whom they keep out.

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use braidcast_client::Profile;
use braidcast_client::control::Role;
use braidcast_client::profile::Credential;
use braidcast_proto::v1::auth_client::AuthClient;
use braidcast_proto::v1::catalogue_client::CatalogueClient;
use braidcast_proto::v1::distribution_client::DistributionClient;
use braidcast_proto::v1::issue_token_response::Result as Issued;
use braidcast_proto::v1::publishing_client::PublishingClient;
use braidcast_proto::v1::{BeginPublishRequest, FailedHost, IssueTokenRequest, ListVideosRequest, RedistributeRequest};
use http_body::Frame;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::{Bytes, Service, http};
use tonic::metadata::MetadataValue;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic::{Code, Request};

use crate::support::{AnonymousPeak, Cluster, PATIENCE, cpu_time, eventually};

/// What a flood may add to the master's memory.
const GROWTH_MAX_KIB: u64 = 8 * 1024;
/// Another user of loopback.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The request of a call whose last byte never comes.
struct HalfSent(Option<Bytes>);

impl HalfSent {
    /// A message that says it has `bytes` bytes, and lacks one.
    fn body(bytes: u32) -> Body {
        let mut sent = vec![0];
        sent.extend(bytes.to_be_bytes());
        sent.resize(5 + bytes as usize - 1, 0);
        Body::new(Self(Some(sent.into())))
    }
}

impl http_body::Body for HalfSent {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match self.0.take() {
            Some(sent) => Poll::Ready(Some(Ok(Frame::data(sent)))),
            None => Poll::Pending,
        }
    }
}

/// A connection from `from` to the master that the profile names.
async fn connect(profile: &Profile, from: Ipv4Addr) -> Channel {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&profile.ca_pem));
    let endpoint = Channel::from_shared(format!("https://{}", profile.master)).expect("an address");
    let endpoint = endpoint.local_address(Some(from.into())).tls_config(tls).expect("an authority");
    endpoint.connect().await.expect("the master answers")
}

/// Calls Join with a half-sent request, and gives the code that ends the call.
async fn half_sent_join(channel: Channel, bytes: u32) -> Code {
    half_sent(channel, "Cluster/Join", "", bytes).await
}

/// Calls `method` with a half-sent request, and gives the code that ends the call.
async fn half_sent(mut channel: Channel, method: &str, access_token: &str, bytes: u32) -> Code {
    let request = http::Request::post(format!("/braidcast.v1.{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("authorization", format!("Bearer {access_token}"))
        .body(HalfSent::body(bytes))
        .expect("a request");
    std::future::poll_fn(|cx| channel.poll_ready(cx)).await.expect("ready");
    match channel.call(request).await {
        Ok(response) => tonic::Status::from_header_map(response.headers()).map_or(Code::Ok, |status| status.code()),
        Err(_) => Code::Unavailable,
    }
}

fn profile(cluster: &Cluster) -> Profile {
    Profile::load(cluster.client().profile()).expect("a profile")
}

fn password(profile: &Profile) -> String {
    let Credential::Password(password) = &profile.credential else { panic!("the cluster's profile has a password") };
    password.expose().to_owned()
}

fn login(username: &str, password: &str) -> IssueTokenRequest {
    IssueTokenRequest {
        grant_type: "password".to_owned(),
        client_id: "braidcast".to_owned(),
        username: username.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }
}

/// Signs in on a connection of its own, and gives that and the access token.
async fn signed_in(profile: &Profile) -> (Channel, String) {
    let channel = connect(profile, Ipv4Addr::LOCALHOST).await;
    let answer = AuthClient::new(channel.clone()).issue_token(login(&profile.username, &password(profile))).await;
    let Some(Issued::Token(token)) = answer.expect("is let in").into_inner().result else { panic!("no token") };
    (channel, token.access_token)
}

fn run<T>(what: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(PATIENCE, what).await.expect("it ends") })
}

/// Memory of a half-sent request was taken at once and kept for as long as its sender liked: there was no bound on a
/// message of a stranger below 4 MB, and no time-out.
#[test]
fn half_sent_requests_cost_little_and_end() {
    let mut cluster = Cluster::start(&[]);
    let (profile, pid) = (profile(&cluster), cluster.master().pid());
    let before = AnonymousPeak::watch(vec![pid]).finish_after_kib(Duration::from_millis(100));
    let watching = AnonymousPeak::watch(vec![pid]);
    let codes = run(async {
        let mut calls = JoinSet::new();
        // As much as each connection may send before anybody on it is known; and some that say they are long.
        for _ in 0..17 {
            let channel = connect(&profile, Ipv4Addr::LOCALHOST).await;
            (0..7).for_each(|_| drop(calls.spawn(half_sent_join(channel.clone(), 16_000))));
        }
        let channel = connect(&profile, Ipv4Addr::LOCALHOST).await;
        (0..9).for_each(|_| drop(calls.spawn(half_sent_join(channel.clone(), 4_000_000))));
        calls.join_all().await
    });
    let grown = watching.finish_kib().saturating_sub(before);
    assert!(grown <= GROWTH_MAX_KIB, "{grown} KiB for {} half-sent requests", codes.len());
    let ends = [Code::DeadlineExceeded, Code::OutOfRange, Code::ResourceExhausted, Code::Unavailable];
    assert!(codes.iter().all(|code| ends.contains(code)), "{codes:?}");
    assert!(codes.contains(&Code::DeadlineExceeded) && codes.contains(&Code::OutOfRange), "{codes:?}");
    cluster.client().run(["ls"]).success();
}

/// Each call of one address that has not arrived leaves for the next one, so half-sent calls keep nobody out.
#[test]
fn half_sent_requests_give_way_to_one_that_arrives() {
    let cluster = Cluster::start(&[]);
    let profile = profile(&cluster);
    run(async {
        let mut calls = JoinSet::new();
        for _ in 0..16 {
            let channel = connect(&profile, Ipv4Addr::LOCALHOST).await;
            (0..12).for_each(|_| drop(calls.spawn(half_sent_join(channel.clone(), 1_000))));
        }
        // There are more of them than one address may have.
        assert_eq!(calls.join_next().await.expect("calls").expect("ends"), Code::ResourceExhausted);
        let mut auth = AuthClient::new(connect(&profile, Ipv4Addr::LOCALHOST).await);
        let answer = auth.issue_token(login(&profile.username, &password(&profile))).await.expect("is let in");
        assert!(matches!(answer.into_inner().result, Some(Issued::Token(_))));
    });
}

/// Accepting failed for want of descriptors, and was tried again at once, forever and in silence: the connections that
/// used them up stayed.
#[test]
fn silent_connections_neither_spin_nor_keep_anybody_out() {
    let mut cluster = Cluster::start_limited(128, &[]);
    let (master, pid) = (profile(&cluster).master, cluster.master().pid());
    let address: SocketAddr = master.parse().expect("an address");
    let mut silent: Vec<_> = (0..200).map(|_| TcpStream::connect(address).expect("the kernel takes it")).collect();
    eventually("the log tells of them", || cluster.master().stderr().contains("TLS handshake").then_some(()));
    let before = cpu_time(pid);
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu_time(pid) - before;
    assert!(used < Duration::from_millis(500), "{used:?} in 2 s");
    cluster.client().run(["ls"]).success();
    // The oldest was closed, and not the newest.
    let oldest = &mut silent[0];
    oldest.set_read_timeout(Some(PATIENCE)).expect("is set");
    let ended = oldest.read(&mut [0; 1]);
    assert!(
        matches!(&ended, Ok(0)) || matches!(&ended, Err(error) if error.kind() == ErrorKind::ConnectionReset),
        "{ended:?}"
    );
    assert!(!cluster.master().has_ended());
}

/// A connection on which somebody was let in stayed for a minute after each call: one viewer took all seats.
#[test]
fn one_users_connections_keep_nobody_out() {
    let mut cluster = Cluster::start_limited(128, &[]);
    let viewer = cluster.client().add_viewer("vera");
    let vera = Profile::load(viewer.profile()).expect("a profile");
    let held = run(async {
        let channel = connect(&vera, ELSEWHERE).await;
        let answer = AuthClient::new(channel).issue_token(login("vera", &password(&vera))).await;
        let Some(Issued::Token(token)) = answer.expect("is let in").into_inner().result else { panic!("no token") };
        let bearer: MetadataValue<_> = format!("Bearer {}", token.access_token).parse().expect("ASCII");
        let mut held = Vec::new();
        for n in 0..120 {
            let channel = connect(&vera, Ipv4Addr::new(127, 0, 1, 1 + n % 4)).await;
            let mut list = Request::new(ListVideosRequest {});
            list.metadata_mut().insert("authorization", bearer.clone());
            CatalogueClient::new(channel.clone()).list_videos(list).await.expect("a viewer may");
            held.push(channel);
        }
        held
    });
    for _ in 0..3 {
        cluster.client().run(["user", "ls"]).success();
    }
    assert!(!cluster.master().has_ended());
    drop(held);
}

/// Descriptions of films wait for their turn to be read, and one publisher whose requests never arrive took all turns.
#[test]
fn half_sent_descriptions_of_one_publisher_keep_no_other_waiting() {
    let cluster = Cluster::start(&[]);
    let [paul, pia] = ["paul", "pia"].map(|name| {
        let publisher = cluster.client().add(name, Role::Publisher);
        Profile::load(publisher.profile()).expect("a profile")
    });
    run(async {
        let (channel, token) = signed_in(&paul).await;
        let mut calls = JoinSet::new();
        for _ in 0..16 {
            let (channel, token) = (channel.clone(), token.clone());
            calls.spawn(async move { half_sent(channel, "Publishing/BeginPublish", &token, 1_000).await });
        }
        let begin = async |channel: Channel, token: &str, name: &str| {
            let message = BeginPublishRequest { name: name.to_owned(), bytes: 1, ..Default::default() };
            let mut request = Request::new(message);
            let bearer = format!("Bearer {token}").parse().expect("ASCII");
            request.metadata_mut().insert("authorization", bearer);
            PublishingClient::new(channel).begin_publish(request).await
        };
        // Until those calls have taken all his turns, paul is answered.
        while let Ok(own) =
            tokio::time::timeout(Duration::from_secs(1), begin(channel.clone(), &token, "his own")).await
        {
            own.expect("paul may publish");
        }
        let (channel, token) = signed_in(&pia).await;
        begin(channel, &token, "hers").await.expect("pia has turns of her own");
    });
}

/// A message of 4 MB with two million empty entries took 280 MB to decode.
#[test]
fn a_report_that_is_too_long_is_refused_before_it_is_read() {
    let mut cluster = Cluster::start(&[]);
    let (profile, pid) = (profile(&cluster), cluster.master().pid());
    run(async {
        let (channel, token) = signed_in(&profile).await;
        let before = AnonymousPeak::watch(vec![pid]).finish_after_kib(Duration::from_millis(100));
        let watching = AnonymousPeak::watch(vec![pid]);
        let failed = vec![FailedHost::default(); 2_000_000];
        let mut request = Request::new(RedistributeRequest { asset: 1, window: None, failed });
        let bearer = format!("Bearer {token}").parse().expect("ASCII");
        request.metadata_mut().insert("authorization", bearer);
        let refused = DistributionClient::new(channel).redistribute(request).await.expect_err("is too long");
        assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
        let grown = watching.finish_kib().saturating_sub(before);
        assert!(grown <= GROWTH_MAX_KIB, "{grown} KiB for one report");
    });
}

/// Guesses that ran side by side were all evaluated before the first was counted; and five wrong passwords of anybody
/// locked an administrator out.
#[test]
fn guesses_from_another_address_all_count_and_keep_the_administrator_out_of_nothing() {
    let cluster = Cluster::start(&["--lock-for", "1h"]);
    let profile = profile(&cluster);
    cluster.client().run(["ls"]).success();
    let (evaluated, refused) = run(async {
        let channel = connect(&profile, ELSEWHERE).await;
        let mut guesses = JoinSet::new();
        for n in 0..240 {
            let (channel, guess) = (channel.clone(), login(&profile.username, &format!("guess {n}")));
            guesses.spawn(async move { AuthClient::new(channel).issue_token(guess).await });
        }
        let (mut evaluated, mut refused) = (0, 0);
        for answer in guesses.join_all().await {
            match answer.map(|answer| answer.into_inner().result) {
                Ok(Some(Issued::Error(error))) if error.error == "invalid_grant" => evaluated += 1,
                Ok(Some(Issued::Error(error))) if error.error == "access_denied" => refused += 1,
                Err(status) if matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
        (evaluated, refused)
    });
    // Five, and one more for each wait that passes, of 1 s, 2 s, 4 s and so on: for a minute on a busy machine.
    assert!((5..=11).contains(&evaluated), "{evaluated} evaluated, {refused} refused");
    cluster.client().run(["ls"]).success();
}
