//! Processes that are killed with SIGKILL at any point of publishing and filling leave the whole video or nothing, and
//! what is started again goes on from there; `dev` ends, and is ended, with all its parts.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::iter;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::{Whence, lseek};

use crate::support::{
    Dev, Output, Process, assert_holds_only, eventually, packs, read_so_far, sha256_of, sha256_of_file, write_film,
};

// Exit codes, as `braidcast --help` lists them.
const OTHER: i32 = 1;
const NO_SOURCE: i32 = 5;
const INTERRUPTED: i32 = 130;

/// Takes long enough to publish or fill that there are points in between.
const FILM_BYTES: u64 = 64 * 1024 * 1024;

/// How often a server is caught at filling once more.
const AGAIN_MAX: usize = 20;

/// When somebody is killed while a file is published.
#[derive(Clone, Copy, Debug)]
enum Point {
    /// The publisher has read so many hundredths of the file.
    Read(u64),
    /// So many milliseconds after the publisher has read all of it.
    After(u64),
    /// The origin's pack has got its name, and the name of the video may not point to it yet.
    Named,
}

const POINTS: [Point; 8] = [
    Point::Read(0),
    Point::Read(25),
    Point::Read(50),
    Point::Read(75),
    Point::After(0),
    Point::After(10),
    Point::After(40),
    Point::Named,
];

#[test]
fn a_publisher_killed_at_any_point_leaves_the_whole_video_or_nothing() {
    let dev = Dev::of([]).servers(1).start();
    let film = Film::write(&dev);
    let mut held = Vec::new();
    for (number, point) in POINTS.into_iter().enumerate() {
        let name = format!("film {number}");
        let mut publisher = film.publish(&dev, &name);
        film.wait(&dev, &mut publisher, point);
        publisher.kill();
        film.assert_whole_or_nothing(&dev, &name);
        dev.client().publish(&film.path, &["--name", &name, "--replace"]).success();
        dev.client().wait_held(&name, 1);
        assert_eq!(fetch(&dev, &name), film.sha256, "{point:?}");
        held.push(name);
    }
    assert_holds_only(&dev, &held.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn an_interrupted_publisher_leaves_nothing() {
    let dev = Dev::of([]).servers(1).start();
    let film = Film::write(&dev);
    let mut publisher = film.publish(&dev, "film");
    film.wait(&dev, &mut publisher, Point::Read(25));
    publisher.signal(Signal::SIGINT);
    let ended = publisher.finish();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(INTERRUPTED), ""));
    assert_holds_only(&dev, &[]);
}

