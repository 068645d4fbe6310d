//! A puller whose server says what a test puts into its mouth.

use std::time::{Duration, Instant};

use braidcast_media::layout::CHUNK_BYTES;
use braidcast_media::{ChunkNo, Run, StreamId};
use braidcast_transport::congestion::FixedWindow;
use braidcast_transport::puller::{Arrival, Event, Puller, PullerConfig};
use braidcast_transport::responder::Runs;

use crate::asset::{Asset, Pass, PassFor};
use crate::wire::{EndText, PullText, Session, WireLimits};

pub(crate) const HANDLE: u64 = 0x0011_2233_4455_6677;

/// A puller of a film of 1,001 chunks, and the server's keys.
pub(crate) struct Scripted {
    pub(crate) asset: Asset,
    pub(crate) puller: Puller,
    pub(crate) now: Instant,
    pub(crate) pass: Pass,
    pub(crate) session: Session,
    pub(crate) counter: u64,
    pub(crate) have: Vec<bool>,
    pub(crate) room: [u8; CHUNK_BYTES],
}

impl Scripted {
    /// A puller that has greeted and got this WELCOME.
    pub(crate) fn with(limits: WireLimits) -> Self {
        let asset = Asset::new(1_200 * 1_000 + 1);
        let config = PullerConfig { seed: [0xc1; 32], congestion: Box::new(FixedWindow { bytes: 1 << 20 }) };
        let mut puller = Puller::new(config, asset.opener(), asset.layout.clone());
        let (now, pass) = (Instant::now(), PassFor::number(1).sealed());
        assert!(puller.greet(now, pass.ticket.clone(), pass.session_secret()));
        let hello = transmitted(&mut puller, now).expect("HELLO is due");
        let (session, welcome) = Session::welcome(&hello, &pass.secret, HANDLE, limits);
        puller.handle_datagram(now, &welcome);
        let have = vec![false; asset.chunks() as usize];
        Self { asset, puller, now, pass, session, counter: 0, have, room: [0; CHUNK_BYTES] }
    }

    pub(crate) fn open() -> Self {
        let mut scripted = Self::with(WireLimits::default());
        assert_eq!(scripted.events(), [Event::Opened]);
        scripted
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.now += by;
    }

    /// Asks for runs, and gives sequence and text of the PULL as the server opens them.
    pub(crate) fn pull(&mut self, runs: &[(u32, u16)]) -> (u32, PullText) {
        let runs: Runs = runs.iter().map(|&(first, count)| Run::new(first, count)).collect();
        self.puller.pull(self.now, StreamId::ORIGINAL, runs);
        let packet = transmitted(&mut self.puller, self.now).expect("the PULL is to be sent");
        self.session.open_pull(&packet).expect("the PULL opens under the session's key")
    }

    /// Hands an END to the puller under the next counter.
    pub(crate) fn end(&mut self, end: &EndText) {
        self.counter += 1;
        let packet = self.session.end(self.counter, end);
        self.puller.handle_datagram(self.now, &packet);
    }

    /// Hands a DATA packet to the puller, as a client that fetches the whole film would.
    pub(crate) fn data(&mut self, packet: &[u8]) -> Arrival {
        let (have, room) = (&self.have, &mut self.room);
        let arrival = self.puller.handle_data(self.now, packet, |stream, chunk| {
            let missing = stream == StreamId::ORIGINAL && have.get(chunk.0 as usize) == Some(&false);
            missing.then_some(room)
        });
        if let Arrival::Accepted { chunk, payload_bytes, .. } = arrival {
            let published = &self.asset.plain[chunk.0 as usize * CHUNK_BYTES..][..payload_bytes];
            assert_eq!(&self.room[..payload_bytes], published);
            assert!(!std::mem::replace(&mut self.have[chunk.0 as usize], true), "{chunk} was taken twice");
        }
        arrival
    }

    /// The film's packet of a chunk.
    pub(crate) fn packet(&self, chunk: u32) -> Vec<u8> {
        self.asset.packet(ChunkNo(chunk)).expect("the film has this chunk").to_vec()
    }

    /// The film's own packets of some chunks arrive and are taken.
    pub(crate) fn arrive(&mut self, chunks: std::ops::Range<u32>) {
        for chunk in chunks {
            let packet = self.packet(chunk);
            assert!(matches!(self.data(&packet), Arrival::Accepted { .. }), "chunk {chunk}");
        }
    }

    pub(crate) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.puller.poll_event()).collect()
    }

    pub(crate) fn greet(&mut self) -> Option<Vec<u8>> {
        assert!(self.puller.greet(self.now, self.pass.ticket.clone(), self.pass.session_secret()));
        transmitted(&mut self.puller, self.now)
    }
}

/// The next datagram that a puller wants sent.
pub(crate) fn transmitted(puller: &mut Puller, now: Instant) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    puller.poll_transmit(now, &mut out).then_some(out)
}

/// The END of a PULL that was answered in full, where nothing was lost before it.
pub(crate) fn complete(sequence: u32, sent_chunks: u16) -> EndText {
    EndText { sequence, sent_chunks, highest: sequence, seen: u64::MAX, ..EndText::default() }
}
