//! A running media server: its threads and tasks, put together and taken apart.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::num::{NonZeroU16, NonZeroUsize};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};

use braidcast_io::{
    Backend, Capabilities, Framing, IoMode, Sending, ServerSocket, StreamBounds, StreamListener, WakeReceiver,
    ZeroCopy, bind_pair, run_streams, waker,
};
use braidcast_media::layout::PACKET_BYTES;
use braidcast_transport::limits::CHUNKS_PER_PULL_MAX;
use braidcast_transport::packet::{Kind, packet_bytes};
use braidcast_transport::responder::{Responder, ResponderConfig};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use crate::catalogue::{Reader, Shelf};
use crate::config::{ServerConfig, ZeroCopyMode};
use crate::control::{Control, JoinError};
use crate::counters::{self, ServerCounters, ShardCounters};
use crate::error::ServerError;
use crate::fill::blocking;
use crate::folder::Folder;
use crate::keeper::{Bounds, Keeper};
use crate::limits;
use crate::mailbox::Mailbox;
use crate::master::Master;
use crate::open_packs::{self, OpenPacks, Shares};
use crate::scrub;
use crate::shard::Shard;
use crate::total_rate::{Share, TotalRate};
use crate::turns::Turns;
use crate::warm;

/// A running media server. Dropped without [`Server::shutdown`], it stops as well, but nobody waits for its threads.
pub struct Server {
    udp_addr: SocketAddr,
    description: String,
    stopper: Stopper,
    keeper: Arc<Keeper>,
    counters: Arc<[Arc<ShardCounters>]>,
    threads: Vec<JoinHandle<()>>,
    failures: mpsc::Receiver<ServerError>,
    /// Closed when the last user of the state folder is gone.
    folder_users: mpsc::Receiver<Infallible>,
}

impl Server {
    /// Opens the state folder, binds the sockets, starts the threads and asks the master to let the server join.
    /// Must be called within a tokio runtime, which then carries the control plane.
    ///
    /// A master that cannot be reached, or that finds this server's clock off, is asked again for ever, with the
    /// reason in the log: the server comes up without it and is listed once the master accepts.
    ///
    /// # Errors
    /// [`ServerError`] for what trying again cannot mend: a wrong join token, an address in use, a bad folder.
    pub async fn start(config: ServerConfig) -> Result<Self, ServerError> {
        let master = Master::new(&config)?;
        // Before anything is opened that the limit might refuse.
        let _raised = open_packs::descriptors_max();
        let capabilities = Capabilities::probe().map_err(ServerError::Thread)?;
        let sending = choose_sending(&config, &capabilities)?;
        if let (IoMode::Auto, Err(reason)) = (config.io, capabilities.uring) {
            warn!(%reason, "running without io_uring");
        }
        let (sockets, listener) = bind(&config)?;
        let description = describe(sending, &capabilities, &sockets);

        let shelf = Arc::new(Shelf::default());
        let (users, folder_users) = mpsc::channel(1);
        let shares = Shares::of_process(sockets.len() + listener.iter().len());
        let open_packs = OpenPacks::new(shares.packs);
        let bounds = StreamBounds { connections: shares.connections, ..StreamBounds::default() };
        let listener = listener.map(|listener| (listener, bounds));
        let keeper = {
            let (dir, bounds) = (config.state_dir.clone(), Bounds::of(&config));
            let (shelf, master) = (Arc::clone(&shelf), master.clone());
            blocking(move || Keeper::open(Folder::open(&dir)?, bounds, shelf, open_packs, master, users)).await?
        };
        let mut server = Self::launch(&config, sending, (sockets, listener), &shelf, keeper, folder_users)?;
        server.description = description;
        let control = Control {
            master,
            join_token: config.join_token.clone(),
            address: config.advertise.unwrap_or(server.udp_addr),
            keeper: Arc::clone(&server.keeper),
            shelf,
            counters: Arc::clone(&server.counters),
        };
        info!(udp = %server.udp_addr, "{}", server.description);
        match control.join().await {
            Ok(()) => server.keep_membership(control, true),
            Err(JoinError::NotNow(reason)) => {
                warn!(reason, "not a member yet; asking again");
                server.keep_membership(control, false);
            }
            Err(JoinError::Refused(error)) => {
                drop(control);
                server.shutdown().await;
                return Err(error);
            }
        }
        Ok(server)
    }

