//! Round trips from opening a film to its first picture, over a path with a delay: with a connection to the master at
//! hand, and from nothing but a cached token; on paths of which nothing is known, and on paths over which a film was
//! watched before. What computing takes is measured without the delay, and taken off.
//!
//! Ends with 1 if a bound is missed, which is 3 round trips (the master's list, a greeting, the frames) and 6 from nothing
//! (TCP, TLS and a token that is at hand come before). A key frame that does not fit into the first windows is held to it
//! on a known path only: on another, congestion control cannot but feel its way.
#![allow(missing_docs, reason = "a bench has no public items")]

#[path = "common/command.rs"]
mod command;
#[path = "common/delay.rs"]
mod delay;
#[path = "common/parts.rs"]
mod parts;

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use braidcast_client::control::{VideoRef, Window};
use braidcast_client::{Control, Profile};
use braidcast_player::{Player, PlayerOptions, Taken};
use delay::Delay;
use parts::Parts;
use tokio::runtime::Runtime;

const RTT: Duration = Duration::from_millis(50);
const SERVERS: usize = 3;
const RUNS: usize = 7;
const PICTURES_PER_S: f64 = 30.0;
const PICTURES: u64 = 120;
/// Decoding threads; each but the first holds a picture back.
const THREADS: [usize; 2] = [1, 8];
/// Round trips that are granted.
const OPEN_MAX: f64 = 3.0;
const COLD_MAX: f64 = 6.0;
/// What timers and a busy machine may add, in round trips.
const TOLERANCE: f64 = 0.4;

/// A film, and how FFmpeg makes it.
struct Film {
    name: &'static str,
    picture: &'static str,
    quality: &'static str,
    /// Its key frame fits into the first windows.
    is_small: bool,
}

const FILMS: [Film; 2] = [
    Film { name: "small.mp4", picture: "testsrc2=size=640x360:rate=30", quality: "28", is_small: true },
    Film { name: "large.mp4", picture: "testsrc2=size=1280x720:rate=30,noise=alls=20", quality: "23", is_small: false },
];

fn make(film: &Film, path: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", film.picture, "-t", "4"])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-bf", "2", "-g", "60"])
        .args(["-crf", film.quality])
        .arg(path)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "ffmpeg makes no film; `make bench` installs it");
}

async fn first_picture(control: Control, name: &str, threads: usize) -> Player {
    let options = PlayerOptions { threads, ..PlayerOptions::default() };
    let player = Player::open(control, name, options).await.expect("the film opens");
    player.wait(Duration::from_secs(10));
    assert!(matches!(player.take(), Ok(Taken::Picture(_))), "the first picture comes");
    player
}

/// Every picture comes once and in order, whichever decoder gave it, and from a seek on, too.
fn check_pictures(runtime: &Runtime, control: &Control, film: &Film, threads: usize) {
    let options = PlayerOptions { threads, ..PlayerOptions::default() };
    let player = runtime.block_on(Player::open(control.clone(), film.name, options)).expect("the film opens");
    for first in [0, PICTURES / 3] {
        if first > 0 {
            player.seek(first as f64 / PICTURES_PER_S).expect("the film has that time");
        }
        let mut next = first;
        loop {
            match player.take().expect("the film plays") {
                Taken::Picture(shown) => {
                    assert_eq!((shown.time * PICTURES_PER_S).round() as u64, next, "{}", film.name);
                    next += 1;
                }
                Taken::Waiting => player.wait(Duration::from_secs(10)),
                Taken::End => break,
            }
        }
        assert_eq!(next, PICTURES, "{}", film.name);
    }
    let stats = player.stats();
    assert!(stats.film.frames_early > 0 && stats.decode_errors == 0, "{stats:?}");
}

