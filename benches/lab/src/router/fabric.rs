//! Hosts, the links between them, and the packets under way.
//!
//! A packet goes through the up link of its sender, then through the down link of its receiver. Hosts may share a down
//! link, which is then a common bottleneck. Links change while packets are under way.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::Ipv4Addr;
use std::time::Duration;

use braidcast_sim::link::{Counters, Link, LinkConfig, Verdict};
use braidcast_sim::rng::Rng;

use super::arrivals::Arrivals;
use super::histogram::Histogram;
use super::packet::{Address, Content, Packet, replace_address};

/// Hosts of a fabric at most.
pub const HOSTS_MAX: usize = 16;
/// Packets under way at most: 40 MB, more than any link of the lab holds.
const SLOTS_MAX: usize = 20_000;
/// A TUN device's MTU is 1,500.
const SLOT_BYTES: usize = 2_048;
const QUEUE_BIN: Duration = Duration::from_micros(100);
const LATE_BIN: Duration = Duration::from_micros(10);

/// A host, by the order in which it was added.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct HostId(pub usize);

/// A buffer for one packet.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct SlotId(u32);

/// A packet to hand over now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// To which host.
    pub to: HostId,
    /// Where it is; to be given back with [`Fabric::release`].
    pub slot: SlotId,
}

/// Hosts and links.
#[derive(Debug)]
pub struct Fabric {
    hosts: Vec<Host>,
    wires: Vec<Wire>,
    slots: Vec<Slot>,
    free: Vec<SlotId>,
    events: BinaryHeap<Reverse<Event>>,
    events_made: u64,
    rng: Rng,
    own: Own,
}

#[derive(Debug)]
struct Host {
    address: Ipv4Addr,
    /// What the others see instead, as behind NAT.
    alias: Option<Ipv4Addr>,
    down: usize,
    is_udp_blocked: bool,
    arrivals: Arrivals,
}

#[derive(Debug)]
struct Wire {
    link: Link,
    offered_at: Duration,
    queued: Histogram,
}

#[derive(Debug)]
struct Slot {
    bytes: Box<[u8; SLOT_BYTES]>,
    length: usize,
    to: HostId,
    /// A bit was flipped: the receiver's kernel will drop it.
    is_damaged: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Event {
    at: Duration,
    /// What comes at the same time keeps its order.
    order: u64,
    slot: SlotId,
    leg: Leg,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Leg {
    /// It comes to the receiver's down link.
    Down,
    /// It comes to the receiver.
    Host,
}

/// What a direction has carried since the links were laid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WireReport {
    /// Packets sent and lost.
    pub counters: Counters,
    /// Median time in the queue.
    pub queued_median: Duration,
    /// Time in the queue that 95% do not exceed.
    pub queued_p95: Duration,
}

/// How well the router itself did since the links were laid.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnReport {
    /// Packets handed over.
    pub delivered: u64,
    /// Median time by which they were late.
    pub late_median: Duration,
    /// Time by which 99% were not later.
    pub late_p99: Duration,
    /// Packets that no link lost: the router ran out of room, or a device refused them.
    pub own_losses: u64,
}

#[derive(Debug)]
struct Own {
    delivered: u64,
    late: Histogram,
    losses: u64,
}

impl Own {
    fn new() -> Self {
        Self { delivered: 0, late: Histogram::new(LATE_BIN), losses: 0 }
    }
}

impl Fabric {
    /// Hosts with these addresses, joined by links that slow nothing and lose nothing.
    pub fn new(addresses: &[Ipv4Addr], seed: u64) -> Self {
        assert!(addresses.len() <= HOSTS_MAX, "a fabric has at most {HOSTS_MAX} hosts");
        let host = |address| Host {
            address,
            alias: None,
            down: 0,
            is_udp_blocked: false,
            arrivals: Arrivals::new(Duration::ZERO),
        };
        let mut fabric = Self {
            hosts: addresses.iter().map(|&address| host(address)).collect(),
            wires: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            events: BinaryHeap::new(),
            events_made: 0,
            rng: Rng::new(seed),
            own: Own::new(),
        };
        fabric.lay_links();
        fabric
    }

