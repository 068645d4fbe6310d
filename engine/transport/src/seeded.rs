//! Random-looking bytes from one secret seed, so that the core draws none of its own.

/// A stream of unpredictable blocks: BLAKE3 in keyed mode over a counter.
pub(crate) struct Seeded {
    seed: [u8; 32],
    drawn: u64,
}

impl Seeded {
    pub(crate) fn new(seed: [u8; 32]) -> Self {
        Self { seed, drawn: 0 }
    }

    pub(crate) fn draw(&mut self) -> [u8; 32] {
        self.drawn += 1;
        *blake3::keyed_hash(&self.seed, &self.drawn.to_be_bytes()).as_bytes()
    }
}
