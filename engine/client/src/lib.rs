//! braidcast-client
