//! Asking, sending and receiving.

use std::io;
use std::time::Instant;

use braidcast_media::chunk::DATA_KIND;
use braidcast_transport::puller::Arrival;

use super::drive::Drive;
use super::source::{Source, State};
use super::{EngineError, FailureKind, TICK};
use crate::planner::{SourceNo, SourceSet};
use crate::window::Filled;

/// Batches that are taken from one socket before the others get their turn.
const BATCHES_MAX: usize = 4;

impl Drive {
    pub(super) fn ask_and_send(&mut self, now: Instant) {
        for index in 0..self.sources.len() {
            self.ask(now, index);
            self.send(now, index);
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

    fn send(&mut self, now: Instant, index: usize) {
        loop {
            let source = &mut self.sources[index];
            if !source.puller.poll_transmit(now, &mut self.datagram) {
                return;
            }
            // A full send buffer loses the datagram like a full router would; the puller finds out.
            if let Err(error) = source.socket.send(&self.datagram)
                && error.kind() != io::ErrorKind::WouldBlock
            {
                self.on_socket_error(now, index, &error);
                return;
            }
        }
    }

    /// Waits for input, or until the next deadline, and takes it in.
    pub(super) fn receive(&mut self, now: Instant) -> Result<(), EngineError> {
        let deadlines = self.sources.iter().filter_map(|source| match source.state {
            State::Down { until } => Some(until),
            State::Banned => None,
            State::Greeting | State::Up => source.puller.poll_timeout(),
        });
        let wait = deadlines.min().map_or(TICK, |at| at.saturating_duration_since(now).min(TICK));
        let mut ready = SourceSet::default();
        self.selector.wait(Some(wait), |key| ready.insert(SourceNo(key as u8))).map_err(EngineError::System)?;
        let now = Instant::now();
        for index in 0..self.sources.len() {
            if ready.contains(self.sources[index].number) {
                self.receive_from(now, index);
            }
        }
        Ok(())
    }

    fn receive_from(&mut self, now: Instant, index: usize) {
        for _ in 0..BATCHES_MAX {
            let received = self.receive_batch(now, index);
            if let Err(error) = &received {
                self.on_socket_error(now, index, error);
            }
            self.take_events(now, index);
            self.ask(now, index);
            self.send(now, index);
            if received.is_err() || received.is_ok_and(|would_block| would_block) {
                return;
            }
        }
    }

    /// Takes one batch from a socket and says whether it was the last.
    fn receive_batch(&mut self, now: Instant, index: usize) -> io::Result<bool> {
        let Source { puller, socket, number, .. } = &mut self.sources[index];
        let (number, window) = (*number, &mut self.window);
        let (mut good, mut filled) = (false, Vec::<Filled>::new());
        let received = socket.recv(&mut self.buffer, |datagram| {
            if datagram.first() != Some(&DATA_KIND) {
                puller.handle_datagram(now, datagram);
                return;
            }
            let place = &mut *window;
            match puller.handle_data(now, datagram, move |stream, chunk| place.place(stream, chunk)) {
                Arrival::Accepted { stream, chunk, .. } => {
                    good = true;
                    filled.extend(window.arrived(stream, chunk, number));
                }
                Arrival::Rejected { stream, chunk } => window.note_rejected(stream, chunk, number),
                Arrival::Unwanted | Arrival::Malformed => {}
            }
        });
        if good {
            self.sources[index].on_good(now);
            self.progress_at = now;
        }
        for filled in filled {
            self.checking += 1;
            self.checker.submit(filled);
        }
        received.map(|received| received.would_block)
    }

    fn on_socket_error(&mut self, now: Instant, index: usize, error: &io::Error) {
        let number = self.sources[index].number;
        let (kind, reason) = match error.kind() {
            io::ErrorKind::ConnectionRefused => {
                (FailureKind::Refused, "the port is closed: the server is not running".to_owned())
            }
            _ => (FailureKind::Silent, format!("cannot be reached: {error}")),
        };
        self.fail_source(now, number, kind, reason);
    }
}
