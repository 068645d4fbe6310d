//! A responder, and clients of it that speak through [`crate::wire`] alone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidcast_transport::packet::Status;
use braidcast_transport::responder::{Action, Now, Outcome, Request, Responder, ResponderConfig};

use crate::asset::{ASSET, EPOCH_S, Pass, PassFor, ticket_key};
use crate::wire::{EndText, PullText, Session, WireLimits, hello};

/// A responder and its clocks.
pub(crate) struct Server {
    pub(crate) responder: Responder,
    start: Instant,
    since_start: Duration,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(ResponderConfig::default())
    }

    pub(crate) fn with(config: ResponderConfig) -> Self {
        let responder = Responder::new(config, [0x5e; 32], vec![Arc::new(ticket_key())]);
        Self { responder, start: Instant::now(), since_start: Duration::ZERO }
    }

    pub(crate) fn now(&self) -> Now {
        Now { instant: self.start + self.since_start, unix_s: EPOCH_S + self.since_start.as_secs() }
    }

    pub(crate) fn advance(&mut self, by: Duration) {
        self.since_start += by;
    }

    pub(crate) fn handle(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Action> {
        let now = self.now();
        self.responder.handle_datagram(now, from, datagram)
    }

    /// The packet that comes back.
    ///
    /// # Panics
    /// If the server would send DATA.
    pub(crate) fn reply(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<Vec<u8>> {
        match self.handle(from, datagram)? {
            Action::Send(packet) => Some(packet.to_vec()),
            Action::Pull(request) => panic!("DATA would be sent for {request:?}"),
        }
    }

    /// The END of a request of which `outcome` became.
    pub(crate) fn answer(&mut self, request: &Request, outcome: &Outcome<'_>) -> Vec<u8> {
        let now = self.now();
        self.responder.answer(now, request, outcome).expect("the session lives").to_vec()
    }

    /// Greets with a pass that is good.
    pub(crate) fn open(&mut self, from: SocketAddr, pass: &Pass, random: u8) -> Client {
        let hello = hello(&pass.ticket, &pass.secret, &[random; 32]);
        let welcome = self.reply(from, &hello).expect("a good HELLO is answered");
        let (session, limits) = Session::open(&hello, &welcome, &pass.secret).expect("WELCOME opens");
        Client { session, limits, address: from, sequence: 0, proof: [0; 16] }
    }

    pub(crate) fn open_default(&mut self) -> Client {
        self.open(address(1), &PassFor::number(1).sealed(), 1)
    }
}

/// Port `port` of a client's host.
pub(crate) fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

/// All chunks were sent.
pub(crate) fn all_sent(request: &Request) -> Outcome<'static> {
    Outcome {
        status: Status::Ok,
        sent_chunks: request.chunks(),
        not_held: &[],
        retry_after: Duration::ZERO,
        server_limited: false,
    }
}

/// An open session.
pub(crate) struct Client {
    pub(crate) session: Session,
    pub(crate) limits: WireLimits,
    pub(crate) address: SocketAddr,
    pub(crate) sequence: u32,
    /// Of the newest END that [`Client::read`] has read.
    pub(crate) proof: [u8; 16],
}

impl Client {
    /// The next PULL, with the newest proof.
    pub(crate) fn pull(&mut self, runs: &[(u32, u16)]) -> Vec<u8> {
        self.pull_text(&PullText::new(ASSET.0, runs).proving(self.proof))
    }

    pub(crate) fn pull_text(&mut self, text: &PullText) -> Vec<u8> {
        self.sequence += 1;
        self.session.pull(self.sequence, text)
    }

    /// Opens an END and keeps its proof for the next PULL.
    pub(crate) fn read(&mut self, end: &[u8]) -> EndText {
        let (_, end) = self.session.open_end(end).expect("the server's END opens");
        self.proof = end.proof;
        end
    }

    /// Pulls what must be refused, and gives the END.
    pub(crate) fn refused(&mut self, server: &mut Server, text: &PullText) -> EndText {
        let pull = self.pull_text(text);
        let end = server.reply(self.address, &pull).expect("an authentic PULL is answered");
        assert!(end.len() <= pull.len(), "a refusal is no larger than its PULL");
        let end = self.read(&end);
        assert_eq!((end.sequence, end.sent_chunks), (self.sequence, 0));
        end
    }

    /// Pulls what must be granted.
    pub(crate) fn granted(&mut self, server: &mut Server, runs: &[(u32, u16)]) -> Request {
        let pull = self.pull(runs);
        granted(server.handle(self.address, &pull))
    }

    /// Pulls, has everything sent, and reads the END.
    pub(crate) fn served(&mut self, server: &mut Server, runs: &[(u32, u16)]) -> EndText {
        let request = self.granted(server, runs);
        let end = server.answer(&request, &all_sent(&request));
        self.read(&end)
    }
}

/// The request of a PULL that may be answered with DATA.
pub(crate) fn granted(action: Option<Action>) -> Request {
    match action {
        Some(Action::Pull(request)) => request,
        Some(Action::Send(packet)) => panic!("a packet of kind {:#04x} came back instead of DATA", packet[0]),
        None => panic!("nothing came back instead of DATA"),
    }
}
