//! Pictures from index and bytes alone are those of the `ffmpeg` program.

use std::collections::HashSet;

use braidcast_av::{Converter, DecodeError, Decoder, Picture, Received};
use braidcast_media::frames::FrameEntry;

use crate::clips::{CLIPS, find};
use crate::player::{play, publish};
use crate::reference;

fn samples(pictures: &[Picture]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for picture in pictures {
        for plane in picture.planes().expect("every codec that is played has plain planes") {
            plane.rows().for_each(|row| bytes.extend_from_slice(row));
        }
    }
    bytes
}

fn as_reference(picture: &Picture) -> reference::Frame {
    reference::Frame {
        pts: picture.pts(),
        key: picture.key_frame(),
        kind: picture.picture_type(),
        size: (picture.width(), picture.height()),
        format: picture.format().to_owned(),
    }
}

#[test]
fn pictures_are_those_of_ffmpeg_in_number_order_time_and_every_sample() {
    for clip in CLIPS {
        let published = publish(&clip.path());
        let pictures = published.play(2);
        let found: Vec<_> = pictures.iter().map(as_reference).collect();
        assert_eq!(found, reference::frames(&clip.path()), "{}", clip.name);
        assert!(samples(&pictures) == reference::decoded(&clip.path(), None), "{}: samples differ", clip.name);
    }
}

#[test]
fn as_many_pictures_come_out_as_the_film_claims() {
    for clip in CLIPS {
        let published = publish(&clip.path());
        let claimed = published.video().video.as_ref().expect("video").pictures;
        assert_eq!(published.play(1).len() as u64, claimed, "{}", clip.name);
    }
}

#[test]
fn the_number_of_threads_changes_no_picture() {
    let published = publish(&find("h264 with B-frames and two audio tracks").path());
    let one = samples(&published.play(1));
    for threads in [0, 3, 1_000] {
        assert!(samples(&published.play(threads)) == one, "{threads} threads");
    }
}

#[test]
fn a_size_that_changes_within_the_film_changes_the_pictures_size() {
    let pictures = publish(&find("size that changes").path()).play(0);
    let sizes: HashSet<_> = pictures.iter().map(|picture| (picture.width(), picture.height())).collect();
    assert_eq!(sizes, HashSet::from([(64, 48), (128, 96)]));
}

#[test]
fn after_a_seek_to_any_key_frame_the_pictures_are_those_of_the_whole_film() {
    let names = ["h264 with B-frames and two audio tracks", "h265 with open groups of pictures", "mpeg4 and mp3"];
    for name in names {
        let published = publish(&find(name).path());
        let entries = published.entries(published.video());
        let mut decoder = Decoder::new(published.video(), 2).expect("it can be played");
        let unit = |frame: usize| (entries[frame], published.data(&entries[frame]));
        let all = play(&mut decoder, (0..entries.len()).map(unit)).expect("it can be played");
        assert!(matches!(decoder.receive(), Ok(Received::End)), "{name}");
        for key in published.keys() {
            decoder.flush();
            let some = play(&mut decoder, (key.frame as usize..entries.len()).map(unit)).expect("as before");
            let first = some.iter().find(|picture| picture.key_frame()).expect("it begins with a key frame").pts();
            // AVI has no presentation times: FFmpeg makes them out of the order in which pictures come out.
            assert!(first == Some(key.pts) || name == "mpeg4 and mp3" && first > Some(key.pts), "{name}: {first:?}");
            let from = |pictures: &[Picture]| {
                let shown = |picture: &&Picture| picture.pts() >= first;
                pictures.iter().filter(shown).map(as_reference).collect::<Vec<_>>()
            };
            assert_eq!(from(&some), from(&all), "{name}: from frame {}", key.frame);
        }
    }
}

#[test]
fn a_codec_description_is_in_force_from_the_first_frame_that_names_it() {
    let [first, second] = ["h264 with B-frames and two audio tracks", "key frames only"].map(|name| find(name).path());
    let films = [publish(&first), publish(&second)];
    let mut track = films[0].video().clone();
    track.codec_descriptions.extend(films[1].video().codec_descriptions.clone());
    assert_ne!(track.codec_descriptions[0], track.codec_descriptions[1]);
    let units = films.iter().enumerate().flat_map(|(number, film)| {
        let entries = film.entries(film.video());
        entries.into_iter().map(move |entry| (FrameEntry { codec: number as u8, ..entry }, film.data(&entry)))
    });
    let mut decoder = Decoder::new(&track, 2).expect("it can be played");
    let pictures = play(&mut decoder, units).expect("it can be played");
    let expected = [first, second].map(|path| reference::decoded(&path, None)).concat();
    assert!(samples(&pictures) == expected);
    assert_eq!(decoder.errors(), 0);
}

#[test]
fn pictures_outlive_their_decoder() {
    let published = publish(&find("vp9 and opus").path());
    let pictures = published.play(2);
    let sizes: usize = pictures.iter().map(Picture::bytes).sum();
    assert!(sizes >= pictures.len() * 128 * 96, "{sizes}");
    let elsewhere = std::thread::spawn(move || samples(&pictures)).join().expect("pictures may go to other threads");
    assert_eq!(elsewhere, reference::decoded(&find("vp9 and opus").path(), None));
}

#[test]
fn a_decoder_may_move_to_another_thread_and_a_picture_be_shared() {
    fn may_move<T: Send>(_: &T) {}
    fn may_be_shared<T: Send + Sync>(_: &T) {}
    let published = publish(&find("key frames only").path());
    may_move(&Decoder::new(published.video(), 1).expect("it can be played"));
    may_move(&Converter::new());
    may_be_shared(&published.play(1)[0]);
}

#[test]
fn nothing_is_taken_after_the_end_until_a_flush() {
    let published = publish(&find("key frames only").path());
    let first = published.entries(published.video())[0];
    let mut decoder = Decoder::new(published.video(), 1).expect("it can be played");
    decoder.send_end().expect("there is memory");
    assert_eq!(decoder.send(&first, published.data(&first)), Err(DecodeError::Ended));
    decoder.flush();
    assert_eq!(decoder.send(&first, published.data(&first)), Ok(true));
}
