//! Every bound of the master. What is configurable has its bound in [`crate::MasterConfig`].

use std::time::Duration;

use braidcast_media::frames::{FRAME_ENTRIES_PER_CHUNK, FRAME_ENTRY_BYTES};
use braidcast_media::layout::{HASH_BYTES, PAGE_BYTES};
use braidcast_media::ticket::TICKET_BYTES_MAX;
use braidcast_proto::MESSAGE_BYTES_MAX;

// Accounts.

/// Longest user name, in bytes of UTF-8.
pub(crate) const USERNAME_BYTES_MAX: usize = 64;
/// Shortest password, in characters (NIST SP 800-63B, section 5.1.1.2).
pub(crate) const PASSWORD_CHARS_MIN: usize = 8;
/// Longest password: hashing must not become a way to keep the master busy.
pub(crate) const PASSWORD_BYTES_MAX: usize = 1_024;
/// Passwords hashed at a time, however many cores there are; each takes 19 MiB. Fewer than `lock_after` is by default,
/// so that right ones side by side, which count as wrong until they were hashed, do not hold each other up.
pub(crate) const HASHES_AT_ONCE_MAX: usize = 4;
/// How long a login waits for its turn to be hashed.
pub(crate) const HASH_WAIT: Duration = Duration::from_secs(10);
/// Passwords that wait in one queue: three seconds of one core.
pub(crate) const HASH_QUEUE_MAX: usize = 64;
/// Passwords that wait in all queues of one kind, of callers who are known and of others.
pub(crate) const HASH_QUEUES_MAX: usize = 256;
/// Wrong passwords that an address may try before it must wait: a school is one address, and its pupils mistype.
pub(crate) const ADDRESS_ATTEMPTS_MAX: u32 = 64;
/// Time for one more: 600 pupils who mistype once in an hour are not held up, and a guesser has 14,400 tries a day
/// over all accounts.
pub(crate) const ADDRESS_REFILL: Duration = Duration::from_secs(6);
/// Wrong passwords for one account from addresses that never signed in to it, all together.
pub(crate) const ACCOUNT_ATTEMPTS_MAX: u32 = 32;
/// Time for one more: a botnet has 1,440 tries a day for one account.
pub(crate) const ACCOUNT_REFILL: Duration = Duration::from_secs(60);
/// What one waits after the last wrong password that is allowed in a row; doubles with each further one.
pub(crate) const DELAY_MIN: Duration = Duration::from_secs(1);
/// Such doublings at most: 12 days, which is longer than anybody sets.
pub(crate) const DELAY_DOUBLINGS_MAX: u32 = 20;
/// Wrong passwords in a row are forgotten after so many of the longest delays without one.
pub(crate) const RUN_LIFETIMES: u32 = 10;
/// Addresses, accounts, and pairs of both whose wrong passwords are counted; the least recent goes first.
pub(crate) const THROTTLED_MAX: usize = 8_192;
/// Pairs of address and account that are remembered as signed in; the least recent goes first.
pub(crate) const SIGNED_IN_MAX: usize = 16_384;
/// A refresh token that comes back within this time of being spent is a program that raced itself; later it is a
/// stolen one, and ends its login.
pub(crate) const REFRESH_RACE: Duration = Duration::from_secs(60);
/// Logins of one user; one more ends the one that was used least recently. With [`SPENT_TOKENS_KEPT`] they take some
/// 15 MB of the database.
pub(crate) const LOGINS_PER_USER_MAX: u32 = 4_096;
/// Spent refresh tokens of a login that are kept, to tell programs that race each other from a thief; older ones are told
/// by the login that they name.
pub(crate) const SPENT_TOKENS_KEPT: u32 = 16;
/// Life of a media server's token; a server that it is stale for joins again.
pub(crate) const SERVER_TOKEN_LIFETIME: Duration = Duration::from_hours(24);
/// Shortest join token, in bytes: 128 bits in hex.
pub(crate) const JOIN_TOKEN_BYTES_MIN: usize = 32;

// Publishing.

