//! The access units of a file, as FFmpeg's demuxer gives them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use braidcast_media::frames::{DURATION_MAX, FrameEntry};
use braidcast_proto::v1;
use ffmpeg_next::error::{EAGAIN, EINVAL};
use ffmpeg_next::format::context::Input;
use ffmpeg_next::format::stream::Stream;
use ffmpeg_next::packet::{Flags, side_data};
use ffmpeg_next::{Error, Packet, Rational};

use super::{ProbeError, Reject};
use crate::limits::{GUESS_BYTES, LANGUAGE_BYTES, RETRIES_MAX};
use crate::sys;

/// Bytes of a display matrix: nine numbers of 32 bits.
const MATRIX_BYTES: usize = 36;

/// Reads a file from its beginning to its end.
pub(super) struct Demuxer {
    input: Input,
    container: String,
    tracks: Vec<v1::Track>,
    /// Per stream of the container, which track it is.
    track_of_stream: Vec<Option<usize>>,
}

/// One access unit of a track.
pub(super) struct Unit {
    /// Which track, from 0.
    pub track: usize,
    packet: Packet,
}

impl Demuxer {
    /// Opens the file and looks at its streams. The outer error is ours, the inner one the file's.
    pub(super) fn open(file: &File) -> Result<Result<Self, Reject>, ProbeError> {
        crate::initialize();
        let input = match sys::container::open(file) {
            Ok(input) => input,
            Err(error) => return name_instead(file, error).map(Err),
        };
        let mut tracks = Vec::new();
        let mut track_of_stream = Vec::new();
        for stream in input.streams() {
            let track = if sys::container::is_cover(&stream) { None } else { describe(&stream) };
            track_of_stream.push(track.is_some().then_some(tracks.len()));
            tracks.extend(track);
        }
        let container = input.format().name().to_owned();
        Ok(Ok(Self { input, container, tracks, track_of_stream }))
    }

    /// FFmpeg's name of the format.
    pub(super) fn container(&self) -> &str {
        &self.container
    }

    /// What the container says of its tracks, before any access unit was read.
    pub(super) fn tracks(&self) -> &[v1::Track] {
        &self.tracks
    }

    /// The next access unit of any track; nothing at the end, or where the demuxer gives up: a file that is cut off ends
    /// there, as it does in every player. Empty access units are left out: no decoder takes them.
    pub(super) fn next_unit(&mut self) -> Option<Unit> {
        let mut retries = 0;
        while retries < RETRIES_MAX {
            let mut packet = Packet::empty();
            match packet.read(&mut self.input) {
                Ok(()) => retries = 0,
                Err(Error::Other { errno: EAGAIN }) => {
                    retries += 1;
                    continue;
                }
                Err(_end) => return None,
            }
            // Streams that come up later on are none of the tracks: nobody was told of them.
            let track = self.track_of_stream.get(packet.stream()).copied().flatten();
            if let Some(track) = track.filter(|_| packet.size() > 0 && packet.data().is_some()) {
                return Some(Unit { track, packet });
            }
        }
        None
    }
}

impl Unit {
    /// Its bytes.
    pub(super) fn data(&self) -> &[u8] {
        self.packet.data().unwrap_or_default()
    }

    /// Where the demuxer took it from, if it says so.
    pub(super) fn position(&self) -> Option<u64> {
        u64::try_from(self.packet.position()).ok()
    }

    /// A decoder configuration that holds from this access unit on.
    pub(super) fn new_description(&self) -> Option<&[u8]> {
        sys::packet::side_data(&self.packet, side_data::Type::NewExtraData.into())
    }

    /// Whether it brings colours of its own.
    pub(super) fn has_palette(&self) -> bool {
        sys::packet::side_data(&self.packet, side_data::Type::Palette.into()).is_some()
    }

    /// Its entry of the index, but for the place and the number of its codec description.
    pub(super) fn entry(&self, codec: &str) -> FrameEntry {
        let flags = sys::packet::flags(&self.packet);
        FrameEntry {
            size: self.data().len() as u32,
            pts: self.packet.pts(),
            dts: self.packet.dts(),
            duration: self.packet.duration().clamp(0, DURATION_MAX.into()) as u32,
            key: flags.contains(Flags::KEY),
            discard: flags.contains(sys::packet::DISCARD),
            hidden: is_hidden(codec, self.data()),
            ..FrameEntry::default()
        }
    }
}

/// Whether a frame of VP8 only prepares others: bit 4 of its tag says whether it is shown (RFC 6386, section 9.1).
fn is_hidden(codec: &str, data: &[u8]) -> bool {
    codec == "vp8" && data.first().is_some_and(|tag| tag & 0x10 == 0)
}

fn describe(stream: &Stream<'_>) -> Option<v1::Track> {
    let mut track = sys::parameters::describe(&stream.parameters())?;
    track.time_base = Some(rational(stream.time_base()));
    track.language = sys::container::metadata(stream, c"language").filter(|name| is_language(name)).unwrap_or_default();
    if let Some(video) = &mut track.video {
        video.average_frame_rate = Some(rate(stream.avg_frame_rate()));
        video.real_frame_rate = Some(rate(stream.rate()));
        video.rotation = rotation(stream);
    }
    Some(track)
}

/// Three small letters, and not the code of an undetermined language.
fn is_language(name: &str) -> bool {
    name.len() == LANGUAGE_BYTES && name.bytes().all(|byte| byte.is_ascii_lowercase()) && name != "und"
}

fn rational(number: Rational) -> v1::Rational {
    v1::Rational { numerator: number.numerator(), denominator: number.denominator() }
}

/// 0/1 where the container knows none.
fn rate(number: Rational) -> v1::Rational {
    if number.numerator() > 0 && number.denominator() > 0 {
        rational(number)
    } else {
        v1::Rational { numerator: 0, denominator: 1 }
    }
}

/// Counter-clockwise degrees by which the display matrix turns the picture; 0 without one, or with one that only
/// crushes it.
fn rotation(stream: &Stream<'_>) -> f64 {
    let found = stream.side_data().find(|data| data.kind() == side_data::Type::DisplayMatrix);
    let Some(bytes) = found.as_ref().and_then(|data| data.data().first_chunk::<MATRIX_BYTES>()) else { return 0.0 };
    let (numbers, _) = bytes.as_chunks::<4>();
    let at = |index: usize| f64::from(i32::from_ne_bytes(numbers[index]));
    let (scale_x, scale_y) = (at(0).hypot(at(3)), at(1).hypot(at(4)));
    if scale_x == 0.0 || scale_y == 0.0 {
        return 0.0;
    }
    let degrees = -(at(1) / scale_y).atan2(at(0) / scale_x).to_degrees();
    if degrees == 0.0 { 0.0 } else { degrees }
}

/// Says what a file is that FFmpeg did not open as a film.
fn name_instead(file: &File, error: Error) -> Result<Reject, ProbeError> {
    let bytes = file.metadata().map_err(ProbeError::Read)?.len();
    if bytes == 0 {
        return Ok(Reject::Empty);
    }
    let mut head = vec![0; GUESS_BYTES.min(usize::try_from(bytes).unwrap_or(GUESS_BYTES))];
    match file.read_exact_at(&mut head, 0) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Reject::Empty),
        Err(error) => return Err(ProbeError::Read(error)),
    }
    // `EINVAL` is FFmpeg's answer for a format that it knows and may not open.
    let guess = sys::container::guess(&head).filter(|_| error == Error::Other { errno: EINVAL });
    Ok(match guess {
        Some((name, long_name)) => Reject::Format { name, long_name },
        None => Reject::Unknown(error.to_string()),
    })
}
