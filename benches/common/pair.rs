//! A client and a server of the protocol on one thread, without a socket between them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidcast_media::layout::PackLayout;
use braidcast_media::ticket::{SessionSecret, Ticket, TicketKey};
use braidcast_media::{AssetId, ContentKey, Opener, StreamId};
use braidcast_transport::congestion::FixedWindow;
use braidcast_transport::packet::{Runs, Status};
use braidcast_transport::puller::{Puller, PullerConfig};
use braidcast_transport::responder::{Action, Now, Outcome, Responder, ResponderConfig};

/// What is served.
pub(crate) const ASSET: AssetId = AssetId(0x0123_4567_89ab_cdef);
const CLIENT: ([u8; 4], u16) = ([127, 0, 0, 1], 40_000);

/// What opens its chunks.
pub(crate) fn content_key() -> ContentKey {
    ContentKey::new([6; 16])
}

/// A session between a client and a server that share this thread.
pub(crate) struct Pair {
    pub(crate) puller: Puller,
    responder: Responder,
    client: SocketAddr,
    pub(crate) now: Now,
    datagram: Vec<u8>,
}

impl Pair {
    /// With a session open, and an asset of a gibibyte.
    pub(crate) fn open() -> Self {
        let key = TicketKey::new(1, &[1; 32]);
        let secret = SessionSecret::new([2; 32]);
        let ticket = Ticket { secret: secret.clone(), user: 1, expires_at: 2_000, rate_kib_s: 0, assets: vec![ASSET] };
        let sealed = key.seal(&ticket, [3; 12]);
        let responder = Responder::new(ResponderConfig::default(), [4; 32], vec![Arc::new(key)]);
        let layout = PackLayout::of_file(1 << 30).expect("a gibibyte fits");
        let congestion = Box::new(FixedWindow { bytes: 1 << 20 });
        let opener = Opener::new(&content_key(), ASSET);
        let mut puller = Puller::new(PullerConfig { seed: [5; 32], congestion }, opener, layout);
        let now = Now { instant: Instant::now(), unix_s: 1_000 };
        assert!(puller.greet(now.instant, sealed, secret));
        let mut pair = Self { puller, responder, client: CLIENT.into(), now, datagram: Vec::new() };
        assert!(pair.puller.poll_transmit(now.instant, &mut pair.datagram));
        match pair.responder.handle_datagram(now, pair.client, &pair.datagram) {
            Some(Action::Send(welcome)) => pair.puller.handle_datagram(now.instant, &welcome),
            other => panic!("HELLO was answered with {other:?}"),
        }
        assert!(pair.puller.is_open());
        pair
    }

    /// One PULL and its END, which says that `sent_chunks` were sent; `deliver` is called between the two, with the
    /// puller and the time.
    pub(crate) fn exchange(&mut self, runs: &Runs, sent_chunks: u16, deliver: impl FnOnce(&mut Puller, Instant)) {
        self.now.instant += Duration::from_micros(20);
        self.puller.pull(self.now.instant, StreamId::ORIGINAL, runs.clone());
        assert!(self.puller.poll_transmit(self.now.instant, &mut self.datagram));
        let action = self.responder.handle_datagram(self.now, self.client, &self.datagram);
        let Some(Action::Pull(request)) = action else { panic!("PULL was answered with {action:?}") };
        let status = if sent_chunks == 0 { Status::NotHeld } else { Status::Ok };
        let outcome =
            Outcome { status, sent_chunks, not_held: &[], retry_after: Duration::ZERO, server_limited: false };
        let end = self.responder.answer(self.now, &request, &outcome).expect("the session is open");
        deliver(&mut self.puller, self.now.instant);
        self.puller.handle_datagram(self.now.instant, &end);
        while self.puller.poll_event().is_some() {}
    }
}
