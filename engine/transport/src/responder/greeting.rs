//! HELLO, and what is kept of clients that have not pulled yet.

use std::net::SocketAddr;

use braidcast_media::ticket::{self, Ticket};

use super::session::{Entries, Session};
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
        if !self.make_room(&ticket, ticket_tag) {
            self.counters.too_many_sessions += 1;
            return None;
        }
        let (handle, server_random) = self.draw_handle();
        let clear = packet::welcome_clear(view.client_random, handle, &server_random);
        let keys = SessionKeys::derive(&ticket.secret, hello, &clear);
        let lifetime_s = ticket.expires_at.saturating_sub(now.unix_s).try_into().unwrap_or(u32::MAX);
        let welcome = packet::welcome(&clear, &keys, self.limits(ticket.rate_kib_s, lifetime_s));
        let entries = Entries {
            hello: tag,
            ticket: ticket_tag,
            by_user: self.by_user.insert(ticket.user, handle),
            half_open: Some(self.half_open.insert(ticket.user, handle)),
        };
        let session = Session::new(now.instant, from, keys, welcome.clone(), &ticket, entries);
        self.sessions.insert(handle, Box::new(session));
        self.by_hello.insert(tag, handle);
        *self.sessions_of_ticket.entry(ticket_tag).or_default() += 1;
        self.swept_at.get_or_insert(now.instant);
        Some(welcome)
    }

    /// Has a session leave where a table is full; says whether there is room for one more.
    fn make_room(&mut self, ticket: &Ticket, tag: TicketTag) -> bool {
        //= PROTOCOL H5: A server MUST bound the sessions of a shard, those of them that are half-open, and those of each ticket.
        if self.sessions_of_ticket.get(&tag).is_some_and(|&sessions| sessions >= SESSIONS_PER_TICKET_MAX) {
            return false;
        }
        //= PROTOCOL H8: Where a shard is full of half-open sessions, a HELLO MUST take the place of one of them by the rule of H7; where H7 would refuse the HELLO, that of the oldest of the user who holds the most.
        if self.half_open.len() >= self.config.half_open_max.max(1) {
            let leaves = self.half_open.leaves_for(ticket.user).or_else(|| self.half_open.longest_silent_of_most());
            self.displace(leaves);
        }
        //= PROTOCOL H7: Where a shard is full of sessions, a HELLO MUST take the place of the longest silent session of the user who holds the most, if that user is left with at least as many as the HELLO's user then has; else that of the longest silent session of the HELLO's own user; and where that user has none, the server MUST refuse the HELLO.
        if self.sessions.len() >= self.config.sessions_max {
            let leaves = self.by_user.leaves_for(ticket.user);
            return self.displace(leaves);
        }
        true
    }

    fn displace(&mut self, leaves: Option<u64>) -> bool {
        let Some(handle) = leaves else { return false };
        self.counters.displaced_sessions += 1;
        self.forget(handle);
        true
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

    /// Drops a session and all that points to it.
    pub(super) fn forget(&mut self, handle: u64) {
        let Some(session) = self.sessions.remove(&handle) else { return };
        let entries = session.entries();
        self.by_user.remove(entries.by_user);
        if let Some(place) = entries.half_open {
            self.half_open.remove(place);
        }
        self.by_hello.remove(&entries.hello);
        if let Some(count) = self.sessions_of_ticket.get_mut(&entries.ticket) {
            *count -= 1;
            if *count == 0 {
                self.sessions_of_ticket.remove(&entries.ticket);
            }
        }
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
