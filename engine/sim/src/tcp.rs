//! A bulk transfer over TCP beside the traffic that is judged: a sender that always has data, and its receiver.
//!
//! It models what decides how TCP shares a link: congestion control (`cubic`, `bbr`), pacing where the control asks
//! for it, loss detection by later arrivals, and time-outs. One acknowledgement answers every segment; there is no
//! handshake, no delayed acknowledgement and no limit but the congestion window.

mod bbr;
mod cubic;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use crate::cross::{FlowNo, Segment, SegmentKind};

/// Payload of a full segment: 1,500 bytes less IP header, TCP header and timestamps.
pub const SEGMENT_PAYLOAD_BYTES: usize = 1_448;

/// Which congestion control a sender uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Algorithm {
    /// RFC 9438, with the delay-based exit from slow start that Linux has.
    Cubic,
    /// Version 1, as in Linux.
    Bbr,
}

/// What an acknowledgement tells a congestion control. Windows and rates count full segments.
#[derive(Clone, Copy, Debug)]
struct Sample {
    acked: u64,
    rtt: Duration,
    /// Segments per second.
    rate: f64,
    /// Segments delivered in the whole transfer, now and when the acknowledged one was sent.
    delivered: u64,
    delivered_before: u64,
    in_flight: u64,
    lost: bool,
}

/// Decides how much a sender may have in flight, and how fast it sends.
trait Control {
    fn window(&self) -> u64;
    /// Segments per second; nothing: as the window allows.
    fn pacing_rate(&self) -> Option<f64>;
    fn on_ack(&mut self, now: Duration, sample: &Sample);
    /// At most once per round trip.
    fn on_congestion(&mut self, now: Duration);
    fn on_timeout(&mut self);
}

/// Segments that may be in flight at first (RFC 6928).
const WINDOW_INITIAL: f64 = 10.0;
/// A segment is lost when one that was sent so many transmissions later has arrived.
const REORDERING: u64 = 3;
const TIMEOUT_MIN: Duration = Duration::from_millis(200);
const TIMEOUT_INITIAL: Duration = Duration::from_secs(1);
const BACKOFF_MAX: u32 = 6;

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    InFlight,
    Lost,
    Delivered,
}

#[derive(Clone, Copy)]
struct Sent {
    state: State,
    serial: u64,
    sent_at: Duration,
    delivered_before: u64,
    delivered_at_before: Duration,
    /// When the segment was sent that was the newest to be delivered at that time.
    newest_sent_at_before: Duration,
}

/// The sending side.
pub struct Sender {
    flow: FlowNo,
    control: Box<dyn Control>,
    /// From `first` on.
    sent: VecDeque<Sent>,
    first: u64,
    /// Transmissions whose fate is open, oldest first: serial and segment.
    open: VecDeque<(u64, u64)>,
    lost: VecDeque<u64>,
    next_serial: u64,
    newest_delivered: u64,
    /// Losses of earlier transmissions belong to a reduction that has been made.
    recovery_from: u64,
    in_flight: u64,
    delivered: u64,
    delivered_at: Duration,
    newest_sent_at: Duration,
    smoothed: Option<Duration>,
    variation: Duration,
    backoff: u32,
    heard_at: Duration,
    free_at: Duration,
}

impl Sender {
    /// A transfer that begins at `now`. `draw`: any number, by which flows of one world differ.
    pub fn new(now: Duration, flow: FlowNo, algorithm: Algorithm, draw: u64) -> Self {
        let control: Box<dyn Control> = match algorithm {
            Algorithm::Cubic => Box::new(cubic::Cubic::new()),
            Algorithm::Bbr => Box::new(bbr::Bbr::new(now, draw)),
        };
        Self {
            flow,
            control,
            sent: VecDeque::new(),
            first: 0,
            open: VecDeque::new(),
            lost: VecDeque::new(),
            next_serial: 1,
            newest_delivered: 0,
            recovery_from: 0,
            in_flight: 0,
            delivered: 0,
            delivered_at: now,
            newest_sent_at: now,
            smoothed: None,
            variation: Duration::ZERO,
            backoff: 0,
            heard_at: now,
            free_at: now,
        }
    }

    /// The next segment to send now.
    pub fn poll_transmit(&mut self, now: Duration) -> Option<Segment> {
        if self.in_flight >= self.control.window() || self.free_at > now {
            return None;
        }
        if let Some(rate) = self.control.pacing_rate() {
            self.free_at = self.free_at.max(now) + Duration::from_secs_f64(1.0 / rate);
        }
        let number = self.lost.pop_front().unwrap_or(self.first + self.sent.len() as u64);
        let serial = self.next_serial;
        self.next_serial += 1;
        if self.in_flight == 0 {
            self.heard_at = now;
            self.delivered_at = now;
            self.newest_sent_at = now;
        }
        let sent = Sent {
            state: State::InFlight,
            serial,
            sent_at: now,
            delivered_before: self.delivered,
            delivered_at_before: self.delivered_at,
            newest_sent_at_before: self.newest_sent_at,
        };
        match self.sent.get_mut((number - self.first) as usize) {
            Some(place) => *place = sent,
            None => self.sent.push_back(sent),
        }
        self.open.push_back((serial, number));
        self.in_flight += 1;
        Some(Segment { flow: self.flow, kind: SegmentKind::Data { number, serial } })
    }

