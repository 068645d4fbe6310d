//! The lines of a trace.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use braidcast_client::trace::{Record, VERSION};

use super::story::Story;

/// The longest line: some four times what a record of an extent takes whose chunks all came from another source than
/// the one before.
const LINE_BYTES_MAX: usize = 64 * 1024;
/// Thirty years: a longer trace is none.
const T_MAX: f64 = 1e9;

/// A file is no trace that can be drawn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TraceError {
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It does not begin as a trace does.
    #[error("{} is no trace: {reason}; `braidcast get NAME --trace FILE` makes one", path.display())]
    NoTrace {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is of another version.
    #[error("{} is a trace of version {version}, and this program reads version {VERSION}", path.display())]
    Version {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// One of its lines is wrong.
    #[error("{}, line {line}: {reason}; was the file changed?", path.display())]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: u64,
        /// What is wrong.
        reason: String,
    },
}

/// Reads all lines of the trace in `path`. The last may be cut.
pub(super) fn read(path: &Path) -> Result<Story, TraceError> {
    let failed = |source| TraceError::Read { path: path.to_owned(), source };
    let mut lines = Lines { input: BufReader::new(File::open(path).map_err(failed)?), line: Vec::new() };
    if !lines.next().map_err(failed)? {
        return Err(TraceError::NoTrace { path: path.to_owned(), reason: "it is empty".to_owned() });
    }
    let mut story = begin(path, &lines.line)?;
    let mut number = 1;
    while lines.next().map_err(failed)? {
        number += 1;
        let record = match serde_json::from_slice::<Record>(&lines.line) {
            Ok(record) if (0.0..=T_MAX).contains(&record.t()) => Ok(record),
            Ok(record) => Err(format!("there is no time {} s", record.t())),
            // Whoever wrote it was killed, or still writes.
            Err(_) if lines.is_cut() => break,
            Err(error) => Err(error.to_string()),
        };
        let record = record.map_err(|reason| TraceError::Line { path: path.to_owned(), line: number, reason })?;
        story.take(record);
    }
    Ok(story)
}

/// Takes the first line.
fn begin(path: &Path, line: &[u8]) -> Result<Story, TraceError> {
    let path = || path.to_owned();
    let no_trace = |reason: &str| TraceError::NoTrace { path: path(), reason: reason.to_owned() };
    let value: serde_json::Value =
        serde_json::from_slice(line).map_err(|_| no_trace("its first line is no JSON object"))?;
    if value["type"] != "trace" {
        return Err(no_trace("its first line is not of the type \"trace\""));
    }
    match value["version"].as_u64() {
        Some(version) if version == u64::from(VERSION) => {}
        Some(version) => return Err(TraceError::Version { path: path(), version }),
        None => return Err(no_trace("its first line has no version")),
    }
    match serde_json::from_value(value) {
        Ok(Record::Trace(header)) => Ok(Story::new(header)),
        Ok(_) => Err(no_trace("its first line is not of the type \"trace\"")),
        Err(error) => Err(no_trace(&format!("its first line is wrong: {error}"))),
    }
}

struct Lines<R> {
    input: R,
    /// The last line that was read.
    line: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    /// Reads the next line, or as much of it as is allowed; no if there is none.
    fn next(&mut self) -> io::Result<bool> {
        self.line.clear();
        Ok(self.input.by_ref().take(LINE_BYTES_MAX as u64).read_until(b'\n', &mut self.line)? > 0)
    }

    /// The file ends within the last line.
    fn is_cut(&self) -> bool {
        self.line.last() != Some(&b'\n') && self.line.len() < LINE_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::trace::story::tests::LINES;

    fn read_text(text: &[u8]) -> Result<Story, TraceError> {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text).expect("writable");
        read(file.path())
    }

    fn complaint(text: &[u8]) -> String {
        read_text(text).err().expect("this is no trace").to_string()
    }

    #[test]
    fn a_file_that_is_no_trace_is_told_from_its_first_line() {
        for (text, reason) in [
            (&b""[..], "it is empty"),
            (b"\x00\x01\x02", "no JSON object"),
            (b"{\"a\":1}\n", "not of the type \"trace\""),
            (b"[1]\n", "not of the type \"trace\""),
            (b"{\"type\":\"trace\"}\n", "has no version"),
            (b"{\"type\":\"trace\",\"version\":1}\n", "missing field"),
        ] {
            let said = complaint(text);
            assert!(said.contains("is no trace: ") && said.contains(reason), "{said}");
        }
        assert!(complaint(&vec![b'{'; 1 << 20]).contains("no JSON object"));
        let other = complaint(b"{\"type\":\"trace\",\"version\":2}\n");
        assert!(other.contains("version 2, and this program reads version 1"), "{other}");
    }

    #[test]
    fn a_cut_last_line_is_left_out_and_a_wrong_line_before_is_named() {
        let text = LINES.join("\n");
        let story = read_text(text.as_bytes()).expect("all lines are right");
        for cut in 1..=30 {
            let shorter = read_text(&text.as_bytes()[..text.len() - cut]).expect("the last line may be cut");
            assert!(shorter.t_end <= story.t_end);
        }
        let wrong = format!("{}\n{{\"type\":\"sample\"}}\n{}\n", LINES[0], LINES[1]);
        assert!(complaint(wrong.as_bytes()).contains(", line 2: missing field"));
        let late = format!("{}\n{{\"type\":\"seek\",\"t\":1e300}}\n", LINES[0]);
        assert!(complaint(late.as_bytes()).contains(", line 2: there is no time"));
    }
}
