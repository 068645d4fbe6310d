//! The frame index (stream 1) and the key-frame index (stream 2): PROTOCOL.md, section 9.
//!
//! ```text
//! stream 1   | track 0: 50 entries a chunk | zeros | track 1, from the next chunk on | ...
//! stream 2   | key frames of the film's video track: 75 entries a chunk |
//! ```
//! Entries are of fixed size and never cross a chunk, so frame n is found without a search. A publisher wrote them:
//! what is read here holds numbers that may be anything, and whoever uses them checks the bounds.

use crate::layout::CHUNK_BYTES;

/// Bytes of an entry of the frame index.
pub const FRAME_ENTRY_BYTES: usize = 24;
/// Entries in a chunk of the frame index.
pub const FRAME_ENTRIES_PER_CHUNK: u64 = (CHUNK_BYTES / FRAME_ENTRY_BYTES) as u64;
/// Bytes of an entry of the key-frame index.
pub const KEY_ENTRY_BYTES: usize = 16;
/// Entries in a chunk of the key-frame index.
pub const KEY_ENTRIES_PER_CHUNK: u64 = (CHUNK_BYTES / KEY_ENTRY_BYTES) as u64;
/// Codec descriptions that an entry can name.
pub const CODEC_DESCRIPTIONS_MAX: usize = 32;
/// Longest frame: a player holds one whole, and never less than it takes to fetch one. Uncompressed 4K pictures of 8 bits
/// have 12 MiB.
pub const FRAME_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// Largest offset that an entry holds.
pub const OFFSET_MAX: u64 = (1 << 48) - 1;
/// Longest duration that an entry holds, in units of the track's time base; longer ones are cut.
pub const DURATION_MAX: u32 = (1 << 24) - 1;

const _: () = assert!(CHUNK_BYTES.is_multiple_of(FRAME_ENTRY_BYTES) && CHUNK_BYTES.is_multiple_of(KEY_ENTRY_BYTES));

const TIME_MIN: i64 = -(1 << 47);
const TIME_MAX: i64 = (1 << 47) - 1;
/// In the place of a decode time: there is no time at all.
const NO_TIME: i64 = TIME_MIN;
/// In the place of a composition offset: there is no presentation time.
const NO_PTS: i32 = i32::MIN;
/// In the place of a composition offset: there is no decode time, and its place holds the presentation time.
const NO_DTS: i32 = i32::MAX;

const FLAG_KEY: u8 = 1;
const FLAG_DISCARD: u8 = 1 << 1;
const FLAG_HIDDEN: u8 = 1 << 2;
const CODEC_SHIFT: u32 = 3;

/// One access unit of a track: where its bytes stand and when it is decoded and shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FrameEntry {
    /// First byte, in the stream that the frames stand in (0 or 4).
    pub offset: u64,
    /// Length in bytes.
    pub size: u32,
    /// Presentation time in units of the track's time base, where the container gives one.
    pub pts: Option<i64>,
    /// Decode time in units of the track's time base, where the container gives one.
    pub dts: Option<i64>,
    /// How long it is shown, in units of the track's time base; 0 if nobody knows.
    pub duration: u32,
    /// Decoding can begin here.
    pub key: bool,
    /// To be decoded and not to be shown: an edit list cuts it off.
    pub discard: bool,
    /// Shows no picture of its own (VP8's alternate reference frames).
    pub hidden: bool,
    /// Which of the track's codec descriptions it needs, from 0.
    pub codec: u8,
}

/// An access unit that the index cannot describe.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum EntryError {
    /// It stands too far back in the file.
    #[error("an access unit at byte {0} is beyond what the frame index can hold")]
    Offset(u64),
    /// Its times do not fit.
    #[error("an access unit has the times pts {pts:?} and dts {dts:?}, which the frame index cannot hold")]
    Time {
        /// Presentation time.
        pts: Option<i64>,
        /// Decode time.
        dts: Option<i64>,
    },
    /// Its codec description has too high a number.
    #[error("a track changes its codec description more than {CODEC_DESCRIPTIONS_MAX} times")]
    Codec,
}

impl FrameEntry {
    /// One past its last byte.
    pub fn end(&self) -> u64 {
        self.offset + u64::from(self.size)
    }

    /// When it is shown, as far as the container tells: the presentation time or else the decode time.
    pub fn shown_at(&self) -> Option<i64> {
        self.pts.or(self.dts)
    }

    /// Whether it gives a picture that is shown.
    pub fn is_shown(&self) -> bool {
        !self.discard && !self.hidden
    }

