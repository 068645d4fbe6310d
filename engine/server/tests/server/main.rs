//! A whole server against a fake master and a client of its own, over real sockets on loopback.

mod asset;
mod client;
mod filling;
mod master;
mod membership;
mod over_tcp;
mod protecting;
mod pushing;
mod refusals;
mod rig;
mod serving;
