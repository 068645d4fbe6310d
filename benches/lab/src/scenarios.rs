//! What is measured. A scenario is named by what the network does.

mod failures;
mod film;
mod paths;
mod sharing;
mod sources;

use std::time::Duration;

use anyhow::Result;
use braidcast_media::layout::{CHUNK_BYTES, PACKET_BYTES};
use braidcast_sim::link::{LinkConfig, UDP_HEADER_BYTES};

use crate::measure::Goodput;
use crate::router::fabric::{Fabric, HostId, WireReport};
use crate::table::{Row, Table};
use crate::world::World;

/// A scenario.
pub(crate) struct Scenario {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What happens in it.
    pub(crate) about: &'static str,
    /// Media servers that it takes.
    pub(crate) servers: usize,
    /// Mbit/s that the client can get, which says how long its video must be.
    pub(crate) mbit_s: u64,
    /// Whether `--short` includes it.
    pub(crate) is_short: bool,
    /// What is done.
    pub(crate) run: fn(&mut Bench<'_>) -> Result<()>,
}

/// All scenarios. Those with as many servers stand together, and share a world.
pub(crate) fn all() -> Vec<Scenario> {
    let of_one = [paths::SCENARIOS, failures::OF_ONE_SERVER];
    let of_several = [sources::SCENARIOS, sharing::SCENARIOS, failures::OF_SEVERAL, film::SCENARIOS];
    of_one.into_iter().chain(of_several).flatten().copied().collect()
}

impl Clone for Scenario {
    fn clone(&self) -> Self {
        *self
    }
}

impl Copy for Scenario {}

/// What a scenario works with.
pub(crate) struct Bench<'a> {
    /// Where it takes place.
    pub(crate) world: &'a mut World,
    /// Where its measurements go.
    pub(crate) table: &'a mut Table,
    /// The scenario's name.
    pub(crate) name: &'static str,
    /// How long goodput is measured.
    pub(crate) seconds: u32,
    /// Whether peers are measured too.
    pub(crate) has_peers: bool,
}

/// How long goodput is measured unless told otherwise; goals are set for this.
pub(crate) const SECONDS: u32 = 60;
/// 99% of the packets were not later than this, or the router was too busy to stand for a network.
const LATE_MAX: Duration = Duration::from_millis(3);

impl Bench<'_> {
    /// A share that is a goal over 60 s, for the seconds measured here: the same time may be lost at the start, but
    /// never more than half.
    fn goal(&self, share: f64) -> f64 {
        (1.0 - (1.0 - share) * f64::from(SECONDS) / f64::from(self.seconds.min(SECONDS))).max(0.5)
    }

    /// Adds a measurement of goodput on a link of `rate_bit_s`; `goal` is a share of the payload that the link can
    /// carry, `bottleneck` gives the reports of the directions in question.
    fn add(&mut self, link: &str, who: &str, goodput: &Goodput, rate_bit_s: u64, goal: Option<f64>, at: &[Direction]) {
        let share = goodput.bit_s() / payload_bit_s(rate_bit_s);
        let row = Row {
            scenario: self.name,
            link: link.to_owned(),
            who: who.to_owned(),
            result: format!("{:.2} Mbit/s  {:.1}%", goodput.bit_s() / 1e6, share * 100.0),
            goal: goal.map(|goal| format!("{:.1}%", goal * 100.0)).unwrap_or_default(),
            is_met: goal.map(|goal| share >= goal),
            note: goodput.note.clone(),
            ..Row::default()
        };
        self.add_row(row, at);
    }

    /// A goal that was missed because nothing came of it; an interruption ends the run instead.
    fn failed(&self, error: &anyhow::Error) -> Result<Row> {
        self.world.stop().check()?;
        Ok(Row { result: "failed".to_owned(), is_met: Some(false), note: format!("{error:#}"), ..Row::default() })
    }

    /// Adds a measurement of something else.
    fn add_row(&mut self, mut row: Row, at: &[Direction]) {
        let at = at.to_vec();
        let (reports, own) = self.world.network.router.with(move |fabric, _| {
            let reports: Vec<WireReport> = at.iter().map(|direction| direction.report(fabric)).collect();
            (reports, fabric.own_report())
        });
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let most = |time: fn(&WireReport) -> Duration| reports.iter().map(time).max().unwrap_or_default();
        let (median, p95) = (most(|report| report.queued_median), most(|report| report.queued_p95));
        row.queue = format!("{:.1}/{:.1}", ms(median), ms(p95));
        let (mut wire, mut queue, mut all) = (0, 0, 0);
        for WireReport { counters, .. } in &reports {
            wire += counters.lost_on_wire;
            queue += counters.dropped_by_queue;
            all += counters.sent_packets + counters.dropped_by_queue;
        }
        let percent = |packets: u64| 100.0 * packets as f64 / all.max(1) as f64;
        row.lost = format!("{:.1}%+{:.1}%", percent(wire), percent(queue));
        let mut notes = vec![std::mem::take(&mut row.note)];
        if own.late_p99 > LATE_MAX {
            notes.push(format!("THE ROUTER WAS LATE by {:.1} ms", ms(own.late_p99)));
        }
        if own.own_losses > 0 {
            notes.push(format!("THE ROUTER LOST {} packets of its own", own.own_losses));
        }
        notes.retain(|note| !note.is_empty());
        row.note = notes.join("; ");
        self.table.add(row);
    }
}

/// One direction of a host's link.
#[derive(Clone, Copy, Debug)]
enum Direction {
    /// What the host sends.
    Up(HostId),
    /// What it receives.
    Down(HostId),
}

impl Direction {
    fn report(self, fabric: &Fabric) -> WireReport {
        match self {
            Self::Up(host) => fabric.up_report(host),
            Self::Down(host) => fabric.down_report(host),
        }
    }
}

/// What a link carries of chunks, of what it carries in all.
fn payload_bit_s(rate_bit_s: u64) -> f64 {
    rate_bit_s as f64 * CHUNK_BYTES as f64 / (PACKET_BYTES + UDP_HEADER_BYTES) as f64
}

/// Bytes that a link of this rate carries in a round trip.
const fn bdp_bytes(rate_bit_s: u64, rtt: Duration) -> u64 {
    (rate_bit_s as f64 / 8.0 * rtt.as_secs_f64()) as u64
}

/// A direction that only delays.
fn delay(time: Duration) -> LinkConfig {
    LinkConfig { delay: time, ..LinkConfig::default() }
}

/// A direction with a rate and a drop-tail queue.
fn bottleneck(rate_bit_s: u64, delay: Duration, queue_bytes: u64) -> LinkConfig {
    LinkConfig { rate_bit_s: Some(rate_bit_s), delay, queue_bytes: Some(queue_bytes), ..LinkConfig::default() }
}

const MBIT: u64 = 1_000_000;
