//! Accounts and roles.

use braidcast_proto::v1;
use tokio::task::JoinSet;
use tonic::Code;

use crate::harness::{ADMIN, PASSWORD, Running, eventually, password_grant, refresh_grant, with_token};

fn add(username: &str, password: &str, role: v1::Role) -> v1::AddUserRequest {
    v1::AddUserRequest { username: username.into(), password: password.into(), role: role.into() }
}

fn set(username: &str, password: &str) -> v1::SetPasswordRequest {
    v1::SetPasswordRequest { username: username.into(), password: password.into() }
}

#[tokio::test]
async fn each_role_may_do_its_own_and_no_more() {
    let master = Running::start().await;
    let viewer = master.user("vera", v1::Role::Viewer).await;
    let publisher = master.user("paul", v1::Role::Publisher).await;
    let begin =
        || v1::BeginPublishRequest { name: "film".into(), bytes: 1, replace: false, replicas: 0, ..Default::default() };
    let remove = || v1::RemoveVideoRequest { name: "film".into() };

    let refused = master.publishing().begin_publish(with_token(&viewer, begin())).await.expect_err("a viewer");
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("PUBLISHER") && refused.message().contains("VIEWER"), "{refused}");
    let refused = master.catalogue().remove_video(with_token(&viewer, remove())).await.expect_err("a viewer");
    assert_eq!(refused.code(), Code::PermissionDenied);
    master.publishing().begin_publish(with_token(&publisher, begin())).await.expect("a publisher");
    let absent = master.catalogue().remove_video(with_token(&publisher, remove())).await.expect_err("no such video");
    assert_eq!(absent.code(), Code::NotFound);

    for token in [&viewer, &publisher] {
        let codes = [
            master.users().add_user(with_token(token, add("x", PASSWORD, v1::Role::Admin))).await.map(|_| ()),
            master.users().set_password(with_token(token, set(ADMIN, PASSWORD))).await.map(|_| ()),
            master
                .users()
                .remove_user(with_token(token, v1::RemoveUserRequest { username: ADMIN.into() }))
                .await
                .map(|_| ()),
            master.users().list_users(with_token(token, v1::ListUsersRequest {})).await.map(|_| ()),
        ]
        .map(|answer| answer.expect_err("no administrator").code());
        assert_eq!(codes, [Code::PermissionDenied; 4]);
        master.catalogue().list_videos(with_token(token, v1::ListVideosRequest {})).await.expect("all may look");
    }
}

#[tokio::test]
async fn a_user_changes_its_own_password_and_old_logins_end() {
    let master = Running::start().await;
    master.user("anna", v1::Role::Viewer).await;
    let login = master.login("anna", PASSWORD).await;
    master.users().set_password(with_token(&login.access_token, set("anna", "new password"))).await.expect("its own");
    assert!(master.issue(password_grant("anna", PASSWORD)).await.is_err());
    assert!(master.issue(refresh_grant(&login.refresh_token)).await.is_err());
    master.login("anna", "new password").await;
}

#[tokio::test]
async fn names_and_passwords_that_are_not_allowed_are_refused_without_showing_the_password() {
    let master = Running::start().await;
    let admin = master.admin().await;
    for (username, password) in [("", PASSWORD), ("two words", PASSWORD), ("anna", "seven77"), ("anna", "")] {
        let request = with_token(&admin, add(username, password, v1::Role::Viewer));
        let refused = master.users().add_user(request).await.expect_err("refused");
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(password.is_empty() || !refused.message().contains(password), "{refused}");
    }
    let request = with_token(&admin, add("anna", PASSWORD, v1::Role::Unspecified));
    assert_eq!(master.users().add_user(request).await.expect_err("no role").code(), Code::InvalidArgument);
    let request = with_token(&admin, add(ADMIN, PASSWORD, v1::Role::Viewer));
    assert_eq!(master.users().add_user(request).await.expect_err("taken").code(), Code::AlreadyExists);
    let request = with_token(&admin, set("nobody", PASSWORD));
    assert_eq!(master.users().set_password(request).await.expect_err("unknown").code(), Code::NotFound);
}

