//! The library is not lost by accident: a master on the wrong database touches nothing, a backup brings a master back
//! on another host, and packs that nobody knows wait for a person.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use braidcast_client::Profile;
use braidcast_proto::v1::Condition;

use crate::support::{
    Client, Cluster, Mount, Process, braidcast, eventually, file_names, packs, sha256_of_file, skip, write_film,
};

// Exit codes, as `braidcast --help` lists them.
const OTHER: i32 = 1;
const USAGE: i32 = 2;
const NOT_FOUND: i32 = 4;
const INTEGRITY: i32 = 6;
const LOCAL_FILE: i32 = 7;

const MIB: u64 = 1024 * 1024;

fn database(cluster: &Cluster) -> PathBuf {
    cluster.path("master/master.db")
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
}

/// Publishes a film of its own under `name`, held by one server, and gives its SHA-256.
fn publish(cluster: &Cluster, name: &str) -> String {
    let path = cluster.path(&format!("{name}.film"));
    let sha256 = write_film(&path, 2 * MIB, name.len() as u64);
    cluster.publish(&path, name, 1);
    sha256
}

fn fetch(client: &Client, name: &str, to: &Path) -> String {
    client.wait_held(name, 1);
    assert!(client.get(name).to(to).finish().report().verified);
    sha256_of_file(to)
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort();
    names
}

#[test]
fn a_master_on_no_database_or_anothers_touches_nothing_and_goes_on_with_its_own() {
    let mut cluster = Cluster::start(&[]);
    cluster.add_server(&[]);
    cluster.wait_listed(1);
    let sha256 = publish(&cluster, "film");
    cluster.stop_master();
    let (origin, server) = (cluster.path("master/origin"), cluster.path("server-1"));
    let held = || (sorted(packs(&origin)), sorted(packs(&server)));
    let before = held();
    let away = cluster.path("away.db");
    fs::rename(database(&cluster), &away).expect("moved");

    let id = fs::read_to_string(origin.join("library-id")).expect("the origin's id");
    cluster.assert_master_refused(&["master.db is new", "holds 1 videos", id.trim(), "braidcast restore FILE"]);
    assert!(!database(&cluster).exists());

    let mut other = Cluster::start(&[]);
    other.stop_master();
    copy(&database(&other), &database(&cluster));
    cluster.assert_master_refused(&["belongs to library", id.trim(), "Nothing was changed", "--adopt-origin"]);

    assert_eq!(held(), before);
    fs::rename(&away, database(&cluster)).expect("put back");
    cluster.start_master(&[]);
    cluster.wait_listed(1);
    assert_eq!(fetch(cluster.client(), "film", &cluster.path("copy")), sha256);
}

#[test]
fn what_an_older_database_does_not_know_waits_for_a_person_or_for_the_newer_one() {
    let mut cluster = Cluster::start(&[]);
    cluster.add_server(&[]);
    cluster.wait_listed(1);
    let first = publish(&cluster, "first");
    cluster.stop_master();
    let (older, newer) = (cluster.path("older.db"), cluster.path("newer.db"));
    copy(&database(&cluster), &older);
    cluster.start_master(&[]);
    cluster.wait_listed(1);
    let second = publish(&cluster, "second");
    cluster.stop_master();
    copy(&database(&cluster), &newer);
    copy(&older, &database(&cluster));
    cluster.start_master(&[]);
    cluster.wait_listed(1);

    let client = cluster.client();
    assert_eq!(client.names(), ["first"]);
    let orphans = file_names(&cluster.path("master/origin/orphans"));
    let [orphan] = orphans.as_slice() else { panic!("one orphan: {orphans:?}") };
    let listed = client.run(["orphans"]).success();
    assert!(listed.contains(orphan.trim_end_matches(".pack")), "{listed}");
    let doctor = client.run(["doctor"]).stdout;
    assert!(doctor.contains("warn  orphans: 1 whole packs"), "{doctor}");
    client.run(["orphans", "--delete-all"]).assert_refused(USAGE, &["--yes"]);
    assert_eq!(file_names(&cluster.path("master/origin/orphans")).len(), 1);
    let viewer = client.add_viewer("ada");
    assert_ne!(viewer.run(["orphans"]).code, Some(0), "administrators only");
    assert!(!viewer.run(["doctor"]).stdout.contains("orphans"));

    cluster.stop_master();
    copy(&newer, &database(&cluster));
    cluster.start_master(&[]);
    cluster.wait_listed(1);
    let client = cluster.client();
    for (name, sha256) in [("first", first), ("second", second)] {
        assert_eq!(fetch(client, name, &cluster.path("copy")), sha256, "{name}");
    }
    assert!(file_names(&cluster.path("master/origin/orphans")).is_empty());
}

