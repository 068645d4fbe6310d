//! How much is asked for, how fast, and asking for it.

use std::time::{Duration, Instant};

use braidcast_media::StreamId;
use braidcast_media::layout::PACKET_BYTES;

use super::outstanding::Outstanding;
use super::{Puller, TRAIN_BYTES, pace};
use crate::limits::{CHUNKS_PER_PULL_MAX, RUNS_PER_PULL_MAX, unproven_bytes_max};
use crate::packet::{Pull, Runs};

impl Puller {
    /// Never has more than `bytes` in flight, but for one train. Default: no bound.
    pub fn set_in_flight_max(&mut self, bytes: u64) {
        self.in_flight_bytes_max = bytes.max(TRAIN_BYTES);
    }

    /// Never asks for more than `bytes_s` bytes of packets per second. Default: no bound.
    pub fn set_rate_max(&mut self, bytes_s: Option<f64>) {
        self.rate_max = bytes_s;
    }

    /// Chunks that one PULL may ask for now: none, or as many as make a PULL worth its packets.
    pub fn capacity_chunks(&mut self, now: Instant) -> u32 {
        let Some(open) = &self.connection.current else { return 0 };
        let limits = open.session.limits;
        let unanswered = self.pulls.len() >= usize::from(limits.pulls_unanswered);
        let busy = self.busy_until.is_some_and(|until| now < until);
        if unanswered || busy || open.expired || open.next_sequence == u32::MAX {
            return 0;
        }
        let window = u32::try_from(self.window_bytes() / PACKET_BYTES as u64).unwrap_or(u32::MAX);
        let room = window.saturating_sub(self.in_flight_chunks);
        let quantum = self.quantum_chunks();
        // As little as one chunk at a time would cost a PULL and an END for each (RFC 1122, section 4.2.3.3, has the
        // like of it for TCP's window).
        if room < quantum.min(window / 4) || room == 0 || !self.pace.permits(now) {
            return 0;
        }
        room.min(quantum)
    }

    /// Bytes that may be in flight.
    pub fn window_bytes(&self) -> u64 {
        let granted = self.connection.current.as_ref().map_or(0, |open| open.session.limits.rate_kib_s);
        let bound = in_flight_bytes_max(granted).min(self.in_flight_bytes_max);
        let window = self.congestion.window_bytes().min(bound);
        if self.timeouts > 0 { window.min(TRAIN_BYTES) } else { window }
    }

    /// Bytes of packets per second at which chunks are asked for; nothing if that is not limited.
    pub fn pacing_rate(&self) -> Option<f64> {
        let granted = self.connection.current.as_ref().map_or(0, |open| open.session.limits.rate_kib_s);
        let granted = (granted > 0).then_some(f64::from(granted) * 1024.0);
        [self.congestion.pacing_rate(), granted, self.rate_max].into_iter().flatten().reduce(f64::min)
    }

    /// Most chunks that one PULL asks for at the present rate.
    fn quantum_chunks(&self) -> u32 {
        pace::quantum_chunks(self.pacing_rate(), self.congestion.min_rtt())
    }

    /// There was room to ask for more, and nothing to ask for: what arrives next tells less of the path.
    pub fn on_idle(&mut self) {
        self.delivery.on_idle(self.in_flight_bytes());
    }

    /// Most chunks and runs that one [`Puller::pull`] takes.
    pub fn pull_limits(&self) -> (u16, usize) {
        let limits = self.connection.current.as_ref().map(|open| open.session.limits);
        limits.map_or((0, 0), |l| {
            (l.chunks_per_pull.min(CHUNKS_PER_PULL_MAX), usize::from(l.runs_per_pull).min(RUNS_PER_PULL_MAX))
        })
    }

