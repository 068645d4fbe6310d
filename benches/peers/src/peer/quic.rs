//! QUIC by quinn: both ends are parts of this program (see [`crate::quic`]).

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Result, bail};
use braidcast_lab::process::Process;

use crate::bench::{Bench, READY_WAIT};
use crate::contender::{Contender, Peer, Row, Run};
use crate::tls;

/// The datagrams of Ethernet, and the largest of which the kernel takes ten at once, which is what quinn hands over.
const WITH_OFFLOAD: [(u16, &str); 2] = [(1_452, "1,452-byte packets, GSO"), (6_500, "6,500-byte packets, GSO")];
/// The largest of all, one at a time.
const JUMBO: (u16, &str) = (65_507, "65,507-byte packets");

struct Quic {
    server: Rc<Server>,
    address: String,
    datagram_bytes: u16,
}

struct Server(Vec<Process>);

/// One for each size of datagrams.
pub(super) fn with_offload(bench: &Rc<Bench>) -> Result<Vec<Contender>> {
    let (server, [address, _]) = start(bench)?;
    let contender = |(datagram_bytes, words): (u16, &str)| {
        let peer = Quic { server: Rc::clone(&server), address: address.clone(), datagram_bytes };
        Contender { row: Row::Quic, variant: words.to_owned(), peer: Ok(Box::new(peer)) }
    };
    Ok(WITH_OFFLOAD.map(contender).into())
}

/// Without GSO: as few packets as can be.
pub(super) fn jumbo(bench: &Rc<Bench>) -> Result<Vec<Contender>> {
    let (server, [_, address]) = start(bench)?;
    let (datagram_bytes, words) = JUMBO;
    let peer = Quic { server, address, datagram_bytes };
    Ok(vec![Contender { row: Row::QuicJumbo, variant: words.to_owned(), peer: Ok(Box::new(peer)) }])
}

/// A server, and where it listens with GSO and without.
fn start(bench: &Bench) -> Result<(Rc<Server>, [String; 2])> {
    let mut command = bench.place.server(std::env::current_exe()?);
    command.arg("quic-serve").arg(bench.file()).args(["--listen", &format!("{}:0", bench.place.address())]);
    command.arg("--certificate").arg(tls::certificate(bench)).arg("--key").arg(tls::key(bench));
    let mut process = bench.start("quic", command)?;
    let start = "quic listening ";
    let line = process.wait_line(&bench.stop, start, READY_WAIT)?;
    let mut addresses = line[start.len()..].split_whitespace();
    let (Some(with), Some(without)) = (addresses.next(), addresses.next()) else { bail!("it listens at {line:?}") };
    Ok((Rc::new(Server(vec![process])), [with, without].map(str::to_owned)))
}

impl Peer for Quic {
    fn run(&self, bench: &Bench, output: PathBuf) -> Result<Run> {
        let mut command = bench.place.client(std::env::current_exe()?);
        command.args(["quic-get", &self.address, "--datagram-bytes", &self.datagram_bytes.to_string()]);
        command.arg("--certificate").arg(tls::certificate(bench)).arg("--output").arg(output);
        bench.measure(&self.server.0, command)
    }
}