#[test]
fn an_orphan_goes_when_a_person_says_so() {
    let mut cluster = Cluster::start(&[]);
    cluster.stop_master();
    let packs = ["0000000000000001", "0000000000000002", "0000000000000003"];
    for pack in packs {
        fs::write(cluster.path("master/origin").join(format!("{pack}.pack")), pack).expect("written");
    }
    cluster.start_master(&[]);
    let client = cluster.client();
    let said = client.run(["orphans", "--yes", "--delete", packs[0]]).success();
    assert!(said.contains("deleted 1 orphans, 16 B"), "{said}");
    let again = client.run(["orphans", "--yes", "--delete", packs[0]]);
    again.assert_refused(NOT_FOUND, &["1 of the 1 orphans", "braidcast orphans"]);
    let orphans = cluster.path("master/origin/orphans");
    assert_eq!(sorted(file_names(&orphans)), [format!("{}.pack", packs[1]), format!("{}.pack", packs[2])]);
    let said = client.run(["orphans", "--yes", "--delete-all"]).success();
    assert!(said.contains("deleted 2 orphans"), "{said}");
    assert!(file_names(&orphans).is_empty());
}

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("a pack");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("within the pack");
    file.write_all_at(&[byte[0] ^ 1], offset).expect("writable");
}

/// The pack was moved to the orphans under the id that its header named then, and `--delete-all` deleted the last copy.
#[test]
fn a_pack_whose_asset_id_rots_is_damaged_in_its_place_and_no_orphan_that_a_person_could_delete() {
    const ASSET_ID_AT: u64 = 8;
    let mut cluster = Cluster::start(&[]);
    let film = cluster.path("film");
    write_film(&film, MIB, 1);
    for name in ["first", "second"] {
        cluster.client().publish(&film, &["--name", name]).success();
    }
    let origin = cluster.path("master/origin");
    let asset = cluster.client().ask(async |control| control.video("first").await.expect("it was published")).asset;
    cluster.stop_master();
    let pack = origin.join(format!("{asset:016x}.pack"));
    flip(&pack, ASSET_ID_AT + 4);
    let rotten = fs::read(&pack).expect("readable");
    cluster.start_master(&[]);
    let client = cluster.client();
    let shown = eventually("it is shown", || {
        let video = client.ask(async |control| control.video("first").await.expect("it is there"));
        (video.condition() == Condition::Damaged && video.condition_reason.contains("media server")).then_some(video)
    });
    assert!(shown.condition_reason.contains("header of its pack"), "{shown:?}");
    let doctor = client.run(["doctor"]).stdout;
    assert!(doctor.contains("first") && !doctor.contains("orphans"), "{doctor}");
    let said = client.run(["orphans", "--delete-all", "--yes"]).success();
    assert!(said.contains("deleted 0 orphans"), "{said}");
    assert!(!origin.join("orphans").exists());
    assert_eq!(fs::read(&pack).expect("it is there"), rotten);
}

#[test]
fn an_orphan_that_may_be_the_only_copy_of_a_video_is_not_deleted_before_the_video_is_healed_or_removed() {
    let mut cluster = Cluster::start(&[]);
    let film = cluster.path("film");
    write_film(&film, MIB, 1);
    cluster.client().publish(&film, &["--name", "first"]).success();
    let id = cluster.client().ask(async |control| control.video("first").await.expect("it was published")).asset;
    let asset = format!("{id:016x}");
    cluster.stop_master();
    let (origin, orphans) = (cluster.path("master/origin"), cluster.path("master/origin/orphans"));
    fs::create_dir_all(&orphans).expect("made");
    let orphan = orphans.join(format!("{asset}.pack"));
    fs::rename(origin.join(format!("{asset}.pack")), &orphan).expect("moved");
    // So that a start does not take it back.
    flip(&orphan, 100);
    let kept = fs::read(&orphan).expect("readable");
    let stranger = orphans.join("0000000000000001.pack");
    fs::write(&stranger, "x").expect("written");
    cluster.start_master(&[]);
    let client = cluster.client();
    let listed = client.run(["orphans"]).success();
    assert!(listed.contains("NEEDED BY") && listed.lines().any(|line| line.ends_with("first")), "{listed}");
    let doctor = client.run(["doctor"]).stdout;
    for words in ["1 whole packs in the origin's folder", "1 files in the origin's folder", "\"first\""] {
        assert!(doctor.contains(words), "{words}: {doctor}");
    }
    let refused = &["1 orphans were kept", &asset, "\"first\"", "the video was removed"][..];
    client.run(["orphans", "--yes", "--delete", &asset]).assert_refused(OTHER, refused);
    client.run(["orphans", "--yes", "--delete-all"]).assert_refused(OTHER, refused);
    assert!(!stranger.exists(), "nobody needs that one");
    assert_eq!(fs::read(&orphan).expect("it is kept"), kept);
    client.run(["rm", "first"]).success();
    let said = client.run(["orphans", "--yes", "--delete", &asset]).success();
    assert!(said.contains("deleted 1 orphans") && !orphan.exists(), "{said}");
}

