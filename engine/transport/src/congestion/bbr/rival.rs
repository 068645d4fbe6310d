//! The window beside a flow that keeps the queue full: the law of CUBIC (RFC 9438), which such flows follow mostly, so
//! that each gets its share.

use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;

const PACKET: f64 = PACKET_BYTES as f64;
/// RFC 9438, section 4.1.2: C, in packets per second cubed.
const C: f64 = 0.4;
/// RFC 9438, section 4.6: what is left after a loss.
const BETA: f64 = 0.7;

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rival {
    /// Window in packets.
    window: f64,
    /// That of the last loss.
    window_max: f64,
    /// Since when it grows.
    since: Instant,
    /// When it was cut.
    cut_at: Instant,
}

impl Rival {
    /// Begins as if a window of `bytes` had just met with loss.
    pub(super) fn new(now: Instant, bytes: f64, least_bytes: f64) -> Self {
        let mut rival = Self { window: bytes / PACKET, window_max: f64::INFINITY, since: now, cut_at: now };
        rival.cut(now, Duration::ZERO, least_bytes);
        rival
    }

    pub(super) fn window_bytes(&self) -> f64 {
        self.window * PACKET
    }

    /// A round went well. `share`: the part of a flow that this source is; its curve is that part of the flow's (RFC
    /// 9438, figure 1, with all windows multiplied).
    pub(super) fn grow(&mut self, now: Instant, rtt: Duration, share: f64) {
        let c = C * share;
        let k = (self.window_max * (1.0 - BETA) / c).cbrt();
        let t = now.saturating_duration_since(self.since).as_secs_f64() + rtt.as_secs_f64();
        let target = c * (t - k).powi(3) + self.window_max;
        // RFC 9438, section 4.4: at most half as much again in a round trip; section 4.3: never slower than Reno would.
        let reno = self.window + share * 3.0 * (1.0 - BETA) / (1.0 + BETA);
        self.window = target.clamp(reno, (self.window * 1.5).max(reno));
    }

    /// A round was congested. Once in a round trip counts.
    pub(super) fn cut(&mut self, now: Instant, rtt: Duration, least_bytes: f64) {
        if now.saturating_duration_since(self.cut_at) < rtt {
            return;
        }
        // RFC 9438, section 4.7: who has less than at the last loss leaves room.
        self.window_max =
            if self.window < self.window_max { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(least_bytes / PACKET);
        self.since = now;
        self.cut_at = now;
    }
}
