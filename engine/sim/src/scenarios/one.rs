//! One source on one link: fast and slow, long, lossy, with queues of all sizes.

use std::time::Duration;

use braidcast_transport::congestion::Retained;

use super::{
    Figure, MBIT, SEED, Scenario, bdp_bytes, downlink, endless, ms, payload_bytes, payload_from_first_data, s, star,
    uplink,
};
use crate::asset::Asset;
use crate::client::{ClientConfig, Violation};
use crate::link::{Bursts, LinkConfig};
use crate::network::DATA_WIRE_BYTES;
use crate::tcp::{Algorithm, SEGMENT_PAYLOAD_BYTES};
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a long fat link is filled", run: long_and_fat },
    Scenario { name: "random loss does not slow a download", run: random_loss },
    Scenario { name: "bursty loss does not slow a download", run: bursty_loss },
    Scenario { name: "a download is fast from the start", run: download_from_the_start },
    Scenario { name: "a path that is known is filled at once", run: known_path },
    Scenario { name: "a path that has become worse is found out", run: worse_path },
    Scenario { name: "a slow link with a short queue is filled", run: slow_and_short },
    Scenario { name: "a satellite link is filled", run: satellite },
    Scenario { name: "a short queue is enough", run: short_queue },
    Scenario { name: "a queue shorter than the first train is no end", run: four_packets },
    Scenario { name: "a long queue stays short", run: long_queue },
    Scenario { name: "a gigabit link next door is filled", run: gigabit },
];

const TIME: Duration = Duration::from_secs(60);
const RATE: u64 = 100 * MBIT;
const RTT: Duration = Duration::from_millis(50);
/// From process start to the list of servers: TCP and TLS, the question, and one to spare. (The list of hashes comes beside
/// the file.)
const START_ROUND_TRIPS: u32 = 4;

/// What of the payload that the link can carry, less what it loses, comes in a minute.
fn share(down: LinkConfig, up: LinkConfig, loss: f64) -> Result<f64, Violation> {
    let rate = down.rate_bit_s.unwrap_or_default();
    let mut world = World::new(SEED, endless(rate, TIME));
    star(&mut world, ClientConfig::default(), &[(down, up)]);
    let got = payload_from_first_data(&mut world, TIME)?;
    Ok(got / (payload_bytes(rate, TIME) * (1.0 - loss)))
}

/// The same of a TCP flow.
fn tcp_share(algorithm: Algorithm, down: LinkConfig, up: LinkConfig, loss: f64) -> Result<f64, Violation> {
    let mut world = World::new(SEED, Asset::new(0));
    let (far, near) = (world.add_peer(), world.add_peer());
    let path = world.add_path(down, up);
    world.connect(far, near, &[path]);
    let flow = world.add_tcp(far, near, Duration::ZERO, algorithm);
    world.run_until(TIME)?;
    let carried = down.rate_bit_s.unwrap_or_default() as f64 / 8.0 * TIME.as_secs_f64() * (1.0 - loss);
    Ok(world.flow(flow).delivered_bytes() as f64 / (carried * SEGMENT_PAYLOAD_BYTES as f64 / 1_500.0))
}

/// Ours, and TCP beside it on a link of its own.
fn compared(what: &str, bound: f64, down: LinkConfig, up: LinkConfig, loss: f64) -> Result<Vec<Figure>, Violation> {
    Ok(vec![
        Figure::at_least(bound, format!("goodput, {what}"), share(down, up, loss)?),
        Figure::beside("  TCP CUBIC on the same link", tcp_share(Algorithm::Cubic, down, up, loss)?),
        Figure::beside("  TCP BBR on the same link", tcp_share(Algorithm::Bbr, down, up, loss)?),
    ])
}

fn long_and_fat() -> Result<Vec<Figure>, Violation> {
    compared("100 Mbit/s, 50 ms, no loss", 0.95, downlink(RATE, RTT), uplink(RTT), 0.0)
}

