//! A queue so short that it is full before the round trip has risen. Only losses tell of a rival there, and TCP, which gives
//! way to each of them, is left next to nothing by who takes them for the path's own.
//!
//! So loss while no more is asked for than the path delivers is taken for a rival's at first, if TCP could not live with it,
//! and less is pulled, as beside any rival ([`super::rival`]). Where that makes losses rarer, it was one. Where they go on
//! as before, they are the path's own: the model comes back with the rate it had, and does not listen for a while.
//!
//! All sources of a client listen, and meet the rival together ([`crate::congestion::Congestion::hears_rival`]): what one
//! of them gives up the others would take. A client with one source does not: what that one loses may as well be lost on
//! its path, and real processes on a link of their own lose enough in so short a queue to be taken in.

use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;

use super::phase::Phase;
use super::{Bbr, Round};
use crate::congestion::Answer;

/// Rounds over which losses are added up.
const ROUNDS_HEARD: f64 = 8.0;
/// Packets lost in them below which nothing follows from it, and the share of the packets.
const LOSSES_MIN: f64 = 2.0;
const SHARE_MIN: f64 = 0.003;
/// What TCP must be kept to by the loss, in parts of what this client has in flight, for a rival to be looked for.
const TCP_PART: f64 = 1.0 / 8.0;
/// Rounds after probing in which its losses become known.
const ROUNDS_AFTER_PROBING: u64 = 3;
/// How long a loss that was heard counts: sources that share a path lose at different times.
const HEARD_FOR: Duration = Duration::from_secs(3);
/// Part of the time in which the first window would be regained before which a cut is one too soon: less was pulled, and
/// no less is lost.
const HASTY: f64 = 0.2;
/// On long thin paths: round trips from one cut to the next that are too few in any case.
const HASTY_ROUND_TRIPS: u32 = 4;
/// By how many cuts that came too soon must outnumber those that did not.
const DOUBTS_MAX: i32 = 4;
/// How many cuts that came in time are remembered in favour of the rival.
const TRUST_MAX: i32 = 8;
/// Random loss (see [`crate::congestion::loss`]) that shows in each of many spans, which a rival's does not.
const OWN_SHARE: f64 = 0.004;
/// How long nothing is listened for after losses were found to be the path's own; twice as long each further time.
const DEAF_FOR: Duration = Duration::from_secs(20);
/// Without a loss for so many times of recovery there is no rival any more.
const RECOVERIES: f64 = 3.0;

/// What losses tell of rivals.
#[derive(Debug, Default)]
pub(super) struct Shallow {
    /// Packets asked for and lost in the last rounds, the older the less they count.
    packets: f64,
    lost: f64,
    heard_at: Option<Instant>,
    met: Option<Met>,
    /// The path's losses were found to be its own: nothing is listened for until then.
    deaf_until: Option<Instant>,
    deaf_for: Duration,
}

/// A rival that was met by losses alone.
#[derive(Debug)]
struct Met {
    /// The model's rate before it gave way.
    rate: f64,
    /// A cut sooner than this after another is one too soon.
    hasty: Duration,
    /// Cuts that came too soon less those that did not.
    doubts: i32,
}

impl Shallow {
    /// Whether the rival that is there was met by losses alone.
    pub(super) fn is_met(&self) -> bool {
        self.met.is_some()
    }

    /// The rival is gone, or the round trip tells of it as well: what was heard is of the past.
    pub(super) fn forget(&mut self) {
        *self = Self { deaf_until: self.deaf_until, deaf_for: self.deaf_for, ..Self::default() };
    }

    /// Whether a rival was heard not long ago, or is there.
    pub(super) fn hears(&self, now: Instant) -> bool {
        self.is_met() || self.heard_at.is_some_and(|at| now.saturating_duration_since(at) < HEARD_FOR)
    }

    /// `client_packets`: what all sources have in flight.
    fn is_too_much_for_tcp(&self, client_packets: f64) -> bool {
        // Mathis and others, "The macroscopic behavior of the TCP congestion avoidance algorithm", 1997: the window is the
        // square root of 3/2 over the share of loss.
        let share = 1.5 / (client_packets * TCP_PART).powi(2);
        self.lost >= LOSSES_MIN && self.lost > share.max(SHARE_MIN) * self.packets
    }
}

impl Bbr {
    /// A round is over, which lost more than the path by itself explains, or did not.
    pub(super) fn listen_for_rivals(&mut self, answer: &Answer, round: Round, is_unexplained: bool) {
        let may_tell = matches!(self.phase, Phase::Down | Phase::Cruise)
            && self.rounds_in_phase() >= ROUNDS_AFTER_PROBING
            && !self.startup.explains_losses_of(self.rounds.count)
            && !self.rivals.are_heedless(answer.now);
        let shallow = &mut self.rivals.shallow;
        if !may_tell || shallow.deaf_until.is_some_and(|until| answer.now < until) {
            return;
        }
        let kept = 1.0 - 1.0 / ROUNDS_HEARD;
        shallow.packets = shallow.packets * kept + round.tally.packets();
        shallow.lost = shallow.lost * kept + round.tally.lost_packets();
        let client_packets = answer.in_flight_bytes as f64 / PACKET_BYTES as f64 / self.share;
        let has_own = self.random_loss.share() > OWN_SHARE / 2.0;
        if is_unexplained && !has_own && shallow.is_too_much_for_tcp(client_packets) {
            shallow.heard_at = Some(answer.now);
        }
    }

