//! A file is published whole or leaves no trace, whatever is wrong with it, its name or the disk, and the error names
//! the culprit and the remedy.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::support::{
    Cluster, Dev, Mount, OrdinaryUser, Process, assert_holds_only, eventually, file_names, packs, read_so_far,
    sha256_of_file, skip, write_film,
};

// Exit codes, as `braidcast --help` lists them.
const OTHER: i32 = 1;
const USAGE: i32 = 2;
const LOCAL_FILE: i32 = 7;

const MIB: u64 = 1024 * 1024;

#[test]
fn what_is_no_readable_file_is_not_published() {
    let dev = Dev::of([]).servers(1).start();
    let folder = dev.path("folder");
    fs::create_dir(&folder).expect("writable");
    let pipe = dev.path("pipe");
    mkfifo(&pipe, Mode::S_IRUSR).expect("a file system with pipes");
    let missing = dev.path("missing.mp4");
    for (path, words) in [
        (folder.as_path(), &["folder", "a directory", "name the files"][..]),
        (Path::new(".."), &["..", "a directory"]),
        (pipe.as_path(), &["pipe", "name the files"]),
        (Path::new("/dev/zero"), &["/dev/zero", "a device"]),
        (missing.as_path(), &["missing.mp4", "No such file", "is the path right"]),
    ] {
        dev.client().publish(path, &[]).assert_refused(LOCAL_FILE, words);
    }
    let good = film(&dev, "good", 1_000);
    let some = dev.client().run([
        OsStr::new("publish"),
        OsStr::new("--as-file"),
        missing.as_os_str(),
        good.as_os_str(),
        folder.as_os_str(),
    ]);
    some.assert_refused(LOCAL_FILE, &["missing.mp4", "folder", "2 of 3 files were not published"]);
    assert_holds_only(&dev, &["good"]);
}

