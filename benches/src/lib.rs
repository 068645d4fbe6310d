//! braidcast-benches