    /// The UDP address that was bound, and with it the TCP port of the same number.
    pub fn udp_addr(&self) -> SocketAddr {
        self.udp_addr
    }

    /// How it runs: `io=uring|portable shards=N gso=on|off gro=on|off`.
    pub fn describe(&self) -> String {
        self.description.clone()
    }

    /// What it has done so far. The bytes sent are exact, all else is at most 100 ms old.
    pub fn counters(&self) -> ServerCounters {
        counters::total(self.counters.iter().map(AsRef::as_ref))
    }

    /// Waits until the server cannot go on, which in good order never happens: a thread that serves died, or the
    /// master refuses the server for good.
    pub async fn failed(&mut self) -> ServerError {
        match self.failures.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Stops serving and waits until every thread has ended and the state folder is free. What was filled stays.
    pub async fn shutdown(self) {
        let counters = self.counters();
        let Self { stopper, keeper, threads, mut folder_users, .. } = self;
        drop(stopper);
        blocking(move || {
            for thread in threads {
                // A panic was reported when it happened.
                let _ = thread.join();
            }
        })
        .await;
        drop(keeper);
        // Nothing is ever sent: this ends when the last fill has let go of the folder.
        let _: Option<Infallible> = folder_users.recv().await;
        info!(?counters, "stopped");
    }

    /// Starts the threads. What has been started ends again with the value, or with the error.
    fn launch(
        config: &ServerConfig,
        sending: Sending,
        (sockets, listener): (Vec<ServerSocket>, Option<(StreamListener, StreamBounds)>),
        shelf: &Arc<Shelf>,
        keeper: Arc<Keeper>,
        folder_users: mpsc::Receiver<Infallible>,
    ) -> Result<Self, ServerError> {
        let udp_addr = sockets[0].local_addr();
        let ports: Vec<Port> = sockets
            .into_iter()
            .map(Port::Udp)
            .chain(listener.map(|(listener, bounds)| Port::Tcp(listener, bounds)))
            .collect();
        let (wakers, wakes): (Vec<_>, Vec<_>) = ports.iter().map(|_| waker()).unzip();
        shelf.on_shards_started(wakers.clone());
        let mailboxes: Arc<[Mailbox]> = wakers.into_iter().map(Mailbox::new).collect();
        let counters: Arc<[Arc<ShardCounters>]> = ports.iter().map(|_| Arc::default()).collect();
        let (failed, failures) = mpsc::channel(ports.len() + 1);
        let (warmer, helpers) =
            warm::start(Arc::clone(&mailboxes), Arc::clone(&keeper), Arc::clone(shelf)).map_err(ServerError::Thread)?;
        let mut server = Self {
            udp_addr,
            description: String::new(),
            stopper: Stopper {
                keeper: Arc::downgrade(&keeper),
                mailboxes: Arc::clone(&mailboxes),
                tasks: Vec::new(),
                failed: failed.clone(),
            },
            keeper,
            counters,
            threads: helpers,
            failures,
            folder_users,
        };
        server.stopper.tasks.push(tokio::spawn(cool(Arc::clone(shelf))).abort_handle());
        if config.scrub_bytes_s > 0 {
            let scrub = scrub::run(Arc::clone(&server.keeper), config.scrub_bytes_s);
            server.stopper.tasks.push(tokio::spawn(scrub).abort_handle());
        }
        let total_rate = (config.total_bytes_s > 0).then(|| Arc::new(TotalRate::new(config.total_bytes_s)));
        //= PROTOCOL T7: A server MUST hold the address pair of a TCP connection and that of UDP datagrams for different ones, though they look the same.
        // Each port has a responder of its own, which knows its own sessions alone.
        for ((number, port), wake) in (0..).zip(ports).zip(wakes) {
            let shard = Shard::new(
                number,
                Responder::new(responder_config(config, number), random_seed()?, Vec::new()),
                Reader::new(Arc::clone(shelf)),
                Arc::clone(&mailboxes),
                warmer.clone(),
                Turns::new(total_rate.as_ref().map(|rate| Share::new(Arc::clone(rate)))),
                Arc::clone(&server.counters[usize::from(number)]),
            );
            let failed = failed.clone();
            let thread = thread::Builder::new()
                .name(format!("shard-{number}"))
                .spawn(move || run_shard(number, shard, (sending, port), wake, &failed))
                .map_err(ServerError::Thread)?;
            server.threads.push(thread);
        }
        Ok(server)
    }

    fn keep_membership(&mut self, control: Control, joined: bool) {
        let failed = self.stopper.failed.clone();
        let task = tokio::spawn(async move {
            let error = control.run(joined).await;
            error!(%error, "the membership has ended");
            let _ = failed.try_send(error);
        });
        self.stopper.tasks.push(task.abort_handle());
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("udp_addr", &self.udp_addr)
            .field("description", &self.description)
            .finish_non_exhaustive()
    }
}

/// Tells everything to end when it is dropped.
struct Stopper {
    keeper: Weak<Keeper>,
    mailboxes: Arc<[Mailbox]>,
    tasks: Vec<AbortHandle>,
    failed: mpsc::Sender<ServerError>,
}

impl Drop for Stopper {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        if let Some(keeper) = self.keeper.upgrade() {
            keeper.stop();
        }
        for mailbox in self.mailboxes.iter() {
            mailbox.waker().stop();
        }
    }
}

