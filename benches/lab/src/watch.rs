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

/// A frame may come so late: what timers and a busy machine add.
const TOLERANCE: Duration = Duration::from_millis(10);
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

/// Takes a frame every `period`. Whatever is late is shown when it comes, and all the others so much later.
fn take_all(mut frames: FrameStream, period: Duration) -> Result<Watched> {
    let mut watched = Watched::default();
    let mut due: Option<Instant> = None;
    loop {
        match frames.next(PATIENCE)? {
            Next::Frame(_) => {}
            Next::End => return Ok(watched),
            Next::Seeked(_) => bail!("nobody asked for another place"),
            Next::Waiting => bail!("no frame came for {PATIENCE:?}"),
        }
        let now = Instant::now();
        let at = due.filter(|due| now <= *due + TOLERANCE).unwrap_or_else(|| {
            if let Some(due) = due {
                watched.stalls += 1;
                watched.stalled_seconds += (now - due).as_secs_f64();
            }
            now
        });
        watched.frames += 1;
        due = Some(at + period);
        sleep((at + period).saturating_duration_since(Instant::now()));
    }
}
