//! Round trips from opening a film to its first picture, over a path with a delay: with a connection to the master at
//! hand, and from nothing but a cached token. What computing takes is measured without the delay, and taken off.
//!
//! Ends with 1 if the film whose key frame fits into the first windows misses its bound, which is 3 round trips (the
//! master's list, a greeting, the frames) and 6 from nothing (TCP, TLS and a token that is at hand come before).
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

/// The median of some runs.
fn median(mut run: impl FnMut() -> Duration) -> Duration {
    let mut times: Vec<Duration> = (0..RUNS).map(|_| run()).collect();
    times.sort_unstable();
    times[RUNS / 2]
}

struct Times {
    open: Duration,
    cold: Duration,
}

fn measure(runtime: &Runtime, profile: &Profile, name: &str, threads: usize) -> Times {
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
    Times { open: median(|| timed(Some(&control))), cold: median(|| timed(None)) }
}

fn round_trips(with: Duration, without: Duration) -> f64 {
    with.saturating_sub(without).as_secs_f64() / RTT.as_secs_f64()
}

fn main() -> ExitCode {
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
            let without = measure(&runtime, &profile, film.name, threads);
            delay.set_round_trip(RTT);
            let with = measure(&runtime, &profile, film.name, threads);
            check_pictures(&runtime, &control, &film, threads);
            let (open, cold) = (round_trips(with.open, without.open), round_trips(with.cold, without.cold));
            println!(
                "{} (key frame {key_bytes} bytes), {SERVERS} servers, RTT {RTT:?}, {threads} decoding threads: first picture \
                 after {open:.2} RTT + {:.1?} = {:.1?} (open connection), {cold:.2} RTT + {:.1?} = {:.1?} (cold)",
                film.name, without.open, with.open, without.cold, with.cold
            );
            missed |= film.is_small && (open > OPEN_MAX + TOLERANCE || cold > COLD_MAX + TOLERANCE);
        }
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
