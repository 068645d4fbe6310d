//! A film of 25 Mbit/s from sources of 30, 20 and 10, one of which fails.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use braidcast_sim::link::LinkConfig;

use super::{Bench, Direction, MBIT, Scenario, bdp_bytes, bottleneck, delay};
use crate::measure;
use crate::router::fabric::Fabric;
use crate::table::Row;
use crate::watch::Watched;
use crate::world::{CLIENT, FILM, FILM_PICTURES_PER_S, World, server};

pub(super) const SCENARIOS: &[Scenario] = &[
    scenario("film-30-dies", "a film of 25 Mbit/s from 30, 20 and 10 Mbit/s; the first server dies", |bench| {
        watch(bench, |world| world.crash_server(0))?;
        bench.world.restart_server(0)
    }),
    scenario("film-20-slows", "the same film; the second server's link drops to 2 Mbit/s", |bench| {
        watch(bench, |world| change(world, |fabric| fabric.set_up(server(1), link(2 * MBIT))))
    }),
    scenario("film-10-loses", "the same film; the third server's link starts to lose 20%", |bench| {
        watch(bench, |world| {
            change(world, |fabric| fabric.set_up(server(2), LinkConfig { loss: 0.2, ..link(RATES[2]) }));
        })
    }),
];

const fn scenario(name: &'static str, about: &'static str, run: fn(&mut Bench<'_>) -> Result<()>) -> Scenario {
    Scenario { name, about, servers: 3, mbit_s: 0, is_short: false, run }
}

const RTT: Duration = Duration::from_millis(50);
const RATES: [u64; 3] = [30 * MBIT, 20 * MBIT, 10 * MBIT];
/// The film is so many times as long as goodput is measured elsewhere: five minutes.
const LENGTHS: u32 = 5;
/// Of what is fetched, beyond the film.
const REDUNDANT_GOAL: f64 = 0.03;
/// A film that stalls takes longer.
const PATIENCE: Duration = Duration::from_secs(60);

fn link(rate_bit_s: u64) -> LinkConfig {
    bottleneck(rate_bit_s, RTT / 2, bdp_bytes(rate_bit_s, RTT))
}

fn change(world: &World, work: impl FnOnce(&mut Fabric) + Send + 'static) {
    world.network.router.with(move |fabric, _| work(fabric));
}

/// Watches the film from its start to its end; `happen` is called when a fifth is over.
fn watch(bench: &mut Bench<'_>, happen: fn(&mut World)) -> Result<()> {
    let seconds = bench.seconds * LENGTHS;
    bench.world.publish_film(seconds)?;
    measure::settle(bench.world)?;
    bench.world.wire(|fabric| {
        RATES.into_iter().enumerate().for_each(|(number, rate)| fabric.set_up(server(number), link(rate)));
        fabric.set_up(CLIENT, delay(RTT / 2));
    });
    let length = Duration::from_secs(seconds.into());
    let outcome = (|| {
        let watcher = bench.world.watch(CLIENT, FILM)?;
        bench.world.stop().sleep(length / LENGTHS)?;
        happen(bench.world);
        let printed = watcher.finish(bench.world.stop(), length + PATIENCE)?;
        let watched: Watched = serde_json::from_str(printed.trim()).with_context(|| format!("printed {printed:?}"))?;
        ensure!(watched.frames == u64::from(seconds * FILM_PICTURES_PER_S), "{} frames came", watched.frames);
        Ok(watched)
    })();
    let row = match outcome {
        Ok(watched) => {
            let redundant = watched.redundant_bytes as f64 / watched.bytes as f64;
            Row {
                result: format!("{} stalls, {:.1}% redundant", watched.stalls, redundant * 100.0),
                is_met: Some(watched.stalls == 0 && redundant <= REDUNDANT_GOAL),
                note: format!("still for {:.1} s of {seconds}", watched.stalled_seconds),
                ..Row::default()
            }
        }
        Err(error) => bench.failed(&error)?,
    };
    let goal = format!("no stall, <= {:.0}%", REDUNDANT_GOAL * 100.0);
    let link = "30 + 20 + 10 Mbit/s, 50 ms, 1 BDP".to_owned();
    let row = Row { scenario: bench.name, link, who: "braidcast, film of 25 Mbit/s".to_owned(), goal, ..row };
    let at: Vec<Direction> = (0..RATES.len()).map(|number| Direction::Up(server(number))).collect();
    bench.add_row(row, &at);
    Ok(())
}
