//! The `braidcast` command.

use std::path::{Path, PathBuf};

/// The command that `make bench` has built.
pub(crate) fn braidcast() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/release/braidcast")
}
