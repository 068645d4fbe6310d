//! Connections and calls, before anybody is known.
//!
//! ```text
//! accept      a descriptor is free, or nothing is accepted       accept.rs, descriptors.rs
//! seat        bounded in all and per address; the oldest          seats.rs
//!             connection that nobody has proven gives way
//! handshake   TLS, bounded in number and time                     accept.rs
//! line        at most so many bytes until somebody is known       line.rs
//! call        bounded in number and time                          calls.rs
//! answer      ends if its receiver takes nothing of it            answer.rs
//! ```
//!
//! A connection is proven once a call on it bore a valid token, or signed in. The gates and Auth say so.

pub(crate) mod accept;
mod answer;
pub(crate) mod calls;
pub(crate) mod descriptors;
pub(crate) mod line;
mod network;
mod seats;
mod seldom;

pub(crate) use line::{peer, prove};
pub(crate) use network::Network;
pub(crate) use seldom::Seldom;
