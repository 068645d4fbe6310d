//! Many viewers with real sessions on one media server with one thread of service, and what reaches them in time.
//!
//! The `cluster` starts the server and its master, `tickets` draws a ticket for each `viewer`, and the `crowd` drives
//! all of them from one thread: each has its own socket and its own puller, and knows by its `playback` when it wants
//! which chunk. What they count is judged by the `goals`.
#![forbid(unsafe_code)]

mod args;
mod asked;
mod cluster;
mod crowd;
mod goals;
mod playback;
mod report;
mod tally;
mod tickets;
mod usage;
mod viewer;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use braidcast_client::control::Host;
use braidcast_lab::process::COLD_PART_MIN;
use braidcast_lab::stop::{Interrupted, Stop};
use braidcast_transport::limits::CHUNKS_PER_PULL_MAX;
use clap::Parser;

use self::args::Arguments;
use self::cluster::{COLD_BYTES, Cluster};
use self::crowd::Crowd;
use self::goals::Verdict;
use self::playback::Playback;
use self::report::{BesideFetch, Figures};
use self::tally::Spread;
use self::tickets::Film;
use self::usage::{Memory, Shares};
use self::viewer::{Viewer, ViewerConfig, Wish};

/// Ended by a signal, as shells count it.
const INTERRUPTED: u8 = 130;
/// How long one viewer is alone.
const WARM_UP: Duration = Duration::from_secs(2);
/// How long after one viewer the next arrives.
const ARRIVAL_EVERY: Duration = Duration::from_millis(10);
/// The last viewer's window is full after this.
const SETTLE: Duration = Duration::from_secs(2);

/// How long viewers are watched while somebody fetches another file.
const BESIDE_FETCH: Duration = Duration::from_secs(8);
const FETCH_WAIT: Duration = Duration::from_secs(120);

