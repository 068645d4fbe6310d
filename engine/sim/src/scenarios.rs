//! Measured worlds: what the brain makes of a link, of several sources, of others on the same link, and of faults.
//!
//! Each scenario gives figures, each with what is asked of it. Tests assert them, `braidcast-sim --report` prints them.

mod failing;
mod many;
mod one;
mod sharing;

use std::fmt;
use std::time::Duration;

use braidcast_media::layout::CHUNK_BYTES;

use crate::asset::Asset;
use crate::client::{ClientConfig, Violation};
use crate::link::LinkConfig;
use crate::network::{DATA_WIRE_BYTES, HostNo};
use crate::world::{Path, World};

/// A measured world, or several.
#[derive(Clone, Copy)]
pub struct Scenario {
    /// What it shows, in words.
    pub name: &'static str,
    /// Runs it.
    pub run: fn() -> Result<Vec<Figure>, Violation>,
}

/// All scenarios.
pub fn all() -> Vec<Scenario> {
    [one::SCENARIOS, many::SCENARIOS, sharing::SCENARIOS, failing::SCENARIOS].concat()
}

/// The scenario of this name.
///
/// # Panics
/// If there is none.
pub fn named(name: &str) -> Scenario {
    all().into_iter().find(|scenario| scenario.name == name).expect("tests name scenarios that there are")
}

/// Something that was measured.
#[derive(Clone, PartialEq, Debug)]
pub struct Figure {
    /// What.
    pub what: String,
    /// How much.
    pub value: f64,
    /// What is asked of it.
    pub bound: Bound,
}

/// What is asked of a figure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bound {
    /// Nothing: it stands beside others.
    None,
    /// No less than this.
    AtLeast(f64),
    /// No more than this.
    AtMost(f64),
}

impl Figure {
    fn at_least(bound: f64, what: impl Into<String>, value: f64) -> Self {
        Self { what: what.into(), value, bound: Bound::AtLeast(bound) }
    }

    fn at_most(bound: f64, what: impl Into<String>, value: f64) -> Self {
        Self { what: what.into(), value, bound: Bound::AtMost(bound) }
    }

    fn beside(what: impl Into<String>, value: f64) -> Self {
        Self { what: what.into(), value, bound: Bound::None }
    }

    /// Whether it is what is asked of it.
    pub fn holds(&self) -> bool {
        match self.bound {
            Bound::None => true,
            Bound::AtLeast(bound) => self.value >= bound,
            Bound::AtMost(bound) => self.value <= bound,
        }
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, value, bound } = self;
        match bound {
            Bound::None => write!(f, "         {value:8.3}           {what}"),
            Bound::AtLeast(bound) => write!(f, "{} {value:8.3} >= {bound:6.3}  {what}", self.mark()),
            Bound::AtMost(bound) => write!(f, "{} {value:8.3} <= {bound:6.3}  {what}", self.mark()),
        }
    }
}

impl Figure {
    fn mark(&self) -> &'static str {
        if self.holds() { "ok      " } else { "NOT YET " }
    }
}

const MBIT: u64 = 1_000_000;
const SEED: u64 = 4;

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Bytes on their way when a link of this rate is just full.
fn bdp_bytes(rate_bit_s: u64, rtt: Duration) -> u64 {
    (rate_bit_s as f64 / 8.0 * rtt.as_secs_f64()) as u64
}

/// The link towards the client: half of the round trip, a queue of one BDP.
fn downlink(rate_bit_s: u64, rtt: Duration) -> LinkConfig {
    let queue_bytes = Some(bdp_bytes(rate_bit_s, rtt));
    LinkConfig { rate_bit_s: Some(rate_bit_s), delay: rtt / 2, queue_bytes, ..LinkConfig::default() }
}

/// The way back: half of the round trip, and never short of room.
fn uplink(rtt: Duration) -> LinkConfig {
    LinkConfig { delay: rtt / 2, ..LinkConfig::default() }
}

/// Payload bytes that a link can carry in a time.
fn payload_bytes(rate_bit_s: u64, time: Duration) -> f64 {
    let share = CHUNK_BYTES as f64 / DATA_WIRE_BYTES as f64;
    rate_bit_s as f64 / 8.0 * time.as_secs_f64() * share
}

/// An asset that is not used up in a time at a rate.
fn endless(rate_bit_s: u64, time: Duration) -> std::sync::Arc<Asset> {
    Asset::new((rate_bit_s as f64 / 8.0 * time.as_secs_f64()) as u64)
}

/// A client, and servers with links of their own: (down, up).
fn star(world: &mut World, config: ClientConfig, links: &[(LinkConfig, LinkConfig)]) -> (HostNo, Vec<Path>) {
    let client = world.add_client(config);
    let paths = links.iter().map(|(down, up)| {
        let (server, path) = (world.add_server(), world.add_path(*down, *up));
        world.connect(server, client, &[path]);
        path
    });
    let paths = paths.collect();
    (client, paths)
}

/// Payload that the first client gets in `time` from its first DATA on.
fn payload_from_first_data(world: &mut World, time: Duration) -> Result<f64, Violation> {
    world.run(world.now() + s(60), |world| world.client(0).first_data_at().is_some())?;
    let Some(first) = world.client(0).first_data_at() else { return Ok(0.0) };
    world.run_until(first + time)?;
    Ok(world.client(0).accepted_bytes() as f64)
}

/// Payload that a client gets from now to `end`.
fn payload_until(world: &mut World, client: usize, end: Duration) -> Result<f64, Violation> {
    let before = world.client(client).accepted_bytes();
    world.run_until(end)?;
    Ok((world.client(client).accepted_bytes() - before) as f64)
}
