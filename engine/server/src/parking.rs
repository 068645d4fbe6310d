//! Requests that wait until helpers have made their extents hot.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use arrayvec::ArrayVec;
use braidcast_media::AssetId;
use braidcast_transport::responder::Request;

use crate::limits::{AWAITED_MAX, EXTENTS_PER_PULL_MAX, PARKED_FOR_MAX, PARKED_MAX, PARKED_PER_SESSION_MAX};

/// Extents of a pack, by their numbers within it.
pub(crate) type Extents = ArrayVec<u32, EXTENTS_PER_PULL_MAX>;

/// The waiting requests of one shard, oldest first.
#[derive(Default)]
pub(crate) struct Parking {
    waiting: Vec<Parked>,
    ready: VecDeque<Request>,
    /// Those whose pack could not be opened.
    failed: VecDeque<Request>,
    awaited: HashSet<(AssetId, u32)>,
    of_session: HashMap<u64, usize>,
}

struct Parked {
    request: Request,
    cold: Extents,
    until: Instant,
}

impl Parking {
    /// Whether a request of this session may wait for these extents.
    pub(crate) fn has_room(&self, session: u64, cold: &Extents) -> bool {
        self.waiting.len() + self.ready.len() + self.failed.len() < PARKED_MAX
            && self.of_session.get(&session).copied().unwrap_or(0) < PARKED_PER_SESSION_MAX
            && self.awaited.len() + cold.len() <= AWAITED_MAX
    }

    /// Whether helpers may be asked for an extent that no request waits for yet, and have not been.
    pub(crate) fn has_room_ahead(&self, asset: AssetId, extent: u32) -> bool {
        self.awaited.len() < AWAITED_MAX && !self.awaits(asset, extent)
    }

    /// Whether a helper was asked for this extent already.
    pub(crate) fn awaits(&self, asset: AssetId, extent: u32) -> bool {
        self.awaited.contains(&(asset, extent))
    }

    /// A helper was asked for this extent.
    pub(crate) fn on_asked(&mut self, asset: AssetId, extent: u32) {
        self.awaited.insert((asset, extent));
    }

    /// Has `request` wait for `cold`, all of which helpers were asked for.
    pub(crate) fn park(&mut self, now: Instant, request: Request, cold: Extents) {
        debug_assert!(cold.iter().all(|extent| self.awaits(request.asset, *extent)));
        *self.of_session.entry(request.handle).or_default() += 1;
        self.waiting.push(Parked { request, cold, until: now + PARKED_FOR_MAX });
    }

    /// A helper is done with this extent, well or not.
    pub(crate) fn on_warmed(&mut self, asset: AssetId, extent: u32) {
        self.awaited.remove(&(asset, extent));
        let done = self.waiting.extract_if(.., |parked| {
            if parked.request.asset == asset {
                parked.cold.retain(|cold| *cold != extent);
            }
            parked.cold.is_empty()
        });
        for parked in done {
            leave(&mut self.of_session, parked.request.handle);
            self.ready.push_back(parked.request);
        }
    }

    /// This extent could not be read in, and its pack not be opened: who waits for it is given up.
    pub(crate) fn on_failed(&mut self, asset: AssetId, extent: u32) {
        self.awaited.remove(&(asset, extent));
        let failed =
            self.waiting.extract_if(.., |parked| parked.request.asset == asset && parked.cold.contains(&extent));
        for parked in failed {
            leave(&mut self.of_session, parked.request.handle);
            self.failed.push_back(parked.request);
        }
    }

    /// The next request that waits for nothing any more.
    pub(crate) fn poll_ready(&mut self) -> Option<Request> {
        self.ready.pop_front()
    }

    /// The next request that was given up, or that has waited for too long.
    pub(crate) fn poll_overdue(&mut self, now: Instant) -> Option<Request> {
        if let Some(request) = self.failed.pop_front() {
            return Some(request);
        }
        // Every request waits for the same time, so the first to come is the first to be overdue.
        let overdue = self.waiting.first().is_some_and(|parked| parked.until <= now);
        overdue.then(|| {
            let parked = self.waiting.remove(0);
            leave(&mut self.of_session, parked.request.handle);
            parked.request
        })
    }

    /// When [`Parking::poll_overdue`] may give something.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.waiting.first().map(|parked| parked.until)
    }
}