    /// Lays new links that slow nothing and lose nothing; clears what hides or blocks hosts, and all counts.
    pub fn lay_links(&mut self) {
        let wire = || Wire {
            link: Link::new(LinkConfig::default()),
            offered_at: Duration::ZERO,
            queued: Histogram::new(QUEUE_BIN),
        };
        self.wires = std::iter::repeat_with(wire).take(2 * self.hosts.len()).collect();
        for (index, host) in self.hosts.iter_mut().enumerate() {
            host.down = down(HostId(index));
            host.alias = None;
            host.is_udp_blocked = false;
        }
        self.own = Own::new();
    }

    /// What the host sends goes through this.
    pub fn set_up(&mut self, host: HostId, config: LinkConfig) {
        self.wires[up(host)].link.set_config(config);
    }

    /// What the host receives goes through this.
    pub fn set_down(&mut self, host: HostId, config: LinkConfig) {
        self.wires[self.hosts[host.0].down].link.set_config(config);
    }

    /// From now on `host` receives through the down link of `other`.
    pub fn share_down(&mut self, host: HostId, other: HostId) {
        self.hosts[host.0].down = self.hosts[other.0].down;
    }

    /// Whether UDP to and from the host is dropped, as in many schools.
    pub fn block_udp(&mut self, host: HostId, is_blocked: bool) {
        self.hosts[host.0].is_udp_blocked = is_blocked;
    }

    /// The others see this address instead of the host's own, as after its NAT forgot; an earlier one leads nowhere.
    pub fn set_alias(&mut self, host: HostId, alias: Ipv4Addr) {
        self.hosts[host.0].alias = Some(alias);
    }

    /// Counts what arrives from `now` on.
    pub fn count_arrivals(&mut self, now: Duration) {
        for host in &mut self.hosts {
            host.arrivals = Arrivals::new(now);
        }
    }

    /// What has arrived at a host.
    pub fn arrivals(&self, host: HostId) -> &Arrivals {
        &self.hosts[host.0].arrivals
    }

    /// What the host's up link has carried.
    pub fn up_report(&self, host: HostId) -> WireReport {
        self.wires[up(host)].report()
    }

    /// What the host's down link has carried.
    pub fn down_report(&self, host: HostId) -> WireReport {
        self.wires[self.hosts[host.0].down].report()
    }

    /// How well the router did.
    pub fn own_report(&self) -> OwnReport {
        OwnReport {
            delivered: self.own.delivered,
            late_median: self.own.late.quantile(0.5),
            late_p99: self.own.late.quantile(0.99),
            own_losses: self.own.losses,
        }
    }

    /// Room for a packet. Nothing if there is none left: then a packet must be delivered first.
    pub fn take_slot(&mut self) -> Option<SlotId> {
        if let Some(slot) = self.free.pop() {
            return Some(slot);
        }
        if self.slots.len() == SLOTS_MAX {
            return None;
        }
        let bytes = Box::new([0; SLOT_BYTES]);
        self.slots.push(Slot { bytes, length: 0, to: HostId(0), is_damaged: false });
        Some(SlotId(self.slots.len() as u32 - 1))
    }

    /// Where to put a packet.
    pub fn buffer(&mut self, slot: SlotId) -> &mut [u8] {
        self.slots[slot.0 as usize].bytes.as_mut_slice()
    }

    /// A packet.
    pub fn bytes(&self, slot: SlotId) -> &[u8] {
        let slot = &self.slots[slot.0 as usize];
        &slot.bytes[..slot.length]
    }

    /// Gives room back; `is_well` tells that nothing went wrong with the packet.
    pub fn release(&mut self, slot: SlotId, is_well: bool) {
        self.own.losses += u64::from(!is_well);
        self.free.push(slot);
    }

    /// Host `from` sends the packet of `length` bytes in `slot`. Time never goes back.
    pub fn handle_packet(&mut self, from: HostId, slot: SlotId, length: usize, now: Duration) {
        let buffer = &mut self.slots[slot.0 as usize];
        buffer.length = length;
        buffer.is_damaged = false;
        let Some(to) = self.route(from, slot) else { return self.free.push(slot) };
        self.slots[slot.0 as usize].to = to;
        self.offer(up(from), slot, Leg::Down, now);
    }

