//! braidcast-master
