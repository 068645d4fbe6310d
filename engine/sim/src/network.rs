//! Hosts, and the links between them: carries packets hop by hop in virtual time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use braidcast_media::layout::PACKET_BYTES;

use crate::asset::Extent;
use crate::cross::Segment;
use crate::link::{Link, LinkConfig, UDP_HEADER_BYTES, Verdict};
use crate::rng::Rng;
use crate::trace::Trace;

/// A host of the network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct HostNo(pub u16);

/// One direction of a link of the network.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LinkNo(usize);

/// A port of a host.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// Which host.
    pub host: HostNo,
    /// Its port; packets to another than the host has at present are dropped, as by a NAT that has forgotten it.
    pub port: u16,
}

impl Endpoint {
    /// The address by which programs know it.
    pub fn address(self) -> SocketAddr {
        let [high, low] = self.host.0.to_be_bytes();
        SocketAddr::from(([10, 0, high, low], self.port))
    }

    /// The endpoint that has this address; nothing for addresses of other networks.
    pub fn of(address: SocketAddr) -> Option<Self> {
        match address {
            SocketAddr::V4(v4) => match v4.ip().octets() {
                [10, 0, high, low] => {
                    Some(Self { host: HostNo(u16::from_be_bytes([high, low])), port: address.port() })
                }
                _ => None,
            },
            SocketAddr::V6(_) => None,
        }
    }
}

/// Which answer of a server a packet belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AnswerNo(pub u32);

/// What a packet holds.
#[derive(Clone)]
pub enum Payload {
    /// DATA as it was published: the extent's chunk at an index.
    Chunk(Arc<Extent>, u8),
    /// Any other datagram.
    Datagram(Box<[u8]>),
    /// ICMP port unreachable.
    Refusal,
    /// What other traffic on the link sends.
    Cross(Segment),
}

impl Payload {
    /// Bytes on a link, IP headers included.
    pub fn wire_bytes(&self) -> usize {
        match self {
            Self::Chunk(..) => DATA_WIRE_BYTES,
            Self::Datagram(bytes) => bytes.len() + UDP_HEADER_BYTES,
            Self::Refusal => REFUSAL_BYTES,
            Self::Cross(segment) => segment.wire_bytes(),
        }
    }

    /// The datagram; nothing for what is none.
    pub fn datagram(&self) -> Option<&[u8]> {
        match self {
            Self::Chunk(extent, index) => Some(extent.packet(usize::from(*index))),
            Self::Datagram(bytes) => Some(bytes),
            Self::Refusal | Self::Cross(_) => None,
        }
    }

    /// The same with one bit flipped; what has a checksum that finds it does not arrive.
    fn damaged(&self, draw: u64) -> Option<Self> {
        let mut bytes = Box::<[u8]>::from(self.datagram()?);
        let bit = (draw % (bytes.len() as u64 * 8)) as usize;
        bytes[bit / 8] ^= 1 << (bit % 8);
        Some(Self::Datagram(bytes))
    }
}

/// An IP packet between two endpoints.
#[derive(Clone)]
pub struct Packet {
    /// Where it comes from.
    pub from: Endpoint,
    /// Where it goes to.
    pub to: Endpoint,
    /// When it was sent.
    pub sent_at: Duration,
    /// What it holds.
    pub payload: Payload,
    /// The answer that it belongs to.
    pub answer: Option<AnswerNo>,
}

struct Host {
    port: u16,
    /// By the number of the other host: the links on the way to it, in order.
    routes: Vec<Option<Vec<LinkNo>>>,
}

struct Way {
    link: Link,
    /// How long each packet waited in the queue, in microseconds, if that is measured.
    waits_us: Option<Vec<u32>>,
}

struct Flight {
    at: Duration,
    serial: u64,
    packet: Packet,
    /// Links that it has passed.
    hops: u8,
}

/// All hosts and links, and what is on its way.
pub struct Network {
    hosts: Vec<Host>,
    links: Vec<Way>,
    flights: BinaryHeap<Flight>,
    serial: u64,
    rng: Rng,
    trace: Trace,
    /// Answers of which a packet did not arrive as it was sent.
    broken: Vec<AnswerNo>,
}

/// Bytes of a DATA packet on a link.
pub const DATA_WIRE_BYTES: usize = PACKET_BYTES + UDP_HEADER_BYTES;
/// Port that hosts have at first.
const PORT: u16 = 4_000;
/// IP, ICMP, and the headers of the packet that it answers.
const REFUSAL_BYTES: usize = 56;

impl Network {
    /// Without hosts.
    pub fn new(rng: Rng) -> Self {
        Self {
            hosts: Vec::new(),
            links: Vec::new(),
            flights: BinaryHeap::new(),
            serial: 0,
            rng,
            trace: Trace::default(),
            broken: Vec::new(),
        }
    }

    /// Another host, which no other reaches yet.
    pub fn add_host(&mut self) -> HostNo {
        self.hosts.push(Host { port: PORT, routes: Vec::new() });
        HostNo(self.hosts.len() as u16 - 1)
    }

    /// Another direction of a link, which no packet takes yet.
    pub fn add_link(&mut self, config: LinkConfig) -> LinkNo {
        self.links.push(Way { link: Link::new(config), waits_us: None });
        LinkNo(self.links.len() - 1)
    }

