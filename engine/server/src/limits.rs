//! Every bound and interval of a server, in one place. Those of the wire are in [`braidcast_transport::limits`].

use std::time::Duration;

use braidcast_media::layout::SEALED_EXTENT_BYTES;
use braidcast_transport::limits::{CHUNKS_PER_PULL_MAX, RUNS_PER_PULL_MAX};

/// Shards of one server for UDP; one more is for TCP. A shard's number is one byte of its session handles.
pub const SHARDS_MAX: u8 = 64;

/// Requests of one shard that wait for cold extents. Beyond it the answer is BUSY.
pub(crate) const PARKED_MAX: usize = 1_024;
/// Requests of one session among them: one client that jumps about in a cold film does not shut others out.
pub(crate) const PARKED_PER_SESSION_MAX: usize = 64;
/// Extents that one shard awaits at a time.
pub(crate) const AWAITED_MAX: usize = 512;
/// Extents that are read in before they are asked for: 2.5 MB, which keeps a disk busy for one client.
pub(crate) const EXTENTS_AHEAD: usize = 8;
/// A request that waited for so long is answered BUSY.
pub(crate) const PARKED_FOR_MAX: Duration = Duration::from_secs(2);
/// What BUSY asks the client to wait at least, when the disk or the shard is behind.
pub(crate) const BUSY_RETRY: Duration = Duration::from_millis(50);
/// Answers of one shard that leave in several trains. Beyond it the answer is BUSY.
pub(crate) const PACED_MAX: usize = 16_384;
/// What a server may send at once, within its total rate, after a pause.
pub(crate) const TOTAL_RATE_BURST: Duration = Duration::from_millis(10);
/// What of the total rate nobody has taken for so long, a shard that has used up its own share may take: longer than
/// shards are late for their own.
pub(crate) const TOTAL_RATE_SPARE_AFTER: Duration = Duration::from_millis(5);
/// Requests of one shard that wait for their turn. Beyond it the answer is BUSY. Those of a session are bounded by
/// [`braidcast_transport::limits::PULLS_UNANSWERED_MAX`].
pub(crate) const TURNS_MAX: usize = 16_384;
/// How long requests may wait for their turn; a further one is answered BUSY. A client gives up what it hears nothing of
/// for 200 ms.
pub(crate) const TURNS_WAIT_MAX: Duration = Duration::from_millis(100);
/// A session that has asked for nothing for so long has no share of the total rate.
pub(crate) const TURNS_IDLE: Duration = Duration::from_millis(200);
/// Extents that one request can touch: each run lies in two at most.
pub(crate) const EXTENTS_PER_PULL_MAX: usize = 2 * RUNS_PER_PULL_MAX;

/// Threads that make extents hot. They wait for the disk, so they are not bound to cores.
pub(crate) const WARM_THREADS: usize = 4;
/// Extents that wait for such a thread, of all shards.
pub(crate) const WARM_QUEUE_MAX: usize = 2_048;
/// While so many wait, of all shards, nothing is read ahead: what is asked for comes first.
pub(crate) const WARM_AHEAD_MAX: usize = 32;
/// How long an extent counts as hot. After that it is populated again, which costs microseconds while its pages are
/// still in memory, and keeps a shard from meeting pages that the kernel took back.
pub(crate) const HOT_FOR: Duration = Duration::from_secs(30);