    /// The next packet that is due.
    pub fn poll_delivery(&mut self, now: Duration) -> Option<Delivery> {
        loop {
            if self.next_at()? > now {
                return None;
            }
            let Reverse(Event { at, slot, leg, .. }) = self.events.pop()?;
            let to = self.slots[slot.0 as usize].to;
            match leg {
                Leg::Down => self.offer(self.hosts[to.0].down, slot, Leg::Host, at),
                Leg::Host => {
                    self.arrive(to, slot, at, now);
                    return Some(Delivery { to, slot });
                }
            }
        }
    }

    /// When the next packet is due.
    pub fn next_at(&self) -> Option<Duration> {
        self.events.peek().map(|Reverse(event)| event.at)
    }

    /// Where a packet goes; nothing if that is nowhere.
    fn route(&mut self, from: HostId, slot: SlotId) -> Option<HostId> {
        let slot = &mut self.slots[slot.0 as usize];
        let bytes = &mut slot.bytes[..slot.length];
        let packet = Packet::parse(bytes)?;
        let is_udp = matches!(packet.content, Content::Udp(_));
        let seen = |host: &Host| host.alias.unwrap_or(host.address) == packet.destination;
        let to = self.hosts.iter().position(seen)?;
        if is_udp && (self.hosts[from.0].is_udp_blocked || self.hosts[to].is_udp_blocked) {
            return None;
        }
        if let Some(alias) = self.hosts[from.0].alias {
            replace_address(bytes, Address::Source, alias);
        }
        if self.hosts[to].alias.is_some() {
            replace_address(bytes, Address::Destination, self.hosts[to].address);
        }
        Some(HostId(to))
    }

    /// A packet comes to a link.
    fn offer(&mut self, wire: usize, slot: SlotId, leg: Leg, at: Duration) {
        let wire = &mut self.wires[wire];
        // A packet that was read late may come after one that was due a moment later.
        wire.offered_at = wire.offered_at.max(at);
        let length = self.slots[slot.0 as usize].length;
        let arrival = match wire.link.send(wire.offered_at, length, &mut self.rng) {
            Verdict::Arrives(arrival) => arrival,
            Verdict::Dropped(_) => return self.free.push(slot),
        };
        wire.queued.record(arrival.queued);
        if let Some(again_at) = arrival.again_at
            && let Some(copy) = self.copy(slot)
        {
            self.schedule(again_at, copy, leg);
        }
        if let Some(flip) = arrival.flip {
            let slot = &mut self.slots[slot.0 as usize];
            let bit = (flip % (slot.length as u64 * 8)) as usize;
            slot.bytes[bit / 8] ^= 1 << (bit % 8);
            slot.is_damaged = true;
        }
        self.schedule(arrival.at, slot, leg);
    }

    fn schedule(&mut self, at: Duration, slot: SlotId, leg: Leg) {
        self.events_made += 1;
        self.events.push(Reverse(Event { at, order: self.events_made, slot, leg }));
    }

    fn copy(&mut self, slot: SlotId) -> Option<SlotId> {
        let copy = self.take_slot()?;
        let Slot { ref bytes, length, to, is_damaged } = self.slots[slot.0 as usize];
        let bytes = **bytes;
        let copied = &mut self.slots[copy.0 as usize];
        *copied.bytes = bytes;
        (copied.length, copied.to, copied.is_damaged) = (length, to, is_damaged);
        Some(copy)
    }

    fn arrive(&mut self, to: HostId, slot: SlotId, at: Duration, now: Duration) {
        self.own.delivered += 1;
        self.own.late.record(now - at);
        let slot = &self.slots[slot.0 as usize];
        if slot.is_damaged {
            return;
        }
        if let Some(packet) = Packet::parse(&slot.bytes[..slot.length]) {
            self.hosts[to.0].arrivals.on_packet(at, packet.content);
        }
    }
}

impl Wire {
    fn report(&self) -> WireReport {
        WireReport {
            counters: *self.link.counters(),
            queued_median: self.queued.quantile(0.5),
            queued_p95: self.queued.quantile(0.95),
        }
    }
}

fn up(host: HostId) -> usize {
    2 * host.0
}

fn down(host: HostId) -> usize {
    2 * host.0 + 1
}
