//! A service that answers from a patterned file, and what the tests need around it.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use braidcast_io::limits::{TRAIN_BYTES_MAX, TRAINS_MAX};
use braidcast_io::{
    Backend, Capabilities, ClientSocket, MappedFile, Notification, Outbox, ReceiveBuffer, Selector, Sending,
    ServerSocket, Service, Train, WakeReceiver, Waker, ZeroCopy, run, waker,
};

pub(crate) const SEGMENT_BYTES: usize = 1_232;
/// Long enough for a machine that is busy with something else.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The ways to send that this machine has; the portable one always.
pub(crate) fn sendings() -> Vec<Sending> {
    let capabilities = Capabilities::probe().expect("probing");
    let mut sendings = vec![Sending { backend: Backend::Portable, zero_copy: ZeroCopy::Off }];
    if capabilities.uring.is_ok() {
        let ring = |zero_copy| Sending { backend: Backend::Uring, zero_copy };
        sendings.extend([ZeroCopy::Off, ZeroCopy::Notified].map(ring));
    }
    if capabilities.sendfile {
        sendings.push(Sending { backend: Backend::Portable, zero_copy: ZeroCopy::Sendfile });
    }
    if capabilities.sendfile && capabilities.uring.is_ok() {
        sendings.push(Sending { backend: Backend::Uring, zero_copy: ZeroCopy::Sendfile });
    }
    sendings
}

/// What chunk `n` of the file holds: its number, then bytes that follow from it.
pub(crate) fn chunk(n: u32) -> Vec<u8> {
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.extend((4..SEGMENT_BYTES).map(|i| (n as usize * 31 + i * 7) as u8));
    bytes
}

/// A temporary file of `chunks` chunks.
pub(crate) fn patterned_file(chunks: u32) -> std::fs::File {
    let mut file = tempfile::tempfile().expect("a temporary file");
    for n in 0..chunks {
        file.write_all(&chunk(n)).expect("room for it");
    }
    file
}

/// What a client asks the service for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ask {
    /// First chunk and number of chunks of each region.
    pub(crate) regions: Vec<(u32, u16)>,
    pub(crate) tail: Vec<u8>,
}

impl Ask {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![self.regions.len() as u8];
        for (first, count) in &self.regions {
            bytes.extend(first.to_be_bytes());
            bytes.extend(count.to_be_bytes());
        }
        bytes.extend(&self.tail);
        bytes
    }

    fn decode(bytes: &[u8]) -> Self {
        let (regions, tail) = bytes[1..].split_at(usize::from(bytes[0]) * 6);
        let number = |r: &[u8]| (u32::from_be_bytes([r[0], r[1], r[2], r[3]]), u16::from_be_bytes([r[4], r[5]]));
        Self { regions: regions.chunks(6).map(number).collect(), tail: tail.to_vec() }
    }

    /// The datagrams of the answer.
    pub(crate) fn expected(&self) -> Vec<Vec<u8>> {
        let chunks = self.regions.iter().flat_map(|&(first, count)| (first..).take(count.into()));
        let mut datagrams: Vec<_> = chunks.map(chunk).collect();
        if !self.tail.is_empty() {
            datagrams.push(self.tail.clone());
        }
        datagrams
    }
}

/// What happened in the service.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) datagrams: usize,
    pub(crate) most_trains: usize,
    pub(crate) send_errors: Vec<(SocketAddr, Option<i32>)>,
    pub(crate) timeouts: usize,
    /// Trains with regions, and notifications of them, copied or not.
    pub(crate) region_trains: usize,
    pub(crate) notifications: usize,
}

/// Answers each [`Ask`], sends what comes through its queue after a wake, and a datagram when a timer is set.
pub(crate) struct Pattern {
    pub(crate) file: MappedFile,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) queue: Receiver<Train>,
    pub(crate) waiting: Option<Train>,
    pub(crate) timer: Option<(Instant, SocketAddr)>,
    /// Stops the shard once it has taken this many datagrams.
    pub(crate) stop_after: Option<(usize, Waker)>,
}

impl Service for Pattern {
    fn handle_datagram(&mut self, _now: Instant, from: SocketAddr, datagram: &[u8], out: &mut Outbox) {
        let ask = Ask::decode(datagram);
        let mut train = Train::new(from);
        let has_regions = !ask.regions.is_empty();
        for (first, count) in ask.regions {
            let offset = u64::from(first) * SEGMENT_BYTES as u64;
            let region = self.file.region(offset, usize::from(count) * SEGMENT_BYTES).expect("within the file");
            train.push_region(region).expect("room for it");
        }
        if !ask.tail.is_empty() {
            train.push_tail(&ask.tail).expect("room for it");
        }
        out.push(train).expect("room for one train at each call");
        let mut seen = self.seen.lock().unwrap();
        seen.datagrams += 1;
        seen.region_trains += usize::from(has_regions);
        seen.most_trains = seen.most_trains.max(TRAINS_MAX - out.room());
        if let Some((count, waker)) = &self.stop_after
            && *count == seen.datagrams
        {
            waker.stop();
        }
    }

