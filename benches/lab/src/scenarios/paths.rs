//! One source, one path: loss, delay, queues. Everyone is measured on the same link, one after the other.

use std::time::Duration;

use anyhow::Result;
use braidcast_sim::link::{Bursts, LinkConfig};

use super::{Bench, Direction, MBIT, Scenario, bdp_bytes, bottleneck, payload_bit_s};
use crate::measure::{self, Congestion, Get, Goodput};
use crate::table::Row;
use crate::world::{CLIENT, SHORT};

pub(super) const SCENARIOS: &[Scenario] = &[
    path("unlimited", "no link at all: what the lab itself carries", 0, true, unlimited),
    path("random-loss-0", "100 Mbit/s, 50 ms, a queue of one BDP", 100, false, |bench| lossy(bench, 0.0, 0.0)),
    path("random-loss-1", "the same with 1% random loss to the client", 100, true, |bench| lossy(bench, 0.01, 0.0)),
    path("random-loss-10", "the same with 10% random loss to the client", 100, false, |bench| lossy(bench, 0.1, 0.0)),
    path("random-loss-both", "the same with 1% random loss both ways", 100, false, |bench| lossy(bench, 0.01, 0.01)),
    path("bursty-loss-2", "the same with 2% loss in bursts of 5", 100, false, bursty),
    path("slow-link", "1 Mbit/s, 300 ms, a queue of 20 packets", 1, false, slow),
    path("long-link", "50 Mbit/s, 600 ms, a queue of one BDP", 50, false, long),
    path("shallow-queue", "100 Mbit/s, 50 ms, a queue of 0.1 BDP", 100, false, |bench| queue(bench, 0.1)),
    path("deep-queue", "100 Mbit/s, 50 ms, a queue of 4 BDP", 100, false, |bench| queue(bench, 4.0)),
    path("fast-link", "1 Gbit/s, 2 ms, a queue of one BDP", 500, false, fast),
];

