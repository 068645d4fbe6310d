//! The control packets once more, written from PROTOCOL.md with the primitives alone: neither side of the crate is
//! trusted to test the other, and what no correct peer sends can be made here.

use aws_lc_rs::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hmac;

pub(crate) const HELLO_BYTES: usize = 1_232;
pub(crate) const PULL_BYTES: usize = 112;

fn hmac_sha256(key: &[u8], text: &[u8]) -> [u8; 32] {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text);
    tag.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// HKDF's expansion to at most one block (RFC 5869, section 2.3).
fn expand(prk: &[u8; 32], info: &str) -> [u8; 32] {
    hmac_sha256(prk, &[info.as_bytes(), &[1]].concat())
}

/// Section 2.1.
pub(crate) fn hello(ticket: &[u8], secret: &[u8; 32], random: &[u8; 32]) -> Vec<u8> {
    let mut packet = vec![0x11, 0, 0, 0];
    packet.extend_from_slice(random);
    packet.extend_from_slice(&(ticket.len() as u16).to_be_bytes());
    packet.extend_from_slice(ticket);
    packet.resize(1_216, 0);
    let key = expand(&hmac_sha256(&[0; 32], secret), "braidcast 1 hello");
    let proof = hmac_sha256(&key, &packet);
    packet.extend_from_slice(&proof[..16]);
    packet
}

/// One run as it stands in a packet.
pub(crate) type WireRun = (u32, u16);

/// Text of a PULL before it is sealed (section 2.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PullText {
    pub(crate) asset: u64,
    pub(crate) stream: u8,
    /// What the packet says, which need not be how many runs there are.
    pub(crate) run_count: u8,
    pub(crate) rate_kib_s: u32,
    pub(crate) proof: [u8; 16],
    pub(crate) runs: Vec<WireRun>,
}

impl PullText {
    pub(crate) fn new(asset: u64, runs: &[WireRun]) -> Self {
        let run_count = runs.len() as u8;
        Self { asset, stream: 0, run_count, rate_kib_s: 0, proof: [0; 16], runs: runs.to_vec() }
    }

    pub(crate) fn proving(self, proof: [u8; 16]) -> Self {
        Self { proof, ..self }
    }
}

/// Text of an END before it is sealed (section 2.5).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(crate) struct EndText {
    pub(crate) sequence: u32,
    pub(crate) status: u8,
    pub(crate) flags: u8,
    pub(crate) retry_after_ms: u16,
    pub(crate) sent_chunks: u16,
    pub(crate) held_us: u32,
    pub(crate) sent_at_us: u64,
    pub(crate) highest: u32,
    pub(crate) waiting: u32,
    pub(crate) seen: u64,
    pub(crate) proof: [u8; 16],
    pub(crate) not_held: Vec<WireRun>,
}

pub(crate) const OK: u8 = 0;
pub(crate) const NOT_HELD: u8 = 1;
pub(crate) const BUSY: u8 = 2;
pub(crate) const EXPIRED: u8 = 3;
pub(crate) const UNKNOWN_ASSET: u8 = 4;
pub(crate) const OVER_LIMIT: u8 = 5;
pub(crate) const MALFORMED: u8 = 6;

/// What a server grants (section 2.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WireLimits {
    pub(crate) chunks_per_pull: u16,
    pub(crate) runs_per_pull: u8,
    pub(crate) rate_kib_s: u32,
    pub(crate) lifetime_s: u32,
    pub(crate) pulls_unanswered: u16,
}

impl Default for WireLimits {
    fn default() -> Self {
        Self { chunks_per_pull: 52, runs_per_pull: 8, rate_kib_s: 0, lifetime_s: 3_600, pulls_unanswered: 512 }
    }
}

/// A session with the keys of both sides.
pub(crate) struct Session {
    pub(crate) handle: u64,
    client: LessSafeKey,
    server: LessSafeKey,
}