    /// As it stands in the index.
    ///
    /// # Errors
    /// [`EntryError`] for numbers that the format cannot hold. Durations are cut to [`DURATION_MAX`].
    pub fn to_bytes(&self) -> Result<[u8; FRAME_ENTRY_BYTES], EntryError> {
        let (time, composition) = self.times()?;
        if self.offset > OFFSET_MAX {
            return Err(EntryError::Offset(self.offset));
        }
        if usize::from(self.codec) >= CODEC_DESCRIPTIONS_MAX {
            return Err(EntryError::Codec);
        }
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let flags = flag(self.key, FLAG_KEY)
            | flag(self.discard, FLAG_DISCARD)
            | flag(self.hidden, FLAG_HIDDEN)
            | self.codec << CODEC_SHIFT;
        let mut out = [0; FRAME_ENTRY_BYTES];
        out[0..6].copy_from_slice(&self.offset.to_be_bytes()[2..]);
        out[6..10].copy_from_slice(&self.size.to_be_bytes());
        out[10..16].copy_from_slice(&time.to_be_bytes()[2..]);
        out[16..20].copy_from_slice(&composition.to_be_bytes());
        out[20..23].copy_from_slice(&self.duration.min(DURATION_MAX).to_be_bytes()[1..]);
        out[23] = flags;
        Ok(out)
    }

    /// Reads an entry. Every 24 bytes are one; the numbers in it may be anything.
    pub fn from_bytes(bytes: &[u8; FRAME_ENTRY_BYTES]) -> Self {
        let unsigned = |at: usize, len: usize| bytes[at..at + len].iter().fold(0, |n, &b| n << 8 | u64::from(b));
        // Sign extension of 48 bits.
        let time = (unsigned(10, 6) << 16).cast_signed() >> 16;
        let composition = (unsigned(16, 4) as u32).cast_signed();
        let known = |time: i64| (time != NO_TIME).then_some(time);
        let (pts, dts) = match composition {
            NO_PTS => (None, known(time)),
            NO_DTS => (known(time), None),
            offset => (known(time).map(|time| time + i64::from(offset)), known(time)),
        };
        let flags = bytes[23];
        Self {
            offset: unsigned(0, 6),
            size: unsigned(6, 4) as u32,
            pts,
            dts,
            duration: unsigned(20, 3) as u32,
            key: flags & FLAG_KEY != 0,
            discard: flags & FLAG_DISCARD != 0,
            hidden: flags & FLAG_HIDDEN != 0,
            codec: flags >> CODEC_SHIFT,
        }
    }

    fn times(&self) -> Result<(i64, i32), EntryError> {
        let wrong = EntryError::Time { pts: self.pts, dts: self.dts };
        let (time, composition) = match (self.pts, self.dts) {
            (None, None) => return Ok((NO_TIME, NO_PTS)),
            (None, Some(dts)) => (dts, NO_PTS),
            (Some(pts), None) => (pts, NO_DTS),
            (Some(pts), Some(dts)) => {
                let offset = pts.checked_sub(dts).and_then(|offset| i32::try_from(offset).ok());
                (dts, offset.filter(|&offset| offset != NO_PTS && offset != NO_DTS).ok_or_else(|| wrong.clone())?)
            }
        };
        if time > TIME_MIN && time <= TIME_MAX { Ok((time, composition)) } else { Err(wrong) }
    }
}

/// A frame of the film's video track from which decoding can begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyEntry {
    /// Its number in decode order.
    pub frame: u32,
    /// How many pictures are shown before it.
    pub picture: u32,
    /// When it is shown, in units of the track's time base.
    pub pts: i64,
}

impl KeyEntry {
    /// As it stands in the index.
    pub fn to_bytes(&self) -> [u8; KEY_ENTRY_BYTES] {
        let mut out = [0; KEY_ENTRY_BYTES];
        out[0..4].copy_from_slice(&self.frame.to_be_bytes());
        out[4..8].copy_from_slice(&self.picture.to_be_bytes());
        out[8..16].copy_from_slice(&self.pts.to_be_bytes());
        out
    }

    /// Reads an entry. Every 16 bytes are one; the numbers in it may be anything.
    pub fn from_bytes(bytes: &[u8; KEY_ENTRY_BYTES]) -> Self {
        let (numbers, _) = bytes.as_chunks::<4>();
        Self {
            frame: u32::from_be_bytes(numbers[0]),
            picture: u32::from_be_bytes(numbers[1]),
            pts: (u64::from(u32::from_be_bytes(numbers[2])) << 32 | u64::from(u32::from_be_bytes(numbers[3])))
                .cast_signed(),
        }
    }
}

