//! How fast chunks arrive, by the answers to PULLs (draft-cheng-iccrg-delivery-rate-estimation-02, with PULLs in place of
//! packets).

use std::time::{Duration, Instant};

/// What has arrived from one source.
#[derive(Debug, Default)]
pub(super) struct Delivery {
    bytes: u64,
    /// When the newest chunk came.
    at: Option<Instant>,
    /// When the newest of the answered PULLs was sent.
    asked_at: Option<Instant>,
    /// While no more than this has arrived, answers tell of PULLs that were sent while there was nothing else to ask for.
    limited_until: u64,
}

/// How things stood when a PULL was sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    pub(super) bytes: u64,
    pub(super) sent_at: Instant,
    at: Instant,
    asked_at: Instant,
    pub(super) is_limited: bool,
}

/// What arrived from before a PULL to its answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) bytes: u64,
    pub(super) interval: Duration,
}

impl Delivery {
    /// Bytes that have arrived.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// A PULL is sent.
    pub(super) fn stamp(&mut self, now: Instant, in_flight_bytes: u64) -> Stamp {
        if in_flight_bytes == 0 {
            // The pause before it belongs to nobody's rate.
            self.at = Some(now);
            self.asked_at = Some(now);
        }
        Stamp {
            bytes: self.bytes,
            sent_at: now,
            at: self.at.unwrap_or(now),
            asked_at: self.asked_at.unwrap_or(now),
            is_limited: self.limited_until > self.bytes,
        }
    }

    /// A chunk has come.
    pub(super) fn on_arrived(&mut self, now: Instant, bytes: u64) {
        self.bytes += bytes;
        self.at = Some(now);
    }

    /// There is nothing to ask for.
    pub(super) fn on_idle(&mut self, in_flight_bytes: u64) {
        self.limited_until = self.bytes + in_flight_bytes.max(1);
    }

    /// A PULL was answered. The time runs from the newest arrival before the PULL to the newest one now, or from the
    /// PULL before to this one, whichever is longer: so neither answers that come bunched together nor PULLs that were
    /// sent so show a rate that is not there.
    pub(super) fn sample(&mut self, stamp: &Stamp) -> Sample {
        let arriving = self.at.unwrap_or(stamp.at).saturating_duration_since(stamp.at);
        let asking = stamp.sent_at.saturating_duration_since(stamp.asked_at);
        self.asked_at = Some(self.asked_at.map_or(stamp.sent_at, |at| at.max(stamp.sent_at)));
        Sample { bytes: self.bytes - stamp.bytes, interval: arriving.max(asking) }
    }
}