    /// Packets from one host to another take these links, in this order.
    pub fn set_route(&mut self, from: HostNo, to: HostNo, links: Vec<LinkNo>) {
        let routes = &mut self.hosts[usize::from(from.0)].routes;
        let to = usize::from(to.0);
        if routes.len() <= to {
            routes.resize(to + 1, None);
        }
        routes[to] = Some(links);
    }

    /// A link.
    pub fn link(&self, link: LinkNo) -> &Link {
        &self.links[link.0].link
    }

    /// Changes a link.
    pub fn change_link(&mut self, link: LinkNo, change: impl FnOnce(&mut LinkConfig)) {
        let link = &mut self.links[link.0].link;
        let mut config = *link.config();
        change(&mut config);
        link.set_config(config);
    }

    /// From now on, how long packets wait in a link's queue is kept.
    pub fn measure_waits(&mut self, link: LinkNo) {
        self.links[link.0].waits_us = Some(Vec::new());
    }

    /// How long packets waited in a link's queue, in the order in which they came, in microseconds.
    pub fn waits_us(&self, link: LinkNo) -> &[u32] {
        self.links[link.0].waits_us.as_deref().unwrap_or_default()
    }

    /// Where a host is reached at present.
    pub fn endpoint(&self, host: HostNo) -> Endpoint {
        Endpoint { host, port: self.hosts[usize::from(host.0)].port }
    }

    /// The host's address changes; what is on its way to the old one is lost.
    pub fn move_host(&mut self, host: HostNo) {
        self.hosts[usize::from(host.0)].port += 1;
    }

    /// Propagation delays there and back, without queues, jitter and the time that sending takes.
    pub fn base_rtt(&self, a: HostNo, b: HostNo) -> Duration {
        let route = |from: HostNo, to: HostNo| self.hosts[usize::from(from.0)].routes.get(usize::from(to.0));
        let links = [route(a, b), route(b, a)].into_iter().flatten().flatten().flatten();
        links.map(|link| self.link(*link).config().delay).sum()
    }

    /// A host sends a packet.
    pub fn send(&mut self, packet: Packet) {
        let at = packet.sent_at;
        self.forward(at, packet, 0);
    }

    /// When the next packet gets somewhere.
    pub fn next_at(&self) -> Option<Duration> {
        self.flights.peek().map(|flight| flight.at)
    }

    /// The next packet that arrives at its host by `now`.
    pub fn poll_arrival(&mut self, now: Duration) -> Option<Packet> {
        while self.next_at().is_some_and(|at| at <= now) {
            let Flight { at, packet, hops, .. } = self.flights.pop()?;
            let hops_all = self.route(&packet).map_or(0, <[LinkNo]>::len);
            if usize::from(hops) < hops_all {
                self.forward(at, packet, hops);
            } else if self.endpoint(packet.to.host) == packet.to {
                let start = packet.payload.datagram().unwrap_or_default();
                let (from, to) = (packet.from.host.0.into(), packet.to.host.0.into());
                self.trace.on_packet(at, from, to, packet.payload.wire_bytes(), start);
                return Some(packet);
            } else {
                self.broken.extend(packet.answer);
            }
        }
        None
    }

    /// The next answer of which a packet was dropped, damaged or held up.
    pub fn poll_broken(&mut self) -> Option<AnswerNo> {
        self.broken.pop()
    }

    /// Tells runs apart.
    pub fn trace_hash(&self) -> u64 {
        self.trace.hash()
    }

    fn route(&self, packet: &Packet) -> Option<&[LinkNo]> {
        self.hosts[usize::from(packet.from.host.0)].routes.get(usize::from(packet.to.host.0))?.as_deref()
    }

    /// The packet comes to its next link.
    fn forward(&mut self, now: Duration, packet: Packet, hops: u8) {
        let Some(route) = self.route(&packet) else { return };
        let Some(&next) = route.get(usize::from(hops)) else { return self.fly(now, packet, hops) };
        let way = &mut self.links[next.0];
        let bytes = packet.payload.wire_bytes();
        let Verdict::Arrives(arrival) = way.link.send(now, bytes, &mut self.rng) else {
            self.broken.extend(packet.answer);
            return;
        };
        if let Some(waits) = &mut way.waits_us {
            waits.push(arrival.queued.as_micros() as u32);
        }
        if let Some(again_at) = arrival.again_at {
            self.fly(again_at, packet.clone(), hops + 1);
        }
        let Some(draw) = arrival.flip else { return self.fly(arrival.at, packet, hops + 1) };
        self.broken.extend(packet.answer);
        if let Some(payload) = packet.payload.damaged(draw) {
            self.fly(arrival.at, Packet { payload, ..packet }, hops + 1);
        }
    }

    fn fly(&mut self, at: Duration, packet: Packet, hops: u8) {
        self.serial += 1;
        self.flights.push(Flight { at, serial: self.serial, packet, hops });
    }
}

impl Ord for Flight {
    /// The earliest is the greatest: [`BinaryHeap`] gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

impl PartialOrd for Flight {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Flight {
    fn eq(&self, other: &Self) -> bool {
        self.serial == other.serial
    }
}

impl Eq for Flight {}