    /// Asks for chunks.
    ///
    /// # Panics
    /// If no session is open, or `runs` are none, hold an empty one or are beyond [`Puller::pull_limits`].
    pub fn pull(&mut self, now: Instant, stream: StreamId, runs: Runs) {
        let (chunks_max, runs_max) = self.pull_limits();
        let chunks: u32 = runs.iter().map(|run| u32::from(run.count)).sum();
        assert!((1..=u32::from(chunks_max)).contains(&chunks) && runs.len() <= runs_max);
        assert!(runs.iter().all(|run| run.count > 0), "a server refuses empty runs");
        let (rate, in_flight) = (self.pacing_rate(), self.in_flight_bytes());
        self.pace.spend(now, u64::from(chunks) * PACKET_BYTES as u64, rate);
        self.congestion.on_pull(now, in_flight);
        let stamp = self.delivery.stamp(now, in_flight);
        let open = self.connection.current.as_mut().expect("the limits of an open session were met");
        let sequence = open.next_sequence;
        open.next_sequence += 1;
        let rate_kib_s = rate.map_or(0, named_rate_kib_s);
        let pull = Pull { asset: self.opener.asset(), stream, rate_kib_s, proof: open.proof, runs: runs.clone() };
        self.out.push_back(pull.seal(open.session.handle, sequence, &open.session.keys.client));
        let mut outstanding = Outstanding::new(open.tag(), sequence, stream, runs, stamp);
        outstanding.is_repeated = self.late.iter().any(|late| late.overlaps(stream, &outstanding.runs));
        self.pulls.push_back(outstanding);
        self.in_flight_chunks += chunks;
    }

    /// Most that one PULL asks for at the present rate, in bytes of packets.
    pub fn quantum_bytes(&self) -> u64 {
        u64::from(self.quantum_chunks()) * PACKET_BYTES as u64
    }

    /// The kernel has dropped packets for want of room in this host's receive buffer: the loss of this round trip is not
    /// the path's, and less may be in flight from here on.
    pub fn on_local_drops(&mut self, now: Instant) {
        let round_trip = self.rtt.smoothed().unwrap_or(LOCAL_DROPS_FOR);
        if self.local_drops_until.is_none_or(|until| until <= now) {
            let window = self.window_bytes();
            self.in_flight_bytes_max = (window / 4 * 3).max(TRAIN_BYTES);
        }
        self.local_drops_until = Some(now + round_trip.max(LOCAL_DROPS_FOR));
    }

    /// Whether the round trip of the empty path should be measured anew, by all sources at the same time.
    pub fn wants_to_probe_rtt(&self, now: Instant) -> bool {
        self.is_open() && self.congestion.wants_to_probe_rtt(now)
    }

    /// The part of a client's one flow that this source is.
    pub fn set_share(&mut self, share: f64) {
        self.congestion.set_share(share);
    }

    /// Measures it: asks for little for a moment.
    pub fn probe_rtt(&mut self, now: Instant) {
        self.congestion.probe_rtt(now);
    }

    /// Whether losses tell of somebody else on the path.
    pub fn hears_rival(&self, now: Instant) -> bool {
        self.congestion.hears_rival(now)
    }

    /// Gives way to that one.
    pub fn meet_rival(&mut self, now: Instant) {
        self.congestion.meet_rival(now);
    }
}

/// Bytes that may be in flight to a server that grants this rate: half of what it sends beyond the newest proof,
/// because ENDs can be lost, and never less than a train.
fn in_flight_bytes_max(rate_kib_s: u32) -> u64 {
    (unproven_bytes_max(rate_kib_s) / 2).max(TRAIN_BYTES)
}

/// What a PULL names: a quarter above the rate at which PULLs leave, so that the server spaces trains and its queue
/// still empties when PULLs came bunched together.
fn named_rate_kib_s(bytes_s: f64) -> u32 {
    (bytes_s * 1.25 / 1024.0).ceil() as u32
}

/// How long loss is put down to a full receive buffer, at least.
const LOCAL_DROPS_FOR: Duration = Duration::from_millis(100);
