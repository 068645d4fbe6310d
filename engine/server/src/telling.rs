//! What the master is told of what is held: all of it once, then what changed, in reports of a bounded length.
//!
//! Reads no clock and sends nothing; [`crate::control`] does, and keeps one of these for each heartbeat stream.

use std::collections::{BTreeSet, HashSet, VecDeque};

use braidcast_media::AssetId;
use braidcast_proto::v1::{Holding, ServerReport};

use crate::limits::{HOLDING_BYTES_MAX, REPORT_BYTES_MAX, REPORT_ERROR_BYTES_MAX, REPORT_FIXED_BYTES};

/// What was told on one stream, and what is still to be told.
#[derive(Debug)]
pub(crate) struct Telling {
    /// What is there since before the stream was opened and was not named yet.
    first: VecDeque<AssetId>,
    /// What changed since it was named.
    changed: BTreeSet<AssetId>,
    /// What the master believes to be held, whole or in part.
    named: HashSet<AssetId>,
}

impl Telling {
    /// A stream that was told nothing, of a server that has `assets`.
    pub(crate) fn new(assets: impl IntoIterator<Item = AssetId>) -> Self {
        Self { first: assets.into_iter().collect(), changed: BTreeSet::new(), named: HashSet::new() }
    }

    /// What is held of these assets changed.
    pub(crate) fn on_changes(&mut self, assets: impl IntoIterator<Item = AssetId>) {
        self.changed.extend(assets);
    }

    /// Whether something waits for the next report.
    pub(crate) fn has_more(&self) -> bool {
        !(self.first.is_empty() && self.changed.is_empty())
    }

    /// Adds as much to `report` as it takes. `holding`: what is held of an asset now; `None` if it is gone.
    pub(crate) fn fill(&mut self, report: &mut ServerReport, holding: impl Fn(AssetId) -> Option<Holding>) {
        let texts: usize = report.refusals.iter().map(|refusal| refusal.reason.len()).sum();
        let answers = report.probes.len() + report.refusals.len();
        let mut bytes = REPORT_FIXED_BYTES + answers * HOLDING_BYTES_MAX + texts;
        while let Some(asset) = self.first.front().or_else(|| self.changed.first()).copied() {
            let held = holding(asset).map(shortened);
            bytes += HOLDING_BYTES_MAX + held.as_ref().map_or(0, |holding| holding.error.len());
            if bytes > REPORT_BYTES_MAX {
                break;
            }
            self.first.pop_front_if(|first| *first == asset);
            self.changed.remove(&asset);
            match held {
                Some(holding) => {
                    self.named.insert(asset);
                    report.holdings.push(holding);
                }
                None if self.named.remove(&asset) => report.gone.push(asset.0),
                None => {}
            }
        }
        report.complete = self.first.is_empty();
    }
}

fn shortened(mut holding: Holding) -> Holding {
    holding.error.truncate(holding.error.floor_char_boundary(REPORT_ERROR_BYTES_MAX));
    holding
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use prost::Message;

    use super::*;

    type Held = BTreeMap<AssetId, Holding>;

    fn holding(asset: u64, error: &str) -> (AssetId, Holding) {
        let holding = Holding {
            asset,
            extents_held: u64::MAX,
            extents_total: u64::MAX,
            error: error.into(),
            origin_damaged: true,
        };
        (AssetId(asset), holding)
    }

    fn report(telling: &mut Telling, held: &Held) -> ServerReport {
        let mut report = ServerReport {
            clock_ms: u64::MAX,
            used_bytes: u64::MAX,
            free_bytes: u64::MAX,
            sessions: u32::MAX,
            sent_bytes: u64::MAX,
            ..ServerReport::default()
        };
        telling.fill(&mut report, |asset| held.get(&asset).cloned());
        assert!(report.encoded_len() <= REPORT_BYTES_MAX, "{} bytes", report.encoded_len());
        report
    }

    /// What a master makes of reports until nothing is left to tell.
    fn listen(telling: &mut Telling, held: &Held, heard: &mut Held) -> usize {
        for reports in 1.. {
            let report = report(telling, held);
            heard.extend(report.holdings.into_iter().map(|holding| (AssetId(holding.asset), holding)));
            heard.retain(|asset, _| !report.gone.contains(&asset.0));
            if !telling.has_more() {
                assert!(report.complete);
                return reports;
            }
        }
        unreachable!("a report is sent each time");
    }

    #[test]
    fn all_is_named_once_in_reports_of_bounded_length_and_the_last_is_complete() {
        let mut held: Held = (0..10_000).map(|asset| holding(asset, "")).collect();
        held.extend((10_000..10_100).map(|asset| holding(asset, &"ä".repeat(5_000))));
        let (mut telling, mut heard) = (Telling::new(held.keys().copied()), Held::new());
        let first = report(&mut telling, &held);
        assert!(!first.complete && telling.has_more());
        heard.extend(first.holdings.into_iter().map(|holding| (AssetId(holding.asset), holding)));
        let reports = listen(&mut telling, &held, &mut heard);
        assert!(reports < 60, "{reports} reports");
        assert!(heard.keys().eq(held.keys()));
        assert_eq!(heard[&AssetId(10_000)].error.len(), REPORT_ERROR_BYTES_MAX);
    }

    #[test]
    fn when_nothing_changes_a_report_is_short() {
        let held: Held = (0..10).map(|asset| holding(asset, "")).collect();
        let mut telling = Telling::new(held.keys().copied());
        listen(&mut telling, &held, &mut Held::new());
        let report = report(&mut telling, &held);
        assert_eq!((report.holdings.len(), report.gone.len(), report.complete), (0, 0, true));
        assert!(report.encoded_len() < 64, "{} bytes", report.encoded_len());
    }

    #[test]
    fn changes_and_losses_are_told_and_what_was_never_named_is_not() {
        let mut held: Held = (0..3).map(|asset| holding(asset, "")).collect();
        let (mut telling, mut heard) = (Telling::new(held.keys().copied()), Held::new());
        listen(&mut telling, &held, &mut heard);
        held.remove(&AssetId(1));
        held.extend([holding(2, "the disk is full"), holding(7, "")]);
        telling.on_changes([1, 2, 7, 8].map(AssetId));
        let report = report(&mut telling, &held);
        assert_eq!(report.holdings.iter().map(|holding| holding.asset).collect::<Vec<_>>(), [2, 7]);
        assert_eq!(report.gone, [1]);
        assert!(!telling.has_more());
    }

    #[test]
    fn what_goes_before_it_was_named_is_not_named() {
        let mut held: Held = (0..2_000).map(|asset| holding(asset, "")).collect();
        let (mut telling, mut heard) = (Telling::new(held.keys().copied()), Held::new());
        let first = report(&mut telling, &held);
        heard.extend(first.holdings.into_iter().map(|holding| (AssetId(holding.asset), holding)));
        for asset in [0, 1_999].map(AssetId) {
            held.remove(&asset);
            telling.on_changes([asset]);
        }
        listen(&mut telling, &held, &mut heard);
        assert!(heard.keys().eq(held.keys()));
    }
}
