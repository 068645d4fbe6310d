//! The packets, to the byte (PROTOCOL.md, section 2). Parsing checks sizes; sealing and opening take a session's keys.

use std::ops::RangeInclusive;

use arrayvec::ArrayVec;
use braidcast_media::layout::TAG_BYTES;
use braidcast_media::{AssetId, ChunkNo, Run, StreamId};

use crate::keys::{DirectionKey, SessionKeys};
use crate::limits::{
    END_BYTES_MAX, END_BYTES_MIN, HELLO_BYTES, PULL_BYTES, RESET_BYTES, RUN_BYTES, RUNS_PER_PULL_MAX, VERSION,
    VERSIONS_BYTES_MAX, VERSIONS_BYTES_MIN, WELCOME_BYTES,
};

/// What the low half of a packet's first byte says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Greets a server.
    Hello,
    /// Answers HELLO.
    Welcome,
    /// Asks for chunks.
    Pull,
    /// One sealed chunk.
    Data,
    /// Ends the answer to a PULL.
    End,
    /// The session is not known.
    Reset,
}

const HELLO: u8 = VERSION << 4 | 1;
const WELCOME: u8 = VERSION << 4 | 2;
pub(crate) const PULL: u8 = VERSION << 4 | 3;
const DATA: u8 = braidcast_media::chunk::DATA_KIND;
const END: u8 = VERSION << 4 | 5;
const RESET: u8 = VERSION << 4 | 6;
const VERSIONS: u8 = 0;

/// Bytes of VERSIONS before those that it lists.
const VERSIONS_CLEAR_BYTES: usize = VERSIONS_BYTES_MIN - 1;
const VERSIONS_BYTES: RangeInclusive<usize> = VERSIONS_BYTES_MIN..=VERSIONS_BYTES_MAX;

impl Kind {
    /// The kind of a packet whose size fits it; nothing for all other bytes.
    pub fn of(packet: &[u8]) -> Option<Self> {
        //= PROTOCOL P1: A receiver MUST drop a packet whose size is not one that its kind allows, and change no state.
        let (kind, fits) = match *packet.first()? {
            HELLO => (Self::Hello, packet.len() == HELLO_BYTES),
            WELCOME => (Self::Welcome, packet.len() == WELCOME_BYTES),
            PULL => (Self::Pull, packet.len() == PULL_BYTES),
            DATA => (Self::Data, packet.len() == braidcast_media::layout::PACKET_BYTES),
            END => (Self::End, packet.get(1).and_then(|&runs| end_bytes(runs)) == Some(packet.len())),
            RESET => (Self::Reset, packet.len() == RESET_BYTES),
            _ => return None,
        };
        fits.then_some(kind)
    }
}

/// Bytes of the packet that starts with `start`, which is how a stream of packets is cut; nothing if no packet of this
/// version starts so.
pub fn packet_bytes(start: [u8; 2]) -> Option<usize> {
    match start[0] {
        HELLO => Some(HELLO_BYTES),
        WELCOME => Some(WELCOME_BYTES),
        PULL => Some(PULL_BYTES),
        DATA => Some(braidcast_media::layout::PACKET_BYTES),
        END => end_bytes(start[1]),
        RESET => Some(RESET_BYTES),
        VERSIONS => Some(VERSIONS_CLEAR_BYTES + usize::from(start[1])).filter(|bytes| VERSIONS_BYTES.contains(bytes)),
        _ => None,
    }
}

/// Bytes of an END that lists `runs` runs.
fn end_bytes(runs: u8) -> Option<usize> {
    (usize::from(runs) <= RUNS_PER_PULL_MAX).then_some(END_BYTES_MIN + usize::from(runs) * RUN_BYTES)
}

/// A packet other than HELLO and DATA: short enough to be kept inline.
pub type SmallPacket = ArrayVec<u8, END_BYTES_MAX>;

/// The runs of one PULL.
pub type Runs = ArrayVec<Run, RUNS_PER_PULL_MAX>;

/// What a client repeats to show that it still receives: bytes sent so far, and the server's MAC over them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Proof {
    /// Bytes of DATA sent in the session.
    pub sent_bytes: u64,
    /// Opaque to the client.
    pub mac: [u8; 8],
}

/// What a server grants a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Chunks that one PULL may ask for.
    pub chunks_per_pull: u16,
    /// Runs that one PULL may ask for.
    pub runs_per_pull: u8,
    /// KiB/s; 0 = not limited.
    pub rate_kib_s: u32,
    /// Seconds that the session lasts at most.
    pub lifetime_s: u32,
    /// PULLs unanswered at a time.
    pub pulls_unanswered: u16,
}

