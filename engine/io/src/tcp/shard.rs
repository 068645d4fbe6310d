//! The loop that drives a service over TCP.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::task::{self, Context};
use std::time::Instant;

use nix::errno::Errno;
use polling::{Event, Events, Poller};

use super::connection::{Connection, SendFault};
use super::listener::StreamListener;
use super::table::Table;
use super::{Framing, StreamBounds};
use crate::limits::{
    ACCEPT_RETRY, DRAIN_MAX, REFUSED_LOGGED_EVERY, STREAM_BACKLOG, STREAM_PACKETS_PER_TURN, STREAM_SWEEP,
};
use crate::outbox::Outbox;
use crate::service::Service;
use crate::sys::Watch;
use crate::wake::WakeReceiver;

/// Drives `service` on this thread until [`crate::Waker::stop`], for the clients that connect to `listener`.
///
/// It is called as [`crate::run`] calls it, with one packet of a stream for a datagram, and the outbox is emptied after
/// each call: what the kernel does not take at once waits on its connection, within
/// [`STREAM_QUEUED_BYTES_MAX`](crate::limits::STREAM_QUEUED_BYTES_MAX). Regions go out by `sendfile`. A train whose peer has
/// no connection any more is dropped. [`Service::on_send_error`] hears of trains whose file cannot be read, not of clients
/// that leave.
///
/// # Errors
/// The poller cannot be made: no descriptor is left. Errors of connections never end the loop.
pub fn run_streams<S: Service>(
    listener: StreamListener,
    framing: Framing,
    bounds: StreamBounds,
    service: &mut S,
    wake: WakeReceiver,
) -> io::Result<()> {
    Streams::new(listener, framing, bounds, service, wake)?.drive()
}

/// Key of the listener; connections count from the next on.
const LISTENER: usize = 0;

struct Streams<'a, S> {
    service: &'a mut S,
    framing: Framing,
    bounds: StreamBounds,
    wake: WakeReceiver,
    outbox: Outbox,
    /// The last wake may have left work behind, for want of room.
    wake_again: bool,
    /// Set once the shard is to end.
    stop_by: Option<Instant>,

    poller: Arc<Poller>,
    events: Events,
    listener: Watch<TcpListener>,
    /// Accepting has failed for want of something, and is tried again then.
    accept_at: Option<Instant>,
    table: Table,
    /// Connections that were closed at once and that the log has not told of.
    refused: u64,
    /// When the log tells of further ones.
    tell_refused_at: Option<Instant>,
    key_next: usize,
    /// What may have work: told by the poller, or left over from the last turn.
    ready: Vec<usize>,
    sweep_at: Option<Instant>,
}

/// What came of looking at a connection's input.
enum Taken {
    Packet,
    /// All that has come was taken, or answers must go out first.
    Nothing,
    /// The connection is no more.
    Closed,
}

impl<'a, S: Service> Streams<'a, S> {
    fn new(
        listener: StreamListener,
        framing: Framing,
        bounds: StreamBounds,
        service: &'a mut S,
        wake: WakeReceiver,
    ) -> io::Result<Self> {
        let poller = Arc::new(Poller::new()?);
        let listener = Watch::new(&poller, listener.tcp, Event::readable(LISTENER))?;
        Ok(Self {
            service,
            framing,
            bounds,
            wake,
            outbox: Outbox::new(),
            wake_again: false,
            stop_by: None,
            poller,
            events: Events::new(),
            listener,
            accept_at: None,
            table: Table::default(),
            refused: 0,
            tell_refused_at: None,
            key_next: LISTENER + 1,
            ready: Vec::new(),
            sweep_at: None,
        })
    }