fn random_loss() -> Result<Vec<Figure>, Violation> {
    let mut figures = Vec::new();
    for (what, down, up) in [("1%", 0.01, 0.0), ("10%", 0.1, 0.0), ("1% in both directions", 0.01, 0.01)] {
        let (down_link, up_link) = (downlink(RATE, RTT), uplink(RTT));
        let (down_link, up_link) = (LinkConfig { loss: down, ..down_link }, LinkConfig { loss: up, ..up_link });
        figures.extend(compared(what, 0.95, down_link, up_link, down)?);
    }
    let long = LinkConfig { loss: 0.005, ..downlink(5 * MBIT, ms(600)) };
    figures.extend(compared("0.5%, 5 Mbit/s, 600 ms", 0.9, long, uplink(ms(600)), 0.005)?);
    Ok(figures)
}

fn bursty_loss() -> Result<Vec<Figure>, Violation> {
    let down = LinkConfig { bursts: Some(Bursts::of(0.02, 8.0)), ..downlink(RATE, RTT) };
    compared("2% in bursts of 8", 0.95, down, uplink(RTT), 0.02)
}

fn download_from_the_start() -> Result<Vec<Figure>, Violation> {
    const BYTES: u64 = 60_000_000;
    let mut world = World::new(SEED, Asset::new(BYTES));
    let config = ClientConfig { master_delay: RTT * START_ROUND_TRIPS, ..ClientConfig::default() };
    star(&mut world, config, &[(downlink(RATE, RTT), uplink(RTT))]);
    world.run_until_done(s(120))?;
    let share = BYTES as f64 / payload_bytes(RATE, world.now());
    Ok(vec![Figure::at_least(0.85, "goodput of 60 MB from process start", share)])
}

/// What an earlier session has found out of the link of most scenarios.
const RETAINED: Retained = Retained { rate: RATE as f64 / 8.0, rtt: RTT };

/// Less than half of what fills the path comes with the first answer, in half a round trip, and nothing is lost by that.
fn known_path() -> Result<Vec<Figure>, Violation> {
    const BYTES: u64 = 220_000;
    let took = |retained| {
        let mut world = World::new(SEED, Asset::new(BYTES));
        let config = ClientConfig { retained, ..ClientConfig::default() };
        star(&mut world, config, &[(downlink(RATE, RTT), uplink(RTT))]);
        world.run_until_done(s(10))?;
        let round_trips = |time: Duration| time.as_secs_f64() / RTT.as_secs_f64();
        Ok((round_trips(world.now()), world.client(0).fetcher().snapshot().sources[0].lost))
    };
    let ((known, lost), (unknown, _)) = (took(Some(RETAINED))?, took(None)?);
    Ok(vec![
        Figure::at_most(3.6, "round trips for 220 KB on a known path, the master's and the greeting included", known),
        Figure::beside("  on an unknown one", unknown),
        Figure::at_most(0.0, "  chunks lost", lost as f64),
    ])
}

/// What was known leads to a burst of five times what fits.
fn worse_path() -> Result<Vec<Figure>, Violation> {
    let rate = RATE / 10;
    let mut figures = Vec::new();
    for (what, queue_bytes) in [("1 BDP", bdp_bytes(rate, RTT)), ("four packets", 4 * DATA_WIRE_BYTES as u64)] {
        let goodput = |retained| {
            let mut world = World::new(SEED, endless(rate, TIME));
            let config = ClientConfig { retained, ..ClientConfig::default() };
            let down = LinkConfig { queue_bytes: Some(queue_bytes), ..downlink(rate, RTT) };
            star(&mut world, config, &[(down, uplink(RTT))]);
            Ok(payload_from_first_data(&mut world, TIME)? / payload_bytes(rate, TIME))
        };
        let (known, unknown) = (goodput(Some(RETAINED))?, goodput(None)?);
        let what = format!("goodput of a path of a tenth, a queue of {what}, of that of an unknown one");
        figures.push(Figure::at_least(0.97, what, known / unknown));
    }
    // Earlier each of three was alone on the link that they share now.
    let goodput = |retained| {
        let mut world = World::new(SEED, endless(RATE, TIME));
        let client = world.add_client(ClientConfig { retained, ..ClientConfig::default() });
        let shared = world.add_path(downlink(RATE, RTT), uplink(RTT));
        for _ in 0..3 {
            let server = world.add_server();
            world.connect(server, client, &[shared]);
        }
        Ok(payload_from_first_data(&mut world, TIME)? / payload_bytes(RATE, TIME))
    };
    let (known, unknown) = (goodput(Some(RETAINED))?, goodput(None)?);
    let what = "goodput of three that each remember the whole of a link, of that of three that know nothing";
    figures.push(Figure::at_least(0.97, what, known / unknown));
    Ok(figures)
}

