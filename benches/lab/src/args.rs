//! What the command line may say.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::blast::{BlastArgs, SinkArgs};
use crate::watch::WatchArgs;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "braidcast-lab",
    about = "Run braidcast, and what could be used instead of it, over bad links with real sockets",
    max_term_width = 110,
    after_help = "\
Every host is a network namespace with a TUN device; one user-space router joins them and delays, queues, loses and
blocks packets as its links say. Nothing tells a client or a server what a link is like. The same scenarios without
sockets, in virtual time: braidcast-sim.

The table on standard output has a line for each measurement:
  link    each way, between the client and all others unless the scenario says where; the round trip is the sum
  result  goodput at the receiver, and its share of the payload that the link can carry (rate x 1200/1260, for TCP too)
  goal    ok or MISS; lines without one are there to compare with
  queue   median and 95th percentile of the time that packets waited in the bottleneck's queue
  lost    packets lost on the wire and dropped by the queue, of those that came to the bottleneck
The blaster sends datagrams of 1,232 bytes at 1.05 times the link's rate and shows what the lab itself can carry.
A router that was late (99th percentile above 3 ms) or lost packets of its own says so in the note: the machine was
too busy, and the line is worth little.

Exit code: 0 all goals met, or `skipped: REASON` where namespaces are not permitted; 1 a goal missed or an error;
130 interrupted. What a run makes it removes, on Ctrl-C too; what a killed run left is removed by the next.

Needs root, ip, sysctl, ss, chrt, nginx, curl, aria2c and ffmpeg (make lab installs them).

Examples:
  braidcast-lab                            everything, with goodput over 60 s: about an hour
  braidcast-lab --short                    a few scenarios over 20 s, without peers
  braidcast-lab --only random-loss-1 --seconds 20 --keep-logs /tmp/logs"
)]
pub(crate) struct Arguments {
    /// Run this scenario; may be repeated [default: all]
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,
    /// List the scenarios
    #[arg(long)]
    pub(crate) list: bool,
    /// Only what a change is checked with: a few scenarios, over 20 s, without peers
    #[arg(long)]
    pub(crate) short: bool,
    /// Measure goodput over so many seconds; goals allow for the same time of start-up as in 60 s [default: 60]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(3..=600))]
    pub(crate) seconds: Option<u32>,
    /// Leave out curl and aria2c where they only compare
    #[arg(long)]
    pub(crate) no_peers: bool,
    /// Keep what the processes log in this folder, and traces of all downloads (see braidcast trace)
    #[arg(long, value_name = "DIR")]
    pub(crate) keep_logs: Option<PathBuf>,
    /// The command to try [default: braidcast, beside this program]
    #[arg(long, value_name = "PATH", env = "BRAIDCAST")]
    pub(crate) braidcast: Option<PathBuf>,
    /// What runs on the lab's own hosts.
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
}

/// Parts of the lab that run inside its namespaces.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    /// Send datagrams
    #[command(hide = true)]
    Blast(BlastArgs),
    /// Receive them
    #[command(hide = true)]
    Sink(SinkArgs),
    /// Watch a film
    #[command(hide = true)]
    Watch(WatchArgs),
}
