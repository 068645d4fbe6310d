//! Rounds of asking: extents are started while there are buffers, and each source is asked while it may have more in
//! flight.

use std::time::Instant;

use super::Fetcher;
use super::source::State;
use crate::window::Job;

/// Pieces for each source that a fetcher which shares its lists has planned and not asked for yet, at most: extents, but
/// for those of which something was lost. As many as the master names one server for. Where each lane took what its window
/// could hold, those that wrote in order waited for each other: 2 GB took 0.54 s and take 0.46 (packets alone verified,
/// medians of nine, in turns, by hand; 8 and 32 extents did as well as 16).
const SHARED_AHEAD: usize = 16;

impl Fetcher {
    /// Learns what the pullers have to tell, starts extents, and gives the first source its turn. Says whose it is.
    pub(super) fn begin_round(&mut self, now: Instant) -> usize {
        for index in 0..self.sources.len() {
            self.take_events(now, index);
        }
        self.start_extents();
        self.is_starved = false;
        // Another fetcher may have taken what seemed to be left for this one.
        self.tell_if_fetched(now);
        self.plan_deferred();
        for source in &self.sources {
            self.planner.set_path(source.number, source.path(now));
        }
        self.aggregate.begin_round(&self.sources);
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
        if self.has_no_part_yet() {
            return;
        }
        while self.window.has_room(self.out()) && !self.leaves_the_rest() {
            if let Some((job, suspect)) = self.again.pop() {
                if !self.window.contains(job.key) {
                    self.start_pinned(job, suspect);
                }
                continue;
            }
            let Some(job) = self.held_up.take().or_else(|| self.next_job()) else { return };
            let holders = if self.window.contains(job.key) { None } else { self.holders(job.key) };
            let Some(holders) = holders else {
                self.held_up = Some(job);
                return;
            };
            let barred = self.banned();
            let piece = self.window.start(job, holders, barred, None, None);
            self.plan_started(piece);
        }
    }

    /// Whether others are to fetch while this fetcher has no source.
    pub(super) fn has_no_part_yet(&self) -> bool {
        let is_without_source = self.sources.iter().all(|source| source.state != State::Up);
        let has_none = self.window.is_empty() && self.held_up.is_none() && self.again.is_empty();
        self.config.joins && is_without_source && has_none
    }

    /// Whether what comes next is left to others that fetch from the same lists. Not while a source may not take what there
    /// is: only a longer queue shows that it is to help those who are the first choice.
    fn leaves_the_rest(&self) -> bool {
        let up = self.sources.iter().filter(|source| source.state == State::Up).count();
        self.shares && !self.is_starved && self.planner.len() >= SHARED_AHEAD * up.max(1)
    }

    fn next_job(&mut self) -> Option<Job> {
        loop {
            let job = self.jobs.front()?.take(self.generation);
            if job.is_some() {
                return job;
            }
            self.jobs.pop_front();
        }
    }

    /// Gives a source pieces while it may have more in flight.
    fn ask(&mut self, now: Instant, index: usize) {
        while self.sources[index].state == State::Up {
            let source = &mut self.sources[index];
            let room = self.aggregate.room_chunks();
            let capacity = source.puller.capacity_chunks(now).min(source.puller.pull_limits().0.into()).min(room);
            if capacity == 0 {
                return;
            }
            let number = source.number;
            let planned = self.planner.next_pull(number, capacity);
            let next = planned.or_else(|| self.take_late(now, number, capacity));
            let source = &mut self.sources[index];
            let Some((stream, runs)) = next else {
                source.puller.on_idle();
                self.is_starved |= !self.planner.is_empty();
                return;
            };
            self.aggregate.on_pull(runs.iter().map(|run| u32::from(run.count)).sum());
            source.puller.pull(now, stream, runs);
            self.planner.set_path(source.number, source.path(now));
        }
    }
}
