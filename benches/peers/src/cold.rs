//! A server whose packs are on the disk and not in memory: how much of the disk's speed, or of its own, it keeps.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use braidcast_lab::process::COLD_PART_MIN;
use braidcast_lab::table::align;
use rustix::fs::{Advice, OFlags, fadvise};

use crate::bench::Bench;
use crate::goals::median;
use crate::peer::{Braidcast, EXTENTS};

/// Part of the lesser of the disk's speed and of its own from memory.
const GOAL: f64 = 0.8;
/// Read at a time, past the page cache.
const BLOCK_BYTES: usize = 1 << 20;
/// What such a read must begin at, in memory and in the file.
const ALIGNMENT: usize = 4_096;
const GB: f64 = 1e9;

/// What one round took.
struct Round {
    /// Reading the pack from the disk in order, with direct I/O.
    direct: Duration,
    /// Fetching the file while nothing of its pack is in memory.
    cold: Duration,
    /// Fetching it again.
    warm: Duration,
}

impl Round {
    /// Part of the lesser speed that is kept.
    fn ratio(&self) -> f64 {
        self.direct.max(self.warm).as_secs_f64() / self.cold.as_secs_f64()
    }
}

/// Measures rounds with a new server each, prints them, and tells whether the goal was met.
pub(crate) fn run(bench: &Bench, rounds: u32) -> Result<bool> {
    let mut measured = Vec::new();
    for number in 1..=rounds {
        let round = one(bench, number)?;
        eprintln!("peers: cold: round {number} of {rounds}: {:.2}", round.ratio());
        measured.push(round);
    }
    let mut cells = vec![["round", "disk GB/s", "cold GB/s", "warm GB/s", "kept"].map(str::to_owned).to_vec()];
    let speed = |time: Duration| format!("{:.2}", bench.bytes as f64 / GB / time.as_secs_f64());
    for (number, round) in (1..).zip(&measured) {
        let speeds = [round.direct, round.cold, round.warm].map(speed);
        cells.push([vec![format!("{number}")], speeds.to_vec(), vec![format!("{:.2}", round.ratio())]].concat());
    }
    let kept = median(&measured.iter().map(Round::ratio).collect::<Vec<_>>()).context("no round")?;
    let is_met = kept >= GOAL;
    println!("{}", align(&cells));
    println!("kept of the lesser of disk and warm, median: {kept:.2}, wanted >= {GOAL:.2}: {}", verdict(is_met));
    println!("disk: the pack by direct I/O in blocks of 1 MiB, before each download; GB are 10^9 bytes of the file.");
    Ok(is_met)
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "ok" } else { "MISS" }
}

fn one(bench: &Bench, number: u32) -> Result<Round> {
    let name = format!("cold-{number}");
    let server = Braidcast::start(bench, &name, 1)?;
    let pack = server.pack(bench, &name)?;
    evict(&pack)?;
    let direct = read_direct(&pack)?;
    let before = server.disk_bytes()?;
    let cold = server.get(bench, PathBuf::from("/dev/null"), EXTENTS)?.wall;
    let read = server.disk_bytes()?.saturating_sub(before);
    let wanted = pack.metadata()?.len();
    ensure!(
        read as f64 >= COLD_PART_MIN * wanted as f64,
        "{}: only {read} of {wanted} bytes came from the disk; is the folder in memory? Name another --folder",
        pack.display()
    );
    let warm = server.get(bench, PathBuf::from("/dev/null"), EXTENTS)?.wall;
    drop(server);
    fs::remove_dir_all(bench.path(&format!("braidcast-{name}")))?;
    Ok(Round { direct, cold, warm })
}

/// Has the kernel forget what it holds of a file in memory. Nobody may have it mapped and read.
fn evict(path: &Path) -> Result<()> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    file.sync_all()?;
    Ok(fadvise(&file, 0, None, Advice::DontNeed)?)
}

/// Reads a file past the page cache.
fn read_direct(path: &Path) -> Result<Duration> {
    let mut options = OpenOptions::new();
    let opened = options.read(true).custom_flags(OFlags::DIRECT.bits() as i32).open(path);
    let mut file = opened.with_context(|| format!("{}: direct I/O", path.display()))?;
    let mut room = vec![0; BLOCK_BYTES + ALIGNMENT];
    let from = room.as_ptr().align_offset(ALIGNMENT);
    let start = Instant::now();
    while file.read(&mut room[from..from + BLOCK_BYTES])? > 0 {}
    Ok(start.elapsed())
}
