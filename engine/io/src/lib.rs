//! braidcast-io
