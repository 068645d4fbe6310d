//! A bottleneck shared with others.

use std::time::Duration;

use anyhow::Result;

use super::{Bench, Direction, MBIT, Scenario, bdp_bytes, bottleneck, delay, payload_bit_s};
use crate::measure::{self, Congestion, Curl, Get};
use crate::router::fabric::HostId;
use crate::table::Row;
use crate::world::{CLIENT, LONG, OTHER, World};

pub(super) const SCENARIOS: &[Scenario] = &[
    sharing("two-clients", "a second client joins after 10 s on one downlink of 60 Mbit/s, 50 ms", two_clients),
    sharing("beside-cubic", "a client with three sources beside one TCP flow under CUBIC on one downlink", |bench| {
        beside_tcp(bench, Congestion::Cubic, BDP)
    }),
    sharing("beside-cubic-short", "the same in a queue of 0.1 BDP", |bench| {
        beside_tcp(bench, Congestion::Cubic, BDP / 10)
    }),
    sharing("beside-bbr", "the same beside BBR", |bench| beside_tcp(bench, Congestion::Bbr, BDP)),
    sharing("background", "a client with three sources that gives way to a TCP flow under CUBIC", background),
];

const fn sharing(name: &'static str, about: &'static str, run: fn(&mut Bench<'_>) -> Result<()>) -> Scenario {
    Scenario { name, about, servers: 3, mbit_s: 60, is_short: false, run }
}

const RTT: Duration = Duration::from_millis(50);
const RATE_BIT_S: u64 = 60 * MBIT;
const BDP: u64 = bdp_bytes(RATE_BIT_S, RTT);
/// When the second client joins.
const JOIN_AFTER: Duration = Duration::from_secs(10);
/// How long both are compared.
const COMPARED: Duration = Duration::from_secs(30);
const JAIN_GOAL: f64 = 0.95;
/// Beside TCP both have so long to find their share.
const FIND_TIME: Duration = Duration::from_secs(5);
/// Of an equal share.
const TCP_GOAL: f64 = 0.5;
/// Of the link, to TCP beside a download in the background.
const LEFT_GOAL: f64 = 0.8;

fn link(queue_bytes: u64) -> String {
    format!("one of 60 Mbit/s, 50 ms, {} BDP", queue_bytes as f64 / BDP as f64)
}

fn lay(bench: &Bench<'_>, queue_bytes: u64) -> Result<()> {
    measure::settle(bench.world)?;
    bench.world.wire(move |fabric| {
        fabric.share_down(OTHER, CLIENT);
        fabric.set_down(CLIENT, bottleneck(RATE_BIT_S, RTT / 2, queue_bytes));
        fabric.set_up(CLIENT, delay(RTT / 2));
        fabric.set_up(OTHER, delay(RTT / 2));
    });
    Ok(())
}

fn two_clients(bench: &mut Bench<'_>) -> Result<()> {
    lay(bench, BDP)?;
    let outcome = (|| {
        let mut first = Get::start(bench.world, CLIENT, LONG)?;
        let began = first.wait_first(bench.world)?;
        first.run_until(bench.world, began + JOIN_AFTER)?;
        let mut second = Get::start(bench.world, OTHER, LONG)?;
        let joined = second.wait_first(bench.world)?;
        let end = joined + COMPARED;
        second.run_until(bench.world, end)?;
        let (first, second) = (first.goodput(bench.world, joined, end)?, second.goodput(bench.world, joined, end)?);
        anyhow::Ok([first.bit_s(), second.bit_s()])
    })();
    let row = match outcome {
        Ok(rates) => {
            let fairness = jain(rates);
            let used = (rates[0] + rates[1]) / payload_bit_s(RATE_BIT_S);
            Row {
                result: format!("Jain {fairness:.3}"),
                is_met: Some(fairness >= JAIN_GOAL),
                note: format!("{}; {:.1}% of the link", mbit(&rates), used * 100.0),
                ..Row::default()
            }
        }
        Err(error) => bench.failed(&error)?,
    };
    let goal = format!(">= {JAIN_GOAL}");
    let row = Row { scenario: bench.name, link: link(BDP), who: "two braidcasts".to_owned(), goal, ..row };
    bench.add_row(row, &[Direction::Down(CLIENT)]);
    Ok(())
}

/// How a client's download begins.
type Start = fn(&mut World, HostId, &str) -> Result<Get>;

/// Rates of a client and of a TCP flow on one link once both have found their share, and what congestion control the flow
/// had.
fn rates(bench: &mut Bench<'_>, start: Start, congestion: Congestion, queue_bytes: u64) -> Result<([f64; 2], String)> {
    lay(bench, queue_bytes)?;
    let time = Duration::from_secs(bench.seconds.into());
    let limit = (FIND_TIME + time).as_secs() as u32 + 60;
    let mut curl = Curl::start(bench.world, OTHER, congestion, limit)?;
    let mut get = start(bench.world, CLIENT, LONG)?;
    let from = get.wait_first(bench.world)? + FIND_TIME;
    let to = from + time;
    get.run_until(bench.world, to)?;
    curl.look(bench.world)?;
    let ours = get.goodput(bench.world, from, to)?.bit_s();
    let web = bench.world.network.router.with(move |fabric, _| fabric.arrivals(OTHER).web.between(from, to));
    let tcp = web as f64 * 8.0 / time.as_secs_f64();
    Ok(([ours, tcp], curl.used().to_owned()))
}

fn background(bench: &mut Bench<'_>) -> Result<()> {
    let row = match rates(bench, Get::start_in_background, Congestion::Cubic, BDP) {
        Ok((rates, used)) => {
            let shares = rates.map(|rate| rate / payload_bit_s(RATE_BIT_S));
            Row {
                result: format!("{:.2} and {:.2} of the link", shares[0], shares[1]),
                is_met: Some(shares[1] >= LEFT_GOAL),
                note: format!("{}; ss: {used}", mbit(&rates)),
                ..Row::default()
            }
        }
        Err(error) => bench.failed(&error)?,
    };
    let who = "braidcast --background and curl cubic".to_owned();
    let goal = format!("curl >= {LEFT_GOAL}");
    bench.add_row(Row { scenario: bench.name, link: link(BDP), who, goal, ..row }, &[Direction::Down(CLIENT)]);
    Ok(())
}

fn beside_tcp(bench: &mut Bench<'_>, congestion: Congestion, queue_bytes: u64) -> Result<()> {
    let row = match rates(bench, Get::start, congestion, queue_bytes) {
        Ok((rates, used)) => {
            let shares = rates.map(|rate| rate / (payload_bit_s(RATE_BIT_S) / 2.0));
            Row {
                result: format!("{:.2} and {:.2} of an equal share", shares[0], shares[1]),
                is_met: Some(shares.iter().all(|share| *share >= TCP_GOAL)),
                note: format!("{}; ss: {used}", mbit(&rates)),
                ..Row::default()
            }
        }
        Err(error) => bench.failed(&error)?,
    };
    let who = format!("braidcast and curl {}", congestion.name());
    let row = Row { scenario: bench.name, link: link(queue_bytes), who, goal: format!("each >= {TCP_GOAL}"), ..row };
    bench.add_row(row, &[Direction::Down(CLIENT)]);
    Ok(())
}

/// Jain's index of fairness: 1 if all get the same, one half if one of two gets everything.
fn jain(rates: [f64; 2]) -> f64 {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    sum * sum / (rates.len() as f64 * squares.max(f64::MIN_POSITIVE))
}

fn mbit(rates: &[f64; 2]) -> String {
    format!("{:.1} and {:.1} Mbit/s", rates[0] / 1e6, rates[1] / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_is_one_for_equals_and_a_half_where_one_takes_all() {
        assert!((jain([3e6, 3e6]) - 1.0).abs() < 1e-9);
        assert!((jain([3e6, 0.0]) - 0.5).abs() < 1e-9);
        assert!(jain([2e6, 1e6]) < JAIN_GOAL && jain([10e6, 7e6]) > JAIN_GOAL);
    }
}
