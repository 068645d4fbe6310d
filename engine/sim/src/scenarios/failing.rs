//! What goes wrong under way: addresses that change, servers that restart, servers that lie.

use std::time::Duration;

use super::{Figure, MBIT, SEED, Scenario, downlink, endless, payload_until, s, star, uplink};
use crate::client::{ClientConfig, Violation};
use crate::server::Lie;
use crate::world::World;

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "a client whose address changes goes on", run: address_changes },
    Scenario { name: "a client whose NAT forgets it while it is idle goes on", run: nat_forgets },
    Scenario { name: "a client whose server restarts goes on", run: server_restarts },
    Scenario { name: "a lying server costs little once it is found out", run: liar },
];

const RATE: u64 = 20 * MBIT;
const RTT: Duration = Duration::from_millis(50);
/// The least that a probe timeout is.
const PROBE_TIMEOUT: Duration = Duration::from_millis(200);

/// How long after something has happened new DATA comes, with one source.
fn gap(happening: impl FnOnce(&mut World) + 'static) -> Result<Vec<Figure>, Violation> {
    const AT: Duration = Duration::from_secs(10);
    let mut world = World::new(SEED, endless(RATE, s(60)));
    star(&mut world, ClientConfig::default(), &[(downlink(RATE, RTT), uplink(RTT))]);
    world.run_until(AT)?;
    happening(&mut world);
    // The longest time without DATA around what happened: what was on its way may still come.
    let (mut gap, mut last_at, mut got) = (Duration::ZERO, AT, world.client(0).accepted_bytes());
    let end = AT + s(10);
    while world.now() < end {
        world.run(end, |world| world.client(0).accepted_bytes() > got)?;
        gap = gap.max(world.now() - last_at);
        (last_at, got) = (world.now(), world.client(0).accepted_bytes());
    }
    let bound = RTT * 2 + PROBE_TIMEOUT;
    Ok(vec![Figure::at_most(bound.as_secs_f64(), "longest pause in seconds", gap.as_secs_f64())])
}

fn address_changes() -> Result<Vec<Figure>, Violation> {
    gap(|world| {
        let client = world.client(0).host();
        world.network_mut().move_host(client);
    })
}

fn server_restarts() -> Result<Vec<Figure>, Violation> {
    gap(|world| world.server_mut(0).restart())
}

fn nat_forgets() -> Result<Vec<Figure>, Violation> {
    const QUIET: Duration = Duration::from_secs(3);
    let film = crate::film::FilmConfig { rate_bit_s: RATE / 4, window: s(4), start: s(1) };
    let purpose = crate::client::Purpose::Film(film);
    let mut world = World::new(SEED, endless(RATE / 4, s(30)));
    star(&mut world, ClientConfig { purpose, ..ClientConfig::default() }, &[(downlink(RATE, RTT), uplink(RTT))]);
    let client = world.client(0).host();
    for times in 1..=5 {
        world.at(QUIET * times, move |world| world.network_mut().move_host(client));
    }
    world.run_until_done(s(120))?;
    let stalls = world.client(0).film().map_or(0, |film| film.showing().stalls);
    Ok(vec![Figure::at_most(0.0, "stalls of a film whose NAT forgets it five times", f64::from(stalls))])
}

fn liar() -> Result<Vec<Figure>, Violation> {
    const FOUND_OUT: Duration = Duration::from_secs(10);
    const END: Duration = Duration::from_secs(30);
    let late_payload = |sources: usize, lie: Option<Lie>| {
        let mut world = World::new(SEED, endless(RATE * sources as u64, END));
        star(&mut world, ClientConfig::default(), &vec![(downlink(RATE, RTT), uplink(RTT)); sources]);
        if let Some(lie) = lie {
            world.server_mut(0).set_lie(lie, 0.1);
        }
        world.run_until(FOUND_OUT)?;
        payload_until(&mut world, 0, END)
    };
    let honest = late_payload(2, None)?;
    let mut figures = Vec::new();
    for (what, lie) in [
        ("wrong chunks", Lie::Wrong),
        ("stale chunks", Lie::Stale),
        ("forged chunks", Lie::Forged),
        ("false ENDs", Lie::FalseEnd),
    ] {
        let share = late_payload(3, Some(lie))? / honest;
        figures.push(Figure::at_least(
            0.9,
            format!("goodput beside a server of {what}, of the two others alone"),
            share,
        ));
    }
    Ok(figures)
}
