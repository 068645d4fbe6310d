//! Sockets and files: the only crate that knows how bytes reach the kernel, and the one that holds `unsafe` code
//! (all of it in the private module `sys`).
//!
//! It knows nothing of frames, packs or packets. A media server gives it a [`Service`] for each [`ServerSocket`];
//! a client reads [`ClientSocket`]s when its [`Selector`] says so. Where UDP is blocked, [`run_streams`] drives the same
//! service for TCP connections, and a client has a [`ClientStream`].
//!
//! # How a service is driven
//! A thread calls [`run`], which owns the socket from then on and repeats, until [`Waker::stop`]:
//!
//! 1. **[`Service::handle_timeout`] if the instant of [`Service::poll_timeout`] has come.**
//! 2. **[`Service::handle_wake`] if [`Waker::wake`] was called since, or if the last call left the outbox full.**
//! 3. **[`Service::handle_datagram`] for each datagram that has arrived, as long as half of the [`Outbox`] is free.**
//! 4. **[`Service::fill`], so that of all that has arrived the most urgent may leave first.**
//! 5. **What stands in the outbox is sent: each [`Train`] by a system call or ring operation, or by reference (`sendfile`),
//!    its tail with others;
//!    [`Service::on_send_error`] hears of each train that could not be.**
//! 6. **If nothing is left to do, the thread sleeps until a datagram, a wake or the instant of `poll_timeout`.**
//!
//! No call is made with a full outbox, and none while a send is under way. So at most [`limits::TRAINS_MAX`] trains
//! exist at a time: that bounds the memory of a shard and the file regions that it pins, and a slow network card
//! slows the taking of datagrams instead of filling a queue.
//!
//! ```
//! use std::io;
//! use std::net::SocketAddr;
//! use std::num::{NonZeroU16, NonZeroUsize};
//! use std::time::Instant;
//!
//! use braidcast_io::{
//!     Backend, ClientSocket, Outbox, ReceiveBuffer, Selector, Sending, ServerSocket, Service, Train, ZeroCopy, waker,
//! };
//!
//! struct Echo;
//!
//! impl Service for Echo {
//!     fn handle_datagram(&mut self, _now: Instant, from: SocketAddr, datagram: &[u8], out: &mut Outbox) {
//!         let answer = Train::datagram(from, datagram).expect("shorter than a tail may be");
//!         out.push(answer).expect("room for one train at each call");
//!     }
//!     fn handle_wake(&mut self, _now: Instant, _out: &mut Outbox) {}
//!     fn handle_timeout(&mut self, _now: Instant, _out: &mut Outbox) {}
//!     fn poll_timeout(&self) -> Option<Instant> {
//!         None
//!     }
//!     fn on_send_error(&mut self, _to: SocketAddr, _error: &io::Error) {}
//! }
//!
//! # fn main() -> io::Result<()> {
//! let segment_bytes = NonZeroU16::new(1_232).unwrap();
//! let mut sockets = ServerSocket::bind(([127, 0, 0, 1], 0).into(), NonZeroUsize::MIN, segment_bytes)?;
//! let socket = sockets.pop().unwrap();
//! let server = socket.local_addr();
//! let (waker, wakes) = waker();
//! let sending = Sending { backend: Backend::Portable, zero_copy: ZeroCopy::Off };
//! let shard = std::thread::spawn(move || braidcast_io::run(sending, socket, &mut Echo, wakes));
//!
//! let client = std::sync::Arc::new(ClientSocket::connect(server)?);
//! client.send(b"hello")?;
//! let mut selector = Selector::new()?;
//! selector.add(0, client.clone())?;
//! selector.wait(None, |_key| {})?;
//! client.recv(&mut ReceiveBuffer::new(), |datagram| assert_eq!(datagram, b"hello"))?;
//!
//! waker.stop();
//! shard.join().unwrap()
//! # }
//! ```

#![deny(unsafe_code)]

mod capabilities;
mod client;
pub mod limits;
mod mapped;
mod outbox;
mod plain;
mod receive;
mod selector;
mod sender;
mod server;
mod service;
mod shard;
mod sys;
mod tails;
mod tcp;
mod train;
mod wake;

pub use capabilities::{Backend, Capabilities, IoMode, UnknownIoMode, UringUnavailable, ZeroCopy, choose};
pub use client::{ClientSocket, Received};
pub use mapped::{MappedFile, Region};
pub use outbox::Outbox;
pub use receive::ReceiveBuffer;
pub use selector::{Selector, SelectorWaker, Watched};
pub use server::ServerSocket;
pub use service::Service;
pub use shard::{Sending, run};
pub use sys::ring::Notification;
pub use tcp::{ClientStream, Framing, PacketBytes, StreamBounds, StreamListener, bind_pair, run_streams};
pub use train::{Train, TrainError};
pub use wake::{WakeReceiver, Waker, waker};