const fn path(
    name: &'static str,
    about: &'static str,
    mbit_s: u64,
    is_short: bool,
    run: fn(&mut Bench<'_>) -> Result<()>,
) -> Scenario {
    Scenario { name, about, servers: 1, mbit_s, is_short, run }
}

/// How long the blaster sends.
const BLAST_SECONDS: u32 = 3;
/// Downloads of which the median counts.
const DOWNLOADS: usize = 3;
/// A whole download may take so much longer than it should.
const PATIENCE: u32 = 10;

/// A link and what is asked of a download over it.
#[derive(Clone)]
struct Path {
    text: String,
    rate_bit_s: u64,
    rtt: Duration,
    down: LinkConfig,
    up: LinkConfig,
    /// Share of packets that the wire towards the client loses.
    loss: f64,
    /// Share over 60 s, before loss.
    goal: f64,
}

impl Path {
    fn new(rate_bit_s: u64, rtt_ms: u64, queue_bytes: u64, queue: &str) -> Self {
        let rtt = Duration::from_millis(rtt_ms);
        let link = bottleneck(rate_bit_s, rtt / 2, queue_bytes);
        let text = format!("{} Mbit/s, {rtt_ms} ms, {queue}", rate_bit_s / MBIT);
        Self { text, rate_bit_s, rtt, down: link, up: link, loss: 0.0, goal: 0.95 }
    }

    /// Lays the link between the client and the rest of the world.
    fn lay(&self, bench: &Bench<'_>) -> Result<()> {
        measure::settle(bench.world)?;
        let (down, up) = (self.down, self.up);
        bench.world.wire(move |fabric| {
            fabric.set_down(CLIENT, down);
            fabric.set_up(CLIENT, up);
        });
        Ok(())
    }

    fn add(&self, bench: &mut Bench<'_>, who: &str, goodput: &Goodput, goal: Option<f64>) {
        bench.add(&self.text, who, goodput, self.rate_bit_s, goal, &[Direction::Down(CLIENT)]);
    }

    /// Goodput of a download over it, then of the peers.
    fn measure(&self, bench: &mut Bench<'_>) -> Result<()> {
        self.blast(bench)?;
        let goal = bench.goal(self.goal) * (1.0 - self.loss);
        self.get(bench, goal)?;
        self.peers(bench)
    }

    fn blast(&self, bench: &mut Bench<'_>) -> Result<f64> {
        self.lay(bench)?;
        let goodput = measure::blast(bench.world, Some(self.rate_bit_s / 100 * 105), BLAST_SECONDS)?;
        self.add(bench, "blaster", &goodput, None);
        Ok(goodput.bit_s())
    }

    fn get(&self, bench: &mut Bench<'_>, goal: f64) -> Result<()> {
        self.lay(bench)?;
        let goodput = measure::get(bench.world, bench.seconds)?;
        self.add(bench, "braidcast", &goodput, Some(goal));
        Ok(())
    }

    fn peers(&self, bench: &mut Bench<'_>) -> Result<()> {
        if !bench.has_peers {
            return Ok(());
        }
        for congestion in Congestion::ALL {
            self.lay(bench)?;
            let goodput = measure::curl(bench.world, congestion, bench.seconds)?;
            self.add(bench, &format!("curl {}", congestion.name()), &goodput, None);
        }
        Ok(())
    }

    /// A whole download, timed from the start of the process: the median of a few, because a lost packet of the connection
    /// to the master may cost one of them a time-out of the kernel's TCP.
    fn whole(&self, bench: &mut Bench<'_>, goal: f64) -> Result<()> {
        let mut downloads = Vec::with_capacity(DOWNLOADS);
        for _ in 0..DOWNLOADS {
            downloads.push(self.whole_once(bench)?);
        }
        downloads.sort_by(|a, b| a.bit_s().total_cmp(&b.bit_s()));
        let goodput = downloads.swap_remove(DOWNLOADS / 2);
        self.add(bench, "braidcast, 60 MB", &goodput, Some(goal));
        Ok(())
    }

    fn whole_once(&self, bench: &mut Bench<'_>) -> Result<Goodput> {
        self.lay(bench)?;
        let ideal = crate::world::SHORT_BYTES as f64 * 8.0 / payload_bit_s(self.rate_bit_s);
        let get = Get::start(bench.world, CLIENT, SHORT)?;
        match get.finish(bench.world, Duration::from_secs_f64(ideal * f64::from(PATIENCE))) {
            Ok(report) => {
                let redundant = 100.0 * report.redundant_bytes as f64 / report.bytes as f64;
                let verified = if report.verified { "verified" } else { "NOT VERIFIED" };
                let note = format!("median: {:.2} s, {verified}, {redundant:.1}% redundant", report.seconds);
                let bytes = if report.verified { report.bytes } else { 0 };
                Ok(Goodput { bytes, time: Duration::from_secs_f64(report.seconds), note })
            }
            Err(error) => {
                bench.world.stop().check()?;
                Ok(Goodput { note: format!("{error:#}"), ..Goodput::default() })
            }
        }
    }
}

fn unlimited(bench: &mut Bench<'_>) -> Result<()> {
    measure::settle(bench.world)?;
    bench.world.wire(|_| {});
    let at_once = measure::blast(bench.world, None, BLAST_SECONDS)?;
    let report = |goodput: &Goodput, who: &str| Row {
        scenario: "unlimited",
        link: "no limit".to_owned(),
        who: who.to_owned(),
        result: format!("{:.0} Mbit/s", goodput.bit_s() / 1e6),
        ..Row::default()
    };
    bench.add_row(report(&at_once, "blaster"), &[Direction::Down(CLIENT)]);
    Ok(())
}

fn base(queue_of_bdp: f64) -> Path {
    let (rate, rtt_ms) = (100 * MBIT, 50);
    let bdp = bdp_bytes(rate, Duration::from_millis(rtt_ms)) as f64;
    Path::new(rate, rtt_ms, (bdp * queue_of_bdp) as u64, &format!("{queue_of_bdp} BDP"))
}

fn lossy(bench: &mut Bench<'_>, down: f64, up: f64) -> Result<()> {
    let mut path = base(1.0);
    path.loss = down;
    path.down.loss = down;
    path.up.loss = up;
    path.text = format!("{}, loss {}%/{}%", path.text, down * 100.0, up * 100.0);
    path.measure(bench)?;
    path.whole(bench, 0.85 * (1.0 - down))
}

fn bursty(bench: &mut Bench<'_>) -> Result<()> {
    let mut path = base(1.0);
    path.loss = 0.02;
    path.down.bursts = Some(Bursts::of(path.loss, 5.0));
    path.text = format!("{}, 2% in bursts", path.text);
    path.measure(bench)?;
    path.whole(bench, 0.85 * (1.0 - path.loss))
}

fn slow(bench: &mut Bench<'_>) -> Result<()> {
    let packets = 20;
    let mut path = Path::new(MBIT, 300, packets * 1_500, &format!("{packets} packets"));
    path.goal = 0.9;
    path.measure(bench)
}

fn long(bench: &mut Bench<'_>) -> Result<()> {
    let rate = 50 * MBIT;
    let mut path = Path::new(rate, 600, bdp_bytes(rate, Duration::from_millis(600)), "1 BDP");
    path.goal = 0.9;
    path.measure(bench)
}

fn queue(bench: &mut Bench<'_>, bdp: f64) -> Result<()> {
    let mut path = base(bdp);
    path.goal = 0.9;
    path.blast(bench)?;
    path.get(bench, bench.goal(path.goal))?;
    if bdp > 1.0 {
        let most = path.rtt.mul_f64(1.5);
        let median = bench.world.network.router.with(|fabric, _| fabric.down_report(CLIENT).queued_median);
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let row = Row {
            scenario: bench.name,
            link: path.text.clone(),
            who: "braidcast's queue".to_owned(),
            result: ms(median),
            goal: format!("<= {}", ms(most)),
            is_met: Some(median <= most),
            ..Row::default()
        };
        bench.add_row(row, &[Direction::Down(CLIENT)]);
    }
    path.peers(bench)
}

/// Here the lab is the limit: half of what the blaster gets will do.
fn fast(bench: &mut Bench<'_>) -> Result<()> {
    let rate = 1_000 * MBIT;
    let path = Path::new(rate, 2, bdp_bytes(rate, Duration::from_millis(2)), "1 BDP");
    let blaster = path.blast(bench)?;
    path.get(bench, blaster / payload_bit_s(rate) / 2.0)?;
    path.peers(bench)
}
