//! Every bound of this crate.

use std::time::Duration;

/// Most file regions in one train.
pub const REGIONS_PER_TRAIN_MAX: usize = 8;
/// Longest inline end of a train, and longest plain datagram, in bytes.
pub const TAIL_BYTES_MAX: usize = 136;
/// Longest train in bytes: what one UDP send over IPv4 can carry (65,535 less the headers of IP and UDP).
pub const TRAIN_BYTES_MAX: usize = 65_507;
/// Shortest file region that is sent by reference rather than copied ([`crate::ZeroCopy::Sendfile`]). Two system calls more,
/// and a packet apart for the tail, cost more than copying 16 chunks and less than copying 52 (`cargo bench --bench trains`).
pub const SENDFILE_BYTES_MIN: usize = 32_768;
/// Trains that a shard holds at a time, waiting or under way: with full trains one pass hands the kernel 1 MB, about
/// 150 us of work, and pins [`REGIONS_PER_TRAIN_MAX`] times as many file regions at most.
pub const TRAINS_MAX: usize = 16;

/// Messages taken by one `recvmmsg`.
pub const RECEIVE_BATCH: usize = quinn_udp::BATCH_SIZE;
/// Room for one message: GRO coalesces datagrams up to the longest IP packet.
pub const MESSAGE_BYTES_MAX: usize = 65_536;

/// Destinations remembered as unable to take trains; the one that is due first makes room.
pub const PLAIN_DESTINATIONS_MAX: usize = 1_024;
/// How long a destination gets single packets before a train is tried again.
pub const PLAIN_FOR: Duration = Duration::from_secs(10);

/// Pause after an error that has no event to wait for: `ENOBUFS` from a device queue, a failed receive.
pub const RETRY_AFTER: Duration = Duration::from_millis(1);
/// How long a stopped shard goes on sending what stands in its outbox.
pub const DRAIN_MAX: Duration = Duration::from_millis(500);
/// Trains sent without a copy whose memory the network card may still read: 4 MB of full ones. Beyond, sending waits.
pub const NOTIFICATIONS_MAX: usize = 64;

/// Receive buffer that a client asks for. The kernel may grant less: [`crate::ClientSocket::granted_receive_bytes`].
pub const CLIENT_RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// Receive buffer that a server asks for: 16,000 waiting requests.
pub const SERVER_RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// Send buffer that a server asks for: 6 ms of a 10 Gbit/s card.
pub const SERVER_SEND_BUFFER_BYTES: usize = 8 << 20;

/// TCP connections of a server. Each takes a descriptor and [`STREAM_INBOX_BYTES`].
pub const STREAMS_MAX: usize = 1_024;
/// TCP connections among them from one client address (IPv6: one /64): a school is one address.
pub const STREAMS_PER_ADDRESS_MAX: usize = 256;
/// How often the log tells of TCP connections that were refused.
pub const REFUSED_LOGGED_EVERY: Duration = Duration::from_secs(10);
/// How long a TCP connection may take to be admitted.
pub const STREAM_ADMITTED_WITHIN: Duration = Duration::from_secs(5);
/// A TCP connection on which no byte has moved for so long is closed.
pub const STREAM_IDLE: Duration = Duration::from_secs(120);
/// How often time-outs of TCP connections are looked at.
pub const STREAM_SWEEP: Duration = Duration::from_secs(1);
/// Bytes that a server holds of a TCP connection's input: the longest packet, and a burst of short ones.
pub const STREAM_INBOX_BYTES: usize = 4_096;
/// Trains that may wait on a TCP connection while it is still read from.
pub const STREAM_TRAINS_MAX: usize = 1;
/// Bytes of answers that wait on a TCP connection, those that a service finishes later included. Beyond it the connection
/// is closed.
pub const STREAM_QUEUED_BYTES_MAX: usize = 32 << 20;
/// Packets taken from one TCP connection before the others get their turn.
pub const STREAM_PACKETS_PER_TURN: usize = 16;
/// Bytes that the kernel takes from a server beyond what it has sent on a TCP connection (`TCP_NOTSENT_LOWAT`): two
/// trains. More would wait there out of reach of the client, which sets the pace.
pub const STREAM_NOT_SENT_BYTES: u32 = 128 << 10;
/// Connections that have not been accepted yet.
pub const STREAM_BACKLOG: i32 = 256;
/// Pause after an accept that failed for want of a descriptor or memory.
pub const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// Ports that are tried until one is free for UDP and TCP.
pub const PORT_TRIES: usize = 16;

/// Bytes that a client takes from a TCP connection at a time.
pub const CLIENT_STREAM_INBOX_BYTES: usize = 256 << 10;
/// Bytes that wait on a client for its TCP connection; a packet beyond is lost, as with UDP.
pub const CLIENT_STREAM_UNSENT_BYTES_MAX: usize = 64 << 10;

const _: () = assert!(STREAM_INBOX_BYTES < CLIENT_STREAM_INBOX_BYTES);
const _: () = assert!(STREAM_QUEUED_BYTES_MAX > 2 * TRAIN_BYTES_MAX);
const _: () = assert!(TAIL_BYTES_MAX < TRAIN_BYTES_MAX && TRAIN_BYTES_MAX < MESSAGE_BYTES_MAX);
// A whole outbox fits into an empty send buffer.
const _: () = assert!(SERVER_SEND_BUFFER_BYTES >= TRAINS_MAX * TRAIN_BYTES_MAX);
