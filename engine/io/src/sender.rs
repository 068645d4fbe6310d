//! Sending one train by system call, and what is to be done about a send that failed, however it was made.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::time::Instant;

use nix::errno::Errno;
use nix::libc;
use socket2::SockRef;

use crate::mapped::Region;
use crate::plain::PlainDestinations;
use crate::sys::{self, Segmentation};
use crate::train::Train;

/// The sending half of a shard's socket.
pub(crate) struct Sender {
    socket: Rc<UdpSocket>,
    segment_bytes: usize,
    has_segmentation: bool,
    plain: PlainDestinations,
}

/// What to do with a train whose send failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Send it again: at once, and packet by packet if it is marked so now.
    Again,
    /// Send it again when the socket is writable.
    AwaitWritable,
    /// Send it again a little later: a device's queue is full, and no event tells of room.
    Pause,
    /// Tell the service, and forget it.
    GiveUp,
}

impl Sender {
    pub(crate) fn new(socket: Rc<UdpSocket>, segment_bytes: u16, has_segmentation: bool) -> Self {
        let plain = PlainDestinations::default();
        Self { socket, segment_bytes: segment_bytes.into(), has_segmentation, plain }
    }

    /// The socket, for waiting until it is writable.
    pub(crate) fn socket(&self) -> &Rc<UdpSocket> {
        &self.socket
    }

    /// Whether `train` must be sent packet by packet.
    pub(crate) fn is_plain(&self, now: Instant, train: &Train) -> bool {
        train.plain || !self.has_segmentation || self.plain.contains(now, train.to().ip())
    }

    /// Sends the regions of `train` by reference, and takes them out of it: its tail is left.
    ///
    /// # Errors
    /// What the kernel says; `UnexpectedEof` if the file has become shorter. The region stays in the train.
    pub(crate) fn send_regions(&self, train: &mut Train) -> io::Result<()> {
        let to = train.to();
        train.take_regions(|region| send_region(&self.socket, to, region))
    }

    /// Sends `train`, or what is left of it.
    pub(crate) fn send(&self, now: Instant, train: &mut Train) -> io::Result<()> {
        if !self.is_plain(now, train) {
            let all = 0..train.bytes();
            return sys::send(&*self.socket, train, all, Segmentation::OfSocket);
        }
        // A train that went halfway packet by packet stays so, even if its destination's time is over meanwhile.
        train.plain = true;
        let segmentation = if self.has_segmentation { Segmentation::Off } else { Segmentation::OfSocket };
        while train.sent_bytes < train.bytes() {
            let end = train.bytes().min(train.sent_bytes + self.segment_bytes);
            sys::send(&*self.socket, train, train.sent_bytes..end, segmentation)?;
            train.sent_bytes = end;
        }
        Ok(())
    }

    /// Judges why `train` could not be sent, and remembers a destination that takes no trains.
    pub(crate) fn judge(&mut self, now: Instant, train: &mut Train, error: &io::Error) -> Remedy {
        match error.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EAGAIN) => Remedy::AwaitWritable,
            Some(Errno::ENOBUFS | Errno::ENOMEM) => Remedy::Pause,
            Some(Errno::EINTR) => Remedy::Again,
            // EIO: no checksum offload, or IPsec; EINVAL and EMSGSIZE: segments longer than the path's packets, or more
            // than the kernel cuts (net/ipv4/udp.c, udp_send_skb).
            Some(Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE) if !train.plain && self.has_segmentation => {
                train.plain = true;
                // A lone datagram to a forged address can fail likewise (port 0): that says nothing of the route.
                if train.bytes() > self.segment_bytes {
                    tracing::debug!(to = %train.to(), %error, "segmentation offload failed, sending single packets");
                    self.plain.insert(now, train.to().ip());
                }
                Remedy::Again
            }
            _ => Remedy::GiveUp,
        }
    }
}

/// Sends a region without copying it: packets refer to the pages of its file. An empty send that announces more names the
/// destination; `sendfile` appends to that and lets the train go (`MSG_MORE` in net/ipv4/udp.c).
pub(crate) fn send_region(socket: &UdpSocket, to: SocketAddr, region: &Region) -> io::Result<()> {
    let socket_ref = SockRef::from(socket);
    let to = to.into();
    socket_ref.send_to_with_flags(&[], &to, libc::MSG_MORE | libc::MSG_DONTWAIT)?;
    let (file, offset) = region.in_file();
    let sent = rustix::fs::sendfile(socket, file, Some(&mut { offset }), region.len());
    if sent == Ok(region.len()) {
        return Ok(());
    }
    // What was announced waits on the socket, and the next train would go where this one was to go: let it out.
    let _ = socket_ref.send_to_with_flags(&[], &to, libc::MSG_DONTWAIT);
    sent?;
    Err(io::ErrorKind::UnexpectedEof.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A train of `bytes` bytes that fails with `errno` twice; what is done about it, and whether others to its host are
    /// sent packet by packet afterwards.
    fn judge_twice(errno: Errno, bytes: usize) -> ([Remedy; 2], bool) {
        let socket = Rc::new(UdpSocket::bind("127.0.0.1:0").unwrap());
        let mut sender = Sender::new(socket, 100, true);
        let (now, to) = (Instant::now(), "192.0.2.1:7".parse().unwrap());
        let mut train = Train::datagram(to, &vec![0; bytes]).unwrap();
        let remedies = [(); 2].map(|()| sender.judge(now, &mut train, &errno.into()));
        (remedies, sender.is_plain(now, &Train::new(to)))
    }

    #[test]
    fn a_host_that_takes_no_train_gets_single_packets() {
        assert_eq!(judge_twice(Errno::EIO, 101), ([Remedy::Again, Remedy::GiveUp], true));
    }

    #[test]
    fn a_lone_datagram_that_fails_says_nothing_of_its_host() {
        assert_eq!(judge_twice(Errno::EINVAL, 100), ([Remedy::Again, Remedy::GiveUp], false));
    }

    #[test]
    fn a_full_buffer_says_nothing_of_the_host() {
        assert_eq!(judge_twice(Errno::EAGAIN, 101), ([Remedy::AwaitWritable; 2], false));
        assert_eq!(judge_twice(Errno::ENOBUFS, 101), ([Remedy::Pause; 2], false));
    }
}
