//! The loop that drives a service, with io_uring or without.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Instant;

use nix::errno::Errno;
use quinn_udp::UdpSocketState;
use tokio::io::Interest;

use crate::capabilities::{Backend, ZeroCopy};
use crate::limits::{DRAIN_MAX, RETRY_AFTER, TRAINS_MAX};
use crate::outbox::Outbox;
use crate::receive::ReceiveBuffer;
use crate::sender::{Remedy, Sender};
use crate::server::ServerSocket;
use crate::service::Service;
use crate::sys::Registered;
use crate::sys::ring::{SendRing, Sent};
use crate::tails::Tails;
use crate::train::Train;
use crate::wake::WakeReceiver;

/// Drives `service` on this thread until [`crate::Waker::stop`], as the crate's documentation describes.
///
/// # Errors
/// The runtime cannot be made: no descriptor is left, or io_uring is not permitted (ask [`crate::choose`] first).
/// Errors of the network never end the loop.
///
/// # Panics
/// Within another tokio runtime.
pub fn run<S: Service>(sending: Sending, socket: ServerSocket, service: &mut S, wake: WakeReceiver) -> io::Result<()> {
    let is_notified = sending.zero_copy == ZeroCopy::Notified;
    let ring = match sending.backend {
        Backend::Uring => Some(SendRing::new(Rc::new(socket.udp.try_clone()?), is_notified)?),
        Backend::Portable => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let by_reference = sending.zero_copy == ZeroCopy::Sendfile;
    runtime.block_on(async { Shard::new(socket, service, wake, ring, by_reference)?.drive().await })
}

/// How a shard sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sending {
    /// Through a ring or not.
    pub backend: Backend,
    /// Whether the kernel copies what it sends.
    pub zero_copy: ZeroCopy,
}

impl fmt::Display for Sending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let zero_copy = match self.zero_copy {
            ZeroCopy::Off => "",
            ZeroCopy::Sendfile => ", sendfile",
            ZeroCopy::Notified => ", zero copy",
        };
        write!(f, "{}{zero_copy}", self.backend)
    }
}

struct Shard<'a, S> {
    service: &'a mut S,
    wake: WakeReceiver,
    outbox: Outbox,
    /// The last wake may have left work behind, for want of room.
    wake_again: bool,
    /// The last call to fill the outbox may have left work behind, for want of room.
    fill_again: bool,
    /// Set once the shard is to end.
    stop_by: Option<Instant>,

    inbound: Registered,
    inbound_state: UdpSocketState,
    inbox: ReceiveBuffer,
    input: Input,

    sender: Sender,
    hold: Option<Hold>,
    ring: Option<SendRing>,
    /// Wakes when the ring has completions; used only for notifications, whose sends have ended long ago.
    notifications: Option<Registered<OwnedFd>>,
    sent: Vec<Sent>,
    /// Long regions are sent by `sendfile`.
    by_reference: bool,
    /// Of trains that were sent so; empty but while trains are handed over.
    tails: Tails,
}

/// What is known of the socket's input.
enum Input {
    /// There may be some.
    Ready,
    /// There was none.
    Awaited,
    /// Receiving failed.
    PausedUntil(Instant),
}

/// Why nothing is sent at present.
enum Hold {
    /// The socket's buffer is full. Registered only while it is: the kernel would report every packet that leaves.
    Writable(Registered),
    /// A device's queue is full.
    Until(Instant),
}

impl<'a, S: Service> Shard<'a, S> {
    fn new(
        socket: ServerSocket,
        service: &'a mut S,
        wake: WakeReceiver,
        ring: Option<SendRing>,
        by_reference: bool,
    ) -> io::Result<Self> {
        // A descriptor of its own, because epoll tells registrations apart by it.
        let outbound = Rc::new(socket.udp.try_clone()?);
        let notifications = match ring.as_ref().filter(|ring| ring.is_zero_copy()) {
            Some(ring) => Some(Registered::new(ring.fd().try_clone_to_owned()?, Interest::READABLE)?),
            None => None,
        };
        Ok(Self {
            service,
            wake,
            outbox: Outbox::new(),
            wake_again: false,
            fill_again: false,
            stop_by: None,
            sender: Sender::new(outbound, socket.segment_bytes.get(), socket.has_segmentation()),
            inbound: Registered::new(Rc::new(socket.udp), Interest::READABLE)?,
            inbound_state: socket.state,
            inbox: ReceiveBuffer::new(),
            input: Input::Ready,
            hold: None,
            ring,
            notifications,
            sent: Vec::with_capacity(TRAINS_MAX),
            by_reference,
            tails: Tails::new(),
        })
    }

