//! Greeting another server's address on the master's order, to prove that its holder has the ticket key.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use braidcast_media::ticket::SessionSecret;
use braidcast_proto::v1::{ProbeOrder, ProbeResult};
use braidcast_transport::handshake::Greeting;
use braidcast_transport::limits::WELCOME_BYTES;
use tokio::net::UdpSocket;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{interval, timeout};
use tracing::{debug, warn};

use crate::limits;
use crate::open_packs::{descriptors_max, is_shortage};

/// Runs probes side by side, a bounded number at a time.
pub(crate) struct Prober {
    permits: Arc<Semaphore>,
    sender: mpsc::Sender<ProbeResult>,
    results: mpsc::Receiver<ProbeResult>,
}

impl Prober {
    pub(crate) fn new() -> Self {
        let (sender, results) = mpsc::channel(limits::PROBES_MAX);
        Self { permits: Arc::new(Semaphore::new(limits::PROBES_MAX)), sender, results }
    }

    /// Starts a probe; nothing comes back unless there are too many already.
    pub(crate) fn start(&self, order: ProbeOrder) -> Option<ProbeResult> {
        let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() else {
            return Some(ProbeResult { probe_id: order.probe_id, answered: false });
        };
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let probe_id = order.probe_id;
            let answered = probe(&order).await.unwrap_or_else(|error| {
                on_error(&order.address, &error);
                false
            });
            // Nobody waits for it any more once the server stops.
            let _ = sender.send(ProbeResult { probe_id, answered }).await;
            drop(permit);
        });
        None
    }

    /// The next probe that has ended.
    pub(crate) async fn next(&mut self) -> ProbeResult {
        // `self.sender` keeps the channel open.
        match self.results.recv().await {
            Some(result) => result,
            None => std::future::pending().await,
        }
    }
}

/// Whether the holder of the ticket key answers at the address.
async fn probe(order: &ProbeOrder) -> io::Result<bool> {
    let address: SocketAddr = order.address.parse().map_err(invalid("the address is no ip:port"))?;
    let secret =
        SessionSecret::from_slice(&order.session_secret).ok_or("").map_err(invalid("the secret is no 32 bytes"))?;
    let mut random = [0; 32];
    aws_lc_rs::rand::fill(&mut random).map_err(invalid("the system's random source failed"))?;
    let greeting = Greeting::new(&order.ticket, secret, random).map_err(invalid("the ticket is too long"))?;
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(address).await?;
    Ok(timeout(limits::PROBE_WITHIN, greet(&socket, &greeting)).await.is_ok())
}

/// Repeats HELLO until its WELCOME comes. Errors of the socket are not the end: a port may be refused now and open in
/// a moment.
async fn greet(socket: &UdpSocket, greeting: &Greeting) {
    let mut repeat = interval(limits::PROBE_REPEAT);
    // One byte more than a WELCOME: a longer datagram must not pass for one.
    let mut room = [0; WELCOME_BYTES + 1];
    loop {
        tokio::select! {
            _ = repeat.tick() => {
                if let Err(error) = socket.send(greeting.hello()).await {
                    debug!(%error, "a probe's HELLO could not be sent");
                }
            }
            received = socket.recv(&mut room) => {
                if received.is_ok_and(|bytes| greeting.handle_welcome(&room[..bytes]).is_some()) {
                    return;
                }
            }
        }
    }
}

fn on_error(address: &str, error: &io::Error) {
    if is_shortage(error) {
        warn!(
            address, %error, descriptors = descriptors_max(),
            "no socket for a probe: raise the limit on open files (`ulimit -n`, or LimitNOFILE= of the service)"
        );
    } else {
        debug!(address, %error, "a probe could not be made");
    }
}

fn invalid<E>(text: &'static str) -> impl FnOnce(E) -> io::Error {
    move |_| io::Error::new(io::ErrorKind::InvalidInput, text)
}