/// Most packs that are open at a time, whatever the system allows: each costs the kernel a file and a map, about 2 KiB.
pub(crate) const OPEN_PACKS_MAX: usize = 16_384;
/// So many may be open however low the limit is: one for each helper that opens packs, and for each fill.
pub(crate) const OPEN_PACKS_MIN: usize = 16;
/// When the system lets no file be opened, so many packs close, and as many fewer are open from then on.
pub(crate) const OPEN_PACKS_SHRINK: usize = 16;
/// How often opening a pack is tried while the system lets no file be opened.
pub(crate) const OPEN_TRIES: usize = 3;
/// Descriptors that are left for all that is neither a pack nor a client: standard streams and logs (4), the state
/// folder's lock and small files (4), the runtime (4), the master's connection and a second one while it changes (4),
/// probes ([`PROBES_MAX`]), and what libraries open for a moment.
pub(crate) const DESCRIPTORS_RESERVED: usize = 64;
/// Descriptors of one shard: a socket and its duplicate, epoll, a waker, a timer, the ring and its duplicate.
pub(crate) const DESCRIPTORS_PER_PORT: usize = 8;
/// Descriptors that are left for clients over TCP.
pub(crate) const DESCRIPTORS_FOR_TCP: usize = braidcast_io::limits::STREAMS_MAX;
/// The usual limit on open files, where the system does not tell its own.
pub(crate) const DESCRIPTORS_USUAL: u64 = 1_024;
/// The usual limit on maps (`vm.max_map_count`), where the system does not tell its own.
pub(crate) const MAPS_USUAL: u64 = 65_530;
/// For each open pack so many maps are reckoned: its own, and one for threads, heap and libraries.
pub(crate) const MAPS_PER_PACK: u64 = 2;

/// Large packs that are filled at a time; the others wait.
pub(crate) const FILLS_MAX: usize = 2;
/// Small packs that are filled at a time. Of such a fill most is waiting, for the origin and for the disk to sync.
pub(crate) const SMALL_FILLS_MAX: usize = 8;
/// A pack of so many extents is small: about 2 MB.
pub(crate) const SMALL_FILL_EXTENTS: u64 = 6;
/// Extents that one request to the origin asks for: 79 MiB, so that a stream that breaks costs little.
pub(crate) const FILL_EXTENTS_MAX: u32 = 256;
/// Longest header that a server reads: that of a pack of 157 GiB. It is held in memory during a fill.
pub(crate) const HEADER_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Bytes of an HTTP/2 stream that may be under way: bounds what a fill holds in memory beside its extent.
pub(crate) const FILL_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
/// An origin that sends nothing for so long is given up, and asked again.
pub(crate) const ORIGIN_SILENT: Duration = Duration::from_secs(15);
/// First and longest pause before a fill is tried again.
pub(crate) const FILL_RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// Time for a connection to the master.
pub(crate) const CONNECT_WITHIN: Duration = Duration::from_secs(3);
/// Time for an answer to Join.
pub(crate) const JOIN_WITHIN: Duration = Duration::from_secs(5);
/// First and longest pause before the master is asked again.
pub(crate) const JOIN_RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A connection to the master that stays silent after a ping is given up; both the interval and the wait.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// Between two reports to the master when nothing changes.
pub(crate) const REPORT_EVERY: Duration = Duration::from_secs(1);
/// After a change of what is held a report goes out no sooner, so that a fill does not cause one per extent.
pub(crate) const REPORT_AFTER_CHANGE: Duration = Duration::from_millis(50);
/// How old the counters of a shard may be, except for the bytes sent, which are exact.
pub(crate) const COUNTERS_EVERY: Duration = Duration::from_millis(100);
/// Reports that wait for the connection.
pub(crate) const REPORTS_QUEUED_MAX: usize = 2;
/// Longest report, encoded. The master refuses those of more than 16 KiB.
pub(crate) const REPORT_BYTES_MAX: usize = 12 * 1024;
/// What of it the figures about the server itself take at most.
pub(crate) const REPORT_FIXED_BYTES: usize = 64;
/// What one asset takes of it at most, or the answer to an order, beside texts: two numbers of 10 bytes and one of 8, a
/// flag, tags and lengths.
pub(crate) const HOLDING_BYTES_MAX: usize = 40;
/// Longest reason for a fill that does not go on; what the master keeps of it.
pub(crate) const REPORT_ERROR_BYTES_MAX: usize = 512;
/// Results of probes in one report; the others go with the next.
pub(crate) const REPORT_PROBES_MAX: usize = 64;
/// Between two reports while there is more to tell than one takes.
pub(crate) const REPORT_PIECE_AFTER: Duration = Duration::from_millis(5);