pub(crate) const LIMITS_BYTES: usize = 16;
/// Bytes of WELCOME in clear; they are its AAD and part of the keys' salt.
pub(crate) const WELCOME_CLEAR_BYTES: usize = WELCOME_BYTES - LIMITS_BYTES - TAG_BYTES;

impl Limits {
    pub(crate) fn to_bytes(self) -> [u8; LIMITS_BYTES] {
        let mut out = [0; LIMITS_BYTES];
        out[0..2].copy_from_slice(&self.chunks_per_pull.to_be_bytes());
        out[2] = self.runs_per_pull;
        out[4..8].copy_from_slice(&self.rate_kib_s.to_be_bytes());
        out[8..12].copy_from_slice(&self.lifetime_s.to_be_bytes());
        out[12..14].copy_from_slice(&self.pulls_unanswered.to_be_bytes());
        out
    }

    pub(crate) fn parse(bytes: &[u8; LIMITS_BYTES]) -> Self {
        Self {
            chunks_per_pull: be16(bytes, 0),
            runs_per_pull: bytes[2],
            rate_kib_s: be32(bytes, 4),
            lifetime_s: be32(bytes, 8),
            pulls_unanswered: be16(bytes, 12),
        }
    }
}

/// The clear start of WELCOME: the client's random echoed, the handle, the server's random.
pub(crate) fn welcome_clear(client_random: &[u8; 32], handle: u64, server_random: &[u8; 32]) -> [u8; 52] {
    let mut out = [0; WELCOME_CLEAR_BYTES];
    out[0] = WELCOME;
    out[4..12].copy_from_slice(&client_random[..8]);
    out[12..20].copy_from_slice(&handle.to_be_bytes());
    out[20..52].copy_from_slice(server_random);
    out
}

/// WELCOME, sealed.
pub(crate) fn welcome(clear: &[u8; WELCOME_CLEAR_BYTES], keys: &SessionKeys, limits: Limits) -> SmallPacket {
    let mut text = limits.to_bytes();
    let tag = keys.server.seal(0, clear, &mut text);
    joined(clear, &text, &tag)
}

/// What a PULL asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pull {
    /// Which asset.
    pub asset: AssetId,
    /// Which of its streams.
    pub stream: StreamId,
    /// KiB/s; 0 = as fast as the server allows.
    pub rate_kib_s: u32,
    /// From the newest END.
    pub proof: Proof,
    /// What to send, in this order. As they came: a server checks them against its limits.
    pub runs: Runs,
}

const CONTROL_HEADER_BYTES: usize = 16;
const PULL_TEXT_BYTES: usize = PULL_BYTES - CONTROL_HEADER_BYTES - TAG_BYTES;
const PULL_RUNS_AT: usize = 32;

impl Pull {
    /// PULL under a sequence that was never used in this session.
    pub(crate) fn seal(&self, handle: u64, sequence: u32, key: &DirectionKey) -> SmallPacket {
        let mut header = [0; CONTROL_HEADER_BYTES];
        header[0] = PULL;
        header[4..12].copy_from_slice(&handle.to_be_bytes());
        header[12..16].copy_from_slice(&sequence.to_be_bytes());
        let mut text = [0; PULL_TEXT_BYTES];
        text[0..8].copy_from_slice(&self.asset.0.to_be_bytes());
        text[8] = self.stream.0;
        text[9] = self.runs.len() as u8;
        text[12..16].copy_from_slice(&self.rate_kib_s.to_be_bytes());
        text[16..24].copy_from_slice(&self.proof.sent_bytes.to_be_bytes());
        text[24..32].copy_from_slice(&self.proof.mac);
        write_runs(&self.runs, &mut text[PULL_RUNS_AT..]);
        let tag = key.seal(sequence.into(), &header, &mut text);
        joined(&header, &text, &tag)
    }

