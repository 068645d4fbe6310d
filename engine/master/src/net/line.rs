//! One connection: whether anybody on it is known yet, and what it may do until then.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tonic::Extensions;
use tonic::transport::server::{Connected, TlsConnectInfo};

use crate::accounts::UserId;
use crate::limits::{PROVEN_IDLE_MAX, UNPROVEN_BYTES_MAX};
use crate::net::Network;
use crate::net::seats::{Claim, Occupant, Seat};
use crate::sync::lock;

/// What others know of a connection and may do to it.
#[derive(Default)]
pub(crate) struct Line {
    proven: AtomicBool,
    closed: AtomicBool,
    use_of: Mutex<Use>,
    /// Of the task that reads and writes.
    waker: Mutex<Option<Waker>>,
}

/// How a connection is used by callers who are known.
struct Use {
    calls: usize,
    /// When a call last began, ended, or showed who it is.
    at: Instant,
    /// Whose calls they are; `None` for a media server's.
    user: Option<UserId>,
}

impl Default for Use {
    fn default() -> Self {
        Self { calls: 0, at: Instant::now(), user: None }
    }
}

impl Use {
    fn is_idle(&self, now: Instant) -> bool {
        self.calls == 0 && now.saturating_duration_since(self.at) >= PROVEN_IDLE_MAX
    }

    fn change(&mut self, calls: usize) {
        (self.calls, self.at) = (calls, Instant::now());
    }
}

/// A call on a connection, until this is dropped.
pub(crate) struct UnderWay(Arc<Line>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let mut used = lock(&self.0.use_of);
        let calls = used.calls - 1;
        used.change(calls);
    }
}

impl Line {
    /// Notes that somebody on it is known; `None`: a media server.
    pub(crate) fn prove(&self, user: Option<UserId>) {
        lock(&self.use_of).user = user;
        if !self.proven.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    fn is_proven(&self) -> bool {
        self.proven.load(Ordering::Acquire)
    }

    fn wake(&self) {
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }

    /// An error if it was closed; else the task is woken when it is closed or proven.
    fn check_open(&self, cx: &Context<'_>) -> io::Result<()> {
        // Before the flag is read, so that whoever sets it finds the waker.
        let mut waker = lock(&self.waker);
        if waker.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        drop(waker);
        if self.closed.load(Ordering::Acquire) {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "closed to make room for another"));
        }
        Ok(())
    }
}

impl Occupant for Line {
    fn claim(&self) -> Claim {
        if !self.is_proven() {
            return Claim::None;
        }
        match &*lock(&self.use_of) {
            used if used.is_idle(Instant::now()) => Claim::Idle,
            Use { calls: 0, user: Some(user), .. } => Claim::Resting(*user),
            _ => Claim::Held,
        }
    }

    fn leave(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }
}

/// The bytes of a connection. Its descriptor and its seat are free once this is dropped.
pub(crate) struct Wire {
    pub(crate) tcp: TcpStream,
    pub(crate) address: SocketAddr,
    pub(crate) line: Arc<Line>,
    /// Read while nobody was known.
    pub(crate) unproven_bytes: usize,
    pub(crate) _seat: Seat<Line>,
    pub(crate) _descriptor: OwnedSemaphorePermit,
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.line.check_open(cx)?;
        if this.line.is_proven() {
            return Pin::new(&mut this.tcp).poll_read(cx, buf);
        }
        // The rest waits at the sender, not in this process. It is read as soon as somebody is known; until then the
        // connection does not answer pings either, and ends with the next one.
        if this.unproven_bytes >= UNPROVEN_BYTES_MAX {
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.tcp).poll_read(cx, buf))?;
        this.unproven_bytes += buf.filled().len() - before;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.line.check_open(cx)?;
        Pin::new(&mut this.tcp).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().tcp).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.line.check_open(cx)?;
        Pin::new(&mut this.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }
}

