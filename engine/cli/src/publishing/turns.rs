//! Which of many files are published at the same time. It decides, and does nothing itself.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;

/// Small files that are published at a time. While one waits for the master's disk, others are looked into and sealed: more
/// than eight gained nothing on two cores (500 files of 1 KB).
pub(super) const AT_ONCE: u32 = 8;
/// From here on a file is large: it keeps the network busy by itself, and an interruption loses what of it was sent.
const LARGE_BYTES: u64 = 64 * 1024 * 1024;
/// As many small files is a large one worth: two at a time, so that one is looked into while the other is sent.
const LARGE_WEIGHT: u32 = AT_ONCE / 2;

/// What a file takes while it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    /// The video's name. Of two files with one name the first is published first, as it would be without overlap.
    name: OsString,
    /// Places of [`AT_ONCE`] that one such file takes.
    weight: u32,
}

impl Claim {
    /// The claim of the file of `bytes` at `path`.
    pub(super) fn of(path: &Path, bytes: u64) -> Self {
        let weight = if bytes < LARGE_BYTES { 1 } else { LARGE_WEIGHT };
        Self { name: path.file_name().unwrap_or_default().to_owned(), weight }
    }
}

/// The files under way.
#[derive(Debug, Default)]
pub(super) struct Turns {
    names: HashSet<OsString>,
    weight: u32,
}

impl Turns {
    /// Starts a file, if it may be started beside those under way; says whether it may.
    pub(super) fn take(&mut self, claim: &Claim) -> bool {
        if self.weight + claim.weight > AT_ONCE || self.names.contains(&claim.name) {
            return false;
        }
        self.weight += claim.weight;
        self.names.insert(claim.name.clone())
    }

    /// Ends a file.
    pub(super) fn give_back(&mut self, claim: &Claim) {
        self.weight -= claim.weight;
        self.names.remove(&claim.name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, bytes: u64) -> Claim {
        Claim::of(Path::new(name), bytes)
    }

    #[test]
    fn eight_small_files_or_two_large_ones_are_under_way() {
        let mut turns = Turns::default();
        let small = |n: u32| claim(&format!("small-{n}"), LARGE_BYTES - 1);
        assert!((0..AT_ONCE).all(|n| turns.take(&small(n))));
        assert!(!turns.take(&small(AT_ONCE)));
        turns.give_back(&small(0));
        assert!(turns.take(&small(AT_ONCE)));

        let mut turns = Turns::default();
        let large = |n: u32| claim(&format!("large-{n}"), LARGE_BYTES);
        assert!(turns.take(&large(1)) && turns.take(&large(2)));
        assert!(!turns.take(&large(3)) && !turns.take(&small(1)));
    }

    #[test]
    fn files_of_one_name_follow_each_other() {
        let mut turns = Turns::default();
        assert!(turns.take(&claim("a/film", 1)));
        assert!(!turns.take(&claim("b/film", 1)) && turns.take(&claim("b/other", 1)));
        turns.give_back(&claim("a/film", 1));
        assert!(turns.take(&claim("b/film", 1)));
    }

    #[test]
    fn whatever_a_file_is_it_may_be_alone() {
        for bytes in [0, LARGE_BYTES, u64::MAX] {
            assert!(Turns::default().take(&claim("..", bytes)));
        }
    }
}
