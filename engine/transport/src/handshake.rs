//! The client's side of HELLO and WELCOME.

use braidcast_media::ticket::{SessionSecret, TICKET_BYTES_MAX};

use crate::keys::{PROOF_AT, SessionKeys, hello_proof};
use crate::limits::{HELLO_BYTES, VERSION};
use crate::packet::{self, LIMITS_BYTES, Limits, WELCOME_CLEAR_BYTES};

const RANDOM_AT: usize = 4;
const TICKET_LENGTH_AT: usize = 36;
const TICKET_AT: usize = 38;
const _: () = assert!(TICKET_AT + TICKET_BYTES_MAX <= PROOF_AT);

/// A greeting under way: the same HELLO is repeated until its WELCOME comes.
pub struct Greeting {
    hello: Box<[u8; HELLO_BYTES]>,
    secret: SessionSecret,
}

/// An open session as the client holds it.
pub struct ClientSession {
    pub(crate) handle: u64,
    pub(crate) keys: SessionKeys,
    /// What the server grants.
    pub limits: Limits,
}

/// A ticket longer than [`TICKET_BYTES_MAX`]: whoever gave it is no master of this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TicketTooLong;

impl Greeting {
    /// A greeting with a ticket and the secret that came with it. `client_random` must be fresh and unpredictable.
    ///
    /// # Errors
    /// [`TicketTooLong`].
    pub fn new(ticket: &[u8], secret: SessionSecret, client_random: [u8; 32]) -> Result<Self, TicketTooLong> {
        if ticket.len() > TICKET_BYTES_MAX {
            return Err(TicketTooLong);
        }
        let mut hello = Box::new([0; HELLO_BYTES]);
        hello[0] = VERSION << 4 | 1;
        hello[RANDOM_AT..TICKET_LENGTH_AT].copy_from_slice(&client_random);
        hello[TICKET_LENGTH_AT..TICKET_AT].copy_from_slice(&(ticket.len() as u16).to_be_bytes());
        hello[TICKET_AT..TICKET_AT + ticket.len()].copy_from_slice(ticket);
        let proof = hello_proof(&secret, &hello);
        hello[PROOF_AT..].copy_from_slice(&proof);
        Ok(Self { hello, secret })
    }

    /// The HELLO to send, and to send again.
    pub fn hello(&self) -> &[u8; HELLO_BYTES] {
        &self.hello
    }

    /// Opens a WELCOME; nothing if it answers another HELLO or was not made by the ticket's server.
    pub fn handle_welcome(&self, datagram: &[u8]) -> Option<ClientSession> {
        if packet::Kind::of(datagram) != Some(packet::Kind::Welcome) {
            return None;
        }
        let (clear, sealed) = datagram.split_at(WELCOME_CLEAR_BYTES);
        //= PROTOCOL W1: A client MUST ignore a WELCOME that does not echo its client random or does not open.
        if clear[4..12] != self.client_random()[..8] {
            return None;
        }
        let keys = SessionKeys::derive(&self.secret, &self.hello, clear);
        let mut limits = [0; LIMITS_BYTES];
        keys.server.open(0, clear, sealed, &mut limits)?;
        let handle = u64::from_be_bytes(clear[12..20].try_into().ok()?);
        Some(ClientSession { handle, keys, limits: Limits::parse(&limits) })
    }

    /// The versions that a server lists which does not speak this one; nothing if `datagram` says no such thing.
    pub fn handle_versions<'a>(&self, datagram: &'a [u8]) -> Option<&'a [u8]> {
        //= PROTOCOL V2: A client MUST ignore a VERSIONS that does not echo its HELLO or that lists the version in use.
        packet::parse_versions(datagram, self.client_random()).filter(|listed| !listed.contains(&VERSION))
    }

    fn client_random(&self) -> &[u8; 32] {
        self.hello[RANDOM_AT..].first_chunk().expect("HELLO is longer than its random")
    }
}

/// What a server reads from a HELLO before it trusts any of it.
pub(crate) struct HelloView<'a> {
    pub(crate) client_random: &'a [u8; 32],
    pub(crate) ticket: &'a [u8],
}

/// The fields of a HELLO; nothing if its ticket does not fit.
pub(crate) fn parse_hello(hello: &[u8; HELLO_BYTES]) -> Option<HelloView<'_>> {
    let client_random = hello[RANDOM_AT..].first_chunk()?;
    let length = usize::from(u16::from_be_bytes([hello[TICKET_LENGTH_AT], hello[TICKET_LENGTH_AT + 1]]));
    if length > TICKET_BYTES_MAX {
        return None;
    }
    Some(HelloView { client_random, ticket: &hello[TICKET_AT..TICKET_AT + length] })
}
