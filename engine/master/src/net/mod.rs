//! Connections and calls, before anybody is known.
//!
//! ```text
//! accept      a descriptor is free, or nothing is accepted       accept.rs, descriptors.rs
//! seat        bounded in all and per address; the oldest          seats.rs
//!             connection that nobody has proven gives way
//! handshake   TLS, bounded in number and time                     accept.rs
//! line        at most so many bytes until somebody is known       line.rs
//! gate        the token and role that the call needs             auth/gate.rs
//! call        bounded in number, for each caller, and in time    calls.rs
//! answer      ends if its receiver takes nothing of it            answer.rs
//! ```
//!
//! A connection is proven once a call on it bore a valid token, or signed in. The gate and Auth say so. One that is
//! proven and idle gives way where there is no stranger; after those one without a call under way gives way, of the user
//! who has most of them: nobody's many connections keep others out.

pub(crate) mod accept;
mod answer;
pub(crate) mod calls;
pub(crate) mod descriptors;
pub(crate) mod line;
mod network;
pub(crate) mod permits;
mod seats;
mod seldom;
pub(crate) mod shares;

pub(crate) use line::{peer, prove};
pub(crate) use network::Network;
pub(crate) use seldom::Seldom;
pub(crate) use shares::{Share, ShareBounds, Shares};
