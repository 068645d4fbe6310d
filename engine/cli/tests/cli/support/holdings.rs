//! What origin and servers hold, looked at from outside.

use std::fs;
use std::path::Path;

use super::{Dev, eventually};

/// Asserts that the master lists exactly these videos, and that origin and servers come to hold one pack of each and
/// nothing else.
///
/// # Panics
/// If the list is another, or something else stays in one of the folders.
#[track_caller]
pub(crate) fn assert_holds_only(dev: &Dev, videos: &[&str]) {
    let mut expected = videos.to_vec();
    expected.sort_unstable();
    assert_eq!(dev.client().names(), expected);
    let of_servers = (1..=dev.servers().len()).map(|number| dev.state().join(format!("server-{number}")));
    for folder in of_servers.chain([dev.state().join("master/origin")]) {
        let what = format!("{} holds {} whole packs and nothing else", folder.display(), videos.len());
        eventually(&what, || {
            let files = packs(&folder);
            (files.len() == videos.len() && files.iter().all(|file| file.ends_with(".pack"))).then_some(())
        });
    }
}

/// Names of the packs in a server's folder or the origin, whole or not: of all files that are not about the server
/// itself.
pub(crate) fn packs(folder: &Path) -> Vec<String> {
    let mut files = file_names(folder);
    files.retain(|file| !["lock", "server-id", "library-id", "orphans"].contains(&file.as_str()));
    files
}

/// Names of the files in `folder`.
pub(crate) fn file_names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}
