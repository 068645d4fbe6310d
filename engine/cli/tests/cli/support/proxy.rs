//! A bad network between clients and one server: it loses, doubles, reorders and corrupts datagrams, by a seed.
//!
//! Clients are told the proxy's address as the server's. Each client gets a socket of its own towards the server, so
//! that the server tells them apart. What is corrupted is sent anew, with a good UDP checksum: it reaches the receiver,
//! which has to find out by itself. TCP connections are carried where a test asks for it, by [`Proxy::start_with_tcp`],
//! and meet no faults.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};

/// First byte of HELLO.
const HELLO: u8 = 0x11;
/// First byte of DATA.
const DATA: u8 = 0x14;
/// Longer than any datagram of the protocol.
const DATAGRAM_BYTES_MAX: usize = 2_048;
/// Bursts must not be lost for want of room: the proxy's losses are to be those that it was told to cause.
const RECEIVE_BYTES: usize = 4 * 1024 * 1024;
/// A datagram that is held back is let go after so many others, or when nothing came for [`QUIET`].
const OVERTAKEN_BY_MAX: u64 = 8;
/// Bytes of a stream that are carried at a time.
const STREAM_BYTES: usize = 64 * 1024;
/// How often a thread that hears nothing looks whether it is to end.
const QUIET: Duration = Duration::from_millis(5);
/// Ports that are tried until one is free for UDP and for TCP.
const PORT_TRIES: usize = 50;

/// How many datagrams of a thousand meet which fate; each is drawn independently of the others, in each direction.
#[derive(Clone, Copy)]
pub(crate) struct Faults {
    /// Do not arrive.
    pub(crate) lost: u64,
    /// Arrive twice.
    pub(crate) doubled: u64,
    /// Arrive after up to [`OVERTAKEN_BY_MAX`] that were sent later.
    pub(crate) reordered: u64,
    /// Arrive with one byte changed.
    pub(crate) corrupted: u64,
}

impl Faults {
    /// A perfect network.
    pub(crate) const NONE: Self = Self::each(0);

    /// The same share of every fault.
    pub(crate) const fn each(per_mille: u64) -> Self {
        Self { lost: per_mille, doubled: per_mille, reordered: per_mille, corrupted: per_mille }
    }
}

/// A proxy in front of one server; ends when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    path: Arc<Path>,
    listener: Option<JoinHandle<()>>,
    connections: Option<JoinHandle<()>>,
}

/// What the threads share.
struct Path {
    front: UdpSocket,
    server: Mutex<Option<SocketAddr>>,
    faults: Faults,
    is_cut: AtomicBool,
    /// The number of a client that is cut off.
    cut_client: AtomicU64,
    /// Clients that DATA was passed on to.
    receivers: Mutex<BTreeSet<u64>>,
    ended: AtomicBool,
    data_to_clients: AtomicU64,
    greetings: Mutex<Vec<Vec<u8>>>,
    connections: AtomicU64,
}

impl Proxy {
    /// A proxy that knows no server yet: what comes for it is dropped.
    pub(crate) fn start(seed: u64, faults: Faults) -> Self {
        Self::with_front(socket(), seed, faults)
    }

    /// Such a proxy that carries TCP connections to the same port, too, as they are.
    ///
    /// A port that is free for UDP may be a client's end of a TCP connection: then another is tried.
    pub(crate) fn start_with_tcp(seed: u64, faults: Faults) -> Self {
        let fronts = std::iter::repeat_with(socket).take(PORT_TRIES);
        let both = |front: UdpSocket| Some((TcpListener::bind(front.local_addr().ok()?).ok()?, front));
        let (listener, front) = fronts.filter_map(both).next().expect("a port that both UDP and TCP have free");
        listener.set_nonblocking(true).expect("a socket");
        let mut proxy = Self::with_front(front, seed, faults);
        let path = Arc::clone(&proxy.path);
        proxy.connections = Some(std::thread::spawn(move || path.carry_connections(&listener)));
        proxy
    }

