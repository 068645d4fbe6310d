//! Turns: who is served next.
//!
//! Requests wait in a queue for each session. Sessions are served in turn, each as many bytes as the others (deficit
//! round robin: M. Shreedhar and G. Varghese, SIGCOMM 1995): who asks for more than its share only makes its own
//! queue longer. Where the server has a total rate, the shard waits for its [`Share`] of it before each.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use braidcast_media::layout::PACKET_BYTES;
use braidcast_transport::limits::CHUNKS_PER_PULL_MAX;
use braidcast_transport::responder::Request;
use slab::Slab;

use crate::limits::{BUSY_RETRY, TURNS_IDLE, TURNS_MAX, TURNS_WAIT_MAX};
use crate::total_rate::Share;

/// Bytes that a session may take in one turn: the longest answer, so that each turn serves at least one.
const QUANTUM_BYTES: u64 = CHUNKS_PER_PULL_MAX as u64 * PACKET_BYTES as u64;

/// The requests of one shard that wait for their turn.
///
/// Nothing is allocated for a request once there have been as many sessions and requests at a time as there are.
#[derive(Debug)]
pub(crate) struct Turns {
    sessions: HashMap<u64, Session>,
    /// Sessions with requests, the next one first.
    order: VecDeque<u64>,
    requests: Slab<Waiting>,
    bytes: u64,
    /// How long the request that was served last had waited, while others do.
    behind: Duration,
    limit: Option<Limit>,
}

/// What bounds a shard beside its own speed.
#[derive(Debug)]
struct Limit {
    share: Share,
    /// When the next request may be served, as far as is known.
    due: Option<Instant>,
    /// When to look for sessions that ask no more, if there are any at all.
    sweep_at: Option<Instant>,
}

impl Limit {
    fn count(&mut self, sessions: &HashMap<u64, Session>, waiting: &VecDeque<u64>) {
        self.share.set_sessions(sessions.len() as u64, waiting.len() as u64);
    }
}

/// A session that waits; where there is a total rate, also one that has asked lately.
#[derive(Debug)]
struct Session {
    /// Its oldest and its newest request.
    queue: Option<(usize, usize)>,
    bytes: u64,
    /// Bytes that it may still take in its turn.
    credit_bytes: u64,
    asked_at: Instant,
}

#[derive(Debug)]
struct Waiting {
    request: Request,
    /// The next one of its session.
    next: Option<usize>,
}

impl Turns {
    /// Without requests. `share`: of the server's total rate, if it has one.
    pub(crate) fn new(share: Option<Share>) -> Self {
        let limit = share.map(|share| Limit { share, due: None, sweep_at: None });
        Self {
            sessions: HashMap::new(),
            order: VecDeque::new(),
            requests: Slab::new(),
            bytes: 0,
            behind: Duration::ZERO,
            limit,
        }
    }

    /// Whether one more request of a session may wait.
    ///
    /// # Errors
    /// After what time there may be room. A session finds room for as many as take [`TURNS_WAIT_MAX`] at its share of the
    /// rate, and for one if the others' turns take no longer: who asks for much finds its own queue full, nobody else's.
    pub(crate) fn room_for(&self, handle: u64) -> Result<(), Duration> {
        if self.requests.len() >= TURNS_MAX {
            return Err(BUSY_RETRY);
        }
        let waiting_bytes = self.sessions.get(&handle).map_or(0, |session| session.bytes);
        let one_turn_of_each = self.bytes.min(QUANTUM_BYTES.saturating_mul(self.order.len() as u64));
        let wait = match &self.limit {
            Some(limit) if waiting_bytes > 0 => limit.share.time_for_one(waiting_bytes),
            Some(limit) => limit.share.time_for_all(one_turn_of_each),
            None if waiting_bytes > 0 => self.behind,
            None => Duration::ZERO,
        };
        if wait > TURNS_WAIT_MAX {
            return Err((wait - TURNS_WAIT_MAX).max(BUSY_RETRY));
        }
        Ok(())
    }

    /// Has a request wait.
    pub(crate) fn push(&mut self, now: Instant, request: Request) {
        let (handle, bytes) = (request.handle, bytes_of(&request));
        let place = self.requests.insert(Waiting { request, next: None });
        let new = Session { queue: None, bytes: 0, credit_bytes: 0, asked_at: now };
        let session = self.sessions.entry(handle).or_insert(new);
        session.asked_at = now;
        session.bytes += bytes;
        self.bytes += bytes;
        match &mut session.queue {
            Some((_, newest)) => {
                self.requests[*newest].next = Some(place);
                *newest = place;
            }
            None => {
                session.queue = Some((place, place));
                session.credit_bytes = QUANTUM_BYTES;
                self.order.push_back(handle);
            }
        }
        if let Some(limit) = &mut self.limit {
            limit.count(&self.sessions, &self.order);
            limit.due.get_or_insert(now);
            limit.sweep_at.get_or_insert(now + TURNS_IDLE);
        }
    }