    fn drive(mut self) -> io::Result<()> {
        loop {
            let now = Instant::now();
            if self.stop_by.is_none() && self.wake.is_stopped() {
                self.stop_by = Some(now + DRAIN_MAX);
                self.listener.set_interest(false, false)?;
            }
            match self.stop_by {
                Some(stop_by) if stop_by <= now || !self.table.has_queued() => return Ok(()),
                Some(_) => {}
                None => self.let_time_pass(now)?,
            }
            for key in std::mem::take(&mut self.ready) {
                if key == LISTENER {
                    self.accept(now)?;
                } else {
                    self.turn(now, key);
                }
            }
            self.wait(now)?;
        }
    }

    fn let_time_pass(&mut self, now: Instant) -> io::Result<()> {
        if self.service.poll_timeout().is_some_and(|due| due <= now) {
            self.service.handle_timeout(now, &mut self.outbox);
            self.fill(now);
        }
        if self.wake.take() || self.wake_again {
            self.service.handle_wake(now, &mut self.outbox);
            self.wake_again = self.outbox.room() == 0;
            self.fill(now);
        }
        if self.accept_at.is_some_and(|due| due <= now) {
            self.accept_at = None;
            self.listener.set_interest(true, false)?;
        }
        if self.sweep_at.is_some_and(|due| due <= now) {
            for key in self.table.overdue(now, &self.bounds) {
                self.table.remove(key);
            }
            self.sweep_at = (!self.table.is_empty()).then_some(now + STREAM_SWEEP.min(self.bounds.admitted_within));
        }
        Ok(())
    }

