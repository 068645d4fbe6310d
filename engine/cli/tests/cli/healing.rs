//! The origin loses or damages packs, and gets them back from the media servers, while clients download.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use braidcast_proto::v1::Condition;

use crate::support::{Cluster, Dev, eventually, sha256_of_file, write_film};

const FILM_BYTES: u64 = 20_000_000;
/// Exit code, as `braidcast --help` lists it; also of a `doctor` that found something.
const OTHER: i32 = 1;

fn flip(path: &Path, offset: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).expect("the pack");
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).expect("within the pack");
    file.write_all_at(&[!byte[0]], offset).expect("writable");
}

fn pack_name(cluster: &Cluster, name: &str) -> String {
    let video = cluster.client().ask(async |control| control.video(name).await.expect("it was published"));
    format!("{:016x}.pack", video.asset)
}

fn condition(cluster: &Cluster, name: &str) -> Condition {
    cluster.client().ask(async |control| control.video(name).await.expect("it was published")).condition()
}

/// A master, one server, and a film that the server holds; the film's hash, and the origin's pack.
fn cluster() -> (Cluster, String, PathBuf) {
    let mut cluster = Cluster::start(&[]);
    cluster.add_server(&[]);
    cluster.wait_listed(1);
    let file = cluster.path("film");
    let sha256 = write_film(&file, FILM_BYTES, 1);
    cluster.publish(&file, "film", 1);
    let pack = cluster.path("master/origin").join(pack_name(&cluster, "film"));
    (cluster, sha256, pack)
}

#[test]
fn a_pack_that_is_lost_at_the_origin_comes_back_from_a_server_while_clients_download() {
    let (mut cluster, sha256, pack) = cluster();
    let sound = sha256_of_file(&pack);
    fs::remove_file(&pack).expect("removed");
    // A second server asks the origin to fill from it, which finds that the pack is gone.
    cluster.add_server(&[]);
    let download = cluster.client().get("film").to(&cluster.path("copy")).start();
    eventually("the pack is back", || pack.exists().then_some(()));
    assert_eq!(sha256_of_file(&pack), sound);
    download.wait().report();
    assert_eq!(sha256_of_file(&cluster.path("copy")), sha256);
    eventually("it is sound", || (condition(&cluster, "film") == Condition::Sound).then_some(()));
    cluster.client().wait_held("film", 2);
}

#[test]
fn damage_that_the_master_finds_when_it_starts_is_shown_until_it_is_healed() {
    let mut dev = Dev::of([("film", FILM_BYTES)]).servers(1).start();
    let asset = dev.client().ask(async |control| control.video("film").await.expect("it was published")).asset;
    let pack = dev.state().join("master/origin").join(format!("{asset:016x}.pack"));
    let sound = sha256_of_file(&pack);
    for damage in ["a flipped byte of the header", "a flipped byte of the asset's id in it", "cut short", "gone"] {
        dev.kill_server(1);
        dev.kill_master();
        match damage {
            "a flipped byte of the header" => flip(&pack, 100),
            "a flipped byte of the asset's id in it" => flip(&pack, 12),
            "cut short" => {
                let file = OpenOptions::new().write(true).open(&pack).expect("the pack");
                file.set_len(3_000_000).expect("cut");
            }
            _ => fs::remove_file(&pack).expect("removed"),
        }
        dev.restart_master();
        let word = if damage == "gone" { "lost" } else { "damaged" };
        eventually("ls shows it", || dev.client().run(["ls"]).stdout.contains(word).then_some(()));
        let info = dev.client().run(["info", "film"]).success();
        assert!(info.contains(word), "{damage}: {info}");
        let doctor = dev.client().run(["doctor"]);
        assert_eq!(doctor.code, Some(OTHER), "{damage}: {}", doctor.stdout);
        assert!(doctor.stdout.contains(word), "{damage}: {}", doctor.stdout);
        dev.restart_server(1);
        eventually("it is healed", || {
            let video = dev.client().ask(async |control| control.video("film").await.expect("it is there"));
            (video.condition() == Condition::Sound).then_some(())
        });
        assert_eq!(sha256_of_file(&pack), sound, "{damage}");
    }
}