    /// The request whose turn it is, once the rate has room for it.
    pub(crate) fn poll_ready(&mut self, now: Instant) -> Option<Request> {
        if let Some(limit) = &self.limit
            && limit.due.is_none_or(|due| due > now)
        {
            return None;
        }
        let (handle, bytes) = self.first()?;
        if let Some(limit) = &mut self.limit
            && let Err(due) = limit.share.take(now, bytes)
        {
            limit.due = Some(due);
            return None;
        }
        let session = self.sessions.get_mut(&handle)?;
        let (oldest, newest) = session.queue?;
        let Waiting { mut request, next } = self.requests.remove(oldest);
        session.queue = next.map(|next| (next, newest));
        session.bytes -= bytes;
        session.credit_bytes -= bytes;
        self.bytes -= bytes;
        if session.queue.is_none() {
            self.order.pop_front();
            if self.limit.is_none() {
                self.sessions.remove(&handle);
            }
        }
        let is_last = self.order.is_empty();
        self.behind = if is_last { Duration::ZERO } else { now.saturating_duration_since(request.received_at) };
        if let Some(limit) = &mut self.limit {
            limit.due = (!is_last).then_some(now);
            limit.count(&self.sessions, &self.order);
        }
        //= PROTOCOL U9: A server MUST space the trains of a session to the rate that each PULL names, and make none longer than the greater of 2 chunks and 1 ms at that rate.
        request.start_at = request.start_at.max(now);
        Some(request)
    }

    /// Forgets sessions that ask no more.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let Some(limit) = self.limit.as_mut().filter(|limit| limit.sweep_at.is_some_and(|at| at <= now)) else {
            return;
        };
        self.sessions.retain(|_, session| session.queue.is_some() || session.asked_at + TURNS_IDLE > now);
        limit.count(&self.sessions, &self.order);
        limit.sweep_at = (!self.sessions.is_empty()).then_some(now + TURNS_IDLE);
    }

    /// When to call [`Turns::handle_timeout`], and [`Turns::poll_ready`] although nothing was pushed.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let limit = self.limit.as_ref()?;
        limit.due.into_iter().chain(limit.sweep_at).min()
    }

    /// The session whose turn it is, and the bytes of its first request.
    fn first(&mut self) -> Option<(u64, u64)> {
        loop {
            let handle = *self.order.front()?;
            let session = self.sessions.get_mut(&handle)?;
            let (oldest, _) = session.queue?;
            let bytes = bytes_of(&self.requests[oldest].request);
            if bytes <= session.credit_bytes {
                return Some((handle, bytes));
            }
            session.credit_bytes += QUANTUM_BYTES;
            self.order.rotate_left(1);
        }
    }
}

