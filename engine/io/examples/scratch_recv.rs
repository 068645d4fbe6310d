use braidcast_io::*;
use std::{io, net::*, num::*, time::*, rc::Rc, cell::Cell};
struct S(u64);
impl Service for S {
    fn handle_datagram(&mut self, _n: Instant, _f: SocketAddr, d: &[u8], _o: &mut Outbox) { self.0 += (d.len() == 112) as u64; }
    fn handle_wake(&mut self, _n: Instant, _o: &mut Outbox) {}
    fn handle_timeout(&mut self, _n: Instant, _o: &mut Outbox) {}
    fn poll_timeout(&self) -> Option<Instant> { None }
    fn on_send_error(&mut self, _t: SocketAddr, _e: &io::Error) {}
}
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    s.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9
}
fn blast(to: SocketAddr, pause: bool) -> u64 {
    let c = UdpSocket::bind("127.0.0.1:0").unwrap(); c.connect(to).unwrap();
    let start = Instant::now(); let mut n = 0;
    while start.elapsed() < Duration::from_secs(2) { for _ in 0..8 { let _ = c.send(&[5; 112]); n += 1; } if pause { std::thread::sleep(Duration::from_micros(50)); } }
    n
}
fn main() {
    for _ in 0..3 { for pause in [true, false] {
        for backend in [Backend::Uring, Backend::Portable] {
            let socket = ServerSocket::bind(([127,0,0,1],0).into(), NonZeroUsize::MIN, NonZeroU16::new(1232).unwrap()).unwrap().pop().unwrap();
            let to = socket.local_addr(); let (waker, wakes) = waker();
            let h = std::thread::spawn(move || { let mut s = S(0); run(backend, socket, &mut s, wakes).unwrap(); (s.0, cpu()) });
            let sent = blast(to, pause); std::thread::sleep(Duration::from_millis(50)); waker.stop();
            let (got, c) = h.join().unwrap();
            println!("pause {pause} readiness+recvmmsg {backend}: sent {sent} got {got} {:.0} ns each", c / got as f64 * 1e9);
        }
        let u = UdpSocket::bind("127.0.0.1:0").unwrap(); let to = u.local_addr().unwrap();
        let h = std::thread::spawn(move || tokio_uring::start(async move {
            let s = Rc::new(tokio_uring::net::UdpSocket::from_std(u)); let got = Rc::new(Cell::new(0u64));
            for _ in 0..16 { let s = s.clone(); let got = got.clone(); tokio_uring::spawn(async move { let mut b = vec![0u8; 1500]; loop { let (r, b2) = s.recv_from(b).await; b = b2; if r.is_ok() { got.set(got.get() + 1); } } }); }
            tokio::time::sleep(Duration::from_millis(2050)).await; (got.get(), cpu()) }));
        let sent = blast(to, pause); let (got, c) = h.join().unwrap();
        println!("pause {pause} 16 recv_from in flight: sent {sent} got {got} {:.0} ns each", c / got as f64 * 1e9);
    } }
}