fn leave(of_session: &mut HashMap<u64, usize>, session: u64) {
    if let Some(count) = of_session.get_mut(&session) {
        *count -= 1;
        if *count == 0 {
            of_session.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use braidcast_media::{Run, StreamId};

    use super::*;

    fn request(now: Instant, session: u64, sequence: u32) -> Request {
        Request {
            to: ([127, 0, 0, 1], 9).into(),
            handle: session,
            sequence,
            asset: AssetId(1),
            stream: StreamId::ORIGINAL,
            runs: [Run::new(0, 1)].into_iter().collect(),
            received_at: now,
            start_at: now,
            train_chunks: 52,
            chunk_time: std::time::Duration::ZERO,
            started_at: None,
        }
    }

    fn park(parking: &mut Parking, now: Instant, session: u64, sequence: u32, cold: &[u32]) {
        for &extent in cold {
            parking.on_asked(AssetId(1), extent);
        }
        parking.park(now, request(now, session, sequence), cold.iter().copied().collect());
    }

    #[test]
    fn a_request_is_ready_when_the_last_of_its_extents_is_hot() {
        let (mut parking, now) = (Parking::default(), Instant::now());
        park(&mut parking, now, 1, 1, &[4, 5]);
        park(&mut parking, now, 1, 2, &[5]);
        parking.on_warmed(AssetId(2), 4);
        parking.on_warmed(AssetId(1), 4);
        assert!(parking.poll_ready().is_none());
        assert!(parking.awaits(AssetId(1), 5) && !parking.awaits(AssetId(1), 4));
        parking.on_warmed(AssetId(1), 5);
        assert_eq!(parking.poll_ready().map(|r| r.sequence), Some(1));
        assert_eq!(parking.poll_ready().map(|r| r.sequence), Some(2));
        assert!(parking.poll_ready().is_none());
        assert_eq!(parking.poll_timeout(), None);
    }

    #[test]
    fn requests_for_a_pack_that_cannot_be_opened_are_given_up_at_once() {
        let (mut parking, now) = (Parking::default(), Instant::now());
        park(&mut parking, now, 1, 1, &[4, 5]);
        park(&mut parking, now, 1, 2, &[5]);
        parking.on_failed(AssetId(2), 4);
        assert!(parking.poll_overdue(now).is_none());
        parking.on_failed(AssetId(1), 4);
        assert_eq!(parking.poll_overdue(now).map(|r| r.sequence), Some(1));
        assert!(parking.poll_overdue(now).is_none() && parking.poll_ready().is_none());
        parking.on_warmed(AssetId(1), 5);
        assert_eq!(parking.poll_ready().map(|r| r.sequence), Some(2));
    }

    #[test]
    fn a_request_is_overdue_at_its_instant_and_not_before() {
        let (mut parking, now) = (Parking::default(), Instant::now());
        park(&mut parking, now, 1, 1, &[4]);
        let due = parking.poll_timeout().expect("one waits");
        assert_eq!(due, now + PARKED_FOR_MAX);
        assert!(parking.poll_overdue(due - std::time::Duration::from_nanos(1)).is_none());
        assert_eq!(parking.poll_overdue(due).map(|r| r.sequence), Some(1));
        assert!(parking.poll_overdue(due).is_none());
    }

    #[test]
    fn one_session_cannot_take_all_the_room() {
        let (mut parking, now) = (Parking::default(), Instant::now());
        let cold: Extents = [4].into_iter().collect();
        for sequence in 0..PARKED_PER_SESSION_MAX as u32 {
            assert!(parking.has_room(1, &cold));
            park(&mut parking, now, 1, sequence, &[4]);
        }
        assert!(!parking.has_room(1, &cold));
        assert!(parking.has_room(2, &cold));
        parking.on_warmed(AssetId(1), 4);
        assert!(parking.has_room(1, &cold));
    }

    #[test]
    fn the_room_for_requests_and_extents_is_bounded() {
        let (mut parking, now) = (Parking::default(), Instant::now());
        let cold: Extents = [0].into_iter().collect();
        for n in 0..PARKED_MAX as u32 {
            assert!(parking.has_room(n.into(), &cold));
            park(&mut parking, now, n.into(), 1, &[0]);
        }
        assert!(!parking.has_room(u64::MAX, &cold));

        let mut parking = Parking::default();
        for extent in 0..AWAITED_MAX as u32 - 1 {
            parking.on_asked(AssetId(1), extent);
        }
        assert!(parking.has_room(1, &cold));
        parking.on_asked(AssetId(1), AWAITED_MAX as u32);
        assert!(!parking.has_room(1, &cold));
    }
}
