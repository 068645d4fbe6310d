//! Logging in.

use std::time::Duration;

use braidcast_proto::v1;
use braidcast_proto::v1::issue_token_response::Result as IssueResult;
use tonic::Code;

use crate::harness::{ADMIN, PASSWORD, Running, eventually, password_grant, refresh_grant, with_token};

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
        ("invalid_grant", password_grant(ADMIN, &"x".repeat(10_000))),
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
async fn wrong_passwords_in_a_row_make_their_sender_wait_whether_the_name_is_real_or_not() {
    let master = Running::with(|config| {
        config.lock_after = 3;
        config.lock_for = Duration::from_secs(3);
    })
    .await;
    let admin = master.admin().await;
    master.user("anna", v1::Role::Viewer).await;
    let mut said = Vec::new();
    for username in ["anna", "nobody"] {
        let refused = eventually("the run is long enough", async || {
            let refused = master.issue(password_grant(username, "wrong horse")).await.expect_err("wrong");
            (refused.error == "access_denied").then_some(refused)
        })
        .await;
        assert!(refused.error_description.contains("wait"), "{}", refused.error_description);
        said.push(refused.error_description);
    }
    let words = |text: &str| text.split(':').next().map(str::to_owned);
    assert_eq!(words(&said[0]), words(&said[1]), "a refusal must not tell who is real");
    // While it is held up, the right password is, too. Each round makes the wait longer, up to the longest.
    let locked = eventually("anna is held up while the list is made", async || {
        let _ = master.issue(password_grant("anna", "wrong horse")).await;
        let request = with_token(&admin, v1::ListUsersRequest {});
        let users = master.users().list_users(request).await.expect("lists").into_inner().users;
        let locked: Vec<_> = users.into_iter().filter(|user| user.locked).map(|user| user.username).collect();
        (!locked.is_empty()).then_some(locked)
    })
    .await;
    assert_eq!(locked, ["anna"]);
    eventually("time opens it", async || master.issue(password_grant("anna", PASSWORD)).await.ok()).await;
}

#[tokio::test]
async fn guesses_side_by_side_all_count() {
    // The second guess after the last allowed one waits for an hour: no test is as slow as that.
    let master = Running::with(|config| config.lock_for = Duration::from_hours(1)).await;
    master.user("anna", v1::Role::Viewer).await;
    let mut guesses = tokio::task::JoinSet::new();
    for n in 0..240 {
        let mut auth = master.auth();
        guesses.spawn(async move { auth.issue_token(password_grant("anna", &format!("guess {n}"))).await });
    }
    let (mut evaluated, mut refused) = (0, 0);
    while let Some(answer) = guesses.join_next().await {
        match answer.expect("ends").map(|answer| answer.into_inner().result) {
            Ok(Some(IssueResult::Error(error))) if error.error == "invalid_grant" => evaluated += 1,
            Ok(Some(IssueResult::Error(error))) if error.error == "access_denied" => refused += 1,
            Err(status) if matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    // Each further guess costs twice the wait of the one before, from 1 s on: a machine on which all this takes a
    // minute lets six more pass.
    assert!((5..=11).contains(&evaluated), "{evaluated} evaluated, {refused} refused");
}

#[tokio::test]
async fn refreshing_and_lists_do_not_wait_behind_passwords() {
    let master = Running::start().await;
    let token = master.login(ADMIN, PASSWORD).await;
    let mut guesses = tokio::task::JoinSet::new();
    for n in 0..60 {
        let mut auth = master.auth();
        guesses.spawn(async move { auth.issue_token(password_grant(&format!("invented{n}"), "a guess")).await });
    }
    master.issue(refresh_grant(&token.refresh_token)).await.expect("refreshes");
    master.videos().await;
    master.login(ADMIN, PASSWORD).await;
    let mut left = 0;
    while let Some(guess) = guesses.try_join_next() {
        left += usize::from(guess.is_ok());
    }
    assert!(left < 60, "all of the queue was served before");
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

#[tokio::test]
async fn a_caller_who_hangs_up_while_its_right_password_is_hashed_has_not_tried_a_wrong_one() {
    let master = Running::start().await;
    for _ in 0..12 {
        // Hashing takes longer than this where it takes its usual time; where the answer is there sooner, nothing is asked.
        let login = master.issue(password_grant(ADMIN, PASSWORD));
        if let Ok(Err(refused)) = tokio::time::timeout(Duration::from_millis(5), login).await {
            panic!("{refused:?}");
        }
    }
    master.issue(password_grant(ADMIN, PASSWORD)).await.expect("none of them was wrong");
}
