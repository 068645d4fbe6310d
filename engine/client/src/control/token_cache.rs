//! Tokens kept beside the profile, so that not every command logs in anew.
//!
//! A refresh token is good for one use, so processes that share a profile take turns: whoever holds the lock file
//! reads the newest tokens, trades them if needed and writes the next. The cache is a convenience: one that is
//! missing, corrupted or of another master is as good as none.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use crate::private_file;
use crate::profile::Profile;
use crate::secret::Secret;

/// Another process that logs in is waited for this long; then both go on, and one of them may have to log in again.
const LOCK_WAIT: Duration = Duration::from_secs(15);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// The file of tokens that belongs to a profile.
#[derive(Debug)]
pub(super) struct TokenCache {
    path: PathBuf,
    lock_path: PathBuf,
    owner: String,
}

/// What the cache holds.
#[derive(Clone, Debug)]
pub(super) struct CachedTokens {
    pub(super) access: AccessToken,
    pub(super) refresh: Secret,
}

/// An access token, and how long it may be used by this machine's own clock.
#[derive(Clone, Debug)]
pub(super) struct AccessToken {
    pub(super) text: Secret,
    pub(super) use_until: SystemTime,
}

#[derive(Serialize)]
struct CacheText<'a> {
    owner: &'a str,
    access_token: &'a str,
    use_until_unix_s: u64,
    refresh_token: &'a str,
}

#[derive(Deserialize)]
struct CacheFile {
    owner: String,
    access_token: Secret,
    use_until_unix_s: u64,
    refresh_token: Secret,
}

impl TokenCache {
    /// The cache of `profile`: `profile.toml` has `profile.tokens.toml` beside it.
    pub(super) fn of(profile: &Profile) -> Self {
        Self {
            path: profile.path.with_extension("tokens.toml"),
            lock_path: profile.path.with_extension("tokens.lock"),
            owner: owner(profile),
        }
    }

    /// Waits for this process's turn, which lasts until the file is dropped; nothing where the folder cannot be
    /// written or the wait was too long.
    pub(super) async fn lock(&self) -> Option<File> {
        let file = File::options().create(true).truncate(false).write(true).open(&self.lock_path).ok()?;
        let give_up = Instant::now() + LOCK_WAIT;
        while file.try_lock().is_err() {
            if Instant::now() > give_up {
                tracing::debug!("{} stays locked; going on without it", self.lock_path.display());
                return None;
            }
            sleep(LOCK_POLL).await;
        }
        Some(file)
    }

    /// The newest tokens, if there are any of this profile's user and master.
    pub(super) fn read(&self) -> Option<CachedTokens> {
        let text = fs::read_to_string(&self.path).ok()?;
        let Ok(file) = toml::from_str::<CacheFile>(&text) else {
            tracing::debug!("ignoring the corrupted token cache {}", self.path.display());
            return None;
        };
        let use_until = UNIX_EPOCH.checked_add(Duration::from_secs(file.use_until_unix_s))?;
        let access = AccessToken { text: file.access_token, use_until };
        (file.owner == self.owner).then_some(CachedTokens { access, refresh: file.refresh_token })
    }

    /// Keeps `tokens` for the next process. A folder that cannot be written costs no more than another login.
    pub(super) fn write(&self, tokens: &CachedTokens) {
        let since_epoch = tokens.access.use_until.duration_since(UNIX_EPOCH).unwrap_or_default();
        let text = CacheText {
            owner: &self.owner,
            access_token: tokens.access.text.expose(),
            use_until_unix_s: since_epoch.as_secs(),
            refresh_token: tokens.refresh.expose(),
        };
        let text = toml::to_string(&text).expect("a table of texts and numbers is TOML");
        let written = private_file::write(&self.path, text.as_bytes());
        if let Err(error) = written.or_else(|error| self.overwrite(text.as_bytes(), error)) {
            tracing::warn!("cannot keep the login in {}: {error}", self.path.display());
        }
    }