/// Longest name of a video, in bytes of UTF-8: what file systems take.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// Longest pack header: it travels in one message, with some room for the frame around it.
pub(crate) const PACK_HEADER_BYTES_MAX: u64 = (MESSAGE_BYTES_MAX - PAGE_BYTES) as u64;
/// Extents of all streams but the hash list, so that the pack header stays within [`PACK_HEADER_BYTES_MAX`]: less what
/// the header and stream 3 need themselves.
pub(crate) const ASSET_EXTENTS_MAX: u64 = PACK_HEADER_BYTES_MAX / HASH_BYTES as u64 - 256;
/// Publishing attempts that have begun and not been uploaded yet.
pub(crate) const ATTEMPTS_MAX: usize = 256;
/// Those of one user among them: a publisher whose programs break off must not keep the others from publishing.
pub(crate) const ATTEMPTS_PER_USER_MAX: usize = ATTEMPTS_MAX / 4;
/// How long an attempt waits for its upload.
pub(crate) const ATTEMPT_LIFETIME: Duration = Duration::from_hours(1);
/// Uploads at a time.
pub(crate) const UPLOADS_MAX: usize = 16;
/// Those of one user among them, as many as `braidcast publish` sends: a publisher whose uploads hang must not keep the
/// others from publishing.
pub(crate) const UPLOADS_PER_USER_MAX: usize = UPLOADS_MAX / 2;
/// Uploads that wait for their turn: publishers send several files at a time, and together more than [`UPLOADS_MAX`].
pub(crate) const UPLOADS_WAITING_MAX: usize = ATTEMPTS_MAX;
/// Those of one user among them.
pub(crate) const UPLOADS_WAITING_PER_USER_MAX: usize = ATTEMPTS_PER_USER_MAX;
/// How long an upload waits for its turn.
pub(crate) const UPLOAD_TURN_WAIT: Duration = Duration::from_secs(60);
/// Extents of an upload that wait for the disk.
pub(crate) const UPLOAD_QUEUE_EXTENTS: usize = 8;
/// An upload that sends nothing for this long is broken.
pub(crate) const UPLOAD_IDLE_MAX: Duration = Duration::from_secs(60);

// Films.

/// Longest description of a film: it travels in each answer about it.
pub(crate) const FILM_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Tracks of a film.
pub(crate) const FILM_TRACKS_MAX: usize = 64;
/// Longest name of a codec, a language or the like.
pub(crate) const FILM_TEXT_BYTES_MAX: usize = 255;
/// Decoder configurations of a track together.
pub(crate) const CODEC_DESCRIPTION_BYTES_MAX: usize = 1024 * 1024;
/// Width and height of a picture, in pixels.
pub(crate) const PICTURE_SIDE_MAX: u32 = 16_384;
/// Frames of a track: their numbers are 32 bits in the key-frame index.
pub(crate) const TRACK_FRAMES_MAX: u64 = 1 << 32;
const _: () = assert!(CODEC_DESCRIPTION_BYTES_MAX < FILM_BYTES_MAX);
const _: () = assert!(TRACK_FRAMES_MAX.div_ceil(FRAME_ENTRIES_PER_CHUNK) <= u32::MAX as u64, "chunk numbers");

// Origin.

/// Longest piece of a pack in one message.
pub(crate) const PIECE_BYTES: u64 = 1024 * 1024;
/// Packs read at a time; each has up to [`PIECES_QUEUED`] + 2 pieces in memory.
pub(crate) const READS_MAX: usize = 64;
/// Reads of one media server, which fills at most 8 packs at a time: it cannot take the turns of all others.
pub(crate) const READS_PER_SERVER_MAX: usize = 16;
/// How long a read waits for its turn; less than a server waits for the answer (15 s).
pub(crate) const READ_WAIT: Duration = Duration::from_secs(5);
/// Pieces read ahead of a server that takes them slowly.
pub(crate) const PIECES_QUEUED: usize = 2;
const _: () = assert!(PIECE_BYTES as usize + PAGE_BYTES <= MESSAGE_BYTES_MAX);

// Distribution.

