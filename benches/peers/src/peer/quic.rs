//! QUIC by quinn: both ends are parts of this program (see [`crate::quic`]).

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Result, bail};
use braidcast_lab::process::Process;

use crate::bench::{Bench, READY_WAIT};
use crate::contender::{Contender, Peer, Row, Run};
use crate::tls;

/// The datagrams of Ethernet; the largest of which the kernel takes ten at once, which is what quinn hands over; and the
/// largest of all, one at a time.
const WAYS: [(u16, bool, &str); 3] = [
    (1_452, true, "1,452-byte packets, GSO"),
    (6_500, true, "6,500-byte packets, GSO"),
    (65_507, false, "65,507-byte packets"),
];

struct Quic {
    server: Rc<Server>,
    address: String,
    datagram_bytes: u16,
}

struct Server(Vec<Process>);

/// One for each size of datagrams.
pub(super) fn all(bench: &Rc<Bench>) -> Result<Vec<Contender>> {
    let mut command = bench.place.server(std::env::current_exe()?);
    command.arg("quic-serve").arg(bench.file()).args(["--listen", &format!("{}:0", bench.place.address())]);
    command.arg("--certificate").arg(tls::certificate(bench)).arg("--key").arg(tls::key(bench));
    let mut process = bench.start("quic", command)?;
    let start = "quic listening ";
    let line = process.wait_line(&bench.stop, start, READY_WAIT)?;
    let mut addresses = line[start.len()..].split_whitespace();
    let (Some(with), Some(without)) = (addresses.next(), addresses.next()) else { bail!("it listens at {line:?}") };
    let server = Rc::new(Server(vec![process]));
    let contender = |(datagram_bytes, has_offload, words): (u16, bool, &str)| {
        let address = if has_offload { with } else { without }.to_owned();
        let peer: Box<dyn Peer> = Box::new(Quic { server: Rc::clone(&server), address, datagram_bytes });
        Contender { row: Row::Quic, variant: words.to_owned(), peer: Ok(peer) }
    };
    Ok(WAYS.map(contender).into())
}

impl Peer for Quic {
    fn run(&self, bench: &Bench, output: PathBuf) -> Result<Run> {
        let mut command = bench.place.client(std::env::current_exe()?);
        command.args(["quic-get", &self.address, "--datagram-bytes", &self.datagram_bytes.to_string()]);
        command.arg("--certificate").arg(tls::certificate(bench)).arg("--output").arg(output);
        bench.measure(&self.server.0, command)
    }
}
