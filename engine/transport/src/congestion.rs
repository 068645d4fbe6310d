//! How much may be in flight to one source, and how fast it is asked: what a [`crate::puller::Puller`] measures goes
//! in, a window and a rate come out.
//!
//! - [`Bbr`]: a model of the path, after the BBR draft; for films and downloads.
//! - [`Background`]: gives way to everything else; for downloads that may take their time.
//! - [`FixedWindow`]: does not move; what the others are measured against.

mod background;
mod bbr;
mod filters;
mod fixed;
mod loss;

use std::time::{Duration, Instant};

pub use background::Background;
pub use bbr::Bbr;
pub use fixed::FixedWindow;

/// Decides how many bytes a [`crate::puller::Puller`] may have asked for and neither received nor given up, and at
/// which rate it asks. Bytes are those of packets, headers of UDP and IP left out.
pub trait Congestion: Send {
    /// Bytes that may be in flight now.
    fn window_bytes(&self) -> u64;

    /// Bytes per second at which chunks may be asked for; nothing while it is not limited.
    fn pacing_rate(&self) -> Option<f64>;

    /// What the path is believed to deliver, in bytes per second; nothing before it was measured.
    fn bandwidth(&self) -> Option<f64>;

    /// The round trip of an empty path; nothing before it was measured.
    fn min_rtt(&self) -> Option<Duration>;

    /// A round trip that carried no chunks: that of the greeting.
    fn on_rtt(&mut self, now: Instant, rtt: Duration);

    /// A PULL is about to be sent; `in_flight_bytes` are under way already.
    fn on_pull(&mut self, now: Instant, in_flight_bytes: u64);

    /// A PULL was answered.
    fn on_answered(&mut self, answer: &Answer);

    /// `bytes` that were asked for will not come.
    fn on_lost(&mut self, now: Instant, bytes: u64);

    /// Nothing came of what was asked for, not even word of its loss.
    fn on_timeout(&mut self);

    /// `bytes` that were told as lost have come after all.
    fn on_spurious_loss(&mut self, bytes: u64);

    /// The part of a client's one flow that this source is: 1 if there are no others.
    fn set_share(&mut self, share: f64);

    /// Whether the path has not been filled yet.
    fn is_starting(&self) -> bool;

    /// Whether the round trip of an empty path should be measured anew. Whoever drives several sources has them do so
    /// at the same time: one that goes on would keep the queue full that the others wait to see empty.
    fn wants_to_probe_rtt(&self, now: Instant) -> bool;

    /// Empties the path for a moment, to measure its round trip.
    fn probe_rtt(&mut self, now: Instant);

    /// Whether losses tell of somebody else on the path, of whom the round trip does not tell. Default: they tell nothing.
    fn hears_rival(&self, _now: Instant) -> bool {
        false
    }

    /// Gives way to that one, if there is one. Whoever drives several sources has them do so at the same time, once all of
    /// them hear it: what one gives up the others would take.
    fn meet_rival(&mut self, _now: Instant) {}

    /// What is worth remembering of the path for the next session: nothing if less was found out than is known.
    fn retained(&self) -> Option<Retained> {
        None
    }

    /// Nothing was asked for yet: begins with what an earlier session to the same place has found out, if the round trip
    /// says that the path may be the same (RFC 9959, Careful Resume).
    fn resume(&mut self, _retained: Retained) {}

    /// What it does at the moment, for people and traces.
    fn phase(&self) -> &'static str;
}

/// What outlives a session: see [`Congestion::resume`].
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Retained {
    /// The highest rate that the path has delivered of late, in bytes per second.
    pub rate: f64,
    /// The round trip of the empty path.
    pub rtt: Duration,
}

/// What the answer to one PULL tells of the path.
///
/// The rate is measured as draft-cheng-iccrg-delivery-rate-estimation-02 does, with PULLs in place of packets: all bytes
/// that arrived since the PULL was sent and the newest arrival before it, over the longer of the time in which they
/// were asked for and the time in which they arrived. So neither the spacing within a train, which is the bottleneck's
/// capacity and not this flow's share, nor a burst of answers that a queue had held back, is taken for a rate.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// When its last chunk, or its END, came.
    pub now: Instant,
    /// From the PULL to its first chunk, less what the server held it; nothing where a chunk of it was asked for twice.
    pub rtt: Option<Duration>,
    /// Bytes that arrived in `interval`.
    pub sample_bytes: u64,
    /// Bytes of which it became known in `interval` that they will not come.
    pub sample_lost_bytes: u64,
    /// In which time.
    pub interval: Duration,
    /// Bytes delivered by this source since its session was opened.
    pub delivered_bytes: u64,
    /// As `delivered_bytes` when the PULL was sent.
    pub delivered_bytes_before: u64,
    /// Bytes that are still under way.
    pub in_flight_bytes: u64,
    /// Most chunks that a PULL asks for at the present rate, in bytes.
    pub quantum_bytes: u64,
    /// Not the path but the server, or that nothing was to be asked for, set the rate.
    pub is_limited: bool,
}

impl Answer {
    /// The rate of delivery, in bytes per second; nothing if too little time went by to tell.
    pub fn rate(&self) -> Option<f64> {
        (self.interval > Duration::ZERO).then(|| self.sample_bytes as f64 / self.interval.as_secs_f64())
    }
}

/// Answers are counted in rounds: one ends when a PULL is answered that was sent after the last one had ended (BBR
/// draft, section 4.5.1).
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Rounds that have begun.
    pub(crate) count: u64,
    next_delivered: u64,
}

impl Rounds {
    /// Says whether this answer begins a round.
    pub(crate) fn on_answered(&mut self, answer: &Answer) -> bool {
        if answer.delivered_bytes_before < self.next_delivered {
            return false;
        }
        self.next_delivered = answer.delivered_bytes;
        self.count += 1;
        true
    }
}
