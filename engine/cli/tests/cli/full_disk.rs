//! A master whose disk is full to the last byte: people sign in, list, fetch and remove, and what is refused names the
//! disk.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use crate::support::{Cluster, Mount, eventually, sha256_of_file, skip, write_film};

// Exit code, as `braidcast --help` lists it.
const OTHER: i32 = 1;

const MIB: u64 = 1024 * 1024;

/// Writes to `path` until the disk takes no further byte.
fn fill(path: &Path) {
    let mut file = File::create(path).expect("a new file");
    for length in [1 << 20, 1 << 12, 1] {
        let bytes = vec![0xaa; length];
        while file.write_all(&bytes).is_ok() {}
    }
}

/// A master whose state folder is a disk of its own, of so many MiB. `None`, and counted as skipped, where nothing may be
/// mounted.
fn on_a_small_disk(mib: u64) -> Option<(Cluster, Mount)> {
    let mut disk = None;
    let mount = |folder: &Path| {
        fs::create_dir(folder.join("master")).expect("own folder");
        disk = Mount::tmpfs(&folder.join("master"), &format!("size={mib}m,mode=700"));
    };
    let cluster = Cluster::start_prepared(mount, &[], &[]);
    if disk.is_none() {
        skip("mounting a small disk needs root");
    }
    Some((cluster, disk?))
}

#[test]
fn on_a_full_disk_people_sign_in_list_fetch_and_remove_and_then_publish_again() {
    let Some((mut cluster, _disk)) = on_a_small_disk(96) else { return };
    cluster.add_server(&[]);
    cluster.wait_listed(1);
    let reserve = cluster.path("master/reserve");
    eventually("the reserve is there", || reserve.exists().then_some(()));
    let film = cluster.path("film");
    let sha256 = write_film(&film, 5 * MIB, 1);
    for name in ["first", "second"] {
        cluster.publish(&film, name, 1);
    }

    let filler = cluster.path("master/filler");
    fill(&filler);
    let client = cluster.client();
    assert_eq!(client.names(), ["first", "second"]);
    client
        .publish(&film, &["--name", "third"])
        .assert_refused(OTHER, &["master/origin is full", "0 are free beside 16777216 that are kept for the database"]);
    let viewer = client.add_viewer("ada");
    assert_eq!(viewer.names(), ["first", "second"], "an account is added, and signs in");
    let copy = cluster.path("copy");
    viewer.get("second").to(&copy).finish().report();
    assert_eq!(sha256_of_file(&copy), sha256);
    client.run(["rm", "first"]).success();
    assert_eq!(client.names(), ["second"]);
    eventually("doctor names the disk", || {
        let said = client.run(["doctor"]).stdout;
        said.lines().any(|line| line.starts_with("FAIL  disk of ") && line.contains("full")).then_some(())
    });
    client.publish(&film, &["--name", "third"]).assert_refused(OTHER, &["master/origin is full"]);

    fs::remove_file(&filler).expect("own file");
    eventually("the reserve is made again", || reserve.exists().then_some(()));
    cluster.publish(&film, "third", 1);
    cluster.client().get("third").to(&copy).finish().report();
    assert_eq!(sha256_of_file(&copy), sha256);
}

/// A write that failed on the full disk left its connection in a transaction that nobody committed: what was answered on it
/// later was lost with the next start.
#[test]
fn what_is_answered_after_a_disk_was_full_is_still_so_after_a_restart() {
    let Some((mut cluster, _disk)) = on_a_small_disk(96) else { return };
    cluster.add_server(&[]);
    cluster.wait_listed(1);
    let film = cluster.path("film");
    write_film(&film, MIB, 1);
    let all = ["a", "b", "c", "d"];
    all.iter().for_each(|name| cluster.publish(&film, name, 1));
    let fillers = [1, 2, 3].map(|number| cluster.path(&format!("master/filler-{number}")));
    for filler in &fillers {
        // The reserve goes to the first write that needs it, and then to the next filler.
        fill(filler);
        for name in ["a", "b", "nobody's"] {
            // Done or refused, as the room of that moment is.
            let _ = cluster.client().run(["rm", name]);
        }
    }
    fillers.iter().for_each(|filler| fs::remove_file(filler).expect("own file"));
    let client = cluster.client();
    client.run(["rm", "c"]).success();
    client.publish(&film, &["--name", "d", "--replace"]).success();
    client.publish(&film, &["--name", "e"]).success();
    let _ = client.add_viewer("ada");
    let names = client.names();
    assert!(!names.contains(&"c".to_owned()) && names.contains(&"e".to_owned()), "{names:?}");
    cluster.stop_master();
    cluster.start_master(&[]);
    assert_eq!(cluster.client().names(), names);
    assert!(cluster.client().run(["user", "ls"]).success().contains("ada"));
    let doctor = cluster.client().run(["doctor"]).stdout;
    assert!(!doctor.contains("no sound copy") && !doctor.contains("lost"), "{doctor}");
}

#[test]
fn a_master_starts_on_a_full_disk() {
    let Some((mut cluster, _disk)) = on_a_small_disk(64) else { return };
    let reserve = cluster.path("master/reserve");
    eventually("the reserve is there", || reserve.exists().then_some(()));
    cluster.stop_master();
    fill(&cluster.path("master/filler"));
    cluster.start_master(&[]);
    assert!(cluster.client().names().is_empty(), "it is served");
    assert!(!reserve.exists(), "in the reserve's room");
}
