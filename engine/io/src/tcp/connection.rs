//! One client's connection to a server.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use polling::{Event, Poller};
use socket2::SockRef;

use super::PacketBytes;
use super::inbox::Inbox;
use crate::limits::{STREAM_INBOX_BYTES, STREAM_NOT_SENT_BYTES, STREAM_QUEUED_BYTES_MAX, STREAM_TRAINS_MAX};
use crate::sys::Watch;
use crate::train::{Part, Train};

/// A connection, its input, and the answers that wait on it.
pub(super) struct Connection {
    watch: Watch<TcpStream>,
    pub(super) peer: SocketAddr,
    pub(super) inbox: Inbox,
    queue: VecDeque<Train>,
    queued_bytes: usize,
    pub(super) is_admitted: bool,
    pub(super) accepted_at: Instant,
    /// When a byte went or came last.
    pub(super) moved_at: Instant,
}

/// Why an answer did not go out.
#[derive(Debug)]
pub(super) enum SendFault {
    /// Its file could not be read, and nothing of it was sent: the others may go on.
    Unread(io::Error),
    /// Its file could not be read to its end: the stream is out of step.
    Torn(io::Error),
    /// The connection has failed.
    Gone(io::Error),
}

impl Connection {
    pub(super) fn new(
        now: Instant,
        (stream, peer): (TcpStream, SocketAddr),
        (poller, key): (&Arc<Poller>, usize),
        packet_bytes: PacketBytes,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        SockRef::from(&stream).set_tcp_notsent_lowat(STREAM_NOT_SENT_BYTES)?;
        Ok(Self {
            watch: Watch::new(poller, stream, Event::readable(key))?,
            peer,
            inbox: Inbox::new(STREAM_INBOX_BYTES, packet_bytes),
            queue: VecDeque::new(),
            queued_bytes: 0,
            is_admitted: false,
            accepted_at: now,
            moved_at: now,
        })
    }

    /// Takes an answer; says whether there was room.
    pub(super) fn push(&mut self, train: Train) -> bool {
        if self.queued_bytes + train.bytes() > STREAM_QUEUED_BYTES_MAX {
            return false;
        }
        self.queued_bytes += train.bytes();
        self.queue.push_back(train);
        true
    }

    /// Whether answers wait.
    pub(super) fn has_queued(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether packets may be taken from it.
    pub(super) fn takes_packets(&self) -> bool {
        //= PROTOCOL T4: A server MUST NOT take a packet from a connection while more than one train waits to be sent on it.
        self.queue.len() <= STREAM_TRAINS_MAX
    }

    /// Reads once; says whether there was anything.
    pub(super) fn receive(&mut self, now: Instant) -> io::Result<bool> {
        match self.inbox.fill(self.watch.socket()) {
            Ok(_) => {
                self.moved_at = now;
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Sends what waits, until all is gone or the kernel takes no more. A train that fails is no longer in the queue.
    pub(super) fn send(&mut self, now: Instant) -> Result<(), SendFault> {
        while let Some(train) = self.queue.front_mut() {
            if train.sent_bytes == train.bytes() {
                self.queue.pop_front();
                continue;
            }
            match send_some(self.watch.socket(), train) {
                Ok(bytes) => {
                    train.sent_bytes += bytes;
                    self.queued_bytes -= bytes;
                    self.moved_at = now;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let left = train.bytes() - train.sent_bytes;
                    let fault = match error.raw_os_error().map(Errno::from_raw) {
                        Some(Errno::EFAULT | Errno::EIO) if train.sent_bytes == 0 => SendFault::Unread(error),
                        Some(Errno::EFAULT | Errno::EIO) => SendFault::Torn(error),
                        _ => SendFault::Gone(error),
                    };
                    self.queued_bytes -= left;
                    self.queue.pop_front();
                    return Err(fault);
                }
            }
        }
        Ok(())
    }

    /// Waits for what can be done next: input if it `reads` and packets may be taken, room while answers wait.
    pub(super) fn await_next(&mut self, reads: bool) -> io::Result<()> {
        let (reads, writes) = (reads && self.takes_packets(), self.has_queued());
        self.watch.set_interest(reads, writes)
    }
}

/// Sends some of what is left of `train`; `EFAULT` where its file ends too early.
fn send_some(mut stream: &TcpStream, train: &Train) -> io::Result<usize> {
    let mut at = train.sent_bytes;
    for part in train.parts() {
        let length = part.raw().1;
        if at >= length {
            at -= length;
            continue;
        }
        return match part {
            Part::Bytes(bytes) => stream.write(&bytes[at..]),
            Part::Region(region) => {
                let (file, start) = region.in_file();
                match rustix::fs::sendfile(stream, file, Some(&mut (start + at as u64)), length - at)? {
                    0 => Err(Errno::EFAULT.into()),
                    sent => Ok(sent),
                }
            }
        };
    }
    unreachable!("a train with bytes left has a part that holds them")
}
