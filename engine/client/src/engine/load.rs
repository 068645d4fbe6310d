//! Whether the thread that receives is what bounds a download.

use std::time::{Duration, Instant};

/// Over what time the thread is looked at.
const SPAN: Duration = Duration::from_millis(10);
/// Part of a span that a thread which cannot keep up waits at most.
const WAITS_MAX: f64 = 0.1;
/// Bytes per second that come in at least. A thread that is busy with less lacks a core rather than a second thread.
const BYTES_S_MIN: f64 = 250e6;
/// So many spans in a row tell.
const SPANS: u32 = 2;

/// Finds out whether a thread cannot keep up with what comes.
#[derive(Debug)]
pub(super) struct Load {
    since: Instant,
    waited: Duration,
    /// Bytes that had come by `since`.
    bytes: u64,
    busy_spans: u32,
}

impl Load {
    /// Of a thread that begins now.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, waited: Duration::ZERO, bytes: 0, busy_spans: 0 }
    }

    /// The thread has waited for so long.
    pub(super) fn on_waited(&mut self, waited: Duration) {
        self.waited += waited;
    }

    /// Whether a span ends now.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now.duration_since(self.since) >= SPAN
    }

    /// Ends a span; says whether the thread cannot keep up. `bytes`: what has come since the start.
    pub(super) fn end_span(&mut self, now: Instant, bytes: u64) -> bool {
        let elapsed = now.duration_since(self.since).as_secs_f64();
        let is_busy = self.waited.as_secs_f64() <= WAITS_MAX * elapsed
            && bytes.saturating_sub(self.bytes) as f64 >= BYTES_S_MIN * elapsed;
        let busy_spans = if is_busy { self.busy_spans + 1 } else { 0 };
        *self = Self { since: now, waited: Duration::ZERO, bytes, busy_spans };
        busy_spans >= SPANS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What spans in which so much was waited and so many bytes came say.
    fn told(spans: &[(Duration, u64)]) -> Vec<bool> {
        let start = Instant::now();
        let (mut load, mut bytes) = (Load::new(start), 0);
        let ends = (1..).zip(spans).map(|(number, (waited, come))| {
            let now = start + SPAN * number;
            assert!(load.is_due(now) && !load.is_due(now - Duration::from_millis(1)));
            load.on_waited(*waited);
            bytes += come;
            load.end_span(now, bytes)
        });
        ends.collect()
    }

    #[test]
    fn a_thread_that_hardly_waits_while_much_comes_cannot_keep_up() {
        let (busy, idle) = ((SPAN / 20, 20_000_000), (SPAN / 2, 20_000_000));
        assert_eq!(told(&[busy, busy, busy]), [false, true, true]);
        assert_eq!(told(&[busy, idle, busy]), [false; 3]);
    }

    #[test]
    fn a_thread_that_is_busy_with_little_lacks_a_core() {
        assert_eq!(told(&[(Duration::ZERO, 1_000_000); 3]), [false; 3]);
    }
}