/// What a shard's packets come through.
enum Port {
    Udp(ServerSocket),
    Tcp(StreamListener, StreamBounds),
}

/// A HELLO that deserves a WELCOME admits a TCP connection.
const FRAMING: Framing = Framing { packet_bytes, admits: |train| Kind::of(train.tail()) == Some(Kind::Welcome) };

fn run_shard(
    number: u8,
    mut shard: Shard,
    (sending, port): (Sending, Port),
    wake: WakeReceiver,
    failed: &mpsc::Sender<ServerError>,
) {
    // A shard that is gone must not go unnoticed: its share of the clients would be served by nobody.
    let ended = catch_unwind(AssertUnwindSafe(|| match port {
        Port::Udp(socket) => braidcast_io::run(sending, socket, &mut shard, wake),
        Port::Tcp(listener, bounds) => run_streams(listener, FRAMING, bounds, &mut shard, wake),
    }));
    let source = match ended {
        Ok(Ok(())) => return,
        Ok(Err(source)) => source,
        Err(_) => io::Error::other("its thread panicked"),
    };
    let error = ServerError::Shard { shard: number, source };
    error!(%error, "a shard has ended");
    let _ = failed.try_send(error);
}

/// Has all extents populated anew after a while (see [`limits::HOT_FOR`]).
async fn cool(shelf: Arc<Shelf>) {
    let mut ticks = interval(limits::HOT_FOR);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        for pack in shelf.newest().packs.values() {
            pack.hot().clear();
        }
    }
}

/// The sockets of all shards, and the listener of the one for TCP where the configuration has one.
fn bind(config: &ServerConfig) -> Result<(Vec<ServerSocket>, Option<StreamListener>), ServerError> {
    let (shards, segment) =
        (shard_count(config)?, NonZeroU16::new(PACKET_BYTES as u16).expect("packets are not empty"));
    let (sockets, listener) = if config.tcp {
        bind_pair(config.listen, shards, segment).map(|(sockets, listener)| (sockets, Some(listener)))
    } else {
        ServerSocket::bind(config.listen, shards, segment).map(|sockets| (sockets, None))
    }
    .map_err(ServerError::Listen)?;
    if sockets.len() > 1 {
        let (kind, place) = Responder::SHARD_IN_PULL;
        if let Err(error) = ServerSocket::steer(&sockets, kind, place) {
            debug!(%error, "PULLs find their shard by their address alone");
        }
    }
    Ok((sockets, listener))
}

