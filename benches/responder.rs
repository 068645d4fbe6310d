//! What a server's thread spends on a PULL, system calls aside: open it, check it, make its END. And what a client
//! spends to ask, and to take the END in.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use braidcast_media::layout::{CHUNK_BYTES, PackLayout};
use braidcast_media::ticket::{SessionSecret, Ticket, TicketKey};
use braidcast_media::{AssetId, ContentKey, Opener, Run, StreamId};
use braidcast_transport::congestion::FixedWindow;
use braidcast_transport::packet::{Runs, Status};
use braidcast_transport::puller::{Puller, PullerConfig};
use braidcast_transport::responder::{Action, Now, Outcome, Responder, ResponderConfig};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const ASSET: AssetId = AssetId(0x0123_4567_89ab_cdef);
const CLIENT: ([u8; 4], u16) = ([127, 0, 0, 1], 40_000);

/// A session between a client and a server that share this thread.
struct Pair {
    puller: Puller,
    responder: Responder,
    client: SocketAddr,
    now: Now,
    datagram: Vec<u8>,
}

impl Pair {
    fn open() -> Self {
        let key = TicketKey::new(1, &[1; 32]);
        let secret = SessionSecret::new([2; 32]);
        let ticket = Ticket { secret: secret.clone(), user: 1, expires_at: 2_000, rate_kib_s: 0, assets: vec![ASSET] };
        let sealed = key.seal(&ticket, [3; 12]);
        let responder = Responder::new(ResponderConfig::default(), [4; 32], vec![Arc::new(key)]);
        let layout = PackLayout::of_file(1 << 30).expect("a gibibyte fits");
        let congestion = Box::new(FixedWindow { bytes: 1 << 20 });
        let opener = Opener::new(&ContentKey::new([6; 16]), ASSET);
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

    /// One PULL and its END, as if no chunk were held, so that no chunk has to be opened.
    fn exchange(&mut self, runs: &Runs) {
        self.now.instant += Duration::from_micros(20);
        self.puller.pull(self.now.instant, StreamId::ORIGINAL, runs.clone());
        assert!(self.puller.poll_transmit(self.now.instant, &mut self.datagram));
        let action = self.responder.handle_datagram(self.now, self.client, &self.datagram);
        let Some(Action::Pull(request)) = action else { panic!("PULL was answered with {action:?}") };
        let outcome = Outcome {
            status: Status::NotHeld,
            sent_chunks: 0,
            not_held: &[],
            retry_after: Duration::ZERO,
            server_limited: false,
        };
        let end = self.responder.answer(self.now, &request, &outcome).expect("the session is open");
        self.puller.handle_datagram(self.now.instant, &end);
        while self.puller.poll_event().is_some() {}
    }
}

fn pull(c: &mut Criterion) {
    let mut group = c.benchmark_group("PULL to END");
    for chunks in [1, 4, 16, 52] {
        let runs: Runs = [Run::new(0, chunks)].into_iter().collect();
        let mut pair = Pair::open();
        group.throughput(Throughput::Bytes(u64::from(chunks) * CHUNK_BYTES as u64));
        group.bench_with_input(BenchmarkId::new("chunks", chunks), &runs, |b, runs| {
            b.iter(|| pair.exchange(runs));
        });
    }
    group.finish();
}

criterion_group!(benches, pull);
criterion_main!(benches);
