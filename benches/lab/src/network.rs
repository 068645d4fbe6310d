//! Hosts in network namespaces, joined by the router.

use std::net::Ipv4Addr;
use std::process::{Command, id};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use tun_rs::{DeviceBuilder, Layer, SyncDevice};

use crate::namespace::{Namespace, run};
use crate::router::Router;
use crate::router::fabric::{Fabric, HostId};

/// Packets that a device keeps until the router reads them: well above what a sender hands over at once. Drops belong
/// to the links.
const DEVICE_QUEUE_PACKETS: u32 = 10_000;
const DEVICE_MTU: u16 = 1_500;
/// All worlds draw the same losses, as far as the packets come in the same order.
const SEED: u64 = 1;

/// A host.
#[derive(Debug)]
pub struct Host {
    /// How the fabric calls it.
    pub id: HostId,
    /// Its one address.
    pub address: Ipv4Addr,
    /// Where its processes run.
    pub namespace: Namespace,
}

/// Hosts and the router between them. Dropped, all of it is removed.
#[derive(Debug)]
pub struct Network {
    // Dropped first: namespaces are removed while the router still takes their last packets.
    hosts: Vec<Host>,
    /// The router.
    pub router: Router,
}

impl Network {
    /// Makes hosts with these names, joined by links that slow nothing and lose nothing.
    pub fn build(names: &[String]) -> Result<Self> {
        let mut hosts = Vec::new();
        let mut devices = Vec::new();
        for (index, name) in names.iter().enumerate() {
            let address = Ipv4Addr::new(10, 99, 0, index as u8 + 1);
            let host = Host { id: HostId(index), address, namespace: Namespace::create(name)? };
            devices.push(join(&host).with_context(|| format!("a TUN device for {name}"))?);
            hosts.push(host);
        }
        let addresses: Vec<Ipv4Addr> = hosts.iter().map(|host| host.address).collect();
        let router = Router::start(Fabric::new(&addresses, SEED), devices)?;
        Ok(Self { hosts, router })
    }

    /// A host.
    pub fn host(&self, id: HostId) -> &Host {
        &self.hosts[id.0]
    }
}

/// Why namespaces with TUN devices cannot be made here; nothing if they can.
pub fn refusal() -> Option<String> {
    static PROBES: AtomicU32 = AtomicU32::new(0);
    let name = format!("probe{}", PROBES.fetch_add(1, Ordering::Relaxed));
    let refused = Network::build(&[name]).err()?;
    Some(format!("network namespaces with TUN devices are not permitted: {refused:#}"))
}

/// Gives the host a TUN device whose other end is ours.
fn join(host: &Host) -> Result<SyncDevice> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let made = format!("bcl{}x{}", id(), MADE.fetch_add(1, Ordering::Relaxed) % 1_000);
    let device = DeviceBuilder::new().name(&made).layer(Layer::L3).enable(false).build_sync()?;
    let namespace = host.namespace.name();
    run(Command::new("ip").args(["link", "set", &made, "netns", namespace, "name", "tun0"]))?;
    host.namespace.ip(&format!("link set tun0 mtu {DEVICE_MTU} txqueuelen {DEVICE_QUEUE_PACKETS} up"))?;
    host.namespace.ip(&format!("addr add {}/32 dev tun0", host.address))?;
    host.namespace.ip("route add default dev tun0")?;
    Ok(device)
}
