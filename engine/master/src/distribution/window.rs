//! The part of a film that a client asks for, as extents of stream 0.

use std::ops::RangeInclusive;

use braidcast_proto::v1;
use braidcast_proto::v1::get_distribution_request::Window;

use crate::errors::ServiceError;

/// A window that no film has. Reads on from "a window that asks for".
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum WindowError {
    #[error("{end} before {start}: its end must not lie before its start")]
    Backward { start: u64, end: u64 },
    #[error("{start} and later: the film ends with {last}, counted from 0")]
    PastEnd { start: u64, last: u64 },
    #[error("{start} and later of an empty film: ask for 0")]
    PastNothing { start: u64 },
}

/// The extents of a window of an asset with `extents` extents in stream 0; nothing for an empty asset. A window may
/// reach past the end and is cut there.
pub(crate) fn extents_of(window: Option<Window>, extents: u32) -> Result<Option<RangeInclusive<u32>>, ServiceError> {
    // Until frames are indexed, each extent counts as a frame.
    let (start, end) = match window {
        None => (0, None),
        Some(Window::Frames(v1::FrameWindow { frame_start, frame_end })) => (frame_start, frame_end),
        Some(Window::Extents(v1::ExtentWindow { extent_start, extent_end })) => (extent_start, extent_end),
        Some(Window::Time(_)) => return Err(ServiceError::NoTimeLine),
    };
    Ok(cut(start, end, extents)?)
}

fn cut(start: u64, end: Option<u64>, extents: u32) -> Result<Option<RangeInclusive<u32>>, WindowError> {
    if let Some(end) = end.filter(|end| *end < start) {
        return Err(WindowError::Backward { start, end });
    }
    let Some(last) = extents.checked_sub(1) else {
        return if start == 0 { Ok(None) } else { Err(WindowError::PastNothing { start }) };
    };
    let past_end = WindowError::PastEnd { start, last: last.into() };
    let first = u32::try_from(start).ok().filter(|first| *first <= last).ok_or(past_end)?;
    let end = end.and_then(|end| u32::try_from(end).ok()).map_or(last, |end| end.min(last));
    Ok(Some(first..=end))
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
    fn a_time_window_needs_a_time_line() {
        let time = Window::Time(v1::TimeWindow { start_time: 0.0, end_time: None });
        assert!(matches!(extents_of(Some(time), 10), Err(ServiceError::NoTimeLine)));
        let frames = Window::Frames(v1::FrameWindow { frame_start: 2, frame_end: Some(4) });
        assert_eq!(extents_of(Some(frames), 10).expect("extents count as frames"), Some(2..=4));
    }
}
