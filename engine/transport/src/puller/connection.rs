//! The client's session with one server: greeting, the session in use, and the one that it replaced.

use std::time::{Duration, Instant};

use braidcast_media::ticket::SessionSecret;

use crate::handshake::{ClientSession, Greeting};
use crate::limits::{HELLO_RETRY, HELLO_TRIES, RESET_PAUSE};
use crate::packet::{Proof, session_tag};
use crate::replay::ReplayWindow;
use crate::seeded::Seeded;

/// A session, and what its ENDs have told.
pub(super) struct Open {
    pub(super) session: ClientSession,
    pub(super) next_sequence: u32,
    /// Counters of ENDs.
    pub(super) ends: ReplayWindow,
    pub(super) proof: Proof,
    /// The server has said that its ticket is too old.
    pub(super) expired: bool,
}

impl Open {
    pub(super) fn tag(&self) -> u32 {
        session_tag(self.session.handle)
    }
}

struct Attempt {
    greeting: Greeting,
    sent: u32,
    /// When the first was.
    sent_at: Option<Instant>,
    next_at: Instant,
    pause: Duration,
    /// The server has forgotten the session in use.
    after_reset: bool,
}

/// How to greet a server.
struct Credentials {
    ticket: Vec<u8>,
    secret: SessionSecret,
}

/// What became of a datagram of the handshake.
pub(super) enum Greeted {
    /// A session is open. `lost`: what was asked for under the old one will not be answered. `rtt`: from the first
    /// HELLO to the WELCOME.
    Opened { lost: bool, rtt: Option<Duration> },
    /// The server speaks these versions, and not this one.
    OtherVersions(Vec<u8>),
    /// A session is open under which nothing may be asked for.
    GrantsNothing,
    /// Not for us.
    Nothing,
}

pub(super) struct Connection {
    random: Seeded,
    credentials: Option<Credentials>,
    attempt: Option<Attempt>,
    pub(super) current: Option<Open>,
    pub(super) previous: Option<Open>,
    reset_at: Option<Instant>,
}

impl Connection {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self {
            random: Seeded::new(seed),
            credentials: None,
            attempt: None,
            current: None,
            previous: None,
            reset_at: None,
        }
    }

    /// Greets with a ticket. A session in use goes on until the new one is open.
    pub(super) fn greet(&mut self, now: Instant, ticket: Vec<u8>, secret: SessionSecret) -> bool {
        self.credentials = Some(Credentials { ticket, secret });
        self.start(now, false)
    }

    /// A RESET came for a PULL that is unanswered: greets again, unless that was done a moment ago.
    pub(super) fn handle_reset(&mut self, now: Instant) {
        //= PROTOCOL R2: A client MUST act on a RESET only if it echoes the handle and the sequence of an unanswered PULL, at most once a second.
        let paused = self.reset_at.is_some_and(|at| now.duration_since(at) < RESET_PAUSE);
        if !paused && self.attempt.is_none() {
            self.reset_at = Some(now);
            self.start(now, true);
        }
    }

    /// The server has been silent for a while: greets it, unless that is under way.
    pub(super) fn greet_again(&mut self, now: Instant) {
        if self.attempt.is_none() {
            self.start(now, false);
        }
    }

    fn start(&mut self, now: Instant, after_reset: bool) -> bool {
        let Some(with) = &self.credentials else { return false };
        //= PROTOCOL H6: A client MUST draw a fresh client random for every session, and repeat the same HELLO while it waits.
        let Ok(greeting) = Greeting::new(&with.ticket, with.secret.clone(), self.random.draw()) else { return false };
        self.attempt =
            Some(Attempt { greeting, sent: 0, sent_at: None, next_at: now, pause: HELLO_RETRY, after_reset });
        true
    }

    /// The HELLO that is due.
    pub(super) fn poll_hello(&mut self, now: Instant) -> Option<&[u8]> {
        let attempt = self.attempt.as_mut().filter(|a| a.next_at <= now && a.sent < HELLO_TRIES)?;
        attempt.sent += 1;
        attempt.sent_at.get_or_insert(now);
        attempt.next_at = now + attempt.pause;
        attempt.pause *= 2;
        Some(attempt.greeting.hello())
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.attempt.as_ref().map(|attempt| attempt.next_at)
    }

    /// When an attempt began whose last HELLO was given its time in vain; it is over then.
    pub(super) fn poll_failed(&mut self, now: Instant) -> Option<Instant> {
        self.attempt.take_if(|attempt| attempt.sent >= HELLO_TRIES && attempt.next_at <= now)?.sent_at
    }

    /// Whether chunks may be asked for under the session in use.
    pub(super) fn is_usable(&self) -> bool {
        self.current.as_ref().is_some_and(|open| !open.expired)
    }

    pub(super) fn is_greeting(&self) -> bool {
        self.attempt.is_some()
    }

    pub(super) fn handle_welcome(&mut self, now: Instant, datagram: &[u8]) -> Greeted {
        let Some(attempt) = &self.attempt else { return Greeted::Nothing };
        let Some(session) = attempt.greeting.handle_welcome(datagram) else { return Greeted::Nothing };
        let lost = attempt.after_reset;
        // No more than this: whichever HELLO it answers was not sent before the first.
        let rtt = attempt.sent_at.map(|at| now.saturating_duration_since(at));
        self.attempt = None;
        let limits = session.limits;
        if limits.chunks_per_pull == 0 || limits.runs_per_pull == 0 || limits.pulls_unanswered == 0 {
            return Greeted::GrantsNothing;
        }
        //= PROTOCOL R3: A client MUST keep its session until the WELCOME of the next one has opened.
        self.previous = self.current.replace(Open {
            session,
            next_sequence: 1,
            ends: ReplayWindow::new(),
            proof: Proof::default(),
            expired: false,
        });
        Greeted::Opened { lost, rtt }
    }

    pub(super) fn handle_versions(&mut self, datagram: &[u8]) -> Greeted {
        let listed = self.attempt.as_ref().and_then(|a| a.greeting.handle_versions(datagram));
        let Some(versions) = listed.map(<[u8]>::to_vec) else { return Greeted::Nothing };
        self.attempt = None;
        Greeted::OtherVersions(versions)
    }

    /// The session that an END names.
    pub(super) fn by_tag(&mut self, tag: u32) -> Option<&mut Open> {
        [&mut self.current, &mut self.previous].into_iter().flatten().find(|open| open.tag() == tag)
    }
}
