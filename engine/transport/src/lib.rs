//! braidcast-transport