#[test]
fn a_byte_that_flips_at_the_origin_is_found_by_a_fill_and_healed() {
    let (mut cluster, sha256, pack) = cluster();
    let sound = sha256_of_file(&pack);
    flip(&pack, FILM_BYTES / 2);
    // The next round of the scrub is an hour away.
    cluster.add_server(&[]);
    cluster.client().wait_held("film", 2);
    eventually("it is sound", || (sha256_of_file(&pack) == sound).then_some(()));
    cluster.server(1).kill();
    cluster.client().get("film").to(&cluster.path("copy")).finish().report();
    assert_eq!(sha256_of_file(&cluster.path("copy")), sha256);
}

/// A disk that is unmounted leaves the folder that it was mounted on: another folder in the origin's place.
#[test]
fn nothing_is_written_where_the_origins_disk_was_unmounted_and_the_library_goes_on_when_it_is_back() {
    let (cluster, sha256, pack) = cluster();
    let (origin, away) = (cluster.path("master/origin"), cluster.path("away"));
    fs::rename(&origin, &away).expect("own folder");
    fs::create_dir(&origin).expect("made");
    let (second, copy) = (cluster.path("second"), cluster.path("copy"));
    write_film(&second, 1_000_000, 2);
    let client = cluster.client();
    let refused = &["master/origin", "mount the origin's disk"];
    client.publish(&second, &["--name", "second"]).assert_refused(OTHER, refused);
    eventually("it is shown", || (condition(&cluster, "film") == Condition::Damaged).then_some(()));
    let info = client.run(["info", "film"]).success();
    assert!(info.contains("mount the origin's disk"), "{info}");
    client.get("film").to(&copy).finish().report();
    assert_eq!(sha256_of_file(&copy), sha256);
    assert_eq!(fs::read_dir(&origin).expect("a folder").count(), 0, "nothing was written");

    fs::remove_dir(&origin).expect("still empty");
    fs::rename(&away, &origin).expect("back");
    eventually("it is sound again", || (condition(&cluster, "film") == Condition::Sound).then_some(()));
    assert!(pack.exists());
    cluster.publish(&second, "second", 1);
}

/// Moves the database's files, its write-ahead log among them, from one folder to another.
fn move_database(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for name in ["master.db", "master.db-wal", "master.db-shm"] {
        if from.join(name).exists() {
            fs::rename(from.join(name), to.join(name)).expect("moved");
        }
    }
}

#[test]
fn an_older_database_costs_no_copy_on_any_server_and_the_right_one_serves_them_again() {
    let mut dev = Dev::of([("first", 3_000_000)]).servers(1).start();
    let (state, older, newer) = (dev.state().join("master"), dev.path("older"), dev.path("newer"));
    dev.kill_master();
    move_database(&state, &older);
    fs::create_dir_all(&newer).expect("a folder");
    for file in fs::read_dir(&older).expect("the files").map(|entry| entry.expect("a file").path()) {
        fs::copy(&file, state.join(file.file_name().expect("a name"))).expect("copied");
    }
    dev.restart_master();
    let file = dev.path("second");
    let sha256 = write_film(&file, 3_000_000, 2);
    dev.client().publish(&file, &["--name", "second"]).success();
    dev.client().wait_held("second", 1);
    let asset = dev.client().ask(async |control| control.video("second").await.expect("it was published")).asset;
    let copy = dev.state().join("server-1").join(format!("{asset:016x}.pack"));
    eventually("the copy has its name", || copy.exists().then_some(()));

    dev.kill_master();
    move_database(&state, &newer);
    move_database(&older, &state);
    dev.restart_master();
    eventually("the copy that nobody knows is shown", || {
        dev.client().servers().iter().any(|server| server.reason.contains("does not know")).then_some(())
    });
    assert!(copy.exists(), "it is kept");

    dev.kill_master();
    move_database(&state, &older);
    move_database(&newer, &state);
    dev.restart_master();
    dev.client().wait_held("second", 1);
    dev.client().get("second").to(&dev.path("copy")).finish().report();
    assert_eq!(sha256_of_file(&dev.path("copy")), sha256);
}
