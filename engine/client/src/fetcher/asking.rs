//! Rounds of asking: extents are started while there are buffers, and each source is asked while it may have more in
//! flight.

use std::time::Instant;

use braidcast_media::Run;

use super::Fetcher;
use super::source::State;

impl Fetcher {
    /// Learns what the pullers have to tell, starts extents, and gives the first source its turn. Says whose it is.
    pub(super) fn begin_round(&mut self, now: Instant) -> usize {
        for index in 0..self.sources.len() {
            self.take_events(now, index);
        }
        self.start_extents();
        self.begin_turn(now, 0);
        0
    }

    /// Asks the source whose turn it is.
    pub(super) fn begin_turn(&mut self, now: Instant, turn: usize) {
        self.turn = Some(turn);
        if turn < self.sources.len() {
            self.ask(now, turn);
        }
    }

    fn start_extents(&mut self) {
        while self.window.has_room(self.out()) {
            if let Some((job, suspect)) = self.again.pop() {
                if !self.window.contains(job.key) {
                    self.start_pinned(job, suspect);
                }
                continue;
            }
            let Some(jobs) = self.jobs.front() else { return };
            let Some(job) = jobs.peek(self.generation) else {
                self.jobs.pop_front();
                continue;
            };
            if self.window.contains(job.key) {
                return;
            }
            let Some(preferred) = self.preferred(job.key) else { return };
            let barred = self.banned();
            self.window.start(job, barred, None, None);
            let run = Run { first: job.key.extent.first_chunk(), count: job.chunks as u16 };
            self.planner.add_run(job.key.stream, run, &preferred, barred);
            if let Some(jobs) = self.jobs.front_mut() {
                jobs.advance();
            }
        }
    }

    /// Gives a source pieces while it may have more in flight.
    fn ask(&mut self, now: Instant, index: usize) {
        let source = &mut self.sources[index];
        while source.state == State::Up {
            let capacity = source.puller.capacity_chunks(now).min(source.puller.pull_limits().0.into());
            let next = (capacity > 0).then(|| self.planner.next_pull(source.number, capacity)).flatten();
            let Some((stream, runs)) = next else { return };
            source.puller.pull(now, stream, runs);
        }
    }
}
