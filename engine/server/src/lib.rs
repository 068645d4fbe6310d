//! A Braidcast media server: a cache of packs that answers PULLs.
//!
//! It joins a master, fills the packs that the master orders from the origin, and serves them extent by extent as soon
//! as each was checked. [`Server::start`] does all of that; what follows is how it is cut.
//!
//! ```text
//!            datagrams                                    orders, packs (gRPC over TLS)
//!                |                                                   |
//!   shard 0 .. N: one thread, socket and responder each     control: Join, Heartbeat
//!      |    |       |  PULL of another shard: mailbox             |         |
//!      |    |       |                                          keeper     verify, probe, push
//!      |    |   catalogue: immutable, swapped                     |
//!      |    |       |                                           fill (origin)
//!      |    |     pack: which extents are held, which hot         |
//!      |  parking   |____ open packs: a bounded number of files __|
//!      |    |               |
//!      |    +-- warm: helper threads read cold extents in
//!    trains of mapped file regions
//! ```
//!
//! - **A shard never waits** for a disk, a lock or another thread; the others are there so that it need not.
//! - **A chunk is served only after its extent's hash was checked** against a header that the master vouches for.
//! - **No byte of a chunk is touched** by this crate on the way out: the kernel cuts packets from the mapped file.
//! - Every queue is bounded; [`limits`] has the bounds, all in one place.
#![forbid(unsafe_code)]

mod answer;
mod backoff;
mod catalogue;
pub mod config;
mod control;
pub mod counters;
pub mod error;
mod extents;
mod fill;
mod folder;
mod keeper;
pub mod limits;
mod mailbox;
mod master;
mod open_packs;
mod order;
mod origin;
mod pack;
mod parking;
mod probe;
mod push;
mod scrub;
pub mod server;
mod shard;
mod telling;
mod total_rate;
mod turns;
mod verify;
mod warm;

pub use braidcast_io::IoMode;
pub use config::{JoinToken, ServerConfig, ZeroCopyMode};
pub use counters::ServerCounters;
pub use error::ServerError;
pub use server::Server;
