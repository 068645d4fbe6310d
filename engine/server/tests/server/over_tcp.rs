//! What a client gets whose network blocks UDP.

use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use braidcast_io::ClientStream;
use braidcast_media::layout::CHUNK_BYTES;
use braidcast_media::ticket::SessionSecret;
use braidcast_media::{Run, StreamId};
use braidcast_server::{Server, ServerError};
use braidcast_transport::congestion::FixedWindow;
use braidcast_transport::packet::{Kind, packet_bytes};
use braidcast_transport::puller::{Arrival, Puller, PullerConfig};

use crate::asset::Film;
use crate::master;
use crate::rig::{self, Rig};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A client with the protocol's own state machine.
struct Client<'a> {
    stream: ClientStream,
    puller: Puller,
    film: &'a Film,
    /// Chunks that came as they were published.
    good: usize,
}

impl<'a> Client<'a> {
    fn greet(rig: &Rig, film: &'a Film, (ticket, secret): (Vec<u8>, SessionSecret)) -> Self {
        let stream = ClientStream::connect(rig.server.udp_addr(), packet_bytes).expect("a socket");
        let congestion = Box::new(FixedWindow { bytes: 1 << 20 });
        let mut puller = Puller::new(PullerConfig { seed: [5; 32], congestion }, film.opener(), film.layout().clone());
        assert!(puller.greet(Instant::now(), ticket, secret));
        let mut client = Self { stream, puller, film, good: 0 };
        client.drive(|client| client.puller.is_open());
        client
    }

    /// Sends and receives until `done`.
    fn drive(&mut self, done: impl Fn(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        let mut packet = Vec::new();
        while !done(self) {
            let now = Instant::now();
            assert!(now < until, "the server answers; {} chunks came", self.good);
            while self.puller.poll_transmit(now, &mut packet) {
                self.stream.send(&packet).expect("a connection");
            }
            let Self { stream, puller, film, good } = self;
            let received = stream.recv(|packet| {
                if Kind::of(packet) != Some(Kind::Data) {
                    puller.handle_datagram(now, packet);
                    return;
                }
                let mut room = [0; CHUNK_BYTES];
                if let Arrival::Accepted { chunk, .. } = puller.handle_data(now, packet, |_, _| Some(&mut room)) {
                    assert_eq!(room, film.chunk(chunk), "chunk {chunk}");
                    *good += 1;
                }
            });
            if received.expect("a connection").would_block {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

fn ticket(film: &Film) -> (Vec<u8>, SessionSecret) {
    master::ticket(&[film.id], master::in_seconds(600))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_film_comes_back_byte_for_byte_over_tcp_and_udp_side_by_side() {
    let film = Film::new(1, 900_000);
    let rig = Rig::holding(&film).await;
    let (mut over_tcp, mut over_udp) = (Client::greet(&rig, &film, ticket(&film)), rig.client(&film));
    let chunks = film.layout().stream(StreamId::ORIGINAL).expect("a film").chunks();
    let runs: Vec<_> = (0..chunks).step_by(52).map(|first| Run::new(first, 52.min(chunks - first) as u16)).collect();
    for run in &runs {
        over_tcp.puller.pull(Instant::now(), StreamId::ORIGINAL, [*run].into_iter().collect());
        over_udp.pull(&[*run]).assert_chunks(&film, &[*run]);
    }
    over_tcp.drive(|client| client.good as u32 == chunks);
    assert_eq!(rig.server.counters().sent_bytes, 2 * u64::from(chunks) * CHUNK_BYTES as u64);
    rig.server.shutdown().await;
}

//= PROTOCOL T2: A server MUST close a connection on which no HELLO has earned a WELCOME 5 s after it was accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_a_sound_ticket_gets_no_byte_and_is_closed() {
    let film = Film::new(1, 5_000);
    let rig = Rig::holding(&film).await;
    let mut admitted = Client::greet(&rig, &film, ticket(&film));
    let connect = || TcpStream::connect(rig.server.udp_addr()).expect("a connection");
    let (silent, stranger) = (connect(), connect());
    let (foreign, secret) = master::foreign_ticket(&[film.id], master::in_seconds(600));
    let greeting = braidcast_transport::handshake::Greeting::new(&foreign, secret, [7; 32]).expect("a ticket");
    std::io::Write::write_all(&mut &stranger, greeting.hello()).expect("a connection");
    for mut stream in [silent, stranger] {
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        assert_eq!(stream.read(&mut [0; 1]).expect("an end in good order"), 0);
    }
    admitted.puller.pull(Instant::now(), StreamId::ORIGINAL, [Run::new(0, 5)].into_iter().collect());
    admitted.drive(|client| client.good == 5);
    rig.server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tcp_refuses_connections_and_leaves_the_port_to_others() {
    let film = Film::new(1, 5_000);
    // A port that is free for UDP may be some client's end of a TCP connection: then others are tried.
    for tries_left in (0..10).rev() {
        let rig = Rig::holding_with(&film, |config| config.tcp = false).await;
        let refused = TcpStream::connect(rig.server.udp_addr()).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        let bound = TcpListener::bind(rig.server.udp_addr());
        rig.client(&film).pull(&[Run::new(0, 5)]).assert_chunks(&film, &[Run::new(0, 5)]);
        rig.server.shutdown().await;
        match bound {
            Ok(_) => return,
            Err(error) => assert!(error.kind() == ErrorKind::AddrInUse && tries_left > 0, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_tcp_does_not_have_ends_the_start() {
    let rig = Rig::start().await;
    let dir = tempfile::tempdir().expect("temporary folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut config = rig::config(&rig.master, &dir);
    config.listen = taken.local_addr().expect("its address");
    let error = Server::start(config).await.expect_err("the port is taken");
    assert!(matches!(error, ServerError::Listen(_)) && error.to_string().contains("TCP"), "{error}");
    rig.server.shutdown().await;
}
