//! Who serves which part of a window: a pure function of the window and the hosts.
//!
//! The window is cut into runs of extents, as many for each host as make the shares of even a small window equal.
//! First choices go round by smooth weighted round robin, which spreads each host's turns over the window instead of
//! giving them in a row; alternates follow in rotated order, so that a host that fails leaves its part to all others.

use std::ops::RangeInclusive;

use crate::limits::{HOSTS_PER_RANGE_MAX, RANGE_EXTENTS_MAX, RANGES_MAX, RANGES_PER_HOST};

/// A run of extents and who serves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PlannedRange {
    /// First and last extent.
    pub(crate) extents: RangeInclusive<u32>,
    /// Indices of hosts: the first choice, then the alternates.
    pub(crate) hosts: Vec<u32>,
}

/// Deals `window` out to hosts with these weights, at most [`RANGES_MAX`] ranges of it. `turn` says who starts, so
/// that clients that begin together do not all begin with the same host. None at all without hosts.
pub(crate) fn deal(window: &RangeInclusive<u32>, weights: &[u32], turn: u64) -> Vec<PlannedRange> {
    let Ok(hosts) = u32::try_from(weights.len()) else {
        return Vec::new();
    };
    if hosts == 0 || window.is_empty() {
        return Vec::new();
    }
    let extents = u64::from(window.end() - window.start()) + 1;
    let size = range_extents(extents, hosts);
    // Runs before this window count as turns taken: the next window of a film goes on where the last one ended.
    let turn = turn.wrapping_add(u64::from(window.start() / size));
    let offset = u32::try_from(turn % u64::from(hosts)).unwrap_or(0);
    let mut robin = Robin::new(weights, offset);
    let mut ranges = Vec::new();
    let mut first = u64::from(*window.start());
    let end = u64::from(*window.end());
    while first <= end && ranges.len() < RANGES_MAX {
        let last = (first + u64::from(size) - 1).min(end);
        let hosts = alternates(robin.next(), hosts, ranges.len());
        // Both lie within the window, whose ends are 32 bits wide.
        ranges.push(PlannedRange { extents: first as u32..=last as u32, hosts });
        first = last + 1;
    }
    ranges
}

fn range_extents(extents: u64, hosts: u32) -> u32 {
    let shares = u64::from(hosts) * u64::from(RANGES_PER_HOST);
    (extents / shares).clamp(1, u64::from(RANGE_EXTENTS_MAX)) as u32
}

/// The first choice and then the others, beginning with a different one for each range.
fn alternates(first: u32, hosts: u32, range: usize) -> Vec<u32> {
    let others = hosts - 1;
    let shift = if others == 0 { 0 } else { (range / hosts as usize) as u32 % others };
    let others = (0..others).map(|n| (first + 1 + (n + shift) % others) % hosts);
    std::iter::once(first).chain(others).take(HOSTS_PER_RANGE_MAX).collect()
}

/// Smooth weighted round robin, as nginx does it: everybody gains its weight, the richest takes the turn and pays the
/// sum of all weights.
struct Robin {
    weights: Vec<i64>,
    credits: Vec<i64>,
    total: i64,
    offset: usize,
}

impl Robin {
    fn new(weights: &[u32], offset: u32) -> Self {
        let weights: Vec<i64> = weights.iter().map(|weight| i64::from((*weight).max(1))).collect();
        Self { credits: vec![0; weights.len()], total: weights.iter().sum(), weights, offset: offset as usize }
    }

