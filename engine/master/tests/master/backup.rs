//! Backups: written beside a running master, checked, and put in place of what a folder holds.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use braidcast_master::backup::{self, BackupError, Restored, Written};
use braidcast_master::{IdentityError, MasterConfig, MasterError, StateError};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

use crate::harness::{ADMIN, PASSWORD, Running};

struct Fixture {
    master: Running,
    file: PathBuf,
    dir: tempfile::TempDir,
}

impl Fixture {
    /// A master with the video "film", and a backup of it that was made while it ran.
    async fn with_backup() -> (Self, Written) {
        let master = Running::start().await;
        master.publish("film", 1_000).await.expect("publishes");
        let dir = tempfile::tempdir().expect("temporary folder");
        let file = dir.path().join("braidcast.backup");
        let written = backup::write(&master.config, &file).await.expect("writes");
        (Self { master, file, dir }, written)
    }

    fn folder(&self, name: &str) -> MasterConfig {
        MasterConfig { state_dir: self.dir.path().join(name), ..self.master.config.clone() }
    }

    async fn restore_into(&self, config: &MasterConfig) -> Result<Restored, BackupError> {
        backup::restore(config, &self.file).await
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    // SQLite's own, which come and go.
    names.retain(|name| !name.ends_with("-wal") && !name.ends_with("-shm"));
    names.sort();
    names
}

async fn videos(master: &Running) -> Vec<String> {
    master.videos().await.into_iter().map(|video| video.name).collect()
}

#[tokio::test]
async fn a_backup_of_a_running_master_makes_the_same_master_in_a_fresh_folder() {
    let (mut fixture, written) = Fixture::with_backup().await;
    assert_eq!((written.videos, written.absent.len()), (1, 0));
    assert_eq!(fs::metadata(&fixture.file).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(names(fixture.dir.path()), ["braidcast.backup"], "no temporary file is left");
    fixture.master.publish("later", 1_000).await.expect("goes on");
    let fresh = fixture.folder("fresh");
    let restored = fixture.restore_into(&fresh).await.expect("restores");
    assert_eq!((restored.library, restored.videos, restored.packs), (written.library, 1, 0));
    assert!(restored.moved.is_empty() && restored.made_at > 0);
    let same = |name: &str| {
        let of = |config: &MasterConfig| fs::read(config.state_dir.join(name)).expect("a file");
        assert_eq!(of(&fresh), of(&fixture.master.config), "{name}");
    };
    ["ca.pem", "ca.key", "join-token"].into_iter().for_each(same);
    assert!(restored.origin_empty && !fresh.state_dir.join("origin/library-id").exists());
    // The origin's disk comes along, with a pack that the backup does not know.
    let origin = fixture.master.origin();
    for pack in fixture.master.origin_files().into_iter().chain(["library-id".to_owned()]) {
        fs::copy(origin.join(&pack), fresh.state_dir.join("origin").join(&pack)).expect("copied");
    }
    fixture.master.stop().await;
    fixture.master.config = MasterConfig { bootstrap_admin: None, ..fresh };
    fixture.master.restart(|_| {}).await;
    fixture.master.login(ADMIN, PASSWORD).await;
    assert_eq!(videos(&fixture.master).await, ["film"]);
    assert_eq!(names(&fixture.master.origin().join("orphans")).len(), 1, "what came after the backup is kept");
}

#[tokio::test]
async fn a_restore_keeps_what_it_replaces() {
    let (mut fixture, _) = Fixture::with_backup().await;
    fixture.master.publish("later", 1_000).await.expect("publishes");
    fixture.master.stop().await;
    let config = fixture.master.config.clone();
    let restored = fixture.restore_into(&config).await.expect("restores");
    assert_eq!((restored.videos, restored.packs, restored.origin_empty), (1, 1, false));
    let aside = restored.moved.iter().find(|path| path.to_string_lossy().contains("master.db.before-restore-2"));
    let aside = aside.expect("the database is kept").clone();
    fixture.master.restart(|_| {}).await;
    assert_eq!(videos(&fixture.master).await, ["film"]);
    fixture.master.restart(|config| fs::rename(aside, config.state_dir.join("master.db")).expect("moved")).await;
    assert_eq!(videos(&fixture.master).await, ["film", "later"], "and can be put back");
}

/// Opening a file as a database changes bytes that a backup's digest covers: it would be refused as damaged ever after.
#[tokio::test]
async fn a_backup_in_the_databases_place_is_refused_untouched_and_restores_from_there() {
    let (mut fixture, _) = Fixture::with_backup().await;
    let (file, moved) = (fixture.file.clone(), fixture.dir.path().join("moved.backup"));
    fixture.master.stop().await;
    let put = |config: &MasterConfig| {
        fs::copy(&file, config.state_dir.join("master.db")).expect("copied");
    };
    let error = fixture.master.refused_restart(put).await.to_string();
    assert!(error.contains("is a backup") && error.contains("braidcast restore"), "{error}");
    let config = fixture.master.config.clone();
    fs::rename(config.state_dir.join("master.db"), &moved).expect("moved");
    assert_eq!(fs::read(&moved).expect("there"), fs::read(&fixture.file).expect("there"), "not a byte has changed");
    backup::restore(&config, &moved).await.expect("restores");
    fixture.master.restart(|_| {}).await;
    assert_eq!(videos(&fixture.master).await, ["film"]);
}

/// The id in the origin tells that its disk is mounted, so a restore does not write the id into an empty folder.
#[tokio::test]
async fn a_master_restored_before_its_origin_is_mounted_waits_for_the_disk_or_for_a_person() {
    let (mut fixture, _) = Fixture::with_backup().await;
    let disk = fixture.dir.path().join("disk");
    fs::rename(fixture.master.origin(), &disk).expect("moved");
    let (lost, fresh) = (fixture.folder("lost"), fixture.folder("fresh"));
    for config in [&lost, &fresh] {
        assert!(fixture.restore_into(config).await.expect("restores").origin_empty);
    }
    fixture.master.config = fresh.clone();
    let error = fixture.master.refused_restart(|_| {}).await;
    let is_empty = matches!(error, MasterError::Library(IdentityError::OriginEmpty { assets: 1, .. }));
    assert!(is_empty && error.to_string().contains("--adopt-origin"), "{error}");
    let mount = |config: &MasterConfig| {
        fs::remove_dir_all(config.state_dir.join("origin")).expect("removed");
        fs::rename(&disk, config.state_dir.join("origin")).expect("mounted");
    };
    fixture.master.restart(mount).await;
    assert_eq!(videos(&fixture.master).await, ["film"]);
    // The next start of the host forgets to mount it.
    let origin = fixture.master.origin();
    let unmount = |_: &MasterConfig| fs::rename(&origin, origin.with_extension("away")).expect("moved");
    let error = fixture.master.refused_restart(unmount).await;
    assert!(matches!(error, MasterError::Library(IdentityError::OriginEmpty { .. })), "{error}");

    fixture.master.config = MasterConfig { adopt_origin: true, ..lost };
    fixture.master.restart(|_| {}).await;
    assert_eq!(videos(&fixture.master).await, ["film"], "a person said that the packs are lost");
    fixture.master.config.adopt_origin = false;
    fixture.master.restart(|_| {}).await;
}

#[tokio::test]
async fn a_restore_does_not_touch_a_folder_in_use_or_of_another_library() {
    let (fixture, _) = Fixture::with_backup().await;
    let in_use = fixture.restore_into(&fixture.master.config).await.expect_err("a master runs there");
    assert!(matches!(in_use, BackupError::State(StateError::InUse { .. })), "{in_use}");
    let mut other = Running::start().await;
    other.stop().await;
    let before = names(&other.config.state_dir);
    let error = fixture.restore_into(&other.config).await.expect_err("another library");
    assert!(matches!(error, BackupError::OtherLibrary { .. }), "{error}");
    assert_eq!(names(&other.config.state_dir), before);
}

#[tokio::test]
async fn what_is_no_sound_backup_is_refused_before_anything_changes() {
    let (fixture, _) = Fixture::with_backup().await;
    let sound = fs::read(&fixture.file).expect("readable");
    let fresh = fixture.folder("fresh");
    let mut cut = sound.clone();
    cut.truncate(sound.len() / 2);
    let mut rotten = sound.clone();
    let middle = sound.len() / 2 / 4_096 * 4_096;
    rotten[middle..middle + 4_096].fill(0xee);
    // What is found without the digest.
    let rotten_and_old = rotten[..rotten.len() - DIGEST_BYTES].to_vec();
    let cases = [
        ("empty", vec![], false),
        ("text", b"CREATE TABLE".to_vec(), false),
        ("cut in its second page", sound[..5_000].to_vec(), true),
        ("cut", cut, true),
        ("rotten", rotten, true),
        ("rotten, without a digest", rotten_and_old, true),
    ];
    for (what, bytes, was_backup) in cases {
        fs::write(&fixture.file, bytes).expect("written");
        let error = fixture.restore_into(&fresh).await.expect_err(what);
        match &error {
            BackupError::Damaged { path, .. } => assert!(was_backup && *path == fixture.file, "{what}: {error}"),
            BackupError::NoBackup { .. } => assert!(!was_backup, "{what}: {error}"),
            _ => panic!("{what}: {error}"),
        }
        assert!(!fresh.state_dir.join("master.db").exists(), "{what}");
    }
    let database = fixture.master.config.state_dir.join("master.db");
    let error = backup::restore(&fresh, &database).await.expect_err("a database is no backup");
    assert!(matches!(error, BackupError::NoBackup { .. }), "{error}");
}

/// Where the digest begins, at the end of a backup.
const DIGEST_BYTES: usize = 48;

/// SQLite's integrity check passes all of these: it looks at the structure and not at what rows hold.
#[tokio::test]
async fn one_rotten_bit_in_a_key_a_hash_or_a_token_is_noticed_before_anything_changes() {
    let (fixture, _) = Fixture::with_backup().await;
    let sound = fs::read(&fixture.file).expect("readable");
    let token = fixture.master.join_token();
    let ca_key = fs::read(fixture.master.config.state_dir.join("ca.key")).expect("readable");
    let end = sound.len() - DIGEST_BYTES;
    let fresh = fixture.folder("fresh");
    let mut database = SqliteConnectOptions::new().filename(&fixture.file).connect().await.expect("opens");
    let row = sqlx::query_as("SELECT content_key, header_hash FROM assets").fetch_one(&mut database).await;
    let (content_key, header_hash): (Vec<u8>, Vec<u8>) = row.expect("one video");
    database.close().await.expect("closes");
    let token = token.into_bytes();
    let places =
        [("content key", content_key), ("header hash", header_hash), ("join token", token), ("ca.key", ca_key)];
    for (what, wanted) in places {
        let found = sound.windows(wanted.len()).position(|bytes| bytes == wanted).expect(what);
        let mut rotten = sound.clone();
        rotten[found + wanted.len() / 2] ^= 1;
        fs::write(&fixture.file, &rotten).expect("written");
        let error = fixture.restore_into(&fresh).await.expect_err(what);
        assert!(matches!(error, BackupError::Damaged { .. }), "{what}: {error}");
        assert!(!fresh.state_dir.join("master.db").exists(), "{what}");
        // As it would have been before there was a digest.
        fs::write(&fixture.file, &rotten[..end]).expect("written");
        let unnoticed = fixture.restore_into(&fixture.folder(what)).await;
        assert_eq!(unnoticed.is_ok(), what != "ca.key", "{what}: {unnoticed:?}");
    }
    fs::write(&fixture.file, &sound[..end]).expect("written");
    assert!(!fixture.restore_into(&fixture.folder("older")).await.expect("is taken").has_digest);
    fs::write(&fixture.file, &sound).expect("written");
    assert!(fixture.restore_into(&fresh).await.expect("is sound").has_digest);
}

#[tokio::test]
async fn a_backup_replaces_a_backup_and_no_other_file() {
    let (fixture, _) = Fixture::with_backup().await;
    backup::write(&fixture.master.config, &fixture.file).await.expect("replaces");
    for occupied in ["master.db", "ca.key"] {
        let path = fixture.master.config.state_dir.join(occupied);
        let before = fs::read(&path).expect("readable");
        let error = backup::write(&fixture.master.config, &path).await.expect_err(occupied);
        assert!(matches!(error, BackupError::Occupied { .. }), "{error}");
        assert_eq!(fs::read(&path).expect("readable"), before);
    }
    let error = backup::write(&fixture.folder("nowhere"), &fixture.file).await.expect_err("no master");
    assert!(matches!(error, BackupError::NoDatabase { .. }), "{error}");
}

#[tokio::test]
async fn a_second_restore_in_the_same_second_keeps_what_the_first_set_aside() {
    let (mut fixture, _) = Fixture::with_backup().await;
    fixture.master.publish("later", 1_000).await.expect("publishes");
    fixture.master.stop().await;
    let config = fixture.master.config.clone();
    let original = fs::read(config.state_dir.join("master.db")).expect("the database");
    let database = |restored: &Restored| {
        let is_database = |path: &&PathBuf| path.to_string_lossy().contains("master.db.before-restore-");
        restored.moved.iter().find(is_database).expect("the database is kept").clone()
    };
    let mut kept = Vec::new();
    for _ in 0..3 {
        kept.push(database(&fixture.restore_into(&config).await.expect("restores")));
    }
    assert_eq!(fs::read(&kept[0]).expect("it is still there"), original);
    kept.dedup();
    assert_eq!(kept.len(), 3, "{kept:?}");
}

#[tokio::test]
async fn a_log_that_is_set_aside_is_still_its_databases() {
    let (mut fixture, _) = Fixture::with_backup().await;
    fixture.master.stop().await;
    let config = fixture.master.config.clone();
    // What a master leaves that was killed.
    fs::write(config.state_dir.join("master.db-wal"), "log").expect("written");
    let restored = fixture.restore_into(&config).await.expect("restores");
    let moved = |end: &str| restored.moved.iter().find(|path| path.to_string_lossy().ends_with(end));
    let log = moved("-wal").expect("the log is kept").to_string_lossy().into_owned();
    let database = log.strip_suffix("-wal").expect("it ends so");
    assert!(restored.moved.iter().any(|path| path == Path::new(database)), "{:?}", restored.moved);
}

#[tokio::test]
async fn an_origin_without_an_id_and_with_packs_of_others_is_not_stamped() {
    let (mut fixture, _) = Fixture::with_backup().await;
    let config = fixture.folder("foreign");
    fs::create_dir_all(config.state_dir.join("origin")).expect("made");
    let mut other = Running::start().await;
    other.publish("theirs", 1_000).await.expect("publishes");
    other.stop().await;
    for pack in other.origin_files() {
        fs::copy(other.origin().join(&pack), config.state_dir.join("origin").join(&pack)).expect("copied");
    }
    fs::write(config.state_dir.join("origin/library-id"), "").expect("as a crash leaves it");
    let error = fixture.restore_into(&config).await.expect_err("none of these packs is ours");
    assert!(matches!(error, BackupError::ForeignPacks { packs: 1, .. }), "{error}");
    fixture.master.stop().await;
}
