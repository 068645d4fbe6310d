//! When whoever takes frames had to wait for them, for the trace.

use std::time::{Duration, Instant};

use crate::trace::writer::Recorder;
use crate::trace::{Record, Stall};

/// A shorter wait is none that anybody sees.
const STALL_MIN: Duration = Duration::from_millis(50);

/// See the module's description. Does nothing where there is no trace.
pub(super) struct Stalls {
    recorder: Option<Recorder>,
    /// No frame was taken since the opening or the last seek.
    is_starting: bool,
    waits_since: Option<Instant>,
    /// What was told of the present wait.
    told: Option<&'static str>,
}

impl Stalls {
    pub(super) fn new(recorder: Option<Recorder>) -> Self {
        Self { recorder, is_starting: true, waits_since: None, told: None }
    }

    /// The next frame is not there.
    pub(super) fn on_waiting(&mut self) {
        let Some(recorder) = &self.recorder else { return };
        let now = Instant::now();
        let since = *self.waits_since.get_or_insert(now);
        if self.told.is_none() && now.duration_since(since) >= STALL_MIN {
            let of = if self.is_starting { "start" } else { "frames" };
            recorder.record(Record::Stall(Stall { t: recorder.t(since), of: of.into() }));
            self.told = Some(of);
        }
    }

    /// It is.
    pub(super) fn on_frame(&mut self) {
        if self.waits_since.is_some() {
            self.on_waiting();
        }
        self.end_wait();
        self.is_starting = false;
    }

    /// The frames of another part of the film come next.
    pub(super) fn on_seeked(&mut self) {
        self.end_wait();
        self.is_starting = true;
    }

    fn end_wait(&mut self) {
        self.waits_since = None;
        if let (Some(recorder), Some(of)) = (&self.recorder, self.told.take()) {
            recorder.record(Record::StallEnd(Stall { t: recorder.t(Instant::now()), of: of.into() }));
        }
    }
}
