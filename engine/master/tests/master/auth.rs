//! Logging in.

use std::time::Duration;

use braidcast_proto::v1;
use tonic::Code;

use crate::harness::{ADMIN, PASSWORD, Running, password_grant, refresh_grant, with_token};

#[tokio::test]
async fn every_refusal_has_its_oauth_error() {
    let master = Running::start().await;
    let good = || password_grant(ADMIN, PASSWORD);
    let cases = [
        ("invalid_request", v1::IssueTokenRequest { grant_type: String::new(), ..good() }),
        ("invalid_request", v1::IssueTokenRequest { client_id: String::new(), ..good() }),
        ("invalid_request", v1::IssueTokenRequest { username: String::new(), ..good() }),
        ("invalid_request", v1::IssueTokenRequest { password: String::new(), ..good() }),
        ("invalid_request", refresh_grant("")),
        ("invalid_client", v1::IssueTokenRequest { client_id: "curl".into(), ..good() }),
        ("unsupported_grant_type", v1::IssueTokenRequest { grant_type: "client_credentials".into(), ..good() }),
        ("invalid_grant", password_grant(ADMIN, "wrong horse")),
        ("invalid_grant", password_grant("nobody", PASSWORD)),
        ("invalid_grant", password_grant(ADMIN, &"x".repeat(100_000))),
        ("invalid_grant", refresh_grant("garbage")),
    ];
    for (error, request) in cases {
        let password = request.password.clone();
        let refused = master.issue(request).await.expect_err(error);
        assert_eq!(refused.error, error);
        assert!(!refused.error_description.is_empty());
        let leaks = !password.is_empty() && refused.error_description.contains(&password);
        assert!(!leaks, "{}", refused.error_description);
    }
    master.issue(good()).await.expect("and the right one passes");
}

#[tokio::test]
async fn a_token_says_how_long_it_lasts_and_opens_the_services() {
    let master = Running::with(|config| config.token_lifetime = Duration::from_secs(77)).await;
    let token = master.login(ADMIN, PASSWORD).await;
    assert_eq!((token.expires_in_sec, token.token_type.as_str()), (77, "Bearer"));
    let request = with_token(&token.access_token, v1::ListVideosRequest {});
    assert!(master.catalogue().list_videos(request).await.expect("passes").into_inner().videos.is_empty());
}

#[tokio::test]
async fn a_refresh_token_is_good_once() {
    let master = Running::start().await;
    let first = master.login(ADMIN, PASSWORD).await;
    let second = master.issue(refresh_grant(&first.refresh_token)).await.expect("is good");
    assert_ne!(first.refresh_token, second.refresh_token);
    let request = with_token(&second.access_token, v1::ListUsersRequest {});
    master.users().list_users(request).await.expect("the role is kept");
    let refused = master.issue(refresh_grant(&first.refresh_token)).await.expect_err("is spent");
    assert_eq!(refused.error, "invalid_grant");
    master.issue(refresh_grant(&second.refresh_token)).await.expect("the next one is good");
}

#[tokio::test]
async fn wrong_passwords_lock_an_account_even_for_the_right_one_until_time_opens_it() {
    // Time enough for the passwords to be hashed while the lock lasts, on a machine that is busy.
    let lock_for = Duration::from_secs(10);
    let master = Running::with(|config| {
        config.lock_after = 3;
        config.lock_for = lock_for;
    })
    .await;
    let admin = master.admin().await;
    master.user("anna", v1::Role::Viewer).await;
    for username in ["anna", "nobody"] {
        for _ in 0..3 {
            let refused = master.issue(password_grant(username, "wrong horse")).await.expect_err("wrong");
            assert_eq!(refused.error, "invalid_grant");
        }
        let refused = master.issue(password_grant(username, PASSWORD)).await.expect_err("locked");
        assert_eq!(refused.error, "access_denied", "{username}: a lock must not tell who is real");
    }
    let request = with_token(&admin, v1::ListUsersRequest {});
    let users = master.users().list_users(request).await.expect("lists").into_inner().users;
    let locked: Vec<_> = users.iter().filter(|user| user.locked).map(|user| user.username.as_str()).collect();
    assert_eq!(locked, ["anna"]);
    tokio::time::sleep(lock_for).await;
    master.login("anna", PASSWORD).await;
}

#[tokio::test]
async fn without_a_good_token_no_service_answers() {
    let master = Running::with(|config| config.token_lifetime = Duration::from_secs(1)).await;
    let stale = master.admin().await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    for (token, said) in [(stale.as_str(), "expired"), ("garbage", "log in again"), ("a.b.c", "log in again")] {
        let refused = master.catalogue().list_videos(with_token(token, v1::ListVideosRequest {})).await;
        let status = refused.expect_err("refused");
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(said) && !status.message().contains(token), "{}", status.message());
    }
    let codes = [
        master.users().list_users(v1::ListUsersRequest {}).await.expect_err("no token").code(),
        master.catalogue().list_servers(v1::ListServersRequest {}).await.expect_err("no token").code(),
        master.publishing().begin_publish(v1::BeginPublishRequest::default()).await.expect_err("no token").code(),
        master.distribution().redistribute(v1::RedistributeRequest::default()).await.expect_err("no token").code(),
        master.origin_client().read_pack(v1::ReadPackRequest::default()).await.expect_err("no token").code(),
        master.cluster().heartbeat(tokio_stream::empty()).await.expect_err("no token").code(),
    ];
    assert_eq!(codes, [Code::Unauthenticated; 6]);
}

#[tokio::test]
async fn a_users_token_does_not_open_what_is_for_servers() {
    let master = Running::start().await;
    let token = master.admin().await;
    let read = master.origin_client().read_pack(with_token(&token, v1::ReadPackRequest::default())).await;
    assert_eq!(read.expect_err("refused").code(), Code::Unauthenticated);
    let heartbeat = master.cluster().heartbeat(with_token(&token, tokio_stream::empty())).await;
    assert_eq!(heartbeat.expect_err("refused").code(), Code::Unauthenticated);
}
