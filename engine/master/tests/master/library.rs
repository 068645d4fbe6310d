//! A database and an origin that do not belong together: the master does not start, and no pack is touched.

use std::fs;
use std::path::{Path, PathBuf};

use braidcast_master::{BootstrapAdmin, IdentityError, Master, MasterConfig, MasterError, backup};

use crate::harness::{ADMIN, PASSWORD, Running};

fn database(config: &MasterConfig) -> PathBuf {
    config.state_dir.join("master.db")
}

/// Moves the database away; the master has closed it, so it is one file.
fn move_away(config: &MasterConfig) {
    fs::rename(database(config), database(config).with_extension("away")).expect("moved");
}

fn put_back(config: &MasterConfig) {
    fs::rename(database(config).with_extension("away"), database(config)).expect("moved");
}

fn library_id(config: &MasterConfig) -> PathBuf {
    config.state_dir.join("origin/library-id")
}

fn refusal(error: MasterError) -> IdentityError {
    match error {
        MasterError::Library(error) => error,
        other => panic!("refused for another reason: {other}"),
    }
}

async fn names(master: &Running) -> Vec<String> {
    master.videos().await.into_iter().map(|video| video.name).collect()
}

#[tokio::test]
async fn a_master_that_starts_without_its_database_refuses_and_touches_no_pack() {
    let mut master = Running::start().await;
    master.publish("film", 1_000_000).await.expect("publishes");
    let files = master.origin_files();
    let id = fs::read_to_string(library_id(&master.config)).expect("the id");
    let error = refusal(master.refused_restart(move_away).await);
    assert!(matches!(error, IdentityError::NewDatabase { packs: 1, bytes, .. } if bytes > 1_000_000), "{error}");
    let text = error.to_string();
    for word in [id.trim(), "braidcast restore", "master.db", "Nothing was changed"] {
        assert!(text.contains(word), "{word:?} is missing in {text}");
    }
    assert_eq!(master.origin_files(), files);
    assert!(!database(&master.config).exists(), "no new one is in the way of the old one");
    assert!(matches!(refusal(master.refused_restart(|_| {}).await), IdentityError::NewDatabase { .. }));
    assert_eq!(master.origin_files(), files);
    master.restart(put_back).await;
    assert_eq!(names(&master).await, ["film"]);
}

#[tokio::test]
async fn a_database_of_another_library_is_refused_and_its_own_is_taken_again() {
    let (mut master, mut other) = (Running::start().await, Running::start().await);
    master.publish("film", 1_000).await.expect("publishes");
    other.publish("other", 1_000).await.expect("publishes");
    other.stop().await;
    let files = master.origin_files();
    let foreign = database(&other.config);
    let swap = |config: &MasterConfig| {
        move_away(config);
        fs::copy(&foreign, database(config)).expect("copied");
    };
    let error = refusal(master.refused_restart(swap).await);
    assert!(
        matches!(error, IdentityError::Differ { database_id, origin_id, .. } if database_id != origin_id),
        "{error}"
    );
    assert_eq!(master.origin_files(), files);
    master.restart(put_back).await;
    assert_eq!(names(&master).await, ["film"]);
}

#[tokio::test]
async fn what_an_older_database_does_not_know_becomes_an_orphan_and_comes_back_with_the_newer_one() {
    let mut master = Running::start().await;
    master.publish("first", 1_000).await.expect("publishes");
    let copy = |from: &Path, to: &Path| fs::copy(from, to).map(|_| ()).expect("copied");
    master.restart(|config| copy(&database(config), &database(config).with_extension("older"))).await;
    let second = master.publish("second", 1_000).await.expect("publishes").asset;
    let orphan = master.origin().join(format!("orphans/{second}.pack"));
    master
        .restart(|config| {
            move_away(config);
            copy(&database(config).with_extension("older"), &database(config));
        })
        .await;
    assert_eq!(names(&master).await, ["first"]);
    assert!(orphan.exists(), "kept until a person decides");
    master.restart(put_back).await;
    assert_eq!(names(&master).await, ["first", "second"]);
    assert!(!orphan.exists());
    let read = master.origin().join(format!("{second}.pack"));
    assert!(read.exists());
}

