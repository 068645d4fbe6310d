//! Starting again after a crash, and starting where one should not.

use braidcast_master::{Master, MasterError};
use braidcast_proto::v1;

use crate::harness::{ADMIN, PASSWORD, Running, endpoint, refresh_grant, with_token};

#[tokio::test]
async fn what_was_there_is_there_after_a_restart() {
    let mut master = Running::start().await;
    let login = master.login(ADMIN, PASSWORD).await;
    let asset = master.publish("film", 1_000_000).await.expect("publishes").asset;
    master.restart(|_| {}).await;
    let videos = master.videos().await;
    assert_eq!(videos.iter().map(|video| (video.asset, video.bytes)).collect::<Vec<_>>(), [(asset.0, 1_000_000)]);
    let request = with_token(&login.access_token, v1::ListVideosRequest {});
    master.catalogue().list_videos(request).await.expect("access tokens stay good");
    master.issue(refresh_grant(&login.refresh_token)).await.expect("refresh tokens stay good");
}

#[tokio::test]
async fn a_start_removes_partial_packs_and_keeps_whole_ones_as_orphans() {
    let mut master = Running::start().await;
    let asset = master.publish("film", 1_000).await.expect("publishes").asset;
    let pack = format!("{asset}.pack");
    master
        .restart(|config| {
            let origin = config.state_dir.join("origin");
            std::fs::write(origin.join("0123456789abcdef.pack.partial"), "half").expect("written");
            // Renamed, and killed before the row was there.
            std::fs::copy(origin.join(&pack), origin.join("0123456789abcdef.pack")).expect("copied");
        })
        .await;
    let mut expected = [pack, "orphans".to_owned()];
    expected.sort();
    assert_eq!(master.origin_files(), expected);
    assert!(master.origin().join("orphans/0123456789abcdef.pack").exists());
    assert_eq!(master.videos().await.len(), 1);
}

#[tokio::test]
async fn a_second_master_on_the_same_state_is_refused() {
    let master = Running::start().await;
    let error = Master::start(master.config.clone()).await.map(|_| ()).expect_err("in use");
    assert!(matches!(error, MasterError::State(_)), "{error}");
    assert!(error.to_string().contains("another master"), "{error}");
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let holder = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = holder.local_addr().expect("bound");
    let dir = tempfile::tempdir().expect("temporary folder");
    let config = braidcast_master::MasterConfig {
        listen: address,
        state_dir: dir.path().to_owned(),
        ..braidcast_master::MasterConfig::default()
    };
    let error = Master::start(config).await.map(|_| ()).expect_err("taken");
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

#[tokio::test]
async fn a_client_that_trusts_another_ca_does_not_connect() {
    let (one, other) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
    let config = |dir: &tempfile::TempDir| braidcast_master::MasterConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        state_dir: dir.path().to_owned(),
        ..braidcast_master::MasterConfig::default()
    };
    let master = Master::start(config(&one)).await.expect("starts");
    let foreign = Master::start(config(&other)).await.expect("starts");
    let ca = |dir: &tempfile::TempDir| std::fs::read(config(dir).ca_path()).expect("the CA");
    assert!(endpoint(&master, &ca(&other)).connect().await.is_err());
    assert!(endpoint(&master, &ca(&one)).connect().await.is_ok());
    foreign.shutdown().await;
}

#[tokio::test]
async fn nothing_secret_is_readable_by_others() {
    use std::os::unix::fs::PermissionsExt;
    let master = Running::start().await;
    master.publish("film", 1_000).await.expect("publishes");
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    let state = &master.config.state_dir;
    assert_eq!(mode(state), 0o700);
    for name in ["ca.key", "join-token", "master.db", "master.db-wal", "master.db-shm"] {
        assert_eq!(mode(&state.join(name)), 0o600, "{name}");
    }
}
