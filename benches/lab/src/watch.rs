//! A viewer without a screen: takes a film's frames when they are due, and counts how often they were not there.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use braidcast_client::film::{self, FilmOptions, FrameStream, Next};
use braidcast_client::{Control, Profile};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

/// A frame may come so late.
const TOLERANCE: Duration = Duration::from_millis(10);
/// So much of the film is there before it starts, and is kept ready from then on.
const START: Duration = Duration::from_secs(1);
/// A film stands still so long before it is given up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Flags of `watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The film
    name: String,
    /// Who watches
    #[arg(long, value_name = "FILE")]
    profile: PathBuf,
}

/// What it prints.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Watched {
    /// Frames taken.
    pub(crate) frames: u64,
    /// Times that a frame was not there when it was due.
    pub(crate) stalls: u32,
    /// How long these were.
    pub(crate) stalled_seconds: f64,
    /// Payload taken from servers.
    pub(crate) bytes: u64,
    /// Payload that was not needed.
    pub(crate) redundant_bytes: u64,
}

/// Watches a film to its end and prints how it went.
pub(crate) fn watch(args: &WatchArgs) -> Result<()> {
    let runtime = Runtime::new()?;
    let profile = Profile::load(&args.profile)?;
    let (control, frames) = runtime.block_on(async {
        let master = Control::connect(&profile).await?;
        anyhow::Ok(film::open(master, &args.name, FilmOptions::default()).await?)
    })?;
    let (pictures, seconds) = control.info().frame_rate.context("the film has no rate")?;
    let mut watched = take_all(frames, Duration::from_secs(seconds.into()) / pictures)?;
    let stats = control.stats();
    control.close();
    (watched.bytes, watched.redundant_bytes) = (stats.bytes, stats.redundant_bytes);
    println!("{}", serde_json::to_string(&watched)?);
    Ok(())
}

/// Shows a frame every `period`, from [`START`] on. What is late is shown when it comes, and all the others so much later.
fn take_all(mut frames: FrameStream, period: Duration) -> Result<Watched> {
    let mut watched = Watched::default();
    let ahead = (START.as_secs_f64() / period.as_secs_f64()) as u32;
    // Frames that were taken and not shown, and when the next is due.
    let (mut queued, mut due) = (0, None);
    let mut is_over = false;
    while !is_over || queued > 0 {
        let is_starved = queued == 0;
        let wait = due.filter(|_| !is_starved).map_or(PATIENCE, |due: Instant| due - Instant::now().min(due));
        if is_over || queued == ahead && due.is_some() {
            sleep(wait);
        } else {
            match frames.next(wait)? {
                Next::Frame(_) => queued += 1,
                Next::End => is_over = true,
                Next::Seeked(_) => bail!("nobody asked for another place"),
                Next::Waiting if is_starved => bail!("no frame came for {PATIENCE:?}"),
                Next::Waiting => {}
            }
        }
        let now = Instant::now();
        if due.is_none() && (queued == ahead || is_over) {
            due = Some(now);
        }
        let Some(at) = due.filter(|at| *at <= now && queued > 0) else { continue };
        queued -= 1;
        watched.frames += 1;
        // A frame that was there and is shown late is this program's fault.
        let is_stall = is_starved && now - at > TOLERANCE;
        if is_stall {
            watched.stalls += 1;
            watched.stalled_seconds += (now - at).as_secs_f64();
        }
        due = Some(if is_stall { now } else { at } + period);
    }
    Ok(watched)
}