fn bytes_of(request: &Request) -> u64 {
    u64::from(request.chunks()) * PACKET_BYTES as u64
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use braidcast_media::{AssetId, Run, StreamId};

    use super::*;
    use crate::limits::TOTAL_RATE_BURST;
    use crate::total_rate::TotalRate;

    const MS: Duration = Duration::from_millis(1);

    impl Turns {
        fn try_push(&mut self, now: Instant, request: Request) -> Result<(), Duration> {
            self.room_for(request.handle).map(|()| self.push(now, request))
        }

        /// The sessions that are served at `now`.
        fn served(&mut self, now: Instant) -> Vec<u64> {
            std::iter::from_fn(|| self.poll_ready(now)).map(|request| request.handle).collect()
        }
    }

    fn request(now: Instant, handle: u64, sequence: u32, chunks: u16) -> Request {
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

    /// Turns at `chunks` chunks a millisecond, and when they may begin with a burst.
    fn turns(chunks: u64) -> (Turns, Instant) {
        let rate = TotalRate::new(chunks * PACKET_BYTES as u64 * 1_000);
        (Turns::new(Some(Share::new(Arc::new(rate)))), Instant::now() + TOTAL_RATE_BURST)
    }

    #[test]
    fn who_asks_for_much_waits_behind_itself_and_delays_nobody_else() {
        let (mut turns, start) = (Turns::new(None), Instant::now());
        for sequence in 0..100 {
            turns.push(start, request(start, 1, sequence, 52));
        }
        turns.push(start, request(start, 2, 1_000, 4));
        let served: Vec<u32> = (0..5).filter_map(|_| turns.poll_ready(start)).map(|r| r.sequence).collect();
        assert_eq!(served, [0, 1_000, 1, 2, 3]);
    }

    #[test]
    fn sessions_get_the_same_bytes_however_long_their_requests_are() {
        let (mut turns, start) = turns(52);
        for sequence in 0..45 {
            turns.try_push(start, request(start, 1, sequence, 52)).expect("room");
            (0..4).for_each(|_| turns.try_push(start, request(start, 2, sequence, 13)).expect("room"));
        }
        let mut chunks = [0, 0];
        for ms in 0..80 {
            while let Some(request) = turns.poll_ready(start + MS * ms) {
                chunks[request.handle as usize - 1] += u32::from(request.chunks());
            }
        }
        let [long, short] = chunks;
        assert!(long.abs_diff(short) <= 2 * 52, "{long} and {short} chunks");
        assert!((79 * 52..=92 * 52).contains(&(long + short)), "{} chunks in 80 ms", long + short);
    }

    #[test]
    fn a_full_queue_is_full_for_its_own_session_alone() {
        let (mut turns, start) = turns(52);
        let full = |turns: &mut Turns, handle| {
            (0..).find_map(|sequence| {
                turns.try_push(start, request(start, handle, sequence, 52)).err().map(|wait| (sequence, wait))
            })
        };
        let (sequence, wait) = full(&mut turns, 1).expect("bounded");
        assert_eq!(u128::from(sequence), TURNS_WAIT_MAX.as_millis() + 1);
        assert_eq!(wait, BUSY_RETRY);
        let (sequence, _) = full(&mut turns, 2).expect("bounded");
        assert_eq!(u128::from(sequence), TURNS_WAIT_MAX.as_millis() / 2 + 1, "its share of the time");
        assert_eq!(turns.served(start)[..4], [1, 2, 1, 2]);
    }

    #[test]
    fn of_more_sessions_than_have_turns_within_the_wait_some_are_told_to_come_back() {
        let (mut turns, start) = turns(52);
        let refused = (0..1_000).find_map(|handle| turns.try_push(start, request(start, handle, 0, 52)).err());
        assert_eq!(turns.requests.len(), TURNS_WAIT_MAX.as_millis() as usize + 1);
        assert_eq!(refused, Some(BUSY_RETRY));
        assert_eq!(turns.served(start + MS * 50).len(), TOTAL_RATE_BURST.as_millis() as usize + 1);
    }

    #[test]
    fn an_overloaded_shard_takes_no_more_of_those_that_wait() {
        let (mut turns, start) = (Turns::new(None), Instant::now());
        (0..3).for_each(|sequence| turns.push(start, request(start, 1, sequence, 52)));
        assert!(turns.poll_ready(start + TURNS_WAIT_MAX + MS * 60).is_some());
        assert_eq!(turns.room_for(1), Err(MS * 60));
        assert_eq!(turns.room_for(2), Ok(()), "who does not wait is let in");
        assert_eq!(turns.served(start + TURNS_WAIT_MAX + MS * 60).len(), 2);
        assert_eq!(turns.room_for(1), Ok(()));
    }

    #[test]
    fn sessions_that_ask_no_more_have_no_share() {
        let (mut turns, start) = turns(52);
        let counted = |turns: &Turns| turns.limit.as_ref().map(|limit| limit.share.counted());
        (0..9).for_each(|handle| turns.push(start, request(start, handle, 0, 1)));
        assert_eq!(counted(&turns), Some((9, 9)));
        assert_eq!(turns.served(start).len(), 9);
        turns.push(start + TURNS_IDLE / 2, request(start, 0, 1, 52));
        assert_eq!(counted(&turns), Some((9, 1)));
        turns.handle_timeout(start + TURNS_IDLE);
        assert_eq!(counted(&turns), Some((1, 1)));
        turns.served(start + TURNS_IDLE);
        turns.handle_timeout(start + TURNS_IDLE * 2);
        assert_eq!((counted(&turns), turns.poll_timeout()), (Some((0, 0)), None));
    }

    #[test]
    fn who_waits_behind_nobody_finds_room_however_many_ask_for_little() {
        let (mut turns, start) = turns(52);
        (0..300).for_each(|handle| turns.push(start, request(start, handle, 0, 1)));
        while turns.poll_timeout().is_some_and(|due| due < start + TURNS_IDLE) {
            turns.served(start + TURNS_IDLE / 2);
        }
        for sequence in 0..8 {
            let pushed = turns.try_push(start + TURNS_IDLE / 2, request(start, 999, sequence, 52));
            assert_eq!(pushed, Ok(()), "it alone waits, though 300 others have a share");
        }
    }

    #[test]
    fn trains_of_an_answer_that_waited_do_not_leave_all_at_once() {
        let (mut turns, start) = turns(52);
        turns.push(start, request(start, 1, 0, 52));
        let late = start + MS * 50;
        assert_eq!(turns.poll_ready(late).map(|request| request.start_at), Some(late));
    }

    #[test]
    fn time_that_was_not_used_is_gone() {
        let (mut turns, start) = turns(52);
        (0..100).for_each(|sequence| turns.push(start, request(start, 1, sequence, 52)));
        let served = turns.served(start + Duration::from_secs(5)).len();
        assert_eq!(served, TOTAL_RATE_BURST.as_millis() as usize + 1, "a burst, and what brings it over");
    }
}
