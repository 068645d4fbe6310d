//! A plain UDP sender and its receiver: what a link or the lab carries for somebody who does not care.

use std::io::ErrorKind;
use std::net::{SocketAddrV4, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use braidcast_media::layout::PACKET_BYTES;
use braidcast_sim::link::UDP_HEADER_BYTES;
use clap::Args;
use serde::{Deserialize, Serialize};

/// The sink's work is done when nothing came for so long.
const SILENCE: Duration = Duration::from_secs(1);
/// The sink gives up when nothing comes at all.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_micros(200);

/// Flags of `blast`.
#[derive(Debug, Args)]
pub(crate) struct BlastArgs {
    /// Where to send to
    #[arg(long, value_name = "IP:PORT")]
    to: SocketAddrV4,
    /// Rate of the packets with their headers; as fast as it goes if absent
    #[arg(long, value_name = "BIT_S")]
    rate: Option<u64>,
    /// How long
    #[arg(long, value_name = "N")]
    seconds: u32,
}

/// Flags of `sink`.
#[derive(Debug, Args)]
pub(crate) struct SinkArgs {
    /// Where to receive
    #[arg(long, value_name = "IP:PORT")]
    listen: SocketAddrV4,
}

/// What the sink prints.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Received {
    /// Datagrams of 1,232 bytes.
    pub(crate) datagrams: u64,
    /// From the first to the last.
    pub(crate) seconds: f64,
}

/// Sends datagrams as large as DATA.
pub(crate) fn blast(args: &BlastArgs) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(args.to)?;
    let datagram = [0; PACKET_BYTES];
    let wire_bits = ((PACKET_BYTES + UDP_HEADER_BYTES) * 8) as f64;
    let start = Instant::now();
    let mut sent = 0_u64;
    while start.elapsed() < Duration::from_secs(args.seconds.into()) {
        let due = args.rate.map(|rate| (start.elapsed().as_secs_f64() * rate as f64 / wire_bits) as u64);
        if due.is_some_and(|due| sent > due) {
            sleep(PAUSE);
            continue;
        }
        match socket.send(&datagram) {
            Ok(_) => sent += 1,
            // The device's queue is full.
            Err(error) if error.kind() == ErrorKind::WouldBlock => sleep(PAUSE),
            Err(error) => return Err(error).context("blast"),
        }
    }
    Ok(())
}

/// Receives them and prints what came.
pub(crate) fn sink(args: &SinkArgs) -> Result<()> {
    let socket = UdpSocket::bind(args.listen)?;
    println!("sink listening {}", socket.local_addr()?);
    socket.set_read_timeout(Some(PATIENCE))?;
    let mut buffer = [0; 2 * PACKET_BYTES];
    socket.recv(&mut buffer).context("nothing was received")?;
    socket.set_read_timeout(Some(SILENCE))?;
    let first = Instant::now();
    let (mut last, mut datagrams) = (first, 0);
    // It fails when the time is over.
    while socket.recv(&mut buffer).is_ok() {
        datagrams += 1;
        last = Instant::now();
    }
    let received = Received { datagrams, seconds: (last - first).as_secs_f64() };
    println!("{}", serde_json::to_string(&received)?);
    Ok(())
}
