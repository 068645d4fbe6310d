//! All viewers, driven by one thread.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use anyhow::Result;
use braidcast_io::{ReceiveBuffer, Selector};
use braidcast_lab::stop::Stop;
use braidcast_media::layout::{CHUNK_BYTES, PACKET_BYTES};

use crate::tally::Tally;
use crate::viewer::{Room, Viewer};

/// Greedy viewers that are received from before those with a rate get their turn again.
const GREEDY_PER_TURN: usize = 4;
/// After it this thread rests for this part of the time that it took, so that greedy viewers never have all of it: the
/// server is to be the one that makes the others wait.
const REST_PART: u32 = 5;
/// But no longer than this, which the others do not notice.
const REST_MAX: Duration = Duration::from_micros(500);
/// Ctrl-C is looked for so often, and what is sampled is sampled.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Viewers, and what it takes to drive them.
pub(crate) struct Crowd {
    viewers: Vec<Seat>,
    selector: Selector,
    /// When each viewer has something to do; entries that are not its newest are passed over.
    due: BinaryHeap<Reverse<(Instant, usize)>>,
    /// Viewers with a rate that have input.
    ready: Vec<usize>,
    /// Greedy ones, in the order in which it came.
    ready_greedy: VecDeque<usize>,
    room: Room,
}

/// A viewer, and what is known of it here.
struct Seat {
    viewer: Viewer,
    /// Its newest entry among those that are due.
    queued: Option<Instant>,
    /// It stands among the greedy ones that have input.
    is_ready: bool,
}

impl Crowd {
    /// These viewers. None of them does anything yet.
    pub(crate) fn new(viewers: Vec<Viewer>) -> Result<Self> {
        let mut selector = Selector::new()?;
        for (number, viewer) in viewers.iter().enumerate() {
            selector.add(number, viewer.socket().clone())?;
        }
        let seat = |viewer| Seat { viewer, queued: None, is_ready: false };
        let room = Room {
            buffer: ReceiveBuffer::new(),
            datagram: Vec::with_capacity(PACKET_BYTES),
            chunk: [0; CHUNK_BYTES],
            tally: Tally::default(),
        };
        let mut crowd = Self {
            viewers: viewers.into_iter().map(seat).collect(),
            selector,
            due: BinaryHeap::new(),
            ready: Vec::new(),
            ready_greedy: VecDeque::new(),
            room,
        };
        (0..crowd.viewers.len()).for_each(|number| crowd.queue(number));
        Ok(crowd)
    }

    /// Drives all viewers until `end`, and calls `look` ten times a second.
    pub(crate) fn run_until(&mut self, end: Instant, stop: &Stop, mut look: impl FnMut() -> Result<()>) -> Result<()> {
        let mut look_at = Instant::now();
        loop {
            let now = Instant::now();
            if now >= look_at {
                stop.check()?;
                look()?;
                look_at = now + LOOK_EVERY;
            }
            if now >= end {
                return Ok(());
            }
            self.do_what_is_due(now);
            self.wait(end.min(look_at))?;
            self.receive();
        }
    }

    /// What was counted.
    pub(crate) fn tally(&mut self) -> &mut Tally {
        &mut self.room.tally
    }

    /// The viewers.
    pub(crate) fn viewers(&self) -> impl Iterator<Item = &Viewer> {
        self.viewers.iter().map(|seat| &seat.viewer)
    }

    fn do_what_is_due(&mut self, now: Instant) {
        while let Some(&Reverse((at, number))) = self.due.peek()
            && at <= now
        {
            self.due.pop();
            let seat = &mut self.viewers[number];
            if seat.queued.take_if(|queued| *queued == at).is_some() {
                if seat.viewer.is_impatient(now) {
                    seat.viewer.receive(&mut self.room);
                }
                if seat.viewer.due().is_some_and(|due| due <= now) {
                    seat.viewer.advance(Instant::now(), &mut self.room);
                }
                self.queue(number);
            }
        }
    }

    /// Notes when a viewer has something to do next. A later time than the one noted is found when that comes: so the
    /// heap does not grow with every packet.
    fn queue(&mut self, number: usize) {
        let seat = &mut self.viewers[number];
        if let Some(due) = seat.viewer.due()
            && seat.queued.is_none_or(|queued| due < queued)
        {
            seat.queued = Some(due);
            self.due.push(Reverse((due, number)));
        }
    }

    /// Waits for input, until `end` or until something is due.
    fn wait(&mut self, end: Instant) -> Result<()> {
        let until = self.due.peek().map_or(end, |&Reverse((at, _))| at.min(end));
        let left = until.saturating_duration_since(Instant::now());
        let left = if self.ready_greedy.is_empty() { left } else { Duration::ZERO };
        let (viewers, ready, greedy) = (&mut self.viewers, &mut self.ready, &mut self.ready_greedy);
        self.selector.wait(Some(left), |number| {
            let seat = &mut viewers[number];
            if !seat.viewer.is_greedy() {
                ready.push(number);
            } else if !std::mem::replace(&mut seat.is_ready, true) {
                greedy.push_back(number);
            }
        })?;
        Ok(())
    }

    fn receive(&mut self) {
        while let Some(number) = self.ready.pop() {
            self.viewers[number].viewer.receive(&mut self.room);
            self.queue(number);
        }
        if self.ready_greedy.is_empty() {
            return;
        }
        let begun = Instant::now();
        for _ in 0..GREEDY_PER_TURN {
            let Some(number) = self.ready_greedy.pop_front() else { break };
            self.viewers[number].is_ready = false;
            self.viewers[number].viewer.receive(&mut self.room);
            self.queue(number);
        }
        std::thread::sleep((begun.elapsed() / REST_PART).min(REST_MAX));
    }
}
