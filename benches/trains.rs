//! Bytes per second through the kernel, from a pack's map to a client's datagrams: trains of several lengths through
//! io_uring and by system calls, nothing opened. Both ends are threads of this process.
#![allow(missing_docs, reason = "criterion's macros make public items")]

use std::io::{self, Write};
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use braidcast_io::{
    Backend, Capabilities, ClientSocket, MappedFile, Outbox, ReceiveBuffer, Selector, Sending, ServerSocket, Service,
    Train, Waker, ZeroCopy, run, waker,
};
use braidcast_media::layout::{CHUNK_BYTES, PACKET_BYTES};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Trains asked for before one is awaited, as a client does.
const IN_FLIGHT: usize = 8;
/// What each train ends with, as long as END.
const END: [u8; 64] = [b'e'; 64];
/// Trains of one measurement.
const TRAINS: usize = 256;
/// A file of 8 MiB stays in the processor's cache no better than a film does.
const FILE_CHUNKS: usize = 8 << 20 >> 10;
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers each datagram with the train that it names by its first chunk and its length.
struct Answers(MappedFile);

impl Service for Answers {
    fn handle_datagram(&mut self, _now: Instant, from: SocketAddr, datagram: &[u8], out: &mut Outbox) {
        let [first, chunks] = [0, 8].map(|at| datagram[at..at + 8].try_into().map_or(0, u64::from_be_bytes));
        let mut train = Train::new(from);
        let region = self.0.region(first * PACKET_BYTES as u64, chunks as usize * PACKET_BYTES);
        train.push_region(region.expect("within the file")).expect("no longer than a train");
        train.push_tail(&END).expect("no longer than a tail");
        out.push(train).expect("room at each call");
    }

    fn handle_wake(&mut self, _now: Instant, _out: &mut Outbox) {}
    fn handle_timeout(&mut self, _now: Instant, _out: &mut Outbox) {}
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn on_send_error(&mut self, _to: SocketAddr, error: &io::Error) {
        panic!("loopback takes every train: {error}");
    }
}

/// A server's thread, and a client's socket.
struct Ends {
    waker: Waker,
    shard: Option<JoinHandle<io::Result<()>>>,
    socket: Arc<ClientSocket>,
    selector: Selector,
    buffer: ReceiveBuffer,
}

impl Ends {
    fn start(sending: Sending) -> Self {
        let mut file = tempfile::tempfile().expect("a temporary file");
        file.write_all(&vec![0x5a; FILE_CHUNKS * PACKET_BYTES]).expect("room on the disk");
        let mut answers = Answers(MappedFile::new(file).expect("a map"));
        answers.0.populate(0, answers.0.len()).expect("read in");
        let segment_bytes = NonZeroU16::new(PACKET_BYTES as u16).expect("not empty");
        let address = ([127, 0, 0, 1], 0).into();
        let mut sockets = ServerSocket::bind(address, NonZeroUsize::MIN, segment_bytes).expect("a free port");
        let socket = sockets.pop().expect("one was asked for");
        let server = socket.local_addr();
        let (waker, wakes) = waker();
        let shard = std::thread::spawn(move || run(sending, socket, &mut answers, wakes));
        let socket = Arc::new(ClientSocket::connect(server).expect("loopback"));
        let mut selector = Selector::new().expect("a descriptor");
        selector.add(0, Arc::clone(&socket)).expect("watched once");
        Self { waker, shard: Some(shard), socket, selector, buffer: ReceiveBuffer::new() }
    }

    /// Asks for trains of so many chunks, and takes them in.
    fn fetch(&mut self, chunks: usize) {
        let (mut asked, mut ended) = (0, 0);
        while ended < TRAINS {
            while asked < TRAINS && asked - ended < IN_FLIGHT {
                let first = asked * chunks % (FILE_CHUNKS - chunks);
                let request = [first as u64, chunks as u64].map(u64::to_be_bytes).concat();
                self.socket.send(&request).expect("room in the send buffer");
                asked += 1;
            }
            self.selector.wait(Some(PATIENCE), |_| {}).expect("it can be waited for");
            let before = ended;
            while !self
                .socket
                .recv(&mut self.buffer, |datagram| ended += usize::from(datagram.len() == END.len()))
                .expect("nothing is refused")
                .would_block
            {}
            assert!(ended > before || self.socket.local_drops().unwrap_or_default() == 0, "the receive buffer is full");
        }
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        self.waker.stop();
        self.shard.take().map(JoinHandle::join);
    }
}

fn trains(c: &mut Criterion) {
    let capabilities = Capabilities::probe().expect("a socket");
    let mut backends = vec![Backend::Portable];
    match capabilities.uring {
        Ok(()) => backends.push(Backend::Uring),
        Err(reason) => println!("uring: skipped: {reason}"),
    }
    let mut zero_copies = vec![ZeroCopy::Off];
    if capabilities.sendfile {
        zero_copies.push(ZeroCopy::Sendfile);
    } else {
        println!("sendfile: skipped: this kernel does not cut trains that come from files");
    }
    let sendings = backends
        .into_iter()
        .flat_map(|backend| zero_copies.iter().map(move |&zero_copy| Sending { backend, zero_copy }));
    for sending in sendings {
        let mut group = c.benchmark_group(format!("trains, {sending}"));
        for chunks in [1, 4, 16, 52] {
            let mut ends = Ends::start(sending);
            group.throughput(Throughput::Bytes((TRAINS * chunks * CHUNK_BYTES) as u64));
            group.bench_function(BenchmarkId::new("chunks", chunks), |b| b.iter(|| ends.fetch(chunks)));
        }
        group.finish();
    }
}

criterion_group!(benches, trains);
criterion_main!(benches);
