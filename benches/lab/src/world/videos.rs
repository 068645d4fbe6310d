//! What the media servers hold.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use braidcast_sim::rng::Rng;

use super::{MASTER, World, shown};
use crate::namespace::run;

/// The video that outlasts a measurement.
pub const LONG: &str = "long";
/// The video that is fetched whole.
pub const SHORT: &str = "short";
/// Bytes of [`SHORT`].
pub const SHORT_BYTES: u64 = 60_000_000;
/// The film that is watched.
pub const FILM: &str = "film.mp4";
/// Pictures of [`FILM`] per second.
pub const FILM_PICTURES_PER_S: u32 = 30;

/// Rate of [`FILM`], in each second of it: what the pictures do not need is filled up.
const FILM_RATE: &str = "25M";
const PUBLISH_WAIT: Duration = Duration::from_secs(120);

impl World {
    /// Publishes the videos that every scenario has.
    pub(super) fn publish(&mut self) -> Result<()> {
        fs::create_dir_all(self.path("files"))?;
        fs::create_dir_all(self.scratch())?;
        for (name, bytes) in [(LONG, self.plan.long_bytes), (SHORT, SHORT_BYTES)] {
            let path = self.path("files").join(name);
            write_noise(&path, bytes)?;
            self.stop.check()?;
            self.publish_file(&format!("--as-file {}", shown(&path)))?;
        }
        self.wait_until_held()
    }

    /// Makes and publishes [`FILM`], of so many seconds, unless that was done.
    pub fn publish_film(&mut self, seconds: u32) -> Result<()> {
        let path = self.path("files").join(FILM);
        if path.exists() {
            return Ok(());
        }
        let picture = format!("testsrc2=size=640x360:rate={FILM_PICTURES_PER_S}");
        let mut ffmpeg = Command::new("ffmpeg");
        ffmpeg.args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", &picture, "-t", &seconds.to_string()]);
        ffmpeg.args(["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-bf", "2", "-g", "60"]);
        ffmpeg.args(["-b:v", FILM_RATE, "-minrate", FILM_RATE, "-maxrate", FILM_RATE, "-bufsize", FILM_RATE]);
        run(ffmpeg.args(["-x264-params", "nal-hrd=cbr"]).arg(&path))?;
        self.publish_file(&shown(&path))?;
        self.wait_until_held()
    }

    fn publish_file(&mut self, arguments: &str) -> Result<()> {
        let stop = self.stop.clone();
        self.braidcast(MASTER, &format!("publish {arguments}"))?.finish(&stop, PUBLISH_WAIT).map(drop)
    }

    /// Waits until every server holds everything.
    fn wait_until_held(&mut self) -> Result<()> {
        let held = format!("{0}/{0}", self.plan.servers);
        let mut list = self.host(MASTER).namespace.command(&self.plan.braidcast);
        list.arg("ls").arg("--profile").arg(self.profile(MASTER));
        self.stop.wait_for("the servers do not hold the videos", PUBLISH_WAIT, || {
            self.stop.sleep(Duration::from_millis(200))?;
            let listed = run(&mut list)?;
            let holds = |line: &str| line.split_whitespace().any(|word| word == held);
            Ok(listed.lines().skip(1).all(holds).then_some(()))
        })
    }
}

/// A file that nothing can compress.
fn write_noise(path: &Path, bytes: u64) -> Result<()> {
    let mut file = BufWriter::new(File::create(path).with_context(|| path.display().to_string())?);
    let mut rng = Rng::new(bytes);
    let mut left = bytes;
    while left > 0 {
        let word = rng.draw().to_le_bytes();
        let take = left.min(word.len() as u64);
        file.write_all(&word[..take as usize])?;
        left -= take;
    }
    Ok(file.flush()?)
}
