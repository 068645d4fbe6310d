//! The frame index of one track, while it grows.

use braidcast_media::frames::{CODEC_DESCRIPTIONS_MAX, FRAME_BYTES_MAX, FRAME_ENTRY_BYTES, FrameEntry, KeyEntry};

use super::Reject;
use super::demux::Unit;
use crate::decode::TrackError;
use crate::limits::DESCRIPTION_BYTES_MAX;

/// Entries of one track, in the demuxer's order.
pub(super) struct TrackIndex {
    codec: String,
    descriptions: Vec<Vec<u8>>,
    /// The description in force, by number.
    description: u8,
    /// As they stand in the index: a third of the memory.
    entries: Vec<[u8; FRAME_ENTRY_BYTES]>,
    offset_last: u64,
}

/// What the entries of a track say together.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    /// Presentation of the first frame shown, and end of the last.
    pub start: i64,
    /// As above.
    pub end: i64,
    /// Frames shown.
    pub pictures: u64,
}

impl TrackIndex {
    pub(super) fn new(codec: String, description: Vec<u8>) -> Self {
        Self { codec, descriptions: vec![description], description: 0, entries: Vec::new(), offset_last: 0 }
    }

    /// Adds an access unit that stands at `offset`.
    ///
    /// # Errors
    /// [`Reject::NotInFile`] if the one before it stands further back, and what else an index cannot hold.
    pub(super) fn push(&mut self, unit: &Unit, offset: u64) -> Result<(), Reject> {
        if offset < self.offset_last {
            return Err(Reject::NotInFile);
        }
        if unit.has_palette() {
            return Err(Reject::Palette(unit.track));
        }
        if unit.is_encrypted() {
            return Err(Reject::Encrypted(unit.track));
        }
        if let Some(description) = unit.new_description() {
            self.description = self.number(description)?;
        }
        if unit.data().len() > FRAME_BYTES_MAX as usize {
            return Err(Reject::Frame { track: unit.track, bytes: unit.data().len() });
        }
        let entry = FrameEntry { offset, codec: self.description, ..unit.entry(&self.codec) };
        self.entries.push(entry.to_bytes()?);
        self.offset_last = offset;
        Ok(())
    }

    /// The codec descriptions that the entries name.
    pub(super) fn descriptions(&self) -> &[Vec<u8>] {
        &self.descriptions
    }

    /// The entries as they stand in the index.
    pub(super) fn bytes(&self) -> &[u8] {
        self.entries.as_flattened()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn span(&self) -> Span {
        let shown = || self.iter().filter(FrameEntry::is_shown);
        let end = |entry: FrameEntry| Some(entry.shown_at()?.saturating_add(entry.duration.into()));
        Span {
            start: shown().filter_map(|entry| entry.shown_at()).min().unwrap_or(0),
            end: shown().filter_map(end).max().unwrap_or(0),
            pictures: shown().count() as u64,
        }
    }

    /// The frames from which decoding can begin, those left out that would break the order of the key-frame index: all
    /// three numbers rise from entry to entry.
    pub(super) fn keys(&self) -> Vec<KeyEntry> {
        let mut times: Vec<i64> =
            self.iter().filter(FrameEntry::is_shown).filter_map(|entry| entry.shown_at()).collect();
        times.sort_unstable();
        let mut keys: Vec<KeyEntry> = Vec::new();
        for (frame, entry) in self.iter().enumerate() {
            let Some(pts) = entry.shown_at().filter(|_| entry.key && entry.is_shown()) else { continue };
            let picture = times.partition_point(|&time| time < pts);
            // `ENTRIES_MAX` is far below what 32 bits hold.
            let key = KeyEntry { frame: frame as u32, picture: picture as u32, pts };
            if keys.last().is_none_or(|last| last.picture < key.picture && last.pts < key.pts) {
                keys.push(key);
            }
        }
        keys
    }

    fn iter(&self) -> impl Iterator<Item = FrameEntry> {
        self.entries.iter().map(FrameEntry::from_bytes)
    }

    /// The number of a description, which is new or was in force before.
    fn number(&mut self, description: &[u8]) -> Result<u8, Reject> {
        let known = self.descriptions.iter().position(|known| known == description);
        let number = known.unwrap_or(self.descriptions.len());
        if number >= CODEC_DESCRIPTIONS_MAX {
            return Err(TrackError::Descriptions(number + 1).into());
        }
        if known.is_none() {
            self.descriptions.push(description.to_vec());
            let bytes = self.descriptions.iter().map(Vec::len).sum();
            if bytes > DESCRIPTION_BYTES_MAX {
                return Err(TrackError::DescriptionBytes(bytes).into());
            }
        }
        Ok(number as u8)
    }
}

const _: () = assert!(CODEC_DESCRIPTIONS_MAX <= u8::MAX as usize + 1);
const _: () = assert!(crate::limits::ENTRIES_MAX <= u32::MAX as usize);
