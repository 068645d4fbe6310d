//! A made-up film with B-frames and open GOPs, its indexes, and the pack that they make; nothing here decodes.
//!
//! ```text
//! shown    I0 B1 B2 P3 B4 B5 P6 B7 B8 P9 B10 B11 I12 ...
//! decoded  I0 P3 B1 B2 P6 B4 B5 P9 B7 B8 I12 B10 B11 ...     B10 and B11 come after the key frame that follows them
//! ```

use braidcast_media::frames::{FrameEntry, KeyEntry};
use braidcast_media::hashes::{Hash, hash};
use braidcast_media::layout::{CHUNK_BYTES, EXTENT_BYTES, PACKET_BYTES};
use braidcast_media::pack::PackHeader;
use braidcast_media::{AssetId, ChunkNo, ContentKey, PackLayout, Sealer, StreamId, StreamLayout};
use braidcast_proto::v1;
use braidcast_proto::v1::track::Kind;
use prost::Message;
use tonic::Status;

use crate::harness::{Running, Upload, film, with_token};

/// Units of time per second, and per picture.
pub(crate) const RATE: i64 = 90_000;
pub(crate) const STEP: i64 = 3_003;
/// When the first picture is shown.
pub(crate) const START: i64 = 900;
/// Pictures from key frame to key frame, as they are shown.
const GOP: u64 = 12;
/// Frames of the audio track, whose index stands before that of the film's own track.
const AUDIO_FRAMES: u64 = 51;
const AUDIO_CHUNKS: u32 = 2;

/// All of a film but its pack. Tests change it before they publish it.
#[derive(Clone)]
pub(crate) struct MadeFilm {
    pub(crate) film: v1::Film,
    pub(crate) frames: Vec<FrameEntry>,
    pub(crate) keys: Vec<KeyEntry>,
    /// Streams 0 and 4.
    pub(crate) original: Vec<u8>,
    pub(crate) access_units: Vec<u8>,
}

impl MadeFilm {
    /// A film of `3 * triples + 1` frames in the original file, each `unit` bytes long or a few times that, with as
    /// much in front of each that is of no frame.
    pub(crate) fn new(triples: u64, unit: u32) -> Self {
        let frames = frames(triples, unit, unit);
        let bytes = frames.last().expect("a frame").end() + 5_000;
        Self::of(frames, film(bytes as usize), Vec::new())
    }

    /// The same frames end to end in stream 4.
    pub(crate) fn apart(triples: u64, unit: u32) -> Self {
        let frames = frames(triples, unit, 0);
        let bytes = frames.last().expect("a frame").end() as usize;
        let mut units = film(bytes);
        units.reverse();
        Self::of(frames, film(bytes + 70_000), units)
    }

    fn of(frames: Vec<FrameEntry>, original: Vec<u8>, access_units: Vec<u8>) -> Self {
        let keys: Vec<KeyEntry> = frames.iter().zip(0..).filter(|(frame, _)| frame.key).map(key).collect();
        let audio = v1::Track { kind: Kind::Audio.into(), frames: AUDIO_FRAMES, ..track() };
        let video = v1::Track {
            kind: Kind::Video.into(),
            codec: "h264".into(),
            codec_descriptions: vec![vec![1; 40], vec![2; 50]],
            start: START,
            end: START + frames.len() as i64 * STEP,
            frames: frames.len() as u64,
            first_chunk: AUDIO_CHUNKS,
            video: Some(v1::VideoTrack { width: 1_920, height: 1_080, reorder: 1, ..v1::VideoTrack::default() }),
            ..track()
        };
        let film = v1::Film {
            container: "mov,mp4,m4a,3gp,3g2,mj2".into(),
            frames_stream: if access_units.is_empty() { 0 } else { 4 },
            tracks: vec![audio, video],
            video_track: 1,
            key_frames: keys.len() as u32,
        };
        Self { film, frames, keys, original, access_units }
    }

    /// The stream that the frames stand in.
    pub(crate) fn stream(&self) -> (StreamId, &[u8]) {
        if self.access_units.is_empty() {
            (StreamId::ORIGINAL, &self.original)
        } else {
            (StreamId::ACCESS_UNITS, &self.access_units)
        }
    }

    /// Stream 1.
    pub(crate) fn frame_index(&self) -> Vec<u8> {
        let mut index = film(AUDIO_FRAMES as usize * 24);
        index.resize(AUDIO_CHUNKS as usize * CHUNK_BYTES, 0);
        index.extend(self.frames.iter().flat_map(|frame| frame.to_bytes().expect("the format holds it")));
        index
    }

