//! Backups: one file with everything that the packs need, and no pack.
//!
//! A backup is an SQLite database: a consistent copy of the master's ([`write()`]), with two tables more that say what it
//! is and hold the files of the state folder without which clients and servers would not know the master again. Its
//! application id tells it from any other database, a master's included, and a digest at its end tells whether a bit of it
//! is rotten. [`restore()`] puts one in place.

mod daily;
mod digest;
mod error;
mod partial;
mod read;
mod restore;
pub(crate) mod snapshots;
pub(crate) mod unfinished;
mod write;

use std::path::PathBuf;

use crate::config::MasterConfig;

pub(crate) use daily::Daily;
pub use error::BackupError;
pub use restore::{Restored, restore};
pub(crate) use write::is_backup;
pub use write::{Written, write};

/// `BRCD`, in SQLite's header.
const APPLICATION_ID: u32 = 0x4252_4344;
/// Where SQLite's header has it (<https://www.sqlite.org/fileformat.html>, section 1.3).
const APPLICATION_ID_AT: u64 = 68;
/// Version of the two tables; a later one is not read.
const FORMAT: i64 = 1;

/// The files of the state folder that go into a backup, by the names that they have in both. The key is written before
/// the certificate, as the first start does.
fn files(config: &MasterConfig) -> [(&'static str, PathBuf); 3] {
    let join_token = config.state_dir.join(JOIN_TOKEN);
    [(CA_KEY, config.ca_key_path()), (CA_CERTIFICATE, config.ca_path()), (JOIN_TOKEN, join_token)]
}

const CA_KEY: &str = "ca.key";
const CA_CERTIFICATE: &str = "ca.pem";
const JOIN_TOKEN: &str = "join-token";