/// The median of some runs. `forget`: each finds nothing remembered of the paths.
fn median(forget: bool, mut run: impl FnMut() -> Duration) -> Duration {
    let run = |_| {
        if forget {
            forget_paths();
        }
        run()
    };
    let mut times: Vec<Duration> = (0..RUNS).map(run).collect();
    times.sort_unstable();
    times[RUNS / 2]
}

struct Times {
    open: Duration,
    cold: Duration,
}

/// Where this process keeps what it has learnt of paths.
const CACHE: &str = "XDG_CACHE_HOME";

/// The engines that have learnt something have ended by now, or what they still write is of a path as new.
fn forget_paths() {
    let file = std::env::var(CACHE).map(|cache| Path::new(&cache).join("braidcast/ways.toml"));
    let _ = std::fs::remove_file(file.expect("set by the process that started this one"));
}

fn measure(runtime: &Runtime, profile: &Profile, name: &str, threads: usize, forget: bool) -> Times {
    let control = runtime.block_on(Control::connect(profile)).expect("the master runs");
    let timed = |control: Option<&Control>| {
        let start = Instant::now();
        let player = runtime.block_on(async {
            let control = match control {
                Some(control) => control.clone(),
                None => Control::connect(profile).await.expect("the master runs"),
            };
            first_picture(control, name, threads).await
        });
        let elapsed = start.elapsed();
        drop(player);
        elapsed
    };
    Times { open: median(forget, || timed(Some(&control))), cold: median(forget, || timed(None)) }
}

fn round_trips(with: Duration, without: Duration) -> f64 {
    with.saturating_sub(without).as_secs_f64() / RTT.as_secs_f64()
}

/// What is learnt of paths goes to a folder of this run's own.
fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == APART) {
        return run();
    }
    let cache = tempfile::tempdir().expect("a temporary folder");
    let program = std::env::current_exe().expect("this program has a path");
    let status = Command::new(program).arg(APART).env(CACHE, cache.path()).status();
    if status.is_ok_and(|status| status.success()) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Tells the process that has its own cache.
const APART: &str = "--apart";

fn run() -> ExitCode {
    let runtime = Runtime::new().expect("a runtime");
    let delay = Delay::default();
    let mut parts = Parts::start();
    for _ in 0..SERVERS {
        let (advertised, lead_to) = delay.udp();
        lead_to.send(parts.add_server(advertised)).expect("the thread waits for it");
    }
    let profile = parts.profile("profile.toml", delay.tcp(parts.master));
    let mut missed = false;
    for film in FILMS {
        let path = parts.path(film.name);
        make(&film, &path);
        parts.publish(&profile, &path, film.name, SERVERS);
        let control = runtime.block_on(Control::connect(&profile)).expect("the master runs");
        let window = Window::Frames { first: 0, last: 0 };
        let list = runtime.block_on(control.distribution(VideoRef::Name(film.name), window)).expect("it is there");
        let key_bytes = list.frames.expect("a film").entries[0].size;
        for threads in THREADS {
            delay.set_round_trip(Duration::ZERO);
            let without = measure(&runtime, &profile, film.name, threads, true);
            delay.set_round_trip(RTT);
            println!(
                "{} (key frame {key_bytes} bytes), {SERVERS} servers, RTT {RTT:?}, {threads} decoding threads, computing \
                 {:.1?} (open connection) and {:.1?} (cold); first picture after that and",
                film.name, without.open, without.cold
            );
            for (forget, path) in [(true, "unknown"), (false, "known")] {
                let with = measure(&runtime, &profile, film.name, threads, forget);
                let (open, cold) = (round_trips(with.open, without.open), round_trips(with.cold, without.cold));
                println!("  {open:.2} RTT (open connection), {cold:.2} RTT (cold), {path} paths");
                let is_bound = film.is_small || !forget;
                missed |= is_bound && (open > OPEN_MAX + TOLERANCE || cold > COLD_MAX + TOLERANCE);
                // Watches the film to its end: from here on the paths are known.
                check_pictures(&runtime, &control, &film, threads);
            }
        }
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
