//! Sends through io_uring: a whole outbox is started, and as a rule ended, by one system call.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;

use io_uring::{IoUring, cqueue, opcode, types};
use nix::errno::Errno;
use nix::libc;

use super::Message;
use crate::limits::{NOTIFICATIONS_MAX, TRAINS_MAX};
use crate::train::Train;

/// A train and how its send ended.
pub(crate) type Sent = (Train, io::Result<()>);

/// What the kernel says of a zero-copy send when it no longer needs the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notification {
    /// The network card, or whoever received it, read the memory itself.
    ZeroCopy,
    /// The kernel copied it after all, as it does wherever packets stay within the host.
    Copied,
}

/// Places of trains: those of one pass, and those whose memory the kernel still reads.
const PLACES: usize = TRAINS_MAX + NOTIFICATIONS_MAX;
/// Asks for [`Notification`]s to tell what happened (`linux/io_uring.h`: IORING_SEND_ZC_REPORT_USAGE).
const REPORT_USAGE: u16 = 1 << 3;
/// The answer (`linux/io_uring.h`: IORING_NOTIF_USAGE_ZC_COPIED).
const USAGE_COPIED: u32 = 1 << 31;

/// A ring for one socket, used by one thread.
///
/// The socket is non-blocking (receiving needs it), so the kernel ends every send while it is being submitted, with
/// `EAGAIN` if the buffer is full: waiting for the sends of one pass costs nothing, and keeps them bounded. Only the
/// notifications of zero-copy sends come later; their trains, and the regions that these pin, stay in their places.
pub(crate) struct SendRing {
    // Dropped before the places.
    ring: IoUring,
    socket: Rc<UdpSocket>,
    zero_copy: bool,
    places: Box<[Place]>,
    /// Places without a train.
    free: Vec<u16>,
    /// Sends that were begun and whose end has not been taken.
    begun: usize,
}

/// What the kernel reads of one send.
struct Place {
    train: Option<Train>,
    message: Message,
    /// The send has failed, and only its notification is awaited.
    has_failed: bool,
}

impl SendRing {
    /// A ring that sends through `socket`, which must be non-blocking; `zero_copy` has the network card read the trains'
    /// memory itself where it can.
    ///
    /// # Errors
    /// What `io_uring_setup` says.
    pub(crate) fn new(socket: Rc<UdpSocket>, zero_copy: bool) -> io::Result<Self> {
        let places = (0..PLACES).map(|_| Place { train: None, message: Message::new(), has_failed: false });
        // Each send has an entry on submission, and two on completion if it is a zero-copy one.
        let ring = IoUring::builder().setup_cqsize(2 * PLACES.next_power_of_two() as u32).build(TRAINS_MAX as u32)?;
        let free = (0..PLACES as u16).rev().collect();
        Ok(Self { ring, socket, zero_copy, places: places.collect(), free, begun: 0 })
    }

    /// The ring's descriptor, readable when there are completions.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the ring's own, and open as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }

    /// Whether sends leave their memory where it is, and end with a notification.
    pub(crate) fn is_zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// Whether a train can be begun.
    pub(crate) fn has_room(&self) -> bool {
        self.begun < TRAINS_MAX && !self.free.is_empty()
    }

    /// Whether the kernel still reads the memory of trains whose sends have ended.
    pub(crate) fn awaits_notifications(&self) -> bool {
        self.free.len() + self.begun < PLACES
    }

