use braidcast_io::*;
use std::io;
use std::net::SocketAddr;
use std::num::*;
use std::sync::Arc;
use std::time::*;
struct S { file: MappedFile, next: u64, regions: usize, errors: u64, max: usize }
impl Service for S {
    fn handle_datagram(&mut self, _n: Instant, from: SocketAddr, _d: &[u8], out: &mut Outbox) {
        let mut t = Train::new(from);
        let n = 52 / self.regions;
        for _ in 0..self.regions {
            let len = 1232 * n;
            if self.next + len as u64 > self.file.len() as u64 { self.next = 0; }
            t.push_region(self.file.region(self.next, len).unwrap()).unwrap();
            self.next += len as u64;
        }
        t.push_tail(&[7; 100]).unwrap();
        out.push(t).unwrap();
        self.max = self.max.max(limits::TRAINS_MAX - out.room());
    }
    fn handle_wake(&mut self, _n: Instant, _o: &mut Outbox) {}
    fn handle_timeout(&mut self, _n: Instant, _o: &mut Outbox) {}
    fn poll_timeout(&self) -> Option<Instant> { None }
    fn on_send_error(&mut self, _to: SocketAddr, e: &io::Error) { self.errors += 1; eprintln!("{e}"); }
}
fn cpu() -> (f64, f64) {
    let s = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() / 100.0, f[12].parse::<f64>().unwrap() / 100.0)
}
fn main() {
    let args: Vec<String> = std::env::args().collect();
    let inflight: usize = args.get(1).map_or(8, |s| s.parse().unwrap());
    let regions: usize = args.get(2).map_or(1, |s| s.parse().unwrap());
    let mut f = tempfile::tempfile_in("/tmp").unwrap();
    io::Write::write_all(&mut f, &vec![9u8; 128 << 20]).unwrap();
    let file = MappedFile::new(&f).unwrap();
    file.populate(0, file.len()).unwrap();
    for round in 0..3 { let _ = round; for backend in [Backend::Uring, Backend::Portable] {
        let socket = ServerSocket::bind(([127, 0, 0, 1], 0).into(), NonZeroUsize::MIN, NonZeroU16::new(1232).unwrap()).unwrap().pop().unwrap();
        let server = socket.local_addr();
        let (waker, wakes) = waker();
        let file = file.clone();
        let h = std::thread::spawn(move || { let mut s = S { file, next: 0, regions, errors: 0, max: 0 }; run(backend, socket, &mut s, wakes).unwrap(); (s.errors, s.max, cpu()) });
        let client = Arc::new(ClientSocket::connect(server).unwrap());
        let mut sel = Selector::new().unwrap();
        sel.add(1, client.clone()).unwrap();
        let mut buf = ReceiveBuffer::new();
        let start = Instant::now();
        let (mut bytes, mut ends, mut batches, mut waits) = (0u64, 0u64, 0u64, 0u64);
        client.send_many(&vec![1; 112 * inflight], 112).unwrap();
        while start.elapsed() < Duration::from_secs(2) {
            let mut done = 0;
            let r = client.recv(&mut buf, |d| { bytes += d.len() as u64; if d.len() == 100 { done += 1; } }).unwrap();
            batches += 1;
            ends += done as u64;
            if done > 0 { client.send_many(&vec![1; 112 * done], 112).unwrap(); }
            if r.would_block && done == 0 { waits += 1; let mut any = false; sel.wait(Some(Duration::from_millis(1000)), |_| any = true).unwrap(); if !any { print!("!"); client.send_many(&vec![1; 112 * inflight], 112).unwrap(); } }
        }
        let s = start.elapsed().as_secs_f64();
        waker.stop();
        let (errors, max, c) = h.join().unwrap();
        println!("{backend}: {:.2} GB/s, {ends} trains, {batches} batches {waits} waits, drops {:?}, errors {errors} max {max} server cpu {c:?} s/GB {:.3} granted {}", bytes as f64 / s / 1e9, client.local_drops(), (c.0 + c.1) / (bytes as f64 / 1e9), client.granted_receive_bytes());
    } }
}