impl Session {
    fn derive(hello: &[u8], welcome_clear: &[u8], secret: &[u8; 32]) -> Self {
        let prk = hmac_sha256(&[hello, welcome_clear].concat(), secret);
        let key = |info| {
            let okm = expand(&prk, info);
            LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &okm[..16]).expect("AES-128 takes 16 bytes"))
        };
        let handle = u64::from_be_bytes(welcome_clear[12..20].try_into().expect("8 bytes"));
        Self { handle, client: key("braidcast 1 client"), server: key("braidcast 1 server") }
    }

    /// What a client learns from a WELCOME; nothing if it does not open.
    pub(crate) fn open(hello: &[u8], welcome: &[u8], secret: &[u8; 32]) -> Option<(Self, WireLimits)> {
        assert_eq!((welcome.len(), &welcome[..4]), (84, &[0x12, 0, 0, 0][..]));
        assert_eq!(welcome[4..12], hello[4..12], "WELCOME echoes the client random");
        let session = Self::derive(hello, &welcome[..52], secret);
        let text = open(&session.server, 0, &welcome[..52], &welcome[52..])?;
        let limits = WireLimits {
            chunks_per_pull: be16(&text[0..]),
            runs_per_pull: text[2],
            rate_kib_s: be32(&text[4..]),
            lifetime_s: be32(&text[8..]),
            pulls_unanswered: be16(&text[12..]),
        };
        Some((session, limits))
    }

    /// What a server says to a HELLO.
    pub(crate) fn welcome(hello: &[u8], secret: &[u8; 32], handle: u64, limits: WireLimits) -> (Self, Vec<u8>) {
        let clear = [&[0x12, 0, 0, 0], &hello[4..12], &handle.to_be_bytes()[..], &[0x5e; 32]].concat();
        let session = Self::derive(hello, &clear, secret);
        let text = [
            &limits.chunks_per_pull.to_be_bytes()[..],
            &[limits.runs_per_pull, 0],
            &limits.rate_kib_s.to_be_bytes(),
            &limits.lifetime_s.to_be_bytes(),
            &limits.pulls_unanswered.to_be_bytes(),
            &[0; 2],
        ]
        .concat();
        let sealed = seal(&session.server, 0, &clear, text);
        (session, [clear, sealed].concat())
    }

    pub(crate) fn pull(&self, sequence: u32, pull: &PullText) -> Vec<u8> {
        let header = [&[0x13, 0, 0, 0], &self.handle.to_be_bytes()[..], &sequence.to_be_bytes()].concat();
        let mut text = [
            &pull.asset.to_be_bytes()[..],
            &[pull.stream, pull.run_count, 0, 0],
            &pull.rate_kib_s.to_be_bytes(),
            &pull.proof,
        ]
        .concat();
        write_runs(&pull.runs, &mut text);
        text.resize(80, 0);
        let sealed = seal(&self.client, sequence.into(), &header, text);
        [header, sealed].concat()
    }

    /// Sequence and text of a PULL that the client sealed.
    pub(crate) fn open_pull(&self, packet: &[u8]) -> Option<(u32, PullText)> {
        let sequence = be32(&packet[12..]);
        if packet[..4] != [0x13, 0, 0, 0] || packet[4..12] != self.handle.to_be_bytes() {
            return None;
        }
        let text = open(&self.client, sequence.into(), &packet[..16], &packet[16..])?;
        let pull = PullText {
            asset: u64::from_be_bytes(text[..8].try_into().expect("8 bytes")),
            stream: text[8],
            run_count: text[9],
            rate_kib_s: be32(&text[12..]),
            proof: text[16..32].try_into().expect("16 bytes"),
            runs: read_runs(&text[32..32 + 6 * usize::from(text[9])]),
        };
        Some((sequence, pull))
    }

    pub(crate) fn end(&self, counter: u64, end: &EndText) -> Vec<u8> {
        let header =
            [&[0x15, end.not_held.len() as u8, 0, 0], &(self.handle as u32).to_be_bytes()[..], &counter.to_be_bytes()]
                .concat();
        let mut text = [
            &end.sequence.to_be_bytes()[..],
            &[end.status, end.flags, 0, 0],
            &end.retry_after_ms.to_be_bytes(),
            &end.sent_chunks.to_be_bytes(),
            &end.held_us.to_be_bytes(),
            &end.sent_at_us.to_be_bytes(),
            &end.highest.to_be_bytes(),
            &end.waiting.to_be_bytes(),
            &end.seen.to_be_bytes(),
            &end.proof,
        ]
        .concat();
        write_runs(&end.not_held, &mut text);
        let sealed = seal(&self.server, counter, &header, text);
        [header, sealed].concat()
    }

    /// Counter and text of an END that the server sealed.
    pub(crate) fn open_end(&self, packet: &[u8]) -> Option<(u64, EndText)> {
        if packet[0] != 0x15 || packet[2..4] != [0, 0] || packet[4..8] != (self.handle as u32).to_be_bytes() {
            return None;
        }
        let counter = u64::from_be_bytes(packet[8..16].try_into().expect("8 bytes"));
        let text = open(&self.server, counter, &packet[..16], &packet[16..])?;
        assert_eq!(text.len(), 56 + 6 * usize::from(packet[1]));
        let end = EndText {
            sequence: be32(&text[0..]),
            status: text[4],
            flags: text[5],
            retry_after_ms: be16(&text[8..]),
            sent_chunks: be16(&text[10..]),
            held_us: be32(&text[12..]),
            sent_at_us: u64::from_be_bytes(text[16..24].try_into().expect("8 bytes")),
            highest: be32(&text[24..]),
            waiting: be32(&text[28..]),
            seen: u64::from_be_bytes(text[32..40].try_into().expect("8 bytes")),
            proof: text[40..56].try_into().expect("16 bytes"),
            not_held: read_runs(&text[56..]),
        };
        Some((counter, end))
    }
}

/// Section 2.6.
pub(crate) fn reset(handle: u64, sequence: u32) -> Vec<u8> {
    [&[0x16, 0, 0, 0], &handle.to_be_bytes()[..], &sequence.to_be_bytes()].concat()
}

/// Section 2.7.
pub(crate) fn versions(cause: &[u8], listed: &[u8]) -> Vec<u8> {
    [&[0, listed.len() as u8, 0, 0], &cause[4..12], listed].concat()
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn seal(key: &LessSafeKey, counter: u64, aad: &[u8], mut text: Vec<u8>) -> Vec<u8> {
    key.seal_in_place_append_tag(nonce(counter), Aad::from(aad), &mut text).expect("a short text");
    text
}

fn open(key: &LessSafeKey, counter: u64, aad: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut room = sealed.to_vec();
    key.open_in_place(nonce(counter), Aad::from(aad), &mut room).ok().map(|text| text.to_vec())
}

fn write_runs(runs: &[WireRun], text: &mut Vec<u8>) {
    for (first, count) in runs {
        text.extend_from_slice(&first.to_be_bytes());
        text.extend_from_slice(&count.to_be_bytes());
    }
}

fn read_runs(text: &[u8]) -> Vec<WireRun> {
    text.chunks_exact(6).map(|run| (be32(run), be16(&run[4..]))).collect()
}

fn be16(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[0], bytes[1]])
}

fn be32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}
