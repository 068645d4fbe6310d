//! The thread that writes a trace.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, Sender, bounded};

use super::{End, Record, seconds};

/// Records that wait to be written.
const QUEUE_MAX: usize = 1_024;
/// Longest wait for what is left to be written at the end: a trace never keeps a download from ending.
const END_WAIT: Duration = Duration::from_secs(2);

/// A trace's file, and the thread that writes it. A file that takes no more ends the trace, and nothing else.
#[derive(Debug)]
pub(crate) struct TraceWriter {
    recorder: Recorder,
    thread: JoinHandle<()>,
    /// Its other end is dropped when all is written.
    done: Receiver<()>,
}

/// What gives records to a [`TraceWriter`], from any thread.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    records: Sender<Record>,
    start: Instant,
}

impl TraceWriter {
    /// Creates the file, or empties it; the trace begins now.
    ///
    /// # Errors
    /// What the system says if the file cannot be written or there is no thread.
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = File::create(path)?;
        let (records, inbox) = bounded(QUEUE_MAX);
        let (ended, done) = bounded(0);
        let path = path.to_owned();
        let thread = std::thread::Builder::new().name("trace".into()).spawn(move || {
            write_all(file, &path, &inbox);
            drop(ended);
        })?;
        Ok(Self { recorder: Recorder { records, start: Instant::now() }, thread, done })
    }

    /// Gives records to it.
    pub(crate) fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Writes the end, and waits until it is on the disk, yet not for ever.
    pub(crate) fn finish(self) {
        let end = Record::End(End { t: self.recorder.t(Instant::now()) });
        // A thread that has ended has said why.
        let _ = self.recorder.records.send_timeout(end, END_WAIT);
        if self.done.recv_timeout(END_WAIT).is_err_and(|error| error.is_disconnected()) {
            // A panic there has been printed.
            let _ = self.thread.join();
        }
    }
}

impl Recorder {
    /// When the trace began.
    pub(crate) fn start(&self) -> Instant {
        self.start
    }

    /// A moment as it stands in records.
    pub(crate) fn t(&self, now: Instant) -> f64 {
        seconds(self.start, now)
    }

    /// Whether a record would wait for room.
    pub(crate) fn is_full(&self) -> bool {
        self.records.is_full()
    }

    /// Gives a record; says no if the trace has ended. One that finds no room is left out.
    pub(crate) fn record(&self, record: Record) -> bool {
        !self.records.try_send(record).is_err_and(|error| error.is_disconnected())
    }
}

/// Writes records until the last, or until the file takes no more.
fn write_all(file: File, path: &Path, records: &Receiver<Record>) {
    let mut out = BufWriter::new(file);
    while let Ok(record) = records.recv() {
        // Whoever follows the file, or finds it after a crash, sees all but the newest lines.
        let written = write(&mut out, &record).and_then(|()| if records.is_empty() { out.flush() } else { Ok(()) });
        if let Err(error) = written {
            tracing::warn!(path = %path.display(), %error, "the trace ends here: its file takes no more");
            // What it holds would be tried once more.
            let _ = out.into_parts();
            return;
        }
        if matches!(record, Record::End(_)) {
            return;
        }
    }
}

fn write(out: &mut impl Write, record: &Record) -> io::Result<()> {
    serde_json::to_writer(&mut *out, record)?;
    out.write_all(b"\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::Seek;

    #[test]
    fn what_is_recorded_stands_in_the_file_and_ends_with_the_end() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let trace = TraceWriter::create(file.path()).expect("writable");
        assert!(trace.recorder().record(Record::Seek(Seek { t: 0.5 })));
        let late = trace.recorder().clone();
        trace.finish();
        assert!(!late.record(Record::Seek(Seek { t: 1.0 })), "the trace has ended");
        let text = std::fs::read_to_string(file.path()).expect("readable");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], r#"{"type":"seek","t":0.5}"#);
        assert!(lines[1].starts_with(r#"{"type":"end","t":"#) && lines.len() == 2, "{text}");
    }

    #[test]
    fn a_file_that_takes_no_more_ends_the_trace_and_keeps_nobody_waiting() {
        let trace = TraceWriter::create(Path::new("/dev/full")).expect("it can be opened");
        while trace.recorder().record(Record::Seek(Seek { t: 0.5 })) {
            std::thread::yield_now();
        }
        trace.finish();
    }

    #[test]
    fn a_file_that_cannot_be_written_is_an_error_at_once() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let error = TraceWriter::create(&folder.path().join("none/trace")).expect_err("there is no such folder");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
