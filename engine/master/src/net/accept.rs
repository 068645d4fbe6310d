//! The port: takes connections within their bounds, and makes the TLS handshake with each.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::server::TlsStream;
use tokio_stream::Stream;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::limits::{ACCEPT_HEADROOM, ACCEPT_PAUSE_MAX, ACCEPT_PAUSE_MIN, ACCEPTED_QUEUED, HANDSHAKE_MAX};
use crate::net::Network;
use crate::net::descriptors::ConnectionBounds;
use crate::net::line::{Line, Wire};
use crate::net::seats::{Bounds, Claim, Full, Occupant, Seat, Seats};
use crate::net::seldom::Seldom;

/// The connections of a port, each after its handshake. The port is closed when this is dropped.
pub(crate) fn connections(
    listener: TcpListener,
    tls: Arc<ServerConfig>,
    bounds: ConnectionBounds,
) -> impl Stream<Item = Result<TlsStream<Wire>, Infallible>> {
    let (finished, connections) = mpsc::channel(ACCEPTED_QUEUED);
    tokio::spawn(Port::new(tls, bounds, finished).run(listener));
    ReceiverStream::new(connections).map(Ok)
}

/// A connection in its handshake: any of them may be closed for another.
struct Greeting(Arc<Line>);

impl Occupant for Greeting {
    fn claim(&self) -> Claim {
        Claim::None
    }

    fn leave(&self) {
        self.0.leave();
    }
}

struct Port {
    tls: TlsAcceptor,
    connections: Arc<Seats<Line>>,
    handshakes: Arc<Seats<Greeting>>,
    /// One permit for each connection that may be open. A connection that was made to leave frees its descriptor a
    /// moment later than its seat; so there are a few more permits than seats.
    descriptors: Arc<Semaphore>,
    finished: mpsc::Sender<TlsStream<Wire>>,
    warnings: Warnings,
}

#[derive(Default)]
struct Warnings {
    exhausted: Seldom,
    refused: Seldom,
    moved: Seldom,
    network: Seldom,
    handshakes: Seldom,
}

impl Port {
    fn new(tls: Arc<ServerConfig>, bounds: ConnectionBounds, finished: mpsc::Sender<TlsStream<Wire>>) -> Self {
        let handshakes = Bounds { all: bounds.handshakes, per_network: bounds.handshakes, movable: bounds.handshakes };
        Self {
            tls: tls.into(),
            connections: Seats::new(bounds.connections),
            handshakes: Seats::new(handshakes),
            descriptors: Arc::new(Semaphore::new(bounds.connections.all + ACCEPT_HEADROOM)),
            finished,
            warnings: Warnings::default(),
        }
    }

    async fn run(self, listener: TcpListener) {
        let mut pause = ACCEPT_PAUSE_MIN;
        loop {
            let accepted = tokio::select! {
                () = self.finished.closed() => return,
                accepted = self.accept(&listener) => accepted,
            };
            match accepted {
                Ok((tcp, address, descriptor)) => {
                    pause = ACCEPT_PAUSE_MIN;
                    self.admit(tcp, address, descriptor);
                }
                Err(error) if is_exhausted(&error) => {
                    self.warn_exhausted(&error);
                    tokio::time::sleep(pause).await;
                    pause = longer(pause);
                }
                // That connection is gone; the next one is not (accept(2), "Error handling").
                Err(error) => tracing::debug!(%error, "a connection was gone before it was accepted"),
            }
        }
    }