#[tokio::test]
async fn a_removed_user_is_out_and_the_last_administrator_stays() {
    let master = Running::start().await;
    let admin = master.admin().await;
    master.user("anna", v1::Role::Viewer).await;
    let login = master.login("anna", PASSWORD).await;
    let remove = |username: &str| with_token(&admin, v1::RemoveUserRequest { username: username.into() });
    master.users().remove_user(remove("anna")).await.expect("removes");
    assert!(master.issue(password_grant("anna", PASSWORD)).await.is_err());
    assert!(master.issue(refresh_grant(&login.refresh_token)).await.is_err());
    assert_eq!(master.users().remove_user(remove("anna")).await.expect_err("gone").code(), Code::NotFound);
    let refused = master.users().remove_user(remove(ADMIN)).await.expect_err("the last one");
    assert_eq!(refused.code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_token_of_a_removed_user_does_not_own_the_next_account_of_that_name() {
    let master = Running::start().await;
    let admin = master.admin().await;
    let old = master.user("anna", v1::Role::Viewer).await;
    let remove = with_token(&admin, v1::RemoveUserRequest { username: "anna".into() });
    master.users().remove_user(remove).await.expect("removes");
    master.user("anna", v1::Role::Viewer).await;
    let refused = master.users().set_password(with_token(&old, set("anna", "stolen password"))).await;
    assert_eq!(refused.expect_err("another anna").code(), Code::Unauthenticated);
}

/// An access token outlives its account by minutes. Whoever holds one must not trade it for an account that stays.
#[tokio::test]
async fn a_removed_administrator_makes_no_account_and_sets_no_password_also_after_a_restart() {
    let mut master = Running::start().await;
    let admin = master.admin().await;
    let eve = master.user("eve", v1::Role::Admin).await;
    let remove = with_token(&admin, v1::RemoveUserRequest { username: "eve".into() });
    master.users().remove_user(remove).await.expect("removes");
    for state in ["at once", "after a restart"] {
        let made = master.users().add_user(with_token(&eve, add("mallory", PASSWORD, v1::Role::Admin))).await;
        assert_eq!(made.expect_err("eve is out").code(), Code::Unauthenticated, "{state}");
        let set = master.users().set_password(with_token(&eve, set(ADMIN, "stolen password"))).await;
        assert_eq!(set.expect_err("eve is out").code(), Code::Unauthenticated, "{state}");
        let remove = with_token(&eve, v1::RemoveUserRequest { username: ADMIN.into() });
        let removed = master.users().remove_user(remove).await;
        assert_eq!(removed.expect_err("eve is out").code(), Code::Unauthenticated, "{state}");
        let list = master.catalogue().list_videos(with_token(&eve, v1::ListVideosRequest {})).await;
        assert_eq!(list.expect_err("eve is out").code(), Code::Unauthenticated, "{state}");
        if state == "at once" {
            master.restart(|_| {}).await;
        }
    }
}

/// Calls wait for their passwords to be hashed, and who may make them was looked at before that alone.
#[tokio::test]
async fn calls_of_an_administrator_that_wait_when_it_is_removed_change_nothing() {
    let master = Running::start().await;
    let admin = master.admin().await;
    let eve = master.user("eve", v1::Role::Admin).await;
    let mut waiting = JoinSet::new();
    for n in 0..60 {
        let (mut users, request) = (master.users(), with_token(&eve, add(&format!("m{n}"), PASSWORD, v1::Role::Admin)));
        waiting.spawn(async move { users.add_user(request).await.map(|_| ()) });
    }
    let (mut users, request) = (master.users(), with_token(&eve, set(ADMIN, "stolen password")));
    waiting.spawn(async move { users.set_password(request).await.map(|_| ()) });
    let count = async || {
        let list = master.users().list_users(with_token(&admin, v1::ListUsersRequest {})).await;
        list.expect("the administrator may").into_inner().users.len()
    };
    eventually("some were made", async || (count().await > 2).then_some(())).await;
    let remove = with_token(&admin, v1::RemoveUserRequest { username: "eve".into() });
    master.users().remove_user(remove).await.expect("removes");
    let made = count().await;
    let ends = waiting.join_all().await;
    assert!(ends.iter().any(|end| matches!(end, Err(status) if status.code() == Code::Unauthenticated)), "{ends:?}");
    assert_eq!(count().await, made);
    master.login(ADMIN, PASSWORD).await;
}

/// A new password is what one sets when somebody else may be signed in.
#[tokio::test]
async fn a_new_password_puts_out_whoever_holds_an_access_token_of_the_account() {
    let master = Running::start().await;
    let admin = master.admin().await;
    let thief = master.user("vera", v1::Role::Viewer).await;
    master.users().set_password(with_token(&admin, set("vera", "another password"))).await.expect("sets");
    let again = master.users().set_password(with_token(&thief, set("vera", "the thief's own"))).await;
    assert_eq!(again.expect_err("void").code(), Code::Unauthenticated);
    let vera = master.login("vera", "another password").await.access_token;
    master.catalogue().list_videos(with_token(&vera, v1::ListVideosRequest {})).await.expect("a new token");
}

#[tokio::test]
async fn the_first_administrator_is_made_once() {
    let mut master = Running::start().await;
    let admin = master.admin().await;
    master.users().set_password(with_token(&admin, set(ADMIN, "changed password"))).await.expect("sets");
    master.restart(|_| {}).await;
    assert!(master.issue(password_grant(ADMIN, PASSWORD)).await.is_err(), "a start must not undo the change");
    master.login(ADMIN, "changed password").await;
}
