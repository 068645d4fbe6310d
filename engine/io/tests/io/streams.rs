//! A service driven over TCP, and the stream of its client.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use braidcast_io::limits::{CLIENT_STREAM_UNSENT_BYTES_MAX, TRAINS_MAX};
use braidcast_io::{
    ClientStream, Framing, MappedFile, Outbox, Selector, Service, StreamBounds, StreamListener, Train, Waker,
    run_streams, waker,
};
use socket2::{Domain, Socket, Type};

use crate::pattern::{Ask, PATIENCE, Pattern, SEGMENT_BYTES, Seen, patterned_file};

const FILE_CHUNKS: u32 = 600;
const EFAULT: i32 = 14;

/// Asks have their length in front.
const REQUESTS: Framing = Framing {
    packet_bytes: |start| {
        let bytes = usize::from(u16::from_be_bytes(start));
        (3..=300).contains(&bytes).then_some(bytes)
    },
    admits: |train| !train.tail().is_empty(),
};

/// Chunks start with their number, which is small here; tails with a mark and their length.
fn answer_bytes(start: [u8; 2]) -> Option<usize> {
    match start {
        [0, _] => Some(SEGMENT_BYTES),
        [0xEE, bytes] => Some(bytes.into()),
        _ => None,
    }
}

fn tail(bytes: u8) -> Vec<u8> {
    let mut tail = vec![7; bytes.into()];
    tail[..2].copy_from_slice(&[0xEE, bytes]);
    tail
}

fn request(ask: &Ask) -> Vec<u8> {
    let ask = ask.encode();
    [&(ask.len() as u16 + 2).to_be_bytes(), &ask[..]].concat()
}

/// `chunks` from `first` on, then a tail.
fn ask(first: u32, chunks: u16) -> Ask {
    Ask { regions: vec![(first, chunks)], tail: tail(88) }
}

/// Answers asks that have their length in front.
struct Streamed(Pattern);

impl Service for Streamed {
    fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8], out: &mut Outbox) {
        self.0.handle_datagram(now, from, &datagram[2..], out);
    }
    fn handle_wake(&mut self, now: Instant, out: &mut Outbox) {
        self.0.handle_wake(now, out);
    }
    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.0.handle_timeout(now, out);
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.0.poll_timeout()
    }
    fn on_send_error(&mut self, to: SocketAddr, error: &io::Error) {
        self.0.on_send_error(to, error);
    }
}

struct Shard {
    addr: SocketAddr,
    file: MappedFile,
    seen: Arc<Mutex<Seen>>,
    queue: Sender<Train>,
    waker: Waker,
    thread: Option<JoinHandle<io::Result<()>>>,
}

impl Shard {
    fn start(bounds: StreamBounds) -> Self {
        Self::start_with(bounds, |_, _| {})
    }

    fn start_with(bounds: StreamBounds, prepare: impl FnOnce(&mut Pattern, &Waker)) -> Self {
        let listener = StreamListener::bind("127.0.0.1:0".parse().unwrap()).expect("a port");
        let addr = listener.local_addr();
        let file = MappedFile::new(patterned_file(FILE_CHUNKS)).expect("mapped");
        let (waker, wakes) = waker();
        let (queue, receiver) = mpsc::channel();
        let seen = Arc::<Mutex<Seen>>::default();
        let mut pattern = Pattern {
            file: file.clone(),
            seen: Arc::clone(&seen),
            queue: receiver,
            waiting: None,
            timer: None,
            stop_after: None,
        };
        prepare(&mut pattern, &waker);
        let thread = std::thread::spawn(move || run_streams(listener, REQUESTS, bounds, &mut Streamed(pattern), wakes));
        Self { addr, file, seen, queue, waker, thread: Some(thread) }
    }

    fn datagrams(&self) -> usize {
        self.seen.lock().unwrap().datagrams
    }