fn slow_and_short() -> Result<Vec<Figure>, Violation> {
    let queue_bytes = Some(20 * DATA_WIRE_BYTES as u64);
    let down = LinkConfig { queue_bytes, ..downlink(MBIT, ms(300)) };
    compared("1 Mbit/s, 300 ms, a queue of 20 packets", 0.9, down, uplink(ms(300)), 0.0)
}

fn satellite() -> Result<Vec<Figure>, Violation> {
    compared("50 Mbit/s, 600 ms", 0.9, downlink(50 * MBIT, ms(600)), uplink(ms(600)), 0.0)
}

fn short_queue() -> Result<Vec<Figure>, Violation> {
    let down = LinkConfig { queue_bytes: Some(bdp_bytes(RATE, RTT) / 10), ..downlink(RATE, RTT) };
    compared("100 Mbit/s, 50 ms, a queue of 0.1 BDP", 0.9, down, uplink(RTT), 0.0)
}

/// Mechanism: the first train, 32 chunks in a burst, lost its tail and its END at each try. Nothing was learnt from that:
/// the next was as long. Where all of it was lost, the bound on the window became zero, and stayed.
fn four_packets() -> Result<Vec<Figure>, Violation> {
    let mut figures = Vec::new();
    for (rate_mbit_s, rtt) in [(8, ms(6)), (5, ms(16))] {
        let rate = rate_mbit_s * MBIT;
        let down = LinkConfig { queue_bytes: Some(4 * DATA_WIRE_BYTES as u64), ..downlink(rate, rtt) };
        let what = format!("{rate_mbit_s} Mbit/s, {} ms, a queue of four packets", rtt.as_millis());
        figures.extend(compared(&what, 0.7, down, uplink(rtt), 0.0)?);
    }
    Ok(figures)
}

fn long_queue() -> Result<Vec<Figure>, Violation> {
    let down = LinkConfig { queue_bytes: Some(bdp_bytes(RATE, RTT) * 4), ..downlink(RATE, RTT) };
    let mut world = World::new(SEED, endless(RATE, TIME));
    let (_, paths) = star(&mut world, ClientConfig::default(), &[(down, uplink(RTT))]);
    world.network_mut().measure_waits(paths[0].down);
    let got = payload_from_first_data(&mut world, TIME)?;
    let mut waits_us = world.network().waits_us(paths[0].down).to_vec();
    waits_us.sort_unstable();
    let median = waits_us.get(waits_us.len() / 2).map_or(0.0, |wait| f64::from(*wait) / 1e6);
    let delay = (RTT.as_secs_f64() + median) / RTT.as_secs_f64();
    Ok(vec![
        Figure::at_least(0.9, "goodput, 100 Mbit/s, 50 ms, a queue of 4 BDP", got / payload_bytes(RATE, TIME)),
        Figure::at_most(1.5, "  median round trip, in base round trips", delay),
    ])
}

fn gigabit() -> Result<Vec<Figure>, Violation> {
    compared("1 Gbit/s, 2 ms", 0.9, downlink(1_000 * MBIT, ms(2)), uplink(ms(2)), 0.0)
}