    fn accept(&mut self, now: Instant) -> io::Result<()> {
        for _ in 0..STREAM_BACKLOG {
            match self.listener.socket().accept() {
                Ok((stream, peer)) => self.admit(now, stream, peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if is_shortage(&error) => {
                    tracing::warn!(%error, "cannot take TCP connections; raise the limit on open files (ulimit -n)");
                    self.accept_at = Some(now + ACCEPT_RETRY);
                    return self.listener.set_interest(false, false);
                }
                // The connection was gone before it was taken (accept(2), "Error handling").
                Err(_) => {}
            }
        }
        Ok(())
    }

    fn admit(&mut self, now: Instant, stream: TcpStream, peer: SocketAddr) {
        if !self.table.make_room(peer, &self.bounds) {
            self.refused += 1;
            if self.tell_refused_at.is_none_or(|due| due <= now) {
                let refused = std::mem::take(&mut self.refused);
                tracing::warn!(
                    %peer, refused, connections = self.bounds.connections,
                    "too many TCP connections, in all or from one address; a higher limit on open files (`ulimit -n`) \
                     allows more"
                );
                self.tell_refused_at = Some(now + REFUSED_LOGGED_EVERY);
            }
            return;
        }
        let key = self.key_next;
        match Connection::new(now, (stream, peer), (&self.poller, key), self.framing.packet_bytes) {
            Ok(connection) => {
                self.key_next += 1;
                self.table.insert(key, connection);
                self.sweep_at.get_or_insert(now + STREAM_SWEEP.min(self.bounds.admitted_within));
            }
            Err(error) => tracing::debug!(%peer, %error, "a TCP connection cannot be used"),
        }
    }

    /// Does for a connection what can be done without waiting, within its share.
    fn turn(&mut self, now: Instant, key: usize) {
        if !self.send(now, key) {
            return;
        }
        for _ in 0..STREAM_PACKETS_PER_TURN {
            match self.take_packet(now, key) {
                Taken::Packet => {}
                Taken::Nothing => return self.rest(key),
                Taken::Closed => return self.table.remove(key),
            }
            self.fill(now);
            if !self.send(now, key) {
                return;
            }
        }
        self.ready.push(key);
    }

    /// Hands the next packet of a connection to the service.
    fn take_packet(&mut self, now: Instant, key: usize) -> Taken {
        let Some(connection) = self.table.get_mut(key) else { return Taken::Nothing };
        if self.stop_by.is_some() {
            return if connection.has_queued() { Taken::Nothing } else { Taken::Closed };
        }
        while connection.takes_packets() {
            let peer = connection.peer;
            match connection.inbox.next_packet() {
                Ok(Some(packet)) => {
                    self.service.handle_datagram(now, peer, packet, &mut self.outbox);
                    return Taken::Packet;
                }
                Ok(None) => match connection.receive(now) {
                    Ok(true) => {}
                    Ok(false) => return Taken::Nothing,
                    Err(_) => return Taken::Closed,
                },
                Err(_) => {
                    tracing::debug!(%peer, "no packet of this version in a TCP connection");
                    return Taken::Closed;
                }
            }
        }
        Taken::Nothing
    }

    /// Takes what waits for its turn, and delivers all.
    fn fill(&mut self, now: Instant) {
        loop {
            if self.outbox.room() > 0 {
                self.service.fill(now, &mut self.outbox);
            }
            let may_have_more = self.outbox.room() == 0;
            self.deliver();
            if !may_have_more {
                return;
            }
        }
    }

    /// Gives the trains of the outbox to their connections.
    fn deliver(&mut self) {
        while let Some(train) = self.outbox.pop() {
            if train.bytes() == 0 {
                continue;
            }
            let Some(key) = self.table.key_of(train.to()) else { continue };
            let Some(connection) = self.table.get_mut(key) else { continue };
            connection.is_admitted |= (self.framing.admits)(&train);
            if connection.push(train) {
                self.ready.push(key);
            } else {
                tracing::debug!(peer = %connection.peer, "too many answers wait on a TCP connection");
                self.table.remove(key);
            }
        }
    }

    /// Sends what waits on a connection; says whether it is still there.
    fn send(&mut self, now: Instant, key: usize) -> bool {
        while let Some(connection) = self.table.get_mut(key) {
            let peer = connection.peer;
            match connection.send(now) {
                Ok(()) => return true,
                Err(SendFault::Unread(error)) => self.service.on_send_error(peer, &error),
                Err(SendFault::Torn(error)) => {
                    self.service.on_send_error(peer, &error);
                    //= PROTOCOL T6: A server MUST close a connection when the rest of a packet that it has begun there cannot be sent.
                    self.table.remove(key);
                }
                Err(SendFault::Gone(error)) => {
                    tracing::debug!(%peer, %error, "a TCP connection has ended");
                    self.table.remove(key);
                }
            }
        }
        false
    }

    /// Has the poller tell what a connection waits for.
    fn rest(&mut self, key: usize) {
        let reads = self.stop_by.is_none();
        if let Some(connection) = self.table.get_mut(key)
            && let Err(error) = connection.await_next(reads)
        {
            tracing::debug!(peer = %connection.peer, %error, "a TCP connection cannot be watched");
            self.table.remove(key);
        }
    }

    /// Sleeps until there may be work.
    fn wait(&mut self, now: Instant) -> io::Result<()> {
        let waker = task::Waker::from(Arc::new(Nudge(Arc::clone(&self.poller))));
        let mut notified = pin!(self.wake.notified());
        let is_woken = notified.as_mut().poll(&mut Context::from_waker(&waker)).is_ready();
        let at_once = is_woken || !self.ready.is_empty() || self.wake_again || self.wake.is_woken();
        let service = if self.stop_by.is_none() { self.service.poll_timeout() } else { None };
        let deadline = if at_once { Some(now) } else { None };
        let deadline = [deadline, service, self.sweep_at, self.accept_at, self.stop_by].into_iter().flatten().min();
        self.events.clear();
        self.poller.wait(&mut self.events, deadline.map(|at| at.saturating_duration_since(Instant::now())))?;
        self.ready.extend(self.events.iter().map(|event| event.key));
        Ok(())
    }
}

/// Whether accepting failed for want of a descriptor or memory: the connection is still there.
fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM))
}

/// Ends a wait of the poller.
struct Nudge(Arc<Poller>);

impl task::Wake for Nudge {
    fn wake(self: Arc<Self>) {
        // The write to an eventfd fails only when it is full of wakes already.
        let _ = self.0.notify();
    }
}
