//! Folders of a run, the file that is served, and what is compared with it.

use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::Pid;

/// Names are `bc-peers-PID`, so that a later run knows whose they were.
const PREFIX: &str = "bc-peers-";
/// Where files are memory.
pub(crate) const TMPFS: &str = "/dev/shm";
/// Read and written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// A folder. Dropped, it is removed.
#[derive(Debug)]
pub(crate) struct Folder(PathBuf);

impl Folder {
    /// Makes one of this run in `parent`, which must have room for so many bytes.
    pub(crate) fn create(parent: &Path, bytes: u64, remedy: &str) -> Result<Self> {
        let shown = || parent.display().to_string();
        let room = statvfs(parent).with_context(shown)?;
        let free = room.blocks_available() * room.fragment_size();
        if free < bytes {
            bail!("{}: {} MB are free, {} are wanted; {remedy}", shown(), free / 1_000_000, bytes / 1_000_000);
        }
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
        Ok(Self(path))
    }

    /// Something in it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("peers: {} is left: {error}", self.0.display());
        }
    }
}

/// Removes the folders of runs that were killed.
pub(crate) fn sweep(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent).with_context(|| parent.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        if owner.is_some_and(|pid| pid.parse::<u32>().is_ok() && !Path::new("/proc").join(pid).exists()) {
            end_holders(&entry.path())?;
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

/// Asks every process to end whose command line names something in this folder: servers outlive a run that was
/// killed.
fn end_holders(folder: &Path) -> Result<()> {
    let wanted = format!("{}/", folder.display());
    for entry in fs::read_dir("/proc").context("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if String::from_utf8_lossy(&line).contains(&wanted) {
            // One that has ended meanwhile is what was wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
    }
    Ok(())
}

/// Writes a file that nothing can compress.
pub(crate) fn write_noise(path: &Path, bytes: u64) -> Result<()> {
    let mut file = BufWriter::with_capacity(PIECE_BYTES, File::create(path).context(path.display().to_string())?);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut left = bytes;
    while left > 0 {
        // Marsaglia's xorshift64: noise for a compressor, and quick.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state.to_le_bytes();
        let take = left.min(word.len() as u64);
        file.write_all(&word[..take as usize])?;
        left -= take;
    }
    file.into_inner()?.sync_all()?;
    Ok(())
}

/// Fails unless both files hold the same.
pub(crate) fn check_same(one: &Path, other: &Path) -> Result<()> {
    let open = |path: &Path| File::open(path).with_context(|| path.display().to_string());
    let (mut left, mut right) = (open(one)?, open(other)?);
    let (mut near, mut far) = (vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    let mut offset = 0;
    loop {
        let count = read_full(&mut left, &mut near)?;
        let same = read_full(&mut right, &mut far)? == count && near[..count] == far[..count];
        if !same {
            bail!("{}: not what was served, from byte {offset} or a little later on", other.display());
        }
        if count == 0 {
            return Ok(());
        }
        offset += count as u64;
    }
}

/// Reads until `room` is full or the file ends.
fn read_full(file: &mut File, room: &mut [u8]) -> Result<usize> {
    let mut filled = 0;
    while filled < room.len() {
        match file.read(&mut room[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_differ_in_a_byte_or_in_length_are_found() {
        let folder = Folder(std::env::temp_dir().join(format!("bc-peers-test-files-{}", std::process::id())));
        fs::create_dir_all(&folder.0).expect("room");
        let (one, other) = (folder.path("one"), folder.path("other"));
        write_noise(&one, 2_000_003).expect("room");
        fs::copy(&one, &other).expect("room");
        assert_eq!(fs::metadata(&one).expect("there").len(), 2_000_003);
        check_same(&one, &other).expect("a copy");
        let mut bytes = fs::read(&other).expect("there");
        bytes[1_999_999] ^= 1;
        fs::write(&other, &bytes).expect("room");
        assert!(check_same(&one, &other).is_err());
        bytes[1_999_999] ^= 1;
        fs::write(&other, &bytes[..2_000_002]).expect("room");
        assert!(check_same(&one, &other).is_err());
    }

    #[test]
    fn servers_that_outlived_their_run_are_ended() {
        use std::os::unix::process::{CommandExt, ExitStatusExt};

        let folder = std::env::temp_dir().join(format!("bc-peers-test-holders-{}", std::process::id()));
        // The folder stands where a program's own name does, as nginx has it: sleep takes no further words.
        let mut holder = std::process::Command::new("sleep").arg0(folder.join("x")).arg("60").spawn().expect("sleep");
        // Right after exec(2) the new words may not be seen yet.
        let line = format!("/proc/{}/cmdline", holder.id());
        while fs::read(&line).expect("it runs").is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        end_holders(&folder).expect("/proc");
        assert_eq!(holder.wait().expect("a child").signal(), Some(Signal::SIGTERM as i32));
    }

    #[test]
    fn a_folder_without_room_is_refused_with_a_remedy() {
        let error = Folder::create(&std::env::temp_dir(), u64::MAX, "take fewer --bytes").expect_err("too much");
        assert!(error.to_string().contains("take fewer --bytes"), "{error:#}");
    }
}
