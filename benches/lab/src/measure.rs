//! Downloads of one kind or another, and what came of them.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::blast::Received;
use crate::namespace::run;
use crate::ports;
use crate::process::Process;
use crate::router::fabric::HostId;
use crate::world::{CLIENT, LONG, World, server};

/// The first payload is there within this, or it never comes.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// What is still under way when a download was ended arrives within this.
const SETTLE: Duration = Duration::from_millis(1_500);
const END_WAIT: Duration = Duration::from_secs(15);

/// Payload over time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Goodput {
    /// Bytes of payload.
    pub(crate) bytes: u64,
    /// From the first to the end of the measurement.
    pub(crate) time: Duration,
    /// What there is to say.
    pub(crate) note: String,
}

impl Goodput {
    /// Bits per second.
    pub(crate) fn bit_s(&self) -> f64 {
        if self.time.is_zero() { 0.0 } else { self.bytes as f64 * 8.0 / self.time.as_secs_f64() }
    }
}

/// What `braidcast get --json` prints, as far as it matters here.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct GetReport {
    /// Bytes of the video.
    pub(crate) bytes: u64,
    /// From the start of the process.
    pub(crate) seconds: f64,
    /// Whether every extent's hash was checked.
    pub(crate) verified: bool,
    /// Payload beyond what was needed.
    pub(crate) redundant_bytes: u64,
}

/// A `braidcast get` that runs.
pub(crate) struct Get {
    process: Process,
    host: HostId,
}

impl Get {
    /// Starts to fetch a video.
    pub(crate) fn start(world: &mut World, host: HostId, name: &str) -> Result<Self> {
        Self::run(world, host, &format!("get {name} -o /dev/null --json"))
    }

    /// Starts to fetch a video that gives way to other traffic.
    pub(crate) fn start_in_background(world: &mut World, host: HostId, name: &str) -> Result<Self> {
        Self::run(world, host, &format!("get {name} -o /dev/null --json --background"))
    }

    fn run(world: &mut World, host: HostId, command: &str) -> Result<Self> {
        Ok(Self { process: world.braidcast(host, command)?, host })
    }

    /// Waits for the first payload; gives when it came.
    pub(crate) fn wait_first(&mut self, world: &World) -> Result<Duration> {
        let host = self.host;
        world.stop().wait_for("no payload came", FIRST_WAIT, || {
            let first = world.network.router.with(move |fabric, _| fabric.arrivals(host).media_first());
            if first.is_none()
                && let Some(status) = self.process.ended()?
            {
                bail!("get: {status}: {}", self.process.last_words());
            }
            Ok(first)
        })
    }

    /// Lets it run until `end`, or until it is through.
    pub(crate) fn run_until(&mut self, world: &World, end: Duration) -> Result<()> {
        while world.now() < end && self.process.ended()?.is_none() {
            world.stop().sleep(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Waits until it is through.
    pub(crate) fn finish(self, world: &World, limit: Duration) -> Result<GetReport> {
        let printed = self.process.finish(world.stop(), limit)?;
        serde_json::from_str(printed.trim()).with_context(|| format!("get printed {printed:?}"))
    }

    /// Payload from `from` to `to`, or until it was through.
    pub(crate) fn goodput(&mut self, world: &World, from: Duration, to: Duration) -> Result<Goodput> {
        let host = self.host;
        let status = self.process.ended()?;
        let is_through = status.is_some_and(|status| status.success());
        let (bytes, again, last) = world.network.router.with(move |fabric, _| {
            let arrivals = fabric.arrivals(host);
            (arrivals.media_between(from, to), arrivals.data_again_bytes, arrivals.media_last())
        });
        let time = if is_through { last.min(to) - from } else { to - from };
        let mut note = format!("{:.1}% twice", 100.0 * again as f64 / (bytes + again).max(1) as f64);
        if let Some(status) = status.filter(|status| !status.success()) {
            note = format!("get: {status}: {}", self.process.last_words());
        }
        Ok(Goodput { bytes, time, note })
    }
}

/// What `get` gives over some seconds from the first DATA. What goes wrong is in the note.
pub(crate) fn get(world: &mut World, seconds: u32) -> Result<Goodput> {
    let mut get = Get::start(world, CLIENT, LONG)?;
    let first = match get.wait_first(world) {
        Ok(first) => first,
        Err(error) => return failed(world, &error),
    };
    let end = first + Duration::from_secs(seconds.into());
    get.run_until(world, end)?;
    get.goodput(world, first, end)
}

/// A measurement that did not take place; an interruption ends the run instead.
fn failed(world: &World, error: &anyhow::Error) -> Result<Goodput> {
    world.stop().check()?;
    Ok(Goodput { note: format!("{error:#}"), ..Goodput::default() })
}

/// How TCP reacts to loss.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Congestion {
    /// RFC 9438.
    Cubic,
    /// Version 1, as in Linux.
    Bbr,
}

impl Congestion {
    /// Both.
    pub(crate) const ALL: [Self; 2] = [Self::Cubic, Self::Bbr];

    /// As the kernel calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Cubic => "cubic",
            Self::Bbr => "bbr",
        }
    }
}

/// A `curl` that fetches the long video from the web server beside media server 0.
pub(crate) struct Curl {
    process: Process,
    used: String,
}

