//! A client of the data plane, written from PROTOCOL.md alone and sharing no code with the transport crate: what it
//! can and cannot get out of a server is what anybody can. It lets a test say every byte, lawful or not.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{digest, hkdf, hmac};

/// Size of HELLO, and of DATA.
pub(crate) const HELLO_BYTES: usize = 1_232;
/// Size of PULL.
pub(crate) const PULL_BYTES: usize = 112;
/// Where HELLO's proof stands.
const PROOF_AT: usize = 1_216;
/// Bytes of WELCOME in clear.
const WELCOME_CLEAR_BYTES: usize = 52;
/// Bytes of PULL and END in clear.
const CLEAR_BYTES: usize = 16;
const TAG_BYTES: usize = 16;

/// A greeting, and what it takes to open its answer.
pub(crate) struct Hello {
    /// As it is sent.
    pub(crate) packet: [u8; HELLO_BYTES],
    secret: [u8; 32],
}

impl Hello {
    /// A lawful HELLO, if ticket and secret belong together.
    pub(crate) fn new(ticket: &[u8], secret: &[u8; 32]) -> Self {
        let mut packet = [0; HELLO_BYTES];
        packet[0] = 0x11;
        aws_lc_rs::rand::fill(&mut packet[4..36]).expect("the system has random numbers");
        packet[36..38].copy_from_slice(&(ticket.len() as u16).to_be_bytes());
        packet[38..38 + ticket.len()].copy_from_slice(ticket);
        let okm = extract(&[], secret);
        let key = okm.expand(&[b"braidcast 1 hello"], hmac::HMAC_SHA256).map(hmac::Key::from).expect("32 bytes");
        let (said, proof) = packet.split_at_mut(PROOF_AT);
        proof.copy_from_slice(&hmac::sign(&key, said).as_ref()[..16]);
        Self { packet, secret: *secret }
    }

    /// The session that a WELCOME opens; nothing if it does not answer this HELLO.
    pub(crate) fn open(&self, welcome: &[u8]) -> Option<Session> {
        if welcome.first() != Some(&0x12) || welcome.len() != 84 || welcome[4..12] != self.packet[4..12] {
            return None;
        }
        let (clear, sealed) = welcome.split_at(WELCOME_CLEAR_BYTES);
        let mut salt = digest::Context::new(&digest::SHA256);
        salt.update(&self.packet);
        salt.update(clear);
        // HMAC hashes a key that is longer than its block, so this is the salt that the protocol names.
        let prk = extract(salt.finish().as_ref(), &self.secret);
        let key = |info: &[u8]| {
            let key = prk.expand(&[info], &AES_128_GCM).map(UnboundKey::from).expect("16 bytes");
            LessSafeKey::new(key)
        };
        let session = Session {
            handle: u64::from_be_bytes(clear[12..20].try_into().expect("8 bytes")),
            client: key(b"braidcast 1 client"),
            server: key(b"braidcast 1 server"),
        };
        open(&session.server, 0, clear, sealed).map(|_| session)
    }
}

/// What a PULL asks for.
#[derive(Clone, Default)]
pub(crate) struct Pull {
    pub(crate) asset: u64,
    pub(crate) stream: u8,
    /// First chunk and count of each run; more than eight do not fit, and are only counted.
    pub(crate) runs: Vec<(u32, u16)>,
    /// KiB/s.
    pub(crate) rate: u32,
    /// As an END gave it.
    pub(crate) proof: [u8; 16],
}

/// What an END says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) sequence: u32,
    pub(crate) status: u8,
    pub(crate) sent_chunks: u16,
    pub(crate) proof: [u8; 16],
}

/// An open session.
pub(crate) struct Session {
    handle: u64,
    client: LessSafeKey,
    server: LessSafeKey,
}

impl Session {
    /// The PULL with this sequence.
    pub(crate) fn pull(&self, sequence: u32, pull: &Pull) -> [u8; PULL_BYTES] {
        let mut packet = [0; PULL_BYTES];
        packet[0] = 0x13;
        packet[4..12].copy_from_slice(&self.handle.to_be_bytes());
        packet[12..16].copy_from_slice(&sequence.to_be_bytes());
        let (clear, rest) = packet.split_at_mut(CLEAR_BYTES);
        let (text, tag) = rest.split_at_mut(80);
        text[0..8].copy_from_slice(&pull.asset.to_be_bytes());
        text[8] = pull.stream;
        text[9] = pull.runs.len() as u8;
        text[12..16].copy_from_slice(&pull.rate.to_be_bytes());
        text[16..32].copy_from_slice(&pull.proof);
        for ((first, count), room) in pull.runs.iter().zip(text[32..].chunks_exact_mut(6)) {
            room[..4].copy_from_slice(&first.to_be_bytes());
            room[4..].copy_from_slice(&count.to_be_bytes());
        }
        let sealed = self.client.seal_in_place_separate_tag(nonce(sequence.into()), Aad::from(clear), text);
        tag.copy_from_slice(sealed.expect("short enough").as_ref());
        packet
    }

    /// Opens an END of this session.
    pub(crate) fn open_end(&self, packet: &[u8]) -> Option<End> {
        if packet.first() != Some(&0x15) || packet[4..8] != self.handle.to_be_bytes()[4..] {
            return None;
        }
        let (clear, sealed) = packet.split_at_checked(CLEAR_BYTES)?;
        let counter = u64::from_be_bytes(clear[8..].try_into().expect("8 bytes"));
        let text = open(&self.server, counter, clear, sealed)?;
        Some(End {
            sequence: u32::from_be_bytes(text[0..4].try_into().expect("4 bytes")),
            status: text[4],
            sent_chunks: u16::from_be_bytes(text[10..12].try_into().expect("2 bytes")),
            proof: text[40..56].try_into().expect("16 bytes"),
        })
    }
}

fn extract(salt: &[u8], secret: &[u8]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt).extract(secret)
}

fn open(key: &LessSafeKey, counter: u64, clear: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut text = vec![0; sealed.len().checked_sub(TAG_BYTES)?];
    let (sealed, tag) = sealed.split_at(text.len());
    key.open_separate_gather(nonce(counter), Aad::from(clear), sealed, tag, &mut text).ok()?;
    Some(text)
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}