/// Extents of a range in a large window: 16 x 307,200 bytes are 4.9 MB, a second of a fast link.
pub(crate) const RANGE_EXTENTS_MAX: u32 = 16;
/// Ranges that a small window is cut into for each host, so that all get an equal share of it.
pub(crate) const RANGES_PER_HOST: u32 = 4;
/// Ranges of one answer; a longer window is answered in part.
pub(crate) const RANGES_MAX: usize = 4_096;
/// Hosts of one answer.
pub(crate) const HOSTS_MAX: usize = 64;
/// Hosts of one range: the first choice and the alternates.
pub(crate) const HOSTS_PER_RANGE_MAX: usize = 8;
/// Frames of one answer; a longer window is answered in part.
pub(crate) const SPAN_FRAMES_MAX: u64 = 4_096;
/// Extents of one answer about frames, 1.26 GB; frames that reach further are left to the next answer.
pub(crate) const SPAN_EXTENTS_MAX: u32 = 4_096;
const _: () = assert!(SPAN_EXTENTS_MAX as usize <= RANGES_MAX, "even ranges of one extent cover a span whole");
/// How far the last frame that is shown by some time may stand from the last one decoded by then. Codecs hold back 16
/// pictures at most.
pub(crate) const REORDER_FRAMES_MAX: u64 = 64;
/// Longest answer without what is known of the film. A range takes four numbers of at most 6 bytes with their tags, its
/// hosts a byte each, and two lengths; a host takes its ticket, its secret and two short strings; the rest are the
/// roots, at one for 9,600 extents, and the names and numbers of the metadata.
const LIST_BYTES_MAX: usize = RANGES_MAX * (4 * 6 + HOSTS_PER_RANGE_MAX + 8)
    + HOSTS_MAX * (TICKET_BYTES_MAX + 256)
    + SPAN_FRAMES_MAX as usize * FRAME_ENTRY_BYTES
    + SPAN_EXTENTS_MAX as usize * HASH_BYTES
    + PAGE_BYTES;
const ANSWER_BYTES_MAX: usize = FILM_BYTES_MAX + LIST_BYTES_MAX;
const _: () = assert!(LIST_BYTES_MAX < 1024 * 1024 && ANSWER_BYTES_MAX < MESSAGE_BYTES_MAX);
const _: () = assert!(HOSTS_MAX < 128, "an index into the hosts is a varint of one byte");

/// How long a report of a failed server changes the reporter's lists.
pub(crate) const PENALTY: Duration = Duration::from_secs(60);
/// Penalties in force: reporters x servers; the one that ends first goes first.
pub(crate) const PENALTIES_MAX: usize = 65_536;
/// Failed hosts of one report that are looked at.
pub(crate) const FAILED_HOSTS_MAX: usize = HOSTS_MAX;
/// Extents that one report has a server check again.
pub(crate) const VERIFY_EXTENTS_MAX: usize = 256;
/// A server is told to check extents at most this often: hashing must not become a way to keep it busy.
pub(crate) const VERIFY_PAUSE: Duration = Duration::from_secs(1);

// Media servers.

/// Servers known, present or not.
pub(crate) const SERVERS_MAX: usize = 1_024;
/// Longest id of a server.
pub(crate) const SERVER_ID_BYTES_MAX: usize = 64;
/// Orders that wait to be sent to a server; what does not fit is ordered again later.
pub(crate) const ORDERS_QUEUED: usize = 1_024;
/// Assets that a server may hold.
pub(crate) const HOLDINGS_MAX: usize = 65_536;
/// Longest reason for a failed filling that is kept.
pub(crate) const HOLDING_ERROR_BYTES_MAX: usize = 512;
/// Such reasons of one server that are kept; one is shown.
pub(crate) const HOLDING_ERRORS_MAX: usize = 64;
/// How often the master looks at what its servers should do.
pub(crate) const STEER_INTERVAL: Duration = Duration::from_secs(1);
/// All assets are looked at again after this long, though nothing is known to have changed: what a disk has free is not
/// watched.
pub(crate) const STEER_ALL_EVERY: Duration = Duration::from_secs(10);
/// How long to wait for the connection to a server to take the orders that wait, before more are given.
pub(crate) const ORDERS_RETRY: Duration = Duration::from_millis(100);
/// How long a probe of an address is waited for before another is ordered.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// Probes of one address whose answers are still taken: on a slow path the answer to an earlier one comes late.
pub(crate) const PROBES_PENDING_MAX: usize = 8;
/// Probe results in one report that are looked at.
pub(crate) const PROBE_RESULTS_MAX: usize = 1_024;
/// Life of the ticket of a probe.
pub(crate) const PROBE_TICKET_LIFETIME: Duration = Duration::from_secs(30);
/// An order to hold an asset is repeated after this long, while the server does not report all of it.
pub(crate) const HOLD_REPEAT: Duration = Duration::from_secs(10);
/// A server that has been gone for this long is given up, and what it held is placed elsewhere. A restart takes
/// seconds; filling again is dear.
pub(crate) const REPLACE_AFTER: Duration = Duration::from_secs(60);
/// A new ticket key is sealed under only when its server has surely received it; the one before is good until then.
pub(crate) const KEY_SETTLE: Duration = Duration::from_secs(5);
/// A server that has not been seen for this long is forgotten at the next start.
pub(crate) const FORGET_AFTER: Duration = Duration::from_hours(30 * 24);

