//! Tests that cannot run here.

use std::fs::OpenOptions;
use std::io::Write;

/// Says that the test that calls cannot run here, and why; it should return then. The line also goes to the file
/// that `$BRAIDCAST_SKIPS` names, if it names one, so that skipped tests are counted.
pub(crate) fn skip(reason: &str) {
    let thread = std::thread::current();
    let line = format!("{}: {reason}\n", thread.name().unwrap_or("a test"));
    print!("skipped: {line}");
    let Some(path) = std::env::var_os("BRAIDCAST_SKIPS") else { return };
    let file = OpenOptions::new().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