/// Where a call comes from.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) network: Network,
    line: Arc<Line>,
}

impl Peer {
    /// Notes that a call has begun on the connection.
    pub(crate) fn begin_call(&self) -> UnderWay {
        let mut used = lock(&self.line.use_of);
        let calls = used.calls + 1;
        used.change(calls);
        UnderWay(Arc::clone(&self.line))
    }
}

impl Connected for Wire {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        Peer { network: self.address.ip().into(), line: Arc::clone(&self.line) }
    }
}

/// Where a call comes from, out of the extensions of its request.
///
/// # Panics
/// If it came over another kind of connection: the master serves no other.
pub(crate) fn peer(extensions: &Extensions) -> &Peer {
    extensions.get::<TlsConnectInfo<Peer>>().expect("every connection is a TLS stream over a `Wire`").get_ref()
}

/// Notes that the caller is known, by a valid token or a right password; `None`: a media server.
pub(crate) fn prove(extensions: &Extensions, user: Option<UserId>) {
    peer(extensions).line.prove(user);
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::net::seats::{Bounds, Seats};

    async fn wire() -> (Wire, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).await.expect("connects");
        let (tcp, address) = listener.accept().await.expect("accepts");
        let line = Arc::new(Line::default());
        let seats = Seats::new(Bounds { all: 1, per_network: 1, movable: 1 });
        let (_seat, _) = seats.take(address.ip().into(), Arc::clone(&line)).expect("a seat");
        let _descriptor = Arc::new(Semaphore::new(1)).try_acquire_owned().expect("a permit");
        (Wire { tcp, address, line, unproven_bytes: 0, _seat, _descriptor }, client)
    }

    #[tokio::test]
    async fn what_a_stranger_sends_past_the_bound_stays_in_its_socket_until_somebody_is_known() {
        let (mut wire, mut client) = wire().await;
        let line = Arc::clone(&wire.line);
        let bytes = 4 * UNPROVEN_BYTES_MAX;
        let sending = tokio::spawn(async move {
            client.write_all(&vec![1; bytes]).await.expect("sends");
            client
        });
        let (mut read, mut buffer) = (0, vec![0; 16 * 1024]);
        while let Ok(some) = tokio::time::timeout(Duration::from_millis(300), wire.read(&mut buffer)).await {
            read += some.expect("reads");
        }
        assert!((UNPROVEN_BYTES_MAX..UNPROVEN_BYTES_MAX + buffer.len()).contains(&read), "{read}");
        let rest = tokio::spawn(async move {
            while read < bytes {
                read += wire.read(&mut buffer).await.expect("reads");
            }
        });
        line.prove(None);
        rest.await.expect("the waiting read was woken");
        sending.await.expect("all was sent");
    }

    #[test]
    fn a_proven_connection_without_a_call_for_a_minute_may_be_closed_for_another() {
        let line = Arc::new(Line::default());
        assert_eq!(line.claim(), Claim::None);
        line.prove(None);
        assert_eq!(line.claim(), Claim::Held);
        let peer = Peer { network: Network::V4(Ipv4Addr::LOCALHOST), line: Arc::clone(&line) };
        let call = peer.begin_call();
        let later = Instant::now() + PROVEN_IDLE_MAX;
        assert!(!lock(&line.use_of).is_idle(later), "a call is under way");
        drop(call);
        assert!(!lock(&line.use_of).is_idle(Instant::now()));
        assert!(lock(&line.use_of).is_idle(Instant::now() + PROVEN_IDLE_MAX));
    }

    #[tokio::test]
    async fn a_connection_that_must_leave_is_woken_from_its_wait() {
        let (mut wire, _client) = wire().await;
        let line = Arc::clone(&wire.line);
        let waiting = tokio::spawn(async move { wire.read(&mut [0; 1]).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        line.leave();
        let error = waiting.await.expect("ends").expect_err("is closed");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
    }
}