// Connections.

/// Calls and streams at a time on one connection.
pub(crate) const STREAMS_PER_CONNECTION_MAX: u32 = 256;
/// A connection is pinged this often, and closed when no answer comes within the same time.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(10);
/// Longest TLS handshake.
pub(crate) const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// How long calls under way may go on after [`crate::Master::shutdown`].
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

// The library.

/// Removed assets that are remembered; the oldest goes first. In memory they take 16 MiB at most.
pub(crate) const REMOVED_MAX: usize = 1_000_000;
/// Packs that do not match the database which a refusal names.
pub(crate) const MISMATCHES_LISTED: usize = 5;
/// Orphans in one answer or request; in a request they take 32 KiB.
pub(crate) const ORPHANS_LISTED: usize = 4_096;
/// Findings about one topic.
pub(crate) const FINDINGS_PER_TOPIC: usize = 64;
/// Daily snapshots that stay.
pub(crate) const SNAPSHOTS_KEPT: usize = 7;
/// How often the master looks whether a new day has begun.
pub(crate) const SNAPSHOT_CHECK_INTERVAL: Duration = Duration::from_mins(10);
/// How long after a snapshot that failed the next try follows.
pub(crate) const SNAPSHOT_RETRY: Duration = Duration::from_mins(1);

// The disk.

/// Room that is kept for the database on its disk: enough for thousands of logins and removals.
pub(crate) const RESERVE_BYTES: u64 = 16 * 1024 * 1024;
/// SQLite makes files of some 100 KB beside a database before it can be used.
pub(crate) const DATABASE_START_BYTES: u64 = 1024 * 1024;
const _: () = assert!(DATABASE_START_BYTES < RESERVE_BYTES);
/// How often the master looks whether the reserve can be made again, and how full its disks are.
pub(crate) const RESERVE_CHECK_INTERVAL: Duration = Duration::from_secs(5);
/// Less free than this, or than a twentieth of a smaller disk, is worth a warning.
pub(crate) const LITTLE_ROOM_BYTES_MAX: u64 = 8 * 1024 * 1024 * 1024;

// Before anybody is known.

/// Descriptors kept for database, logs and packs: each of [`READS_MAX`] reads and [`UPLOADS_MAX`] uploads has one, and
/// SQLite a dozen. At most half of all, where there are few.
pub(crate) const DESCRIPTORS_RESERVED: usize = 160;
const _: () = assert!(DESCRIPTORS_RESERVED > READS_MAX + UPLOADS_MAX + 32);
/// Connections, however many descriptors there are: each takes some 50 KiB with its TLS and HTTP/2 state.
pub(crate) const CONNECTIONS_MAX: usize = 4_096;
/// Connections, however few descriptors there are.
pub(crate) const CONNECTIONS_MIN: usize = 8;
/// Connections on which nobody has shown who it is; the oldest is closed for a new one.
pub(crate) const UNPROVEN_CONNECTIONS_MAX: usize = 1_024;
/// Connections in their TLS handshake; the oldest is closed for a new one. An honest handshake takes two round trips.
pub(crate) const HANDSHAKES_MAX: usize = 256;
const _: () = assert!(HANDSHAKES_MAX <= UNPROVEN_CONNECTIONS_MAX && UNPROVEN_CONNECTIONS_MAX <= CONNECTIONS_MAX);
/// Connections that may be accepted while others, which were closed for them, have not freed their descriptors yet.
pub(crate) const ACCEPT_HEADROOM: usize = 8;
/// Connections whose handshake is done, and that wait to be served.
pub(crate) const ACCEPTED_QUEUED: usize = 64;
/// How long nothing is accepted after the system has refused a descriptor or memory; doubles up to the longest.
pub(crate) const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest such pause.
pub(crate) const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);
/// Read from a connection before anybody on it is known; the rest waits at its sender. The first call of a publisher
/// or a media server proves its connection by its first kilobyte.
pub(crate) const UNPROVEN_BYTES_MAX: usize = 128 * 1024;
/// What happens often is logged this often.
pub(crate) const WARN_PAUSE: Duration = Duration::from_secs(10);
/// A connection may send this much of all its requests together before the master has taken it.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// The same for one request. An extent in transit to an upload must fit.
pub(crate) const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
/// Longest metadata of a call, by HTTP/2's own count; a token takes less than 1 KiB.
pub(crate) const HEADER_LIST_BYTES_MAX: u32 = 16 * 1024;
/// Streams that a peer may reset before the master has taken them, at a time; one more closes the connection
/// (CVE-2023-44487).
pub(crate) const PENDING_RESETS_MAX: usize = 32;
/// Streams of a connection that the master may reset for faults of its peer; one more closes it (CVE-2025-8671). They
/// count for as long as the connection lives, which is months for a media server.
pub(crate) const FAULTY_STREAMS_MAX: usize = 1_024;

