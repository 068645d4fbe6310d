//! nginx, and curl as its client.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

use anyhow::{Context, Result, ensure};
use braidcast_lab::process::Process;

use crate::bench::{Bench, FILE, READY_WAIT};
use crate::contender::{Contender, Peer, Row, Run};
use crate::machine;
use crate::place::free_port;
use crate::tls;

/// One configuration.
#[derive(Clone, Debug)]
pub(super) struct Setup {
    /// How its processes and folder are called.
    pub(super) name: String,
    /// Where it listens.
    pub(super) addresses: Vec<Ipv4Addr>,
    /// Processes that serve.
    pub(super) workers: u32,
    /// Further lines of the server's block.
    pub(super) lines: String,
    /// Whether it speaks TLS.
    pub(super) is_tls: bool,
}

/// An nginx that runs.
#[derive(Debug)]
pub(crate) struct Nginx {
    /// The master; its workers are its children.
    pub(crate) processes: Vec<Process>,
    /// Where the file is found.
    pub(super) urls: Vec<String>,
}

/// curl, from an nginx.
struct Curl {
    nginx: Rc<Nginx>,
    /// TCP's, if that is not left to the host.
    congestion: Option<String>,
}

/// Plain HTTP by sendfile.
pub(super) fn plain(bench: &Rc<Bench>) -> Result<Vec<Contender>> {
    let mut contenders = Vec::new();
    for workers in [1, 2] {
        for chunk in ["2m", "512k"] {
            let setup = Setup {
                name: format!("nginx-{workers}-{chunk}"),
                addresses: vec![bench.place.address()],
                workers,
                lines: format!("sendfile on; tcp_nopush on; sendfile_max_chunk {chunk};"),
                is_tls: false,
            };
            let variant = format!("{}, chunks of {chunk}", count(workers));
            contenders.extend(curls(bench, Row::Nginx, &setup, &variant)?);
        }
    }
    Ok(contenders)
}

/// TLS 1.3. With the kernel's TLS, sendfile encrypts on its way; without, nginx reads, encrypts and writes.
pub(super) fn tls(bench: &Rc<Bench>) -> Result<Vec<Contender>> {
    let mut ways = vec![(1, "", ""), (2, "", ""), (1, "output_buffers 4 256k;", ", buffers of 256k")];
    if machine::has_kernel_tls() {
        ways.push((1, "sendfile on; ssl_conf_command Options KTLS;", ", kTLS"));
    }
    let mut contenders = Vec::new();
    for (number, (workers, lines, words)) in ways.into_iter().enumerate() {
        let setup = Setup {
            name: format!("nginx-tls-{}", number + 1),
            addresses: vec![bench.place.address()],
            workers,
            lines: lines.to_owned(),
            is_tls: true,
        };
        let variant = format!("{}{words}", count(workers));
        contenders.extend(curls(bench, Row::NginxTls, &setup, &variant)?);
    }
    Ok(contenders)
}

/// One nginx under each congestion control.
fn curls(bench: &Rc<Bench>, row: Row, setup: &Setup, variant: &str) -> Result<Vec<Contender>> {
    machine::find("curl")?;
    let nginx = Rc::new(Nginx::start(bench, setup)?);
    let contender = |congestion: Option<String>| {
        let under = congestion.as_ref().map(|name| format!(", {name}")).unwrap_or_default();
        let peer: Box<dyn Peer> = Box::new(Curl { nginx: Rc::clone(&nginx), congestion });
        Contender { row, variant: format!("{variant}{under}"), peer: Ok(peer) }
    };
    Ok(bench.place.congestions()?.into_iter().map(contender).collect())
}

impl Nginx {
    /// Starts one that serves plain HTTP by sendfile with one worker, for clients that do not take all they could.
    pub(crate) fn start_paced(bench: &Bench) -> Result<Self> {
        let setup = Setup {
            name: "nginx-paced".to_owned(),
            addresses: vec![bench.place.address()],
            workers: 1,
            lines: "sendfile on; tcp_nopush on;".to_owned(),
            is_tls: false,
        };
        Self::start(bench, &setup)
    }