    fn with_front(front: UdpSocket, seed: u64, faults: Faults) -> Self {
        let address = front.local_addr().expect("a bound socket has an address");
        let path = Arc::new(Path {
            front,
            server: Mutex::default(),
            faults,
            is_cut: AtomicBool::new(false),
            cut_client: AtomicU64::new(u64::MAX),
            receivers: Mutex::default(),
            ended: AtomicBool::new(false),
            data_to_clients: AtomicU64::new(0),
            greetings: Mutex::default(),
            connections: AtomicU64::new(0),
        });
        let shared = Arc::clone(&path);
        let listener = std::thread::spawn(move || shared.carry_to_server(seed));
        Self { address, path, listener: Some(listener), connections: None }
    }

    /// Where clients send to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the server is.
    pub(crate) fn connect(&self, server: SocketAddr) {
        *self.path.server.lock().unwrap_or_else(PoisonError::into_inner) = Some(server);
    }

    /// TCP connections that were made.
    pub(crate) fn connections(&self) -> u64 {
        self.path.connections.load(Ordering::Relaxed)
    }

    /// Cuts the path of datagrams, or mends it. While it is cut none passes.
    pub(crate) fn cut(&self, is_cut: bool) {
        self.path.is_cut.store(is_cut, Ordering::Relaxed);
    }