/// Longest request to Auth and Users: two names, a password of [`PASSWORD_BYTES_MAX`] and a token.
pub(crate) const ACCOUNT_MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Longest request to Catalogue: a name.
pub(crate) const CATALOGUE_MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Longest request to Cluster: a Join, or a piece of a report.
pub(crate) const CLUSTER_MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Longest request to Distribution: a window, and [`FAILED_HOSTS_MAX`] reports with the extents that failed.
pub(crate) const DISTRIBUTION_MESSAGE_BYTES_MAX: usize = 64 * 1024;
// A publisher's description of a film, with its name and the numbers around it, fits into one message.
const _: () = assert!(FILM_BYTES_MAX + 2 * PAGE_BYTES < MESSAGE_BYTES_MAX);
const _: () = assert!(ACCOUNT_MESSAGE_BYTES_MAX > 2 * (USERNAME_BYTES_MAX + PASSWORD_BYTES_MAX));

/// How long a call's response may take to begin: 2 MiB of a film's description arrive within it at 1 Mbit/s, and a
/// password waits [`HASH_WAIT`] at most.
pub(crate) const CALL_MAX: Duration = Duration::from_secs(20);
const _: () = assert!(HASH_WAIT.as_secs() < CALL_MAX.as_secs());
/// A media server that takes nothing of a pack for this long is no longer read for.
pub(crate) const READ_STALL_MAX: Duration = Duration::from_secs(60);
/// An answer of which its receiver takes nothing for this long, though there is something to take, is dropped. More
/// than [`READ_STALL_MAX`], whose error says where to read on.
pub(crate) const ANSWER_STALL_MAX: Duration = Duration::from_secs(90);
const _: () = assert!(READ_STALL_MAX.as_secs() < ANSWER_STALL_MAX.as_secs());
/// How much of an answer HTTP/2 is given at a time; it keeps that though its receiver opens no window. Its own frames
/// are no longer.
pub(crate) const ANSWER_PIECE_BYTES: usize = 16 * 1024;
/// A connection of somebody who is known, on which there was no call for this long, is closed if another needs its
/// place. Clients open another with their next call; a media server's reports are a call that is always under way.
pub(crate) const PROVEN_IDLE_MAX: Duration = Duration::from_secs(60);
/// Calls of all users under way.
pub(crate) const CALLS_MAX: usize = 8_192;
/// The same of one user, over all connections: as many as one connection may have.
pub(crate) const CALLS_PER_USER_MAX: usize = STREAMS_PER_CONNECTION_MAX as usize;
/// Calls of all media servers under way, which take none of the users': reports of each, and reads of some.
pub(crate) const SERVERS_CALLS_MAX: usize = 4 * SERVERS_MAX;
/// The same of one media server: it fills at most 8 packs at a time.
pub(crate) const CALLS_PER_SERVER_MAX: usize = 64;
/// Lists of videos that are made or taken at a time, in all.
pub(crate) const LISTS_MAX: usize = 64;
/// The same of one user: a list of a large library takes megabytes until it was taken.
pub(crate) const LISTS_PER_USER_MAX: usize = 8;
/// Videos of a list that are looked up under one lock.
pub(crate) const LIST_BATCH: usize = 256;
/// Longest request to begin publishing: a description, and the names and numbers beside it.
pub(crate) const BEGIN_PUBLISH_BYTES_MAX: usize = FILM_BYTES_MAX + 8 * 1024;
/// Such requests in memory at a time, read, decoded and checked: some 8 MiB each. Further ones wait unread.
pub(crate) const DESCRIPTIONS_AT_ONCE_MAX: usize = 8;
/// Those of one user among them: requests that never arrive in full must not keep other publishers waiting.
pub(crate) const DESCRIPTIONS_PER_USER_MAX: usize = DESCRIPTIONS_AT_ONCE_MAX / 4;
const _: () = assert!(BEGIN_PUBLISH_BYTES_MAX < MESSAGE_BYTES_MAX);
/// Calls of callers who are not known yet, under way; one whose request has not arrived leaves for another.
pub(crate) const STRANGERS_CALLS_MAX: usize = 512;
/// The same from one address: more than its queue of passwords takes, so that refreshing is not refused for them.
pub(crate) const STRANGERS_CALLS_PER_NETWORK_MAX: usize = 128;
const _: () = assert!(HASH_QUEUE_MAX < STRANGERS_CALLS_PER_NETWORK_MAX && HASH_QUEUES_MAX < STRANGERS_CALLS_MAX);
const _: () = assert!(STRANGERS_CALLS_MAX * ACCOUNT_MESSAGE_BYTES_MAX <= 8 * 1024 * 1024, "memory of half-sent calls");
/// Longest request to Maintenance: [`ORPHANS_LISTED`] numbers.
pub(crate) const MAINTENANCE_MESSAGE_BYTES_MAX: usize = 64 * 1024;
const _: () = assert!(ORPHANS_LISTED * 10 < MAINTENANCE_MESSAGE_BYTES_MAX);

