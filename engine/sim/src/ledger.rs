//! Finds chunks that a client pulls twice from one server while the first answer may still come.
//!
//! What a PULL asks for is known where it is opened: at the server. When it was sent is known from its packet. A second
//! PULL for a chunk is wrong if, **when it was sent**, the answer to the first was on its way, whole, and not late:
//! - nothing that the client could know spoke against it before one base round trip had passed since the first PULL;
//! - after that, the answer is late, and the client may have its reasons: a queue that has just filled, say.
//!
//! Answers of which a packet was dropped, damaged or sent to an old address are excused as a whole, and so is all that
//! was asked for before the client seeked, found the extent forged, or either side lost the session.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use braidcast_media::{ChunkNo, ExtentNo, StreamId};

use crate::network::{AnswerNo, HostNo};
use crate::server::Served;

/// What one client has asked of one server of late.
#[derive(Default)]
struct Account {
    asked: HashMap<(StreamId, ChunkNo), Asked>,
    prune_at: usize,
}

#[derive(Clone, Copy)]
struct Asked {
    at: Duration,
    answer: AnswerNo,
    handle: u64,
}

/// All accounts of a world.
#[derive(Default)]
pub(crate) struct Ledger {
    accounts: HashMap<(HostNo, HostNo), Account>,
    broken: HashSet<AnswerNo>,
    /// What a client asked for up to then does not count.
    seeked: HashMap<HostNo, Duration>,
    /// Nor what it asked for of this extent.
    forged: HashMap<(HostNo, ExtentNo), Duration>,
}

/// A chunk that was asked for while it was on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Doubled {
    pub(crate) chunk: ChunkNo,
    /// When the client first asked for it, and when again.
    pub(crate) first_at: Duration,
    pub(crate) again_at: Duration,
}

/// Entries of an account after which those that are too old to matter are forgotten.
const ENTRIES_MIN: usize = 4_096;

impl Ledger {
    /// An answer does not arrive as it was sent.
    pub(crate) fn on_broken(&mut self, answer: AnswerNo) {
        self.broken.insert(answer);
    }

    /// What a client has asked for does not count any more: it has seeked.
    pub(crate) fn on_seek(&mut self, client: HostNo, now: Duration) {
        self.seeked.insert(client, now);
    }

    /// What a client has asked for of an extent does not count any more: it was forged, and is fetched anew.
    pub(crate) fn on_forged(&mut self, client: HostNo, extent: ExtentNo, now: Duration) {
        self.forged.insert((client, extent), now);
    }

    /// A server answers a PULL. Gives the first chunk of it that was on its way already.
    pub(crate) fn on_served(
        &mut self,
        client: HostNo,
        server: HostNo,
        base_rtt: Duration,
        served: &Served,
    ) -> Option<Doubled> {
        let account = self.accounts.entry((client, server)).or_default();
        let asked = Asked { at: served.sent_at, answer: served.answer, handle: served.handle };
        let mut doubled = None;
        for chunk in served.runs.iter().flat_map(|run| run.chunks()) {
            let Some(first) = account.asked.insert((served.stream, chunk), asked) else { continue };
            // PULLs may overtake each other.
            let (first, again) = if first.at <= asked.at { (first, asked) } else { (asked, first) };
            let is_early = again.at < first.at + base_rtt;
            let excuses = [self.seeked.get(&client), self.forged.get(&(client, chunk.extent()))];
            let is_excused = excuses.into_iter().flatten().any(|at| first.at <= *at);
            let is_whole = first.handle == again.handle && !self.broken.contains(&first.answer);
            if is_early && is_whole && !is_excused {
                doubled.get_or_insert(Doubled { chunk, first_at: first.at, again_at: again.at });
            }
        }
        if account.asked.len() >= account.prune_at {
            account.asked.retain(|_, first| served.sent_at < first.at + base_rtt);
            account.prune_at = (2 * account.asked.len()).max(ENTRIES_MIN);
        }
        doubled
    }
}

#[cfg(test)]
mod tests {
    use braidcast_media::Run;
    use braidcast_transport::responder::Runs;

    use super::*;

    const CLIENT: HostNo = HostNo(0);
    const SERVER: HostNo = HostNo(1);
    const RTT: Duration = Duration::from_millis(50);

    fn served(answer: u32, sent_ms: u64, runs: &[Run]) -> Served {
        Served {
            handle: 7,
            stream: StreamId::ORIGINAL,
            runs: runs.iter().copied().collect::<Runs>(),
            sent_at: Duration::from_millis(sent_ms),
            answer: AnswerNo(answer),
        }
    }

    #[test]
    fn a_chunk_asked_for_again_within_a_round_trip_is_found_and_one_asked_for_later_is_not() {
        let mut ledger = Ledger::default();
        let mut ask = |served: &Served| ledger.on_served(CLIENT, SERVER, RTT, served).map(|doubled| doubled.chunk);
        assert_eq!(ask(&served(1, 0, &[Run::new(0, 10)])), None);
        assert_eq!(ask(&served(2, 10, &[Run::new(10, 10)])), None);
        assert_eq!(ask(&served(3, 49, &[Run::new(40, 2), Run::new(9, 2)])), Some(ChunkNo(9)));
        assert_eq!(ask(&served(4, 60, &[Run::new(10, 1)])), Some(ChunkNo(10)), "of the third");
        assert_eq!(ask(&served(5, 50, &[Run::new(0, 9)])), None);
    }

    #[test]
    fn broken_answers_other_servers_and_seeks_are_excused() {
        let mut ledger = Ledger::default();
        let run = [Run::new(0, 10)];
        assert_eq!(ledger.on_served(CLIENT, SERVER, RTT, &served(1, 0, &run)), None);
        assert_eq!(ledger.on_served(CLIENT, HostNo(2), RTT, &served(2, 1, &run)), None);
        ledger.on_broken(AnswerNo(1));
        assert_eq!(ledger.on_served(CLIENT, SERVER, RTT, &served(3, 2, &run)), None);
        ledger.on_seek(CLIENT, Duration::from_millis(2));
        assert_eq!(ledger.on_served(CLIENT, SERVER, RTT, &served(4, 3, &run)), None);
        ledger.on_forged(CLIENT, ExtentNo(0), Duration::from_millis(3));
        assert_eq!(ledger.on_served(CLIENT, SERVER, RTT, &served(5, 4, &run)), None);
        assert!(ledger.on_served(CLIENT, SERVER, RTT, &served(6, 5, &run)).is_some());
    }

    #[test]
    fn pulls_that_overtake_each_other_are_told_in_the_order_in_which_they_were_sent() {
        let mut ledger = Ledger::default();
        let run = [Run::new(0, 10)];
        assert_eq!(ledger.on_served(CLIENT, SERVER, RTT, &served(2, 60, &run)), None);
        assert_eq!(ledger.on_served(CLIENT, SERVER, RTT, &served(1, 10, &run)), None);
        let doubled = ledger.on_served(CLIENT, SERVER, RTT, &served(3, 5, &run)).expect("5 ms before another");
        assert_eq!([doubled.first_at, doubled.again_at].map(|at| at.as_millis()), [5, 10]);
    }
}