    fn handle_wake(&mut self, _now: Instant, out: &mut Outbox) {
        assert!(out.room() > 0, "no call with a full outbox");
        while let Some(train) = self.waiting.take().or_else(|| self.queue.try_recv().ok()) {
            if let Err(train) = out.push(train) {
                self.waiting = Some(train);
                return;
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        let (due, to) = self.timer.take().expect("a timer was set");
        assert!(due <= now, "a timer must not fire early");
        self.seen.lock().unwrap().timeouts += 1;
        out.push(Train::datagram(to, b"timer").unwrap()).expect("room for one train at each call");
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.timer.map(|(due, _)| due)
    }

    fn on_send_error(&mut self, to: SocketAddr, error: &io::Error) {
        self.seen.lock().unwrap().send_errors.push((to, error.raw_os_error()));
    }

    fn on_notification(&mut self, _notification: Notification) {
        self.seen.lock().unwrap().notifications += 1;
    }
}

/// A shard on a thread of its own.
pub(crate) struct Shard {
    pub(crate) addr: SocketAddr,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) queue: Sender<Train>,
    pub(crate) waker: Waker,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// A shard that is bound and not yet running.
pub(crate) struct Idle {
    pub(crate) socket: ServerSocket,
    pub(crate) service: Pattern,
    pub(crate) wakes: WakeReceiver,
    pub(crate) waker: Waker,
    queue: Sender<Train>,
}

impl Idle {
    pub(crate) fn bind(file: &MappedFile, addr: &str, segment_bytes: u16) -> io::Result<Self> {
        let segment_bytes = NonZeroU16::new(segment_bytes).unwrap();
        let socket = ServerSocket::bind(addr.parse().unwrap(), NonZeroUsize::MIN, segment_bytes)?.remove(0);
        let (waker, wakes) = waker();
        let (queue, receiver) = mpsc::channel();
        let service = Pattern {
            file: file.clone(),
            seen: Arc::default(),
            queue: receiver,
            waiting: None,
            timer: None,
            stop_after: None,
        };
        Ok(Self { socket, service, wakes, waker, queue })
    }

    pub(crate) fn start(self, sending: Sending) -> Shard {
        let Self { socket, mut service, wakes, waker, queue } = self;
        let (addr, seen) = (socket.local_addr(), Arc::clone(&service.seen));
        let thread = std::thread::spawn(move || run(sending, socket, &mut service, wakes));
        Shard { addr, seen, queue, waker, thread: Some(thread) }
    }
}

impl Shard {
    pub(crate) fn start(sending: Sending, file: &MappedFile) -> Self {
        let segment_bytes = SEGMENT_BYTES as u16;
        Idle::bind(file, "127.0.0.1:0", segment_bytes).expect("a port").start(sending)
    }

    /// Waits for the end of a shard that was told to stop; fails if it does not come.
    pub(crate) fn join(&mut self) {
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

/// A client that collects datagrams.
pub(crate) struct Client {
    pub(crate) socket: Arc<ClientSocket>,
    selector: Selector,
    buffer: ReceiveBuffer,
}

impl Client {
    pub(crate) fn connect(server: SocketAddr) -> Self {
        let socket = Arc::new(ClientSocket::connect(server).expect("a socket"));
        let mut selector = Selector::new().expect("a poller");
        selector.add(0, Arc::clone(&socket)).expect("watched");
        Self { socket, selector, buffer: ReceiveBuffer::new() }
    }

    /// The next `count` datagrams, sorted: the network may change their order.
    pub(crate) fn receive(&mut self, count: usize) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        let patience = Instant::now() + PATIENCE;
        while datagrams.len() < count {
            let left = patience.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} of {count} datagrams came", datagrams.len());
            self.selector.wait(Some(left), |_| {}).expect("waiting");
            self.socket.recv(&mut self.buffer, |datagram| datagrams.push(datagram.to_vec())).expect("receiving");
        }
        datagrams.sort();
        datagrams
    }

    /// Trains that its receive buffer holds all at once, whoever is given the CPU when; at least 1. The kernel counts about
    /// twice their bytes.
    pub(crate) fn trains_max(&self) -> usize {
        (self.socket.granted_receive_bytes() / (2 * TRAIN_BYTES_MAX)).max(1)
    }

    pub(crate) fn ask(&mut self, ask: &Ask) -> Vec<Vec<u8>> {
        self.socket.send(&ask.encode()).expect("sending");
        self.receive(ask.expected().len())
    }
}

pub(crate) fn sorted(mut datagrams: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
    datagrams.sort();
    datagrams
}