    /// Waits for a free descriptor, and then for a connection.
    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let descriptor = Arc::clone(&self.descriptors).acquire_owned().await.map_err(io::Error::other)?;
        let (tcp, address) = listener.accept().await?;
        Ok((tcp, address, descriptor))
    }

    /// Gives a new connection a seat and begins its handshake, or closes it.
    fn admit(&self, tcp: TcpStream, address: SocketAddr, descriptor: OwnedSemaphorePermit) {
        let (network, line) = (Network::from(address.ip()), Arc::new(Line::default()));
        let seat = match self.connections.take(network, Arc::clone(&line)) {
            Ok((seat, moved)) => {
                self.warn_moved(network, moved);
                seat
            }
            Err(full) => return self.warn_refused(network, full),
        };
        // Every greeting is movable, so there is always a seat.
        let Ok((handshake, moved)) = self.handshakes.take(network, Arc::new(Greeting(Arc::clone(&line)))) else {
            return;
        };
        if moved.is_some() {
            self.warn_handshakes();
        }
        // Calls are small, and each waits for its answer.
        if let Err(error) = tcp.set_nodelay(true) {
            tracing::debug!(%error, "a connection was gone before its handshake");
            return;
        }
        let wire = Wire { tcp, address, line, unproven_bytes: 0, _seat: seat, _descriptor: descriptor };
        tokio::spawn(greet(self.tls.clone(), wire, handshake, self.finished.clone()));
    }

    fn warn_exhausted(&self, error: &io::Error) {
        if let Some(times) = self.warnings.exhausted.on_event(Instant::now()) {
            tracing::warn!(
                %error, times,
                "no connection can be accepted, and accepting pauses: raise the limit of descriptors (LimitNOFILE= \
                 of the service, `ulimit -n` of the shell), or find out what else uses them up on this machine"
            );
        }
    }

    fn warn_refused(&self, network: Network, full: Full) {
        let Some(times) = self.warnings.refused.on_event(Instant::now()) else { return };
        let Bounds { all, per_network, .. } = self.connections.bounds();
        match full {
            Full::All => tracing::warn!(
                times, %network, all,
                "new connections were refused: all are in use by clients and servers that have shown who they are; \
                 raise the limit of descriptors (LimitNOFILE= of the service, `ulimit -n` of the shell)"
            ),
            Full::Network => tracing::warn!(
                times, %network, per_network,
                "new connections of an address were refused: it has as many as one may have, all in use; raise the \
                 limit of descriptors (LimitNOFILE= of the service, `ulimit -n` of the shell) if it is a large site"
            ),
        }
    }

    fn warn_moved(&self, network: Network, moved: Option<Full>) {
        let Bounds { all, per_network, movable } = self.connections.bounds();
        match moved {
            None => {}
            Some(Full::All) => {
                if let Some(times) = self.warnings.moved.on_event(Instant::now()) {
                    tracing::warn!(
                        times,
                        all,
                        unproven = movable,
                        "connections on which nobody had signed in, or called for a minute, were closed, the oldest \
                         first, to make room for new ones: somebody opens many; if they are honest, raise the limit of descriptors \
                         (LimitNOFILE= of the service, `ulimit -n` of the shell)"
                    );
                }
            }
            Some(Full::Network) => {
                if let Some(times) = self.warnings.network.on_event(Instant::now()) {
                    tracing::warn!(
                        times, %network, per_network,
                        "connections of an address on which nobody had signed in were closed, the oldest first: it \
                         opens many; block it, or raise the limit of descriptors (LimitNOFILE= of the service, \
                         `ulimit -n` of the shell) if it is a large site"
                    );
                }
            }
        }
    }

    fn warn_handshakes(&self) {
        if let Some(times) = self.warnings.handshakes.on_event(Instant::now()) {
            let handshakes = self.handshakes.bounds().all;
            tracing::warn!(
                times,
                handshakes,
                "connections were closed that had not finished their TLS handshake, the oldest first, to make room for \
                 new ones: somebody opens many and says nothing; block that address if it goes on"
            );
        }
    }
}

async fn greet(tls: TlsAcceptor, wire: Wire, handshake: Seat<Greeting>, finished: mpsc::Sender<TlsStream<Wire>>) {
    let address = wire.address;
    let greeted = tokio::time::timeout(HANDSHAKE_MAX, tls.accept(wire)).await;
    drop(handshake);
    match greeted {
        // It fails only when the master stops.
        Ok(Ok(stream)) => drop(finished.send(stream).await),
        Ok(Err(error)) => tracing::debug!(%address, %error, "a TLS handshake failed"),
        Err(_elapsed) => tracing::debug!(%address, "a TLS handshake took too long"),
    }
}

/// Whether the next call of accept(2) would fail just as this one did.
fn is_exhausted(error: &io::Error) -> bool {
    let exhausted = [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM];
    error.raw_os_error().is_some_and(|code| exhausted.contains(&Errno::from_raw(code)))
}

fn longer(pause: Duration) -> Duration {
    (pause * 2).min(ACCEPT_PAUSE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepting_pauses_for_what_does_not_pass_by_itself_and_no_longer_than_it_must() {
        for code in [Errno::EMFILE, Errno::ENFILE, Errno::ENOBUFS, Errno::ENOMEM] {
            assert!(is_exhausted(&code.into()), "{code}");
        }
        for code in [Errno::ECONNABORTED, Errno::EINTR, Errno::EPROTO, Errno::ENETDOWN] {
            assert!(!is_exhausted(&code.into()), "{code}");
        }
        let pauses: Vec<_> =
            std::iter::successors(Some(ACCEPT_PAUSE_MIN), |pause| Some(longer(*pause))).take(9).collect();
        assert!(pauses.is_sorted() && pauses[8] == ACCEPT_PAUSE_MAX);
    }
}
