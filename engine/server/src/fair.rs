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

    /// Takes the time that `bytes` need, behind what was taken before, and says when it begins.
    fn reserve(&self, now: Instant, bytes: u64) -> Instant {
        let now_ns = now.saturating_duration_since(self.start).as_nanos() as u64;
        let earliest_ns = now_ns.saturating_sub(TOTAL_RATE_BURST.as_nanos() as u64);
        let needed_ns = self.time_of(bytes).as_nanos() as u64;
        let begin = |busy_until_ns: u64| busy_until_ns.max(earliest_ns);
        let advance = |busy_until_ns: u64| Some(begin(busy_until_ns).saturating_add(needed_ns));
        let (Ok(before) | Err(before)) = self.busy_until_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance);
        self.start + Duration::from_nanos(begin(before))
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
    /// When to look at the first request, if one waits.
    due: Option<Instant>,
    /// `due` is the time that was taken for it. Each shard takes time for one request only, and keeps it until then: however
    /// busy the others are, it has its turn.
    is_reserved: bool,
}

/// What one session waits for; never empty.
#[derive(Debug)]
struct Queue {
    requests: VecDeque<Request>,
    bytes: u64,
    /// Bytes that it may still take in its turn.
    credit_bytes: u64,
}

impl Turns {
    pub(crate) fn new(rate: Arc<TotalRate>) -> Self {
        let (queues, order) = (HashMap::new(), VecDeque::new());
        Self { rate, queues, order, requests: 0, due: None, is_reserved: false }
    }

    /// Has a request wait; or says after what time there may be room for it. One request of each session may wait, and as
    /// many more as take [`TURNS_WAIT_MAX`] at its share of the rate: who asks for much finds its own queue full, nobody
    /// else's.
    pub(crate) fn push(&mut self, now: Instant, request: &Request) -> Result<(), Duration> {
        let (order, handle) = (&mut self.order, request.handle);
        let waiting = self.queues.get(&handle).map_or(0, |queue| queue.bytes);
        let wait = self.rate.time_of(waiting.saturating_mul(order.len() as u64));
        if self.requests >= TURNS_MAX || wait > TURNS_WAIT_MAX {
            return Err(wait.saturating_sub(TURNS_WAIT_MAX).max(BUSY_RETRY));
        }
        let queue = self.queues.entry(handle).or_insert_with(|| {
            order.push_back(handle);
            Queue { requests: VecDeque::new(), bytes: 0, credit_bytes: QUANTUM_BYTES }
        });
        queue.requests.push_back(request.clone());
        queue.bytes += bytes_of(request);
        self.requests += 1;
        self.due.get_or_insert(now);
        Ok(())
    }

    /// The request whose turn it is, once the rate has room for it.
    pub(crate) fn poll_ready(&mut self, now: Instant) -> Option<Request> {
        if self.due? > now {
            return None;
        }
        let (handle, bytes) = self.first()?;
        if !self.is_reserved {
            self.is_reserved = true;
            let due = self.rate.reserve(now, bytes);
            self.due = Some(due);
            if due > now {
                return None;
            }
        }
        let queue = self.queues.get_mut(&handle)?;
        let mut request = queue.requests.pop_front()?;
        queue.bytes -= bytes;
        queue.credit_bytes -= bytes;
        if queue.requests.is_empty() {
            self.queues.remove(&handle);
            self.order.pop_front();
        }
        self.requests -= 1;
        self.is_reserved = false;
        self.due = (self.requests > 0).then_some(now);
        //= PROTOCOL U9: A server MUST space the trains of a session to the rate that each PULL names, and make none longer than the greater of 2 chunks and 1 ms at that rate.
        request.start_at = request.start_at.max(now);
        Some(request)
    }

    /// When to call [`Turns::poll_ready`].
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// The session whose turn it is, and the bytes of its first request.
    fn first(&mut self) -> Option<(u64, u64)> {
        loop {
            let handle = *self.order.front()?;
            let queue = self.queues.get_mut(&handle)?;
            let bytes = bytes_of(queue.requests.front()?);
            if bytes <= queue.credit_bytes {
                return Some((handle, bytes));
            }
            queue.credit_bytes += QUANTUM_BYTES;
            self.order.rotate_left(1);
        }
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
            assert!(here.poll_timeout() <= Some(start + MS * (ms + 2)), "behind one of the other shard at most");
        }
        assert!((100..=100 + TOTAL_RATE_BURST.as_millis() as usize + 1).contains(&served), "{served} in 100 ms");
    }

    #[test]
    fn a_full_queue_is_full_for_its_own_session_alone() {
        let (mut turns, start) = turns(52);
        let full = |turns: &mut Turns, handle| {
            (0..).find_map(|sequence| {
                turns.push(start, &request(handle, sequence, 52)).err().map(|wait| (sequence, wait))
            })
        };
        let (sequence, wait) = full(&mut turns, 1).expect("bounded");
        assert_eq!(u128::from(sequence), TURNS_WAIT_MAX.as_millis() + 1);
        assert_eq!(wait, BUSY_RETRY);
        let (sequence, _) = full(&mut turns, 2).expect("bounded");
        assert_eq!(u128::from(sequence), TURNS_WAIT_MAX.as_millis() / 2 + 1, "its share of the time");
        let served: Vec<u64> = (0..4).filter_map(|ms| turns.poll_ready(start + MS * ms)).map(|r| r.handle).collect();
        assert_eq!(served, [1, 2, 1, 2]);
    }

    #[test]
    fn a_shard_that_looks_seldom_keeps_its_turn_beside_one_that_always_looks() {
        let (mut busy, start) = turns(52 * 10);
        let mut seldom = Turns::new(Arc::clone(&busy.rate));
        let mut served = [0, 0];
        for tick in 0..1_000_u32 {
            let now = start + MS * tick / 10;
            for (turns, handle) in [(&mut busy, 1), (&mut seldom, 2)] {
                while turns.push(now, &request(handle, tick, 52)).is_ok() && turns.requests < 100 {}
            }
            served[0] += std::iter::from_fn(|| busy.poll_ready(now)).count();
            // As a timer of a millisecond would wake it.
            if tick % 10 == 0 {
                served[1] += std::iter::from_fn(|| seldom.poll_ready(now)).count();
            }
        }
        assert!(served[1] >= 95, "{served:?}: one each millisecond at least");
    }

    #[test]
    fn trains_of_an_answer_that_waited_do_not_leave_all_at_once() {
        let (mut turns, start) = turns(52);
        turns.push(start, &request(1, 0, 52)).expect("room");
        let late = start + MS * 50;
        assert_eq!(turns.poll_ready(late).map(|request| request.start_at), Some(late));
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
