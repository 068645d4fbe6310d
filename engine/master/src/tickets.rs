//! Tickets, and the keys that each media server opens them with.

use std::fmt;
use std::time::{Duration, Instant};

use braidcast_media::AssetId;
use braidcast_media::ticket::{SessionSecret, Ticket, TicketKey};
use braidcast_proto::v1;
use zeroize::Zeroizing;

use crate::clock;
use crate::limits::KEY_SETTLE;
use crate::random;

/// A key and its number. Never printed.
#[derive(Clone)]
pub(crate) struct NumberedKey {
    pub(crate) id: u32,
    pub(crate) bytes: Zeroizing<[u8; TicketKey::BYTES]>,
}

impl NumberedKey {
    fn draw(id: u32) -> Self {
        Self { id, bytes: Zeroizing::new(random::draw()) }
    }

    fn to_proto(&self) -> v1::TicketKey {
        v1::TicketKey { key_id: self.id, key: self.bytes.to_vec() }
    }
}

impl fmt::Debug for NumberedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NumberedKey({}, ..)", self.id)
    }
}

/// The keys of one media server.
#[derive(Clone, Debug)]
pub(crate) struct KeyRing {
    pub(crate) current: NumberedKey,
    pub(crate) previous: Option<NumberedKey>,
    /// Unix time in seconds of the current key.
    pub(crate) rotated_at: u64,
}

impl KeyRing {
    /// The keys of a server that has none.
    pub(crate) fn draw() -> Self {
        Self { current: NumberedKey::draw(1), previous: None, rotated_at: clock::unix_s() }
    }

    /// Whether the current key has served its time.
    pub(crate) fn is_due(&self, now_unix_s: u64, rotation: Duration) -> bool {
        now_unix_s.saturating_sub(self.rotated_at) >= rotation.as_secs()
    }

    /// The keys after a rotation: the current one becomes the previous one.
    pub(crate) fn rotated(&self) -> Self {
        Self {
            current: NumberedKey::draw(self.current.id.wrapping_add(1)),
            previous: Some(self.current.clone()),
            rotated_at: clock::unix_s(),
        }
    }

    /// The keys as their server is told of them, newest first.
    pub(crate) fn to_proto(&self) -> Vec<v1::TicketKey> {
        std::iter::once(&self.current).chain(&self.previous).map(NumberedKey::to_proto).collect()
    }

    /// The key to seal under: the newest that the server has surely received. `announced` is when it was sent the
    /// current one; `None` if it has not been yet.
    pub(crate) fn sealing(&self, now: Instant, announced: Option<Instant>) -> &NumberedKey {
        let settled = announced.is_some_and(|at| now >= at + KEY_SETTLE);
        match &self.previous {
            Some(previous) if !settled => previous,
            _ => &self.current,
        }
    }
}

/// A ticket for one client and one server, and the secret that both will share.
pub(crate) struct Sealed {
    pub(crate) ticket: Vec<u8>,
    pub(crate) secret: SessionSecret,
}

/// Seals a ticket with a secret of its own.
pub(crate) fn seal(key: &NumberedKey, user: u64, asset: AssetId, lifetime: Duration) -> Sealed {
    let secret = SessionSecret::new(random::draw());
    let ticket = Ticket {
        secret: secret.clone(),
        user,
        expires_at: (clock::since_epoch() + lifetime).as_secs(),
        rate_kib_s: 0,
        assets: vec![asset],
    };
    Sealed { ticket: TicketKey::new(key.id, &key.bytes).seal(&ticket, random::draw()), secret }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_seals_only_after_it_has_settled() {
        let now = Instant::now();
        let first = KeyRing::draw();
        assert_eq!(first.sealing(now, None).id, 1, "a server is told its first key before it is listed");
        let second = first.rotated();
        assert_eq!((second.current.id, second.previous.as_ref().map(|key| key.id)), (2, Some(1)));
        assert_eq!(second.sealing(now, None).id, 1);
        assert_eq!(second.sealing(now + KEY_SETTLE - Duration::from_nanos(1), Some(now)).id, 1);
        assert_eq!(second.sealing(now + KEY_SETTLE, Some(now)).id, 2);
    }

    #[test]
    fn keys_are_due_when_their_time_is_over() {
        let keys = KeyRing { rotated_at: 100, ..KeyRing::draw() };
        assert!(!keys.is_due(159, Duration::from_secs(60)));
        assert!(keys.is_due(160, Duration::from_secs(60)));
        assert!(!keys.is_due(50, Duration::from_secs(60)), "a clock that went back does not panic");
    }

    #[test]
    fn a_ticket_opens_under_its_key_and_carries_its_scope() {
        let keys = KeyRing::draw();
        let sealed = seal(&keys.current, 7, AssetId(9), Duration::from_secs(60));
        let opened = TicketKey::new(1, &keys.current.bytes).open(&sealed.ticket).expect("opens");
        assert_eq!((opened.user, opened.assets), (7, vec![AssetId(9)]));
        assert_eq!(opened.secret.expose(), sealed.secret.expose());
        assert!(opened.expires_at.abs_diff(clock::unix_s() + 60) <= 2);
        let other = KeyRing::draw();
        assert!(TicketKey::new(1, &other.current.bytes).open(&sealed.ticket).is_none());
    }

    #[test]
    fn debug_output_hides_keys() {
        assert_eq!(format!("{:?}", KeyRing::draw().current), "NumberedKey(1, ..)");
    }
}
