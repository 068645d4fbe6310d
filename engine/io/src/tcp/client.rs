//! The TCP connection of a client to one server.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::PacketBytes;
use super::inbox::{Inbox, OutOfStep};
use crate::client::Received;
use crate::limits::{CLIENT_STREAM_INBOX_BYTES, CLIENT_STREAM_UNSENT_BYTES_MAX};

/// A TCP connection to one server that carries what a [`crate::ClientSocket`] would: packets, back to back. It never
/// blocks: wait with a [`crate::Selector`].
pub struct ClientStream {
    tcp: TcpStream,
    server: SocketAddr,
    state: Mutex<State>,
}

struct State {
    inbox: Inbox,
    /// Whole packets, or the rest of one, that the kernel has not taken.
    unsent: VecDeque<u8>,
}

impl ClientStream {
    /// Begins to connect to `server`, whose packets `packet_bytes` cuts. What is sent meanwhile waits; a connection that
    /// fails is an error of [`ClientStream::recv`].
    ///
    /// # Errors
    /// Names the server: no route to its network, no descriptor left.
    pub fn connect(server: SocketAddr, packet_bytes: PacketBytes) -> io::Result<Self> {
        let tcp = open(server).map_err(|error| {
            io::Error::new(error.kind(), format!("cannot open a TCP connection to {server}: {error}"))
        })?;
        let state = State { inbox: Inbox::new(CLIENT_STREAM_INBOX_BYTES, packet_bytes), unsent: VecDeque::new() };
        Ok(Self { tcp, server, state: Mutex::new(state) })
    }

    /// The server's address.
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// Sends one packet, or keeps it until the connection takes it.
    ///
    /// # Errors
    /// - `WouldBlock`: [`CLIENT_STREAM_UNSENT_BYTES_MAX`] bytes wait. The packet is as good as lost.
    /// - the connection has failed, as with [`ClientStream::recv`].
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        let mut state = self.lock();
        self.flush(&mut state.unsent)?;
        if state.unsent.len() + packet.len() > CLIENT_STREAM_UNSENT_BYTES_MAX {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.unsent.extend(packet);
        self.flush(&mut state.unsent)
    }

    /// Sends what waits, takes what has come, and calls `on_packet` with each whole packet.
    ///
    /// # Errors
    /// - `ConnectionRefused`: nothing listens on this port.
    /// - `UnexpectedEof`: the server has closed the connection.
    /// - `InvalidData`: what came is no packet.
    /// - other errors of TCP (`ConnectionReset`, `TimedOut`, `HostUnreachable`). After each the connection is of no use.
    pub fn recv(&self, mut on_packet: impl FnMut(&[u8])) -> io::Result<Received> {
        let mut state = self.lock();
        self.flush(&mut state.unsent)?;
        let has_more = match state.inbox.fill(&self.tcp) {
            Ok((_, has_more)) => has_more,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => true,
            Err(error) => return Err(error),
        };
        let mut datagrams = 0;
        loop {
            match state.inbox.next_packet() {
                Ok(Some(packet)) => on_packet(packet),
                Ok(None) => return Ok(Received { datagrams, would_block: !has_more }),
                Err(OutOfStep) => {
                    let text = format!("what {} sends over TCP is no packet of this version", self.server);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
            datagrams += 1;
        }
    }

    /// Whether packets wait for the connection to take them.
    pub fn has_unsent(&self) -> bool {
        !self.lock().unsent.is_empty()
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        &self.tcp
    }

    /// A connection that is still being made takes nothing, which is `WouldBlock`.
    fn flush(&self, unsent: &mut VecDeque<u8>) -> io::Result<()> {
        while !unsent.is_empty() {
            match (&self.tcp).write(unsent.as_slices().0) {
                Ok(bytes) => drop(unsent.drain(..bytes)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ClientStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientStream").field("server", &self.server).finish_non_exhaustive()
    }
}

fn open(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&server.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::EINPROGRESS as i32) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}
