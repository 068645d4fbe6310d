//! Where both ends run: loopback, or two network namespaces that a veth pair joins.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::process::Command;

use anyhow::{Context, Result};
use braidcast_lab::namespace::{Namespace, run};

/// The kernel's congestion control for TCP, of whoever asks; of a namespace when it runs in there.
const CONGESTION: &str = "/proc/sys/net/ipv4/tcp_congestion_control";
const CONGESTION_AVAILABLE: &str = "/proc/sys/net/ipv4/tcp_available_congestion_control";
/// What TCP runs under beside the kernel's own choice, if that is another.
const CONGESTION_OTHER: &str = "cubic";
/// Both ends of the veth pair; three of the server's addresses would be for aria2c alone.
const VETH_SERVER: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);
const VETH_CLIENT: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 2);
/// Routes from the server to the client, as the kernel makes them.
const LOOPBACK_ROUTES: [&str; 2] = [
    "local 127.0.0.0/8 dev lo proto kernel scope host src 127.0.0.1 table local",
    "local 127.0.0.1 dev lo proto kernel scope host src 127.0.0.1 table local",
];
const VETH_ROUTE: &str = "10.97.0.0/30 dev veth0 proto kernel scope link src 10.97.0.1";
/// What a real network card might do for TCP and not for UDP, or the other way round.
const OFFLOADS: [&str; 7] = ["tso", "gso", "gro", "tx", "rx", "sg", "tx-udp-segmentation"];

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One host.
    Loopback,
    /// Two, without offloads.
    Veth,
}

impl Kind {
    /// What it is called in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::Veth => "veth",
        }
    }
}

/// A network for both ends. Dropped, its namespaces are removed.
#[derive(Debug)]
pub(crate) struct Place {
    kind: Kind,
    /// The server's and the client's; one if they share it, none for the host's own network.
    namespaces: Vec<Namespace>,
}

impl Place {
    /// Loopback: of a namespace where that is permitted, else of the host.
    pub(crate) fn loopback() -> Self {
        let made = Namespace::create("loopback");
        if let Err(error) = &made {
            eprintln!("peers: on the host's own loopback, under its congestion control alone: {error:#}");
        }
        Self { kind: Kind::Loopback, namespaces: made.into_iter().collect() }
    }

    /// Two namespaces joined by a veth pair without offloads.
    pub(crate) fn veth() -> Result<Self> {
        let (server, client) = (Namespace::create("server")?, Namespace::create("client")?);
        let mut add = Command::new("ip");
        add.args(["link", "add", "veth0", "netns", server.name(), "type", "veth"]);
        run(add.args(["peer", "name", "veth0", "netns", client.name()]))?;
        for (end, address) in [(&server, VETH_SERVER), (&client, VETH_CLIENT)] {
            for offload in OFFLOADS {
                // Some have no switch of their own on some kernels; that those which count are off is looked at below.
                let _ = run(end.command("ethtool").args(["-K", "veth0", offload, "off"]));
            }
            let shown = run(end.command("ethtool").args(["-k", "veth0"]))?;
            check_off(&shown)?;
            end.ip(&format!("addr add {address}/30 dev veth0"))?;
            end.ip("link set veth0 up")?;
        }
        Ok(Self { kind: Kind::Veth, namespaces: vec![server, client] })
    }

    /// Which it is.
    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    /// The server's address.
    pub(crate) fn address(&self) -> Ipv4Addr {
        match self.kind {
            Kind::Loopback => Ipv4Addr::LOCALHOST,
            Kind::Veth => VETH_SERVER,
        }
    }

    /// Three addresses of the server's host, on loopback.
    pub(crate) fn addresses(&self) -> [Ipv4Addr; 3] {
        [1, 2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last))
    }

    /// A command that will run at the server.
    pub(crate) fn server(&self, program: impl AsRef<OsStr>) -> Command {
        command(self.namespaces.first(), program)
    }

    /// A command that will run at the client.
    pub(crate) fn client(&self, program: impl AsRef<OsStr>) -> Command {
        command(self.namespaces.last(), program)
    }

    /// The congestion controls that TCP is tried with; nothing stands for what the host has set.
    pub(crate) fn congestions(&self) -> Result<Vec<Option<String>>> {
        if self.namespaces.is_empty() {
            return Ok(vec![None]);
        }
        let own = fs::read_to_string(CONGESTION).context(CONGESTION)?.trim().to_owned();
        let available = fs::read_to_string(CONGESTION_AVAILABLE).context(CONGESTION_AVAILABLE)?;
        let has_other = own != CONGESTION_OTHER && available.split_whitespace().any(|name| name == CONGESTION_OTHER);
        let other = has_other.then(|| CONGESTION_OTHER.to_owned());
        Ok(std::iter::once(own).chain(other).map(Some).collect())
    }

    /// Sets the congestion control of connections that begin from now on.
    pub(crate) fn set_congestion(&self, name: Option<&str>) -> Result<()> {
        let (Some(name), Some(server)) = (name, self.namespaces.first()) else { return Ok(()) };
        // By route: the kernel's setting of a namespace takes only what the host permits to all its users.
        let routes: &[&str] = match self.kind {
            Kind::Loopback => &LOOPBACK_ROUTES,
            Kind::Veth => &[VETH_ROUTE],
        };
        routes.iter().try_for_each(|route| server.ip(&format!("route change {route} congctl {name}")))
    }
}

/// A port that was free a moment ago, for TCP and UDP; programs that cannot say which port they took get it.
pub(crate) fn free_port() -> Result<u16> {
    // A port that one has and the other has not is rare; the last error is as good as any.
    let mut tried = Err(std::io::Error::other("not tried"));
    for _ in 0..16 {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        tried = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).map(|_| port);
        if tried.is_ok() {
            break;
        }
    }
    tried.context("no port is free for both TCP and UDP")
}

fn command(namespace: Option<&Namespace>, program: impl AsRef<OsStr>) -> Command {
    match namespace {
        Some(namespace) => namespace.command(program),
        None => Command::new(program),
    }
}

/// Looks whether what `ethtool -k` shows is off that the column is about.
fn check_off(shown: &str) -> Result<()> {
    let wanted = ["tcp-segmentation-offload", "generic-segmentation-offload", "generic-receive-offload"];
    for feature in wanted {
        let is_off = shown.lines().any(|line| line.trim().starts_with(&format!("{feature}: off")));
        anyhow::ensure!(is_off, "ethtool cannot turn {feature} off");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_offload_that_stays_on_is_named() {
        let shown = "Features for veth0:\n\
                     tcp-segmentation-offload: off\n\
                     \ttx-tcp-segmentation: off\n\
                     generic-segmentation-offload: off [requested on]\n\
                     generic-receive-offload: on\n";
        let error = check_off(shown).expect_err("GRO is on");
        assert!(error.to_string().contains("generic-receive-offload"), "{error:#}");
        check_off(&shown.replace(": on\n", ": off\n")).expect("all off");
    }
}