    /// Opens a PULL. The outer nothing: it does not open. `Malformed`: it does, and names an impossible number of runs.
    pub(crate) fn open(packet: &[u8], sequence: u32, key: &DirectionKey) -> Option<Result<Self, Malformed>> {
        let (header, sealed) = packet.split_at_checked(CONTROL_HEADER_BYTES)?;
        let mut text = [0; PULL_TEXT_BYTES];
        key.open(sequence.into(), header, sealed, &mut text)?;
        let Some(runs) = read_runs(usize::from(text[9]), &text[PULL_RUNS_AT..]) else {
            return Some(Err(Malformed));
        };
        Some(Ok(Self {
            asset: AssetId(be64(&text, 0)),
            stream: StreamId(text[8]),
            rate_kib_s: be32(&text, 12),
            proof: Proof { sent_bytes: be64(&text, 16), mac: be64(&text, 24).to_be_bytes() },
            runs,
        }))
    }
}

/// The contents of an authentic packet that no correct peer sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// Handle and sequence of a packet of PULL's or RESET's size, which both have in clear.
pub(crate) fn handle_and_sequence(packet: &[u8]) -> Option<(u64, u32)> {
    let header = packet.first_chunk::<CONTROL_HEADER_BYTES>()?;
    Some((be64(header, 4), be32(header, 12)))
}

/// Answer to a PULL as a whole.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Status {
    /// All runs sent, less those listed as not held.
    Ok = 0,
    /// Nothing sent: the runs are not on this server.
    NotHeld = 1,
    /// Nothing sent: over a rate.
    Busy = 2,
    /// The ticket is too old.
    Expired = 3,
    /// Not served here to this ticket.
    UnknownAsset = 4,
    /// Too much sent beyond the newest proof.
    OverLimit = 5,
    /// Against the limits.
    Malformed = 6,
}

impl Status {
    fn parse(byte: u8) -> Option<Self> {
        const ALL: [Status; 7] = [
            Status::Ok,
            Status::NotHeld,
            Status::Busy,
            Status::Expired,
            Status::UnknownAsset,
            Status::OverLimit,
            Status::Malformed,
        ];
        ALL.into_iter().find(|status| *status as u8 == byte)
    }
}

/// What END tells.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct End {
    /// The PULL that it answers.
    pub sequence: u32,
    /// How it went.
    pub status: Status,
    /// The server, not the path, limited the answer.
    pub server_limited: bool,
    /// Runs that the server does not hold.
    pub not_held: Runs,
    /// With [`Status::Busy`]: how long to wait, in ms.
    pub retry_after_ms: u16,
    /// Chunks sent for this PULL.
    pub sent_chunks: u16,
    /// From receipt of the PULL to the first packet of its answer, in microseconds.
    pub held_us: u32,
    /// The server's monotonic clock, in microseconds.
    pub sent_at_us: u64,
    /// Highest sequence that the server has seen.
    pub highest: u32,
    /// Bit i: sequence `highest - 1 - i` was seen and is not answered yet.
    pub waiting: u32,
    /// Bit i: sequence `highest - 1 - i` was seen.
    pub seen: u64,
    /// To be repeated in the next PULL.
    pub proof: Proof,
}

const END_TEXT_BYTES: usize = END_BYTES_MIN - CONTROL_HEADER_BYTES - TAG_BYTES;
const END_TEXT_BYTES_MAX: usize = END_BYTES_MAX - CONTROL_HEADER_BYTES - TAG_BYTES;
const FLAG_SERVER_LIMITED: u8 = 1;

impl End {
    /// END under a counter that was never used in this session.
    pub(crate) fn seal(&self, handle: u64, counter: u64, key: &DirectionKey) -> SmallPacket {
        let mut header = [0; CONTROL_HEADER_BYTES];
        header[0] = END;
        header[1] = self.not_held.len() as u8;
        header[4..8].copy_from_slice(&session_tag(handle).to_be_bytes());
        header[8..16].copy_from_slice(&counter.to_be_bytes());
        let mut room = [0; END_TEXT_BYTES_MAX];
        let text = &mut room[..END_TEXT_BYTES + self.not_held.len() * RUN_BYTES];
        text[0..4].copy_from_slice(&self.sequence.to_be_bytes());
        text[4] = self.status as u8;
        text[5] = if self.server_limited { FLAG_SERVER_LIMITED } else { 0 };
        text[8..10].copy_from_slice(&self.retry_after_ms.to_be_bytes());
        text[10..12].copy_from_slice(&self.sent_chunks.to_be_bytes());
        text[12..16].copy_from_slice(&self.held_us.to_be_bytes());
        text[16..24].copy_from_slice(&self.sent_at_us.to_be_bytes());
        text[24..28].copy_from_slice(&self.highest.to_be_bytes());
        text[28..32].copy_from_slice(&self.waiting.to_be_bytes());
        text[32..40].copy_from_slice(&self.seen.to_be_bytes());
        text[40..48].copy_from_slice(&self.proof.sent_bytes.to_be_bytes());
        text[48..56].copy_from_slice(&self.proof.mac);
        write_runs(&self.not_held, &mut text[END_TEXT_BYTES..]);
        let tag = key.seal(counter, &header, text);
        joined(&header, text, &tag)
    }

