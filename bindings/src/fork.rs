//! Which process this is: threads do not survive a fork, so neither does what relies on them.

use pyo3::prelude::*;

use crate::errors;

/// The process that made something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Maker(u32);

impl Maker {
    /// The process that runs this.
    pub(crate) fn this_process() -> Self {
        Self(std::process::id())
    }

    /// This process is a forked child of the maker.
    pub(crate) fn is_gone(self) -> bool {
        self != Self::this_process()
    }

    /// Fails in a forked child of the maker.
    pub(crate) fn check(self, name: &str) -> PyResult<()> {
        if self.is_gone() { Err(errors::forked(name)) } else { Ok(()) }
    }
}
