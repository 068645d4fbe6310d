//! One direction of a network in virtual time, with faults that one seed reproduces.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// A small generator of random numbers (SplitMix64): one seed, one run.
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    fn happens(&mut self, percent: u8) -> bool {
        self.below(100) < percent.into()
    }
}

/// How often each fault strikes a packet, in percent.
#[derive(Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) loss: u8,
    pub(crate) duplication: u8,
    pub(crate) reordering: u8,
    pub(crate) corruption: u8,
}

/// Decides by a packet's bytes whether it is lost.
pub(crate) type Filter = Box<dyn FnMut(&[u8]) -> bool>;

/// One direction between two hosts.
pub(crate) struct Link {
    delay: Duration,
    faults: Faults,
    rng: Rng,
    on_the_way: BTreeMap<(Instant, u64), Vec<u8>>,
    serial: u64,
    /// Loses the packets of which this says yes.
    pub(crate) lose: Option<Filter>,
    /// Bytes of packets that were delivered twice.
    pub(crate) duplicated_bytes: u64,
    /// All packets that were handed in, by their first byte.
    pub(crate) sent_of_kind: BTreeMap<u8, u64>,
}

impl Link {
    pub(crate) fn new(delay: Duration, faults: Faults, seed: u64) -> Self {
        Self {
            delay,
            faults,
            rng: Rng::new(seed),
            on_the_way: BTreeMap::new(),
            serial: 0,
            lose: None,
            duplicated_bytes: 0,
            sent_of_kind: BTreeMap::new(),
        }
    }

    pub(crate) fn send(&mut self, now: Instant, packet: &[u8]) {
        *self.sent_of_kind.entry(packet[0]).or_default() += 1;
        if self.lose.as_mut().is_some_and(|lose| lose(packet)) || self.rng.happens(self.faults.loss) {
            return;
        }
        let mut copies = 1;
        if self.rng.happens(self.faults.duplication) {
            copies = 2;
            self.duplicated_bytes += packet.len() as u64;
        }
        for _ in 0..copies {
            let mut packet = packet.to_vec();
            if self.rng.happens(self.faults.corruption) {
                let at = self.rng.below(packet.len());
                packet[at] ^= 1 << self.rng.below(8);
            }
            // A packet that is overtaken arrives up to half a delay after those sent behind it.
            let late = if self.rng.happens(self.faults.reordering) {
                self.delay / 8 * (1 + self.rng.below(4) as u32)
            } else {
                Duration::ZERO
            };
            self.serial += 1;
            self.on_the_way.insert((now + self.delay + late, self.serial), packet);
        }
    }

    pub(crate) fn next_arrival(&self) -> Option<Instant> {
        self.on_the_way.first_key_value().map(|((at, _), _)| *at)
    }

    pub(crate) fn receive(&mut self, now: Instant) -> Option<Vec<u8>> {
        let first = self.on_the_way.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }
}
