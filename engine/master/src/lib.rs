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
//!
//! One module per noun. What decides is pure and reads no clock (`auth::throttle`, `auth::turns`, `net::seats`,
//! `cluster::registry`, `cluster::placement`, `distribution::plan`, `distribution::penalties`, `film::check`,
//! `healing::condition`, `healing::heals`, `publishing::attempts`); the services around
//! it pass the time in, talk gRPC, and keep the database and the disk.
#![forbid(unsafe_code)]

mod accounts;
mod auth;
pub mod backup;
mod catalogue;
mod clock;
mod cluster;
mod config;
mod database;
mod database_file;
mod db;
mod distribution;
mod errors;
mod film;
mod findings;
mod healing;
mod identity;
mod library;
mod limits;
mod maintenance;
mod master;
mod names;
mod net;
mod origin;
mod packs;
mod publishing;
mod random;
mod removed;
mod reserve;
mod room;
mod state_dir;
mod streams;
mod sync;
mod tickets;
mod tls;
mod users;

pub use accounts::{AccountNameError, PasswordError};
pub use config::{BootstrapAdmin, ConfigError, MasterConfig};
pub use db::DbError;
pub use identity::{IdentityError, Named};
pub use master::{Master, MasterError};
pub use state_dir::StateError;
pub use tls::TlsError;
