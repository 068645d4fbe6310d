//! What a server keeps of one client.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use braidcast_media::AssetId;
use braidcast_media::layout::PACKET_BYTES;
use braidcast_media::ticket::Ticket;

use super::by_user::Place;
use super::greeting::{HelloTag, TicketTag};
use super::paced::Slots;
use super::{Now, Outcome, Refusal, Request, ResponderConfig};
use crate::keys::SessionKeys;
use crate::limits::{
    CHUNKS_PER_PULL_MAX, END_BYTES_MIN, PACED_FOR_MAX, PULL_BYTES, PULLS_UNANSWERED_MAX, RATE_KIB_S_MIN, RUN_BYTES,
    RUNS_PER_PULL_MAX, SESSION_IDLE, unproven_bytes_max,
};
use crate::packet::{End, Malformed, Proof, Pull, SmallPacket, Status};
use crate::replay::ReplayWindow;

/// Where the responder's tables hold a session.
pub(super) struct Entries {
    /// The HELLO that opened it.
    pub(super) hello: HelloTag,
    /// The ticket of that HELLO.
    pub(super) ticket: TicketTag,
    /// Its place among all sessions of its user.
    pub(super) by_user: Place,
    /// Its place among those that have not pulled yet. `None`: it has pulled.
    pub(super) half_open: Option<Place>,
}

/// One client's session.
pub(super) struct Session {
    client: SocketAddr,
    keys: SessionKeys,
    welcome: SmallPacket,
    entries: Entries,
    expires_at: u64,
    rate_kib_s: u32,
    assets: Box<[AssetId]>,
    replay: ReplayWindow,
    ends: u64,
    /// Bytes of DATA sent, and of ENDs that were larger than their PULLs.
    sent_bytes: u64,
    /// Bytes of requests that were accepted and not answered yet.
    reserved_bytes: u64,
    /// Of `sent_bytes`, what the client has shown to have received an END after.
    proven_bytes: u64,
    bucket: Bucket,
    slots: Slots,
    /// Sequences of PULLs that were accepted and are not answered yet.
    waiting: Vec<u32>,
    last_seen: Instant,
}

impl Session {
    pub(super) fn new(
        now: Instant,
        client: SocketAddr,
        keys: SessionKeys,
        welcome: SmallPacket,
        ticket: &Ticket,
        entries: Entries,
    ) -> Self {
        Self {
            client,
            keys,
            welcome,
            entries,
            expires_at: ticket.expires_at,
            rate_kib_s: ticket.rate_kib_s,
            assets: ticket.assets.clone().into(),
            replay: ReplayWindow::new(),
            ends: 0,
            sent_bytes: 0,
            reserved_bytes: 0,
            proven_bytes: 0,
            bucket: Bucket { level_bytes: 0, filled_at: None },
            slots: Slots::default(),
            waiting: Vec::new(),
            last_seen: now,
        }
    }

    pub(super) fn client(&self) -> SocketAddr {
        self.client
    }

    pub(super) fn welcome(&self) -> &SmallPacket {
        &self.welcome
    }

    pub(super) fn entries(&self) -> &Entries {
        &self.entries
    }

    pub(super) fn is_idle(&self, now: Instant) -> bool {
        now.duration_since(self.last_seen) >= SESSION_IDLE
    }

    pub(super) fn open_pull(&self, datagram: &[u8], sequence: u32) -> Option<Result<Pull, Malformed>> {
        Pull::open(datagram, sequence, &self.keys.client)
    }

    /// Marks a sequence whose PULL has opened; no if it was seen.
    pub(super) fn accept_sequence(&mut self, now: Instant, sequence: u32) -> bool {
        //= PROTOCOL U1: A server MUST check the replay window after a PULL's tag verifies, and move it only then.
        //= PROTOCOL U2: A server MUST NOT answer a sequence that it has seen, nor one older than the replay window.
        let new = self.replay.accept(sequence.into());
        if new {
            self.last_seen = now;
        }
        new
    }

