//! Turns: who is served next where the server's total rate is what bounds all of them.
//!
//! Requests wait in a queue for each session. Sessions are served in turn, each as many bytes as the others (deficit
//! round robin: M. Shreedhar and G. Varghese, SIGCOMM 1995): who asks for more than its share only makes its own
//! queue longer. All shards draw on one [`TotalRate`], without a lock.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;
use braidcast_transport::limits::CHUNKS_PER_PULL_MAX;
use braidcast_transport::responder::Request;

use crate::limits::{BUSY_RETRY, TOTAL_RATE_BURST, TURNS_MAX, TURNS_WAIT_MAX};

/// Bytes that a session may take in one turn: the longest answer, so that each turn serves at least one.
const QUANTUM_BYTES: u64 = CHUNKS_PER_PULL_MAX as u64 * PACKET_BYTES as u64;

/// A rate that all shards of a server keep to together: a virtual clock that runs ahead by the time that each answer takes
/// at that rate (the generic cell rate algorithm, ITU-T I.371, annex A).
#[derive(Debug)]
pub(crate) struct TotalRate {
    bytes_s: u64,
    start: Instant,
    /// When all that was sent will have left at that rate, in nanoseconds from `start`.
    busy_until_ns: AtomicU64,
}

impl TotalRate {
    /// At most `bytes_s` bytes a second; at least 1.
    pub(crate) fn new(bytes_s: u64) -> Self {
        Self { bytes_s: bytes_s.max(1), start: Instant::now(), busy_until_ns: AtomicU64::new(0) }
    }

    /// Takes the time that `bytes` need; or says when it will be there.
    fn take(&self, now: Instant, bytes: u64) -> Result<(), Instant> {
        let now_ns = now.saturating_duration_since(self.start).as_nanos() as u64;
        let earliest_ns = now_ns.saturating_sub(TOTAL_RATE_BURST.as_nanos() as u64);
        let needed_ns = self.time_of(bytes).as_nanos() as u64;
        let advance = |busy_until_ns: u64| {
            (busy_until_ns <= now_ns).then(|| busy_until_ns.max(earliest_ns).saturating_add(needed_ns))
        };
        match self.busy_until_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance) {
            Ok(_) => Ok(()),
            Err(busy_until_ns) => Err(self.start + Duration::from_nanos(busy_until_ns)),
        }
    }

    fn time_of(&self, bytes: u64) -> Duration {
        Duration::from_nanos((u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_s)) as u64)
    }
}

/// The requests of one shard that wait for their turn.
#[derive(Debug)]
pub(crate) struct Turns {
    rate: Arc<TotalRate>,
    queues: HashMap<u64, Queue>,
    /// Sessions with requests, the next one first.
    order: VecDeque<u64>,
    requests: usize,
    bytes: u64,
    /// When the rate has room again, if something waits.
    due: Option<Instant>,
}

/// What one session waits for; never empty.
#[derive(Debug)]
struct Queue {
    requests: VecDeque<Request>,
    /// Bytes that it may still take in its turn.
    credit_bytes: u64,
}

impl Turns {
    pub(crate) fn new(rate: Arc<TotalRate>) -> Self {
        let (queues, order) = (HashMap::new(), VecDeque::new());
        Self { rate, queues, order, requests: 0, bytes: 0, due: None }
    }

    /// Has a request wait; or says after what time there may be room for it.
    pub(crate) fn push(&mut self, now: Instant, request: &Request) -> Result<(), Duration> {
        let wait = self.rate.time_of(self.bytes);
        // Whoever waits for nothing yet is let in however long the queues of others are: it is served in its turn.
        let is_full = wait > TURNS_WAIT_MAX && self.queues.contains_key(&request.handle);
        if self.requests >= TURNS_MAX || is_full {
            return Err(wait.saturating_sub(TURNS_WAIT_MAX).max(BUSY_RETRY));
        }
        let (order, handle) = (&mut self.order, request.handle);
        let queue = self.queues.entry(handle).or_insert_with(|| {
            order.push_back(handle);
            Queue { requests: VecDeque::new(), credit_bytes: QUANTUM_BYTES }
        });
        queue.requests.push_back(request.clone());
        self.requests += 1;
        self.bytes += bytes_of(request);
        self.due.get_or_insert(now);
        Ok(())
    }

    /// The request whose turn it is, once the rate has room for it.
    pub(crate) fn poll_ready(&mut self, now: Instant) -> Option<Request> {
        if self.due? > now {
            return None;
        }
        loop {
            let handle = *self.order.front()?;
            let queue = self.queues.get_mut(&handle)?;
            let bytes = bytes_of(queue.requests.front()?);
            if bytes > queue.credit_bytes {
                queue.credit_bytes += QUANTUM_BYTES;
                self.order.rotate_left(1);
                continue;
            }
            if let Err(due) = self.rate.take(now, bytes) {
                self.due = Some(due);
                return None;
            }
            queue.credit_bytes -= bytes;
            let request = queue.requests.pop_front();
            if queue.requests.is_empty() {
                self.queues.remove(&handle);
                self.order.pop_front();
            }
            self.requests -= 1;
            self.bytes -= bytes;
            self.due = self.due.filter(|_| self.requests > 0);
            return request;
        }
    }

