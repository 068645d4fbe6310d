//! One viewer: a session with the server by a socket of its own, and what it wants from it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use arrayvec::ArrayVec;
use braidcast_client::control::Host;
use braidcast_io::{ClientSocket, ReceiveBuffer};
use braidcast_media::layout::{CHUNK_BYTES, PACKET_BYTES};
use braidcast_media::{ChunkNo, Opener, Run, StreamId};
use braidcast_transport::congestion::FixedWindow;
use braidcast_transport::packet::Kind;
use braidcast_transport::puller::{Arrival, Event, Puller, PullerConfig};

use crate::asked::Asked;
use crate::playback::{Playback, Wanted};
use crate::tally::Tally;
use crate::tickets::Film;

/// PULLs that a viewer has under way at most. The puller asks for no less than a quarter of its window.
const PULLS_UNDER_WAY: u64 = 4;
/// Of a greedy viewer's chunks, one in so many is opened.
const GREEDY_OPENS: u64 = 100;
/// Batches that are taken from a viewer's socket before the others get their turn. One holds all that it has asked for.
const BATCHES_MAX: usize = 2;

/// What a viewer wants.
#[derive(Clone, Debug)]
pub(crate) enum Wish {
    /// A film at its rate.
    Film(Playback),
    /// As much as there is.
    Greedy,
}

/// How a viewer comes about.
#[derive(Debug)]
pub(crate) struct ViewerConfig {
    /// What it wants.
    pub(crate) wish: Wish,
    /// When it greets the server.
    pub(crate) joins_at: Instant,
    /// The first chunk of the file that it wants; it goes round when the file is through.
    pub(crate) start: u32,
    /// Chunks that it asks for at a time.
    pub(crate) chunks_per_pull: u16,
}

/// A viewer. Its chunks are numbered from 0, in the order in which it wants them.
pub(crate) struct Viewer {
    config: ViewerConfig,
    socket: Arc<ClientSocket>,
    puller: Puller,
    /// How to greet the server; gone when that was done.
    host: Option<Host>,
    film_chunks: u32,
    /// The first chunk that was never asked for.
    next: u64,
    asked: Asked,
    /// Lost: first chunk and count.
    again: VecDeque<(u64, u16)>,
    /// When the next chunks enter the window, if that is to be waited for.
    wanted_at: Option<Instant>,
    has_failed: bool,
}

/// What all viewers of a thread share.
pub(crate) struct Room {
    /// Datagrams that came.
    pub(crate) buffer: ReceiveBuffer,
    /// A datagram to send.
    pub(crate) datagram: Vec<u8>,
    /// Where chunks are opened into; nobody reads them.
    pub(crate) chunk: [u8; CHUNK_BYTES],
    /// What is counted.
    pub(crate) tally: Tally,
}

impl Viewer {
    /// A viewer with an open socket that has not greeted yet.
    pub(crate) fn new(config: ViewerConfig, film: &Film, host: Host) -> Result<Self> {
        let socket = ClientSocket::connect(host.address)?;
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).ok().context("the system gives no random numbers")?;
        let pulls = u64::from(config.chunks_per_pull) * PULLS_UNDER_WAY;
        let congestion = Box::new(FixedWindow { bytes: pulls * PACKET_BYTES as u64 });
        let opener = Opener::new(&film.content_key, film.asset);
        let mut puller = Puller::new(PullerConfig { seed, congestion }, opener, film.layout.clone());
        puller.set_in_flight_max(socket.granted_receive_bytes() as u64 / 2);
        Ok(Self {
            config,
            socket: Arc::new(socket),
            puller,
            host: Some(host),
            film_chunks: film.chunks,
            next: 0,
            asked: Asked::default(),
            again: VecDeque::new(),
            wanted_at: None,
            has_failed: false,
        })
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> &Arc<ClientSocket> {
        &self.socket
    }

    /// Whether it takes what it can get.
    pub(crate) fn is_greedy(&self) -> bool {
        matches!(self.config.wish, Wish::Greedy)
    }

    /// Whether it plays, or is greedy and has a session.
    pub(crate) fn is_served(&self) -> bool {
        !self.has_failed
            && match &self.config.wish {
                Wish::Film(playback) => playback.is_started(),
                Wish::Greedy => self.puller.is_open(),
            }
    }

    /// Chunks that are late because they have not come.
    pub(crate) fn overdue(&self, now: Instant) -> u64 {
        let Wish::Film(playback) = &self.config.wish else { return 0 };
        let played = playback.played(now);
        self.asked.missing_before(played) + played.saturating_sub(self.next)
    }