fn shard_count(config: &ServerConfig) -> Result<NonZeroUsize, ServerError> {
    if config.shards > limits::SHARDS_MAX {
        return Err(ServerError::TooManyShards { shards: config.shards });
    }
    let cores = || {
        let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        cores.min(NonZeroUsize::new(limits::SHARDS_MAX.into()).unwrap_or(cores))
    };
    Ok(NonZeroUsize::new(config.shards.into()).unwrap_or_else(cores))
}

/// Zero copy with notifications is of io_uring: who asks for it asks for both.
fn choose_sending(config: &ServerConfig, capabilities: &Capabilities) -> Result<Sending, ServerError> {
    let mode = match config.io {
        IoMode::Auto if config.zero_copy == ZeroCopyMode::On => IoMode::Uring,
        mode => mode,
    };
    let backend = braidcast_io::choose(mode, capabilities)?;
    let zero_copy = match config.zero_copy {
        ZeroCopyMode::On if backend == Backend::Portable => return Err(ServerError::ZeroCopyWithoutUring),
        ZeroCopyMode::On => ZeroCopy::Notified,
        ZeroCopyMode::Auto if capabilities.sendfile => ZeroCopy::Sendfile,
        ZeroCopyMode::Auto | ZeroCopyMode::Off => ZeroCopy::Off,
    };
    Ok(Sending { backend, zero_copy })
}

fn describe(sending: Sending, capabilities: &Capabilities, sockets: &[ServerSocket]) -> String {
    let on_off = |on| if on { "on" } else { "off" };
    let gso = on_off(sockets.iter().all(ServerSocket::has_segmentation));
    let zero_copy = match sending.zero_copy {
        ZeroCopy::Notified => " zerocopy=on",
        ZeroCopy::Sendfile => " zerocopy=sendfile",
        ZeroCopy::Off => "",
    };
    let gro = on_off(capabilities.coalescing);
    format!("io={} shards={} gso={gso} gro={gro}{zero_copy}", sending.backend, sockets.len())
}

fn responder_config(config: &ServerConfig, shard: u8) -> ResponderConfig {
    ResponderConfig {
        shard,
        clock_skew: config.clock_skew,
        rate_kib_s: config.rate_kib_s,
        chunks_per_pull: if config.zero_copy == ZeroCopyMode::On {
            limits::ZERO_COPY_CHUNKS_MAX
        } else {
            CHUNKS_PER_PULL_MAX
        },
        ..ResponderConfig::default()
    }
}

fn random_seed() -> Result<[u8; 32], ServerError> {
    let mut seed = [0; 32];
    aws_lc_rs::rand::fill(&mut seed).map_err(|_| ServerError::NoRandomness)?;
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_copy_asks_for_io_uring_and_refuses_to_go_without() {
        let mut config = ServerConfig::new("/srv", "localhost:1", "", crate::JoinToken::new(""));
        config.zero_copy = ZeroCopyMode::On;
        let ring = Capabilities { uring: Ok(()), segmentation: true, coalescing: true, sendfile: true };
        let chosen = choose_sending(&config, &ring).expect("there is a ring");
        assert_eq!(chosen, Sending { backend: Backend::Uring, zero_copy: ZeroCopy::Notified });
        let none = Capabilities { uring: Err(braidcast_io::UringUnavailable::NotInKernel), ..ring };
        assert!(matches!(choose_sending(&config, &none), Err(ServerError::NoUring(_))));
        config.io = IoMode::Portable;
        assert!(matches!(choose_sending(&config, &ring), Err(ServerError::ZeroCopyWithoutUring)));
    }
}
