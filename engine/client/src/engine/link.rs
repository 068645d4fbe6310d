//! The sockets of one source: a UDP socket, and a TCP connection while there is need of one.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use braidcast_io::{ClientSocket, ClientStream, ReceiveBuffer, Received, Selector};
use braidcast_transport::packet::packet_bytes;

use super::carrier::{Carrier, Way, Ways};
use crate::fetcher::SourceNo;
use crate::planner::SOURCES_MAX;

/// Datagrams of one length that are sent together at most; what kernels cut at a time is 64 or more.
const GATHERED_MAX: usize = 32;

/// One source's sockets. The selector knows both by its number.
pub(super) struct Link {
    number: SourceNo,
    udp: Arc<ClientSocket>,
    tcp: Option<Arc<ClientStream>>,
    carrier: Carrier,
    /// What is to leave over UDP together: datagrams of `gathered_bytes` each.
    gathered: Vec<u8>,
    gathered_bytes: usize,
    /// Messages that the UDP socket's full receive buffer had cost at the last look.
    drops: u32,
}

/// Source and way of a selector's key.
pub(super) fn of_key(key: usize) -> (SourceNo, Way) {
    let way = if key < SOURCES_MAX { Way::Udp } else { Way::Tcp };
    (SourceNo((key % SOURCES_MAX) as u8), way)
}

impl Link {
    pub(super) fn new(
        number: SourceNo,
        udp: ClientSocket,
        tcp_at_once: bool,
        selector: &mut Selector,
    ) -> io::Result<Self> {
        let udp = Arc::new(udp);
        selector.add(number.0.into(), Arc::clone(&udp))?;
        let carrier = Carrier::new(tcp_at_once);
        Ok(Self { number, udp, tcp: None, carrier, gathered: Vec::new(), gathered_bytes: 0, drops: 0 })
    }

    /// This end's address, by which networks are told apart.
    pub(super) fn here(&self) -> Option<IpAddr> {
        self.udp.local_addr().ok().map(|addr| addr.ip())
    }

    /// The server.
    pub(super) fn server(&self) -> std::net::SocketAddr {
        self.udp.server()
    }

    /// The ways that `datagram` goes; each is then to be sent on.
    pub(super) fn route(
        &mut self,
        now: Instant,
        datagram: &[u8],
        is_up: bool,
        selector: &mut Selector,
    ) -> impl Iterator<Item = Way> + use<> {
        let Ways { udp, tcp, afresh } = self.carrier.handle_transmit(now, datagram, is_up);
        if afresh {
            self.close_tcp(selector);
        }
        [(udp, Way::Udp), (tcp, Way::Tcp)].into_iter().filter(|(goes, _)| *goes).map(|(_, way)| way)
    }

    /// Sends on `way`: by a new connection if that is TCP and there is none; over UDP with the next [`Link::flush`], or
    /// before. A full buffer loses datagrams like a full router would; the fetcher finds out.
    pub(super) fn send(&mut self, way: Way, datagram: &[u8], selector: &mut Selector) -> io::Result<()> {
        match way {
            Way::Udp => {
                let goes_along = self.gathered_bytes == datagram.len();
                let flushed = if goes_along { Ok(()) } else { self.flush() };
                self.gathered_bytes = datagram.len();
                self.gathered.extend_from_slice(datagram);
                flushed?;
                if self.gathered.len() >= GATHERED_MAX * datagram.len() { self.flush() } else { Ok(()) }
            }
            Way::Tcp => unless_full(self.open_tcp(selector).and_then(|stream| stream.send(datagram))),
        }
    }

    /// Sends what was gathered, in one system call where the kernel can cut it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let sent = self.udp.send_many(&self.gathered, self.gathered_bytes);
        self.gathered.clear();
        unless_full(sent.map(drop))
    }

    /// Takes one batch in.
    pub(super) fn receive(
        &self,
        way: Way,
        buffer: &mut ReceiveBuffer,
        on_datagram: impl FnMut(&[u8]),
    ) -> io::Result<Received> {
        match (way, &self.tcp) {
            (Way::Udp, _) => self.udp.recv(buffer, on_datagram),
            (Way::Tcp, Some(stream)) => stream.recv(on_datagram),
            (Way::Tcp, None) => Ok(Received { datagrams: 0, would_block: true }),
        }
    }

    /// Whether the receive buffer has overflowed since the last call. A kernel that cannot tell says no.
    pub(super) fn poll_overflow(&mut self) -> bool {
        let Ok(drops) = self.udp.local_drops() else { return false };
        std::mem::replace(&mut self.drops, drops) != drops
    }

    /// When to call [`Link::handle_timeout`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.carrier.poll_timeout()
    }

    /// Lets time pass; TCP may join the race for the WELCOME that is awaited. `is_greeting`: one is.
    pub(super) fn handle_timeout(
        &mut self,
        now: Instant,
        is_greeting: bool,
        selector: &mut Selector,
    ) -> io::Result<()> {
        let Some(hello) = self.carrier.handle_timeout(now, is_greeting).map(<[u8]>::to_vec) else { return Ok(()) };
        tracing::debug!(server = %self.server(), "no answer over UDP yet: trying TCP, too");
        self.send(Way::Tcp, &hello, selector)
    }

    /// A session was opened by what came on `way`.
    pub(super) fn on_opened(&mut self, way: Way, selector: &mut Selector) {
        if self.carrier.on_opened(way) {
            self.close_tcp(selector);
        }
    }

    /// A socket has failed. Says whether the source has failed by that. `is_idle`: nothing is expected from it.
    pub(super) fn on_error(&mut self, now: Instant, way: Way, is_idle: bool, selector: &mut Selector) -> bool {
        if way == Way::Tcp {
            self.close_tcp(selector);
        }
        self.carrier.on_error(now, way, is_idle)
    }

    fn open_tcp(&mut self, selector: &mut Selector) -> io::Result<&ClientStream> {
        if self.tcp.is_none() {
            let stream = Arc::new(ClientStream::connect(self.server(), packet_bytes)?);
            selector.add(self.tcp_key(), Arc::clone(&stream))?;
            self.tcp = Some(stream);
        }
        self.tcp.as_deref().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn close_tcp(&mut self, selector: &mut Selector) {
        selector.remove(self.tcp_key());
        self.tcp = None;
    }

    fn tcp_key(&self) -> usize {
        SOURCES_MAX + usize::from(self.number.0)
    }
}

fn unless_full(sent: io::Result<()>) -> io::Result<()> {
    sent.or_else(|error| if error.kind() == io::ErrorKind::WouldBlock { Ok(()) } else { Err(error) })
}
