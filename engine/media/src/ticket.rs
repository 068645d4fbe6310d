//! Tickets: what a master gives a client to greet one server with (PROTOCOL.md, section 5).

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::{Zeroize, Zeroizing};

use crate::ids::AssetId;
use crate::layout::TAG_BYTES;

/// Longest sealed ticket.
pub const TICKET_BYTES_MAX: usize = 512;
/// Most assets in one ticket's scope.
pub const TICKET_ASSETS_MAX: usize = 16;

const AAD_PREFIX: &[u8] = b"braidcast 1 ticket";
const CLEAR_BYTES: usize = 16;
const FIXED_BYTES: usize = 32 + 8 + 8 + 4 + 1;
const _: () = assert!(CLEAR_BYTES + FIXED_BYTES + 8 * TICKET_ASSETS_MAX + TAG_BYTES <= TICKET_BYTES_MAX);

/// 32 bytes that one client and one server share; the client has them from the master over TLS. Never printed.
#[derive(Clone)]
pub struct SessionSecret(Zeroizing<[u8; 32]>);

impl SessionSecret {
    /// Length in bytes.
    pub const BYTES: usize = 32;

    /// The secret with these bytes.
    pub fn new(bytes: [u8; Self::BYTES]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The secret in `bytes`, if there are exactly 32.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self::new)
    }

    /// The bytes, for deriving keys and for the reply to an authorised client.
    pub fn expose(&self) -> &[u8; Self::BYTES] {
        &self.0
    }
}

impl std::fmt::Debug for SessionSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionSecret(..)")
    }
}

/// What a ticket says once it is open.
#[derive(Clone, Debug)]
pub struct Ticket {
    /// Shared with the client.
    pub secret: SessionSecret,
    /// The master's number for the user.
    pub user: u64,
    /// Unix time in seconds.
    pub expires_at: u64,
    /// Most that the session may take in KiB/s; 0 = not limited.
    pub rate_kib_s: u32,
    /// The assets that the session may pull: 1 to [`TICKET_ASSETS_MAX`].
    pub assets: Vec<AssetId>,
}

/// A key under which a master seals the tickets of one server.
pub struct TicketKey {
    id: u32,
    key: LessSafeKey,
}

impl TicketKey {
    /// Length in bytes.
    pub const BYTES: usize = 32;

    /// The key with this number.
    pub fn new(id: u32, bytes: &[u8; Self::BYTES]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("AES-256 takes 32 bytes");
        Self { id, key: LessSafeKey::new(key) }
    }

    /// Number of the key, in clear in front of a ticket.
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Seals a ticket. `nonce` must be random and fresh for every ticket.
    ///
    /// # Panics
    /// If the scope is empty or holds more than [`TICKET_ASSETS_MAX`] assets.
    pub fn seal(&self, ticket: &Ticket, nonce: [u8; 12]) -> Vec<u8> {
        assert!((1..=TICKET_ASSETS_MAX).contains(&ticket.assets.len()));
        let mut sealed = Vec::with_capacity(FIXED_BYTES + 8 * ticket.assets.len() + TAG_BYTES);
        sealed.extend_from_slice(ticket.secret.expose());
        sealed.extend_from_slice(&ticket.user.to_be_bytes());
        sealed.extend_from_slice(&ticket.expires_at.to_be_bytes());
        sealed.extend_from_slice(&ticket.rate_kib_s.to_be_bytes());
        sealed.push(ticket.assets.len() as u8);
        for asset in &ticket.assets {
            sealed.extend_from_slice(&asset.0.to_be_bytes());
        }
        self.key
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad(self.id)), &mut sealed)
            .expect("a ticket is within AES-GCM's limit");
        let mut out = Vec::with_capacity(CLEAR_BYTES + sealed.len());
        out.extend_from_slice(&self.id.to_be_bytes());
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        out
    }

    /// Opens a ticket that was sealed under this key; nothing for any other bytes.
    pub fn open(&self, bytes: &[u8]) -> Option<Ticket> {
        if bytes.len() > TICKET_BYTES_MAX || key_id(bytes)? != self.id {
            return None;
        }
        let (clear, sealed) = bytes.split_at_checked(CLEAR_BYTES)?;
        let nonce = Nonce::try_assume_unique_for_key(&clear[4..]).ok()?;
        let mut room = Zeroizing::new(sealed.to_vec());
        let plain = self.key.open_in_place(nonce, Aad::from(aad(self.id)), &mut room).ok()?;
        parse(plain)
    }
}

/// Number of the key that `ticket` claims to be sealed under.
pub fn key_id(ticket: &[u8]) -> Option<u32> {
    ticket.first_chunk().map(|id| u32::from_be_bytes(*id))
}

fn aad(key_id: u32) -> [u8; AAD_PREFIX.len() + 4] {
    let mut aad = [0; AAD_PREFIX.len() + 4];
    aad[..AAD_PREFIX.len()].copy_from_slice(AAD_PREFIX);
    aad[AAD_PREFIX.len()..].copy_from_slice(&key_id.to_be_bytes());
    aad
}

fn parse(plain: &[u8]) -> Option<Ticket> {
    let (fixed, assets) = plain.split_at_checked(FIXED_BYTES)?;
    let mut secret: [u8; 32] = fixed[..32].try_into().ok()?;
    let ticket_secret = SessionSecret::new(secret);
    secret.zeroize();
    let count = usize::from(fixed[52]);
    if !(1..=TICKET_ASSETS_MAX).contains(&count) || assets.len() != count * 8 {
        return None;
    }
    let (assets, _) = assets.as_chunks::<8>();
    Some(Ticket {
        secret: ticket_secret,
        user: u64::from_be_bytes(fixed[32..40].try_into().ok()?),
        expires_at: u64::from_be_bytes(fixed[40..48].try_into().ok()?),
        rate_kib_s: u32::from_be_bytes(fixed[48..52].try_into().ok()?),
        assets: assets.iter().map(|a| AssetId(u64::from_be_bytes(*a))).collect(),
    })
}
