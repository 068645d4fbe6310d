//! Receiving in batches, with datagrams that the kernel has coalesced.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsFd;

use quinn_udp::{RecvMeta, UdpSocketState};

use crate::limits::{MESSAGE_BYTES_MAX, RECEIVE_BATCH};

/// Room for one batch of messages, each of which may hold many datagrams; one per thread serves all its sockets.
///
/// ```text
/// | message 0: datagram, datagram, ... | message 1: ... |    RECEIVE_BATCH x 64 KiB; pages never used cost nothing
/// ```
pub struct ReceiveBuffer {
    bytes: Box<[u8]>,
    messages: [RecvMeta; RECEIVE_BATCH],
    filled: usize,
    /// The next datagram: its message, and its offset therein.
    message: usize,
    offset: usize,
}

impl ReceiveBuffer {
    /// An empty buffer.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; RECEIVE_BATCH * MESSAGE_BYTES_MAX].into_boxed_slice(),
            messages: [RecvMeta::default(); RECEIVE_BATCH],
            filled: 0,
            message: 0,
            offset: 0,
        }
    }

    /// Takes one batch from `socket` in place of what was here, and says whether the socket has more to give.
    pub(crate) fn fill(&mut self, socket: &impl AsFd, state: &UdpSocketState) -> io::Result<bool> {
        self.filled = 0;
        self.message = 0;
        self.offset = 0;
        let mut rooms = self.bytes.chunks_exact_mut(MESSAGE_BYTES_MAX);
        let mut slices: [IoSliceMut<'_>; RECEIVE_BATCH] =
            std::array::from_fn(|_| IoSliceMut::new(rooms.next().unwrap_or_default()));
        self.filled = state.recv(socket.into(), &mut slices, &mut self.messages)?;
        Ok(self.filled == RECEIVE_BATCH)
    }

    /// Whether messages are left that [`ReceiveBuffer::next_datagram`] has not gone through.
    pub(crate) fn has_next(&self) -> bool {
        self.message < self.filled
    }

    /// The next datagram of the batch and its sender. Empty datagrams are passed over.
    pub(crate) fn next_datagram(&mut self) -> Option<(SocketAddr, &[u8])> {
        while self.has_next() {
            let meta = &self.messages[self.message];
            let base = self.message * MESSAGE_BYTES_MAX;
            let start = self.offset;
            //= PROTOCOL P2: A receiver MUST cut coalesced datagrams by the segment size that its kernel reports, never by what a packet claims.
            let end = meta.len.min(start + meta.stride.max(1));
            if end < meta.len {
                self.offset = end;
            } else {
                self.message += 1;
                self.offset = 0;
            }
            if start < end {
                return Some((meta.addr, &self.bytes[base + start..base + end]));
            }
        }
        None
    }
}

impl Default for ReceiveBuffer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ReceiveBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveBuffer").field("messages", &self.filled).finish_non_exhaustive()
    }
}
