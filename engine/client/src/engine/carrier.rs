//! Which way the datagrams of one source go: over UDP, or as the same packets over TCP where UDP is blocked
//! (PROTOCOL.md, section 2.8). It opens nothing, sends nothing and reads no clock.
//!
//! Each greeting is a race. UDP runs from the start; TCP joins when the HELLO was unanswered for [`TCP_AFTER`], when UDP
//! is refused, or at once if TCP won the last time. The way of the WELCOME carries all else until the next greeting.

use std::time::{Duration, Instant};

use braidcast_transport::limits::HELLO_RETRY;
use braidcast_transport::packet::Kind;

/// How long a HELLO goes unanswered before TCP is tried, too.
const TCP_AFTER: Duration = HELLO_RETRY;

/// How packets reach a server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Way {
    Udp,
    Tcp,
}

/// Where a datagram goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Ways {
    pub(super) udp: bool,
    pub(super) tcp: bool,
    /// A TCP connection of before is not to be trusted: the source has failed since.
    pub(super) afresh: bool,
}

/// The ways of one source.
#[derive(Debug)]
pub(super) struct Carrier {
    /// What carries the session in use.
    way: Option<Way>,
    /// TCP takes part in the next race from its start.
    tcp_at_once: bool,
    race: Option<Race>,
}

/// A HELLO that is not answered yet.
#[derive(Debug)]
struct Race {
    hello: Vec<u8>,
    tcp_at: Instant,
    udp_is_out: bool,
    tcp: Entrant,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Entrant {
    Waits,
    Runs,
    Out,
}

impl Carrier {
    /// For a source that was not greeted yet. `tcp_at_once`: TCP is what won here before.
    pub(super) fn new(tcp_at_once: bool) -> Self {
        Self { way: None, tcp_at_once, race: None }
    }

    /// Where `datagram` goes. `is_up`: the source has a session in use.
    pub(super) fn handle_transmit(&mut self, now: Instant, datagram: &[u8], is_up: bool) -> Ways {
        if Kind::of(datagram) != Some(Kind::Hello) {
            //= PROTOCOL T8: A client MUST send the PULLs of a session on the way on which its WELCOME came.
            let tcp = self.way == Some(Way::Tcp);
            return Ways { udp: !tcp, tcp, afresh: false };
        }
        if !is_up {
            self.way = None;
        }
        let is_new = self.race.as_ref().is_none_or(|race| race.hello != datagram);
        if is_new {
            let tcp_at = if self.tcp_at_once { now } else { now + TCP_AFTER };
            self.race = Some(Race { hello: datagram.to_vec(), tcp_at, udp_is_out: false, tcp: Entrant::Waits });
        }
        self.let_tcp_join(now);
        let tcp = self.race.as_ref().is_some_and(|race| race.tcp == Entrant::Runs);
        // UDP gets its HELLOs even when it was refused: the server may be starting.
        Ways { udp: true, tcp, afresh: is_new && !is_up }
    }

    /// When to call [`Carrier::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.race.as_ref().filter(|race| race.tcp == Entrant::Waits).map(|race| race.tcp_at)
    }

    /// Lets time pass. What comes back is the HELLO, to be sent over TCP now. `is_greeting`: an answer is still awaited.
    pub(super) fn handle_timeout(&mut self, now: Instant, is_greeting: bool) -> Option<&[u8]> {
        if !is_greeting {
            self.race = None;
        }
        let joins = self.let_tcp_join(now);
        self.race.as_ref().filter(|_| joins).map(|race| &race.hello[..])
    }

    /// A WELCOME has opened that came on `way`. Says whether a TCP connection is of no use any more.
    pub(super) fn on_opened(&mut self, way: Way) -> bool {
        self.race = None;
        let before = self.way.replace(way);
        self.tcp_at_once = way == Way::Tcp;
        // Answers of the session before may still be under way on the connection that has carried it.
        way == Way::Udp && before != Some(Way::Tcp)
    }

