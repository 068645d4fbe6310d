//! The data plane's protocol, without I/O.
//!
//! `proto/PROTOCOL.md` is the specification. Nothing here reads a clock, opens a socket or draws a random number: time,
//! datagrams and seeds come in, datagrams and events go out. The same code runs under io_uring, under plain sockets
//! and under tests that lose and forge packets.
//!
//! **The driving contract.** A client owns one [`puller::Puller`] per server and repeats:
//! 1. hand every datagram that arrived to [`puller::Puller::handle_datagram`] (DATA to
//!    [`puller::Puller::handle_data`], which opens it straight into its place);
//! 2. take [`puller::Puller::poll_event`] until it gives nothing;
//! 3. ask for chunks with [`puller::Puller::pull`] while [`puller::Puller::capacity_chunks`] allows;
//! 4. send what [`puller::Puller::poll_transmit`] gives;
//! 5. sleep until a datagram, or until [`puller::Puller::poll_timeout`], and then call
//!    [`puller::Puller::handle_timeout`].
//!
//! A server owns one [`responder::Responder`] per thread, hands it every datagram, and for each
//! [`responder::Action::Pull`] sends the chunks and then the packet that [`responder::Responder::answer`] makes.
#![forbid(unsafe_code)]

pub mod congestion;
pub mod handshake;
mod keys;
pub mod limits;
pub mod packet;
pub mod puller;
mod replay;
pub mod responder;
mod seeded;
