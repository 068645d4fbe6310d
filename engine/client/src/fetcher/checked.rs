//! What became of extents whose chunks are all there.

use braidcast_media::hashes;
use braidcast_media::layout::CHUNK_BYTES;

use crate::planner::SourceNo;
use crate::window::{Buffer, Expected, Filled, Job, Origins, Shown, Suspect};

/// An extent that was hashed, if that was wanted.
#[derive(Debug)]
pub struct Checked {
    /// What was to be fetched.
    pub job: Job,
    /// How it went.
    pub verdict: Verdict,
    /// Who gave bytes that a player has, that were taken before their hash was checked, and that are wrong.
    pub misled_by: Vec<SourceNo>,
}

/// How checking an extent went.
#[derive(Debug)]
pub enum Verdict {
    /// It is what was published, as far as that was to be checked. An extent of the fetcher's own stream stands in the
    /// output, and the buffer is spare; that of another stream holds its plain bytes.
    Good {
        /// To be used again.
        buffer: Buffer,
        /// Who gave chunks of an earlier copy that differ from it.
        liars: Vec<SourceNo>,
    },
    /// It is right, and its buffer is with a player, who brings it back by [`super::Fetcher::give_back`].
    Lent {
        /// Who gave chunks of an earlier copy that differ from it.
        liars: Vec<SourceNo>,
    },
    /// It is right and kept until those before it are written: a [`Verdict::Good`] follows.
    Kept {
        /// Who gave chunks of an earlier copy that differ from it.
        liars: Vec<SourceNo>,
    },
    /// Its hash is wrong.
    Forged {
        /// The copy, to be compared with a right one later.
        copy: Box<Suspect>,
    },
}

impl Filled {
    /// Hashes it, unless that was not wanted: [`Verdict::Good`] or [`Verdict::Forged`]. What is good still has to be
    /// written or handed on.
    pub fn check(self) -> Checked {
        let Self { job, buffer, origins, suspect } = self;
        //= PROTOCOL D3: A client MUST NOT call an extent verified before its BLAKE3 hash equals the one that the master's roots vouch for.
        let is_right = match job.hash {
            Expected::Hash(hash) => hashes::hash(&buffer[..job.bytes]) == hash,
            Expected::Unchecked => true,
            Expected::Awaited => false,
        };
        if !is_right {
            let shown = suspect.map(|suspect| suspect.shown).unwrap_or_default();
            let copy = Box::new(Suspect { buffer, origins, shown });
            return Checked { job, verdict: Verdict::Forged { copy }, misled_by: Vec::new() };
        }
        let Some(suspect) = suspect else {
            return Checked { job, verdict: Verdict::Good { buffer, liars: Vec::new() }, misled_by: Vec::new() };
        };
        let liars = liars(&buffer, &suspect.buffer, &suspect.origins);
        let misled_by = givers_of_wrong(&buffer, suspect.shown);
        Checked { job, verdict: Verdict::Good { buffer, liars }, misled_by }
    }
}

/// Who gave what a player has, where that differs from `good`.
fn givers_of_wrong(good: &[u8], shown: Vec<Shown>) -> Vec<SourceNo> {
    let wrong = shown.into_iter().filter(|part| hashes::hash(&good[part.bytes.clone()]) != part.hash);
    let mut givers: Vec<SourceNo> = wrong.flat_map(|part| part.givers).collect();
    givers.sort_unstable();
    givers.dedup();
    givers
}

/// Who gave chunks of `bad` that differ from `good`.
fn liars(good: &[u8], bad: &[u8], origins: &Origins) -> Vec<SourceNo> {
    let chunks = good.chunks(CHUNK_BYTES).zip(bad.chunks(CHUNK_BYTES)).zip(origins);
    let mut liars: Vec<SourceNo> = chunks.filter(|((good, bad), _)| good != bad).map(|(_, from)| *from).collect();
    liars.sort_unstable();
    liars.dedup();
    liars
}
