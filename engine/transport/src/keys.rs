//! Keys of a session and the proof in HELLO (PROTOCOL.md, sections 2.1 and 4).

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::{constant_time, digest, hkdf, hmac};
use braidcast_media::layout::TAG_BYTES;
use braidcast_media::ticket::SessionSecret;

use crate::limits::HELLO_BYTES;

const PROOF_BYTES: usize = 16;
/// Where the proof stands in HELLO; all before it is proven.
pub(crate) const PROOF_AT: usize = HELLO_BYTES - PROOF_BYTES;

/// One direction's key: counters are its nonces, so each may be used once.
pub(crate) struct DirectionKey(LessSafeKey);

/// Both keys of a session.
pub(crate) struct SessionKeys {
    /// Seals PULL.
    pub(crate) client: DirectionKey,
    /// Seals WELCOME (counter 0) and END.
    pub(crate) server: DirectionKey,
}

impl SessionKeys {
    /// Derives the keys from the secret and everything that both sides said.
    pub(crate) fn derive(secret: &SessionSecret, hello: &[u8; HELLO_BYTES], welcome_clear: &[u8]) -> Self {
        let mut transcript = digest::Context::new(&digest::SHA256);
        transcript.update(hello);
        transcript.update(welcome_clear);
        // HMAC hashes a key longer than its block (RFC 2104, section 2), so this digest is the same salt.
        let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, transcript.finish().as_ref());
        let prk = salt.extract(secret.expose());
        let direction = |info: &[u8]| {
            let info = [info];
            let okm = prk.expand(&info, &AES_128_GCM).expect("16 bytes are within HKDF's limit");
            DirectionKey(LessSafeKey::new(UnboundKey::from(okm)))
        };
        Self { client: direction(b"braidcast 1 client"), server: direction(b"braidcast 1 server") }
    }
}

impl DirectionKey {
    /// Seals `text` in place and gives its tag. A counter must never be used twice.
    pub(crate) fn seal(&self, counter: u64, aad: &[u8], text: &mut [u8]) -> [u8; TAG_BYTES] {
        let tag = self
            .0
            .seal_in_place_separate_tag(nonce(counter), Aad::from(aad), text)
            .expect("control packets are within AES-GCM's limit");
        tag.as_ref().try_into().expect("AES-GCM tags have 16 bytes")
    }

    /// Opens `text` followed by its tag into `out`, which is as long as the text.
    pub(crate) fn open(&self, counter: u64, aad: &[u8], text_and_tag: &[u8], out: &mut [u8]) -> Option<()> {
        let (text, tag) = text_and_tag.split_at_checked(text_and_tag.len().checked_sub(TAG_BYTES)?)?;
        self.0.open_separate_gather(nonce(counter), Aad::from(aad), text, tag, out).ok()
    }
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

/// The proof that whoever made `hello` holds the ticket's secret.
pub(crate) fn hello_proof(secret: &SessionSecret, hello: &[u8; HELLO_BYTES]) -> [u8; PROOF_BYTES] {
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]);
    let prk = salt.extract(secret.expose());
    let okm = prk.expand(&[b"braidcast 1 hello"], hmac::HMAC_SHA256).expect("32 bytes are within HKDF's limit");
    let tag = hmac::sign(&hmac::Key::from(okm), &hello[..PROOF_AT]);
    *tag.as_ref().first_chunk().expect("HMAC-SHA256 has 32 bytes")
}

/// Whether HELLO's own proof is that one.
pub(crate) fn hello_is_proven(secret: &SessionSecret, hello: &[u8; HELLO_BYTES]) -> bool {
    constant_time::verify_slices_are_equal(&hello_proof(secret, hello), &hello[PROOF_AT..]).is_ok()
}