    fn next(&mut self) -> u32 {
        for (credit, weight) in self.credits.iter_mut().zip(&self.weights) {
            *credit += weight;
        }
        let hosts = self.weights.len();
        // Ties go to whoever comes first from `offset` on.
        let place = |host: usize| (host + hosts - self.offset) % hosts;
        let richest = (0..hosts).max_by_key(|&host| (self.credits[host], std::cmp::Reverse(place(host)))).unwrap_or(0);
        self.credits[richest] -= self.total;
        richest as u32
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shares(ranges: &[PlannedRange], hosts: usize) -> Vec<u32> {
        let mut shares = vec![0; hosts];
        for range in ranges {
            shares[range.hosts[0] as usize] += range.extents.end() - range.extents.start() + 1;
        }
        shares
    }

    #[test]
    fn three_equal_hosts_get_a_third_each_of_200_mb() {
        let extents = 200_000_000_u32.div_ceil(307_200);
        let ranges = deal(&(0..=extents - 1), &[16; 3], 0);
        for share in shares(&ranges, 3) {
            assert!(share.abs_diff(extents / 3) <= RANGE_EXTENTS_MAX, "{share} of {extents}");
        }
    }

    #[test]
    fn even_a_small_window_is_shared_by_all() {
        for extents in [3_u32, 4, 12, 13, 40, 64] {
            let ranges = deal(&(100..=100 + extents - 1), &[16; 3], 5);
            for share in shares(&ranges, 3) {
                assert!(share > 0 && share <= extents / 3 + extents / 12 + 1, "{share} of {extents}");
            }
        }
    }

    #[test]
    fn shares_follow_weights_and_turns_are_spread() {
        let ranges = deal(&(0..=6_399), &[16, 8, 8], 0);
        assert_eq!(shares(&ranges, 3), [3_200, 1_600, 1_600]);
        let longest = ranges.chunk_by(|a, b| a.hosts[0] == b.hosts[0]).map(<[_]>::len).max();
        assert!(longest <= Some(2), "{longest:?} turns in a row");
    }

    #[test]
    fn different_turns_begin_with_different_hosts() {
        let first = |turn| deal(&(0..=99), &[16; 3], turn)[0].hosts[0];
        assert_eq!([first(0), first(1), first(2), first(3)], [0, 1, 2, 0]);
    }

    #[test]
    fn windows_of_one_extent_go_round_as_the_film_goes_on() {
        let first = |extent: u32| deal(&(extent..=extent), &[16; 3], 0)[0].hosts[0];
        assert_eq!([first(0), first(1), first(2), first(3)], [0, 1, 2, 0]);
    }

    #[test]
    fn the_part_of_a_host_that_fails_goes_to_all_others() {
        let ranges = deal(&(0..=1_999), &[16; 4], 0);
        let mut heirs = [0_u32; 4];
        for range in ranges.iter().filter(|range| range.hosts[0] == 0) {
            heirs[range.hosts[1] as usize] += 1;
        }
        assert!(heirs[1..].iter().all(|heir| *heir >= 8), "{heirs:?}");
    }

    #[test]
    fn a_window_that_is_too_long_is_answered_in_part() {
        let ranges = deal(&(0..=u32::MAX - 1), &[16; 2], 0);
        assert_eq!(ranges.len(), RANGES_MAX);
        assert_eq!(*ranges[RANGES_MAX - 1].extents.end(), RANGES_MAX as u32 * RANGE_EXTENTS_MAX - 1);
    }

    #[test]
    fn without_hosts_there_is_nothing_to_deal() {
        assert_eq!(deal(&(0..=9), &[], 0), []);
    }

    proptest! {
        #[test]
        fn ranges_cover_the_window_without_gap_or_overlap(
            start in 0_u32..1_000_000, extents in 1_u32..20_000,
            weights in prop::collection::vec(0_u32..40, 1..12), turn: u64,
        ) {
            let window = start..=start + extents - 1;
            let ranges = deal(&window, &weights, turn);
            let mut next = start;
            for range in &ranges {
                prop_assert_eq!(*range.extents.start(), next);
                prop_assert!(range.extents.end() >= range.extents.start());
                prop_assert!(range.extents.end() - range.extents.start() < RANGE_EXTENTS_MAX);
                next = range.extents.end() + 1;
                let mut hosts = range.hosts.clone();
                hosts.sort_unstable();
                hosts.dedup();
                prop_assert_eq!(hosts.len(), weights.len().min(HOSTS_PER_RANGE_MAX), "hosts are all different");
                prop_assert!(hosts.iter().all(|host| (*host as usize) < weights.len()));
            }
            prop_assert_eq!(next, start + extents);
            prop_assert_eq!(deal(&window, &weights, turn), ranges, "deterministic");
        }

        #[test]
        fn equal_hosts_get_equal_turns(extents in 1_u32..20_000, hosts in 1_usize..12, turn: u64) {
            let ranges = deal(&(0..=extents - 1), &vec![16; hosts], turn);
            let mut turns = vec![0_u32; hosts];
            for range in &ranges {
                turns[range.hosts[0] as usize] += 1;
            }
            let (least, most) = (turns.iter().min().copied(), turns.iter().max().copied());
            prop_assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "{:?}", turns);
        }
    }
}
