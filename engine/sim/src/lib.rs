//! The network in which the brain is judged: links with every fault, and worlds of clients and servers in virtual time.
//!
//! [`link`] and [`rng`] know no virtual clock: the lab's router sends real packets through the same links.
#![forbid(unsafe_code)]

pub mod asset;
pub mod client;
pub mod cross;
pub mod film;
mod ledger;
pub mod link;
pub mod network;
pub mod rng;
pub mod scenarios;
pub mod server;
pub mod swarm;
pub mod tcp;
mod trace;
pub mod world;
