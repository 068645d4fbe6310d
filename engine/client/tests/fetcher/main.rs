//! The fetcher against real responders, in virtual time: no socket, no thread, no clock.

mod asset;
mod bounds;
mod downloads;
mod early;
mod setbacks;
mod traces;
mod world;
