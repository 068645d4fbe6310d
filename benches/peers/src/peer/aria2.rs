//! aria2c, from three addresses of one nginx.

use std::path::PathBuf;
use std::rc::Rc;

use anyhow::{Context, Result};

use super::nginx::{Nginx, Setup};
use crate::bench::Bench;
use crate::contender::{Contender, Peer, Row, Run};
use crate::machine;

struct Aria2 {
    nginx: Rc<Nginx>,
    congestion: Option<String>,
}

/// One under each congestion control.
pub(super) fn all(bench: &Rc<Bench>) -> Result<Vec<Contender>> {
    machine::find("aria2c")?;
    let setup = Setup {
        name: "nginx-aria2".to_owned(),
        addresses: bench.place.addresses().to_vec(),
        workers: 2,
        lines: "sendfile on; tcp_nopush on;".to_owned(),
        is_tls: false,
    };
    let nginx = Rc::new(Nginx::start(bench, &setup)?);
    let contender = |congestion: Option<String>| {
        let variant = congestion.clone().unwrap_or_default();
        let peer: Box<dyn Peer> = Box::new(Aria2 { nginx: Rc::clone(&nginx), congestion });
        Contender { row: Row::Aria2, variant, peer: Ok(peer) }
    };
    Ok(bench.place.congestions()?.into_iter().map(contender).collect())
}

impl Peer for Aria2 {
    fn run(&self, bench: &Bench, output: PathBuf) -> Result<Run> {
        bench.place.set_congestion(self.congestion.as_deref())?;
        let folder = output.parent().context("the output is in a folder")?;
        let name = output.file_name().context("the output has a name")?;
        let mut aria2 = bench.place.client("aria2c");
        aria2.args(["--no-conf", "--quiet", "--file-allocation=none", "-x3", "-s3", "-k1M", "--dir"]);
        aria2.arg(folder).arg("--out").arg(name).args(&self.nginx.urls);
        bench.measure(&self.nginx.processes, aria2)
    }
}
