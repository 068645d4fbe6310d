//! Tests of the plain data of Braidcast through its public face: golden bytes, parsers under arbitrary input, layouts,
//! and files sealed into packs and opened again.

mod golden;
mod hex;
mod layouts;
mod packs;
mod parsers;
mod sealing;

use proptest::test_runner::{Config, RngSeed};

/// Property tests try the same cases in every run; `PROPTEST_CASES` asks for more of them.
fn fixed_seed() -> Config {
    Config { rng_seed: RngSeed::Fixed(0x6272_6169_6463_6173), failure_persistence: None, ..Config::default() }
}
