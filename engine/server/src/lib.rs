//! A Braidcast media server: a cache of packs that answers PULLs.
#![forbid(unsafe_code)]

pub mod config;
pub mod error;
pub mod limits;
pub mod server;

pub use config::{IoMode, JoinToken, ServerConfig};
pub use error::ServerError;
pub use server::Server;