// Healing the origin.

/// Packs that are healed at a time: each takes the disk that also feeds the servers that fill.
pub(crate) const HEALS_MAX: usize = 2;
/// How often the master looks at what is to be healed.
pub(crate) const HEAL_INTERVAL: Duration = Duration::from_secs(1);
/// How often the master looks whether every pack is there and has its length: a look at ten thousand names takes some
/// tens of milliseconds.
pub(crate) const PRESENCE_INTERVAL: Duration = Duration::from_secs(10);
/// A server that sends nothing of a push for this long has failed, also before its first part: it may have other packs
/// to send first.
pub(crate) const PUSH_IDLE_MAX: Duration = Duration::from_secs(60);
/// After a heal that failed the next one of the same asset begins no sooner.
pub(crate) const HEAL_RETRY: Duration = Duration::from_secs(5);
/// The servers that failed are asked again only after this long; those that have not are asked first.
pub(crate) const HEAL_SAME_SERVER_AFTER: Duration = Duration::from_secs(60);
const _: () = assert!(HEAL_RETRY.as_secs() < HEAL_SAME_SERVER_AFTER.as_secs());
/// Runs of extents in one order to push, 12 bytes each; further ones are ordered when these are healed.
pub(crate) const PUSH_RANGES_MAX: usize = 4_096;
/// How often an unsound copy is looked at again: an operator may have put the pack back.
pub(crate) const RECHECK_AFTER: Duration = Duration::from_secs(30);
/// An asset that somebody suspects is checked at most this often.
pub(crate) const SUSPECT_PAUSE: Duration = Duration::from_secs(60);
/// Suspected assets that are remembered for that long; what comes beyond is suspected again by whoever met it.
pub(crate) const SUSPECTS_MAX: usize = 1_024;
/// A round of scrubbing the origin begins no sooner than this after the last one began.
pub(crate) const SCRUB_ROUND_MIN: Duration = Duration::from_hours(1);
/// Extents of a pack that are read between two pauses of the scrub, 2.5 MB: the header is read again with each.
pub(crate) const SCRUB_BATCH_EXTENTS: u32 = 8;
/// How fast the origin is scrubbed, in bytes per second.
pub(crate) const SCRUB_BYTES_S: u64 = 8 * 1024 * 1024;
/// How long a server's refusal of an order is shown with the server.
pub(crate) const REFUSAL_SHOWN: Duration = Duration::from_hours(1);
// Healing in place.

/// Names that are tried for what is moved aside to the orphans: so many files with one name are a mistake.
pub(crate) const ASIDE_NAMES_MAX: usize = 1_024;
/// Packs that are read whole at a time because somebody doubts them: they share one disk.
pub(crate) const CHECKS_MAX: usize = 2;
/// After the origin's own disk refused a heal, the next one of the same asset begins no sooner.
pub(crate) const HEAL_ORIGIN_RETRY: Duration = Duration::from_secs(30);
/// Servers that failed to send an asset and are remembered for it: all there can be.
pub(crate) const HEAL_FAILED_MAX: usize = SERVERS_MAX;
/// A push must bring this much in the time that the master waits for it; 100 GB then take 18 days, and honest servers
/// send a thousand times as much.
pub(crate) const PUSH_BYTES_S_MIN: u64 = 64 * 1024;
/// How much waiting is looked at together.
pub(crate) const PUSH_PACE_OVER: Duration = Duration::from_secs(60);
/// Refusals of one report that are looked at; the last one is shown with the server.
pub(crate) const REFUSALS_MAX: usize = 8;
