//! The programs that are measured, each at its best.

mod aria2;
mod braidcast;
mod nginx;
mod quic;
mod srt;

use std::rc::Rc;

use anyhow::Result;
use braidcast_lab::stop::Interrupted;

use crate::bench::Bench;
use crate::contender::{Contender, Peer, Row};
use braidcast::{Clusters, Get};

pub(crate) use braidcast::Braidcast;
pub(crate) use nginx::Nginx;

/// What `braidcast get` verifies without a flag.
pub(crate) const EXTENTS: &str = "extents";

/// Starts every server that these rows want; one that does not start is a line that says why.
pub(crate) fn all(bench: &Rc<Bench>, rows: &[Row]) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    let mut clusters = Clusters::default();
    for row in rows {
        eprintln!("peers: {}: {} starts", bench.place.kind().name(), row.name());
        match of_row(bench, *row, &mut clusters) {
            Ok(made) => contenders.extend(made),
            Err(error) if error.is::<Interrupted>() || row.is_ours() => return Err(error),
            Err(error) => {
                contenders.push(Contender { row: *row, variant: String::new(), peer: Err(error) });
            }
        }
    }
    Ok(contenders)
}

fn of_row(bench: &Rc<Bench>, row: Row, clusters: &mut Clusters) -> Result<Vec<Contender>> {
    let one = |peer: Box<dyn Peer>| vec![Contender { row, variant: String::new(), peer: Ok(peer) }];
    Ok(match row {
        Row::Braidcast => one(Get::from(clusters.of_one(bench)?, EXTENTS)),
        Row::BraidcastPackets => one(Get::from(clusters.of_one(bench)?, "packets")),
        Row::BraidcastThree => one(Get::from(Rc::new(Braidcast::start(bench, "three", 3)?), EXTENTS)),
        Row::Nginx => nginx::plain(bench)?,
        Row::NginxTls => nginx::tls(bench)?,
        Row::Aria2 => aria2::all(bench)?,
        Row::Quic => quic::with_offload(bench)?,
        Row::QuicJumbo => quic::jumbo(bench)?,
        Row::Srt => srt::all()?,
    })
}