#[test]
fn a_backup_brings_the_master_back_on_another_host_and_address() {
    let mut cluster = Cluster::start(&[]);
    cluster.add_server(&[]);
    cluster.wait_listed(1);
    let sha256 = publish(&cluster, "film");
    let (old, new) = (cluster.path("master"), cluster.path("other-host"));
    let file = cluster.path("braidcast.backup");
    let run = |command: &str, file: &Path, state: &Path| {
        let arguments = [OsStr::new(command), file.as_os_str(), OsStr::new("--state"), state.as_os_str()];
        Process::start(arguments).finish()
    };
    let said = run("backup", &file, &old).success();
    assert!(said.contains("1 videos"), "{said}");
    assert_eq!(fs::metadata(&file).expect("a backup").permissions().mode() & 0o777, 0o600);
    run("restore", &file, &old).assert_refused(OTHER, &["in use by another master"]);
    run("backup", &cluster.path("master/ca.key"), &old).assert_refused(USAGE, &["ca.key", "no backup"]);
    run("restore", &cluster.path("film.film"), &new).assert_refused(INTEGRITY, &["film.film", "no backup"]);
    let cut = cluster.path("cut.backup");
    let whole = fs::read(&file).expect("readable");
    fs::write(&cut, &whole[..whole.len() / 2]).expect("written");
    run("restore", &cut, &new).assert_refused(INTEGRITY, &["cut.backup", "damaged or cut off", "another backup"]);

    // The host is gone, and all packs with it.
    cluster.master().kill();
    let said = run("restore", &file, &new).success();
    for words in
        ["1 videos, 0 of whose packs", "next: mount the origin's disk", "if the packs are lost", "--adopt-origin"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    fs::remove_dir_all(&old).expect("it is lost");
    let master = [OsStr::new("master"), OsStr::new("--exit-with-parent"), OsStr::new("--listen")];
    let master = master.into_iter().chain([OsStr::new("127.0.0.1:0"), OsStr::new("--state"), new.as_os_str()]);
    Process::start(master.clone()).finish().assert_refused(OTHER, &["origin is empty", "--adopt-origin"]);
    let mut master = Process::start(master.chain([OsStr::new("--adopt-origin")]));
    let address = master.wait_line("master listening ");

    cluster.server(1).kill();
    let state = cluster.path("server-1");
    let (ca, token) = (new.join("ca.pem"), new.join("join-token"));
    let server = ["serve", "--exit-with-parent", "--listen", "127.0.0.1:0", "--master", &address].map(OsStr::new);
    let server =
        server.into_iter().chain([OsStr::new("--state"), state.as_os_str(), OsStr::new("--ca"), ca.as_os_str()]);
    let _server = Process::start(server.chain([OsStr::new("--join-token-file"), token.as_os_str()]));

    // The authority is the same, so a client needs the new address and nothing else.
    let mut profile = Profile::load(cluster.client().profile()).expect("a profile");
    profile.master = address;
    profile.save().expect("writable");
    let client = Client::new(profile.path);
    assert_eq!(fetch(&client, "film", &cluster.path("copy")), sha256);
    eventually("the media server has given the pack back", || (packs(&new.join("origin")).len() == 1).then_some(()));
    eventually("the durable copy is sound", || {
        let video = client.ask(async |control| control.video("film").await.expect("it is there"));
        (video.condition() == Condition::Sound).then_some(())
    });
}

/// The log was moved before its database: killed in between, the next master had lost the videos that were in the log.
#[test]
fn a_restore_that_is_killed_at_any_rename_leaves_what_was_there_or_a_folder_that_no_master_starts_on() {
    let is_traced = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    if !is_traced(Command::new("strace").args(["-o", "/dev/null", "true"])) {
        return skip("killing a process at a system call needs strace, and the permission to trace");
    }
    let mut cluster = Cluster::start(&[]);
    let (film, file, state) = (cluster.path("film"), cluster.path("braidcast.backup"), cluster.path("master"));
    write_film(&film, MIB / 8, 1);
    cluster.client().publish(&film, &["--name", "first"]).success();
    let backup = [OsStr::new("backup"), file.as_os_str(), OsStr::new("--state"), state.as_os_str()];
    Process::start(backup).finish().success();
    // A master that stops writes its log into the database, which has content from then on.
    cluster.stop_master();
    cluster.start_master(&[]);
    cluster.client().publish(&film, &["--name", "second"]).success();
    cluster.master().kill();
    let of_database = |state: &Path| ["master.db", "master.db-wal"].map(|name| fs::read(state.join(name)).ok());
    let is_filled = |file: &Option<Vec<u8>>| file.as_ref().is_some_and(|bytes| !bytes.is_empty());
    assert!(of_database(&state).iter().all(is_filled), "the second video is in the log");
    for number in 1.. {
        let copy = cluster.path(&format!("killed-{number}"));
        assert!(Command::new("cp").arg("-a").args([&state, &copy]).status().expect("runs").success());
        let restore = braidcast([OsStr::new("restore"), file.as_os_str(), OsStr::new("--state"), copy.as_os_str()]);
        let mut traced = Command::new("strace");
        traced.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=/^rename", "-e"]);
        traced.arg(format!("inject=/^rename:signal=KILL:when={number}"));
        traced.arg(restore.get_program()).args(restore.get_args());
        if Process::spawn(traced, false).finish().code == Some(0) {
            assert!(number > 8, "the mark, the database, its log and three files are renamed: {number}");
            break;
        }
        if of_database(&copy) != of_database(&state) {
            let master = ["master", "--exit-with-parent", "--listen", "127.0.0.1:0", "--state"].map(OsStr::new);
            let refused = Process::start(master.into_iter().chain([copy.as_os_str()])).finish();
            refused.assert_refused(OTHER, &["was interrupted", "braidcast restore", "braidcast.backup"]);
        }
        let said = Process::start(restore.get_args()).finish().success();
        assert!(said.contains("1 videos"), "{number}: {said}");
    }
}

/// SQLite's error would name the backup, which is on another disk.
#[test]
fn a_restore_onto_a_full_disk_names_that_disk_and_leaves_nothing_of_the_database() {
    let cluster = Cluster::start(&[]);
    let (file, disk, master) = (cluster.path("braidcast.backup"), cluster.path("small"), cluster.path("master"));
    fs::create_dir(&disk).expect("own folder");
    let Some(_disk) = Mount::tmpfs(&disk, "size=1m,mode=700") else { return skip("mounting a small disk needs root") };
    let run = |command: &str, state: &Path| {
        let arguments = [OsStr::new(command), file.as_os_str(), OsStr::new("--state"), state.as_os_str()];
        Process::start(arguments).finish()
    };
    run("backup", &master).success();
    run("restore", &disk).assert_refused(LOCAL_FILE, &["small is full", "bytes there", "are free"]);
    let left = file_names(&disk);
    assert!(left.iter().all(|name| !name.contains("master.db") && !name.contains("ca.")), "{left:?}");
}

#[test]
fn a_master_keeps_a_snapshot_of_today_that_can_be_restored() {
    let mut cluster = Cluster::start(&[]);
    let backups = cluster.path("master/backups");
    let snapshot = eventually("today's snapshot is there", || {
        let names = if backups.exists() { file_names(&backups) } else { Vec::new() };
        names.into_iter().find(|name| name.starts_with("braidcast-2") && name.ends_with(".backup"))
    });
    assert_eq!(fs::metadata(&backups).expect("a folder").permissions().mode() & 0o777, 0o700);
    cluster.stop_master();
    fs::remove_file(database(&cluster)).expect("it is lost");
    let (state, file) = (cluster.path("master"), backups.join(snapshot));
    let arguments = [OsStr::new("restore"), file.as_os_str(), OsStr::new("--state"), state.as_os_str()];
    let said = Process::start(arguments).finish().success();
    assert!(said.contains("0 videos"), "{said}");
    cluster.start_master(&[]);
    assert!(cluster.client().names().is_empty(), "the account is there, and lists");
}

/// The file stayed open and took all changes, and nobody heard of it until the next start had none of them.
#[test]
fn a_database_that_is_deleted_while_the_master_runs_is_told_of_and_can_be_put_back() {
    let mut cluster = Cluster::start(&[]);
    cluster.add_server(&[]);
    cluster.wait_listed(1);
    let film = cluster.path("film");
    write_film(&film, MIB, 1);
    cluster.publish(&film, "first", 1);
    let state = cluster.path("master");
    let files = ["master.db", "master.db-wal", "master.db-shm"].map(|name| state.join(name));
    files.iter().for_each(|file| fs::remove_file(file).expect("the master has it open"));
    let client = cluster.client();
    client.publish(&film, &["--name", "second"]).assert_refused(OTHER, &["master.db", "moved or deleted"]);
    assert_eq!(client.names(), ["first"]);
    eventually("doctor tells of it", || client.run(["doctor"]).stdout.contains("master.db.rescued").then_some(()));
    cluster.stop_master();
    let _ = fs::remove_file(&files[0]);
    fs::rename(state.join("master.db.rescued"), &files[0]).expect("it was written");
    cluster.start_master(&[]);
    cluster.publish(&film, "second", 1);
    assert_eq!(cluster.client().names(), ["first", "second"]);
}