    /// Takes the session's place among the half-open ones at its first PULL; `None` at all later ones.
    pub(super) fn establish(&mut self) -> Option<Place> {
        self.entries.half_open.take()
    }

    /// Believes a proof of receipt if it is one that this server made for this session.
    pub(super) fn take_proof(&mut self, handle: u64, mac_key: &[u8; 32], proof: Proof) {
        let made_here =
            proof.sent_bytes <= self.sent_bytes && proof_mac(mac_key, handle, proof.sent_bytes) == proof.mac;
        if made_here && proof.sent_bytes > self.proven_bytes {
            self.proven_bytes = proof.sent_bytes;
        }
    }

    /// Why `pull` gets no DATA; nothing if it may.
    pub(super) fn refusal(&mut self, now: Now, pull: &Pull, config: &ResponderConfig) -> Option<Refusal> {
        //= PROTOCOL U6: A PULL that names more runs or chunks than the limits, no run, or an empty run MUST be answered with status MALFORMED and no DATA.
        let chunks: u32 = pull.runs.iter().map(|run| u32::from(run.count)).sum();
        let runs_fit = (1..=RUNS_PER_PULL_MAX).contains(&pull.runs.len());
        if !runs_fit || chunks > CHUNKS_PER_PULL_MAX.into() || pull.runs.iter().any(|run| run.count == 0) {
            return Some(Refusal::of(Status::Malformed));
        }
        //= PROTOCOL U7: A server MUST answer a PULL whose ticket has expired, skew included, with status EXPIRED and no DATA.
        if now.unix_s > self.expires_at.saturating_add(config.clock_skew.as_secs()) {
            return Some(Refusal::of(Status::Expired));
        }
        //= PROTOCOL U8: A server MUST answer a PULL for an asset outside of the ticket's scope as it would one for an asset that does not exist.
        if !self.assets.contains(&pull.asset) {
            return Some(Refusal::of(Status::UnknownAsset));
        }
        let rate = effective_rate(self.rate_kib_s, config.rate_kib_s);
        let bytes = u64::from(chunks) * PACKET_BYTES as u64;
        //= PROTOCOL U4: A server MUST NOT send more than the lesser of 16 MiB and one second at the session's rate beyond the newest proof that the client returned.
        //= PROTOCOL U5: A server MUST answer a PULL that would exceed that bound with an END of status OVER_LIMIT and no DATA.
        if self.sent_bytes + self.reserved_bytes + bytes - self.proven_bytes > unproven_bytes_max(rate) {
            return Some(Refusal::of(Status::OverLimit));
        }
        self.bucket
            .spend(now.instant, bytes, rate)
            .err()
            .map(|retry_after| Refusal { status: Status::Busy, retry_after })
    }

    /// The time at which an answer may begin, so that all answers together keep to the rates that were named.
    pub(super) fn take_slot(&mut self, now: Instant, request: &Request) -> Result<Instant, Refusal> {
        let busy = |retry_after| Refusal { status: Status::Busy, retry_after };
        if self.waiting.len() >= usize::from(PULLS_UNANSWERED_MAX) {
            return Err(busy(PACED_FOR_MAX));
        }
        self.slots.take(now, request.chunks(), request.chunk_time, PACED_FOR_MAX).map_err(busy)
    }

    /// Counts an accepted request against the bound on unproven bytes.
    pub(super) fn reserve(&mut self, request: &Request) {
        self.waiting.push(request.sequence);
        self.reserved_bytes += u64::from(request.chunks()) * PACKET_BYTES as u64;
    }