    /// All sources have heard it.
    pub(super) fn meet_unseen_rival(&mut self, now: Instant) {
        if self.rivals.window().is_some() || self.phase == Phase::ProbeRtt || !self.startup.is_over {
            return;
        }
        let rate = self.rate.get();
        self.begin_rivalry(now, self.in_flight_bytes);
        let Some(rival) = self.rivals.window() else { return };
        // Cuts are two round trips apart at least.
        let regained = Duration::from_secs_f64(HASTY * rival.regained_s(self.srtt, self.share));
        let hasty = regained.max(HASTY_ROUND_TRIPS * self.srtt);
        self.rivals.shallow.met = Some(Met { rate, hasty, doubts: 0 });
    }

    /// The window was cut so long after the last time.
    pub(super) fn doubt_unseen_rival(&mut self, now: Instant, since_cut: Duration) {
        let shallow = &mut self.rivals.shallow;
        let Some(met) = &mut shallow.met else { return };
        met.doubts = if since_cut < met.hasty { met.doubts + 1 } else { (met.doubts - 1).max(-TRUST_MAX) };
        if met.doubts == -TRUST_MAX {
            shallow.deaf_for = Duration::ZERO;
        }
        if met.doubts >= DOUBTS_MAX {
            self.go_deaf(now);
        }
    }

    /// Whether there is loss in each span, which a rival's is not.
    pub(super) fn compare_with_random_loss(&mut self, now: Instant) {
        if self.rivals.shallow.is_met() && self.random_loss.share() > OWN_SHARE {
            self.go_deaf(now);
        }
    }

    /// The path's losses are its own.
    fn go_deaf(&mut self, now: Instant) {
        let shallow = &mut self.rivals.shallow;
        let Some(met) = shallow.met.take() else { return };
        let deaf_for = (shallow.deaf_for * 2).max(DEAF_FOR);
        *shallow = Shallow { deaf_until: Some(now + deaf_for), deaf_for, ..Shallow::default() };
        self.rivals.reset();
        self.rate.update(met.rate);
        self.enter(now, Phase::Cruise);
    }

    /// Whether a rival that was met by losses alone has not been heard for so long that it is gone.
    pub(super) fn is_unheard_of(&self, now: Instant) -> bool {
        let is_quiet = |rival: &super::rival::Rival| rival.is_uncut_for(now, RECOVERIES, self.share);
        self.rivals.shallow.is_met() && self.rivals.window().is_some_and(is_quiet)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::congestion::Congestion;

    fn beside_an_unseen_rival(now: Instant) -> Bbr {
        let mut bbr = Bbr::new(1);
        bbr.startup.is_over = true;
        bbr.srtt = Duration::from_millis(40);
        bbr.in_flight_bytes = 1_000_000;
        bbr.meet_rival(now);
        assert_eq!(bbr.phase(), "rival");
        bbr
    }

    /// Mechanism: who hears a rival is told to meet it at each tick, and met it anew in the midst of a probe, which so never
    /// ended and was begun again and again, each time with half of the window and no doubts.
    #[test]
    fn a_probe_of_the_round_trip_is_left_alone_by_those_who_have_met_the_rival_already() {
        let now = Instant::now();
        let mut bbr = beside_an_unseen_rival(now);
        let window = bbr.rivals.window().map(|rival| rival.bytes());
        bbr.probe_rtt(now);
        assert!(bbr.hears_rival(now));
        bbr.meet_rival(now);
        assert_eq!(bbr.phase(), "probe-rtt");
        assert_eq!(bbr.rivals.window().map(|rival| rival.bytes()), window);
    }

    #[test]
    fn losses_that_come_as_soon_as_before_are_the_paths_own_and_nothing_is_heard_for_longer_each_time() {
        let mut now = Instant::now();
        let mut bbr = beside_an_unseen_rival(now);
        for deaf_for in [DEAF_FOR, 2 * DEAF_FOR] {
            for _ in 0..DOUBTS_MAX {
                assert_eq!(bbr.phase(), "rival");
                now += 3 * bbr.srtt;
                bbr.give_way(now);
            }
            assert_eq!(bbr.phase(), "cruise");
            assert_eq!(bbr.rivals.shallow.deaf_until, Some(now + deaf_for));
            now += deaf_for;
            bbr.meet_rival(now);
        }
    }
}