    /// An acknowledgement has come.
    pub fn handle_ack(&mut self, now: Duration, number: u64, serial: u64, next: u64) {
        self.heard_at = now;
        self.backoff = 0;
        let brought = number.checked_sub(self.first).and_then(|place| self.sent.get(place as usize)).copied();
        let timed = brought.filter(|sent| sent.serial == serial && sent.state != State::Delivered);
        let before = self.delivered;
        for number in self.first..next.max(self.first) {
            self.deliver(number);
        }
        self.deliver(number);
        while self.sent.front().is_some_and(|sent| sent.state == State::Delivered) {
            self.sent.pop_front();
            self.first += 1;
        }
        let acked = self.delivered - before;
        if acked > 0 {
            self.delivered_at = now;
        }
        self.newest_delivered = self.newest_delivered.max(serial);
        let lost = self.find_losses(now);
        let Some(sent) = timed else { return };
        let rtt = now - sent.sent_at;
        self.measure(rtt);
        // BBR's delivery rate: over the longer of the time in which these were sent and that in which they arrived.
        let span = (sent.sent_at - sent.newest_sent_at_before).max(now - sent.delivered_at_before);
        self.newest_sent_at = self.newest_sent_at.max(sent.sent_at);
        let sample = Sample {
            acked,
            rtt,
            rate: (self.delivered - sent.delivered_before) as f64 / span.as_secs_f64().max(1e-6),
            delivered: self.delivered,
            delivered_before: sent.delivered_before,
            in_flight: self.in_flight,
            lost,
        };
        self.control.on_ack(now, &sample);
    }

    /// When [`Sender::handle_timeout`] is due, or the next segment may be sent.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let paced = (self.in_flight < self.control.window()).then_some(self.free_at);
        let silent = (self.in_flight > 0).then(|| self.silence_deadline());
        [paced, silent].into_iter().flatten().min()
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        if self.in_flight == 0 || self.silence_deadline() > now {
            return;
        }
        self.heard_at = now;
        self.backoff = (self.backoff + 1).min(BACKOFF_MAX);
        while let Some((serial, number)) = self.open.pop_front() {
            self.lose(serial, number);
        }
        self.recovery_from = self.next_serial;
        self.control.on_timeout();
    }

    fn silence_deadline(&self) -> Duration {
        let base = self.smoothed.map_or(TIMEOUT_INITIAL, |rtt| (rtt + self.variation * 4).max(TIMEOUT_MIN));
        self.heard_at + base * 2_u32.pow(self.backoff)
    }

    fn deliver(&mut self, number: u64) {
        let place = number.checked_sub(self.first).and_then(|place| self.sent.get_mut(place as usize));
        let Some(sent) = place.filter(|sent| sent.state != State::Delivered) else { return };
        if sent.state == State::InFlight {
            self.in_flight -= 1;
        } else {
            self.lost.retain(|lost| *lost != number);
        }
        sent.state = State::Delivered;
        self.delivered += 1;
    }

    fn find_losses(&mut self, now: Duration) -> bool {
        let mut any = false;
        while let Some((serial, number)) =
            self.open.pop_front_if(|(serial, _)| *serial + REORDERING <= self.newest_delivered)
        {
            if self.lose(serial, number) {
                any = true;
                if serial >= self.recovery_from {
                    self.recovery_from = self.next_serial;
                    self.control.on_congestion(now);
                }
            }
        }
        any
    }

    fn lose(&mut self, serial: u64, number: u64) -> bool {
        let place = number.checked_sub(self.first).and_then(|place| self.sent.get_mut(place as usize));
        let Some(sent) = place.filter(|sent| sent.serial == serial && sent.state == State::InFlight) else {
            return false;
        };
        sent.state = State::Lost;
        self.in_flight -= 1;
        self.lost.push_back(number);
        true
    }

    fn measure(&mut self, rtt: Duration) {
        let Some(smoothed) = self.smoothed else {
            (self.smoothed, self.variation) = (Some(rtt), rtt / 2);
            return;
        };
        self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
        self.smoothed = Some((smoothed * 7 + rtt) / 8);
    }
}

/// The receiving side.
#[derive(Default)]
pub struct Receiver {
    next: u64,
    beyond: BTreeSet<u64>,
}

impl Receiver {
    /// Takes a segment and gives its acknowledgement.
    pub fn handle_data(&mut self, flow: FlowNo, number: u64, serial: u64) -> Segment {
        if number >= self.next {
            self.beyond.insert(number);
        }
        while self.beyond.remove(&self.next) {
            self.next += 1;
        }
        Segment { flow, kind: SegmentKind::Ack { number, serial, next: self.next } }
    }

    /// Payload that has come, without gaps.
    pub fn bytes(&self) -> u64 {
        self.next * SEGMENT_PAYLOAD_BYTES as u64
    }
}

#[cfg(test)]
mod tests;
