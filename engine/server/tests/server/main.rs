//! A whole server against a fake master and a client of its own, over real sockets on loopback.

mod asset;
mod client;
mod filling;
mod master;
mod membership;
mod refusals;
mod rig;
mod serving;
