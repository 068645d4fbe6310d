//! What a client asks for, in the terms of the video at hand.

use std::ops::RangeInclusive;
use std::sync::Arc;

use braidcast_proto::v1;
use braidcast_proto::v1::get_distribution_request::Window;
use braidcast_proto::v1::redistribute_request;

use crate::distribution::timeline::TimeLine;
use crate::errors::ServiceError;
use crate::film::Film;

/// A window that no film has. Reads on from "a window that asks for".
#[derive(Debug, thiserror::Error, PartialEq)]
pub(crate) enum WindowError {
    #[error("{end} before {start}: its end must not lie before its start")]
    Backward { start: u64, end: u64 },
    #[error("{start} and later: the film ends with {last}, counted from 0")]
    PastEnd { start: u64, last: u64 },
    #[error("{start} and later of an empty film: ask for 0")]
    PastNothing { start: u64 },
    #[error("the times from {start} to {end}: both must be numbers of seconds, from 0 on")]
    NoTime { start: f64, end: f64 },
    #[error("{end} s before {start} s: its end must not lie before its start")]
    BackwardTime { start: f64, end: f64 },
    #[error("{start} s and later: the film ends at {length} s")]
    PastEndTime { start: f64, length: f64 },
}

/// A window cut at the end of the video.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// Of stream 0; nothing of an empty file.
    Extents(Option<RangeInclusive<u32>>),
    /// What the film's index tells.
    Film { film: Arc<Film>, look: Look },
}

/// What to look up in a film's index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// In decode order.
    Frames(RangeInclusive<u64>),
    /// What is shown in this time, in units of the film's video track; without an end, to the end of the film.
    Pictures { start: i64, end: Option<i64> },
}

/// The window of a report, which has the same choice.
pub(crate) fn still_wanted(window: redistribute_request::Window) -> Window {
    match window {
        redistribute_request::Window::Extents(extents) => Window::Extents(extents),
        redistribute_request::Window::Frames(frames) => Window::Frames(frames),
        redistribute_request::Window::Time(time) => Window::Time(time),
    }
}

/// What `window` means for a video with `extents` extents in stream 0. A window may reach past the end and is cut
/// there; no window at all is the whole file.
pub(crate) fn wanted(window: Option<Window>, extents: u32, film: Option<&Arc<Film>>) -> Result<Wanted, ServiceError> {
    let of_film = |film: &Arc<Film>, look| Wanted::Film { film: Arc::clone(film), look };
    Ok(match (window, film) {
        (None, _) => Wanted::Extents(cut_extents(0, None, extents)?),
        (Some(Window::Extents(v1::ExtentWindow { extent_start, extent_end })), _) => {
            Wanted::Extents(cut_extents(extent_start, extent_end, extents)?)
        }
        // Plain bytes count their extents as frames.
        (Some(Window::Frames(v1::FrameWindow { frame_start, frame_end })), None) => {
            Wanted::Extents(cut_extents(frame_start, frame_end, extents)?)
        }
        (Some(Window::Frames(v1::FrameWindow { frame_start, frame_end })), Some(film)) => {
            let frames = cut(frame_start, frame_end, film.track().frames)?;
            of_film(film, Look::Frames(frames.ok_or(WindowError::PastNothing { start: frame_start })?))
        }
        (Some(Window::Time(_)), None) => return Err(ServiceError::NoTimeLine),
        (Some(Window::Time(v1::TimeWindow { start_time, end_time })), Some(film)) => {
            of_film(film, pictures(start_time, end_time, &TimeLine::of(film.track()))?)
        }
    })
}

fn cut_extents(start: u64, end: Option<u64>, extents: u32) -> Result<Option<RangeInclusive<u32>>, WindowError> {
    let window = cut(start, end, extents.into())?;
    // Both ends are below `extents`.
    Ok(window.map(|window| *window.start() as u32..=*window.end() as u32))
}

/// The window from `start` to `end` of something that has `count` pieces; nothing of nothing.
fn cut(start: u64, end: Option<u64>, count: u64) -> Result<Option<RangeInclusive<u64>>, WindowError> {
    if let Some(end) = end.filter(|end| *end < start) {
        return Err(WindowError::Backward { start, end });
    }
    let Some(last) = count.checked_sub(1) else {
        return if start == 0 { Ok(None) } else { Err(WindowError::PastNothing { start }) };
    };
    if start > last {
        return Err(WindowError::PastEnd { start, last });
    }
    Ok(Some(start..=end.map_or(last, |end| end.min(last))))
}

