//! An honest sign-in beside 30 false ones a second: how long it takes, and whether it takes at all.
//!
//! A real master; the false ones have invented names, and come from another address of loopback, from 64 others, and
//! from the honest one's own, where it has signed in before. Exits with 1 if an honest sign-in fails or takes longer
//! than 1 s.

mod master;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use braidcast_lab::stop::Stop;
use braidcast_proto::v1::issue_token_response::Result as Issued;
use clap::Parser;
use tokio::task::JoinSet;

use self::master::Master;

const GOAL: Duration = Duration::from_secs(1);
const HONEST_EVERY: Duration = Duration::from_millis(500);
/// The queues are full after this.
const SETTLE: Duration = Duration::from_secs(2);
/// Addresses of the row with many of them: each has a bucket of its own.
const MANY: u8 = 64;

/// Measures honest sign-ins beside false ones, and exits with 1 if one takes longer than 1 s.
#[derive(Parser)]
struct Arguments {
    /// How long honest sign-ins are measured, for each row
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// False sign-ins a second
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rate: u32,
    /// The `braidcast` command [default: beside this program]
    #[arg(long)]
    braidcast: Option<PathBuf>,
}

/// What one row shows.
#[derive(Default)]
struct Row {
    honest: Vec<Duration>,
    /// What the master said to honest sign-ins that it refused.
    failed: Vec<String>,
    /// False sign-ins whose password was looked at, and those that were refused without.
    evaluated: usize,
    refused: usize,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let stop = Stop::catch()?;
    let beside = std::env::current_exe()?.with_file_name("braidcast");
    let braidcast = arguments.braidcast.unwrap_or(beside);
    let length = Duration::from_secs(arguments.seconds);
    let runtime = tokio::runtime::Runtime::new()?;
    let rate = arguments.rate;
    println!("{rate} false sign-ins a second with invented names, beside honest ones of an address that has");
    println!("signed in before; times from the connection's first packet to the token\n");
    println!("false ones from      honest  failed  median   worst     false: evaluated  refused");
    let mut missed = false;
    let elsewhere = |addresses: u8| (0..addresses).map(|n| Ipv4Addr::new(127, 0, 1, n)).collect();
    let rows = [
        ("another address", elsewhere(1)),
        ("64 other addresses", elsewhere(MANY)),
        ("the same address", vec![Ipv4Addr::LOCALHOST]),
    ];
    for (name, from) in rows {
        // A fresh one for each row: its buckets are full.
        let master = Master::start(&braidcast, &stop)?;
        let mut row = runtime.block_on(measure(&master, from, rate, length, &stop))?;
        row.honest.sort_unstable();
        let (median, worst) = (row.honest.get(row.honest.len() / 2), row.honest.last());
        println!(
            "{name:<18}  {:>7}  {:>6}  {:>6}  {:>6}  {:>19}  {:>7}",
            row.honest.len(),
            row.failed.len(),
            milliseconds(median),
            milliseconds(worst),
            row.evaluated,
            row.refused
        );
        row.failed.iter().for_each(|said| println!("  an honest sign-in was refused: {said}"));
        missed |= !row.failed.is_empty() || worst.is_none_or(|worst| *worst > GOAL);
    }
    println!("\nasked: each honest sign-in within {GOAL:?}: {}", if missed { "MISSED" } else { "met" });
    Ok(if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn milliseconds(time: Option<&Duration>) -> String {
    time.map_or("-".to_owned(), |time| format!("{} ms", time.as_millis()))
}

async fn measure(master: &Master, from: Vec<Ipv4Addr>, rate: u32, length: Duration, stop: &Stop) -> Result<Row> {
    match master.sign_in_honestly().await? {
        Issued::Token(_) => {}
        Issued::Error(error) => bail!("the first sign-in was refused: {}", error.error_description),
    }
    let flood = tokio::spawn(flood(master.address().clone(), from, rate, SETTLE + length));
    tokio::time::sleep(SETTLE).await;
    let mut row = Row::default();
    let until = Instant::now() + length;
    while Instant::now() < until {
        stop.check()?;
        let began = Instant::now();
        match master.sign_in_honestly().await {
            Ok(Issued::Token(_)) => row.honest.push(began.elapsed()),
            Ok(Issued::Error(error)) => row.failed.push(error.error_description),
            Err(error) => row.failed.push(format!("{error:#}")),
        }
        tokio::time::sleep(HONEST_EVERY.saturating_sub(began.elapsed())).await;
    }
    (row.evaluated, row.refused) = flood.await.context("the false sign-ins ended")??;
    Ok(row)
}

/// Signs in falsely, and gives how many were evaluated and how many refused.
async fn flood(master: master::Address, from: Vec<Ipv4Addr>, rate: u32, length: Duration) -> Result<(usize, usize)> {
    let mut channels = Vec::new();
    for address in from {
        channels.push(master.connect(address).await?);
    }
    let mut calls = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate);
    let until = Instant::now() + length;
    for (n, channel) in channels.iter().cycle().enumerate() {
        ticks.tick().await;
        if Instant::now() >= until {
            break;
        }
        let channel = channel.clone();
        calls.spawn(async move { master::sign_in(channel, &format!("invented-{n}"), "not a password").await });
    }
    let answers = calls.join_all().await;
    let evaluated =
        |answer: &&Result<Issued>| matches!(answer, Ok(Issued::Error(error)) if error.error == "invalid_grant");
    let evaluated = answers.iter().filter(evaluated).count();
    Ok((evaluated, answers.len() - evaluated))
}