impl Curl {
    /// Starts it, for at most some seconds.
    pub(crate) fn start(world: &mut World, host: HostId, congestion: Congestion, seconds: u32) -> Result<Self> {
        let from = world.host(server(0));
        // The route's choice needs no sysctl, which namespaces may set to unrestricted algorithms only.
        from.namespace.ip(&format!("route change default dev tun0 congctl {}", congestion.name()))?;
        let url = format!("http://{}:{}/{LONG}", from.address, ports::WEB);
        let (limit, format) = (seconds.to_string(), "%{size_download} %{time_starttransfer} %{time_total}");
        let arguments = ["-sS", "-o", "/dev/null", "--max-time", &limit, "-w", format, &url].map(str::to_owned);
        let process = world.start(host, "curl", Path::new("curl"), &arguments)?;
        Ok(Self { process, used: String::new() })
    }

    /// Notes the congestion control of the connection that runs now.
    pub(crate) fn look(&mut self, world: &World) -> Result<()> {
        let mut ss = world.host(server(0)).namespace.command("ss");
        let listed = run(ss.args(["-tinH", "state", "established", "sport", "=", &format!(":{}", ports::WEB)]))?;
        let known = |word: &&str| ["cubic", "bbr", "reno"].contains(word);
        let used = listed.split_whitespace().find(known);
        self.used = used.unwrap_or("unknown").to_owned();
        Ok(())
    }

    /// What the connection used, as `ss` told.
    pub(crate) fn used(&self) -> &str {
        &self.used
    }

    /// Waits for its end and gives what it says.
    fn finish(mut self, world: &World, limit: Duration) -> Result<Goodput> {
        world.stop().wait_for("curl still runs", limit, || self.process.ended())?;
        let printed = self.process.printed();
        let figures: Vec<f64> = printed.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [bytes, start, total] = figures[..] else {
            bail!("curl: {}", self.process.last_words());
        };
        let time = Duration::from_secs_f64((total - start).max(0.0));
        Ok(Goodput { bytes: bytes as u64, time, note: format!("ss: {}", self.used) })
    }
}

/// What `curl` gives over some seconds.
pub(crate) fn curl(world: &mut World, congestion: Congestion, seconds: u32) -> Result<Goodput> {
    let mut curl = Curl::start(world, CLIENT, congestion, seconds)?;
    world.stop().sleep(Duration::from_secs(seconds.into()) / 2)?;
    curl.look(world)?;
    match curl.finish(world, Duration::from_secs(seconds.into()) + END_WAIT) {
        Ok(goodput) => Ok(goodput),
        Err(error) => failed(world, &error),
    }
}

/// What `aria2c` gives over some seconds from the web servers beside all media servers at once.
pub(crate) fn aria2c(world: &mut World, seconds: u32) -> Result<Goodput> {
    let urls = (0..world.servers()).map(|n| format!("http://{}:{}/{LONG}", world.host(server(n)).address, ports::WEB));
    let folder = world.scratch().display().to_string();
    let split = world.servers().to_string();
    let mut arguments = ["--quiet", "--allow-overwrite=true", "--file-allocation=none", "--auto-file-renaming=false"]
        .map(str::to_owned)
        .to_vec();
    arguments.extend([format!("--split={split}"), "--min-split-size=1M".to_owned(), format!("--dir={folder}")]);
    arguments.extend(urls);
    let process = world.start(CLIENT, "aria2c", Path::new("aria2c"), &arguments)?;
    world.stop().sleep(Duration::from_secs(seconds.into()))?;
    drop(process);
    let until = Duration::from_secs(seconds.into());
    let (bytes, time) = world.network.router.with(move |fabric, now| {
        let web = &fabric.arrivals(CLIENT).web;
        let first = web.first.unwrap_or(now);
        let end = (first + until).min(web.last.max(first));
        (web.between(first, end), end - first)
    });
    Ok(Goodput { bytes, time, note: String::new() })
}

/// What a sender gets through that does not care, from a media server's host to the client. Without a rate it sends as
/// fast as it can.
pub(crate) fn blast(world: &mut World, rate_bit_s: Option<u64>, seconds: u32) -> Result<Goodput> {
    let lab = std::env::current_exe()?;
    let to = format!("{}:{}", world.host(CLIENT).address, ports::SINK);
    let arguments = ["sink", "--listen", &to].map(str::to_owned);
    let mut sink = world.start(CLIENT, "sink", &lab, &arguments)?;
    sink.wait_line(world.stop(), "sink listening", END_WAIT)?;
    let mut arguments = ["blast", "--to", &to, "--seconds", &seconds.to_string()].map(str::to_owned).to_vec();
    if let Some(rate) = rate_bit_s {
        arguments.extend(["--rate".to_owned(), rate.to_string()]);
    }
    let limit = Duration::from_secs(seconds.into()) + END_WAIT;
    let stop = world.stop().clone();
    world.start(server(0), "blast", &lab, &arguments)?.finish(&stop, limit)?;
    let printed = sink.finish(&stop, limit)?;
    let received: Received = serde_json::from_str(printed.lines().next_back().unwrap_or_default())?;
    let payload = braidcast_media::layout::CHUNK_BYTES as u64;
    let time = Duration::from_secs_f64(received.seconds);
    Ok(Goodput { bytes: received.datagrams * payload, time, note: String::new() })
}

/// Waits until nothing of an earlier download is under way.
pub(crate) fn settle(world: &World) -> Result<()> {
    world.stop().sleep(SETTLE)
}
