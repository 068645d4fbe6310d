//! Many random worlds, and proof that they find what they are there to find.

use braidcast_sim::client::Planted;
use braidcast_sim::swarm::Plan;

/// Worlds of one run; `BRAIDCAST_SIM_SEEDS` asks for others.
const SEEDS: u64 = 1_000;
/// Worlds within which a planted fault must be found.
const SEEDS_TO_FIND: u64 = 1_000;

#[test]
fn every_random_world_delivers_what_was_published_within_all_bounds() {
    let said = std::env::var("BRAIDCAST_SIM_SEEDS").ok();
    let seeds = said.map_or(SEEDS, |said| said.parse().expect("BRAIDCAST_SIM_SEEDS is a number of worlds"));
    for seed in 0..seeds {
        if let Err(failure) = Plan::new(seed).run() {
            panic!("{failure}");
        }
    }
}

/// Mechanism: an extent that one source alone was to give, and could not, was planned anew as a whole: also what that source
/// still owed. Its word that it did not hold that planned it once more, while another was about to give it.
#[test]
fn what_an_extents_only_source_still_owes_is_not_planned_twice() {
    Plan::new(4806).run().unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_random_world_run_again_leaves_the_same_trace() {
    for seed in 0..20 {
        let hash = || Plan::new(seed).run().map_err(|failure| failure.to_string());
        assert_eq!(hash(), hash(), "seed {seed}");
    }
}

/// The first failure that a fault within the client leads to.
fn found(planted: Planted, expected: &str) {
    let failed = (0..SEEDS_TO_FIND).find_map(|seed| Plan::new(seed).with_planted(planted).run().err());
    let failure = failed.unwrap_or_else(|| panic!("{planted:?} is not found in {SEEDS_TO_FIND} worlds"));
    assert!(failure.what.contains(expected), "{planted:?} leads to another failure: {failure}");
    println!("{planted:?}: found by seed {}", failure.plan.seed);
}

#[test]
fn chunks_that_are_pulled_twice_are_found() {
    found(Planted::DoublePull, "while it is on its way");
}

#[test]
fn buffers_that_leak_are_found() {
    found(Planted::LeakedBuffer, "buffers are lent, and the player has");
}

#[test]
fn wrong_chunks_that_are_accepted_are_found() {
    found(Planted::WrongChunkAccepted, "is not what was published");
}