    async fn drive(mut self) -> io::Result<()> {
        loop {
            let now = Instant::now();
            if self.stop_by.is_none() && self.wake.is_stopped() {
                self.stop_by = Some(now + DRAIN_MAX);
            }
            match self.stop_by {
                Some(stop_by) if self.outbox.is_empty() || stop_by <= now => return Ok(()),
                Some(_) => {}
                None => self.take_in(now),
            }
            self.hand_over(now)?;
            if self.is_idle() {
                self.wait().await?;
            }
        }
    }

    fn take_in(&mut self, now: Instant) {
        if self.has_room() && self.service.poll_timeout().is_some_and(|due| due <= now) {
            self.service.handle_timeout(now, &mut self.outbox);
        }
        if self.has_room() && (self.wake.take() || self.wake_again) {
            self.service.handle_wake(now, &mut self.outbox);
            self.wake_again = !self.has_room();
        }
        if self.takes_datagrams() && !self.inbox.has_next() {
            self.receive(now);
        }
        while self.takes_datagrams()
            && let Some((from, datagram)) = self.inbox.next_datagram()
        {
            self.service.handle_datagram(now, from, datagram, &mut self.outbox);
        }
        if self.has_room() {
            self.service.fill(now, &mut self.outbox);
        }
        self.fill_again = !self.has_room();
    }

    fn receive(&mut self, now: Instant) {
        match self.input {
            Input::Ready => {}
            Input::PausedUntil(end) if end <= now => {}
            Input::Awaited | Input::PausedUntil(_) => return,
        }
        let (inbox, state) = (&mut self.inbox, &self.inbound_state);
        self.input = match self.inbound.try_read(|udp| inbox.fill(udp, state)) {
            Ok(_) => Input::Ready,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Input::Awaited,
            Err(error) => {
                // An ICMP message about some earlier packet, or memory is short: neither ends a server.
                tracing::debug!(%error, "receiving failed");
                Input::PausedUntil(now + RETRY_AFTER)
            }
        };
    }