    /// Opens an END; nothing if it does not open or says what no server says.
    pub(crate) fn open(packet: &[u8], counter: u64, key: &DirectionKey) -> Option<Self> {
        let (header, sealed) = packet.split_at_checked(CONTROL_HEADER_BYTES)?;
        let mut room = [0; END_TEXT_BYTES_MAX];
        let text = room.get_mut(..sealed.len().checked_sub(TAG_BYTES)?)?;
        key.open(counter, header, sealed, text)?;
        let count = usize::from(header[1]);
        if text.len() != END_TEXT_BYTES + count * RUN_BYTES {
            return None;
        }
        Some(Self {
            sequence: be32(text, 0),
            status: Status::parse(text[4])?,
            server_limited: text[5] & FLAG_SERVER_LIMITED != 0,
            not_held: read_runs(count, &text[END_TEXT_BYTES..])?,
            retry_after_ms: be16(text, 8),
            sent_chunks: be16(text, 10),
            held_us: be32(text, 12),
            sent_at_us: be64(text, 16),
            highest: be32(text, 24),
            waiting: be32(text, 28),
            seen: be64(text, 32),
            proof: Proof { sent_bytes: be64(text, 40), mac: be64(text, 48).to_be_bytes() },
        })
    }

    /// Session tag and counter of a packet of END's size.
    pub(crate) fn clear(packet: &[u8]) -> Option<(u32, u64)> {
        let header = packet.first_chunk::<CONTROL_HEADER_BYTES>()?;
        Some((be32(header, 4), be64(header, 8)))
    }
}

/// The part of a handle that END carries.
pub(crate) fn session_tag(handle: u64) -> u32 {
    handle as u32
}

/// RESET for a PULL.
pub(crate) fn reset(handle: u64, sequence: u32) -> SmallPacket {
    let mut packet = [0; RESET_BYTES];
    packet[0] = RESET;
    packet[4..12].copy_from_slice(&handle.to_be_bytes());
    packet[12..16].copy_from_slice(&sequence.to_be_bytes());
    packet.iter().copied().collect()
}

/// VERSIONS for a packet of HELLO's size and another version.
pub(crate) fn versions(cause: &[u8; HELLO_BYTES]) -> SmallPacket {
    let mut packet = SmallPacket::new();
    packet.extend([VERSIONS, 1, 0, 0]);
    packet.extend(cause[4..12].iter().copied());
    packet.push(VERSION);
    packet
}

/// The versions that a VERSIONS packet lists, if it answers the HELLO with this client random.
pub(crate) fn parse_versions<'a>(packet: &'a [u8], client_random: &[u8; 32]) -> Option<&'a [u8]> {
    if !VERSIONS_BYTES.contains(&packet.len()) || packet[0] != VERSIONS || packet[4..12] != client_random[..8] {
        return None;
    }
    let listed = &packet[VERSIONS_CLEAR_BYTES..];
    (listed.len() == usize::from(packet[1])).then_some(listed)
}

/// Whether the first byte names a version that is not this one, nor the VERSIONS packet.
pub(crate) fn is_other_version(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first >> 4 != VERSION && *first != VERSIONS)
}

fn write_runs(runs: &Runs, out: &mut [u8]) {
    for (run, room) in runs.iter().zip(out.chunks_exact_mut(RUN_BYTES)) {
        room[..4].copy_from_slice(&run.first.0.to_be_bytes());
        room[4..].copy_from_slice(&run.count.to_be_bytes());
    }
}

fn read_runs(count: usize, bytes: &[u8]) -> Option<Runs> {
    if count > RUNS_PER_PULL_MAX {
        return None;
    }
    let entries = bytes.chunks_exact(RUN_BYTES).take(count);
    Some(entries.map(|e| Run { first: ChunkNo(be32(e, 0)), count: be16(e, 4) }).collect())
}

fn joined(header: &[u8], text: &[u8], tag: &[u8; TAG_BYTES]) -> SmallPacket {
    [header, text, tag].into_iter().flatten().copied().collect()
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

#[cfg(test)]
mod tests;
