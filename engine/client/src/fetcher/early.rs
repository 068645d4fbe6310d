//! Bytes for a player that has nothing to show: given out as soon as their chunks are open, before their extent is
//! complete and its hash checked.
//!
//! What was given out so is remembered until the extent's hash is right. If it is wrong, the extent is fetched anew as
//! always, nothing is given out early any more, and what was is compared with the right copy: if it differs, the fetcher
//! ends with [`FetchError::Misled`].

use std::collections::HashMap;
use std::ops::Range;

use braidcast_media::layout::CHUNK_BYTES;
use braidcast_media::{ExtentNo, Run, StreamId, hashes};

use super::source::State;
use super::{FetchError, Fetcher};
use crate::planner::{Piece, SourceNo};
use crate::window::{ExtentKey, Shown, Window};

/// Bytes of one extent of the fetcher's own stream that a player waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EarlyPart {
    /// Which extent.
    pub extent: ExtentNo,
    /// Their place in it; at least one byte.
    pub bytes: Range<usize>,
}

/// Such bytes. Their chunks are sealed by somebody who holds the content key; whether they are what was published is
/// not known yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EarlyPiece {
    /// Where they stand.
    pub part: EarlyPart,
    /// They themselves.
    pub data: Vec<u8>,
}

/// What is to be given out early, and what was.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// In the order in which they are needed.
    wanted: Vec<EarlyPart>,
    /// Chunks have come since `wanted` was looked through.
    is_due: bool,
    /// Given out, of extents whose hash was not checked yet.
    shown: HashMap<ExtentKey, Vec<Shown>>,
    /// Chunks that stand before all that is wanted of their extent, to be asked for later.
    deferred: Vec<(StreamId, Run)>,
    /// Somebody has lied: nothing is given out early any more.
    is_stopped: bool,
    /// Who gave what turned out to be wrong.
    misled_by: Option<Vec<SourceNo>>,
}

impl Early {
    /// Nothing is wanted any more. What was given out of extents that are complete is still to be checked; others never
    /// will be complete.
    pub(super) fn forget(&mut self, dropped: &Window) {
        self.wanted.clear();
        self.deferred.clear();
        self.shown.retain(|key, _| !dropped.contains(*key));
    }

    /// Gives nothing out any more.
    pub(super) fn stop(&mut self) {
        self.is_stopped = true;
        self.wanted.clear();
    }

    /// A chunk is open.
    pub(super) fn on_arrived(&mut self) {
        self.is_due = !self.wanted.is_empty();
    }

    /// All of an extent is there, so that its hash comes as soon as it could be given out early.
    pub(super) fn on_filled(&mut self, extent: ExtentNo) {
        self.wanted.retain(|part| part.extent != extent);
    }

    /// All that is missing of an extent is planned.
    pub(super) fn on_replanned(&mut self, key: ExtentKey) {
        self.deferred.retain(|(stream, run)| *stream != key.stream || run.first.extent() != key.extent);
    }

    /// What was given out of an extent that was checked.
    pub(super) fn take_shown(&mut self, key: ExtentKey) -> Vec<Shown> {
        self.shown.remove(&key).unwrap_or_default()
    }

    /// Chunks of an extent that stand before all that is wanted of it; none if nothing is.
    fn chunks_before(&self, extent: ExtentNo) -> u16 {
        let wanted = self.wanted.iter().filter(|part| part.extent == extent);
        wanted.map(|part| part.bytes.start / CHUNK_BYTES).min().unwrap_or(0) as u16
    }
}

impl Fetcher {
    /// A player has nothing to show and waits for these: they are given out by [`Fetcher::poll_early`] as soon as their
    /// chunks are open, unless their extent is complete by then, and asked for before all else of their extents. They
    /// take the place of what was wanted before; none ends it. Whoever calls bounds how much it is.
    pub fn want_early(&mut self, parts: Vec<EarlyPart>) {
        if !self.early.is_stopped {
            self.early.wanted = parts;
            self.early.is_due = true;
        }
    }

    /// The next piece of what a player waits for. Each is given once.
    pub fn poll_early(&mut self) -> Option<EarlyPiece> {
        if !self.early.is_due {
            return None;
        }
        let stream = self.config.stream;
        for (index, part) in self.early.wanted.iter().enumerate() {
            let key = ExtentKey { stream, extent: part.extent };
            if let Some((data, givers)) = self.window.copy(key, part.bytes.clone()) {
                let part = self.early.wanted.remove(index);
                let shown = Shown { bytes: part.bytes.clone(), hash: hashes::hash(&data), givers };
                self.early.shown.entry(key).or_default().push(shown);
                return Some(EarlyPiece { part, data });
            }
        }
        self.early.is_due = false;
        None
    }

    /// Plans an extent that was just started. What stands before all that a player waits for is left for later.
    pub(super) fn plan_started(&mut self, piece: Piece) {
        let Run { first, count } = piece.run;
        let before = self.early.chunks_before(first.extent());
        if piece.stream != self.config.stream || before == 0 || before >= count {
            self.planner.add(piece);
            return;
        }
        self.early.deferred.push((piece.stream, Run { first, count: before }));
        let rest = Run::new(first.0 + u32::from(before), count - before);
        self.planner.add(Piece { run: rest, ..piece });
    }

    /// Plans what was left for later once nothing is waited for, or nothing else is to be asked for.
    pub(super) fn plan_deferred(&mut self) {
        if !self.early.wanted.is_empty() && !self.planner.is_empty() {
            return;
        }
        for (stream, run) in std::mem::take(&mut self.early.deferred) {
            for piece in self.window.still_missing(stream, run) {
                self.planner.add(piece);
            }
        }
    }

    /// A player has bytes that are wrong.
    pub(super) fn on_misled(&mut self, mut givers: Vec<SourceNo>) {
        givers.sort_unstable();
        givers.dedup();
        let is_banned = |giver: &SourceNo| self.sources[usize::from(giver.0)].state == State::Banned;
        let liars: Vec<SourceNo> = givers.iter().copied().filter(is_banned).collect();
        self.early.misled_by = Some(if liars.is_empty() { givers } else { liars });
    }

    /// Whether a player has been given wrong bytes.
    pub(super) fn check_misled(&self) -> Result<(), FetchError> {
        let Some(givers) = &self.early.misled_by else { return Ok(()) };
        let address = |giver: &SourceNo| self.sources[usize::from(giver.0)].address.to_string();
        Err(FetchError::Misled(givers.iter().map(address).collect()))
    }
}
