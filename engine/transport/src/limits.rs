//! Every bound of the protocol (PROTOCOL.md, section 7), related to the others.

use std::time::Duration;

use braidcast_media::layout::{PACKET_BYTES, TAG_BYTES};

/// The version that this code speaks.
pub const VERSION: u8 = 1;

/// Size of HELLO.
pub const HELLO_BYTES: usize = PACKET_BYTES;
/// Size of WELCOME.
pub const WELCOME_BYTES: usize = 84;
/// Size of PULL.
pub const PULL_BYTES: usize = 112;
/// Size of an END that lists no runs.
pub const END_BYTES_MIN: usize = 88;
/// Size of an END that lists [`RUNS_PER_PULL_MAX`] runs.
pub const END_BYTES_MAX: usize = END_BYTES_MIN + RUNS_PER_PULL_MAX * RUN_BYTES;
/// Size of RESET.
pub const RESET_BYTES: usize = 16;
/// Size of VERSIONS with one version.
pub const VERSIONS_BYTES_MIN: usize = 13;
/// Size of VERSIONS with fifteen, all that four bits can name.
pub const VERSIONS_BYTES_MAX: usize = 27;
/// Size of a run on the wire.
pub const RUN_BYTES: usize = 6;

/// Chunks that one PULL may ask for.
pub const CHUNKS_PER_PULL_MAX: u16 = 52;
/// Runs that one PULL may ask for.
pub const RUNS_PER_PULL_MAX: usize = 8;
/// Most bytes that a server sends beyond the newest proof of receipt: twice what a path of 50 Mbit/s and 600 ms holds
/// with a full queue of the same size.
pub const UNPROVEN_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes that a server sends beyond the newest proof to a session with this rate in KiB/s (0 = not limited).
pub const fn unproven_bytes_max(rate_kib_s: u32) -> u64 {
    let second = rate_kib_s as u64 * 1024;
    if rate_kib_s == 0 || second > UNPROVEN_BYTES_MAX { UNPROVEN_BYTES_MAX } else { second }
}
/// Least train that a server sends at a rate that is named.
pub const TRAIN_CHUNKS_MIN: u16 = 2;
/// A train holds what the rate named makes in this time, if that is more.
pub const TRAIN_TIME: Duration = Duration::from_millis(1);
/// Longest time for which a server keeps a PULL waiting because of the rate; one beyond it is answered BUSY.
pub const PACED_FOR_MAX: Duration = Duration::from_secs(1);
/// Sequences that a server remembers to tell a replay.
pub const REPLAY_WINDOW: u32 = 1_024;
/// PULLs that a session may have unanswered.
pub const PULLS_UNANSWERED_MAX: u16 = 512;
/// Sessions of a shard that have not sent a PULL yet. Beyond it one of the user who holds the most of them leaves.
pub const HALF_OPEN_MAX: usize = 1_024;
/// Sessions of a shard. Beyond it one of the user who holds the most leaves, if the newcomer's user holds fewer.
pub const SESSIONS_MAX: usize = 65_536;
/// Sessions that one ticket may open on a shard.
pub const SESSIONS_PER_TICKET_MAX: u16 = 64;
/// A session that is silent for so long is forgotten.
pub const SESSION_IDLE: Duration = Duration::from_secs(120);
/// RESETs and VERSIONS of a shard, each, per second.
pub const HINTS_PER_SECOND: u32 = 1_000;
/// Tolerated difference between the clocks of master and server.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Least rate that a session is given, so that its one-second bound holds a whole train.
pub const RATE_KIB_S_MIN: u32 = 64;

/// HELLOs that a client sends before it gives a server up.
pub const HELLO_TRIES: u32 = 4;
/// Pause after the first HELLO; it doubles after each.
pub const HELLO_RETRY: Duration = Duration::from_millis(300);
/// At most one new greeting on the word of a RESET in this time.
pub const RESET_PAUSE: Duration = Duration::from_secs(1);

/// UDP payload that IPv4 can carry.
const UDP_PAYLOAD_MAX: usize = 65_507;

const TRAIN_BYTES_MAX: usize = CHUNKS_PER_PULL_MAX as usize * PACKET_BYTES + END_BYTES_MAX;
const _: () = assert!(TRAIN_BYTES_MAX <= UDP_PAYLOAD_MAX);
const _: () = assert!(TRAIN_BYTES_MAX as u64 <= RATE_KIB_S_MIN as u64 * 1024);
const _: () = assert!(END_BYTES_MIN <= PULL_BYTES);
const _: () = assert!(RESET_BYTES <= PULL_BYTES && WELCOME_BYTES < HELLO_BYTES);
const _: () = assert!(PULL_BYTES == 16 + 32 + RUNS_PER_PULL_MAX * RUN_BYTES + TAG_BYTES);
const _: () = assert!(PULLS_UNANSWERED_MAX as u32 <= REPLAY_WINDOW / 2);
