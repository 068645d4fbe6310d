//! Media servers: joining, proving, listing, holding.

use std::time::Duration;

use braidcast_media::AssetId;
use braidcast_proto::v1;
use braidcast_proto::v1::master_order::Order;
use tonic::Code;

use crate::fake_server::{FakeServer, Manners, join_request, now_ms};
use crate::harness::{Running, eventually, with_token};

fn silent_on_probes() -> Manners {
    Manners { answers_probes: false, ..Manners::default() }
}

fn probes(server: &FakeServer) -> Vec<v1::ProbeOrder> {
    let probe = |order| match order {
        Order::Probe(probe) => Some(probe),
        _ => None,
    };
    server.orders().into_iter().filter_map(probe).collect()
}

async fn probe_of(server: &FakeServer, address: &str) -> v1::ProbeOrder {
    eventually("a probe of that address", async || probes(server).into_iter().rfind(|probe| probe.address == address))
        .await
}

async fn unlisted_because(master: &Running, id: &str, reason: &str) {
    eventually(reason, async || {
        let server = master.server(id).await;
        (!server.listed && server.reason.contains(reason)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_cannot_be_used_does_not_join_and_is_told_why() {
    let master = Running::start().await;
    let good = || join_request(&master, "s1", 9001);
    let with = |change: fn(&mut v1::JoinRequest)| {
        let mut request = good();
        change(&mut request);
        request
    };
    let cases = [
        (with(|r| r.join_token = "guess".into()), Code::Unauthenticated, "join-token"),
        (with(|r| r.join_token.clear()), Code::Unauthenticated, "join-token"),
        (with(|r| r.address = "localhost:9001".into()), Code::InvalidArgument, "localhost:9001"),
        (with(|r| r.address = "0.0.0.0:9001".into()), Code::InvalidArgument, "0.0.0.0:9001"),
        (with(|r| r.server_id = "../s".into()), Code::InvalidArgument, "../s"),
        (with(|r| r.clock_ms = now_ms(600_000)), Code::FailedPrecondition, "s ahead"),
        (with(|r| r.clock_ms = now_ms(-600_000)), Code::FailedPrecondition, "s behind"),
        (with(|r| r.clock_ms = 0), Code::FailedPrecondition, "NTP"),
        (with(|r| r.clock_ms = u64::MAX), Code::FailedPrecondition, "NTP"),
    ];
    let token = master.join_token();
    for (request, code, said) in cases {
        let refused = master.cluster().join(request).await.expect_err(said);
        assert_eq!(refused.code(), code, "{refused}");
        assert!(refused.message().contains(said) && !refused.message().contains(&token), "{refused}");
    }
    for ahead_ms in [-50_000, 50_000] {
        let request = v1::JoinRequest { clock_ms: now_ms(ahead_ms), ..good() };
        master.cluster().join(request).await.expect("less than a minute is tolerated");
    }
}

#[tokio::test]
async fn a_server_without_an_id_is_given_one_of_its_own() {
    let master = Running::start().await;
    let mut ids = Vec::new();
    for port in [9001, 9002] {
        let joined = master.cluster().join(join_request(&master, "", port)).await.expect("joins").into_inner();
        assert_eq!((joined.ticket_keys.len(), joined.ticket_keys[0].key.len()), (1, 32));
        ids.push(joined.server_id);
    }
    assert!(!ids[0].is_empty() && ids[0] != ids[1], "{ids:?}");
}

#[tokio::test]
async fn a_server_is_listed_once_somebody_was_answered_at_its_address() {
    let master = Running::start().await;
    let server = FakeServer::start(&master, "s1", 9001, silent_on_probes()).await;
    unlisted_because(&master, "s1", "127.0.0.1:9001").await;
    let first = probe_of(&server, "127.0.0.1:9001").await;
    let ticket = server.open(&first.ticket).expect("sealed for the server under probe");
    assert_eq!(&ticket.secret.expose()[..], first.session_secret);
    eventually("another probe when nobody answers", async || (probes(&server).len() >= 2).then_some(())).await;
    assert!(!master.server("s1").await.listed);
    server.answer_probe(first.probe_id ^ 1);
    let answered = probe_of(&server, "127.0.0.1:9001").await;
    server.answer_probe(answered.probe_id);
    eventually("listed", async || master.server("s1").await.listed.then_some(())).await;
    assert_eq!(master.server("s1").await.reason, "");
}

#[tokio::test]
async fn an_address_is_proven_by_another_server_and_by_the_one_that_was_asked_alone() {
    let master = Running::start().await;
    let prober = FakeServer::listed(&master, "prober", 9001).await;
    prober.change(|manners| manners.answers_probes = false);
    let target = FakeServer::start(&master, "target", 9002, Manners::default()).await;
    let order = probe_of(&prober, "127.0.0.1:9002").await;
    assert!(target.open(&order.ticket).is_some() && prober.open(&order.ticket).is_none());
    assert_eq!(probes(&target), [], "a server does not vouch for itself while there is another");
    target.answer_probe(order.probe_id);
    eventually("two more probes", async || {
        let of_target = probes(&prober).iter().filter(|probe| probe.address == "127.0.0.1:9002").count();
        (of_target >= 3).then_some(())
    })
    .await;
    assert!(!master.server("target").await.listed, "an answer of one that was not asked is not believed");
    prober.answer_probe(probe_of(&prober, "127.0.0.1:9002").await.probe_id);
    eventually("listed", async || master.server("target").await.listed.then_some(())).await;
}

#[tokio::test]
async fn a_server_that_falls_silent_or_goes_is_not_listed() {
    let master = Running::with(|config| config.heartbeat_timeout = Duration::from_secs(1)).await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    server.change(|manners| manners.reports = false);
    unlisted_because(&master, "s1", "no report for").await;
    server.change(|manners| manners.reports = true);
    eventually("listed again", async || master.server("s1").await.listed.then_some(())).await;
    drop(server);
    unlisted_because(&master, "s1", "stream is closed").await;
}

#[tokio::test]
async fn a_server_that_is_gone_for_good_is_forgotten_by_its_address_and_comes_back_as_a_new_one() {
    let mut master = Running::start().await;
    let admin = master.admin().await;
    let publisher = master.user("paul", v1::Role::Publisher).await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    let keys = server.joined_with.clone();
    let forget = async |master: &Running, token: &str, server: &str| {
        let request = with_token(token, v1::ForgetServerRequest { server: server.into() });
        master.maintenance().forget_server(request).await.map(|answer| answer.into_inner().server_id)
    };
    let refused = forget(&master, &admin, "127.0.0.1:9001").await.expect_err("connected");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    drop(server);
    unlisted_because(&master, "s1", "stream is closed").await;
    assert_eq!(forget(&master, &publisher, "s1").await.expect_err("no administrator").code(), Code::PermissionDenied);
    assert_eq!(forget(&master, &admin, "127.0.0.1:9001").await.expect("forgotten"), "s1");
    assert_eq!(forget(&master, &admin, "s1").await.expect_err("unknown").code(), Code::NotFound);
    master.restart(|_| {}).await;
    assert!(master.servers().await.is_empty());
    assert_ne!(FakeServer::listed(&master, "s1", 9001).await.joined_with, keys);
}

#[tokio::test]
async fn a_server_whose_clock_runs_off_is_not_listed_until_it_agrees_again() {
    let master = Running::start().await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    server.change(|manners| manners.clock_ahead_ms = -600_000);
    unlisted_because(&master, "s1", "behind").await;
    assert!(master.server("s1").await.reason.contains("NTP"));
    server.change(|manners| manners.clock_ahead_ms = 0);
    eventually("listed again", async || master.server("s1").await.listed.then_some(())).await;
}

#[tokio::test]
async fn a_server_that_joins_again_takes_the_place_of_the_old_and_keeps_its_keys() {
    let master = Running::start().await;
    let old = FakeServer::listed(&master, "s1", 9001).await;
    let joined = master.cluster().join(join_request(&master, "s1", 9002)).await.expect("joins").into_inner();
    assert_eq!(joined.ticket_keys, old.keys());
    eventually("the old stream is closed", async || old.is_cut_off().then_some(())).await;
    let heartbeat = master.cluster().heartbeat(with_token(&old.token, tokio_stream::empty())).await;
    assert_eq!(heartbeat.expect_err("replaced").code(), Code::Unauthenticated);
    assert!(!master.server("s1").await.listed, "the new address is still to be proven");
    let _new = FakeServer::attach(&master, joined, Manners::default()).await.expect("attaches");
    eventually("listed", async || master.server("s1").await.listed.then_some(())).await;
    let servers = master.servers().await;
    assert_eq!((servers.len(), servers[0].address.as_str()), (1, "127.0.0.1:9002"));
}

#[tokio::test]
async fn keys_outlive_the_master_and_its_servers_join_again() {
    let mut master = Running::start().await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    let keys = server.keys();
    master.restart(|_| {}).await;
    unlisted_because(&master, "s1", "has not joined").await;
    let heartbeat = master.cluster().heartbeat(with_token(&server.token, tokio_stream::empty())).await;
    assert_eq!(heartbeat.expect_err("not joined").code(), Code::Unauthenticated);
    let again = FakeServer::listed(&master, "s1", 9001).await;
    assert_eq!(again.keys(), keys);
}

#[tokio::test]
async fn ticket_keys_are_replaced_and_the_one_before_stays_good() {
    let master = Running::with(|config| {
        config.ticket_lifetime = Duration::from_secs(1);
        config.ticket_key_rotation = Duration::from_secs(2);
    })
    .await;
    let server = FakeServer::start(&master, "s1", 9001, Manners::default()).await;
    let first = server.joined_with.clone();
    // The first that were sent: on a busy machine those of now may be others.
    let rotated = eventually("new keys", async || {
        server.orders().into_iter().find_map(|order| match order {
            Order::TicketKeys(keys) if keys.keys != first => Some(keys.keys),
            _ => None,
        })
    })
    .await;
    assert_eq!(rotated.len(), 2);
    assert_eq!(rotated[1], first[0], "newest first, then the one before");
    assert_ne!(rotated[0].key_id, first[0].key_id);
    assert_ne!(rotated[0].key, first[0].key);
}

#[tokio::test]
async fn servers_are_told_to_hold_what_is_published_and_to_drop_what_is_not() {
    let master = Running::start().await;
    let before = master.publish("before", 1_000).await.expect("publishes").asset;
    let server = FakeServer::start(&master, "s1", 9001, Manners::default()).await;
    eventually("what was there before it joined", async || server.holds(before).then_some(())).await;
    let after = master.publish("after", 1_000).await.expect("publishes").asset;
    eventually("what came after", async || server.holds(after).then_some(())).await;
    eventually("both count", async || {
        master.videos().await.iter().all(|video| (video.replicas_wanted, video.replicas_held) == (1, 1)).then_some(())
    })
    .await;
    let replaced = master.publish_with("after", 2_000, true, 0).await.expect("replaces").asset;
    eventually("the new version and not the old", async || {
        (server.holds(replaced) && !server.holds(after)).then_some(())
    })
    .await;
    let remove = with_token(&master.admin().await, v1::RemoveVideoRequest { name: "before".into() });
    master.catalogue().remove_video(remove).await.expect("removes");
    eventually("not what was removed", async || (!server.holds(before)).then_some(())).await;
    assert!(server.holds(replaced));
    for asset in [before, after] {
        assert!(server.drops(asset).iter().all(|reason| *reason == v1::DropReason::Removed));
    }
}

/// An older database that was put in place must not cost what was published since.
#[tokio::test]
async fn copies_that_the_database_does_not_know_are_kept_and_shown() {
    let mut master = Running::start().await;
    let removed = master.publish("film", 1_000).await.expect("publishes").asset;
    let remove = with_token(&master.admin().await, v1::RemoveVideoRequest { name: "film".into() });
    master.catalogue().remove_video(remove).await.expect("removes");
    master.restart(|_| {}).await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    let unknown = AssetId(77);
    //= PROTOCOL K3: A master MUST NOT order a copy to be dropped as removed unless a person removed or replaced its video.
    server.hold(unknown, 1, 1, "");
    server.hold(removed, 2, 2, "");
    eventually("what a person removed is dropped", async || (!server.holds(removed)).then_some(())).await;
    eventually("the other is shown", async || {
        let shown = master.server("s1").await;
        (shown.listed && shown.reason.contains("holds 1 copies of videos that this master does not know")).then_some(())
    })
    .await;
    assert!(server.holds(unknown) && server.drops(unknown).is_empty());
}

#[tokio::test]
async fn a_server_of_another_library_does_not_join() {
    let master = Running::start().await;
    let joined = master.cluster().join(join_request(&master, "s1", 9001)).await.expect("joins").into_inner();
    let own = joined.library_id;
    assert_eq!(own.len(), 32);
    let with =
        |library_id: &str| v1::JoinRequest { library_id: library_id.into(), ..join_request(&master, "s1", 9001) };
    master.cluster().join(with(&own)).await.expect("it is of this library");
    let other = "0123456789abcdef0123456789abcdef";
    let refused = master.cluster().join(with(other)).await.expect_err("another library");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    for word in [other, own.as_str(), "database"] {
        assert!(refused.message().contains(word), "{word}: {refused}");
    }
}

#[tokio::test]
async fn what_a_server_refuses_is_shown() {
    let master = Running::start().await;
    let server = FakeServer::listed(&master, "s1", 9001).await;
    server.refuse(AssetId(5), "the copy is kept");
    eventually("the refusal", async || {
        let shown = master.server("s1").await;
        (shown.listed && shown.reason.contains("refused an order") && shown.reason.contains("the copy is kept"))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn as_many_servers_hold_a_video_as_its_publisher_asked_for() {
    let master = Running::start().await;
    let mut servers = Vec::new();
    for (id, port) in [("s1", 9001), ("s2", 9002), ("s3", 9003)] {
        servers.push(FakeServer::listed(&master, id, port).await);
    }
    let two = master.publish_with("two", 1_000, false, 2).await.expect("publishes").asset;
    let all = master.publish("all", 1_000).await.expect("publishes").asset;
    let holders = |asset| servers.iter().filter(|server| server.holds(asset)).count();
    eventually("all hold it", async || (holders(all) == 3).then_some(())).await;
    eventually("two hold it", async || (holders(two) == 2).then_some(())).await;
    eventually("and are counted", async || {
        let videos = master.videos().await;
        let counts: Vec<_> = videos.iter().map(|v| (v.replicas_wanted, v.replicas_held)).collect();
        (counts == [(3, 3), (2, 2)]).then_some(())
    })
    .await;
    let spare = servers.iter().find(|server| !server.holds(two)).expect("one of three");
    spare.hold(two, 2, 2, "");
    eventually("a copy too many is no longer wanted", async || (!spare.drops(two).is_empty()).then_some(())).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(spare.drops(two), [v1::DropReason::Surplus], "it is said once: the whole copy stays");
    assert!(spare.holds(two));
}

#[tokio::test]
async fn a_server_holds_nothing_while_it_has_only_a_part_or_another_length() {
    let master = Running::start().await;
    let lazy = Manners { fills: false, ..Manners::default() };
    let server = FakeServer::start(&master, "s1", 9001, lazy).await;
    let asset = master.publish("film", 1_000_000).await.expect("publishes").asset;
    eventually("listed", async || master.server("s1").await.listed.then_some(())).await;
    // Four extents of the film and one of hashes.
    for (held, total, counts) in [(0, 5, 0), (4, 5, 0), (4, 4, 0), (6, 6, 0), (5, 5, 1)] {
        server.hold(asset, held, total, "");
        server.is_heard(&master).await;
        assert_eq!(master.videos().await[0].replicas_held, counts, "{held} of {total}");
    }
}

#[tokio::test]
async fn a_server_that_comes_back_with_a_part_is_told_to_hold_the_whole() {
    let master = Running::start().await;
    let asset = master.publish("film", 1_000_000).await.expect("publishes").asset;
    let silent = Manners { reports: false, ..Manners::default() };
    let server = FakeServer::start(&master, "s1", 9001, silent).await;
    // Filled by a process that was killed; the one that has joined since was never told of the asset.
    server.hold(asset, 2, 5, "");
    server.change(|manners| manners.reports = true);
    eventually("the rest is filled", async || (master.videos().await[0].replicas_held == 1).then_some(())).await;
}

#[tokio::test]
async fn a_server_that_has_not_told_all_that_it_holds_is_not_listed_and_gets_no_orders_about_assets() {
    let master = Running::start().await;
    let removed = master.publish("film", 1_000_000).await.expect("publishes").asset;
    let asset = master.publish_with("film", 1_000_000, true, 0).await.expect("replaces").asset;
    let slow = Manners { complete: false, fills: false, ..Manners::default() };
    let server = FakeServer::start(&master, "s1", 9001, slow).await;
    server.hold(asset, 5, 5, "");
    server.hold(removed, 5, 5, "");
    unlisted_because(&master, "s1", "not told yet all that it holds: 2 assets").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let about_assets = |order: &Order| matches!(order, Order::Hold(_) | Order::Drop(_));
    assert!(!server.orders().iter().any(about_assets), "{:?}", server.orders());
    assert_eq!(master.videos().await[0].replicas_held, 0);
    server.change(|manners| manners.complete = true);
    eventually("listed", async || master.server("s1").await.listed.then_some(())).await;
    assert_eq!(master.videos().await[0].replicas_held, 1);
    eventually("told to drop what was replaced", async || (!server.holds(removed)).then_some(())).await;
    assert!(!server.orders().iter().any(|order| matches!(order, Order::Hold(_))), "it holds the film already");
}

#[tokio::test]
async fn what_keeps_a_listed_server_from_filling_is_shown() {
    let master = Running::start().await;
    let lazy = Manners { fills: false, ..Manners::default() };
    let server = FakeServer::start(&master, "s1", 9001, lazy).await;
    let asset = master.publish("film", 1_000_000).await.expect("publishes").asset;
    server.hold(asset, 2, 5, "the disk is full");
    eventually("the complaint", async || {
        let shown = master.server("s1").await;
        (shown.listed && shown.reason.contains("the disk is full")).then_some(())
    })
    .await;
}
