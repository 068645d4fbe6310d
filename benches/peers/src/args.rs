//! What the command line may say.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::contender::Row;
use crate::quic::{GetArgs, ServeArgs};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "braidcast-peers",
    about = "Run braidcast beside what could be used instead of it, each at its best, and compare times",
    max_term_width = 110,
    after_help = "\
Every program fetches the same file, which the page cache holds, to the same places: /dev/null, and a file in
/dev/shm where there was none before. In a round each variant of each program runs once; every second round goes
the other way. One run before the rounds warms up, and what it wrote is compared with the file.

How it is measured, from outside and alike for all:
  wall        from the start of the client's process to its end, so with its login or handshakes
  server CPU  of all processes of the server, from /proc/PID/stat before and after; its steps are 10 ms, so short
              runs are coarse. The master counts as a part of the server.
  client CPU  as the kernel accounts it to a process that ended (getrusage)
On one host the kernel charges its work to whoever runs when it is done: where acknowledgements of the client let TCP
send on, that is the client. So over loopback the server's part alone says less than the sum of both ends.

How it is judged: goals hold Braidcast against the best variant of a peer, for wall times the one with the shortest
median, for CPU times the one with the least. The figure is the median of the ratios of each round. `braidcast get`
checks the hash of every extent besides the packets' tags; told `--verify packets` it checks these alone, as TLS and
QUIC do, and that time is held against most goals. Both are judged beside curl plain.

Where network namespaces are permitted, loopback is that of a namespace, so that TCP runs under this kernel's own
congestion control and under CUBIC without a change to the host's. --veth measures the main rows again between two
namespaces that a veth pair joins, without segmentation, receive and checksum offloads; these are not judged.

--paced judges another thing, server CPU per GB where clients are many and slow. In turns, a round each: braidcast-load,
which lies beside this program, with 200 viewers at 10 Mbit/s that ask for 4 chunks at a time, from one server thread;
and 200 curls with --limit-rate 1250000, from nginx with one worker by sendfile, under CUBIC where the kernel has it.
Both run until they are steady, and then 10 s count. Bytes are what came to viewers, and what curls wrote to /dev/null
(/proc/PID/io); CPU times are those of the processes' CPU clocks, for steps of 10 ms would be coarse for nginx. A round
fails if its clients were more than 10% off their rate, or if braidcast-load says that its run is void. The goal: the
median of the ratios of each round, Braidcast's by nginx's, is at most 1.00.

Exit code: 0 all goals met, or none judged; 1 a goal missed or an error; 130 interrupted. A peer that does not run is
`not run: REASON`, and its goals are not judged. What a run makes it removes, on Ctrl-C too; what a killed run left is
removed by the next.

Wants nginx, curl, aria2c, srt-file-transmit, ip and ethtool (make bench-peers installs them), about eight times
--bytes in --folder, and as much memory that is free or page cache.

Examples:
  braidcast-peers                               everything on loopback: about ten minutes
  braidcast-peers --veth --svg peers.svg        over veth, too, and the ratios as a picture
  braidcast-peers --short                       smaller and fewer, to see that it works: start-up weighs more
  braidcast-peers --cold                        a server whose files are on the disk and not in memory: a minute
  braidcast-peers --paced                       many slow clients of braidcast and of nginx: four minutes
  braidcast-peers --only braidcast --only nginx --rounds 9"
)]
pub(crate) struct Arguments {
    /// Run this row; may be repeated. Goals are judged where both sides run [default: all]
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<Row>,
    /// List the rows
    #[arg(long)]
    pub(crate) list: bool,
    /// A small fast run: a file of 400 MB, and 3 rounds
    #[arg(long)]
    pub(crate) short: bool,
    /// Size of the file [default: 2000000000; with --paced 250000000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000_000..=100_000_000_000))]
    pub(crate) bytes: Option<u64>,
    /// How many rounds, after the one that warms up [default: 5]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) rounds: Option<u32>,
    /// Measure braidcast, nginx and nginx-tls over a veth pair without offloads, too
    #[arg(long)]
    pub(crate) veth: bool,
    /// Measure nothing but braidcast from a disk: cold, beside direct reads and itself from memory
    #[arg(long, conflicts_with_all = ["only", "veth", "svg"])]
    pub(crate) cold: bool,
    /// Measure nothing but server CPU per GB: 200 viewers at 10 Mbit/s that ask for 4 chunks at a time, beside 200 curls
    /// at the same rate from nginx
    #[arg(long, conflicts_with_all = ["only", "veth", "svg", "cold"])]
    pub(crate) paced: bool,
    /// Draw the ratios as an SVG
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Keep what the processes log in this folder
    #[arg(long, value_name = "DIR")]
    pub(crate) keep_logs: Option<PathBuf>,
    /// Where the files that are served are put while it runs [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    pub(crate) folder: Option<PathBuf>,
    /// The command to try [default: braidcast, beside this program]
    #[arg(long, value_name = "PATH", env = "BRAIDCAST")]
    pub(crate) braidcast: Option<PathBuf>,
    /// What runs as a peer.
    #[command(subcommand)]
    pub(crate) part: Option<Part>,
}

/// Peers that are parts of this program.
#[derive(Debug, Subcommand)]
pub(crate) enum Part {
    /// Serve a file over QUIC
    #[command(hide = true)]
    QuicServe(ServeArgs),
    /// Fetch it
    #[command(hide = true)]
    QuicGet(GetArgs),
}
