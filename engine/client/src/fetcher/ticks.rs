//! What is done every so often: rates are measured and shared out, and tickets are looked at.

use std::time::{Duration, Instant};

use super::source::{Source, State};
use super::{Fetcher, Notice, aggregate};

/// How often rates are measured and tickets looked at.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// Part of a bound on the rate that is shared out evenly, whatever sources deliver.
const RATE_SPARE: f64 = 0.25;
/// At most one wish for tickets in this time.
const TICKET_WISH_PAUSE: Duration = Duration::from_secs(1);

impl Fetcher {
    pub(super) fn tick(&mut self, now: Instant) {
        let elapsed = now.duration_since(self.ticked_at);
        self.ticked_at = now;
        let mut want_tickets = false;
        for source in &mut self.sources {
            source.measure(elapsed);
            if source.state == State::Up && source.renewal_is_due(now) {
                want_tickets = true;
            }
            if source.state == State::Up && source.has_spare_ticket() {
                source.greet(now);
            }
        }
        self.aggregate.tick(now, &self.sources);
        aggregate::act_together(now, &mut self.sources);
        self.share_rate();
        self.trace_tick(now);
        let paused = self.tickets_wanted_at.is_some_and(|at| now.duration_since(at) < TICKET_WISH_PAUSE);
        if want_tickets && !paused {
            self.want_tickets(now);
        }
    }

    /// Divides the rate that all sources may take together among them, by what they deliver.
    fn share_rate(&mut self) {
        let Some(rate_max) = self.config.rate_max else { return };
        let delivering = |source: &Source| source.bytes_per_s.unwrap_or(0.0);
        let total: f64 = self.sources.iter().map(delivering).sum();
        let count = self.sources.len() as f64;
        for source in &mut self.sources {
            let part = if total > 0.0 { delivering(source) / total } else { 1.0 / count };
            // Each keeps a little more than it takes, so that one that gets faster can show it.
            let share = (part + RATE_SPARE / count) / (1.0 + RATE_SPARE);
            source.puller.set_rate_max(Some(rate_max * share));
        }
    }

    pub(super) fn want_tickets(&mut self, now: Instant) {
        self.tickets_wanted_at = Some(now);
        self.notices.push_back(Notice::WantTickets);
    }
}
