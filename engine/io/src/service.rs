//! What a shard runs.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use crate::outbox::Outbox;
use crate::sys::ring::Notification;

/// The part of a server that one shard's thread runs, without I/O of its own. The crate's documentation says in which
/// order it is called.
///
/// Every call must return soon: the thread serves nobody else meanwhile, so no call may wait for a disk, a lock that
/// is held long, or another thread.
pub trait Service {
    /// Takes in one datagram. The outbox has room for one train at least. What can wait for those that came with it is
    /// left for [`Service::fill`].
    fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8], out: &mut Outbox);

    /// Another thread has called [`crate::Waker::wake`]: its work is to be picked up. What does not fit into `out`
    /// stays with the service; a call that leaves `out` full is repeated as soon as there is room.
    fn handle_wake(&mut self, now: Instant, out: &mut Outbox);

    /// The instant of [`Service::poll_timeout`] has come. After this and [`Service::fill`] `poll_timeout` must name a later
    /// one, or none, unless `out` is full.
    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox);

    /// Adds what waits, in the order in which it is to leave. Called after every round of the calls above; one that leaves
    /// `out` full is repeated as soon as there is room.
    fn fill(&mut self, _now: Instant, _out: &mut Outbox) {}

    /// When [`Service::handle_timeout`] is to be called; asked anew after every call. It may be late by a millisecond.
    fn poll_timeout(&self) -> Option<Instant>;

    /// A train to `to` could not be sent and is gone: `EFAULT` if its file was cut short, else what the system says of
    /// the destination (unreachable, forbidden by a firewall). A full socket or device is waited for, not reported.
    fn on_send_error(&mut self, to: SocketAddr, error: &io::Error);

    /// A train that was sent with [`crate::ZeroCopy::Notified`] is no longer read from memory, and how it went.
    fn on_notification(&mut self, _notification: Notification) {}
}