    fn join(&mut self) {
        let thread = self.thread.take().expect("joined once");
        let patience = Instant::now() + PATIENCE;
        while !thread.is_finished() {
            assert!(Instant::now() < patience, "the shard does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
        thread.join().expect("no panic in the shard").expect("no error ends a shard");
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.waker.stop();
        if !std::thread::panicking() && self.thread.is_some() {
            self.join();
        }
    }
}

/// A client that collects packets.
struct Client {
    stream: Arc<ClientStream>,
    selector: Selector,
}

impl Client {
    fn connect(server: SocketAddr) -> Self {
        let stream = Arc::new(ClientStream::connect(server, answer_bytes).expect("a socket"));
        let mut selector = Selector::new().expect("a poller");
        selector.add(0, Arc::clone(&stream)).expect("watched");
        Self { stream, selector }
    }

    fn receive(&mut self, count: usize) -> io::Result<Vec<Vec<u8>>> {
        let mut packets = Vec::new();
        let patience = Instant::now() + PATIENCE;
        while packets.len() < count {
            let left = patience.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} packets came", packets.len());
            self.selector.wait(Some(left), |_| {}).expect("waiting");
            self.stream.recv(|packet| packets.push(packet.to_vec()))?;
        }
        Ok(packets)
    }

    fn ask(&mut self, ask: &Ask) -> io::Result<Vec<Vec<u8>>> {
        self.stream.send(&request(ask))?;
        self.receive(ask.expected().len())
    }
}

/// A plain connection whose receive buffer the kernel does not let grow.
fn plain(from: Ipv4Addr, server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(32 << 10).expect("a small buffer");
    socket.bind(&SocketAddr::from((from, 0)).into()).expect("a loopback address");
    socket.connect(&server.into()).expect("a connection");
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whether the server closes `stream` before a byte comes.
fn is_closed(mut stream: &TcpStream) -> bool {
    match stream.read(&mut [0; 1]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// Whether the server answers on `stream`.
fn is_served(mut stream: &TcpStream) -> bool {
    let mut room = vec![0; SEGMENT_BYTES + 88];
    stream.write_all(&request(&ask(5, 1))).is_ok()
        && stream.read_exact(&mut room).is_ok()
        && room == ask(5, 1).expected().concat()
}

#[test]
fn trains_of_regions_and_tails_arrive_in_order() {
    let shard = Shard::start(StreamBounds::default());
    let mut client = Client::connect(shard.addr);
    for chunks in 1..=52 {
        let regions = (0..chunks.min(8)).map(|n| (u32::from(n) * 70 + 3, chunks / 8 + u16::from(n < chunks % 8)));
        let ask = Ask { regions: regions.filter(|region| region.1 > 0).collect(), tail: tail(88 + chunks as u8 % 40) };
        assert!(client.ask(&ask).expect("an answer") == ask.expected(), "{chunks} chunks");
    }
    let many: Vec<_> = (0..300).map(|n| ask(n, 1 + n as u16 % 52)).collect();
    for ask in &many {
        client.stream.send(&request(ask)).expect("room for short packets");
    }
    let expected: Vec<_> = many.iter().flat_map(Ask::expected).collect();
    assert!(client.receive(expected.len()).expect("answers") == expected, "other packets came than those asked for");
}

//= PROTOCOL T4: A server MUST NOT take a packet from a connection while more than one train waits to be sent on it.
#[test]
fn a_client_that_does_not_read_is_not_read_from() {
    const ASKS: usize = 200;
    let shard = Shard::start(StreamBounds::default());
    let mut lazy = plain(Ipv4Addr::LOCALHOST, shard.addr);
    for _ in 0..ASKS {
        lazy.write_all(&request(&ask(0, 52))).expect("short requests");
    }
    let mut before = 0;
    // Not before it has begun: until then nothing is no standstill.
    while before == 0 || shard.datagrams() != before {
        before = shard.datagrams();
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!((1..ASKS / 4).contains(&before), "{before} of {ASKS} were taken while nothing was read");
    let other = ask(7, 20);
    assert_eq!(Client::connect(shard.addr).ask(&other).expect("others are served"), other.expected());

    let (mut room, expected) = (vec![0; 52 * SEGMENT_BYTES + 88], ask(0, 52).expected().concat());
    for _ in 0..ASKS {
        lazy.read_exact(&mut room).expect("an answer");
        assert!(room == expected);
    }
}

//= PROTOCOL T1: A receiver MUST close a connection when the next two bytes start no packet of this version.
#[test]
fn a_stream_that_does_not_parse_is_closed() {
    let shard = Shard::start(StreamBounds::default());
    let mut wrong = plain(Ipv4Addr::LOCALHOST, shard.addr);
    assert!(is_served(&wrong));
    wrong.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    assert!(is_closed(&wrong));
    assert!(is_served(&plain(Ipv4Addr::LOCALHOST, shard.addr)), "the others go on");

    let server = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::connect(server.local_addr().unwrap());
    server.accept().unwrap().0.write_all(&[&tail(20)[..], b"HTTP"].concat()).unwrap();
    assert_eq!(client.receive(2).unwrap_err().kind(), ErrorKind::InvalidData);
}

//= PROTOCOL T2: A server MUST close a connection on which no HELLO has earned a WELCOME 5 s after it was accepted.
#[test]
fn a_connection_that_is_not_admitted_in_time_is_closed() {
    assert_eq!(StreamBounds::default().admitted_within, Duration::from_secs(5));
    // Time enough to ask on a machine that is busy.
    let shard = Shard::start(StreamBounds { admitted_within: Duration::from_secs(4), ..StreamBounds::default() });
    let (silent, mut stranger, admitted) = (
        plain(Ipv4Addr::LOCALHOST, shard.addr),
        plain(Ipv4Addr::LOCALHOST, shard.addr),
        plain(Ipv4Addr::LOCALHOST, shard.addr),
    );
    assert!(is_served(&admitted));
    let without_tail = Ask { regions: vec![(0, 1)], tail: vec![] };
    stranger.write_all(&request(&without_tail)).unwrap();
    stranger.read_exact(&mut [0; SEGMENT_BYTES]).expect("an answer that admits nobody");
    assert!(is_closed(&silent) && is_closed(&stranger));
    assert!(is_served(&admitted));
}

//= PROTOCOL T5: A server MUST close a connection on which no byte has moved for 120 s.
#[test]
fn an_idle_connection_is_closed() {
    assert_eq!(StreamBounds::default().idle, Duration::from_secs(120));
    // The busy one is not idle for so long on a machine that is busy.
    let shard = Shard::start(StreamBounds { idle: Duration::from_secs(5), ..StreamBounds::default() });
    let (idle, busy) = (plain(Ipv4Addr::LOCALHOST, shard.addr), plain(Ipv4Addr::LOCALHOST, shard.addr));
    assert!(is_served(&idle));
    idle.set_nonblocking(true).unwrap();
    let patience = Instant::now() + PATIENCE;
    while !is_closed(&idle) {
        assert!(Instant::now() < patience, "an idle connection stays");
        assert!(is_served(&busy), "a busy one is closed");
        std::thread::sleep(Duration::from_millis(50));
    }
}

//= PROTOCOL T3: A server MUST bound the connections that it holds, in all and of one client address. One beyond takes the place of the oldest that no HELLO has let in, of the address that has most of those; where there is none, the server MUST close it at once.
#[test]
fn connections_beyond_the_bounds_are_closed_at_once() {
    let (one, other) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    let shard = Shard::start(StreamBounds { connections: 3, per_address: 2, ..StreamBounds::default() });
    let mut held: Vec<_> = (0..2).map(|_| plain(one, shard.addr)).collect();
    assert!(held.iter().all(is_served));
    assert!(is_closed(&plain(one, shard.addr)), "a third of one address");
    held.push(plain(other, shard.addr));
    assert!(is_served(&held[2]), "another address has its own share");
    assert!(is_closed(&plain(other, shard.addr)), "a fourth in all");
    held.remove(0);
    // The server may hear of the end a little later than of the next connection.
    let patience = Instant::now() + PATIENCE;
    while !is_served(&plain(one, shard.addr)) {
        assert!(Instant::now() < patience, "what has ended still counts");
    }
    assert!(held.iter().all(is_served));
}

/// Whoever says nothing on many connections must not keep out those who have a ticket.
#[test]
fn silent_connections_make_room_for_others_and_for_those_of_their_own_address() {
    let (silent, honest) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    let shard = Shard::start(StreamBounds { connections: 4, per_address: 3, ..StreamBounds::default() });
    let held: Vec<_> = (0..2).map(|_| plain(silent, shard.addr)).collect();
    let of_the_same = plain(silent, shard.addr);
    assert!(is_served(&of_the_same), "an address makes room among its own");
    let others: Vec<_> = (0..2).map(|_| plain(Ipv4Addr::new(127, 0, 0, 3), shard.addr)).collect();
    let newcomer = plain(honest, shard.addr);
    assert!(is_served(&newcomer), "another address is let in");
    assert!(is_served(&of_the_same), "nobody who was let in leaves");
    drop((held, others));
}

/// Where descriptors are few, connections are: the bound of one address alone would leave none to others.
#[test]
fn one_address_has_at_most_half_of_few_connections() {
    let shard = Shard::start(StreamBounds { connections: 4, ..StreamBounds::default() });
    let held: Vec<_> = (0..2).map(|_| plain(Ipv4Addr::LOCALHOST, shard.addr)).collect();
    assert!(held.iter().all(is_served));
    assert!(is_closed(&plain(Ipv4Addr::LOCALHOST, shard.addr)), "a third of one address");
    assert!(is_served(&plain(Ipv4Addr::new(127, 0, 0, 2), shard.addr)), "another address is let in");
}

//= PROTOCOL T6: A server MUST close a connection when the rest of a packet that it has begun there cannot be sent.
#[test]
fn a_file_cut_short_closes_the_connection_only_in_the_middle_of_an_answer() {
    let shard = Shard::start(StreamBounds::default());
    shard.file.file().set_len(100 * SEGMENT_BYTES as u64).expect("cut short");
    let mut client = Client::connect(shard.addr);
    client.stream.send(&request(&ask(200, 52))).unwrap();
    let held = ask(10, 52);
    assert_eq!(client.ask(&held).expect("the stream is still in step"), held.expected());
    assert_eq!(shard.seen.lock().unwrap().send_errors.len(), 1);

    let torn = ask(90, 52);
    let error = client.ask(&torn).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset), "{error}");
    let errors = shard.seen.lock().unwrap().send_errors.clone();
    assert_eq!(errors.iter().map(|(_, errno)| *errno).collect::<Vec<_>>(), [Some(EFAULT); 2]);
    assert_eq!(Client::connect(shard.addr).ask(&held).expect("others are served"), held.expected());
}

#[test]
fn trains_of_other_threads_reach_their_connection_and_are_dropped_when_it_is_gone() {
    const TRAINS: usize = 3 * TRAINS_MAX;
    let shard = Shard::start(StreamBounds::default());
    let client = plain(Ipv4Addr::LOCALHOST, shard.addr);
    assert!(is_served(&client));
    let nobody = SocketAddr::from(([127, 0, 0, 9], 9));
    for n in 0..TRAINS {
        let to = if n % 2 == 0 { client.local_addr().unwrap() } else { nobody };
        shard.queue.send(Train::datagram(to, &tail(n as u8 + 2)).unwrap()).unwrap();
    }
    shard.waker.wake();
    for n in (0..TRAINS).step_by(2) {
        let mut room = vec![0; n + 2];
        (&client).read_exact(&mut room).expect("a tail");
        assert_eq!(room, tail(n as u8 + 2));
    }
    assert_eq!(shard.seen.lock().unwrap().send_errors, []);
}

#[test]
fn a_timer_of_the_service_fires() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let due = Instant::now() + Duration::from_millis(50);
    let shard = Shard::start_with(StreamBounds::default(), |pattern, _| {
        pattern.timer = Some((due, listener.local_addr().unwrap()));
    });
    let patience = Instant::now() + PATIENCE;
    while shard.seen.lock().unwrap().timeouts == 0 {
        assert!(Instant::now() < patience, "the timer does not fire");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Instant::now() >= due);
}

#[test]
fn a_stopped_shard_sends_what_waits() {
    let mut shard = Shard::start_with(StreamBounds::default(), |pattern, waker| {
        pattern.stop_after = Some((1, waker.clone()));
    });
    let mut client = Client::connect(shard.addr);
    let ask = ask(3, 52);
    assert_eq!(client.ask(&ask).expect("the answer"), ask.expected());
    shard.join();
}

#[test]
fn a_closed_port_and_a_server_that_leaves_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = listener.local_addr().unwrap();
    let mut client = Client::connect(server);
    drop(listener.accept().unwrap());
    let error = client.receive(1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}");
    drop(listener);
    let mut client = Client::connect(server);
    // The kernel may know at once, or when the answer to its SYN comes.
    let error = client.stream.send(&request(&ask(0, 1))).and_then(|()| client.receive(1)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
}

#[test]
fn packets_for_a_server_that_does_not_read_are_lost_beyond_a_bound() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = ClientStream::connect(listener.local_addr().unwrap(), answer_bytes).unwrap();
    let packet = [5; 1_000];
    // More than any kernel buffers for one connection.
    let lost = (0..100_000).find_map(|_| stream.send(&packet).err()).expect("a bound");
    assert_eq!(lost.kind(), ErrorKind::WouldBlock);
    assert!(stream.has_unsent());
    assert_eq!(stream.send(&packet).unwrap_err().kind(), ErrorKind::WouldBlock);
    const { assert!(CLIENT_STREAM_UNSENT_BYTES_MAX < 1_000 * 100_000) };
}
