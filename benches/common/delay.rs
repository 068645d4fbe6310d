//! A path with a delay between a client and processes on loopback, for TCP and for UDP.
//!
//! It loses nothing, keeps the order, and knows no rate. A TCP connection through it is open at once, unlike one over a
//! path with a delay: what the client sends first is held back for the round trip that the handshake would have cost.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

/// Longer than any datagram of the protocol.
const DATAGRAM_BYTES_MAX: usize = 2_048;
/// Taken from a TCP connection at a time.
const PIECE_BYTES: usize = 64 * 1024;

/// The time that everything takes one way. Its threads end with the process.
#[derive(Clone, Default)]
pub(crate) struct Delay(Arc<AtomicU64>);

impl Delay {
    /// Sets the round trip, for what is sent from now on.
    pub(crate) fn set_round_trip(&self, round_trip: Duration) {
        self.0.store(round_trip.as_micros() as u64 / 2, Ordering::Relaxed);
    }

    fn one_way(&self) -> Duration {
        Duration::from_micros(self.0.load(Ordering::Relaxed))
    }

    /// A TCP port that leads to `to`.
    pub(crate) fn tcp(&self, to: SocketAddr) -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let delay = self.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let server = TcpStream::connect(to).expect("the master listens");
                delay.carry_stream(&client, &server, delay.one_way() * 2);
                delay.carry_stream(&server, &client, Duration::ZERO);
            }
        });
        address
    }

    fn carry_stream(&self, from: &TcpStream, to: &TcpStream, before_first: Duration) {
        let (mut from, mut to) = (from.try_clone().expect("a descriptor"), to.try_clone().expect("a descriptor"));
        to.set_nodelay(true).expect("a TCP socket");
        let opened_at = Instant::now();
        let ended = to.try_clone().expect("a descriptor");
        let line = line(move |bytes| to.write_all(bytes).is_ok(), move || drop(ended.shutdown(Shutdown::Write)));
        let delay = self.clone();
        std::thread::spawn(move || {
            let mut room = vec![0; PIECE_BYTES];
            while let Ok(count @ 1..) = from.read(&mut room) {
                let due = Instant::now().max(opened_at + before_first) + delay.one_way();
                if line.send((due, room[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
    }

    /// A socket that clients can send to, and that leads to `to`, once it is told.
    pub(crate) fn udp(&self) -> (SocketAddr, Sender<SocketAddr>) {
        let front = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
        let address = front.local_addr().expect("bound");
        let (tell, told) = channel();
        let delay = self.clone();
        std::thread::spawn(move || {
            let Ok(to) = told.recv() else { return };
            let mut lines: HashMap<SocketAddr, Sender<(Instant, Vec<u8>)>> = HashMap::new();
            let mut room = [0; DATAGRAM_BYTES_MAX];
            while let Ok((count, client)) = front.recv_from(&mut room) {
                let line = lines.entry(client).or_insert_with(|| delay.open_udp(&front, client, to));
                let _ = line.send((Instant::now() + delay.one_way(), room[..count].to_vec()));
            }
        });
        (address, tell)
    }

    fn open_udp(&self, front: &Arc<UdpSocket>, client: SocketAddr, to: SocketAddr) -> Sender<(Instant, Vec<u8>)> {
        let server = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port"));
        server.connect(to).expect("loopback has a route");
        let (front, back) = (Arc::clone(front), Arc::clone(&server));
        let line_back = line(move |bytes| front.send_to(bytes, client).is_ok(), || ());
        let delay = self.clone();
        std::thread::spawn(move || {
            let mut room = [0; DATAGRAM_BYTES_MAX];
            while let Ok(count) = back.recv(&mut room) {
                if line_back.send((Instant::now() + delay.one_way(), room[..count].to_vec())).is_err() {
                    return;
                }
            }
        });
        line(move |bytes| server.send(bytes).is_ok(), || ())
    }
}

/// Hands on what it is given when it is due, in order; and tells when there is no more.
fn line(
    mut hand_on: impl FnMut(&[u8]) -> bool + Send + 'static,
    ended: impl FnOnce() + Send + 'static,
) -> Sender<(Instant, Vec<u8>)> {
    let (put, take) = channel::<(Instant, Vec<u8>)>();
    std::thread::spawn(move || {
        for (due, bytes) in take {
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            if !hand_on(&bytes) {
                break;
            }
        }
        ended();
    });
    put
}