    /// Clients that DATA was passed on to: each socket is one.
    pub(crate) fn receivers(&self) -> usize {
        self.path.receivers.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Cuts the path of the one of them that came last, for good.
    pub(crate) fn cut_one_receiver(&self) {
        let receivers = self.path.receivers.lock().unwrap_or_else(PoisonError::into_inner);
        let last = receivers.last().expect("somebody has received something");
        self.path.cut_client.store(*last, Ordering::Relaxed);
    }

    /// Every HELLO that a client has sent.
    pub(crate) fn greetings(&self) -> Vec<Vec<u8>> {
        self.path.greetings.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Datagrams of DATA that were passed on to clients.
    pub(crate) fn data_to_clients(&self) -> u64 {
        self.path.data_to_clients.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.path.ended.store(true, Ordering::Relaxed);
        for thread in self.listener.take().into_iter().chain(self.connections.take()) {
            // A panic there has been printed, and the test fails of what did not pass.
            let _ = thread.join();
        }
    }
}

impl Path {
    /// Carries what clients send, and starts a thread for each that carries the answers.
    fn carry_to_server(self: &Arc<Self>, seed: u64) {
        let mut clients: HashMap<SocketAddr, (Arc<UdpSocket>, Lane)> = HashMap::new();
        let mut answers = Vec::new();
        let mut room = [0; DATAGRAM_BYTES_MAX];
        while !self.ended.load(Ordering::Relaxed) {
            let Some((bytes, from)) = receive(|| self.front.recv_from(&mut room)) else {
                clients.values_mut().for_each(|(socket, lane)| lane.flush(|datagram| send(socket.send(datagram))));
                continue;
            };
            let Some(server) = *self.server.lock().unwrap_or_else(PoisonError::into_inner) else { continue };
            let number = clients.len() as u64;
            let (socket, lane) = clients.entry(from).or_insert_with(|| {
                let socket = Arc::new(socket());
                socket.connect(server).expect("loopback has a route");
                let (path, back) = (Arc::clone(self), Arc::clone(&socket));
                let lane = Lane::new(number, seed ^ (2 * number + 1));
                answers.push(std::thread::spawn(move || path.carry_to_client(&back, from, lane)));
                (socket, Lane::new(number, seed ^ (2 * number)))
            });
            if room[0] == HELLO {
                self.greetings.lock().unwrap_or_else(PoisonError::into_inner).push(room[..bytes].to_vec());
            }
            lane.pass(self, &room[..bytes], |datagram| send(socket.send(datagram)));
        }
        for thread in answers {
            // As above.
            let _ = thread.join();
        }
    }

    fn carry_to_client(&self, server: &UdpSocket, client: SocketAddr, mut lane: Lane) {
        let mut room = [0; DATAGRAM_BYTES_MAX];
        let number = lane.number;
        let forward = |datagram: &[u8]| {
            if datagram[0] == DATA {
                self.data_to_clients.fetch_add(1, Ordering::Relaxed);
                self.receivers.lock().unwrap_or_else(PoisonError::into_inner).insert(number);
            }
            send(self.front.send_to(datagram, client));
        };
        while !self.ended.load(Ordering::Relaxed) {
            match receive(|| server.recv(&mut room)) {
                Some(bytes) => lane.pass(self, &room[..bytes], forward),
                None => lane.flush(forward),
            }
        }
    }
}

impl Path {
    /// Takes connections and carries each to the server, one thread a direction.
    fn carry_connections(self: &Arc<Self>, listener: &TcpListener) {
        let mut threads = Vec::new();
        while !self.ended.load(Ordering::Relaxed) {
            let server = *self.server.lock().unwrap_or_else(PoisonError::into_inner);
            let (Ok((client, _)), Some(server)) = (listener.accept(), server) else {
                std::thread::sleep(QUIET);
                continue;
            };
            // A server that refuses it ends the client's connection, too.
            let Ok(server) = TcpStream::connect(server) else { continue };
            self.connections.fetch_add(1, Ordering::Relaxed);
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (from, to) = (from.try_clone().expect("a descriptor"), to.try_clone().expect("a descriptor"));
                let path = Arc::clone(self);
                threads.push(std::thread::spawn(move || path.carry_stream(from, to)));
            }
        }
        for thread in threads {
            // As above.
            let _ = thread.join();
        }
    }

    fn carry_stream(&self, mut from: TcpStream, mut to: TcpStream) {
        from.set_nonblocking(false).expect("a socket");
        from.set_read_timeout(Some(QUIET)).expect("a time-out that is not zero");
        let mut room = vec![0; STREAM_BYTES];
        while !self.ended.load(Ordering::Relaxed) {
            let bytes = match from.read(&mut room) {
                Ok(0) => break,
                Ok(bytes) => bytes,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
                Err(_) => break,
            };
            if to.write_all(&room[..bytes]).is_err() {
                break;
            }
        }
        // Either end is the end of both.
        for stream in [from, to] {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// One direction of one client's path.
struct Lane {
    /// Of the client.
    number: u64,
    random: Random,
    /// A datagram that is held back, and how many may still overtake it.
    held: Option<(Vec<u8>, u64)>,
}

impl Lane {
    fn new(number: u64, seed: u64) -> Self {
        Self { number, random: Random(seed), held: None }
    }

    /// Lets one datagram meet its fate.
    fn pass(&mut self, path: &Path, datagram: &[u8], forward: impl Fn(&[u8])) {
        let is_cut = path.is_cut.load(Ordering::Relaxed) || path.cut_client.load(Ordering::Relaxed) == self.number;
        if datagram.is_empty() || is_cut {
            return;
        }
        let faults = path.faults;
        let [lost, doubled, reordered, corrupted] = [faults.lost, faults.doubled, faults.reordered, faults.corrupted]
            .map(|share| self.random.below(1_000) < share);
        if lost {
            return;
        }
        let mut datagram = datagram.to_vec();
        if corrupted {
            let place = self.random.below(datagram.len() as u64) as usize;
            datagram[place] ^= 1 + self.random.below(255) as u8;
        }
        if reordered && self.held.is_none() {
            self.held = Some((datagram, 1 + self.random.below(OVERTAKEN_BY_MAX)));
            return;
        }
        for _ in 0..1 + u8::from(doubled) {
            forward(&datagram);
        }
        match &mut self.held {
            Some((_, overtaken_by)) if *overtaken_by > 1 => *overtaken_by -= 1,
            _ => self.flush(forward),
        }
    }

    fn flush(&mut self, forward: impl Fn(&[u8])) {
        if let Some((datagram, _)) = self.held.take() {
            forward(&datagram);
        }
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014): small, and the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ mixed >> 31) % end
    }
}

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback");
    socket.set_read_timeout(Some(QUIET)).expect("a time-out that is not zero");
    // The kernel grants as much as it allows; less is no reason not to go on.
    let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BYTES);
    socket
}

/// What came; nothing if it was quiet, or if the other side's port is closed, which is loss like any other.
fn receive<T>(receive: impl FnOnce() -> io::Result<T>) -> Option<T> {
    receive().ok()
}

/// A full buffer or a closed port loses a datagram as a router would.
fn send(sent: io::Result<usize>) {
    let _ = sent;
}
