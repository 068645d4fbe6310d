//! Others on the same link: another client, and TCP.

use std::time::Duration;

use braidcast_client::fetcher::Traffic;

use super::{Figure, MBIT, SEED, Scenario, bdp_bytes, downlink, endless, payload_until, uplink};
use crate::client::{ClientConfig, Violation};
use crate::link::LinkConfig;
use crate::tcp::Algorithm;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "two clients share a link evenly", run: || two_clients(1) },
    Scenario { name: "two clients with three sources each share a link evenly", run: || two_clients(3) },
    Scenario { name: "a client with three sources leaves room for TCP CUBIC", run: beside_cubic },
    Scenario {
        name: "a client with three sources leaves room for TCP CUBIC in a short queue",
        run: beside_cubic_in_a_short_queue,
    },
    Scenario { name: "a client has its link back when TCP has gone", run: after_cubic },
    Scenario { name: "a client with three sources leaves room for TCP BBR", run: beside_bbr },
    Scenario { name: "background traffic gives way to TCP CUBIC", run: background },
];

const RATE: u64 = 60 * MBIT;
const RTT: Duration = Duration::from_millis(40);

/// Who meets whom in which moment is chance, and one seed may be lucky: the least of so many is given.
const SEEDS: std::ops::Range<u64> = SEED..SEED + 4;

/// What is the least of each figure over [`SEEDS`].
fn least<const N: usize>(run: impl Fn(u64) -> Result<[f64; N], Violation>) -> Result<[f64; N], Violation> {
    let mut least = [f64::INFINITY; N];
    for seed in SEEDS {
        for (least, figure) in least.iter_mut().zip(run(seed)?) {
            *least = least.min(figure);
        }
    }
    Ok(least)
}

/// Jain's index: 1 when all get the same, 1/n when one gets all.
fn jain(shares: &[f64]) -> f64 {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share * share).sum();
    sum * sum / (shares.len() as f64 * squares).max(f64::MIN_POSITIVE)
}

fn two_clients(servers: usize) -> Result<Vec<Figure>, Violation> {
    let [jain, first, second] = least(|seed| {
        let [first, second] = two_shares(seed, servers)?;
        Ok([jain(&[first, second]), first, second])
    })?;
    Ok(vec![
        Figure::at_least(0.95, "Jain's index over the 30 s after the second client joins", jain),
        Figure::beside("  share of the first", first),
        Figure::beside("  share of the second", second),
    ])
}

/// Shares of two clients of so many servers in the 30 s after the second has joined.
fn two_shares(seed: u64, servers: usize) -> Result<[f64; 2], Violation> {
    const JOINS: Duration = Duration::from_secs(10);
    const END: Duration = Duration::from_secs(40);
    let mut world = World::new(seed, endless(RATE, END));
    let servers: Vec<_> = (0..servers).map(|_| world.add_server()).collect();
    let shared = world.add_path(downlink(RATE, RTT), uplink(RTT));
    let first = world.add_client(ClientConfig::default());
    servers.iter().for_each(|server| world.connect(*server, first, &[shared]));
    world.run_until(JOINS)?;
    let second = world.add_client(ClientConfig::default());
    servers.iter().for_each(|server| world.connect(*server, second, &[shared]));
    let before = world.client(0).accepted_bytes();
    world.run_until(END)?;
    let shares = [world.client(0).accepted_bytes() - before, world.client(1).accepted_bytes()];
    Ok(shares.map(|got| got as f64 / super::payload_bytes(RATE, END - JOINS)))
}