    /// Streams in file order, without the hash list.
    fn streams(&self) -> Vec<(StreamId, Vec<u8>)> {
        let keys = self.keys.iter().flat_map(|key| key.to_bytes()).collect();
        let mut streams = vec![
            (StreamId::ORIGINAL, self.original.clone()),
            (StreamId::FRAMES, self.frame_index()),
            (StreamId::KEY_FRAMES, keys),
        ];
        if !self.access_units.is_empty() {
            streams.push((StreamId::ACCESS_UNITS, self.access_units.clone()));
        }
        streams
    }

    pub(crate) fn request(&self, name: &str) -> v1::BeginPublishRequest {
        v1::BeginPublishRequest {
            name: name.into(),
            bytes: self.original.len() as u64,
            film: Some(self.film.encode_to_vec()),
            frame_index_bytes: self.frame_index().len() as u64,
            key_frame_index_bytes: self.keys.len() as u64 * 16,
            access_unit_bytes: self.access_units.len() as u64,
            ..v1::BeginPublishRequest::default()
        }
    }

    pub(crate) async fn publish(&self, master: &Running, name: &str) -> Result<Upload, Status> {
        self.publish_sealed(master, name, |_| None).await
    }

    /// Publishes it with the streams that `other` gives a key for sealed under that key instead of the asset's.
    pub(crate) async fn publish_sealed(
        &self,
        master: &Running,
        name: &str,
        other: impl Fn(StreamId) -> Option<ContentKey>,
    ) -> Result<Upload, Status> {
        let token = master.admin().await;
        let begun = master.publishing().begin_publish(with_token(&token, self.request(name))).await?.into_inner();
        let upload = seal(&begun, self.streams(), other);
        master.upload(&token, upload.parts()).await?;
        Ok(upload)
    }
}

fn track() -> v1::Track {
    let time_base = Some(v1::Rational { numerator: 1, denominator: RATE as i32 });
    v1::Track { codec_descriptions: vec![vec![]], time_base, ..v1::Track::default() }
}

fn frames(triples: u64, unit: u32, gap: u32) -> Vec<FrameEntry> {
    let shown = (1..=triples).flat_map(|n| [3 * n, 3 * n - 2, 3 * n - 1]);
    let mut free = 0;
    std::iter::once(0)
        .chain(shown)
        .zip(0_i64..)
        .map(|(shown, decoded)| {
            let key = shown % GOP == 0;
            let size = if key { 5 * unit } else { unit + (shown as u32 * 7) % unit };
            let offset = free + u64::from(gap);
            free = offset + u64::from(size);
            FrameEntry {
                offset,
                size,
                pts: Some(START + shown as i64 * STEP),
                dts: Some(START + (decoded - 1) * STEP),
                duration: STEP as u32,
                key,
                codec: (shown % 2) as u8,
                ..FrameEntry::default()
            }
        })
        .collect()
}

fn key((frame, n): (&FrameEntry, u32)) -> KeyEntry {
    let pts = frame.pts.expect("it has one");
    KeyEntry { frame: n, picture: ((pts - START) / STEP) as u32, pts }
}

fn seal(
    begun: &v1::BeginPublishResponse,
    mut streams: Vec<(StreamId, Vec<u8>)>,
    other: impl Fn(StreamId) -> Option<ContentKey>,
) -> Upload {
    let asset = AssetId(begun.asset);
    let content_key = ContentKey::from_slice(&begun.content_key).expect("16 bytes");
    let lengths = streams.iter().map(|(id, plain)| StreamLayout { id: *id, bytes: plain.len() as u64 });
    let layout = PackLayout::of_asset(lengths.collect()).expect("short");
    let list: Vec<u8> = streams.iter().flat_map(|(_, plain)| plain.chunks(EXTENT_BYTES)).flat_map(hash).collect();
    let plain_roots = list.chunks(EXTENT_BYTES).flat_map(hash).collect();
    streams.push((StreamId::PLAIN_HASHES, list));
    let mut extents = Vec::new();
    for (id, plain) in &streams {
        let sealer = Sealer::new(&other(*id).unwrap_or_else(|| content_key.clone()), asset);
        let mut chunks = (0..).map(ChunkNo).zip(plain.chunks(CHUNK_BYTES)).map(|(chunk, payload)| {
            let mut packet = [0; PACKET_BYTES];
            sealer.seal(*id, chunk, payload, &mut packet);
            packet
        });
        for _ in 0..plain.len().div_ceil(EXTENT_BYTES) {
            extents.push(chunks.by_ref().take(256).flatten().collect::<Vec<u8>>());
        }
    }
    let sealed_hashes: Vec<Hash> = extents.iter().map(|extent| hash(extent)).collect();
    let header = PackHeader { asset, layout, sealed_hashes }.to_bytes();
    Upload { asset, content_key, extents, header, plain_roots }
}