fn pictures(start: f64, end: Option<f64>, line: &TimeLine) -> Result<Look, WindowError> {
    let is_time = |seconds: f64| seconds >= 0.0;
    if !is_time(start) || !end.is_none_or(is_time) {
        return Err(WindowError::NoTime { start, end: end.unwrap_or(f64::INFINITY) });
    }
    if let Some(end) = end.filter(|end| *end < start) {
        return Err(WindowError::BackwardTime { start, end });
    }
    if line.is_over_at(start) {
        return Err(WindowError::PastEndTime { start, length: line.seconds() });
    }
    Ok(Look::Pictures { start: line.at(start), end: end.map(|end| line.at(end)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_cut_at_the_end_of_the_film() {
        for (start, end, extents) in [
            (0, None, 0..=9),
            (9, None, 9..=9),
            (3, Some(3), 3..=3),
            (3, Some(9), 3..=9),
            (3, Some(10), 3..=9),
            (0, Some(u64::MAX), 0..=9),
        ] {
            assert_eq!(cut(start, end, 10), Ok(Some(extents)));
        }
    }

    #[test]
    fn windows_that_no_film_has_are_refused() {
        assert_eq!(cut(10, None, 10), Err(WindowError::PastEnd { start: 10, last: 9 }));
        assert_eq!(cut(u64::MAX, None, 10), Err(WindowError::PastEnd { start: u64::MAX, last: 9 }));
        assert_eq!(cut(4, Some(3), 10), Err(WindowError::Backward { start: 4, end: 3 }));
    }

    #[test]
    fn an_empty_film_has_an_empty_window() {
        assert_eq!(cut(0, None, 0), Ok(None));
        assert_eq!(cut(0, Some(5), 0), Ok(None));
        assert_eq!(cut(1, None, 0), Err(WindowError::PastNothing { start: 1 }));
    }

    #[test]
    fn plain_bytes_have_no_time_line_and_count_their_extents_as_frames() {
        let time = Window::Time(v1::TimeWindow { start_time: 0.0, end_time: None });
        assert!(matches!(wanted(Some(time), 10, None), Err(ServiceError::NoTimeLine)));
        let frames = Window::Frames(v1::FrameWindow { frame_start: 2, frame_end: Some(4) });
        let found = wanted(Some(frames), 10, None).expect("a window");
        assert!(matches!(&found, Wanted::Extents(Some(extents)) if *extents == (2..=4)), "{found:?}");
    }

    #[test]
    fn a_time_window_lies_within_the_film() {
        // 100 units from 50 on, of 40 ms each.
        let track = v1::Track {
            time_base: Some(v1::Rational { numerator: 1, denominator: 25 }),
            start: 50,
            end: 150,
            ..v1::Track::default()
        };
        let line = TimeLine::of(&track);
        for (start, end, first, last) in [
            (0.0, None, 50, None),
            (0.0, Some(0.0), 50, Some(50)),
            (1.0, Some(2.0), 75, Some(100)),
            (3.999, Some(f64::INFINITY), 149, Some(i64::MAX)),
        ] {
            assert_eq!(pictures(start, end, &line), Ok(Look::Pictures { start: first, end: last }));
        }
        for (start, end) in
            [(f64::NAN, None), (-0.001, None), (0.0, Some(f64::NAN)), (0.0, Some(-1.0)), (f64::NEG_INFINITY, None)]
        {
            assert!(matches!(pictures(start, end, &line), Err(WindowError::NoTime { .. })), "{start} to {end:?}");
        }
        assert_eq!(pictures(2.0, Some(1.9), &line), Err(WindowError::BackwardTime { start: 2.0, end: 1.9 }));
        for start in [4.0, 1e300, f64::INFINITY] {
            let past = WindowError::PastEndTime { start, length: 4.0 };
            assert!(past.to_string().ends_with("the film ends at 4 s"), "{past}");
            assert_eq!(pictures(start, None, &line), Err(past));
        }
    }
}
