//! The socket of a client: one per server.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use nix::sys::socket::{getsockopt, sockopt};
use quinn_udp::{Transmit, UdpSocketState};

use crate::limits::CLIENT_RECEIVE_BUFFER_BYTES;
use crate::receive::ReceiveBuffer;
use crate::server::ask_for_buffer;
use crate::sys;

/// A UDP socket connected to one server, from a random local port. It never blocks: wait with a [`crate::Selector`].
/// Datagrams that the kernel has coalesced (GRO) come in one piece and are cut here.
pub struct ClientSocket {
    udp: UdpSocket,
    state: UdpSocketState,
    server: SocketAddr,
    granted_receive_bytes: usize,
}

/// What one [`ClientSocket::recv`] brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Datagrams that the closure was called with.
    pub datagrams: usize,
    /// Nothing more is there: wait before the next call.
    pub would_block: bool,
}

impl ClientSocket {
    /// A socket that talks to `server` alone. No packet is sent by this.
    ///
    /// # Errors
    /// Names the server: no route to its network, no descriptor left.
    pub fn connect(server: SocketAddr) -> io::Result<Self> {
        Self::open(server)
            .map_err(|error| io::Error::new(error.kind(), format!("cannot open a UDP socket to {server}: {error}")))
    }

    fn open(server: SocketAddr) -> io::Result<Self> {
        let any: SocketAddr = match server {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let udp = UdpSocket::bind(any)?;
        udp.connect(server)?;
        // Sets non-blocking, IP_PMTUDISC_PROBE (DF) and UDP_GRO.
        let state = UdpSocketState::new((&udp).into())?;
        ask_for_buffer(&udp, sockopt::RcvBufForce, sockopt::RcvBuf, CLIENT_RECEIVE_BUFFER_BYTES)?;
        let granted_receive_bytes = getsockopt(&udp, sockopt::RcvBuf)?;
        Ok(Self { udp, state, server, granted_receive_bytes })
    }

    /// The server's address.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// This end's address.
    ///
    /// # Errors
    /// What the system says of the socket.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.udp.local_addr()
    }

    /// Size of the receive buffer as the kernel accounts for it: each message is charged with its bookkeeping, which for
    /// lone datagrams is nearly as much as their bytes. Not more than half of it should be in flight.
    pub fn granted_receive_bytes(&self) -> usize {
        self.granted_receive_bytes
    }

    /// Whether the kernel may coalesce datagrams (`UDP_GRO`).
    pub fn has_coalescing(&self) -> bool {
        self.state.gro_segments() > 1
    }

    /// How many messages this socket's full receive buffer has cost so far; a coalesced message counts once. What was
    /// lost here was not lost by the network.
    ///
    /// # Errors
    /// `ENOPROTOOPT`: the kernel is older than Linux 4.12 and cannot tell.
    pub fn local_drops(&self) -> io::Result<u32> {
        sys::receive_drops(&self.udp)
    }

    /// Takes one batch of messages and calls `on_datagram` with each datagram, in order of arrival.
    ///
    /// # Errors
    /// - `ConnectionRefused`: the server's host says that nothing listens on this port (ICMP). Anyone on the path may
    ///   have said so; it is reported once per ICMP message.
    /// - other errors that ICMP brings (`HostUnreachable`, `NetworkUnreachable`, `PermissionDenied`), and lack of memory.
    pub fn recv(&self, buffer: &mut ReceiveBuffer, mut on_datagram: impl FnMut(&[u8])) -> io::Result<Received> {
        let has_more = match buffer.fill(&self.udp, &self.state) {
            Ok(has_more) => has_more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) => return Err(error),
        };
        let mut datagrams = 0;
        while let Some((_, datagram)) = buffer.next_datagram() {
            on_datagram(datagram);
            datagrams += 1;
        }
        Ok(Received { datagrams, would_block: !has_more })
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// - `WouldBlock`: the send buffer is full. The datagram is as good as lost.
    /// - `ConnectionRefused` and others as with [`ClientSocket::recv`]: an earlier packet was refused, and this one not
    ///   sent.
    pub fn send(&self, datagram: &[u8]) -> io::Result<()> {
        self.udp.send(datagram).map(drop)
    }

    /// Sends `packets` as datagrams of `datagram_bytes` each, the last of which may be shorter; in one system call
    /// where the kernel can cut them. Returns how many were sent: fewer than all if the send buffer is full.
    ///
    /// # Errors
    /// As with [`ClientSocket::send`], if none was sent.
    ///
    /// # Panics
    /// If `datagram_bytes` is 0.
    pub fn send_many(&self, packets: &[u8], datagram_bytes: usize) -> io::Result<usize> {
        let count = packets.len().div_ceil(datagram_bytes);
        if (2..=self.state.max_gso_segments()).contains(&count) {
            let transmit = Transmit {
                destination: self.server,
                ecn: None,
                contents: packets,
                segment_size: Some(datagram_bytes),
                src_ip: None,
            };
            match self.state.try_send((&self.udp).into(), &transmit) {
                Ok(()) => return Ok(count),
                // quinn-udp has found that the route takes no segmentation, and will not try again.
                Err(_) if self.state.max_gso_segments() == 1 => {}
                Err(error) => return Err(error),
            }
        }
        for (sent, datagram) in packets.chunks(datagram_bytes).enumerate() {
            match self.send(datagram) {
                Ok(()) => {}
                Err(error) if sent == 0 => return Err(error),
                Err(_) => return Ok(sent),
            }
        }
        Ok(count)
    }

    pub(crate) fn udp(&self) -> &UdpSocket {
        &self.udp
    }
}

impl fmt::Debug for ClientSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientSocket").field("server", &self.server).finish_non_exhaustive()
    }
}
