//! Loss that comes with the path tells nothing of how full it is; loss beyond that does.

use std::collections::VecDeque;

use braidcast_media::layout::PACKET_BYTES;

/// What was delivered and lost in one round or several.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Tally {
    pub(super) delivered_bytes: u64,
    pub(super) lost_bytes: u64,
}

impl Tally {
    pub(super) fn packets(self) -> f64 {
        (self.delivered_bytes + self.lost_bytes) as f64 / PACKET_BYTES as f64
    }

    pub(super) fn lost_packets(self) -> f64 {
        self.lost_bytes as f64 / PACKET_BYTES as f64
    }

    /// The part that was lost.
    pub(super) fn share(self) -> f64 {
        let all = self.delivered_bytes + self.lost_bytes;
        if all == 0 { 0.0 } else { self.lost_bytes as f64 / all as f64 }
    }
}

/// How much of what is asked for gets lost whatever the rate: the least share of the last [`SPANS`] spans. Congestion
/// comes and goes with the probing of all who share the path, so some span is free of it; random loss is in each.
#[derive(Debug, Default)]
pub(super) struct RandomLoss {
    span: Tally,
    spans: VecDeque<f64>,
}

/// Spans that are remembered.
const SPANS: usize = 10;
/// Packets that make a span: fewer would show by chance what is not there. Bursty loss needs more than a burst.
const SPAN_PACKETS: f64 = 400.0;
/// Standard deviations by which the least of ten samples lies below the mean, on average.
const BELOW_MEAN: f64 = 1.54;
/// Random loss above this is not made up for: who loses a fifth of all packets backs off, whatever the reason.
const RANDOM_MAX: f64 = 0.2;
/// Share above the random one that is borne before it counts as congestion. The BBR draft (section 2.2: BBRLossThresh)
/// bears 2% of whatever loss; a full queue that is shared with TCP CUBIC drops less than that and starves it. Here loss
/// counts only together with a risen round trip, so little of it may.
const BORNE: f64 = 0.005;
/// Standard deviations of a round's share that are put down to chance.
const CHANCE: f64 = 3.0;

impl RandomLoss {
    /// A round is over.
    pub(super) fn on_round(&mut self, round: Tally) {
        self.span.delivered_bytes += round.delivered_bytes;
        self.span.lost_bytes += round.lost_bytes;
        if self.span.packets() < SPAN_PACKETS {
            return;
        }
        if self.spans.len() == SPANS {
            self.spans.pop_front();
        }
        self.spans.push_back(std::mem::take(&mut self.span).share());
    }

    /// The share that is lost whatever the rate, at most a fifth.
    pub(super) fn share(&self) -> f64 {
        if self.spans.len() < SPANS / 2 {
            return 0.0;
        }
        let least = self.spans.iter().copied().fold(1.0, f64::min);
        (least + BELOW_MEAN * (least * (1.0 - least) / SPAN_PACKETS).sqrt()).min(RANDOM_MAX)
    }

    /// Whether a round lost more than chance and the path's own loss explain.
    pub(super) fn is_exceeded_by(&self, round: Tally) -> bool {
        self.is_exceeded_by_more_than(BORNE, round)
    }

    /// Whether a round lost anything that the path's own loss does not explain: what TCP calls a loss event.
    pub(super) fn does_not_explain(&self, round: Tally) -> bool {
        let random = self.share();
        round.lost_bytes > 0 && round.share() > random + CHANCE * (random / round.packets().max(1.0)).sqrt()
    }

    /// As [`RandomLoss::is_exceeded_by`], with `borne` in place of what is borne otherwise.
    pub(super) fn is_exceeded_by_more_than(&self, borne: f64, round: Tally) -> bool {
        let random = self.share();
        let deviation = (random.max(borne) / round.packets().max(1.0)).sqrt();
        round.lost_bytes >= LOSSES_MIN * PACKET_BYTES as u64 && round.share() > random + borne + CHANCE * deviation
    }
}

/// Packets lost in a round below which nothing follows from it.
const LOSSES_MIN: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    fn round(packets: u64, lost: u64) -> Tally {
        let bytes = PACKET_BYTES as u64;
        Tally { delivered_bytes: (packets - lost) * bytes, lost_bytes: lost * bytes }
    }

    #[test]
    fn loss_that_is_in_every_round_is_the_paths_own() {
        let mut random = RandomLoss::default();
        for _ in 0..SPANS {
            random.on_round(round(500, 50));
        }
        assert!((0.1..0.125).contains(&random.share()));
        assert!(!random.is_exceeded_by(round(500, 55)));
        assert!(random.is_exceeded_by(round(500, 150)));
    }

    #[test]
    fn loss_that_comes_and_goes_is_not() {
        let mut random = RandomLoss::default();
        for n in 0..3 * SPANS as u64 {
            random.on_round(round(500, if n % 4 == 0 { 0 } else { 50 }));
        }
        assert_eq!(random.share(), 0.0);
        assert!(random.is_exceeded_by(round(500, 50)));
        assert!(!random.is_exceeded_by(round(500, 4)));
    }

    #[test]
    fn more_than_a_fifth_is_not_made_up_for() {
        let mut random = RandomLoss::default();
        for _ in 0..SPANS {
            random.on_round(round(500, 200));
        }
        assert_eq!(random.share(), RANDOM_MAX);
        assert!(random.is_exceeded_by(round(500, 200)), "persistent loss above a fifth counts as congestion");
    }
}
