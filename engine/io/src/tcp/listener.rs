//! Where a server takes TCP connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::{NonZeroU16, NonZeroUsize};

use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{PORT_TRIES, STREAM_BACKLOG};
use crate::server::ServerSocket;

/// A TCP port that connections are taken on.
#[derive(Debug)]
pub struct StreamListener {
    pub(super) tcp: TcpListener,
    local_addr: SocketAddr,
}

impl StreamListener {
    /// Listens on `addr`. An IPv6 wildcard takes no IPv4, as with [`ServerSocket::bind`].
    ///
    /// # Errors
    /// Names the address: already in use, not of this host, a port below 1,024 without the right to it.
    pub fn bind(addr: SocketAddr) -> io::Result<Self> {
        Self::open(addr).map_err(|error| io::Error::new(error.kind(), format!("cannot listen on TCP {addr}: {error}")))
    }

    fn open(addr: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        if addr.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // A server that starts anew is not kept out by the connections of its last run that still linger.
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(STREAM_BACKLOG)?;
        socket.set_nonblocking(true)?;
        let tcp = TcpListener::from(socket);
        let local_addr = tcp.local_addr()?;
        Ok(Self { tcp, local_addr })
    }

    /// Address and port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }
}

/// The UDP sockets of `shards` shards and a TCP listener on the same port of `addr`. Port 0 takes one that is free for
/// both.
///
/// # Errors
/// As [`ServerSocket::bind`] and [`StreamListener::bind`].
pub fn bind_pair(
    addr: SocketAddr,
    shards: NonZeroUsize,
    segment_bytes: NonZeroU16,
) -> io::Result<(Vec<ServerSocket>, StreamListener)> {
    let mut tries = PORT_TRIES;
    loop {
        let sockets = ServerSocket::bind(addr, shards, segment_bytes)?;
        tries -= 1;
        match StreamListener::bind(sockets[0].local_addr()) {
            Ok(listener) => return Ok((sockets, listener)),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && addr.port() == 0 && tries > 0 => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(addr: SocketAddr) -> io::Result<(Vec<ServerSocket>, StreamListener)> {
        bind_pair(addr, NonZeroUsize::MIN, NonZeroU16::MIN)
    }

    #[test]
    fn a_pair_shares_its_port() {
        let (sockets, listener) = pair("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(sockets[0].local_addr(), listener.local_addr());
        assert_ne!(listener.local_addr().port(), 0);
    }

    #[test]
    fn a_named_port_that_tcp_does_not_have_is_an_error_that_says_so() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = taken.local_addr().unwrap();
        let error = pair(addr).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        assert!(error.to_string().contains(&format!("TCP {addr}")), "{error}");
    }
}
