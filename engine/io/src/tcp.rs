//! Packets back to back in TCP connections, for networks that block UDP. It knows no packet: [`Framing`] tells how long
//! each one is.

mod client;
mod connection;
mod inbox;
mod listener;
mod shard;
mod table;

use std::time::Duration;

use crate::limits::{STREAM_ADMITTED_WITHIN, STREAM_IDLE, STREAMS_MAX, STREAMS_PER_ADDRESS_MAX};
use crate::train::Train;

pub use client::ClientStream;
pub use listener::{StreamListener, bind_pair};
pub use shard::run_streams;

/// Bytes of the packet that starts with these two; nothing if no packet does.
pub type PacketBytes = fn([u8; 2]) -> Option<usize>;

/// What a server must know of the packets in its streams.
#[derive(Debug, Clone, Copy)]
pub struct Framing {
    /// How incoming bytes are cut.
    pub packet_bytes: PacketBytes,
    /// Whether an answer shows that the service has let its peer in. A connection that gets none in time is closed.
    pub admits: fn(&Train) -> bool,
}

/// What the clients of a [`StreamListener`] may take.
#[derive(Debug, Clone, Copy)]
pub struct StreamBounds {
    /// Connections. Default [`STREAMS_MAX`].
    pub connections: usize,
    /// Connections among them from one address (IPv6: one /64), and at most half of them. Default
    /// [`STREAMS_PER_ADDRESS_MAX`].
    pub per_address: usize,
    /// How long a connection may take to be admitted. Default [`STREAM_ADMITTED_WITHIN`].
    pub admitted_within: Duration,
    /// How long nothing may move on a connection. Default [`STREAM_IDLE`].
    pub idle: Duration,
}

impl Default for StreamBounds {
    fn default() -> Self {
        Self {
            connections: STREAMS_MAX,
            per_address: STREAMS_PER_ADDRESS_MAX,
            admitted_within: STREAM_ADMITTED_WITHIN,
            idle: STREAM_IDLE,
        }
    }
}