#[test]
fn a_file_that_the_user_may_not_read_is_not_published() {
    let dev = Dev::of([]).servers(1).start();
    let Some(user) = OrdinaryUser::of(dev.client()) else { return };
    let path = user.path("secret.mp4");
    write_film(&path, 1_000, 1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("own file");
    let output = user.run(["publish".as_ref(), "--as-file".as_ref(), path.as_os_str()]);
    output.assert_refused(LOCAL_FILE, &["secret.mp4", "Permission denied", "the right to read"]);
    assert_holds_only(&dev, &[]);
}

#[test]
fn a_name_that_is_taken_goes_to_another_file_only_on_request() {
    let dev = Dev::of([("film", 700_000)]).servers(1).start();
    let client = dev.client();
    let other = film(&dev, "other", 900_000);
    let output = client.publish(&other, &["--name", "film"]);
    output.assert_refused(USAGE, &["\"film\"", "there already", "`--replace`"]);
    assert_eq!(fetched(&dev, "film"), dev.film("film").sha256);
    client.publish(&other, &["--name", "film", "--replace"]).success();
    client.wait_held("film", 1);
    assert_eq!(fetched(&dev, "film"), sha256_of_file(&other));
    assert_holds_only(&dev, &["film"]);
}

#[test]
fn names_that_a_file_can_have_are_kept_and_others_refused() {
    let dev = Dev::of([]).servers(1).start();
    let (client, path) = (dev.client(), film(&dev, "source", 5_000));
    let longest = "é".repeat(127) + "x";
    let lawful = ["two  words", "Grüße 映画 🎬.mp4", "it's \"quoted\" & $HOME", "-dash", ".hidden", "a%2Fb", &longest];
    for name in lawful {
        let named = format!("--name={name}");
        client.publish(&path, &[&named]).success();
        client.wait_held(name, 1);
        assert_eq!(fetched(&dev, name), sha256_of_file(&path), "{name:?}");
    }
    let too_long = "x".repeat(300);
    for (name, words) in [
        ("../x", &["\"../x\"", "no path"][..]),
        ("/etc/passwd", &["\"/etc/passwd\"", "no path"]),
        ("a\\b", &["no path"]),
        ("..", &["\"..\"", "a folder"]),
        ("line\nbreak", &["\"line\\nbreak\"", "control character", "without line breaks"]),
        ("\u{1b}[2J", &["control character"]),
        (&too_long, &["300 bytes", "at most 255", "shorter"]),
        ("", &["needs a name"]),
    ] {
        let named = format!("--name={name}");
        client.publish(&path, &[&named]).assert_refused(USAGE, words);
    }
    let broken = film(&dev, "line\nbreak", 10);
    client.publish(&broken, &[]).assert_refused(USAGE, &["control character"]);
    let foreign = dev.path("x").with_file_name(OsStr::from_bytes(b"caf\xe9.mp4"));
    write_film(&foreign, 10, 1);
    client.publish(&foreign, &[]).assert_refused(USAGE, &["not UTF-8", "--name"]);
    client.publish(&foreign, &["--name", "café"]).success();
    let mut held: Vec<&str> = lawful.to_vec();
    held.push("café");
    assert_holds_only(&dev, &held);
}

#[test]
fn a_file_that_changes_while_it_is_sealed_is_not_published() {
    let grow = |path: &Path| {
        let file = OpenOptions::new().append(true).open(path);
        file.and_then(|mut file| file.write_all(b"more")).expect("own file");
    };
    let shrink = |path: &Path| {
        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(64 * MIB)).expect("own file");
    };
    let overwrite = |path: &Path| {
        let file = OpenOptions::new().write(true).open(path);
        file.and_then(|mut file| file.write_all(b"other")).expect("own file");
    };
    let replace = |path: &Path| {
        let new = path.with_extension("new");
        write_film(&new, 10, 1);
        fs::rename(&new, path).expect("own folder");
    };
    let dev = Dev::of([("kept", 5_000)]).servers(1).start();
    type Change<'a> = (&'a str, &'a dyn Fn(&Path));
    let changes: [Change<'_>; 4] =
        [("grow", &grow), ("shrink", &shrink), ("overwrite", &overwrite), ("replace", &replace)];
    for (name, change) in changes {
        let path = film(&dev, name, 128 * MIB);
        let mut publishing = publish_in_place_of_kept(&dev, &path, 32 * MIB);
        change(&path);
        publishing.signal(Signal::SIGCONT);
        publishing.finish().assert_refused(LOCAL_FILE, &[name, "changed", "publish it again"]);
        fs::remove_file(&path).expect("own file");
    }
    assert_eq!(fetched(&dev, "kept"), dev.film("kept").sha256);
    assert_holds_only(&dev, &["kept"]);
}

#[test]
fn what_does_not_fit_into_the_origin_is_not_published_until_there_is_room() {
    let mut disk = None;
    let mount = |folder: &Path| {
        let origin = folder.join("master/origin");
        fs::create_dir_all(&origin).expect("own folder");
        disk = Mount::tmpfs(&origin, "size=8m,mode=700");
    };
    let mut cluster = Cluster::start_prepared(mount, &[], &[]);
    let Some(_disk) = disk else { return skip("mounting a small disk needs root") };
    let origin = cluster.path("master/origin");
    cluster.add_server(&[]);
    cluster.wait_listed(1);
    let client = cluster.client();
    let path = |name: &str, bytes| {
        let path = cluster.path(name);
        write_film(&path, bytes, bytes);
        path
    };
    let (large, first, second) = (path("large", 9 * MIB), path("first", 5 * MIB), path("second", 4 * MIB));
    client.publish(&large, &[]).assert_refused(OTHER, &["\"large\"", "no room", "origin", "remove some or enlarge"]);
    cluster.publish(&first, "first", 1);
    client.publish(&second, &[]).assert_refused(OTHER, &["\"second\"", "no room", "origin", "remove some or enlarge"]);
    assert_eq!(client.names(), ["first"]);
    assert_eq!(packs(&origin).len(), 1, "{:?}", file_names(&origin));
    client.run(["rm", "first"]).success();
    eventually("the pack of what was removed goes", || packs(&origin).is_empty().then_some(()));
    cluster.publish(&second, "second", 1);
    client.get("second").to(&cluster.path("copy")).finish().report();
    assert_eq!(sha256_of_file(&cluster.path("copy")), sha256_of_file(&second));
}

#[test]
fn a_server_without_room_takes_nothing_and_the_others_serve() {
    let mut cluster = Cluster::start(&[]);
    let small = cluster.path("server-1");
    fs::create_dir(&small).expect("own folder");
    let Some(_disk) = Mount::tmpfs(&small, "size=2m") else { return skip("mounting a small disk needs root") };
    cluster.add_server(&[]);
    let roomy = cluster.add_server(&[]);
    cluster.wait_listed(2);
    let path = cluster.path("film");
    let sha256 = write_film(&path, 4 * MIB, 1);
    cluster.publish(&path, "film", 1);
    let got = cluster.client().get("film").to(&cluster.path("copy")).finish().report();
    assert_eq!(sha256_of_file(&cluster.path("copy")), sha256);
    assert!(got.sources.iter().all(|source| source.address == roomy), "{got:?}");
    assert!(packs(&small).is_empty(), "{:?}", packs(&small));
    let doctor = cluster.client().run(["doctor"]).success();
    assert!(doctor.contains("warn  video \"film\": 1 of 2 wanted copies are on servers"), "{doctor}");
}

#[test]
fn what_no_server_holds_yet_is_waited_for() {
    let mut cluster = Cluster::start(&[]);
    let path = cluster.path("film");
    let sha256 = write_film(&path, MIB, 1);
    cluster.publish(&path, "film", 0);
    let copy = cluster.path("copy");
    let mut running = cluster.client().get("film").flag("--log", "info").to(&copy).start();
    eventually("it was told that nobody holds it", || {
        assert!(!running.has_ended(), "it waits");
        running.stderr().contains("asking again until it can be served").then_some(())
    });
    // Held meanwhile, it asks once more when it goes on, however long the server took to begin.
    running.hold();
    cluster.add_server(&[]);
    cluster.client().wait_held("film", 1);
    running.go_on();
    assert!(running.wait().report().verified);
    assert_eq!(sha256_of_file(&copy), sha256);
}

/// Writes a film into the test's own folder.
fn film(dev: &Dev, name: &str, bytes: u64) -> PathBuf {
    let path = dev.path(name);
    write_film(&path, bytes, bytes);
    path
}

/// SHA-256 of what `get` makes of a video.
fn fetched(dev: &Dev, name: &str) -> String {
    let copy = dev.path("fetched");
    assert!(dev.client().get(name).to(&copy).finish().report().verified);
    sha256_of_file(&copy)
}

/// Starts to publish `path` in the place of `kept`, and stops the process where it has read more than `bytes`, but not
/// all.
fn publish_in_place_of_kept(dev: &Dev, path: &Path, bytes: u64) -> Process {
    let flags = ["--name", "kept", "--replace"];
    let all = fs::metadata(path).expect("own file").len();
    eventually("a publisher is stopped on its way", || {
        let profile = dev.client().profile();
        let arguments =
            ["publish".as_ref(), "--as-file".as_ref(), path.as_os_str(), "--profile".as_ref(), profile.as_os_str()];
        let mut process = Process::start(arguments.into_iter().chain(flags.iter().map(OsStr::new)));
        while !process.has_ended() && read_so_far(process.pid(), path).is_none_or(|at| at < bytes) {
            std::thread::sleep(Duration::from_millis(1));
        }
        process.signal(Signal::SIGSTOP);
        if read_so_far(process.pid(), path).is_some_and(|at| at < all) {
            return Some(process);
        }
        // The machine was busy elsewhere, and the publisher came to its end: once more from the start.
        process.signal(Signal::SIGCONT);
        process.wait();
        dev.client().publish(&dev.path("films/kept"), &flags).success();
        None
    })
}