    /// On a full disk, writes over the tokens that are there, which takes no more room: the refresh token among them
    /// is spent, and would be refused the next time.
    fn overwrite(&self, text: &[u8], error: io::Error) -> io::Result<()> {
        if !matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
            return Err(error);
        }
        // Without truncating: another program could take the block that is given back.
        let Ok(mut file) = File::options().write(true).open(&self.path) else { return Err(error) };
        file.write_all(text)?;
        file.set_len(text.len() as u64)
    }

    #[cfg(test)]
    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }
}

/// Tells the tokens of one profile from those of an earlier one at the same path. A master is known by its certificate
/// authority, of which a hash will do, and not by its address: one that moved to another host takes its tokens, and the
/// token in the profile may have been spent since.
fn owner(profile: &Profile) -> String {
    let ca = blake3::hash(profile.ca_pem.as_bytes()).to_hex();
    format!("{} {ca}", profile.username)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::*;
    use crate::profile::Credential;

    fn profile(dir: &Path, master: &str) -> Profile {
        Profile {
            path: dir.join("profile.toml"),
            master: master.to_owned(),
            ca_pem: "PEM".to_owned(),
            username: "ada".to_owned(),
            credential: Credential::Password(Secret::new("x")),
        }
    }

    fn tokens() -> CachedTokens {
        let use_until = UNIX_EPOCH + Duration::from_secs(1_000);
        CachedTokens { access: AccessToken { text: Secret::new("access"), use_until }, refresh: Secret::new("refresh") }
    }

    #[test]
    fn tokens_read_back_privately() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let cache = TokenCache::of(&profile(dir.path(), "m:1"));
        cache.write(&tokens());
        let read = cache.read().expect("just written");
        assert_eq!(read.access.text, tokens().access.text);
        assert_eq!(read.access.use_until, tokens().access.use_until);
        assert_eq!(read.refresh, tokens().refresh);
        let mode = fs::metadata(cache.path()).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn tokens_are_written_over_where_the_disk_is_full() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let cache = TokenCache::of(&profile(dir.path(), "m:1"));
        let full = || io::Error::from(io::ErrorKind::StorageFull);
        cache.overwrite(b"new", full()).expect_err("no file that could be written over");
        fs::write(cache.path(), "longer than the new text").expect("writable");
        cache.overwrite(b"new", full()).expect("writable");
        assert_eq!(fs::read(cache.path()).expect("readable"), b"new");
        cache.overwrite(b"x", io::ErrorKind::PermissionDenied.into()).expect_err("for another reason");
    }

    #[test]
    fn tokens_of_another_master_are_ignored_and_those_of_one_that_moved_are_not() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        TokenCache::of(&profile(dir.path(), "m:1")).write(&tokens());
        assert!(TokenCache::of(&profile(dir.path(), "m:2")).read().is_some());
        let other = Profile { ca_pem: "another".to_owned(), ..profile(dir.path(), "m:1") };
        assert!(TokenCache::of(&other).read().is_none());
    }

    #[test]
    fn a_corrupted_cache_is_ignored() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let cache = TokenCache::of(&profile(dir.path(), "m:1"));
        for broken in ["", "owner = ", "owner = 'x'", "\u{0}\u{1}"] {
            fs::write(cache.path(), broken).expect("writable");
            assert!(cache.read().is_none(), "{broken:?}");
        }
    }

    #[tokio::test]
    async fn only_one_holder_at_a_time() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let cache = TokenCache::of(&profile(dir.path(), "m:1"));
        let first = cache.lock().await.expect("free");
        let waits = tokio::time::timeout(LOCK_POLL * 5, cache.lock()).await;
        assert!(waits.is_err(), "the second holder waits");
        drop(first);
        assert!(cache.lock().await.is_some());
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_needs_no_lock() {
        let cache = TokenCache::of(&profile(Path::new("/nowhere"), "m:1"));
        assert!(cache.lock().await.is_none());
    }
}
