//! One media server as a fetcher sees it: session, ticket, and whether it can be used at the moment.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use braidcast_media::Opener;
use braidcast_transport::congestion::{Background, Bbr, Congestion, FixedWindow};
use braidcast_transport::puller::{Puller, PullerConfig};

use super::{FetcherConfig, Traffic};
use crate::control::Host;
use crate::planner::{Path, SourceNo};

/// Whether a source can be asked.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    /// A HELLO is under way.
    Greeting,
    /// A session is open.
    Up,
    /// It failed and is left alone until then.
    Down {
        /// When it is greeted again.
        until: Instant,
    },
    /// It has forged chunks: never again.
    Banned,
}

impl State {
    /// Its name, for people and traces.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Greeting => "greeting",
            Self::Up => "up",
            Self::Down { .. } => "down",
            Self::Banned => "banned",
        }
    }
}

/// One media server.
pub(super) struct Source {
    pub(super) number: SourceNo,
    pub(super) server_id: String,
    pub(super) address: SocketAddr,
    pub(super) puller: Puller,
    pub(super) state: State,
    /// Failures since it was last of use; sets how long it is left alone.
    failures: u32,
    pub(super) ever_failed: bool,
    /// Why it failed last, for people.
    pub(super) reason: Option<String>,
    host: Host,
    ticket_from: Instant,
    /// The ticket in `host` is newer than the session.
    ticket_is_spare: bool,
    pub(super) last_good_at: Option<Instant>,
    rated_bytes: u64,
    pub(super) bytes_per_s: Option<f64>,
}

/// First pause of a source that failed; it doubles with each failure.
const PENALTY_MIN: Duration = Duration::from_millis(500);
/// Longest pause.
const PENALTY_MAX: Duration = Duration::from_secs(8);
/// Weight of the newest sample in the delivery rate.
const RATE_GAIN: f64 = 0.3;

impl Source {
    /// A host that a socket is connected to, greeted. `granted_receive_bytes`: what the kernel holds for that socket.
    pub(super) fn greeted(
        now: Instant,
        number: SourceNo,
        host: Host,
        granted_receive_bytes: usize,
        config: &FetcherConfig,
        seed: [u8; 32],
    ) -> Self {
        let [a, b, c, d, e, f, g, h, ..] = seed;
        let congestion: Box<dyn Congestion> = match config.traffic {
            Traffic::Normal => Box::new(Bbr::new(u64::from_le_bytes([a, b, c, d, e, f, g, h]))),
            Traffic::Background => Box::new(Background::new()),
            Traffic::Plain { window_bytes } => Box::new(FixedWindow { bytes: window_bytes }),
        };
        let opener = Opener::new(&config.content_key, config.asset);
        let mut puller = Puller::new(PullerConfig { seed, congestion }, opener, config.layout.clone());
        // Never more in flight than half of what the kernel holds for us: the other half is for what it adds to each.
        puller.set_in_flight_max(granted_receive_bytes as u64 / 2);
        puller.set_rate_max(config.rate_max);
        let mut source = Self {
            number,
            server_id: host.server_id.clone(),
            address: host.address,
            puller,
            state: State::Greeting,
            failures: 0,
            ever_failed: false,
            reason: None,
            host,
            ticket_from: now,
            ticket_is_spare: false,
            last_good_at: None,
            rated_bytes: 0,
            bytes_per_s: None,
        };
        source.greet(now);
        source
    }

    /// Greets with the newest ticket.
    pub(super) fn greet(&mut self, now: Instant) {
        self.ticket_is_spare = false;
        self.puller.greet(now, self.host.ticket.clone(), self.host.session_secret.clone());
        if self.state != State::Up {
            self.state = State::Greeting;
        }
    }

    /// The master has given another ticket.
    pub(super) fn take_ticket(&mut self, now: Instant, host: Host) {
        if self.renewal_is_due(now) || self.state != State::Up || self.puller.is_expired() {
            self.host = host;
            self.ticket_from = now;
            self.ticket_is_spare = true;
        }
    }

    /// Whether the session's ticket is past half of its life. Sources differ by a few percent, so that not all
    /// clients and servers renew at once.
    pub(super) fn renewal_is_due(&self, now: Instant) -> bool {
        let jitter = 1.0 - f64::from(self.number.0 % 8) / 80.0;
        let half = self.host.ticket_lifetime.mul_f64(0.5 * jitter);
        now.duration_since(self.ticket_from) >= half
    }

    /// Whether a newer ticket than the session's is at hand.
    pub(super) fn has_spare_ticket(&self) -> bool {
        self.ticket_is_spare
    }

    /// A session is open.
    pub(super) fn on_opened(&mut self) {
        self.state = State::Up;
    }

    /// A chunk has come: the source is of use.
    pub(super) fn on_good(&mut self, now: Instant) {
        self.failures = 0;
        self.last_good_at = Some(now);
    }

    /// The source failed. It is left alone for a while that grows with each failure.
    pub(super) fn on_failed(&mut self, now: Instant, reason: String) {
        self.failures += 1;
        self.ever_failed = true;
        self.reason = Some(reason);
        let penalty = (PENALTY_MIN * 2_u32.pow(self.failures.min(6) - 1)).min(PENALTY_MAX);
        self.state = State::Down { until: now + penalty };
        self.puller.abandon(now);
    }

    /// Whether it was of use until it failed; the master has heard of all failures since.
    pub(super) fn is_first_failure(&self) -> bool {
        self.failures == 1
    }

    /// The source lies.
    pub(super) fn ban(&mut self, now: Instant, reason: String) {
        self.ever_failed = true;
        self.reason = Some(reason);
        self.state = State::Banned;
        self.puller.abandon(now);
    }

    /// The way to it, as the planner takes it.
    pub(super) fn path(&self, now: Instant) -> Path {
        let congestion = self.puller.congestion();
        Path {
            bytes_s: congestion.bandwidth().or(self.bytes_per_s).unwrap_or(0.0),
            // The least: one that was measured while its answer waited for a processor would keep the source from being asked,
            // and so from being measured again. What waits in its queue counts as in flight.
            rtt: congestion.min_rtt().or(self.puller.rtt()).unwrap_or_default(),
            in_flight_bytes: self.puller.in_flight_bytes(),
            is_late: self.is_late(now) || self.puller.is_refused(now),
        }
    }

    /// Measures the delivery rate over the last `elapsed`; a source that had nothing to do is not measured.
    pub(super) fn measure(&mut self, elapsed: Duration) {
        let bytes = self.puller.counters().accepted_bytes;
        let delivered = bytes - self.rated_bytes;
        self.rated_bytes = bytes;
        if delivered == 0 && self.puller.in_flight_chunks() == 0 {
            return;
        }
        let sample = delivered as f64 / elapsed.as_secs_f64().max(1e-3);
        self.bytes_per_s = Some(self.bytes_per_s.map_or(sample, |rate| rate + RATE_GAIN * (sample - rate)));
    }
}