#[test]
fn a_master_killed_at_any_point_of_publishing_has_the_whole_video_or_nothing_when_it_is_back() {
    let mut dev = Dev::of([]).servers(1).start();
    let film = Film::write(&dev);
    let mut held = Vec::new();
    for (number, point) in POINTS.into_iter().enumerate() {
        let name = format!("film {number}");
        let mut publisher = film.publish(&dev, &name);
        film.wait(&dev, &mut publisher, point);
        dev.kill_master();
        let ended = publisher.finish();
        let address = dev.master().address.to_string();
        dev.restart_master();
        let origin = packs(&dev.state().join("master/origin"));
        assert!(origin.iter().all(|pack| pack.ends_with(".pack")), "{point:?}: {origin:?}");
        assert_eq!(origin.len(), dev.client().names().len(), "{point:?}: no pack without a name");
        let is_there = film.assert_whole_or_nothing(&dev, &name);
        match ended.code {
            Some(0) => assert!(is_there, "{point:?}: the publisher was told that it is there"),
            _ => ended.assert_refused(NO_SOURCE, &[&address]),
        }
        dev.client().publish(&film.path, &["--name", &name, "--replace"]).success();
        dev.client().wait_held(&name, 1);
        assert_eq!(fetch(&dev, &name), film.sha256, "{point:?}");
        held.push(name);
    }
    assert_holds_only(&dev, &held.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_server_killed_at_any_point_of_filling_goes_on_from_there_and_serves() {
    let mut dev = Dev::of([]).servers(1).start();
    let film = Film::write(&dev);
    let folder = dev.state().join("server-1");
    let mut held = Vec::new();
    let mut resumed = 0;
    // A fill may be over before a test on a busy machine looks at it: then once more.
    for (round, percent) in [0, 25, 50, 75, 100].into_iter().chain(iter::repeat_n(10, AGAIN_MAX)).enumerate() {
        if round >= 5 && resumed > 0 {
            break;
        }
        let name = format!("film {round}");
        film.publish(&dev, &name).finish().success();
        let asset = asset(&dev, &name);
        let filling = folder.join(format!("{asset}.filling"));
        let threshold = FILM_BYTES * percent / 100;
        while filled(&filling).is_none_or(|bytes| bytes < threshold) && !folder.join(format!("{asset}.pack")).exists() {
            std::thread::sleep(Duration::from_micros(500));
        }
        dev.kill_server(1);
        let kept = filled(&filling);
        dev.restart_server(1);
        dev.client().wait_held(&name, 1);
        let written = written(dev.server(1).pid);
        if let Some(kept) = kept.filter(|kept| *kept > FILM_BYTES / 10) {
            // Less by a tenth: the last extent may have been cut off, and there are the master's orders to write down.
            assert!(written < FILM_BYTES - kept + FILM_BYTES / 10, "{kept} bytes were kept, and {written} written");
            resumed += 1;
        }
        let pack = format!("{asset}.pack");
        let (at_server, at_origin) = (folder.join(&pack), dev.state().join("master/origin").join(&pack));
        // It serves every extent before it has made all of them durable.
        eventually("the pack has its name", || at_server.exists().then_some(()));
        assert_eq!(sha256_of_file(&at_server), sha256_of_file(&at_origin), "{percent}%");
        assert_eq!(fetch(&dev, &name), film.sha256, "{percent}%");
        held.push(name);
    }
    assert!(resumed > 0, "every fill was over before the server could be killed");
    assert_holds_only(&dev, &held.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn a_master_killed_while_a_server_fills_does_not_keep_it_from_filling_when_it_is_back() {
    let mut dev = Dev::of([]).servers(1).start();
    let film = Film::write(&dev);
    let folder = dev.state().join("server-1");
    film.publish(&dev, "film").finish().success();
    eventually("the server fills", || (!packs(&folder).is_empty()).then_some(()));
    dev.kill_master();
    dev.restart_master();
    dev.client().wait_held("film", 1);
    assert_eq!(fetch(&dev, "film"), film.sha256);
    assert_holds_only(&dev, &["film"]);
}

#[test]
fn the_parts_of_a_killed_dev_end_and_the_next_one_goes_on_from_what_is_there() {
    let mut dev = Dev::of([("first", 3_000_000), ("second", 5)]).servers(2).start();
    let film = Film::write(&dev);
    let before = asset(&dev, "first");
    let mut publisher = film.publish(&dev, "film");
    film.wait(&dev, &mut publisher, Point::Read(50));
    let parts = pids(&dev);
    dev.process().kill();
    eventually("no part outlives its dev", || (!parts.iter().any(|pid| is_running(*pid))).then_some(()));
    publisher.wait();

    let mut next = start_dev(&dev);
    next.wait_line("ready");
    assert_eq!(asset(&dev, "first"), before, "what was published is not published again");
    for name in ["first", "second"] {
        assert_eq!(fetch(&dev, name), dev.film(name).sha256);
    }
    let is_there = film.assert_whole_or_nothing(&dev, "film");
    assert_holds_only(&dev, if is_there { &["first", "second", "film"] } else { &["first", "second"] });
    next.signal(Signal::SIGTERM);
    assert!(next.wait().success());
}

#[test]
fn dev_ends_all_its_parts_when_it_is_asked_to_even_during_a_download() {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let mut dev = Dev::of([("film", 50_000_000)]).servers(2).start();
        let parts = pids(&dev);
        let mut download = dev.client().get("film").piped().start();
        // Nobody reads on: the download stays.
        let mut stdout = download.take_stdout();
        std::io::Read::read_exact(&mut stdout, &mut [0; 1_000]).expect("the film begins");
        dev.process().signal(signal);
        assert!(dev.process().wait().success());
        assert!(!parts.iter().any(|pid| is_running(*pid)), "{parts:?}");
        assert!(!download.has_ended());
        download.kill();
    }
}

#[test]
fn a_state_folder_has_one_dev_at_a_time() {
    let mut dev = Dev::of([("film", 5_000)]).servers(1).start();
    let pid = dev.process().pid().to_string();
    let second = start_dev(&dev).finish();
    second.assert_refused(OTHER, &[&format!("process {pid} "), "stop it", "--state"]);
    dev.client().get("film").to(&dev.path("copy")).finish().report();

    dev.process().signal(Signal::SIGTERM);
    assert!(dev.process().wait().success());
    let mut third = start_dev(&dev);
    third.wait_line("ready");
    dev.client().get("film").to(&dev.path("copy")).finish().report();
}

#[test]
fn what_rots_on_a_servers_disk_is_found_by_its_scrub_and_mended_before_anybody_asks_for_it() {
    let mut dev = Dev::of([("film", 20_000_000)]).servers(1).start();
    let pack = format!("{}.pack", asset(&dev, "film"));
    let at_server = dev.state().join("server-1").join(&pack);
    let at_origin = dev.state().join("master/origin").join(&pack);
    eventually("the pack has its name", || at_server.exists().then_some(()));
    dev.kill_server(1);
    // Far from the header, in extents far apart.
    for offset in [2_000_000, 18_000_000] {
        let file = File::options().read(true).write(true).open(&at_server).expect("the pack is a file");
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("within the pack");
        file.write_all_at(&[!byte[0]], offset).expect("writable");
    }
    let sound = sha256_of_file(&at_origin);
    assert_ne!(sha256_of_file(&at_server), sound);
    dev.restart_server(1);
    eventually("the pack is whole and right", || {
        // Its name may change at any moment.
        File::open(&at_server).is_ok_and(|file| sha256_of(file).1 == sound).then_some(())
    });
    let found = dev.logs().matches("found rotten by scrubbing").count();
    assert_eq!(found, 2, "{}", dev.logs());
}

#[test]
fn a_part_that_dies_is_told_of_and_comes_back_on_request() {
    let mut dev = Dev::of([("film", 2_000_000)]).servers(2).start();
    let (old, sha256) = (dev.server(2), dev.film("film").sha256.clone());
    dev.kill_server(2);
    let line = eventually("dev says that a part died", || {
        let text = dev.process().stderr();
        text.lines().find(|line| line.starts_with("server 2 ")).map(str::to_owned)
    });
    for word in [&format!("({}) died", old.pid), "signal 9", "braidcast dev --restart 2 --state"] {
        assert!(line.contains(word), "{word:?} is missing in {line:?}");
    }
    dev.restart_server(2);
    assert_eq!(dev.server(2).address, old.address, "it keeps its port");
    assert_ne!(dev.server(2).pid, old.pid);
    dev.kill_server(1);
    assert_eq!(fetch(&dev, "film"), sha256);
    dev.restart_server(1);
    // What runs is restarted, too.
    dev.restart_server(1);
    dev.kill_master();
    dev.restart_master();
    assert_eq!(fetch(&dev, "film"), sha256);

    restart("9", &dev.state()).assert_refused(OTHER, &["no server 9", "2 servers"]);
    restart("1", &dev.path("films")).assert_refused(OTHER, &["films", "no `braidcast dev` runs", "braidcast dev DIR"]);
}

/// A file that is published again and again.
struct Film {
    path: PathBuf,
    sha256: String,
}

impl Film {
    fn write(dev: &Dev) -> Self {
        let path = dev.path("film");
        let sha256 = write_film(&path, FILM_BYTES, 1);
        Self { path, sha256 }
    }

    /// Starts to publish it.
    fn publish(&self, dev: &Dev, name: &str) -> Process {
        let arguments = ["publish", "--as-file", "--name", name, "--profile"].map(OsStr::new).into_iter();
        Process::start(arguments.chain([dev.client().profile().as_os_str(), self.path.as_os_str()]))
    }

    /// Waits until its publishing has come to `point`, or has ended.
    fn wait(&self, dev: &Dev, publisher: &mut Process, point: Point) {
        let known = dev.client().names().len();
        let origin = dev.state().join("master/origin");
        let (bytes, pause) = match point {
            Point::Read(percent) => (FILM_BYTES * percent / 100, Duration::ZERO),
            Point::After(milliseconds) => (FILM_BYTES, Duration::from_millis(milliseconds)),
            Point::Named => (0, Duration::ZERO),
        };
        let mut opened = false;
        while !publisher.has_ended() {
            let named = packs(&origin).iter().filter(|pack| pack.ends_with(".pack")).count() > known;
            let reached = match (point, read_so_far(publisher.pid(), &self.path)) {
                (Point::Named, _) => named,
                (_, Some(at)) => {
                    opened = true;
                    at >= bytes
                }
                // It has closed the file.
                (_, None) => opened,
            };
            if reached {
                return std::thread::sleep(pause);
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// Waits until nothing is under way at the origin, and says whether the video is there; then all of it is.
    fn assert_whole_or_nothing(&self, dev: &Dev, name: &str) -> bool {
        let origin = dev.state().join("master/origin");
        let names = eventually("the origin holds whole packs with names, and nothing else", || {
            let (packs, names) = (packs(&origin), dev.client().names());
            let at_rest = packs.len() == names.len() && packs.iter().all(|pack| pack.ends_with(".pack"));
            at_rest.then_some(names)
        });
        let is_there = names.iter().any(|known| known == name);
        if is_there {
            dev.client().wait_held(name, dev.servers().len() as u32);
            assert_eq!(fetch(dev, name), self.sha256);
        }
        is_there
    }
}

/// SHA-256 of what `get` makes of a video.
fn fetch(dev: &Dev, name: &str) -> String {
    let copy = dev.path("copy");
    assert!(dev.client().get(name).to(&copy).finish().report().verified);
    sha256_of_file(&copy)
}

/// The id of the current version of a video, in hex.
fn asset(dev: &Dev, name: &str) -> String {
    let video = dev.client().ask(async |control| control.video(name).await.expect("it was published"));
    format!("{:016x}", video.asset)
}

/// Starts another `dev` on the same state.
fn start_dev(dev: &Dev) -> Process {
    let (films, state) = (dev.path("films"), dev.state());
    Process::start([
        OsStr::new("dev"),
        films.as_os_str(),
        "--exit-with-parent".as_ref(),
        "--state".as_ref(),
        state.as_os_str(),
    ])
}

fn restart(part: &str, state: &Path) -> Output {
    Process::start(["dev".as_ref(), "--restart".as_ref(), part.as_ref(), "--state".as_ref(), state.as_os_str()])
        .finish()
}

fn pids(dev: &Dev) -> Vec<u32> {
    [dev.master()].iter().chain(dev.servers()).map(|part| part.pid).collect()
}

/// Whether there is such a process, and it is no zombie: nobody may be there to wait for an orphan.
fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name before the state stands in brackets, and may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Bytes of a file that were written, without its holes and without the room that is only reserved for it; nothing if
/// there is no such file.
fn filled(path: &Path) -> Option<u64> {
    let file = File::open(path).ok()?;
    let (mut filled, mut at) = (0, 0);
    // Beyond the last data there is none (ENXIO).
    while let Ok(data) = lseek(&file, at, Whence::SeekData) {
        at = lseek(&file, data, Whence::SeekHole)
            .expect("behind data there is a hole, at the end of the file at the latest");
        filled += (at - data).unsigned_abs();
    }
    Some(filled)
}

/// Bytes that a process has written to files and pipes since it started.
fn written(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/io")).expect("a process of one's own");
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: ")).expect("a kernel that counts");
    line.parse().expect("a number")
}
