//! The `braidcast` command through real processes on loopback.

mod adversity;
mod clocks;
mod crashes;
mod errors;
mod failover;
mod fetch;
mod no_data;
mod publishing;
mod secrets;
mod support;
