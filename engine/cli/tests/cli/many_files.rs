//! Many small files: published side by side and told of in order, whatever becomes of each, and small on every disk.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Instant;

use braidcast_client::publish::is_surely_no_film;
use nix::sys::signal::Signal;

use crate::clips::{CLIPS, find};
use crate::support::{Cluster, Dev, Output, Process, assert_holds_only, eventually, packs, sha256_of_file, write_film};

// Exit codes, as `braidcast --help` lists them.
const USAGE: i32 = 2;
const LOCAL_FILE: i32 = 7;
const INTERRUPTED: i32 = 130;

/// They are published within 30 s on two cores; the test prints its time and does not judge it.
const MANY: usize = 500;
const TINY_BYTES: u64 = 1_024;
/// What a file of 1 KB may take at the origin and on each server.
const TINY_DISK_BYTES_MAX: u64 = 16 * 1024;

#[test]
fn the_holes_of_a_small_pack_take_no_disk_at_the_origin_and_on_a_server() {
    let mut cluster = Cluster::start(&[]);
    cluster.add_server(&[]);
    cluster.wait_listed(1);
    let file = cluster.path("tiny");
    write_film(&file, TINY_BYTES, 1);
    cluster.publish(&file, "tiny", 1);
    for folder in [cluster.path("master/origin"), cluster.path("server-1")] {
        let [pack] = &packs(&folder)[..] else { panic!("{}: {:?}", folder.display(), packs(&folder)) };
        let metadata = fs::metadata(folder.join(pack)).expect("a pack");
        let on_disk = metadata.blocks() * 512;
        println!("{TINY_BYTES} bytes take {on_disk} bytes in {}, {} long", folder.display(), metadata.len());
        assert!(on_disk <= TINY_DISK_BYTES_MAX, "{on_disk} bytes in {}", folder.display());
    }
    let copy = cluster.path("copy");
    assert!(cluster.client().get("tiny").to(&copy).finish().report().verified);
    assert_eq!(sha256_of_file(&copy), sha256_of_file(&file));
}

#[test]
fn five_hundred_tiny_files_are_published_side_by_side_and_told_of_in_order() {
    let dev = Dev::of([]).servers(1).start();
    let film = find("key frames only").bytes();
    let films: Vec<PathBuf> = (0..MANY).map(|n| named(&dev, &format!("film-{n:03}"), &film)).collect();
    let texts: Vec<PathBuf> = (0..MANY).map(|n| named(&dev, &format!("text-{n:03}"), &text(n))).collect();
    for (files, flags, kind) in [(&films, &[][..], "films"), (&texts, &["--as-file"], "plain files")] {
        let began = Instant::now();
        let output = publish(&dev, files, flags);
        println!("{MANY} {kind} published in {:.1} s", began.elapsed().as_secs_f64());
        assert_eq!(output.code, Some(0), "{}", output.stderr);
        assert_eq!(published(&output.stdout), names(files));
    }
    let all: BTreeSet<String> = names(&films).into_iter().chain(names(&texts)).collect();
    assert_eq!(dev.client().names(), all.into_iter().collect::<Vec<_>>());
}

#[test]
fn dev_publishes_many_tiny_files_whatever_they_are() {
    let builder = Dev::of([]);
    let film = find("key frames only").bytes();
    for n in 0..MANY {
        let content = if n % 50 == 0 { film.clone() } else { text(n) };
        fs::write(builder.folder().join(format!("file-{n:03}")), content).expect("room on the disk");
    }
    let began = Instant::now();
    let dev = builder.start();
    println!("dev has {MANY} tiny files on three servers after {:.1} s", began.elapsed().as_secs_f64());
    assert_eq!(dev.client().names().len(), MANY);
    for (name, words) in [("file-000", "video"), ("file-001", "plain bytes"), ("file-450", "video")] {
        let info = dev.client().run(["info", name]).success();
        assert!(info.contains(words), "{name}: {info}");
    }
}

#[test]
fn no_film_is_taken_for_none_by_its_beginning() {
    for clip in CLIPS {
        assert!(!is_surely_no_film(&clip.path()).expect("readable"), "{}", clip.name);
    }
}

