//! braidcast-cli
