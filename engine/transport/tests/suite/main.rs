//! Tests of the protocol through its public face: what the server's side answers, what the client's side believes, and
//! whole downloads over links that lose, repeat, reorder and damage packets, all in virtual time.

mod arbitrary;
mod asset;
mod believing;
mod downloads;
mod finding_losses;
mod full_tables;
mod greeting_a_server;
mod link;
mod pulling;
mod scripted;
mod server;
mod sessions;
mod wire;
mod world;

use proptest::test_runner::{Config, RngSeed};

/// Property tests try the same cases in every run; `PROPTEST_CASES` asks for more of them.
fn fixed_seed(cases: u32) -> Config {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|said| said.parse().ok()).unwrap_or(cases);
    Config { cases, rng_seed: RngSeed::Fixed(0x7472_616e_7370), failure_persistence: None, ..Config::default() }
}