/// Probes under way; what comes beyond is reported as not answered, and the master orders it again.
pub(crate) const PROBES_MAX: usize = 16;
/// Orders to verify that wait; what comes beyond is left out, and clients that meet the damage have it ordered again.
pub(crate) const VERIFY_QUEUE_MAX: usize = 64;
/// Orders that were not followed and that wait for the next report; what comes beyond is in the log alone.
pub(crate) const REFUSALS_MAX: usize = 64;
/// Refusals in one report, some 300 bytes each: the others go with the next ones.
pub(crate) const REPORT_REFUSALS_MAX: usize = 8;
/// Orders to send a copy to the origin that wait; what comes beyond is left out, and the master asks again.
pub(crate) const PUSH_QUEUE_MAX: usize = 16;
/// Parts of a push that wait for the connection, 315 KB each, or a header of 16 MiB.
pub(crate) const PUSH_PARTS_QUEUED: usize = 4;
/// How long the origin may take to make a pushed pack durable before the push counts as failed.
pub(crate) const PUSH_ANSWER_WITHIN: Duration = Duration::from_secs(300);
/// How long the master must have called a copy spare before the copy may go: an order that asks for it again after the
/// origin or another server has lost its own arrives sooner.
pub(crate) const SPARE_FOR: Duration = Duration::from_secs(90);
/// How fast packs are hashed in the background, in bytes per second.
pub(crate) const SCRUB_BYTES_S: u64 = 8 * 1024 * 1024;
/// A round of scrubbing begins no sooner than this after the last one began.
pub(crate) const SCRUB_ROUND_MIN: Duration = Duration::from_secs(60 * 60);
/// How long a probe waits for WELCOME.
pub(crate) const PROBE_WITHIN: Duration = Duration::from_secs(1);
/// Between two HELLOs of a probe: one lost datagram does not make an address unproven.
pub(crate) const PROBE_REPEAT: Duration = Duration::from_millis(300);

/// Most chunks of a train that is sent without a copy. A packet of the kernel refers to 17 pages or runs of them at most
/// (MAX_SKB_FRAGS), of which the tail takes one: 49 x 1,232 bytes
/// lie in 16 pages at most.
pub(crate) const ZERO_COPY_CHUNKS_MAX: u16 = 49;

/// How far the clocks of master, server and client may differ (PROTOCOL.md, section 7).
pub const CLOCK_SKEW: Duration = braidcast_transport::limits::CLOCK_SKEW;

const _: () = assert!(SHARDS_MAX < u8::MAX);
const _: () = assert!(SMALL_FILLS_MAX.is_multiple_of(FILLS_MAX), "a large fill takes the place of so many small ones");
const _: () = assert!(
    REPORT_FIXED_BYTES + (REPORT_PROBES_MAX + 1) * HOLDING_BYTES_MAX + REPORT_ERROR_BYTES_MAX < REPORT_BYTES_MAX,
    "every report has room for an asset"
);
const _: () = assert!(OPEN_PACKS_MIN >= WARM_THREADS && OPEN_PACKS_MIN < OPEN_PACKS_MAX);
const _: () = assert!(DESCRIPTORS_RESERVED >= 16 + 2 * PROBES_MAX);
const _: () = assert!(TOTAL_RATE_SPARE_AFTER.as_nanos() < TOTAL_RATE_BURST.as_nanos());
const _: () = assert!(PARKED_PER_SESSION_MAX <= PARKED_MAX);
const _: () = assert!(AWAITED_MAX >= EXTENTS_PER_PULL_MAX && WARM_QUEUE_MAX > WARM_AHEAD_MAX);
const _: () = assert!(SHARDS_MAX as usize * AWAITED_MAX >= WARM_QUEUE_MAX, "one bound of the two would be idle");
const _: () = assert!(CHUNKS_PER_PULL_MAX as u32 <= braidcast_media::layout::CHUNKS_PER_EXTENT);
const _: () = assert!(FILL_EXTENTS_MAX as usize * SEALED_EXTENT_BYTES <= 80 * 1024 * 1024);