/// Cuts a list of frame entries, as it stands in a message or a stream; nothing if it does not divide.
pub fn parse_frames(bytes: &[u8]) -> Option<Vec<FrameEntry>> {
    let (entries, rest) = bytes.as_chunks::<FRAME_ENTRY_BYTES>();
    rest.is_empty().then(|| entries.iter().map(FrameEntry::from_bytes).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_frame_entry() {
        let entry = FrameEntry {
            offset: 0x0102_0304_0506,
            size: 0x0708_090a,
            pts: Some(0x10_0002),
            dts: Some(-2),
            duration: 0x0b_0c0d,
            key: true,
            discard: false,
            hidden: true,
            codec: 31,
        };
        let bytes = entry.to_bytes().expect("it fits");
        #[rustfmt::skip]
        assert_eq!(bytes, [
            0x01, 0x02, 0x03, 0x04, 0x05, 0x06,  0x07, 0x08, 0x09, 0x0a,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xfe,  0x00, 0x10, 0x00, 0x04,
            0x0b, 0x0c, 0x0d,  0b1111_1101,
        ]);
        assert_eq!(FrameEntry::from_bytes(&bytes), entry);
    }

    #[test]
    fn golden_key_entry() {
        let entry = KeyEntry { frame: 1, picture: 0x0203_0405, pts: -1 };
        let bytes = entry.to_bytes();
        assert_eq!(bytes, [0, 0, 0, 1, 2, 3, 4, 5, 255, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(KeyEntry::from_bytes(&bytes), entry);
    }

    #[test]
    fn numbers_at_the_edge_of_the_format_fit_and_those_beyond_do_not() {
        let with = |change: &dyn Fn(&mut FrameEntry)| {
            let mut entry = FrameEntry { pts: Some(0), dts: Some(0), ..FrameEntry::default() };
            change(&mut entry);
            entry.to_bytes().map(|bytes| FrameEntry::from_bytes(&bytes) == entry)
        };
        assert_eq!(with(&|entry| entry.offset = OFFSET_MAX), Ok(true));
        assert_eq!(with(&|entry| entry.offset = OFFSET_MAX + 1), Err(EntryError::Offset(OFFSET_MAX + 1)));
        for (pts, fits) in [(i32::MAX - 1, true), (i32::MAX, false), (i32::MIN + 1, true), (i32::MIN, false)] {
            let pts = Some(i64::from(pts));
            assert_eq!(with(&|entry| entry.pts = pts).is_ok_and(|same| same), fits, "{pts:?}");
        }
        for (time, fits) in [(TIME_MAX, true), (TIME_MAX + 1, false), (TIME_MIN + 1, true), (TIME_MIN, false)] {
            let set = |entry: &mut FrameEntry| (entry.pts, entry.dts) = (None, Some(time));
            assert_eq!(with(&set).is_ok_and(|same| same), fits, "{time}");
        }
        assert_eq!(with(&|entry| entry.codec = 31), Ok(true));
        assert_eq!(with(&|entry| entry.codec = 32), Err(EntryError::Codec));
        assert_eq!(with(&|entry| entry.duration = DURATION_MAX + 1), Ok(false), "it is cut");
    }

    prop_compose! {
        fn entries()(
            offset in 0..=OFFSET_MAX, size: u32, time in prop::option::of(TIME_MIN / 2..TIME_MAX / 2),
            composition in prop::option::of(-1_000_000_i64..1_000_000), duration in 0..=DURATION_MAX,
            flags: [bool; 4], codec in 0_u8..32,
        ) -> FrameEntry {
            let [key, discard, hidden, no_dts] = flags;
            let pts = time.zip(composition).map(|(time, composition)| time + composition);
            let dts = if no_dts { None } else { time };
            FrameEntry { offset, size, pts, dts, duration, key, discard, hidden, codec }
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(entry in entries()) {
            prop_assert_eq!(FrameEntry::from_bytes(&entry.to_bytes().expect("within bounds")), entry);
        }

        #[test]
        fn any_bytes_are_an_entry(bytes: [u8; FRAME_ENTRY_BYTES], key: [u8; KEY_ENTRY_BYTES]) {
            let entry = FrameEntry::from_bytes(&bytes);
            prop_assert!(entry.end() >= entry.offset);
            prop_assert_eq!(KeyEntry::from_bytes(&key).to_bytes(), key);
        }
    }
}
