//! A player that has nothing but what a publisher made: description, index and bytes.

use std::fs::File;
use std::path::Path;

use braidcast_av::{DecodeError, Decoder, Picture, Received, probe};
use braidcast_media::frames::{FRAME_ENTRY_BYTES, FrameEntry, KeyEntry, parse_frames};
use braidcast_media::layout::CHUNK_BYTES;
use braidcast_proto::v1;

/// A published film.
pub(crate) struct Published {
    pub(crate) film: v1::Film,
    pub(crate) probed: v1::Probed,
    /// The stream that the frames stand in.
    pub(crate) bytes: Vec<u8>,
}

pub(crate) fn report(path: &Path) -> Result<v1::Probed, String> {
    let file = File::open(path).expect("the file is there");
    match probe::report(&file).expect("the file can be read").result.expect("a report has a result") {
        v1::probe_report::Result::Probed(probed) => Ok(probed),
        v1::probe_report::Result::NotAFilm(why) => Err(why),
    }
}

pub(crate) fn publish(path: &Path) -> Published {
    let mut probed = report(path).unwrap_or_else(|why| panic!("{} is no film: {why}", path.display()));
    let film = probed.film.take().expect("what was probed has a film");
    let bytes = if film.frames_stream == 0 {
        std::fs::read(path).expect("the file is there")
    } else {
        let mut bytes = Vec::new();
        probe::access_units(&File::open(path).expect("the file is there"), &mut bytes).expect("it was a film before");
        bytes
    };
    Published { film, probed, bytes }
}

impl Published {
    pub(crate) fn video(&self) -> &v1::Track {
        &self.film.tracks[self.film.video_track as usize]
    }

    /// The entries of a track, as a player finds them in stream 1.
    pub(crate) fn entries(&self, track: &v1::Track) -> Vec<FrameEntry> {
        let start = track.first_chunk as usize * CHUNK_BYTES;
        let bytes = track.frames as usize * FRAME_ENTRY_BYTES;
        parse_frames(&self.probed.frame_index[start..start + bytes]).expect("whole entries")
    }

    pub(crate) fn keys(&self) -> Vec<KeyEntry> {
        let (entries, rest) = self.probed.key_frame_index.as_chunks();
        assert!(rest.is_empty(), "whole entries");
        entries.iter().map(KeyEntry::from_bytes).collect()
    }

    pub(crate) fn data(&self, entry: &FrameEntry) -> &[u8] {
        &self.bytes[entry.offset as usize..entry.end() as usize]
    }

    /// All pictures of the film.
    pub(crate) fn play(&self, threads: usize) -> Vec<Picture> {
        let mut decoder = Decoder::new(self.video(), threads).expect("the film can be played");
        let entries = self.entries(self.video());
        play(&mut decoder, entries.iter().map(|entry| (*entry, self.data(entry)))).expect("no more than single errors")
    }
}

/// All pictures that come out of these access units; the decoder is at its end then.
pub(crate) fn play<'a>(
    decoder: &mut Decoder,
    units: impl Iterator<Item = (FrameEntry, &'a [u8])>,
) -> Result<Vec<Picture>, DecodeError> {
    let mut pictures = Vec::new();
    for (entry, data) in units {
        while !decoder.send(&entry, data)? {
            drain(decoder, &mut pictures)?;
        }
        drain(decoder, &mut pictures)?;
    }
    decoder.send_end()?;
    drain(decoder, &mut pictures)?;
    Ok(pictures)
}

fn drain(decoder: &mut Decoder, pictures: &mut Vec<Picture>) -> Result<(), DecodeError> {
    while let Received::Picture(picture) = decoder.receive()? {
        pictures.push(picture);
    }
    Ok(())
}
