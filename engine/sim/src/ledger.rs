//! Finds chunks that a client pulls twice from one server while the first answer may still come.
//!
//! What a PULL asks for is known where it is opened: at the server. When it was sent is known from its packet. A second
//! PULL for a chunk is wrong if, **when it was sent**, the answer to the first was on its way, whole, and not late:
//! - nothing that the client could know spoke against it before one base round trip had passed since the first PULL;
//! - after that, the answer is late, and the client may have its reasons: a queue that has just filled, say.
//!
//! Answers of which a packet was dropped, damaged or sent to an old address are excused as a whole, and so is all that
//! was asked for before the client seeked or either side lost the session.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use braidcast_media::{ChunkNo, StreamId};

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
}

/// Entries of an account after which those that are too old to matter are forgotten.
const ENTRIES_MIN: usize = 4_096;

impl Ledger {
    /// An answer does not arrive as it was sent.
    pub(crate) fn on_broken(&mut self, answer: AnswerNo) {
        self.broken.insert(answer);
    }

    /// What a client asked for does not count any more: it has seeked.
    pub(crate) fn forget(&mut self, client: HostNo) {
        self.accounts.retain(|(of, _), _| *of != client);
    }

    /// A server answers a PULL. Gives the first chunk of it that was on its way already.
    pub(crate) fn on_served(
        &mut self,
        client: HostNo,
        server: HostNo,
        base_rtt: Duration,
        served: &Served,
    ) -> Option<ChunkNo> {
        let account = self.accounts.entry((client, server)).or_default();
        let request = &served.request;
        let asked = Asked { at: served.sent_at, answer: served.answer, handle: request.handle };
        let mut doubled = None;
        for chunk in request.runs.iter().flat_map(|run| run.chunks()) {
            let Some(first) = account.asked.insert((request.stream, chunk), asked) else { continue };
            let is_early = asked.at < first.at + base_rtt;
            if is_early && first.handle == asked.handle && !self.broken.contains(&first.answer) {
                doubled.get_or_insert(chunk);
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
    use std::time::Instant;

    use braidcast_media::{AssetId, Run};
    use braidcast_transport::responder::{Request, Runs};

    use super::*;
    use crate::network::Endpoint;

    const CLIENT: HostNo = HostNo(0);
    const SERVER: HostNo = HostNo(1);
    const RTT: Duration = Duration::from_millis(50);

    fn served(answer: u32, sent_ms: u64, runs: &[Run]) -> Served {
        let request = Request {
            to: Endpoint { host: CLIENT, port: 1 }.address(),
            handle: 7,
            sequence: answer,
            asset: AssetId(1),
            stream: StreamId::ORIGINAL,
            runs: runs.iter().copied().collect::<Runs>(),
            received_at: Instant::now(),
        };
        Served { request, sent_at: Duration::from_millis(sent_ms), answer: AnswerNo(answer) }
    }

    #[test]
    fn a_chunk_asked_for_again_within_a_round_trip_is_found_and_one_asked_for_later_is_not() {
        let mut ledger = Ledger::default();
        let mut ask = |served: &Served| ledger.on_served(CLIENT, SERVER, RTT, served);
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
        ledger.forget(CLIENT);
        assert_eq!(ledger.on_served(CLIENT, SERVER, RTT, &served(4, 3, &run)), None);
        assert_eq!(ledger.on_served(CLIENT, SERVER, RTT, &served(5, 4, &run)), Some(ChunkNo(0)));
    }
}