    /// When to call [`Turns::poll_ready`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

fn bytes_of(request: &Request) -> u64 {
    u64::from(request.chunks()) * PACKET_BYTES as u64
}

#[cfg(test)]
mod tests {
    use braidcast_media::{AssetId, Run, StreamId};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn request(handle: u64, sequence: u32, chunks: u16) -> Request {
        let now = Instant::now();
        Request {
            to: ([127, 0, 0, 1], 9).into(),
            handle,
            sequence,
            asset: AssetId(1),
            stream: StreamId::ORIGINAL,
            runs: [Run::new(0, chunks)].into_iter().collect(),
            received_at: now,
            start_at: now,
            train_chunks: CHUNKS_PER_PULL_MAX,
            chunk_time: Duration::ZERO,
            started_at: None,
        }
    }

    /// Turns at `chunks` chunks a millisecond, and when they begin.
    fn turns(chunks: u64) -> (Turns, Instant) {
        let turns = Turns::new(Arc::new(TotalRate::new(chunks * PACKET_BYTES as u64 * 1_000)));
        let start = turns.rate.start;
        (turns, start)
    }

    #[test]
    fn who_asks_for_much_waits_behind_itself_and_delays_nobody_else() {
        let (mut turns, start) = turns(52);
        for sequence in 0..100 {
            turns.push(start, &request(1, sequence, 52)).expect("room");
        }
        turns.push(start, &request(2, 1_000, 4)).expect("room");
        let served: Vec<u32> = (0..5).filter_map(|ms| turns.poll_ready(start + MS * ms)).map(|r| r.sequence).collect();
        assert_eq!(served, [0, 1_000, 1, 2, 3]);
    }

    #[test]
    fn sessions_get_the_same_bytes_however_long_their_requests_are() {
        let (mut turns, start) = turns(52);
        for sequence in 0..45 {
            turns.push(start, &request(1, sequence, 52)).expect("room");
            (0..4).for_each(|_| turns.push(start, &request(2, sequence, 13)).expect("room"));
        }
        let mut chunks = [0, 0];
        for ms in 0..80 {
            while let Some(request) = turns.poll_ready(start + MS * ms) {
                chunks[request.handle as usize - 1] += u32::from(request.chunks());
            }
        }
        let [long, short] = chunks;
        assert!(long.abs_diff(short) <= 2 * 52, "{long} and {short} chunks");
        assert!((79 * 52..=81 * 52).contains(&(long + short)), "{} chunks in 80 ms", long + short);
    }

    #[test]
    fn all_shards_together_keep_to_the_rate() {
        let (mut here, start) = turns(52);
        let mut there = Turns::new(Arc::clone(&here.rate));
        let mut served = 0;
        for sequence in 0..100 {
            here.push(start, &request(1, sequence, 52)).expect("room");
            there.push(start, &request(2, sequence, 52)).expect("room");
        }
        for ms in 1..=100 {
            for turns in [&mut here, &mut there] {
                served += std::iter::from_fn(|| turns.poll_ready(start + MS * ms)).count();
            }
            assert!(here.poll_timeout() <= Some(start + MS * (ms + 1)));
        }
        assert!((100..=100 + TOTAL_RATE_BURST.as_millis() as usize + 1).contains(&served), "{served} in 100 ms");
    }

    #[test]
    fn what_would_wait_too_long_is_told_when_to_come_back() {
        let (mut turns, start) = turns(52);
        let full =
            (0..).find_map(|sequence| turns.push(start, &request(1, sequence, 52)).err().map(|wait| (sequence, wait)));
        let (sequence, wait) = full.expect("bounded");
        assert_eq!(u128::from(sequence), TURNS_WAIT_MAX.as_millis() + 1);
        assert_eq!(wait, BUSY_RETRY);
        assert!(turns.push(start, &request(2, 0, 52)).is_ok(), "who waits for nothing is let in");
        let served: Vec<u64> = (0..2).filter_map(|ms| turns.poll_ready(start + MS * ms)).map(|r| r.handle).collect();
        assert_eq!(served, [1, 2]);
    }

    #[test]
    fn time_that_was_not_used_is_gone() {
        let (mut turns, start) = turns(52);
        for sequence in 0..100 {
            turns.push(start, &request(1, sequence, 52)).expect("room");
        }
        let served = std::iter::from_fn(|| turns.poll_ready(start + Duration::from_secs(5))).count();
        assert_eq!(served, TOTAL_RATE_BURST.as_millis() as usize + 1, "a burst, and what brings it over");
    }
}
