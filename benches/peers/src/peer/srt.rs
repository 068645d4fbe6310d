//! SRT: `srt-file-transmit` at both ends, which sends one file and ends.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::bench::{Bench, READY_WAIT};
use crate::contender::{Contender, Peer, Row, Run};
use crate::cpu;
use crate::machine;
use crate::place::free_port;

const PROGRAM: &str = "srt-file-transmit";
/// File mode, a byte stream, no bound on the rate, a window and buffers of 30 MB instead of 8 and 12.
const OPTIONS: &str =
    "transtype=file&messageapi=0&congestion=file&maxbw=-1&fc=65536&sndbuf=30000000&rcvbuf=30000000&mss=1500";
/// Handed to the library at a time: one packet, for this program gives up when more does not fit into the buffer.
const SEND_CHUNK: &str = "-chunk:1456";
/// Taken from the library at a time.
const RECEIVE_CHUNK: &str = "-chunk:1456000";
/// The server sends what it still has, and ends.
const END_WAIT: Duration = Duration::from_secs(30);

/// Both ends are started for each run.
struct Srt {
    /// Whether the sender itself waits until all is sent, which it looks at each quarter of a second.
    has_flush: bool,
}

/// Both ways to end.
pub(super) fn all() -> Result<Vec<Contender>> {
    machine::find(PROGRAM)?;
    let contender = |(has_flush, variant): (bool, &str)| {
        let peer: Box<dyn Peer> = Box::new(Srt { has_flush });
        Contender { row: Row::Srt, variant: variant.to_owned(), peer: Ok(peer) }
    };
    Ok([(true, "buffers of 30 MB"), (false, "buffers of 30 MB, -skipflush")].map(contender).into())
}

impl Peer for Srt {
    fn run(&self, bench: &Bench, output: PathBuf) -> Result<Run> {
        let port = free_port()?;
        let address = format!("srt://{}:{port}", bench.place.address());
        let mut send = bench.place.server(PROGRAM);
        send.args(["-quiet", SEND_CHUNK]).args((!self.has_flush).then_some("-skipflush"));
        send.arg(format!("file://{}", bench.file().display()));
        send.arg(format!("{address}?mode=listener&{OPTIONS}"));
        let mut server = bench.start("srt", send)?;
        let table = PathBuf::from(format!("/proc/{}/net/udp", server.id()));
        bench.stop.wait_for("srt-file-transmit does not listen", READY_WAIT, || {
            if let Some(status) = server.ended()? {
                bail!("{PROGRAM}: {status}: {}", server.last_words());
            }
            let sockets = fs::read_to_string(&table).context("sockets")?;
            Ok(has_port(&sockets, port).then_some(()))
        })?;
        let mut receive = bench.place.client(PROGRAM);
        receive.args(["-quiet", RECEIVE_CHUNK]).arg(format!("{address}?mode=caller&{OPTIONS}"));
        receive.arg(format!("file://{}", output.display()));
        let spent = bench.fetch(receive)?;
        // It is waited for after the client, so what children have spent since then is its own.
        let before = cpu::of_ended_children()?;
        server.finish(&bench.stop, END_WAIT)?;
        let server_cpu = cpu::of_ended_children()?.saturating_sub(before);
        Ok(Run { wall: spent.wall, server_cpu, client_cpu: spent.cpu })
    }
}

/// Whether somebody listens there, by `/proc/net/udp`.
fn has_port(sockets: &str, port: u16) -> bool {
    let end = format!(":{port:04X}");
    sockets.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).any(|local| local.ends_with(&end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_found_by_its_local_port() {
        let sockets = "   sl  local_address rem_address   st tx_queue rx_queue\n\
                       12: 0100007F:1F90 00000000:2382 07 00000000:00000000 00:00000000 00000000 0 0 99 2 0 0\n";
        assert!(has_port(sockets, 8_080));
        assert!(!has_port(sockets, 0x2382));
        assert!(!has_port(sockets, 0xf90));
    }
}
