//! CUBIC (RFC 9438), with the delay-based exit from slow start of HyStart++ (RFC 9406, section 4.2, without its
//! conservative phase, as in Linux).

use std::time::Duration;

use super::{Control, Sample, WINDOW_INITIAL};

/// Section 4.6: the window after a congestion event, of the one before.
const BETA: f64 = 0.7;
/// Section 5.1: segments per second cubed.
const C: f64 = 0.4;
/// Section 4.3: growth that shares fairly with Reno.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
const WINDOW_MIN: f64 = 2.0;
/// RFC 9406, section 4.3.
const HYSTART_SAMPLES: u32 = 8;
const HYSTART_DELAY_MIN: Duration = Duration::from_millis(4);
const HYSTART_DELAY_MAX: Duration = Duration::from_millis(16);

pub(super) struct Cubic {
    window: f64,
    threshold: f64,
    window_max: f64,
    window_prior: f64,
    estimate: f64,
    epoch: Option<Epoch>,
    hystart: HyStart,
}

struct Epoch {
    since: Duration,
    /// Seconds from `since` until the window is `window_max` again.
    k: f64,
}

#[derive(Default)]
struct HyStart {
    round_ends_at: u64,
    samples: u32,
    rtt_min: Option<Duration>,
    rtt_min_before: Option<Duration>,
}

impl Cubic {
    pub(super) fn new() -> Self {
        Self {
            window: WINDOW_INITIAL,
            threshold: f64::INFINITY,
            window_max: 0.0,
            window_prior: 0.0,
            estimate: 0.0,
            epoch: None,
            hystart: HyStart::default(),
        }
    }

    fn avoid_congestion(&mut self, now: Duration, sample: &Sample) {
        let (window, window_max) = (self.window, self.window_max);
        let estimate = &mut self.estimate;
        let epoch = self.epoch.get_or_insert_with(|| {
            *estimate = window;
            Epoch { since: now, k: ((window_max - window).max(0.0) / C).cbrt() }
        });
        let cubic = |at: Duration| {
            C * ((at - epoch.since).as_secs_f64() - epoch.k).powi(3) + window_max.max(window.min(window_max))
        };
        let acked = sample.acked as f64;
        // Section 4.3: as fast as Reno once the window is what it was.
        let alpha = if self.estimate >= self.window_prior { 1.0 } else { ALPHA };
        self.estimate += alpha * acked / window;
        if cubic(now) < self.estimate {
            self.window = self.window.max(self.estimate);
            return;
        }
        // Sections 4.4 and 4.5.
        let target = cubic(now + sample.rtt).clamp(window, 1.5 * window);
        self.window += (target - window) / window * acked;
    }
}

impl HyStart {
    /// Whether the round trip has risen so much in this round that the queue is filling.
    fn is_over(&mut self, sample: &Sample) -> bool {
        if sample.delivered_before >= self.round_ends_at {
            self.round_ends_at = sample.delivered;
            self.rtt_min_before = self.rtt_min.take();
            self.samples = 0;
        }
        self.samples += 1;
        let rtt = self.rtt_min.map_or(sample.rtt, |rtt| rtt.min(sample.rtt));
        self.rtt_min = Some(rtt);
        self.rtt_min_before.is_some_and(|before| {
            let rise = (before / 8).clamp(HYSTART_DELAY_MIN, HYSTART_DELAY_MAX);
            self.samples >= HYSTART_SAMPLES && rtt >= before + rise
        })
    }
}

impl Control for Cubic {
    fn window(&self) -> u64 {
        self.window as u64
    }

    fn pacing_rate(&self) -> Option<f64> {
        None
    }

    fn on_ack(&mut self, now: Duration, sample: &Sample) {
        if self.window >= self.threshold {
            return self.avoid_congestion(now, sample);
        }
        self.window += sample.acked as f64;
        if self.hystart.is_over(sample) {
            self.threshold = self.window;
            (self.window_max, self.window_prior) = (self.window, self.window);
        }
    }

    fn on_congestion(&mut self, _now: Duration) {
        self.window_prior = self.window;
        // Section 4.7: gives room to flows that have just come.
        let shrinks = self.window < self.window_max;
        self.window_max = if shrinks { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(WINDOW_MIN);
        self.threshold = self.window;
        self.epoch = None;
    }

    fn on_timeout(&mut self) {
        self.window_prior = self.window;
        self.window_max = self.window;
        self.threshold = (self.window * BETA).max(WINDOW_MIN);
        self.window = 1.0;
        self.epoch = None;
        self.hystart = HyStart::default();
    }
}
