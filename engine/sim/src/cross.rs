//! Traffic that shares links with what is judged: bulk TCP flows, and datagrams at a steady rate.

use std::time::Duration;

use crate::link::sending_time;
use crate::network::{HostNo, Network, Packet, Payload};
use crate::tcp::{Algorithm, Receiver, SEGMENT_PAYLOAD_BYTES, Sender};

/// What other traffic sends.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// Which flow.
    pub flow: FlowNo,
    /// What it is.
    pub kind: SegmentKind,
}

/// Number of a flow of other traffic.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowNo(pub u16);

/// A segment of a TCP flow, or a datagram of traffic that heeds nothing.
#[derive(Clone, Copy, Debug)]
pub enum SegmentKind {
    /// A full segment of data.
    Data {
        /// Its place in the transfer.
        number: u64,
        /// Which transmission of the flow this is.
        serial: u64,
    },
    /// Acknowledges one segment, and all below another.
    Ack {
        /// The segment that has just come.
        number: u64,
        /// The transmission that brought it.
        serial: u64,
        /// All segments below have come.
        next: u64,
    },
    /// Whatever else fills links.
    Filler {
        /// Bytes, IP headers included.
        wire_bytes: usize,
    },
}

impl Segment {
    /// Bytes on a link, IP headers included.
    pub fn wire_bytes(&self) -> usize {
        match self.kind {
            SegmentKind::Data { .. } => SEGMENT_PAYLOAD_BYTES + TCP_HEADER_BYTES,
            SegmentKind::Ack { .. } => ACK_BYTES,
            SegmentKind::Filler { wire_bytes } => wire_bytes,
        }
    }
}

/// IP and TCP headers with timestamps.
const TCP_HEADER_BYTES: usize = 52;
/// The same, and a SACK block.
const ACK_BYTES: usize = 64;
/// Traffic that heeds nothing: a steady rate, on and off.
#[derive(Clone, Copy, Debug)]
pub struct Steady {
    /// Bits per second while it is on, IP headers included.
    pub rate_bit_s: u64,
    /// How long it is on, and then off; zero: never off.
    pub period: Duration,
}

/// Bytes of a packet of steady traffic.
const FILLER_BYTES: usize = 1_228;

impl Steady {
    /// The packet to send at `at`, and when the next is due.
    pub fn next(&self, flow: FlowNo, at: Duration) -> (Option<Segment>, Duration) {
        let next = at + sending_time(FILLER_BYTES, self.rate_bit_s);
        let periods = at.as_nanos().checked_div(self.period.as_nanos()).unwrap_or(0);
        let segment = Segment { flow, kind: SegmentKind::Filler { wire_bytes: FILLER_BYTES } };
        ((periods.is_multiple_of(2)).then_some(segment), next)
    }
}

/// One flow, from one host to another.
pub struct Flow {
    number: FlowNo,
    from: HostNo,
    to: HostNo,
    starts_at: Duration,
    kind: Kind,
}

enum Kind {
    Tcp { algorithm: Algorithm, draw: u64, sender: Option<Box<Sender>>, receiver: Receiver },
    Steady { steady: Steady, next_at: Duration },
}

impl Flow {
    /// A transfer without end that starts at a time. `draw`: any number, by which flows of one world differ.
    pub fn tcp(number: FlowNo, from: HostNo, to: HostNo, starts_at: Duration, algorithm: Algorithm, draw: u64) -> Self {
        let kind = Kind::Tcp { algorithm, draw, sender: None, receiver: Receiver::default() };
        Self { number, from, to, starts_at, kind }
    }

    /// Steady traffic that starts at a time.
    pub fn steady(number: FlowNo, from: HostNo, to: HostNo, starts_at: Duration, steady: Steady) -> Self {
        Self { number, from, to, starts_at, kind: Kind::Steady { steady, next_at: starts_at } }
    }

    /// Payload that a transfer has delivered.
    pub fn delivered_bytes(&self) -> u64 {
        match &self.kind {
            Kind::Tcp { receiver, .. } => receiver.bytes(),
            Kind::Steady { .. } => 0,
        }
    }

    /// A segment of this flow has come to one of its hosts.
    pub fn handle_segment(&mut self, now: Duration, kind: SegmentKind, network: &mut Network) {
        let Kind::Tcp { sender: Some(sender), receiver, .. } = &mut self.kind else { return };
        match kind {
            SegmentKind::Data { number, serial } => {
                let ack = receiver.handle_data(self.number, number, serial);
                send(now, network, self.to, self.from, ack);
            }
            SegmentKind::Ack { number, serial, next } => sender.handle_ack(now, number, serial, next),
            SegmentKind::Filler { .. } => {}
        }
    }

    /// When [`Flow::run`] has something to do.
    pub fn poll_timeout(&self) -> Option<Duration> {
        match &self.kind {
            Kind::Tcp { sender: None, .. } => Some(self.starts_at),
            Kind::Tcp { sender: Some(sender), .. } => sender.poll_timeout(),
            Kind::Steady { next_at, .. } => Some(*next_at),
        }
    }

    /// Sends what is due.
    pub fn run(&mut self, now: Duration, network: &mut Network) {
        if now < self.starts_at {
            return;
        }
        match &mut self.kind {
            Kind::Tcp { algorithm, draw, sender, .. } => {
                let sender = sender.get_or_insert_with(|| Box::new(Sender::new(now, self.number, *algorithm, *draw)));
                sender.handle_timeout(now);
                while let Some(segment) = sender.poll_transmit(now) {
                    send(now, network, self.from, self.to, segment);
                }
            }
            Kind::Steady { steady, next_at } => {
                while *next_at <= now {
                    let (segment, next) = steady.next(self.number, *next_at);
                    *next_at = next;
                    if let Some(segment) = segment {
                        send(now, network, self.from, self.to, segment);
                    }
                }
            }
        }
    }
}

fn send(now: Duration, network: &mut Network, from: HostNo, to: HostNo, segment: Segment) {
    let (from, to) = (network.endpoint(from), network.endpoint(to));
    network.send(Packet { from, to, sent_at: now, payload: Payload::Cross(segment), answer: None });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steady_traffic_keeps_its_rate_and_its_pauses() {
        let steady = Steady { rate_bit_s: 9_824_000, period: Duration::from_millis(500) };
        let (mut at, mut sent) = (Duration::ZERO, 0);
        while at < Duration::from_secs(2) {
            let (segment, next) = steady.next(FlowNo(0), at);
            sent += segment.map_or(0, |segment| segment.wire_bytes());
            at = next;
        }
        assert_eq!(sent, 1_228_000, "half of the time at 1 packet per millisecond");
    }
}
