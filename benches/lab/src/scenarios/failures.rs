//! What fails, and how the download goes on.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Bench, Direction, MBIT, Scenario, bdp_bytes, bottleneck};
use crate::measure::{self, Get, GetReport};
use crate::table::Row;
use crate::world::{CLIENT, SHORT, server};

pub(super) const OF_ONE_SERVER: &[Scenario] = &[
    failure("udp-blocked", "UDP to and from every server is dropped", 1, true, udp_blocked),
    failure("server-restarts", "the only server crashes after 2 s and is started again", 1, true, server_restarts),
    failure("address-changes", "the client's NAT forgets it after 2 s: another address from then on", 1, true, moves),
];
pub(super) const OF_SEVERAL: &[Scenario] =
    &[failure("udp-blocked-to-one", "UDP to and from one of three servers is dropped", 3, true, udp_blocked_to_one)];

const fn failure(
    name: &'static str,
    about: &'static str,
    servers: usize,
    is_short: bool,
    run: fn(&mut Bench<'_>) -> Result<()>,
) -> Scenario {
    // The short video is fetched, which is there anyway.
    Scenario { name, about, servers, mbit_s: 0, is_short, run }
}

const RATE_BIT_S: u64 = 100 * MBIT;
const RTT: Duration = Duration::from_millis(50);
const LINK: &str = "100 Mbit/s, 50 ms, 1 BDP";
/// When things fail, from the first DATA.
const FAIL_AFTER: Duration = Duration::from_secs(2);
/// Two round trips and a probe timeout, which is a second at most once the path is known.
const RESUME_GOAL: Duration = Duration::from_millis(1_100);
/// A download of 5 s may take so long.
const PATIENCE: Duration = Duration::from_secs(60);
/// The client's address after its NAT forgot it.
const NEW_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);

fn lay(bench: &Bench<'_>, blocked: &'static [usize]) -> Result<()> {
    measure::settle(bench.world)?;
    bench.world.wire(move |fabric| {
        let link = bottleneck(RATE_BIT_S, RTT / 2, bdp_bytes(RATE_BIT_S, RTT));
        fabric.set_down(CLIENT, link);
        fabric.set_up(CLIENT, link);
        blocked.iter().for_each(|number| fabric.block_udp(server(*number), true));
    });
    Ok(())
}

fn udp_blocked(bench: &mut Bench<'_>) -> Result<()> {
    blocked(bench, &[0])
}

fn udp_blocked_to_one(bench: &mut Bench<'_>) -> Result<()> {
    blocked(bench, &[0])
}

fn blocked(bench: &mut Bench<'_>, numbers: &'static [usize]) -> Result<()> {
    lay(bench, numbers)?;
    let outcome = Get::start(bench.world, CLIENT, SHORT)?.finish(bench.world, PATIENCE);
    let over_tcp = bench.world.network.router.with(|fabric, _| fabric.arrivals(CLIENT).media_tcp.bytes);
    let row = match outcome.and_then(whole) {
        Ok(report) => Row {
            result: format!("{:.1} Mbit/s", report.bytes as f64 * 8.0 / 1e6 / report.seconds),
            is_met: Some(true),
            note: format!("{:.1} MB over TCP", over_tcp as f64 / 1e6),
            ..Row::default()
        },
        Err(error) => bench.failed(&error)?,
    };
    add(bench, row, "whole and verified".to_owned());
    Ok(())
}

fn server_restarts(bench: &mut Bench<'_>) -> Result<()> {
    interrupted(bench, |bench| {
        bench.world.crash_server(0);
        let crashed = bench.world.now();
        bench.world.restart_server(0)?;
        Ok((crashed, bench.world.now() - crashed))
    })
}

fn moves(bench: &mut Bench<'_>) -> Result<()> {
    interrupted(bench, |bench| {
        let now = bench.world.network.router.with(|fabric, now| {
            fabric.set_alias(CLIENT, NEW_ADDRESS);
            now
        });
        Ok((now, Duration::ZERO))
    })
}

/// Has something happen in the middle of a download; `happen` gives when it did, and how long nothing could be done
/// about it.
fn interrupted(
    bench: &mut Bench<'_>,
    happen: impl FnOnce(&mut Bench<'_>) -> Result<(Duration, Duration)>,
) -> Result<()> {
    lay(bench, &[])?;
    let mut get = Get::start(bench.world, CLIENT, SHORT)?;
    let mut allowed = RESUME_GOAL;
    let outcome = (|| {
        let first = get.wait_first(bench.world)?;
        get.run_until(bench.world, first + FAIL_AFTER)?;
        let (from, unable) = happen(bench)?;
        allowed += unable;
        let report = whole(get.finish(bench.world, PATIENCE)?)?;
        let pause = bench.world.network.router.with(move |fabric, _| fabric.arrivals(CLIENT).media_pause(from));
        let pause = pause.context("the download was over before anything happened")?;
        anyhow::Ok((pause, unable, report))
    })();
    let row = match outcome {
        Ok((pause, unable, report)) => Row {
            result: format!("silent for {:.2} s", pause.as_secs_f64()),
            is_met: Some(pause <= allowed),
            note: format!("{:.1} s in all; no server for {:.2} s", report.seconds, unable.as_secs_f64()),
            ..Row::default()
        },
        Err(error) => bench.failed(&error)?,
    };
    add(bench, row, format!("<= {:.2} s", allowed.as_secs_f64()));
    Ok(())
}

fn add(bench: &mut Bench<'_>, row: Row, goal: String) {
    let row = Row { scenario: bench.name, link: LINK.to_owned(), who: "braidcast, 60 MB".to_owned(), goal, ..row };
    bench.add_row(row, &[Direction::Down(CLIENT)]);
}

fn whole(report: GetReport) -> Result<GetReport> {
    anyhow::ensure!(report.verified, "the download is not verified");
    Ok(report)
}
