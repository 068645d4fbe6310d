//! Several sources at once.

use std::time::Duration;

use anyhow::Result;
use braidcast_sim::link::LinkConfig;

use super::{Bench, Direction, MBIT, Scenario, bdp_bytes, bottleneck, delay};
use crate::measure;
use crate::world::{CLIENT, server};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "unequal-sources",
        about: "three servers behind 30, 20 and 10 Mbit/s, 50 ms",
        servers: 3,
        mbit_s: 60,
        is_short: true,
        run: unequal,
    },
    Scenario {
        name: "shared-downlink",
        about: "three servers behind one downlink of 60 Mbit/s, 50 ms",
        servers: 3,
        mbit_s: 60,
        is_short: false,
        run: shared,
    },
];

const RTT: Duration = Duration::from_millis(50);
const ALL_BIT_S: u64 = 60 * MBIT;
const GOAL: f64 = 0.95;

fn unequal(bench: &mut Bench<'_>) -> Result<()> {
    let rates = [30 * MBIT, 20 * MBIT, 10 * MBIT];
    let at: Vec<Direction> = (0..rates.len()).map(|number| Direction::Up(server(number))).collect();
    let ups = rates.map(|rate| bottleneck(rate, RTT / 2, bdp_bytes(rate, RTT)));
    measure_all(bench, "30 + 20 + 10 Mbit/s, 50 ms, 1 BDP", ups, delay(Duration::ZERO), &at)
}

fn shared(bench: &mut Bench<'_>) -> Result<()> {
    let down = bottleneck(ALL_BIT_S, RTT / 2, bdp_bytes(ALL_BIT_S, RTT));
    let link = "one of 60 Mbit/s, 50 ms, 1 BDP";
    measure_all(bench, link, [LinkConfig::default(); 3], down, &[Direction::Down(CLIENT)])
}

/// Goodput of a download from three servers, then of aria2c from the web servers beside them.
fn measure_all(
    bench: &mut Bench<'_>,
    link: &str,
    ups: [LinkConfig; 3],
    down: LinkConfig,
    at: &[Direction],
) -> Result<()> {
    let lay = |bench: &Bench<'_>| {
        measure::settle(bench.world)?;
        bench.world.wire(move |fabric| {
            ups.into_iter().enumerate().for_each(|(number, up)| fabric.set_up(server(number), up));
            fabric.set_down(CLIENT, down);
            fabric.set_up(CLIENT, delay(RTT / 2));
        });
        anyhow::Ok(())
    };
    lay(bench)?;
    let goodput = measure::get(bench.world, bench.seconds)?;
    bench.add(link, "braidcast", &goodput, ALL_BIT_S, Some(bench.goal(GOAL)), at);
    if bench.has_peers {
        lay(bench)?;
        let goodput = measure::aria2c(bench.world, bench.seconds)?;
        bench.add(link, "aria2c", &goodput, ALL_BIT_S, None, at);
    }
    Ok(())
}