    /// Begins to send `train`, without a system call. It stays here until [`SendRing::finish`] gives it back.
    ///
    /// # Panics
    /// Without room.
    pub(crate) fn begin(&mut self, train: Train) {
        assert!(self.begun < TRAINS_MAX, "a whole outbox is the most that is begun");
        let number = self.free.pop().expect("there is room");
        let place = &mut self.places[usize::from(number)];
        let train = place.train.insert(train);
        place.message.fill(train, 0..train.bytes());
        let socket = types::Fd(self.socket.as_raw_fd());
        let message = place.message.header();
        // Places are kept for trains that need no notification: what others read slowly delays nobody else.
        let has_spare = self.free.len() >= TRAINS_MAX;
        let entry = if self.zero_copy && has_spare && !train.copied && train.regions().next().is_some() {
            opcode::SendMsgZc::new(socket, message).ioprio(REPORT_USAGE).flags(libc::MSG_DONTWAIT as u32).build()
        } else {
            opcode::SendMsg::new(socket, message).flags(libc::MSG_DONTWAIT as u32).build()
        };
        // SAFETY: the kernel reads the header, and the memory that its pointers and lengths name, until the send has ended
        // and, where it copies nothing, until its notification has come. All of it outlives that:
        // - The header, the name and the vector stand in a place of a boxed slice, which is neither moved nor written to
        //   while its train is in it; the tail stands in that train, and the regions pin their maps.
        // - `finish` empties a place only when the send has ended, or with its notification if one was announced.
        // - Once the ring is dropped, before the places (the order of the fields), nothing begins any more. What a network
        //   card still reads then are pages that the kernel holds itself, not these addresses.
        // The kernel writes through none of these pointers.
        let pushed = unsafe { self.ring.submission().push(&entry.user_data(number.into())) };
        pushed.expect("the queue has an entry for each train of an outbox");
        self.begun += 1;
    }

    /// Submits all sends that were begun, waits until they have ended, and appends how to `sent`. Notifications that have
    /// come meanwhile are handed to `on_notification`.
    ///
    /// # Errors
    /// The kernel takes nothing from the ring any more.
    pub(crate) fn finish(
        &mut self,
        sent: &mut Vec<Sent>,
        mut on_notification: impl FnMut(Notification),
    ) -> io::Result<()> {
        while self.begun > 0 {
            match self.ring.submit_and_wait(self.begun) {
                Ok(_) => {}
                Err(error) => match error.raw_os_error().map(Errno::from_raw) {
                    // A signal; completions that must be taken first; memory that is short for a moment.
                    Some(Errno::EINTR | Errno::EBUSY) => {}
                    Some(Errno::EAGAIN) => std::thread::yield_now(),
                    _ => return Err(error),
                },
            }
            self.reap(sent, &mut on_notification);
        }
        Ok(())
    }

    /// Takes what has completed, without a system call.
    pub(crate) fn reap(&mut self, sent: &mut Vec<Sent>, mut on_notification: impl FnMut(Notification)) {
        for entry in self.ring.completion() {
            let number = entry.user_data() as u16;
            let place = &mut self.places[usize::from(number)];
            if cqueue::notif(entry.flags()) {
                let is_copied = entry.result() as u32 & USAGE_COPIED != 0;
                if !std::mem::take(&mut place.has_failed) {
                    on_notification(if is_copied { Notification::Copied } else { Notification::ZeroCopy });
                }
                place.train = None;
                self.free.push(number);
                continue;
            }
            self.begun -= 1;
            let result = match entry.result() {
                error @ ..0 => Err(Errno::from_raw(-error).into()),
                _ => Ok(()),
            };
            let train = if cqueue::more(entry.flags()) {
                // Its memory stays where it is until the notification.
                place.has_failed = result.is_err();
                place.train.clone()
            } else {
                self.free.push(number);
                place.train.take()
            };
            sent.extend(train.map(|train| (train, result)));
        }
    }
}

/// Sends nothing through a new ring, to see whether it works.
///
/// # Errors
/// What `io_uring_enter` says, or the operation.
pub(crate) fn complete_nothing(ring: &mut IoUring) -> io::Result<()> {
    // SAFETY: the operation names no memory.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    match ring.completion().next().map(|entry| entry.result()) {
        Some(0..) => Ok(()),
        Some(error) => Err(Errno::from_raw(-error).into()),
        None => Err(io::ErrorKind::TimedOut.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_train_costs_the_ring_no_allocation() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_nonblocking(true).unwrap();
        let to = socket.local_addr().unwrap();
        let Ok(mut ring) = SendRing::new(Rc::new(socket), false) else {
            return println!("skipped: no io_uring here");
        };
        let mut sent = Vec::with_capacity(TRAINS_MAX);
        let mut round = || {
            while ring.has_room() {
                ring.begin(Train::datagram(to, b"to nobody").unwrap());
            }
            ring.finish(&mut sent, |_| ()).unwrap();
            assert_eq!(sent.len(), TRAINS_MAX);
            assert!(sent.drain(..).all(|(_, result)| result.is_ok()));
        };
        round();
        assert_eq!(allocation_counter::measure(round).count_total, 0);
    }
}
