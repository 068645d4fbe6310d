//! Client and server sockets, and waiting for several of them.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, UdpSocket};
use std::num::{NonZeroU16, NonZeroUsize};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::pattern::PATIENCE;
use braidcast_io::{ClientSocket, ReceiveBuffer, Selector, ServerSocket, Watched};

fn bind(addr: SocketAddr, shards: usize) -> io::Result<Vec<ServerSocket>> {
    ServerSocket::bind(addr, NonZeroUsize::new(shards).unwrap(), NonZeroU16::new(1_232).unwrap())
}

fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A plain socket in the place of a server.
fn peer() -> (UdpSocket, SocketAddr) {
    let peer = UdpSocket::bind(loopback()).unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let addr = peer.local_addr().unwrap();
    (peer, addr)
}

#[test]
fn a_refused_port_is_reported() {
    let (closed, addr) = peer();
    drop(closed);
    let client = Arc::new(ClientSocket::connect(addr).unwrap());
    let mut selector = Selector::new().unwrap();
    selector.add(3, Arc::clone(&client)).unwrap();
    client.send(b"anybody there?").unwrap();
    let mut ready = Vec::new();
    selector.wait(Some(PATIENCE), |key| ready.push(key)).unwrap();
    assert_eq!(ready, [3], "an error is something to be told of");
    let error = client.recv(&mut ReceiveBuffer::new(), |_| panic!("nothing was sent")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    let received = client.recv(&mut ReceiveBuffer::new(), |_| panic!("nothing was sent")).unwrap();
    assert!(received.would_block && received.datagrams == 0, "it is reported once");
}

#[test]
fn only_the_server_is_heard() {
    let (server, addr) = peer();
    let (stranger, _) = peer();
    let client = Arc::new(ClientSocket::connect(addr).unwrap());
    let mut selector = Selector::new().unwrap();
    selector.add(0, Arc::clone(&client)).unwrap();
    stranger.send_to(b"stranger", client.local_addr().unwrap()).unwrap();
    server.send_to(b"server", client.local_addr().unwrap()).unwrap();
    selector.wait(Some(PATIENCE), |_| {}).unwrap();
    let mut heard = Vec::new();
    client.recv(&mut ReceiveBuffer::new(), |datagram| heard.push(datagram.to_vec())).unwrap();
    assert_eq!(heard, [b"server"]);
}

#[test]
fn many_datagrams_leave_in_one_call_and_arrive_one_by_one() {
    let (server, addr) = peer();
    let client = ClientSocket::connect(addr).unwrap();
    let packets: Vec<u8> = (0..5 * 112 + 10).map(|n| (n % 251) as u8).collect();
    assert_eq!(client.send_many(&packets, 112).unwrap(), 6);
    assert_eq!(client.send_many(&packets[..112], 112).unwrap(), 1);
    assert_eq!(client.send_many(&[], 112).unwrap(), 0);
    let mut room = [0; 2_000];
    for expected in packets.chunks(112).chain([&packets[..112]]) {
        let bytes = server.recv(&mut room).unwrap();
        assert_eq!(&room[..bytes], expected);
    }
}

#[test]
fn more_datagrams_than_the_kernel_cuts_at_a_time_are_sent_all_the_same() {
    let (server, addr) = peer();
    let client = ClientSocket::connect(addr).unwrap();
    let packets: Vec<u8> = (0..200_u8).flat_map(|n| [n; 16]).collect();
    assert_eq!(client.send_many(&packets, 16).unwrap(), 200);
    let mut room = [0; 2_000];
    for n in 0..200 {
        let bytes = server.recv(&mut room).unwrap();
        assert_eq!(room[..bytes], [n; 16]);
    }
}

#[test]
fn an_empty_datagram_is_passed_over() {
    let (server, addr) = peer();
    let client = Arc::new(ClientSocket::connect(addr).unwrap());
    let mut selector = Selector::new().unwrap();
    selector.add(0, Arc::clone(&client)).unwrap();
    for datagram in [&b""[..], b"a", b"", b"b"] {
        server.send_to(datagram, client.local_addr().unwrap()).unwrap();
    }
    let (mut heard, mut counted) = (Vec::new(), 0);
    while heard.len() < 2 {
        selector.wait(Some(PATIENCE), |_| {}).unwrap();
        counted += client.recv(&mut ReceiveBuffer::new(), |datagram| heard.push(datagram.to_vec())).unwrap().datagrams;
    }
    assert_eq!(heard, [b"a", b"b"]);
    assert_eq!(counted, 2);
}

#[test]
fn what_a_full_receive_buffer_costs_is_counted() {
    const DATAGRAM_BYTES: usize = 1_200;
    let (server, addr) = peer();
    let client = ClientSocket::connect(addr).unwrap();
    let to = client.local_addr().unwrap();
    let granted = client.granted_receive_bytes();
    assert!(granted >= 65_536, "{granted} bytes are no buffer to work with");
    server.send_to(&[1; DATAGRAM_BYTES], to).unwrap();
    assert_eq!(client.local_drops().unwrap(), 0);
    let sent = 1 + granted / DATAGRAM_BYTES;
    for _ in 1..sent {
        server.send_to(&[1; DATAGRAM_BYTES], to).unwrap();
    }
    let (mut received, mut dropped) = (0, 0);
    let mut buffer = ReceiveBuffer::new();
    let patience = Instant::now() + PATIENCE;
    while received + dropped < sent {
        assert!(Instant::now() < patience, "{received} received and {dropped} dropped of {sent}");
        client.recv(&mut buffer, |_| received += 1).unwrap();
        dropped = client.local_drops().unwrap() as usize;
    }
    assert!(received > 0 && dropped > 0);
    assert_eq!(received + dropped, sent);
}

/// The keys of the sockets that have input now.
fn ready(selector: &mut Selector) -> Vec<usize> {
    let mut keys = Vec::new();
    selector.wait(Some(Duration::ZERO), |key| keys.push(key)).unwrap();
    keys.sort_unstable();
    keys
}

#[test]
fn a_selector_tells_which_sockets_have_input_until_it_is_taken() {
    let mut selector = Selector::new().unwrap();
    let mut ends: Vec<_> = (0..3)
        .map(|key| {
            let (server, addr) = peer();
            let client = Arc::new(ClientSocket::connect(addr).unwrap());
            selector.add(key, Arc::clone(&client)).unwrap();
            (server, client)
        })
        .collect();
    assert_eq!(ready(&mut selector), []);
    for (server, client) in &ends[1..] {
        server.send_to(b"x", client.local_addr().unwrap()).unwrap();
    }
    let patience = Instant::now() + PATIENCE;
    while ready(&mut selector) != [1, 2] {
        assert!(Instant::now() < patience, "both have input");
    }
    assert_eq!(ready(&mut selector), [1, 2], "as long as it is not taken");
    ends[1].1.recv(&mut ReceiveBuffer::new(), |_| {}).unwrap();
    assert_eq!(ready(&mut selector), [2]);

    assert_eq!(selector.add(2, Arc::clone(&ends[0].1)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(selector.add(7, Arc::clone(&ends[0].1)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let removed = selector.remove(2).expect("it was watched");
    assert!(matches!(&removed, Watched::Socket(socket) if Arc::ptr_eq(socket, &ends[2].1)));
    assert!(selector.remove(2).is_none());
    assert_eq!(ready(&mut selector), []);
    selector.add(2, removed).expect("a removed socket can be watched again");
    assert_eq!(ready(&mut selector), [2]);
    let (_, client) = ends.swap_remove(2);
    drop(selector);
    assert_eq!(Arc::strong_count(&client), 1, "nothing holds a socket after its selector");
}

#[test]
fn a_selector_is_woken_from_another_thread_and_by_a_wake_that_came_before() {
    let mut selector = Selector::new().unwrap();
    let waker = selector.waker();
    waker.wake();
    let start = Instant::now();
    selector.wait(Some(PATIENCE), |_| panic!("no socket")).unwrap();
    let thread = std::thread::spawn(move || waker.wake());
    selector.wait(Some(PATIENCE), |_| panic!("no socket")).unwrap();
    assert!(start.elapsed() < PATIENCE, "the waits ended by themselves");
    thread.join().unwrap();
}

#[test]
fn shards_share_one_port() {
    let sockets = bind(loopback(), 3).unwrap();
    let addr = sockets[0].local_addr();
    assert_ne!(addr.port(), 0);
    assert!(sockets.len() == 3 && sockets.iter().all(|socket| socket.local_addr() == addr));
    assert!(sockets.iter().all(ServerSocket::has_segmentation));
}

#[test]
fn a_port_in_use_is_an_error_that_names_it_and_never_shared() {
    for (held, asked) in [(1, 1), (1, 3), (3, 1), (3, 3)] {
        let holder = bind(loopback(), held).unwrap();
        let addr = holder[0].local_addr();
        let error = bind(addr, asked).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{held} sockets held, {asked} asked for");
        assert!(error.to_string().contains(&addr.to_string()), "{error}");
        drop(holder);
        bind(addr, asked).expect("free again");
    }
}
