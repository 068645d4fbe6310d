//! All sources of a client share its downlink: what they have in flight together is bounded by what they deliver together,
//! so that a client with five sources takes from others what a client with one would.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;

use super::source::{Source, State};

/// Bytes in flight at most, in parts of total rate x least round trip: what one flow after the BBR draft (section 4.6.4)
/// has in flight, and the quarter more with which it probes.
const WINDOW_GAIN: f64 = 2.25;
/// The total rate is the highest of this time. Longer than a cycle of probing, so that no source's pause counts.
const REMEMBERED: Duration = Duration::from_secs(2);
/// A round trip no longer than this never leaves the building.
const NEXT_DOOR: Duration = Duration::from_millis(1);
/// Least time over which the rate is measured.
const SPAN_MIN: Duration = Duration::from_millis(200);

/// What all sources do at the same time.
pub(super) fn act_together(now: Instant, sources: &mut [Source]) {
    // One source that goes on would keep the queue full that the others wait to see empty.
    if sources.iter().any(|source| source.puller.wants_to_probe_rtt(now)) {
        sources.iter_mut().for_each(|source| source.puller.probe_rtt(now));
    }
    let up = sources.iter().filter(|source| source.state == State::Up).count().max(1);
    sources.iter_mut().for_each(|source| source.puller.set_share(1.0 / up as f64));
    // Loss that only some of them have comes with their paths, or from where they share nothing with the others; one source
    // alone cannot tell. Even a slow one counts: without it, a fast source whose path loses packets by itself would speak
    // for all.
    let is_busy = |source: &Source| source.state == State::Up && source.puller.in_flight_bytes() > 0;
    let busy = || sources.iter().filter(|source| is_busy(source));
    if busy().count() > 1 && busy().all(|source| source.puller.hears_rival(now)) {
        sources.iter_mut().filter(|source| is_busy(source)).for_each(|source| source.puller.meet_rival(now));
    }
}

/// See the module's description.
#[derive(Debug, Default)]
pub(super) struct Aggregate {
    /// When, and how much had been delivered by all.
    totals: VecDeque<(Instant, u64)>,
    /// When, and the rate up to then in bytes per second.
    rates: VecDeque<(Instant, f64)>,
    bound_bytes: Option<f64>,
    in_flight_bytes: u64,
}

impl Aggregate {
    /// A moment has passed.
    pub(super) fn tick(&mut self, now: Instant, sources: &[Source]) {
        let up = || sources.iter().filter(|source| source.state == State::Up);
        let rtt = |source: &Source| source.puller.congestion().min_rtt().unwrap_or_default();
        let span = up().map(rtt).max().unwrap_or_default().max(SPAN_MIN);
        let total = sources.iter().map(|source| source.puller.delivered_bytes()).sum();
        self.totals.push_back((now, total));
        while self.totals.get(1).is_some_and(|(at, _)| now.duration_since(*at) >= span) {
            self.totals.pop_front();
        }
        if let Some(&(at, before)) = self.totals.front().filter(|(at, _)| now.duration_since(*at) >= span) {
            self.rates.push_back((now, (total - before) as f64 / now.duration_since(at).as_secs_f64()));
        }
        while self.rates.front().is_some_and(|(at, _)| now.duration_since(*at) > REMEMBERED) {
            self.rates.pop_front();
        }
        let rate = self.rates.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
        // Within a host or a rack it is not a downlink that they share.
        let is_far = up().any(|source| rtt(source) > NEXT_DOOR);
        let is_shared = up().count() > 1 && is_far && up().all(|source| !source.puller.congestion().is_starting());
        self.bound_bytes = (is_shared && rate > 0.0).then(|| {
            // The round trip of the whole is that of its parts, each by what it delivers.
            let weight = |source: &Source| source.puller.congestion().bandwidth().unwrap_or(0.0);
            let weights: f64 = up().map(weight).sum();
            let mean = up().map(|source| rtt(source).as_secs_f64() * weight(source)).sum::<f64>() / weights.max(1.0);
            let quanta: u64 = up().map(|source| source.puller.quantum_bytes()).sum();
            WINDOW_GAIN * rate * mean + 3.0 * quanta as f64
        });
    }

    /// Counts what is in flight.
    pub(super) fn begin_round(&mut self, sources: &[Source]) {
        self.in_flight_bytes = sources.iter().map(|source| source.puller.in_flight_bytes()).sum();
    }

    /// Chunks that may be asked for now, of whomever.
    pub(super) fn room_chunks(&self) -> u32 {
        let Some(bound) = self.bound_bytes else { return u32::MAX };
        ((bound - self.in_flight_bytes as f64).max(0.0) / PACKET_BYTES as f64) as u32
    }

    /// Chunks were asked for.
    pub(super) fn on_pull(&mut self, chunks: u32) {
        self.in_flight_bytes += u64::from(chunks) * PACKET_BYTES as u64;
    }
}