/// Runs the command line.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nobody is left to hear of a terminal that is gone.
            let _ = error.print();
            // 2, which is clap's own, says that a run is void.
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(&arguments) {
        Ok(verdict) => verdict.exit_code(),
        Err(error) if error.is::<Interrupted>() => ExitCode::from(INTERRUPTED),
        Err(error) => {
            eprintln!("braidcast-load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Makes one run and prints what it shows.
fn run(arguments: &Arguments) -> Result<Verdict> {
    if let Some(refusal) = arguments.refusal() {
        bail!(refusal);
    }
    let braidcast = braidcast(arguments)?;
    let stop = Stop::catch()?;
    usage::allow_sockets(arguments.sessions())?;
    eprintln!("load: starting a master and a server");
    let mut cluster = Cluster::start(&braidcast, arguments.keep_logs.as_deref(), arguments.cold, &stop)?;
    let tickets = arguments.sessions() + 1;
    eprintln!("load: drawing {tickets} tickets");
    let (film, hosts) = tickets::draw(&cluster.profile, cluster.address, tickets, &stop)?;
    let figures = measure(arguments, (&mut cluster, &braidcast), &film, &hosts, &stop)?;
    let (verdict, reasons) = goals::judge(&figures);
    let json = || report::json(&figures, verdict, &reasons).context("JSON");
    print!("{}", if arguments.json { json()? } else { report::text(&figures, verdict, &reasons) });
    Ok(verdict)
}

/// Lets all viewers arrive, and watches them for a while.
fn measure(
    arguments: &Arguments,
    (cluster, braidcast): (&mut Cluster, &Path),
    film: &Film,
    hosts: &[Host],
    stop: &Stop,
) -> Result<Figures> {
    let server = cluster.server_pid()?;
    let memory_idle = Memory::of(server)?;
    let (first, hosts) = hosts.split_last().context("the master gave no ticket")?;
    warm_up(film, first, stop)?;
    let memory_before = Memory::of(server)?;
    let joining = ARRIVAL_EVERY * arguments.sessions();
    eprintln!("load: viewers arrive over {:.1} s, then {} s count", joining.as_secs_f64(), arguments.seconds);
    let mut crowd = Crowd::new(viewers(arguments, film, hosts)?)?;
    crowd.run_until(Instant::now() + joining + SETTLE, stop, || cluster.check())?;
    crowd.tally().begin();
    let mut memory = memory_before;
    let look = || {
        memory = memory.max(Memory::of(server)?);
        cluster.check()
    };
    let (begun, shares) = (Instant::now(), Shares::start(server)?);
    crowd.run_until(begun + Duration::from_secs(arguments.seconds.into()), stop, look)?;
    let ([server_cpu, tool_cpu], ended) = (shares.until_now()?, Instant::now());
    let mut figures = counted(&mut crowd, ended);
    let grown = memory.anonymous.saturating_sub(memory_before.anonymous);
    figures.viewers = arguments.viewers;
    figures.rate_bit_s = arguments.rate.0;
    figures.window_s = arguments.window;
    figures.chunks_per_pull = arguments.chunks_per_pull;
    figures.greedy = arguments.greedy;
    figures.seconds = (ended - begun).as_secs_f64();
    figures.server_cpu = server_cpu;
    figures.tool_cpu = tool_cpu;
    figures.memory_idle = memory_idle;
    figures.memory_before = memory_before;
    figures.memory = memory;
    figures.anonymous_per_session = grown as f64 / f64::from(arguments.sessions());
    figures.server.clone_from(&cluster.described);
    if arguments.cold {
        figures.beside_fetch = Some(beside_fetch(&mut crowd, (cluster, braidcast), stop)?);
    }
    Ok(figures)
}

/// Watches the viewers while somebody fetches another file: first from the disk, then from memory.
fn beside_fetch(crowd: &mut Crowd, (cluster, braidcast): (&mut Cluster, &Path), stop: &Stop) -> Result<BesideFetch> {
    cluster.make_cold()?;
    let mut watch = || {
        // Nobody drove the viewers while the one before was waited for.
        crowd.run_until(Instant::now() + SETTLE, stop, || cluster.check())?;
        let before = cluster.disk_bytes()?;
        let get = cluster.fetch_cold(braidcast)?;
        crowd.tally().begin();
        crowd.run_until(Instant::now() + BESIDE_FETCH, stop, || cluster.check())?;
        let spread = crowd.tally().replies.spread();
        get.finish(stop, FETCH_WAIT)?;
        Ok::<(Spread, u64), anyhow::Error>((spread, cluster.disk_bytes()? - before))
    };
    let (cold, read) = watch()?;
    if (read as f64) < COLD_PART_MIN * COLD_BYTES as f64 {
        bail!(
            "only {read} of {COLD_BYTES} bytes came from the disk: is the folder for temporary files in memory? Set TMPDIR"
        );
    }
    Ok(BesideFetch { cold, warm: watch()?.0 })
}

/// One viewer fetches the whole file, more than once: what the server takes for all of its sessions together is there
/// then, and what it takes from then on is for the others.
fn warm_up(film: &Film, host: &Host, stop: &Stop) -> Result<()> {
    let now = Instant::now();
    let config = ViewerConfig { wish: Wish::Greedy, joins_at: now, start: 0, chunks_per_pull: CHUNKS_PER_PULL_MAX };
    let mut crowd = Crowd::new(vec![Viewer::new(config, film, host.clone())?])?;
    crowd.run_until(now + WARM_UP, stop, || Ok(()))?;
    if crowd.tally().bytes_greedy == 0 {
        let why = crowd.tally().run.failures.join("; ");
        bail!("the server sent nothing to the first viewer within {WARM_UP:?}: {why}; see --keep-logs");
    }
    Ok(())
}

/// What the viewers have counted.
fn counted(crowd: &mut Crowd, now: Instant) -> Figures {
    let overdue: u64 = crowd.viewers().map(|viewer| viewer.overdue(now)).sum();
    let lost_chunks = crowd.viewers().map(Viewer::lost_chunks).sum();
    let not_served = crowd.viewers().filter(|viewer| !viewer.is_served()).count() as u32;
    // A kernel that cannot tell loses nothing that is known of.
    let drops = |viewer: &Viewer| u64::from(viewer.socket().local_drops().unwrap_or(0));
    let tool_drops = crowd.viewers().map(drops).sum();
    let tally = std::mem::take(crowd.tally());
    let run = tally.run;
    Figures {
        replies: tally.replies.spread(),
        replies_greedy: tally.replies_greedy.spread(),
        starts: run.starts.spread(),
        bytes: tally.bytes,
        bytes_greedy: tally.bytes_greedy,
        late_chunks: run.late + overdue,
        latest_ms: run.latest.as_secs_f64() * 1e3,
        verified_chunks: run.verified,
        unopened_chunks: run.unopened,
        rejected_chunks: run.rejected,
        unwanted_chunks: run.unwanted,
        lost_chunks,
        not_served,
        failures: run.failures,
        timers: tally.timers.spread(),
        tool_drops,
        ..Figures::default()
    }
}

/// All viewers, spread over the file and over the time in which they arrive; greedy ones among the others.
fn viewers(arguments: &Arguments, film: &Film, hosts: &[Host]) -> Result<Vec<Viewer>> {
    let (sessions, greedy) = (u64::from(arguments.sessions()), u64::from(arguments.greedy));
    let begin = Instant::now();
    let viewer = |(place, host): (u64, &Host)| {
        let is_greedy = (place + 1) * greedy / sessions > place * greedy / sessions;
        let config = ViewerConfig {
            wish: match is_greedy {
                true => Wish::Greedy,
                false => Wish::Film(Playback::new(arguments.rate.0, arguments.window())),
            },
            joins_at: begin + ARRIVAL_EVERY * place as u32,
            start: (place * u64::from(film.chunks) / sessions) as u32,
            chunks_per_pull: if is_greedy { CHUNKS_PER_PULL_MAX } else { arguments.chunks_per_pull },
        };
        Viewer::new(config, film, host.clone())
    };
    (0..).zip(hosts).map(viewer).collect()
}

fn braidcast(arguments: &Arguments) -> Result<PathBuf> {
    let beside = || Ok(std::env::current_exe()?.with_file_name("braidcast"));
    let path = arguments.braidcast.clone().map_or_else(beside, anyhow::Ok)?;
    if !path.is_file() {
        bail!("{}: no such command; build it with: cargo build --release --package braidcast-cli", path.display());
    }
    Ok(path)
}