#[test]
fn a_file_that_fails_among_many_is_told_of_in_its_turn_and_stops_no_other() {
    let dev = Dev::of([]).servers(1).start();
    let film = find("mjpeg").bytes();
    let mut files: Vec<PathBuf> = (0..12).map(|n| named(&dev, &format!("film-{n:02}"), &film)).collect();
    let good: Vec<String> = names(&files);
    files.insert(3, dev.path("missing"));
    files.insert(7, named(&dev, "letter.txt", b"Dear Sir or Madam"));
    let output = publish(&dev, &files, &[]);
    output.assert_refused(LOCAL_FILE, &["missing", "letter.txt", "2 of 14 files were not published"]);
    let lines: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("braidcast: ")).collect();
    assert!(lines[0].contains("missing") && lines[1].contains("letter.txt"), "{lines:?}");
    assert_eq!(published(&output.stdout), good);
    assert_holds_only(&dev, &good.iter().map(String::as_str).collect::<Vec<_>>());
}

/// With --replace each further file would take the place of the one before, which is published then and gone.
#[test]
fn files_of_one_name_are_refused_before_anything_is_published() {
    let dev = Dev::of([]).servers(1).start();
    let files: Vec<PathBuf> = (0..3).map(|n| named(&dev, &format!("folder-{n}/film"), &text(n))).collect();
    for flags in [&["--as-file"][..], &["--as-file", "--replace"]] {
        let output = publish(&dev, &files, flags);
        output.assert_refused(USAGE, &["folder-0/film", "folder-1/film", "nothing was published"]);
        assert_holds_only(&dev, &[]);
    }
}

#[test]
fn an_interrupted_publication_has_told_of_all_that_is_published_and_leaves_nothing_by_halves() {
    let dev = Dev::of([]).servers(1).start();
    let files: Vec<PathBuf> = (0..MANY).map(|n| named(&dev, &format!("text-{n:03}"), &text(n))).collect();
    let mut publishing = start(&dev, &files, &["--as-file"]);
    publishing.wait_line("published text-020: ");
    publishing.signal(Signal::SIGINT);
    let output = publishing.finish();
    assert_eq!(output.code, Some(INTERRUPTED), "{}", output.stderr);
    let told = published(&output.stdout);
    assert!(told.len() < MANY, "it was interrupted");
    // What the master was about to commit is there and was not told of: a few files, of those that were under way.
    let origin = dev.state().join("master/origin");
    let there = eventually("what was under way has ended", || {
        let there = dev.client().names();
        (packs(&origin).len() == there.len()).then_some(there)
    });
    assert!(told.iter().all(|name| there.contains(name)), "{told:?}, {there:?}");
    let there: Vec<&str> = there.iter().map(String::as_str).collect();
    assert_holds_only(&dev, &there);
    let output = publish(&dev, &files, &["--as-file", "--replace"]);
    assert_eq!(published(&output.stdout), names(&files), "{}", output.stderr);
}

/// A text of 1 KB, another for each number.
fn text(number: usize) -> Vec<u8> {
    let mut text = format!("text {number}\n").repeat(TINY_BYTES as usize);
    text.truncate(TINY_BYTES as usize);
    text.into_bytes()
}

fn named(dev: &Dev, name: &str, content: &[u8]) -> PathBuf {
    let path = dev.path(name);
    fs::create_dir_all(path.parent().expect("a folder")).expect("own folder");
    fs::write(&path, content).expect("room on the disk");
    path
}

fn start(dev: &Dev, files: &[PathBuf], flags: &[&str]) -> Process {
    let mut arguments: Vec<OsString> = vec!["publish".into(), "--profile".into(), dev.client().profile().into()];
    arguments.extend(flags.iter().map(OsString::from));
    arguments.extend(files.iter().map(OsString::from));
    Process::start(arguments)
}

fn publish(dev: &Dev, files: &[PathBuf], flags: &[&str]) -> Output {
    let mut process = start(dev, files, flags);
    process.wait();
    process.finish()
}

/// The names in lines `published NAME: ...`, in their order.
fn published(stdout: &str) -> Vec<String> {
    let name = |line: &str| line.strip_prefix("published ")?.split_once(": ").map(|(name, _)| name.to_owned());
    stdout.lines().map(|line| name(line).unwrap_or_else(|| panic!("{line:?}"))).collect()
}

fn names(files: &[PathBuf]) -> Vec<String> {
    let name = |path: &PathBuf| path.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
    files.iter().map(name).collect()
}
