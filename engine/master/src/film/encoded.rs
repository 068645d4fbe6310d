//! How many parts an encoded description has, counted before it is decoded: a part takes two bytes on the wire and some
//! hundred in memory.

use braidcast_media::frames::CODEC_DESCRIPTIONS_MAX;
use prost::decode_length_delimiter;

use crate::film::{FilmError, TrackError};
use crate::limits::{FILM_BYTES_MAX, FILM_TRACKS_MAX};

/// Numbers of the fields in film.proto: `Film.tracks` and `Track.codec_descriptions`.
const TRACKS: usize = 3;
const CODEC_DESCRIPTIONS: usize = 4;

/// Checks length and numbers of parts of a `Film` as a publisher sent it.
pub(super) fn check(film: &[u8]) -> Result<(), FilmError> {
    if film.len() > FILM_BYTES_MAX {
        return Err(FilmError::TooLong(film.len()));
    }
    let mut tracks = 0;
    for field in fields(film) {
        let Some(track) = field?.part_of(TRACKS) else { continue };
        let mut descriptions = 0;
        for field in fields(track) {
            descriptions += usize::from(field?.part_of(CODEC_DESCRIPTIONS).is_some());
        }
        if descriptions > CODEC_DESCRIPTIONS_MAX {
            return Err(FilmError::Track { track: tracks, problem: TrackError::Descriptions(descriptions) });
        }
        tracks += 1;
        if tracks > FILM_TRACKS_MAX {
            return Err(FilmError::Tracks(tracks));
        }
    }
    Ok(())
}

/// A field of an encoded message.
struct Field<'a> {
    number: usize,
    /// `None` for a number.
    bytes: Option<&'a [u8]>,
}

impl<'a> Field<'a> {
    fn part_of(self, number: usize) -> Option<&'a [u8]> {
        self.bytes.filter(|_| self.number == number)
    }
}

/// The fields of a message, until one cannot be read.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Result<Field<'_>, FilmError>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = field(&mut rest).ok_or(FilmError::Fields);
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

/// Takes one field. Groups, which no description has, are not read.
fn field<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let key = varint(rest)?;
    let (number, wire_type) = (key >> 3, key & 7);
    let bytes = match wire_type {
        0 => {
            varint(rest)?;
            None
        }
        1 => rest.split_off(..8).map(|_| None)?,
        2 => {
            let length = varint(rest)?;
            Some(rest.split_off(..length)?)
        }
        5 => rest.split_off(..4).map(|_| None)?,
        _ => return None,
    };
    Some(Field { number, bytes })
}

fn varint(rest: &mut &[u8]) -> Option<usize> {
    decode_length_delimiter(rest).ok()
}

#[cfg(test)]
mod tests {
    use braidcast_proto::v1;
    use prost::Message;

    use super::*;

    fn film(tracks: usize, descriptions: usize) -> Vec<u8> {
        let track = v1::Track { codec_descriptions: vec![Vec::new(); descriptions], level: -99, ..Default::default() };
        v1::Film { container: "mov".into(), tracks: vec![track; tracks], key_frames: 7, ..Default::default() }
            .encode_to_vec()
    }

    #[test]
    fn empty_parts_are_counted_before_they_take_memory() {
        assert!(check(&film(FILM_TRACKS_MAX, CODEC_DESCRIPTIONS_MAX)).is_ok());
        assert!(matches!(check(&film(FILM_TRACKS_MAX + 1, 1)), Err(FilmError::Tracks(_))));
        let refused = check(&film(1, CODEC_DESCRIPTIONS_MAX + 1));
        assert!(matches!(refused, Err(FilmError::Track { track: 0, problem: TrackError::Descriptions(_) })));
    }

    #[test]
    fn what_cannot_be_counted_is_refused() {
        for wrong in [&[0x1a][..], &[0x1a, 5, 0], &[0x1b, 0x1c], &[0xff; 11], &[0x09, 1]] {
            assert!(matches!(check(wrong), Err(FilmError::Fields)), "{wrong:?}");
        }
        assert!(check(&[0x09, 1, 2, 3, 4, 5, 6, 7, 8]).is_ok(), "unknown fields are passed over");
    }
}