    /// A curl that will fetch the file to `output`.
    pub(crate) fn curl(&self, bench: &Bench, output: &Path) -> Result<Command> {
        let mut curl = bench.place.client("curl");
        curl.args(["--disable", "--noproxy", "*", "--fail", "--silent", "--show-error", "--insecure", "--output"]);
        curl.arg(output).arg(self.urls.first().context("an nginx listens somewhere")?);
        Ok(curl)
    }

    /// Starts it, and waits until it listens.
    pub(super) fn start(bench: &Bench, setup: &Setup) -> Result<Self> {
        machine::find("nginx")?;
        let folder = bench.path(&setup.name);
        std::fs::create_dir_all(&folder)?;
        let port = free_port()?;
        let listen: Vec<SocketAddrV4> =
            setup.addresses.iter().map(|address| SocketAddrV4::new(*address, port)).collect();
        let path = folder.join("nginx.conf");
        std::fs::write(&path, config(bench, setup, &listen))?;
        let mut command: Command = bench.place.server("nginx");
        command.arg("-c").arg(&path).arg("-e").arg(folder.join("error.log"));
        let mut process = bench.start(&setup.name, command)?;
        // It listens before it writes this, and the kernel takes connections before a worker does.
        bench.stop.wait_for(&format!("{}: does not listen", setup.name), READY_WAIT, || {
            let written = std::fs::read_to_string(folder.join("pid")).unwrap_or_default();
            if let Some(status) = process.ended()? {
                anyhow::bail!("nginx: {status}: {}", process.last_words());
            }
            Ok((!written.trim().is_empty()).then_some(()))
        })?;
        let scheme = if setup.is_tls { "https" } else { "http" };
        let urls = listen.iter().map(|address| format!("{scheme}://{address}/{FILE}")).collect();
        Ok(Self { processes: vec![process], urls })
    }
}

impl Peer for Curl {
    fn run(&self, bench: &Bench, output: PathBuf) -> Result<Run> {
        bench.place.set_congestion(self.congestion.as_deref())?;
        let run = bench.measure(&self.nginx.processes, self.nginx.curl(bench, &output)?)?;
        ensure!(!run.wall.is_zero(), "it took no time");
        Ok(run)
    }
}

fn config(bench: &Bench, setup: &Setup, listen: &[SocketAddrV4]) -> String {
    let home = bench.path(&setup.name).display().to_string();
    let root = bench.path("www").display().to_string();
    let with = if setup.is_tls { " ssl" } else { "" };
    let listen: String = listen.iter().map(|address| format!("    listen {address}{with};\n")).collect();
    let secrets = if setup.is_tls {
        let (certificate, key) = (tls::certificate(bench), tls::key(bench));
        format!(
            "    ssl_certificate {};\n    ssl_certificate_key {};\n    ssl_protocols TLSv1.3;\n    \
             ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;\n",
            certificate.display(),
            key.display()
        )
    } else {
        String::new()
    };
    // As root it would serve as nobody, who cannot read what only root can.
    let user = if rustix::process::geteuid().is_root() { "user root;\n" } else { "" };
    let (workers, lines) = (setup.workers, &setup.lines);
    format!(
        "daemon off;\n{user}worker_processes {workers};\npid {home}/pid;\nerror_log {home}/error.log;\n\
         events {{ worker_connections 256; }}\nhttp {{\n  access_log off;\n  open_file_cache max=16;\n  \
         client_body_temp_path {home};\n  proxy_temp_path {home};\n  fastcgi_temp_path {home};\n  \
         uwsgi_temp_path {home};\n  scgi_temp_path {home};\n  server {{\n{listen}{secrets}    root {root};\n    \
         {lines}\n  }}\n}}\n"
    )
}

fn count(workers: u32) -> String {
    if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") }
}
