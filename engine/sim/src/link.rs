//! One direction of a link: what becomes of a packet, and when.
//!
//! A packet waits in a drop-tail queue, is sent at the link's rate, and is then on the wire, where it is delayed, lost,
//! overtaken, repeated or damaged: **what is lost on the wire has used the link**. Nothing here holds packets or knows
//! what clock it runs by: `now` counts from any origin and never goes back, and the caller keeps each packet until the
//! time that [`Link::send`] gives. Simulated worlds drive it in virtual time, the lab's router in real time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::rng::Rng;

/// IPv4 and UDP headers: what a link carries besides a datagram's payload.
pub const UDP_HEADER_BYTES: usize = 28;

/// What a link is like. [`LinkConfig::default`] is a wire that nothing slows and nothing harms.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LinkConfig {
    /// Bits per second, IP headers included. Default `None`: not limited, so nothing ever waits.
    pub rate_bit_s: Option<u64>,
    /// Propagation delay. Default 0.
    pub delay: Duration,
    /// Most that is added to the delay, spread evenly; order is kept, as in a queue elsewhere. Default 0.
    pub jitter: Duration,
    /// Bytes that may wait while another packet is being sent; what does not fit is dropped. Default `None`: no limit.
    pub queue_bytes: Option<u64>,
    /// Probability that a packet is lost on the wire, each for itself. Default 0.
    pub loss: f64,
    /// Losses in bursts, besides `loss`. Default `None`.
    pub bursts: Option<Bursts>,
    /// Probability that a packet is held up, so that others overtake it. Default 0.
    pub reordering: f64,
    /// Most that such a packet is held up, spread evenly. Default 0.
    pub reordering_delay: Duration,
    /// Probability that a packet arrives twice. Default 0.
    pub duplication: f64,
    /// Probability that one bit of a packet is flipped. Default 0.
    pub corruption: f64,
    /// Longest packet that passes, IP headers included; longer ones vanish, as where ICMP is filtered. Default `None`.
    pub mtu: Option<usize>,
    /// Whether nothing passes at all. Default no.
    pub is_cut: bool,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            rate_bit_s: None,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            queue_bytes: None,
            loss: 0.0,
            bursts: None,
            reordering: 0.0,
            reordering_delay: Duration::ZERO,
            duplication: 0.0,
            corruption: 0.0,
            mtu: None,
            is_cut: false,
        }
    }
}

/// Gilbert-Elliott: the wire is good or bad, changes between packets, and loses packets while it is bad.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bursts {
    /// Probability, per packet, that a good wire turns bad.
    pub good_to_bad: f64,
    /// Probability, per packet, that a bad wire turns good.
    pub bad_to_good: f64,
    /// Probability that a bad wire loses a packet.
    pub loss_in_bad: f64,
}

impl Bursts {
    /// Bursts of `packets` losses on average, that together are a share `loss` (below 1) of all packets.
    pub fn of(loss: f64, packets: f64) -> Self {
        let bad_to_good = 1.0 / packets;
        Self { good_to_bad: bad_to_good * loss / (1.0 - loss), bad_to_good, loss_in_bad: 1.0 }
    }

    /// The share of packets that is lost in the long run.
    pub fn loss(&self) -> f64 {
        self.loss_in_bad * self.good_to_bad / (self.good_to_bad + self.bad_to_good)
    }
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It arrives.
    Arrives(Arrival),
    /// It does not arrive.
    Dropped(DropReason),
}

/// How a packet arrives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// When its last bit is there; not before `now`.
    pub at: Duration,
    /// When a copy of it is there as well.
    pub again_at: Option<Duration>,
    /// A random number, if a bit is flipped: its remainder by the packet's bits is the bit.
    pub flip: Option<u64>,
    /// How long it waited in the queue.
    pub queued: Duration,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DropReason {
    /// The queue was full.
    Queue,
    /// Lost on the wire, by itself or in a burst.
    Wire,
    /// Longer than the MTU.
    TooLong,
    /// The link is cut.
    Cut,
}

/// What a link has done since the start. Bytes include IP headers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Counters {
    /// Packets that were sent, those lost on the wire included.
    pub sent_packets: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Packets that the queue had no room for.
    pub dropped_by_queue: u64,
    /// Packets lost on the wire.
    pub lost_on_wire: u64,
}