/// Shares of a client with three sources and of a TCP flow on one downlink, in a minute after both have started. Who comes
/// first has more to give up; the seed says who does.
fn shares(seed: u64, traffic: Traffic, algorithm: Algorithm, down: LinkConfig) -> Result<[f64; 2], Violation> {
    const START: Duration = Duration::from_secs(20);
    const END: Duration = Duration::from_secs(80);
    const LATER: Duration = Duration::from_secs(5);
    let (client_at, tcp_at) = if seed.is_multiple_of(2) { (Duration::ZERO, LATER) } else { (LATER, Duration::ZERO) };
    let mut world = World::new(seed, endless(RATE, END));
    let shared = world.add_path(down, uplink(RTT));
    let (far, near) = (world.add_peer(), world.add_peer());
    world.connect(far, near, &[shared]);
    let flow = world.add_tcp(far, near, tcp_at, algorithm);
    world.run_until(client_at)?;
    // At the same place as the flow's end: they differ in nothing but their far ends.
    let client = world.add_client(ClientConfig { traffic, ..ClientConfig::default() });
    for _ in 0..3 {
        let server = world.add_server();
        world.connect(server, client, &[shared]);
    }
    world.run_until(START)?;
    let before = world.flow(flow).delivered_bytes();
    let ours = payload_until(&mut world, 0, END)?;
    let theirs = (world.flow(flow).delivered_bytes() - before) as f64;
    let all = super::payload_bytes(RATE, END - START);
    Ok([ours / all, theirs / all])
}

fn beside(name: &str, algorithm: Algorithm, down: LinkConfig) -> Result<Vec<Figure>, Violation> {
    let [ours, theirs] = least(|seed| shares(seed, Traffic::Normal, algorithm, down))?;
    Ok(vec![
        Figure::at_least(0.25, format!("share of TCP {name} beside a client with three sources"), theirs),
        Figure::at_least(0.25, "  share of the client", ours),
    ])
}

fn beside_cubic() -> Result<Vec<Figure>, Violation> {
    beside("CUBIC", Algorithm::Cubic, downlink(RATE, RTT))
}

/// The round trip tells nothing there: the queue is full before it has risen.
fn beside_cubic_in_a_short_queue() -> Result<Vec<Figure>, Violation> {
    let down = LinkConfig { queue_bytes: Some(bdp_bytes(RATE, RTT) / 10), ..downlink(RATE, RTT) };
    beside("CUBIC, a queue of 0.1 BDP,", Algorithm::Cubic, down)
}

/// Mechanism: a flow by CUBIC's law that is alone in a short queue makes it overflow by itself, and took that for a rival.
fn after_cubic() -> Result<Vec<Figure>, Violation> {
    const GOES: Duration = Duration::from_secs(30);
    const START: Duration = Duration::from_secs(50);
    const END: Duration = Duration::from_secs(80);
    let [share] = least(|seed| {
        let down = LinkConfig { queue_bytes: Some(bdp_bytes(RATE, RTT) / 10), ..downlink(RATE, RTT) };
        let mut world = World::new(seed, endless(RATE, END));
        let (shared, own) =
            (world.add_path(down, uplink(RTT)), world.add_path(LinkConfig::default(), LinkConfig::default()));
        let (far, near) = (world.add_peer(), world.add_peer());
        world.connect(far, near, &[own, shared]);
        world.add_tcp(far, near, Duration::ZERO, Algorithm::Cubic);
        let client = world.add_client(ClientConfig::default());
        for _ in 0..3 {
            let server = world.add_server();
            world.connect(server, client, &[shared]);
        }
        world.run_until(GOES)?;
        world.network_mut().change_link(own.down, |link| link.is_cut = true);
        world.run_until(START)?;
        Ok([payload_until(&mut world, 0, END)? / super::payload_bytes(RATE, END - START)])
    })?;
    Ok(vec![Figure::at_least(0.9, "share of a client from 20 s after TCP CUBIC has gone, a queue of 0.1 BDP", share)])
}

fn beside_bbr() -> Result<Vec<Figure>, Violation> {
    beside("BBR", Algorithm::Bbr, downlink(RATE, RTT))
}

fn background() -> Result<Vec<Figure>, Violation> {
    let [ours, theirs] = least(|seed| shares(seed, Traffic::Background, Algorithm::Cubic, downlink(RATE, RTT)))?;
    Ok(vec![
        Figure::at_least(0.8, "share of TCP CUBIC beside background traffic", theirs),
        Figure::beside("  share of the client", ours),
    ])
}