#[tokio::test]
async fn a_pack_that_a_person_removed_is_deleted_at_the_start_and_is_no_orphan() {
    let mut master = Running::start().await;
    let asset = master.publish("film", 1_000).await.expect("publishes").asset;
    let pack = master.origin().join(format!("{asset}.pack"));
    let kept = fs::read(&pack).expect("a pack");
    master.publish_with("film", 2_000, true, 0).await.expect("replaces");
    // As if the master had been killed before it removed the pack.
    master.restart(|_| fs::write(&pack, &kept).expect("written")).await;
    assert!(!pack.exists() && !master.origin().join("orphans").exists());
}

#[tokio::test]
async fn folders_of_before_there_were_ids_are_adopted_once_if_their_packs_match() {
    let mut master = Running::start().await;
    master.publish("film", 1_000).await.expect("publishes");
    master.stop().await;
    let forget = |config: &MasterConfig| {
        fs::remove_file(library_id(config)).expect("removed");
        fs::copy(database(config), database(config).with_extension("copy")).expect("copied");
    };
    // The database keeps its id: the origin's folder is one that bears none.
    master.restart(forget).await;
    let id = fs::read_to_string(library_id(&master.config)).expect("written again");
    assert_eq!(id.trim().len(), 32);
    let stranger = master.origin().join("0123456789abcdef.pack");
    let add_stranger = |config: &MasterConfig| {
        fs::remove_file(library_id(config)).expect("removed");
        fs::write(&stranger, "a pack of another library").expect("written");
    };
    let error = refusal(master.refused_restart(add_stranger).await);
    assert!(matches!(error, IdentityError::Mismatch { .. }), "{error}");
    assert!(error.to_string().contains("0123456789abcdef.pack is not in the database"), "{error}");
    assert!(stranger.exists() && !library_id(&master.config).exists());
    master.config.adopt_origin = true;
    master.restart(|_| {}).await;
    assert!(!stranger.exists() && master.origin().join("orphans/0123456789abcdef.pack").exists());
    assert_eq!(fs::read_to_string(library_id(&master.config)).expect("marked"), id);
}

#[tokio::test]
async fn an_origin_that_is_not_mounted_is_refused_until_a_person_says_that_it_is_lost() {
    let mut master = Running::start().await;
    master.publish("film", 1_000).await.expect("publishes");
    let origin = master.origin();
    let away = origin.with_extension("unmounted");
    let unmount = |_: &MasterConfig| fs::rename(&origin, &away).expect("moved");
    let error = refusal(master.refused_restart(unmount).await);
    assert!(matches!(error, IdentityError::OriginEmpty { assets: 1, .. }), "{error}");
    assert!(error.to_string().contains("--adopt-origin"), "{error}");
    master
        .restart(|_| {
            fs::remove_dir_all(&origin).expect("removed");
            fs::rename(&away, &origin).expect("mounted again");
        })
        .await;
    assert_eq!(names(&master).await, ["film"]);
}

#[tokio::test]
async fn what_is_left_of_a_database_keeps_a_master_from_making_a_new_one() {
    for left in ["master.db-wal", "master.db.before-restore-20260101T000000Z", "origin/library-id", "reserve"] {
        let dir = tempfile::tempdir().expect("temporary folder");
        let config = MasterConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            state_dir: dir.path().join("state"),
            ..MasterConfig::default()
        };
        std::fs::create_dir_all(config.state_dir.join("origin")).expect("made");
        std::fs::write(config.state_dir.join(left), "of an earlier database").expect("written");
        let adopting = MasterConfig { adopt_origin: true, ..config };
        let error = refusal(Master::start(adopting).await.map(|_| ()).expect_err(left));
        assert!(matches!(error, IdentityError::DatabaseGone { .. }) && error.to_string().contains(left), "{error}");
        assert!(
            std::fs::read_to_string(dir.path().join("state").join(left)).is_ok_and(|text| text.starts_with("of an"))
        );
    }
}

