//! Sockets, mapped files and both ways of driving a service, over loopback.

mod mapped;
mod pattern;
mod shard;
mod sockets;
mod streams;
