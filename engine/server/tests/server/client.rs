//! A client of one server, with the protocol's own state machine and a socket whose every datagram is seen.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use braidcast_media::layout::CHUNK_BYTES;
use braidcast_media::ticket::SessionSecret;
use braidcast_media::{ChunkNo, Run, StreamId};
use braidcast_transport::congestion::FixedWindow;
use braidcast_transport::packet::Kind;
use braidcast_transport::puller::{Arrival, Event, Puller, PullerConfig};

use crate::asset::Film;

/// How long an answer that must come may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long silence must last to count as no answer. A server on loopback answers in well under a millisecond. Where no
/// answer is the right one, a machine that is slower can only hide a fault.
const SILENCE: Duration = Duration::from_millis(700);

pub(crate) struct Client {
    pub(crate) socket: UdpSocket,
    puller: Puller,
    server: SocketAddr,
    /// Do not let the state machine see any END, so that no PULL returns a proof.
    pub(crate) deaf_to_ends: bool,
}

/// What came for one PULL.
#[derive(Default)]
pub(crate) struct Answer {
    /// Chunks that opened, with their plain bytes.
    pub(crate) chunks: Vec<(ChunkNo, [u8; CHUNK_BYTES])>,
    /// Other DATA.
    pub(crate) rejected: usize,
    pub(crate) ends: usize,
    pub(crate) resets: usize,
    pub(crate) events: Vec<Event>,
}

impl Client {
    /// A client with a session; panics if the server does not answer.
    pub(crate) fn greet(server: SocketAddr, film: &Film, ticket: (Vec<u8>, SessionSecret)) -> Self {
        let mut client = Self::new(server, film);
        assert!(client.say_hello_for(PATIENCE, ticket), "the server answers HELLO");
        client
    }

    pub(crate) fn new(server: SocketAddr, film: &Film) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("free port");
        socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a time-out");
        let mut seed = [0; 32];
        aws_lc_rs::rand::fill(&mut seed).expect("random bytes");
        let congestion = Box::new(FixedWindow { bytes: 1 << 20 });
        let puller = Puller::new(PullerConfig { seed, congestion }, film.opener(), film.layout().clone());
        Self { socket, puller, server, deaf_to_ends: false }
    }

    /// Greets, repeating HELLO as the protocol says; says whether a session came of it within the time in which a server
    /// would have answered.
    pub(crate) fn say_hello(&mut self, ticket: (Vec<u8>, SessionSecret)) -> bool {
        self.say_hello_for(SILENCE, ticket)
    }

    fn say_hello_for(&mut self, patience: Duration, (ticket, secret): (Vec<u8>, SessionSecret)) -> bool {
        assert!(self.puller.greet(Instant::now(), ticket, secret), "a ticket of lawful length");
        let until = Instant::now() + patience;
        while !self.puller.is_open() && Instant::now() < until {
            self.transmit();
            if let Some(datagram) = self.receive() {
                assert_ne!(Kind::of(&datagram), Some(Kind::Data), "no DATA for a HELLO");
                self.puller.handle_datagram(Instant::now(), &datagram);
            }
        }
        self.puller.is_open()
    }

    /// Sends one PULL for `runs` of stream 0 and gives back its datagram.
    pub(crate) fn send_pull(&mut self, runs: &[Run]) -> Vec<u8> {
        self.send_pull_of(StreamId::ORIGINAL, runs)
    }

    pub(crate) fn send_pull_of(&mut self, stream: StreamId, runs: &[Run]) -> Vec<u8> {
        self.puller.pull(Instant::now(), stream, runs.iter().copied().collect());
        self.transmit().expect("the PULL is ready")
    }

    /// Pulls and waits for END.
    pub(crate) fn pull(&mut self, runs: &[Run]) -> Answer {
        self.send_pull(runs);
        let answer = self.collect(1, PATIENCE);
        assert_eq!(answer.ends, 1, "the server answers a PULL");
        answer
    }

    /// What comes until `ends` ENDs have, or nothing has come for `patience`: an answer is never taken for half of one.
    pub(crate) fn collect(&mut self, ends: usize, patience: Duration) -> Answer {
        let mut answer = Answer::default();
        let mut until = Instant::now() + patience;
        while answer.ends < ends {
            match self.receive() {
                Some(datagram) => {
                    self.sort(&datagram, &mut answer);
                    until = Instant::now() + patience;
                }
                None if Instant::now() >= until => break,
                None => {}
            }
        }
        while let Some(event) = self.puller.poll_event() {
            answer.events.push(event);
        }
        answer
    }

    /// What comes within the time in which a server would have answered.
    pub(crate) fn listen(&mut self) -> Answer {
        self.collect(usize::MAX, SILENCE)
    }

    /// The next datagram, which must come.
    pub(crate) fn wait(&self) -> Vec<u8> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(datagram) = self.receive() {
                return datagram;
            }
            assert!(Instant::now() < until, "the server answers");
        }
    }

    /// The next datagram, if one is there soon.
    pub(crate) fn receive(&self) -> Option<Vec<u8>> {
        let mut room = [0; 2_048];
        let (bytes, from) = self.socket.recv_from(&mut room).ok()?;
        assert_eq!(from, self.server, "answers come from the address that was asked");
        Some(room[..bytes].to_vec())
    }

    fn sort(&mut self, datagram: &[u8], answer: &mut Answer) {
        let now = Instant::now();
        match Kind::of(datagram) {
            Some(Kind::Data) => {
                let mut room = [0; CHUNK_BYTES];
                match self.puller.handle_data(now, datagram, |_, _| Some(&mut room)) {
                    Arrival::Accepted { chunk, .. } => answer.chunks.push((chunk, room)),
                    _ => answer.rejected += 1,
                }
            }
            Some(Kind::End) => {
                answer.ends += 1;
                if !self.deaf_to_ends {
                    self.puller.handle_datagram(now, datagram);
                }
            }
            Some(Kind::Reset) => answer.resets += 1,
            other => panic!("a server sends no {other:?} here"),
        }
    }

    /// Sends what the state machine has to send; gives back the last datagram.
    fn transmit(&mut self) -> Option<Vec<u8>> {
        let (mut packet, mut last) = (Vec::new(), None);
        while self.puller.poll_transmit(Instant::now(), &mut packet) {
            self.socket.send_to(&packet, self.server).expect("loopback takes it");
            last = Some(packet.clone());
        }
        last
    }
}

impl Answer {
    /// Datagrams of DATA, opened or not.
    pub(crate) fn data(&self) -> usize {
        self.chunks.len() + self.rejected
    }

    /// Asserts that exactly these runs came, every byte as published.
    pub(crate) fn assert_chunks(&self, film: &Film, runs: &[Run]) {
        let mut wanted: Vec<ChunkNo> = runs.iter().flat_map(|run| run.chunks()).collect();
        let mut came: Vec<ChunkNo> = self.chunks.iter().map(|(chunk, _)| *chunk).collect();
        wanted.sort_unstable();
        came.sort_unstable();
        assert_eq!(came, wanted);
        assert_eq!(self.rejected, 0);
        for (chunk, bytes) in &self.chunks {
            assert_eq!(*bytes, film.chunk(*chunk), "chunk {chunk}");
        }
    }
}
