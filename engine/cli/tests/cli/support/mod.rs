//! What the tests of the `braidcast` command have in common: real processes on loopback, measured from outside.
//!
//! ```ignore
//! let dev = Dev::of([("film", 200_000_000)]).start();             // a master and three servers hold a film
//! let got = dev.client().get("film").to(&dev.path("copy")).finish();
//! assert_eq!(got.report().bytes, 200_000_000);                    // what `get --json` says; exit code 0 is asserted
//! assert_eq!(sha256_of_file(&dev.path("copy")), dev.film("film").sha256);
//! ```
//! - [`Dev`]: `braidcast dev` with films of its own, whose servers can be killed, frozen and brought back
//! - [`Cluster`]: a master and servers started one by one, each with flags of its own
//! - [`Client`]: what a user does with a profile: [`Client::run`] any command, [`Client::get`] a video, ask the
//!   master directly ([`Client::ask`]), read the servers' own counters ([`Client::sent_bytes`])
//! - [`Get`]: a `braidcast get` that is being made, runs ([`Running`]) or has ended ([`Ended`])
//! - [`SlowReader`]: takes what a process writes at a given pace, so that a download lasts
//! - [`Process`]: any process; it never outlives its test, and a test that fails prints what it said
//!
//! Nothing here sleeps for a fixed time to let something happen: it is waited for, for [`PATIENCE`] at most.

mod client;
mod clock;
mod cluster;
mod dev;
mod films;
mod get;
mod holdings;
mod memory;
mod mount;
mod ordinary_user;
mod partial;
mod process;
pub(crate) mod proxy;
mod reading;
mod skip;
mod slow_reader;
pub(crate) mod wire;

use std::time::{Duration, Instant};

pub(crate) use client::{Client, Output};
pub(crate) use clock::Clock;
pub(crate) use cluster::Cluster;
pub(crate) use dev::{Dev, DevBuilder};
pub(crate) use films::{Film, sha256_of, sha256_of_file, write_film};
pub(crate) use get::{Ended, Get, Report, SourceReport};
pub(crate) use holdings::{assert_holds_only, file_names, packs};
pub(crate) use memory::{AnonymousPeak, cpu_time, rss_kib};
pub(crate) use mount::Mount;
pub(crate) use ordinary_user::OrdinaryUser;
pub(crate) use partial::{chunks, hash_list_bytes, missing_chunks, partial_path, wait_written};
pub(crate) use process::{Process, braidcast, limited};
pub(crate) use reading::read_so_far;
pub(crate) use skip::skip;
pub(crate) use slow_reader::SlowReader;

/// How long anything is waited for: generous, since other work may share the machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `found` gives something.
///
/// # Panics
/// If it gives nothing for [`PATIENCE`].
pub(crate) fn eventually<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let give_up = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < give_up, "waited {PATIENCE:?} in vain: {what}");
        std::thread::sleep(POLL);
    }
}

const POLL: Duration = Duration::from_millis(10);
