//! A server, its state folder and its master, put together for one test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use braidcast_proto::v1::master_order::Order;
use braidcast_server::{JoinToken, Server, ServerConfig};
use tempfile::TempDir;

use crate::asset::Film;
use crate::client::Client;
use crate::master::{self, Certificate, Master};

pub(crate) struct Rig {
    pub(crate) master: Master,
    pub(crate) server: Server,
    pub(crate) dir: TempDir,
}

impl Rig {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    pub(crate) async fn start_with(change: impl FnOnce(&mut ServerConfig)) -> Self {
        let master = Master::start().await;
        let dir = tempfile::tempdir().expect("temporary folder");
        Self::start_in_with(master, dir, change).await
    }

    /// A rig whose server holds `film` in full.
    pub(crate) async fn holding(film: &Film) -> Self {
        Self::holding_with(film, |_| {}).await
    }

    pub(crate) async fn holding_with(film: &Film, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let rig = Self::start_with(change).await;
        rig.master.publish(film.id, film.pack.clone());
        rig.master.order(Order::Hold(film.order())).await;
        rig.master.held_in_full(film.id).await;
        appears(&rig.file(film, "pack")).await;
        rig
    }

    /// A rig whose server has room for `capacity` bytes and holds all of `films`, in full.
    pub(crate) async fn holding_all(films: &[&Film], capacity: u64) -> Self {
        let rig = Self::start_with(|config| config.capacity_bytes = capacity).await;
        for film in films {
            rig.fill(film).await;
        }
        rig
    }

    /// Publishes `film` and waits until the server holds it in full.
    pub(crate) async fn fill(&self, film: &Film) {
        self.master.publish(film.id, film.pack.clone());
        self.master.order(Order::Hold(film.order())).await;
        self.master.held_in_full(film.id).await;
        appears(&self.file(film, "pack")).await;
    }

    /// Ends the server and starts another on the same folder.
    pub(crate) async fn restart(self) -> Self {
        let Self { master, server, dir } = self;
        server.shutdown().await;
        Self::start_in(master, dir).await
    }

    /// A server on a folder that is there already.
    pub(crate) async fn start_in(master: Master, dir: TempDir) -> Self {
        Self::start_in_with(master, dir, |_| {}).await
    }

    /// The same with other settings.
    pub(crate) async fn start_in_with(master: Master, dir: TempDir, change: impl FnOnce(&mut ServerConfig)) -> Self {
        let mut config = config(&master, &dir);
        change(&mut config);
        let server = Server::start(config).await.expect("the server starts again");
        Self { master, server, dir }
    }

    /// A client with a session for `film`.
    pub(crate) fn client(&self, film: &Film) -> Client {
        Client::greet(self.server.udp_addr(), film, master::ticket(&[film.id], master::in_seconds(600)))
    }

    /// Where the pack of `film` stands in this stage.
    pub(crate) fn file(&self, film: &Film, suffix: &str) -> PathBuf {
        self.dir.path().join(format!("{}.{suffix}", film.id))
    }

    /// Where the pack of `film` stands after it was set aside.
    pub(crate) fn aside(&self, film: &Film) -> PathBuf {
        self.dir.path().join("aside").join(format!("{}.pack", film.id))
    }
}

/// How the servers of the tests are set.
pub(crate) fn config(master: &Master, dir: &TempDir) -> ServerConfig {
    config_for(master.address, &master.certificate, dir)
}

pub(crate) fn config_for(master: SocketAddr, certificate: &Certificate, dir: &TempDir) -> ServerConfig {
    let token = JoinToken::new(master::JOIN_TOKEN);
    let mut config = ServerConfig::new(dir.path(), master.to_string(), certificate.pem.clone(), token);
    config.listen = ([127, 0, 0, 1], 0).into();
    // Tests do not wait for more than a minute.
    config.spare_for = Duration::ZERO;
    config
}

/// Waits for a pack to get its name, which is a moment after its last extent is held.
pub(crate) async fn appears(path: &Path) {
    eventually(&format!("{} appears", path.display()), || path.exists()).await;
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + master::WAIT;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
