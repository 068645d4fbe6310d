//! braidcast-server