    /// Chunks that were asked for and did not come of that.
    pub(crate) fn lost_chunks(&self) -> u64 {
        self.puller.counters().lost_chunks
    }

    /// When to call [`Viewer::advance`], whether something comes or not.
    pub(crate) fn due(&self) -> Option<Instant> {
        if self.has_failed {
            return None;
        }
        if self.host.is_some() {
            return Some(self.config.joins_at);
        }
        [self.puller.poll_timeout(), self.wanted_at].into_iter().flatten().min()
    }

    /// Whether it is about to give something up. What has come meanwhile should be taken in first: it may be this tool
    /// that was late.
    pub(crate) fn is_impatient(&self, now: Instant) -> bool {
        !self.has_failed && self.puller.poll_timeout().is_some_and(|at| at <= now)
    }

    /// Takes in what has come; what it leaves is told of again.
    pub(crate) fn receive(&mut self, room: &mut Room) {
        for _ in 0..BATCHES_MAX {
            let now = Instant::now();
            let Room { buffer, chunk, tally, .. } = room;
            let socket = Arc::clone(&self.socket);
            match socket.recv(buffer, |datagram| self.handle_datagram(now, datagram, chunk, tally)) {
                Ok(received) => {
                    self.advance(now, room);
                    if received.would_block {
                        return;
                    }
                }
                Err(error) => return self.on_socket_error(&error, room),
            }
        }
    }

    fn handle_datagram(&mut self, now: Instant, datagram: &[u8], place: &mut [u8; CHUNK_BYTES], tally: &mut Tally) {
        if Kind::of(datagram) != Some(Kind::Data) {
            return self.puller.handle_datagram(now, datagram);
        }
        let (is_greedy, numbers) = (self.is_greedy(), self.numbers());
        let (puller, asked) = (&mut self.puller, &self.asked);
        let mut wanted = None;
        let arrival = puller.handle_data(now, datagram, |_, chunk| {
            wanted = Some(numbers.of(chunk)).filter(|number| asked.is_missing(*number));
            wanted.filter(|number| !is_greedy || number.is_multiple_of(GREEDY_OPENS)).map(|_| place)
        });
        match (arrival, wanted) {
            (Arrival::Accepted { .. }, Some(number)) => {
                tally.run.verified += 1;
                self.on_arrived(now, number, tally);
            }
            (Arrival::Unwanted, Some(number)) => {
                tally.run.unopened += 1;
                self.on_arrived(now, number, tally);
            }
            (Arrival::Rejected { .. } | Arrival::Malformed, _) => tally.run.rejected += 1,
            (Arrival::Accepted { .. } | Arrival::Unwanted, None) => tally.run.unwanted += 1,
        }
    }

    fn on_arrived(&mut self, now: Instant, number: u64, tally: &mut Tally) {
        let reply = self.asked.on_arrived(now, number);
        let (times, bytes) = match &self.config.wish {
            Wish::Film(_) => (&mut tally.replies, &mut tally.bytes),
            Wish::Greedy => (&mut tally.replies_greedy, &mut tally.bytes_greedy),
        };
        // All chunks of the file are full.
        *bytes += CHUNK_BYTES as u64;
        if let Some(reply) = reply {
            times.record(reply);
        }
        let Wish::Film(playback) = &mut self.config.wish else { return };
        let was_started = playback.is_started();
        if let Some(late) = playback.on_arrived(now, number) {
            tally.run.on_late(late);
        }
        if playback.is_started() && !was_started {
            tally.run.starts.record(now.saturating_duration_since(self.config.joins_at));
        }
    }

    /// Does what is due: greets, asks for chunks, gives up what will not come.
    pub(crate) fn advance(&mut self, now: Instant, room: &mut Room) {
        if self.has_failed {
            return;
        }
        if self.config.joins_at <= now
            && let Some(host) = self.host.take()
        {
            self.config.joins_at = now;
            self.puller.greet(now, host.ticket, host.session_secret);
        }
        if let Some(at) = self.wanted_at.take_if(|at| *at <= now) {
            room.tally.timers.record(now - at);
        }
        if self.puller.poll_timeout().is_some_and(|at| at <= now) {
            self.puller.handle_timeout(now);
        }
        self.take_events(room);
        self.ask(now);
        while self.puller.poll_transmit(now, &mut room.datagram) {
            if let Err(error) = self.socket.send(&room.datagram) {
                self.on_socket_error(&error, room);
            }
        }
    }

