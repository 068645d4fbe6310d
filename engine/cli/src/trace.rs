//! A trace (`braidcast get --trace FILE`) as a picture.
//!
//! ```text
//! FILE -> read (lines) -> story (timeline, bars, marks: bounded) -> picture (panels) -> svg (text)
//! ```
//! However long the trace is, what is kept of it is bounded: the timeline has at most [`timeline::BINS_MAX`] steps, and
//! the file at most [`bars::BARS_MAX`] pieces.

mod bars;
mod panel;
mod picture;
mod read;
mod scale;
mod story;
mod svg;
mod timeline;

use std::path::Path;

pub(crate) use read::TraceError;

/// Reads the trace in `path`, and gives it as an SVG.
pub(crate) fn draw(path: &Path) -> Result<String, TraceError> {
    let title = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
    Ok(picture::draw(&read::read(path)?, &title))
}
