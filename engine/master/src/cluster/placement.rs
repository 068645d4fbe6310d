//! Which media servers should hold an asset: a pure function of the asset and the servers.
//!
//! Weighted rendezvous hashing: each server draws a score from its id and the asset's, stretched by its capacity, and
//! the best scores win. A server that comes or goes moves only what it wins or held; nothing else.

use braidcast_media::AssetId;

/// A server as placement sees it.
#[derive(Clone, Debug)]
pub(crate) struct Candidate<'a> {
    pub(crate) server_id: &'a str,
    /// Bytes that it may use in all.
    pub(crate) capacity_bytes: u64,
    /// Bytes that it has left.
    pub(crate) free_bytes: u64,
    /// It holds the asset, or a part of it: its room is spent already.
    pub(crate) holds: bool,
}

/// What is to be placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) asset: AssetId,
    /// Bytes that its pack takes on a disk.
    pub(crate) disk_bytes: u64,
    /// How many servers; 0 = all.
    pub(crate) replicas: u32,
}

/// Indices of the servers that should hold the asset. Fewer than wanted where there are not enough with room.
pub(crate) fn place(wanted: Wanted, candidates: &[Candidate<'_>]) -> Vec<usize> {
    let fits = |candidate: &Candidate<'_>| candidate.holds || candidate.free_bytes >= wanted.disk_bytes;
    let fitting = candidates.iter().enumerate().filter(|(_, candidate)| fits(candidate)).map(|(index, _)| index);
    let fitting: Vec<usize> = fitting.collect();
    if wanted.replicas == 0 || wanted.replicas as usize >= fitting.len() {
        return fitting;
    }
    let mut scored: Vec<(f64, usize)> =
        fitting.into_iter().map(|index| (score(wanted.asset, &candidates[index]), index)).collect();
    scored
        .sort_by(|(a, i), (b, j)| b.total_cmp(a).then_with(|| candidates[*i].server_id.cmp(candidates[*j].server_id)));
    scored.into_iter().take(wanted.replicas as usize).map(|(_, index)| index).collect()
}

/// -capacity / ln(u), u uniform in (0, 1): the largest is server i's with probability capacity i / all capacities.
fn score(asset: AssetId, candidate: &Candidate<'_>) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&asset.0.to_be_bytes());
    hasher.update(candidate.server_id.as_bytes());
    let mut draw = [0; 8];
    hasher.finalize_xof().fill(&mut draw);
    // 52 bits and a half: exact in an f64, and neither 0 nor 1.
    let uniform = ((u64::from_be_bytes(draw) >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
    -(candidate.capacity_bytes.max(1) as f64) / uniform.ln()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn servers(ids: &[String], capacity: u64) -> Vec<Candidate<'_>> {
        ids.iter()
            .map(|id| Candidate { server_id: id, capacity_bytes: capacity, free_bytes: capacity, holds: false })
            .collect()
    }

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|n| format!("server-{n}")).collect()
    }

    fn wanted(asset: u64, replicas: u32) -> Wanted {
        Wanted { asset: AssetId(asset), disk_bytes: 1_000, replicas }
    }

    #[test]
    fn zero_replicas_means_all_and_more_than_there_are_means_all() {
        let ids = ids(3);
        let servers = servers(&ids, 1 << 30);
        for (replicas, placed) in [(0, 3), (1, 1), (2, 2), (3, 3), (9, 3)] {
            assert_eq!(place(wanted(7, replicas), &servers).len(), placed);
        }
        assert_eq!(place(wanted(7, 0), &[]), Vec::<usize>::new());
    }

    #[test]
    fn a_full_server_gets_nothing_new_and_keeps_what_it_holds() {
        let ids = ids(1);
        let mut servers = servers(&ids, 1 << 30);
        servers[0].free_bytes = 999;
        assert!(place(wanted(7, 0), &servers).is_empty());
        servers[0].free_bytes = 1_000;
        assert_eq!(place(wanted(7, 0), &servers), [0]);
        servers[0].free_bytes = 0;
        servers[0].holds = true;
        assert_eq!(place(wanted(7, 0), &servers), [0]);
    }

    #[test]
    fn shares_follow_capacity() {
        let ids = ids(3);
        let mut servers = servers(&ids, 100 << 30);
        servers[2].capacity_bytes *= 2;
        let mut counts = [0_u32; 3];
        for asset in 0..4_000 {
            counts[place(wanted(asset, 1), &servers)[0]] += 1;
        }
        // A quarter, a quarter, a half: 1,000, 1,000, 2,000, with a deviation of about 32.
        assert!(counts[0].abs_diff(1_000) < 200 && counts[1].abs_diff(1_000) < 200, "{counts:?}");
        assert!(counts[2].abs_diff(2_000) < 200, "{counts:?}");
    }

    proptest! {
        #[test]
        fn a_server_that_goes_moves_only_what_it_held(
            asset: u64, count in 2_usize..9, replicas in 1_u32..5, gone in 0_usize..8,
        ) {
            let ids = ids(count);
            let all = servers(&ids, 1 << 30);
            let gone = gone % count;
            let names = |picked: Vec<usize>, from: &[Candidate<'_>]| -> Vec<String> {
                picked.into_iter().map(|i| from[i].server_id.to_owned()).collect()
            };
            let before = names(place(wanted(asset, replicas), &all), &all);
            let mut rest = all.clone();
            rest.remove(gone);
            let after = names(place(wanted(asset, replicas), &rest), &rest);
            for name in before.iter().filter(|name| **name != ids[gone]) {
                prop_assert!(after.contains(name));
            }
        }
    }
}