    fn take_events(&mut self, room: &mut Room) {
        while let Some(event) = self.puller.poll_event() {
            match event {
                Event::Opened => {}
                Event::Lost { runs, .. } => {
                    let numbers = self.numbers();
                    self.again.extend(runs.iter().map(|run| (numbers.of(run.first), run.count)));
                }
                Event::TicketExpired => {
                    self.fail(room, "its ticket has expired, which is good for ten minutes: take fewer --seconds");
                }
                Event::Failed(failure) => self.fail(room, &format!("{failure:?}")),
            }
        }
    }

    fn ask(&mut self, now: Instant) {
        while !self.has_failed {
            let capacity = self.puller.capacity_chunks(now) as u16;
            if capacity == 0 {
                return;
            }
            if let Some((first, count)) = self.again.pop_front() {
                let take = count.min(capacity);
                if take < count {
                    self.again.push_front((first + u64::from(take), count - take));
                }
                // Some of it may have come meanwhile.
                if (first..first + u64::from(take)).any(|number| self.asked.is_missing(number)) {
                    self.pull(now, first, take);
                }
                continue;
            }
            let wanted = self.wanted();
            match &self.config.wish {
                Wish::Greedy if capacity < wanted => return,
                Wish::Greedy => {}
                Wish::Film(playback) => match playback.wanted_at(self.next + u64::from(wanted) - 1) {
                    Wanted::AtOnce => {}
                    Wanted::At(at) if at <= now => {}
                    Wanted::At(at) => {
                        self.wanted_at = Some(at);
                        return;
                    }
                    Wanted::OncePlaying => return,
                },
            }
            let take = wanted.min(capacity);
            self.asked.push(now, self.next, take);
            self.pull(now, self.next, take);
            self.next += u64::from(take);
        }
    }

    /// Chunks that the next PULL should ask for: they stand in one piece of the file.
    fn wanted(&self) -> u16 {
        let left = self.film_chunks - self.chunk(self.next).0;
        left.min(self.config.chunks_per_pull.into()) as u16
    }

    fn pull(&mut self, now: Instant, first: u64, count: u16) {
        let run = Run { first: self.chunk(first), count };
        self.puller.pull(now, StreamId::ORIGINAL, ArrayVec::from_iter([run]));
    }

    /// Which chunk of the file has this number.
    fn chunk(&self, number: u64) -> ChunkNo {
        ChunkNo(((u64::from(self.config.start) + number) % u64::from(self.film_chunks)) as u32)
    }

    /// How chunks of the file are numbered at present.
    fn numbers(&self) -> Numbers {
        let oldest = self.asked.first().unwrap_or(self.next);
        Numbers { oldest, chunk: self.chunk(oldest), film_chunks: self.film_chunks }
    }

    fn on_socket_error(&mut self, error: &io::Error, room: &mut Room) {
        // A full send buffer loses the datagram like a full router would, and the puller finds out.
        if error.kind() != io::ErrorKind::WouldBlock {
            self.fail(room, &format!("the server is gone: {error}"));
        }
    }

    fn fail(&mut self, room: &mut Room, why: &str) {
        if !std::mem::replace(&mut self.has_failed, true) {
            let here = self.socket.local_addr();
            room.tally.run.on_failed(|| match here {
                Ok(here) => format!("{here}: {why}"),
                Err(_) => why.to_owned(),
            });
        }
    }
}

/// Numbers chunks of the file, of which a viewer that goes round wants each again and again.
#[derive(Clone, Copy, Debug)]
struct Numbers {
    /// The oldest number in use, and its chunk.
    oldest: u64,
    chunk: ChunkNo,
    film_chunks: u32,
}

impl Numbers {
    fn of(self, chunk: ChunkNo) -> u64 {
        let (chunk, first) = (u64::from(chunk.0), u64::from(self.chunk.0));
        self.oldest + if chunk >= first { chunk - first } else { chunk + u64::from(self.film_chunks) - first }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_their_numbers_when_a_viewer_goes_round() {
        let numbers = Numbers { oldest: 1_990, chunk: ChunkNo(990), film_chunks: 1_000 };
        assert_eq!(numbers.of(ChunkNo(990)), 1_990);
        assert_eq!(numbers.of(ChunkNo(999)), 1_999);
        assert_eq!(numbers.of(ChunkNo(0)), 2_000);
        assert_eq!(numbers.of(ChunkNo(989)), 2_989);
    }
}