    /// `way` has failed. Says whether the source has failed by that. `is_idle`: nothing is expected from it.
    pub(super) fn on_error(&mut self, now: Instant, way: Way, is_idle: bool) -> bool {
        let carries = self.way == Some(way);
        if carries && !(way == Way::Tcp && is_idle) {
            self.way = None;
            self.race = None;
            return true;
        }
        // A server closes a TCP connection that is idle: the next datagram opens another.
        let Some(race) = &mut self.race else { return false };
        match way {
            Way::Udp => {
                race.udp_is_out = true;
                race.tcp_at = race.tcp_at.min(now);
            }
            Way::Tcp => race.tcp = Entrant::Out,
        }
        let is_over = race.udp_is_out && race.tcp == Entrant::Out;
        if is_over {
            self.race = None;
        }
        is_over
    }

    fn let_tcp_join(&mut self, now: Instant) -> bool {
        let race = self.race.as_mut().filter(|race| race.tcp == Entrant::Waits && race.tcp_at <= now);
        race.map(|race| race.tcp = Entrant::Runs).is_some()
    }
}

#[cfg(test)]
mod tests {
    use braidcast_transport::limits::{HELLO_BYTES, PULL_BYTES};

    use super::*;

    const BOTH: Ways = Ways { udp: true, tcp: true, afresh: false };
    const UDP: Ways = Ways { udp: true, tcp: false, afresh: false };
    const TCP: Ways = Ways { udp: false, tcp: true, afresh: false };
    const JUST_BEFORE: Duration = Duration::from_millis(299);

    fn afresh(ways: Ways) -> Ways {
        Ways { afresh: true, ..ways }
    }

    fn hello(number: u8) -> Vec<u8> {
        let mut hello = vec![number; HELLO_BYTES];
        hello[0] = 0x11;
        hello
    }

    fn pull() -> Vec<u8> {
        let mut pull = vec![0; PULL_BYTES];
        pull[0] = 0x13;
        pull
    }

    /// A carrier whose first greeting was answered on `way`, and when.
    fn up_on(way: Way) -> (Carrier, Instant) {
        let start = Instant::now();
        let mut carrier = Carrier::new(way == Way::Tcp);
        carrier.handle_transmit(start, &hello(1), false);
        carrier.on_opened(way);
        (carrier, start + Duration::from_millis(10))
    }

    #[test]
    fn tcp_joins_when_a_hello_was_unanswered_for_300_ms() {
        let (start, mut carrier) = (Instant::now(), Carrier::new(false));
        assert_eq!(carrier.handle_transmit(start, &hello(1), false), afresh(UDP));
        assert_eq!(carrier.poll_timeout(), Some(start + TCP_AFTER));
        assert_eq!(carrier.handle_timeout(start + JUST_BEFORE, true), None);
        assert_eq!(carrier.handle_timeout(start + TCP_AFTER, true), Some(&hello(1)[..]));
        assert_eq!(carrier.handle_timeout(start + TCP_AFTER, true), None, "it joins once");
        assert_eq!(carrier.poll_timeout(), None);
        assert_eq!(carrier.handle_transmit(start + TCP_AFTER, &hello(1), false), BOTH, "both go on");
    }

    #[test]
    fn a_repeated_hello_does_not_start_the_clock_anew_and_another_one_does() {
        let (start, mut carrier) = (Instant::now(), Carrier::new(false));
        carrier.handle_transmit(start, &hello(1), false);
        assert_eq!(carrier.handle_transmit(start + JUST_BEFORE, &hello(1), false), UDP);
        assert_eq!(carrier.handle_transmit(start + TCP_AFTER, &hello(1), false), BOTH);
        assert_eq!(carrier.handle_transmit(start + TCP_AFTER, &hello(2), false), afresh(UDP));
        assert_eq!(carrier.poll_timeout(), Some(start + 2 * TCP_AFTER));
    }

    #[test]
    fn where_tcp_has_won_before_both_start_at_once() {
        let mut carrier = Carrier::new(true);
        assert_eq!(carrier.handle_transmit(Instant::now(), &hello(1), false), afresh(BOTH));
        assert_eq!(carrier.poll_timeout(), None);
    }

