//! The client of Braidcast: the control plane ([`profile`], [`control`], [`publish`]) and the data engine.
#![forbid(unsafe_code)]

mod checker;
pub mod control;
pub mod download;
mod engine;
pub mod error;
pub mod fetcher;
pub mod film;

pub mod planner;
pub mod private_file;
pub mod profile;
pub mod publish;
mod reports;
pub mod secret;
mod sink;
pub mod trace;
mod ways;

pub mod window;

pub use control::Control;
pub use error::ControlError;
pub use profile::Profile;
pub use secret::Secret;