/// The daily snapshots of a library whose state folder is not mounted would be rotated away for those of an empty one.
#[tokio::test]
async fn snapshots_that_know_videos_keep_a_master_from_making_a_new_database() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let backups = dir.path().join("other-disk");
    let mut master = Running::with(|config| config.backup_dir = Some(backups.clone())).await;
    master.publish("film", 1_000).await.expect("publishes");
    let older = backups.join("braidcast-2020-01-01.backup");
    let newest = backups.join("braidcast-2020-01-02.backup");
    for file in [&older, &newest] {
        backup::write(&master.config, file).await.expect("writes");
    }
    master.stop().await;
    let unmounted = dir.path().join("unmounted");
    fs::create_dir(&unmounted).expect("made");
    let config = MasterConfig { state_dir: unmounted.clone(), ..master.config.clone() };
    let id = fs::read_to_string(library_id(&master.config)).expect("the id");
    for adopt_origin in [false, true] {
        let config = MasterConfig { adopt_origin, ..config.clone() };
        let error = refusal(Master::start(config).await.map(|_| ()).expect_err("snapshots stand"));
        assert!(matches!(error, IdentityError::SnapshotsStand { videos: 1, .. }), "{error}");
        let restore = format!("braidcast restore {} --state {}`", newest.display(), unmounted.display());
        for word in [id.trim(), "master.db", "mount", &restore, "--backup-dir"] {
            assert!(error.to_string().contains(word), "{word:?} is missing in {error}");
        }
    }
    for made in ["ca.key", "join-token", "reserve", "master.db", "origin/library-id"] {
        assert!(!unmounted.join(made).exists(), "{made} would be hidden by the disk");
    }
    assert!(older.exists() && newest.exists());
    let elsewhere = MasterConfig { backup_dir: Some(dir.path().join("new")), ..config };
    Master::start(elsewhere).await.expect("a new library").shutdown().await;
    master.restart(|_| {}).await;
    assert_eq!(names(&master).await, ["film"]);
}

#[tokio::test]
async fn a_database_that_is_gone_is_not_made_anew_while_the_origin_is_not_mounted() {
    let mut master = Running::start().await;
    master.publish("film", 1_000).await.expect("publishes");
    let origin = master.origin();
    let snapshot = master.config.backup_path().join("braidcast-2999-01-01.backup");
    backup::write(&master.config, &snapshot).await.expect("writes");
    let lose = |config: &MasterConfig| {
        move_away(config);
        fs::rename(&origin, origin.with_extension("unmounted")).expect("moved");
        fs::create_dir(&origin).expect("the mount point");
    };
    let error = refusal(master.refused_restart(lose).await);
    assert!(matches!(error, IdentityError::DatabaseGone { .. }), "{error}");
    assert!(error.to_string().contains(&format!("braidcast restore {}", snapshot.display())), "{error}");
    // A disk that was full has no reserve; the snapshots alone tell.
    let give_up = |config: &MasterConfig| fs::remove_file(config.state_dir.join("reserve")).unwrap_or_default();
    let error = refusal(master.refused_restart(give_up).await);
    assert!(matches!(error, IdentityError::DatabaseGone { .. }), "{error}");
    assert!(!database(&master.config).exists() && !library_id(&master.config).exists());
}

#[tokio::test]
async fn a_first_start_that_failed_on_its_way_may_be_tried_again() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let admin =
        |password: &str| Some(BootstrapAdmin { username: ADMIN.to_owned(), password: password.to_owned().into() });
    let config = MasterConfig {
        listen: "127.0.0.1:0".parse().expect("an address"),
        state_dir: dir.path().join("state"),
        bootstrap_admin: admin("short"),
        ..MasterConfig::default()
    };
    let error = Master::start(config.clone()).await.map(|_| ()).expect_err("too short");
    assert!(matches!(error, MasterError::AdminPassword(_)), "{error}");
    let config = MasterConfig { bootstrap_admin: admin(PASSWORD), ..config };
    Master::start(config.clone()).await.expect("the second try").shutdown().await;
    // What stands if the first start is killed before it makes the database.
    let killed = MasterConfig { state_dir: dir.path().join("killed"), ..config.clone() };
    fs::create_dir(&killed.state_dir).expect("made");
    for name in ["ca.key", "ca.pem", "join-token"] {
        fs::copy(config.state_dir.join(name), killed.state_dir.join(name)).expect("copied");
    }
    Master::start(killed).await.expect("the second try").shutdown().await;
}