/// One direction of a link.
#[derive(Clone, Debug)]
pub struct Link {
    config: LinkConfig,
    /// Packets whose sending has not begun, as far as `send` has looked: when it begins, and their bytes.
    waiting: VecDeque<(Duration, u32)>,
    waiting_bytes: u64,
    /// When the last packet that was taken is sent.
    free_at: Duration,
    /// Arrival of the last packet that kept its place.
    last_arrival: Duration,
    is_bad: bool,
    counters: Counters,
}

impl Link {
    /// An idle link.
    pub fn new(config: LinkConfig) -> Self {
        Self {
            config,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            free_at: Duration::ZERO,
            last_arrival: Duration::ZERO,
            is_bad: false,
            counters: Counters::default(),
        }
    }

    /// What the link is like.
    pub fn config(&self) -> &LinkConfig {
        &self.config
    }

    /// Changes the link, for packets that come from now on: those in the queue leave at the rate at which they came.
    pub fn set_config(&mut self, config: LinkConfig) {
        self.config = config;
    }

    /// What the link has done.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Bytes that wait, without the packet that is being sent.
    pub fn queued_bytes(&mut self, now: Duration) -> u64 {
        while let Some((_, bytes)) = self.waiting.pop_front_if(|(starts, _)| *starts <= now) {
            self.waiting_bytes -= u64::from(bytes);
        }
        self.waiting_bytes
    }

    /// A packet of `bytes`, IP headers included, comes to the link.
    pub fn send(&mut self, now: Duration, bytes: usize, rng: &mut Rng) -> Verdict {
        if self.config.is_cut {
            return Verdict::Dropped(DropReason::Cut);
        }
        if self.config.mtu.is_some_and(|mtu| bytes > mtu) {
            return Verdict::Dropped(DropReason::TooLong);
        }
        let waiting = self.queued_bytes(now);
        let starts = self.free_at.max(now);
        let is_full = self.config.queue_bytes.is_some_and(|limit| waiting + bytes as u64 > limit);
        if starts > now {
            if is_full {
                self.counters.dropped_by_queue += 1;
                return Verdict::Dropped(DropReason::Queue);
            }
            self.waiting.push_back((starts, bytes as u32));
            self.waiting_bytes += bytes as u64;
        }
        self.free_at = starts + self.config.rate_bit_s.map_or(Duration::ZERO, |rate| sending_time(bytes, rate));
        self.counters.sent_packets += 1;
        self.counters.sent_bytes += bytes as u64;
        if self.is_lost(rng) {
            self.counters.lost_on_wire += 1;
            return Verdict::Dropped(DropReason::Wire);
        }
        Verdict::Arrives(self.carry(starts - now, rng))
    }

    fn is_lost(&mut self, rng: &mut Rng) -> bool {
        let by_itself = rng.happens(self.config.loss);
        let Some(bursts) = self.config.bursts else { return by_itself };
        let turns = if self.is_bad { bursts.bad_to_good } else { bursts.good_to_bad };
        self.is_bad ^= rng.happens(turns);
        by_itself || self.is_bad && rng.happens(bursts.loss_in_bad)
    }

    /// The last packet goes over the wire.
    fn carry(&mut self, queued: Duration, rng: &mut Rng) -> Arrival {
        let config = &self.config;
        let mut at = self.free_at + config.delay + rng.time_below(config.jitter);
        if rng.happens(config.reordering) {
            at += rng.time_below(config.reordering_delay);
        } else {
            at = at.max(self.last_arrival);
            self.last_arrival = at;
        }
        let again_at = rng.happens(config.duplication).then_some(at);
        let flip = rng.happens(config.corruption).then(|| rng.draw());
        Arrival { at, again_at, flip, queued }
    }
}

/// How long a link of `rate_bit_s` takes to send `bytes`.
pub fn sending_time(bytes: usize, rate_bit_s: u64) -> Duration {
    let bit_ns = bytes as u128 * 8 * 1_000_000_000;
    Duration::from_nanos((bit_ns / u128::from(rate_bit_s.max(1))) as u64)
}

#[cfg(test)]
mod tests;
