//! What a server's control packets mean for the PULLs that wait for their answers.

use std::time::{Duration, Instant};

use super::connection::Greeted;
use super::outstanding::{Fate, Phase};
use super::{Event, Failure, Loss, Puller};
use crate::congestion::Answer;
use crate::packet::{self, End, Status};

impl Puller {
    pub(super) fn handle_end(&mut self, now: Instant, datagram: &[u8]) {
        let Some((tag, end)) = self.open_end(datagram) else {
            self.counters.dropped += 1;
            return;
        };
        self.heard(now);
        if let Some(index) = self.position(tag, end.sequence) {
            self.settle(now, tag, index, &end);
        }
        // Comes second: the answer's round trip says how patient to be.
        self.close_older(now, tag, &end);
    }

    fn settle(&mut self, now: Instant, tag: u32, index: usize, end: &End) {
        match end.status {
            Status::Ok | Status::NotHeld => self.on_answered(now, index, end),
            Status::Busy | Status::OverLimit => {
                if end.status == Status::Busy {
                    self.busy_until = Some(now + Duration::from_millis(end.retry_after_ms.max(1).into()));
                }
                self.give_up(now, index, Loss::Refused);
            }
            Status::Expired => {
                self.give_up(now, index, Loss::Refused);
                self.on_expired(tag);
            }
            Status::UnknownAsset => self.fail(now, Failure::UnknownAsset),
            Status::Malformed => self.fail(now, Failure::Misbehaves),
        }
    }

    fn open_end(&mut self, datagram: &[u8]) -> Option<(u32, End)> {
        let (tag, counter) = End::clear(datagram)?;
        let open = self.connection.by_tag(tag)?;
        let end = End::open(datagram, counter, &open.session.keys.server)?;
        //= PROTOCOL E4: A client MUST drop an END whose counter it has seen, and take from one whose sequence it does not wait for no more than its proof and its bitmap.
        let newest = counter > open.ends.highest();
        if !open.ends.accept(counter) {
            return None;
        }
        if newest {
            open.proof = end.proof;
        }
        Some((tag, end))
    }

    fn on_answered(&mut self, now: Instant, index: usize, end: &End) {
        let pull = &mut self.pulls[index];
        let before = pull.missing_chunks();
        let not_held = match end.status {
            Status::NotHeld => pull.strike(&pull.missing_runs()),
            _ => pull.strike(&end.not_held),
        };
        self.in_flight_chunks -= before - pull.missing_chunks();
        if !not_held.is_empty() {
            self.events.push_back(Event::Lost { stream: pull.stream, runs: not_held, why: Loss::NotHeld });
        }
        self.measure(now, index, end);
        let pull = &mut self.pulls[index];
        if pull.is_complete() {
            self.remove(index);
        } else {
            //= PROTOCOL E2: A client MUST charge a source with loss or damage only on the word of an END of that source or on a time-out of its own.
            pull.phase = Phase::Closing(now + self.rtt.reordering(), Loss::Data);
        }
    }

    /// Tells congestion control what an answer shows.
    fn measure(&mut self, now: Instant, index: usize, end: &End) {
        let pull = &self.pulls[index];
        let answered = pull.first_data_at.unwrap_or(now);
        let held = Duration::from_micros(end.held_us.into());
        let rtt = answered.duration_since(pull.stamp.sent_at).checked_sub(held).filter(|_| !pull.is_repeated);
        if let Some(rtt) = rtt {
            self.rtt.sample(rtt);
        }
        let stamp = pull.stamp;
        let sample = self.delivery.sample(&stamp);
        self.congestion.on_answered(&Answer {
            now,
            rtt,
            sample_bytes: sample.bytes,
            interval: sample.interval,
            delivered_bytes: self.delivery.bytes(),
            delivered_bytes_before: stamp.bytes,
            in_flight_bytes: self.in_flight_bytes(),
            quantum_bytes: self.quantum_bytes(),
            is_limited: stamp.is_limited || end.server_limited,
        });
    }

    /// Nothing is asked for under an expired session; it is told of once, and only if no other is on its way.
    fn on_expired(&mut self, tag: u32) {
        let greeting = self.connection.is_greeting();
        let Some(open) = self.connection.current.as_mut().filter(|open| open.tag() == tag) else { return };
        let known = std::mem::replace(&mut open.expired, true);
        if !known && !greeting {
            self.events.push_back(Event::TicketExpired);
        }
    }

    /// Draws conclusions for older PULLs from what a later END says of them.
    fn close_older(&mut self, now: Instant, tag: u32, end: &End) {
        let (reordering, timeout) = (self.rtt.reordering(), self.rtt.timeout(0));
        let newest = self.connection.current.as_ref().is_some_and(|open| open.tag() == tag);
        let mut index = 0;
        while index < self.pulls.len() {
            let pull = &mut self.pulls[index];
            match pull.fate(tag, newest, end) {
                Fate::Passed | Fate::Answered if pull.is_complete() => {
                    self.remove(index);
                    continue;
                }
                Fate::Answered => pull.phase = Phase::Closing(now + reordering, Loss::Data),
                Fate::Passed => pull.phase = Phase::Closing(now + timeout, Loss::Timeout),
                //= PROTOCOL E3: A client MUST treat an unseen sequence below `highest`, within the bitmap, as a lost PULL and pull its chunks again.
                Fate::Unseen => pull.phase = Phase::Closing(now + reordering, Loss::Pull),
                Fate::Unknown => {}
            }
            index += 1;
        }
    }

    pub(super) fn handle_reset(&mut self, now: Instant, datagram: &[u8]) {
        let Some((handle, sequence)) = packet::handle_and_sequence(datagram) else { return };
        let current = self.connection.current.as_ref().filter(|open| open.session.handle == handle);
        if current.is_none_or(|open| self.position(open.tag(), sequence).is_none()) {
            self.counters.dropped += 1;
            return;
        }
        self.connection.handle_reset(now);
    }

    pub(super) fn on_greeted(&mut self, now: Instant, greeted: Greeted) {
        match greeted {
            Greeted::Opened { lost, rtt } => {
                self.heard(now);
                if let Some(rtt) = rtt {
                    self.rtt.sample(rtt);
                    self.congestion.on_rtt(now, rtt);
                }
                if lost {
                    self.abandon(now);
                }
                self.events.push_back(Event::Opened);
            }
            Greeted::OtherVersions(versions) => self.fail(now, Failure::OtherVersions(versions)),
            Greeted::GrantsNothing => self.fail(now, Failure::Misbehaves),
            Greeted::Nothing => self.counters.dropped += 1,
        }
    }
}
