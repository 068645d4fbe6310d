//! The `braidcast` command through real processes on loopback.

mod adversity;
#[path = "../../../av/tests/av/clips.rs"]
mod clips;
mod clocks;
mod crashes;
mod errors;
mod failover;
mod fetch;
mod films;
mod full_disk;
mod healing;
mod lanes;
mod library;
mod many_files;
mod many_videos;
mod no_data;
mod publishing;
#[path = "../../../av/tests/av/reference.rs"]
mod reference;
mod secrets;
mod strangers;
mod support;
mod traces;
mod udp_blocked;