    fn hand_over(&mut self, now: Instant) -> io::Result<()> {
        self.take_notifications();
        if let Some(Hold::Until(end)) = self.hold
            && end <= now
        {
            self.hold = None;
        }
        while self.hold.is_none()
            && self.ring.as_ref().is_none_or(SendRing::has_room)
            && let Some(mut train) = self.outbox.pop()
        {
            if self.by_reference && !train.copied && train.has_long_regions() && !self.sender.is_plain(now, &train) {
                match self.sender.send_regions(&mut train) {
                    Ok(()) => {
                        self.send_tail_with_others(now, &train);
                        continue;
                    }
                    Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                        self.settle(now, train, Err(error));
                        continue;
                    }
                    // A file that was cut, a broken disk, a route that takes no trains: a copy finds out which.
                    Err(_) => train.copied = true,
                }
            }
            match &mut self.ring {
                _ if train.bytes() == 0 => {}
                Some(ring) if !self.sender.is_plain(now, &train) => ring.begin(train),
                _ => {
                    let result = self.sender.send(now, &mut train);
                    self.settle(now, train, result);
                }
            }
        }
        self.send_tails(now);
        if let Some(ring) = &mut self.ring {
            ring.finish(&mut self.sent, |notification| self.service.on_notification(notification))?;
            // Those to be sent again go back in front, so the last comes first.
            while let Some((train, result)) = self.sent.pop() {
                self.settle(now, train, result);
            }
        }
        Ok(())
    }

    /// Has what is left of a train leave with others, before anything is awaited.
    fn send_tail_with_others(&mut self, now: Instant, train: &Train) {
        if train.tail().is_empty() {
            return;
        }
        if !self.tails.takes(train) {
            self.send_tails(now);
        }
        self.tails.push(train);
    }

    fn send_tails(&mut self, now: Instant) {
        let Err((error, unsent)) = self.tails.send(self.sender.socket(), &self.inbound_state) else { return };
        // Those to be sent again go back in front, so the last comes first.
        for train in unsent.into_iter().rev() {
            let error = error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error);
            self.settle(now, train, Err(error));
        }
    }

    /// Gives memory free that network cards have read.
    fn take_notifications(&mut self) {
        if let Some(ring) = self.ring.as_mut().filter(|ring| ring.awaits_notifications()) {
            ring.reap(&mut self.sent, |notification| self.service.on_notification(notification));
        }
    }

    fn settle(&mut self, now: Instant, mut train: Train, result: io::Result<()>) {
        let Err(error) = result else {
            return;
        };
        let errno = error.raw_os_error().map(Errno::from_raw);
        // It lies in more pages than one packet of the kernel can refer to, more memory is locked than may be, or the
        // kernel is older than Linux 6.2.
        let wants_copy = matches!(errno, Some(Errno::EMSGSIZE | Errno::ENOMEM | Errno::EINVAL | Errno::EOPNOTSUPP));
        if wants_copy && !train.copied && self.notifications.is_some() {
            train.copied = true;
            return self.outbox.put_back(train);
        }
        match self.sender.judge(now, &mut train, &error) {
            Remedy::GiveUp => {
                self.service.on_send_error(train.to(), &error);
                return;
            }
            Remedy::Again => {}
            Remedy::Pause => self.hold = Some(Hold::Until(now + RETRY_AFTER)),
            Remedy::AwaitWritable if matches!(self.hold, Some(Hold::Writable(_))) => {}
            Remedy::AwaitWritable => {
                // Registering reports a socket that has become writable meanwhile, so no event is lost.
                let registered = Registered::new(Rc::clone(self.sender.socket()), Interest::WRITABLE);
                self.hold = Some(registered.map_or(Hold::Until(now + RETRY_AFTER), Hold::Writable));
            }
        }
        self.outbox.put_back(train);
    }

    /// Whether only an event from outside can bring work.
    fn is_idle(&self) -> bool {
        let has_place = self.ring.as_ref().is_none_or(SendRing::has_room);
        let can_send = self.hold.is_none() && has_place && !self.outbox.is_empty();
        let input = self.takes_datagrams() && (self.inbox.has_next() || matches!(self.input, Input::Ready));
        let again = self.has_room() && (self.wake.is_woken() || self.wake_again || self.fill_again);
        let can_take = self.stop_by.is_none() && (input || again);
        !can_send && !can_take
    }

    /// Sleeps until there may be work.
    async fn wait(&mut self) -> io::Result<()> {
        let deadline = self.next_deadline();
        let wants_input = self.stop_by.is_none() && self.takes_datagrams() && matches!(self.input, Input::Awaited);
        let mut notified = pin!(self.wake.notified());
        let mut timer = pin!(deadline.map(|at| tokio::time::sleep_until(at.into())));
        let (inbound, input, hold) = (&self.inbound, &mut self.input, &mut self.hold);
        let awaits = self.ring.as_ref().is_some_and(SendRing::awaits_notifications);
        let notifications = self.notifications.as_ref().filter(|_| awaits);
        poll_fn(|cx| {
            let mut ready = notified.as_mut().poll(cx).is_ready();
            if let Some(timer) = timer.as_mut().as_pin_mut() {
                ready |= timer.poll(cx).is_ready();
            }
            if wants_input && inbound.poll_readable(cx)? {
                *input = Input::Ready;
                ready = true;
            }
            if let Some(Hold::Writable(socket)) = hold
                && socket.poll_writable(cx)?
            {
                *hold = None;
                ready = true;
            }
            if let Some(notifications) = notifications {
                ready |= notifications.poll_completions(cx)?;
            }
            if ready { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    fn next_deadline(&self) -> Option<Instant> {
        let hold = match self.hold {
            Some(Hold::Until(end)) => Some(end),
            _ => None,
        };
        let input = match self.input {
            Input::PausedUntil(end) => Some(end),
            _ => None,
        };
        let goes_on = self.stop_by.is_none();
        let input = input.filter(|_| goes_on && self.takes_datagrams());
        let service = if goes_on && self.has_room() { self.service.poll_timeout() } else { None };
        [hold, input, service, self.stop_by].into_iter().flatten().min()
    }

    /// Whether datagrams may be handed over: half of the outbox is left to what already waits for its turn, however many of
    /// them are answered at once.
    fn takes_datagrams(&self) -> bool {
        self.outbox.room() > TRAINS_MAX / 2
    }

    fn has_room(&self) -> bool {
        self.outbox.room() > 0
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::num::{NonZeroU16, NonZeroUsize};
    use std::time::Duration;

    use super::*;

    #[derive(Default)]
    struct Silent {
        errors: usize,
    }

    impl Service for Silent {
        fn handle_datagram(&mut self, _: Instant, _: SocketAddr, _: &[u8], _: &mut Outbox) {}
        fn handle_wake(&mut self, _: Instant, _: &mut Outbox) {}
        fn handle_timeout(&mut self, _: Instant, _: &mut Outbox) {}
        fn poll_timeout(&self) -> Option<Instant> {
            None
        }
        fn on_send_error(&mut self, _: SocketAddr, _: &io::Error) {
            self.errors += 1;
        }
    }

    /// A shard whose sends have just failed with `errno`, until it would sleep again. Checks that just the trains
    /// `arriving` are sent after all, and returns how many were reported.
    fn recover(errno: Errno, trains: u8, arriving: &[u8]) -> usize {
        let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let to = peer.local_addr().unwrap();
        let addr = "127.0.0.1:0".parse().unwrap();
        let socket = ServerSocket::bind(addr, NonZeroUsize::MIN, NonZeroU16::MIN).unwrap().remove(0);
        let mut service = Silent::default();
        let (_waker, wake) = crate::waker();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut shard = Shard::new(socket, &mut service, wake, None, false).unwrap();
            let now = Instant::now();
            for n in (0..trains).rev() {
                let train = Train::datagram(to, &[n]).unwrap();
                shard.settle(now, train, Err(errno.into()));
            }
            shard.receive(now);
            while !shard.outbox.is_empty() {
                if shard.is_idle() {
                    shard.wait().await.unwrap();
                }
                shard.hand_over(Instant::now()).unwrap();
            }
            assert!(shard.is_idle());
        });
        // What comes after all else shows that nothing else came.
        peer.send_to(&[u8::MAX], to).unwrap();
        let mut room = [0; 9];
        for &train in arriving.iter().chain(&[u8::MAX]) {
            assert_eq!((peer.recv(&mut room).unwrap(), room[0]), (1, train), "{errno}");
        }
        service.errors
    }

    #[test]
    fn a_full_socket_or_device_is_waited_for() {
        for errno in [Errno::EAGAIN, Errno::ENOBUFS, Errno::ENOMEM, Errno::EINTR] {
            assert_eq!(recover(errno, 3, &[0, 1, 2]), 0, "{errno}");
        }
    }

    #[test]
    fn a_refusal_of_segmentation_is_answered_with_single_packets() {
        for errno in [Errno::EIO, Errno::EINVAL, Errno::EMSGSIZE] {
            assert_eq!(recover(errno, 2, &[0, 1]), 0, "{errno}");
        }
    }

    #[test]
    fn other_errors_are_reported_and_the_train_forgotten() {
        for errno in [Errno::EFAULT, Errno::EPERM, Errno::ENETUNREACH, Errno::ECONNREFUSED] {
            assert_eq!(recover(errno, 2, &[]), 2, "{errno}");
        }
    }
}
