//! `braidcast._native`: Braidcast for Python. The package in `python/braidcast` is the face that it shows; its stub
//! `_native.pyi` documents what is exported here.
//!
//! **A call from Python never waits with the GIL held, and never longer than `wait::SIGNAL_INTERVAL` without a look
//! at Python's signals.**
//!
//! - `player`, `frame`: a film that plays, and its pictures; `arrays`: pictures as numpy arrays
//! - `download`, `catalogue`: whole files, and what there is
//! - `command`: the `braidcast` command and its probe
//! - `wait`: the runtime, and waiting for it; `session`: from a profile to a master; `fork`: which process this is
//! - `errors`: Rust's errors as Python's exceptions; `records`: Rust's reports as Python's data classes
#![deny(unsafe_code)]

mod arrays;
mod catalogue;
mod command;
mod download;
mod errors;
mod fork;
mod frame;
mod player;
mod records;
mod session;
mod wait;

/// Pictures are large and come and go at the film's pace; mimalloc keeps their pages at hand.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The part of the package that is written in Rust.
#[pyo3::pymodule(name = "_native")]
mod native {
    use pyo3::prelude::*;

    #[pymodule_export]
    use super::catalogue::list_videos;
    #[pymodule_export]
    use super::command::{cli, probe};
    #[pymodule_export]
    use super::download::download;
    #[pymodule_export]
    use super::frame::Frame;
    #[pymodule_export]
    use super::player::{Player, open};

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}