    /// Replaces a reservation by what was sent in the end.
    pub(super) fn release(&mut self, request: &Request, outcome: &Outcome<'_>) {
        let requested_chunks = request.chunks();
        debug_assert!(outcome.sent_chunks <= requested_chunks);
        self.waiting.retain(|sequence| *sequence != request.sequence);
        self.reserved_bytes = self.reserved_bytes.saturating_sub(u64::from(requested_chunks) * PACKET_BYTES as u64);
        self.sent_bytes += u64::from(outcome.sent_chunks) * PACKET_BYTES as u64;
        //= PROTOCOL E1: An END MUST NOT exceed the size of its PULL unless it is covered by the bound of U4.
        let end_bytes = END_BYTES_MIN + outcome.not_held.len().min(RUNS_PER_PULL_MAX) * RUN_BYTES;
        if end_bytes > PULL_BYTES {
            self.sent_bytes += end_bytes as u64;
        }
    }

    /// The END of a request.
    pub(super) fn end(
        &mut self,
        now: Instant,
        epoch: Instant,
        mac_key: &[u8; 32],
        request: &Request,
        outcome: &Outcome<'_>,
    ) -> SmallPacket {
        self.ends += 1;
        let micros = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
        let end = End {
            sequence: request.sequence,
            status: outcome.status,
            server_limited: outcome.server_limited,
            not_held: outcome.not_held.iter().copied().take(RUNS_PER_PULL_MAX).collect(),
            // Rounded up: who comes back by then must not come too early.
            retry_after_ms: outcome.retry_after.as_micros().div_ceil(1_000).try_into().unwrap_or(u16::MAX),
            sent_chunks: outcome.sent_chunks,
            held_us: micros(request.started_at.unwrap_or(now).duration_since(request.received_at))
                .try_into()
                .unwrap_or(u32::MAX),
            sent_at_us: micros(now.duration_since(epoch)),
            highest: self.replay.highest().try_into().unwrap_or(u32::MAX),
            waiting: self.waiting_bitmap(),
            seen: self.replay.bitmap(),
            proof: Proof { sent_bytes: self.sent_bytes, mac: proof_mac(mac_key, request.handle, self.sent_bytes) },
        };
        end.seal(request.handle, self.ends, &self.keys.server)
    }
}

impl Session {
    fn waiting_bitmap(&self) -> u32 {
        let highest = self.replay.highest();
        let below = self.waiting.iter().filter_map(|&sequence| highest.checked_sub(u64::from(sequence) + 1));
        below.filter(|&below| below < u32::BITS.into()).fold(0, |map, below| map | 1 << below)
    }
}

/// The lesser of two rates in KiB/s of which 0 means no limit, and never so low that a train would not fit.
pub(super) fn effective_rate(a: u32, b: u32) -> u32 {
    match (a, b) {
        (0, 0) => 0,
        (0, rate) | (rate, 0) => rate.max(RATE_KIB_S_MIN),
        (a, b) => a.min(b).max(RATE_KIB_S_MIN),
    }
}

fn proof_mac(mac_key: &[u8; 32], handle: u64, sent_bytes: u64) -> [u8; 8] {
    let mut text = [0; 16];
    text[..8].copy_from_slice(&handle.to_be_bytes());
    text[8..].copy_from_slice(&sent_bytes.to_be_bytes());
    *blake3::keyed_hash(mac_key, &text).as_bytes().first_chunk().expect("32 bytes hold 8")
}

/// A token bucket that holds one second at the rate.
struct Bucket {
    level_bytes: u64,
    filled_at: Option<Instant>,
}

impl Bucket {
    /// Takes `bytes`, or says how long until they are there.
    fn spend(&mut self, now: Instant, bytes: u64, rate_kib_s: u32) -> Result<(), Duration> {
        if rate_kib_s == 0 {
            return Ok(());
        }
        let rate = u64::from(rate_kib_s) * 1024;
        let gained = self.filled_at.map_or(rate, |since| {
            let micros = now.duration_since(since).as_micros().min(1_000_000) as u64;
            rate * micros / 1_000_000
        });
        self.level_bytes = (self.level_bytes + gained).min(rate);
        self.filled_at = Some(now);
        if let Some(left) = self.level_bytes.checked_sub(bytes) {
            self.level_bytes = left;
            return Ok(());
        }
        Err(Duration::from_micros((bytes - self.level_bytes) * 1_000_000 / rate + 1))
    }
}
