//! A film that the benches make with the `ffmpeg` program.

use std::path::Path;
use std::process::Command;

/// 20 s of 720p at 30 pictures a second, with B-frames and sound.
pub(crate) fn make(path: &Path) {
    let status = Command::new("ffmpeg")
        .args(["-nostdin", "-loglevel", "error", "-f", "lavfi", "-i", "testsrc2=size=1280x720:rate=30"])
        .args(["-f", "lavfi", "-i", "sine=frequency=440", "-t", "20"])
        .args(["-c:v", "libx264", "-preset", "veryfast", "-bf", "3", "-g", "48", "-c:a", "aac"])
        .arg(path)
        .status();
    assert!(status.is_ok_and(|status| status.success()), "ffmpeg makes no film; `make bench` installs it");
}
