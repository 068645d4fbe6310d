//! HELLO, and what is kept of clients that have not pulled yet.

use std::collections::VecDeque;
use std::net::SocketAddr;

use braidcast_media::ticket::{self, Ticket};

use super::session::Session;
use super::{Now, Responder, SHARD_SHIFT};
use crate::handshake::{HelloView, parse_hello};
use crate::keys::{SessionKeys, hello_is_proven};
use crate::limits::{HELLO_BYTES, SESSIONS_PER_TICKET_MAX, WELCOME_BYTES};
use crate::packet::{self, SmallPacket};

//= PROTOCOL W2: A WELCOME MUST be smaller than a HELLO.
const _: () = assert!(WELCOME_BYTES < HELLO_BYTES);

/// Tells tickets apart without keeping them: the clear start of a ticket holds its random nonce.
pub(super) type TicketTag = [u8; 16];

/// One HELLO from one address.
pub(super) type HelloTag = [u8; 16];

impl Responder {
    pub(super) fn handle_hello(
        &mut self,
        now: Now,
        from: SocketAddr,
        hello: &[u8; HELLO_BYTES],
    ) -> Option<SmallPacket> {
        let tag = hello_tag(from, hello);
        //= PROTOCOL H4: A server MUST answer the same HELLO from the same address with the same WELCOME.
        if let Some(session) = self.by_hello.get(&tag).and_then(|handle| self.sessions.get(handle)) {
            return Some(session.welcome().clone());
        }
        let view = parse_hello(hello)?;
        let ticket = self.check_ticket(now, hello, &view)?;
        let ticket_tag: TicketTag = *view.ticket.first_chunk()?;
        //= PROTOCOL H5: A server MUST bound half-open sessions by a ring and established sessions per ticket by a limit.
        let of_ticket = self.sessions_of_ticket.get(&ticket_tag).copied().unwrap_or(0);
        if of_ticket >= SESSIONS_PER_TICKET_MAX || self.sessions.len() >= self.config.sessions_max {
            self.counters.too_many_sessions += 1;
            return None;
        }
        let (handle, server_random) = self.draw_handle();
        let clear = packet::welcome_clear(view.client_random, handle, &server_random);
        let keys = SessionKeys::derive(&ticket.secret, hello, &clear);
        let lifetime_s = ticket.expires_at.saturating_sub(now.unix_s).try_into().unwrap_or(u32::MAX);
        let welcome = packet::welcome(&clear, &keys, self.limits(ticket.rate_kib_s, lifetime_s));
        let session = Session::new(now.instant, from, keys, welcome.clone(), &ticket, ticket_tag, tag);
        self.sessions.insert(handle, Box::new(session));
        self.by_hello.insert(tag, handle);
        *self.sessions_of_ticket.entry(ticket_tag).or_default() += 1;
        self.swept_at.get_or_insert(now.instant);
        if let Some(displaced) = self.half_open.push(handle) {
            self.forget(displaced);
        }
        Some(welcome)
    }

    fn check_ticket(&mut self, now: Now, hello: &[u8; HELLO_BYTES], view: &HelloView<'_>) -> Option<Ticket> {
        let claimed = ticket::key_id(view.ticket);
        //= PROTOCOL H1: A server MUST answer a HELLO only if its ticket opens under the server's current or previous ticket key.
        let key = self.keys.iter().find(|key| Some(key.id()) == claimed);
        let Some(ticket) = key.and_then(|key| key.open(view.ticket)) else {
            self.counters.bad_ticket += 1;
            return None;
        };
        //= PROTOCOL H2: A server MUST answer a HELLO only if the proof shows that the sender holds the ticket's session secret.
        if !hello_is_proven(&ticket.secret, hello) {
            self.counters.bad_proof += 1;
            return None;
        }
        //= PROTOCOL H3: A server MUST refuse a ticket whose expiry is more than the tolerated clock skew in the past.
        if now.unix_s > ticket.expires_at.saturating_add(self.config.clock_skew.as_secs()) {
            self.counters.expired_ticket += 1;
            return None;
        }
        Some(ticket)
    }

    fn draw_handle(&mut self) -> (u64, [u8; 32]) {
        loop {
            let drawn = self.random.draw();
            let low = u64::from_be_bytes(*drawn.first_chunk().expect("32 bytes hold 8")) & ((1 << SHARD_SHIFT) - 1);
            let handle = u64::from(self.config.shard) << SHARD_SHIFT | low;
            if !self.sessions.contains_key(&handle) {
                return (handle, self.random.draw());
            }
        }
    }

    /// Drops a session and all that points to it, but for its place among the half-open ones.
    pub(super) fn forget(&mut self, handle: u64) {
        let Some(session) = self.sessions.remove(&handle) else { return };
        self.by_hello.remove(&session.hello_tag());
        if let Some(count) = self.sessions_of_ticket.get_mut(&session.ticket_tag()) {
            *count -= 1;
            if *count == 0 {
                self.sessions_of_ticket.remove(&session.ticket_tag());
            }
        }
    }
}

/// The ring of sessions that have not pulled yet, the oldest first. Who falls out of it is forgotten.
pub(super) struct HalfOpen {
    ring: VecDeque<u64>,
    max: usize,
}

impl HalfOpen {
    pub(super) fn new(max: usize) -> Self {
        Self { ring: VecDeque::new(), max: max.max(1) }
    }

    /// Adds a session and gives the one that it displaces, if it does.
    fn push(&mut self, handle: u64) -> Option<u64> {
        self.ring.push_back(handle);
        (self.ring.len() > self.max).then(|| self.ring.pop_front()).flatten()
    }

    /// A session has pulled: it leaves the ring.
    pub(super) fn established(&mut self, handle: u64) {
        // A session pulls first soon after its greeting, so it is near the back.
        if let Some(place) = self.ring.iter().rposition(|&other| other == handle) {
            self.ring.remove(place);
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        self.ring.retain(|&handle| keep(handle));
    }
}

fn hello_tag(from: SocketAddr, hello: &[u8; HELLO_BYTES]) -> HelloTag {
    let mut hasher = blake3::Hasher::new();
    hasher.update(hello);
    match from {
        SocketAddr::V4(v4) => hasher.update(&v4.ip().octets()),
        SocketAddr::V6(v6) => hasher.update(&v6.ip().octets()),
    };
    hasher.update(&from.port().to_be_bytes());
    *hasher.finalize().as_bytes().first_chunk().expect("32 bytes hold 16")
}