    //= PROTOCOL T8: A client MUST send the PULLs of a session on the way on which its WELCOME came.
    #[test]
    fn the_way_of_the_welcome_carries_the_pulls() {
        for (way, expected) in [(Way::Udp, UDP), (Way::Tcp, TCP)] {
            let (start, mut carrier) = (Instant::now(), Carrier::new(false));
            carrier.handle_transmit(start, &hello(1), false);
            carrier.handle_timeout(start + TCP_AFTER, true);
            assert_eq!(carrier.on_opened(way), way == Way::Udp, "the connection that has lost is closed");
            assert_eq!(carrier.handle_transmit(start + TCP_AFTER, &pull(), true), expected, "{way:?}");
            assert_eq!(carrier.poll_timeout(), None);
        }
    }

    #[test]
    fn a_renewal_leaves_the_pulls_where_they_are_until_it_is_answered() {
        let (mut carrier, now) = up_on(Way::Udp);
        assert_eq!(carrier.handle_transmit(now, &hello(2), true), UDP);
        carrier.handle_timeout(now + TCP_AFTER, true);
        assert_eq!(carrier.handle_transmit(now + TCP_AFTER, &pull(), true), UDP);
        assert!(!carrier.on_opened(Way::Tcp));
        assert_eq!(carrier.handle_transmit(now + TCP_AFTER, &pull(), true), TCP);

        assert_eq!(carrier.handle_transmit(now + TCP_AFTER, &hello(3), true), BOTH, "UDP may work again");
        assert!(!carrier.on_opened(Way::Udp), "answers may be under way on the connection");
        assert_eq!(carrier.handle_transmit(now + TCP_AFTER, &pull(), true), UDP);
    }

    #[test]
    fn a_refused_udp_port_brings_tcp_in_at_once_and_only_both_refusals_are_a_failure() {
        let (start, mut carrier) = (Instant::now(), Carrier::new(false));
        carrier.handle_transmit(start, &hello(1), false);
        let now = start + Duration::from_millis(1);
        assert!(!carrier.on_error(now, Way::Udp, true));
        assert_eq!(carrier.handle_timeout(now, true), Some(&hello(1)[..]));
        assert!(carrier.on_error(now, Way::Tcp, true));
        assert_eq!(carrier.handle_transmit(now, &hello(2), false), afresh(UDP), "and the next greeting is a new race");
    }

    #[test]
    fn a_failed_tcp_connection_leaves_the_race_to_udp() {
        let (start, mut carrier) = (Instant::now(), Carrier::new(true));
        carrier.handle_transmit(start, &hello(1), false);
        assert!(!carrier.on_error(start, Way::Tcp, true));
        assert_eq!(carrier.handle_transmit(start + TCP_AFTER, &hello(1), false), UDP);
        assert!(carrier.on_error(start + TCP_AFTER, Way::Udp, true));
    }

    #[test]
    fn the_carriers_failure_is_the_sources_and_another_ways_is_not() {
        for (way, other) in [(Way::Udp, Way::Tcp), (Way::Tcp, Way::Udp)] {
            let (mut carrier, now) = up_on(way);
            assert!(!carrier.on_error(now, other, false), "{other:?}");
            assert!(carrier.on_error(now, way, false), "{way:?}");
        }
        let (mut carrier, now) = up_on(Way::Tcp);
        carrier.handle_transmit(now, &hello(2), true);
        assert!(carrier.on_error(now, Way::Tcp, false), "in the middle of a renewal, too");
    }

    #[test]
    fn an_idle_tcp_connection_may_end_and_the_next_pull_opens_another() {
        let (mut carrier, now) = up_on(Way::Tcp);
        assert!(!carrier.on_error(now, Way::Tcp, true));
        assert_eq!(carrier.handle_transmit(now, &pull(), true), TCP);
    }

    #[test]
    fn nobody_joins_a_race_that_was_given_up() {
        let (start, mut carrier) = (Instant::now(), Carrier::new(false));
        carrier.handle_transmit(start, &hello(1), false);
        assert_eq!(carrier.handle_timeout(start + TCP_AFTER, false), None);
        assert_eq!(carrier.poll_timeout(), None);
    }
}
