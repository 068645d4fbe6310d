//! The videos of a `dev`: published from a folder, and waited for until every server can serve them.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use braidcast_client::control::{VideoRef, Window};
use braidcast_client::publish::{Kind, PublishError, PublishOptions, is_surely_no_film, publish_file};
use braidcast_client::{Control, ControlError, Profile};
use braidcast_media::ExtentNo;
use tokio::time::{Instant, sleep};

use super::DevError;
use crate::error::CliError;
use crate::output;
use crate::progress::FileShare;
use crate::publishing::{Outcome, publish_each};
use crate::relaunch;

const POLL: Duration = Duration::from_millis(50);
/// After a call that failed because the master is away.
const RETRY: Duration = Duration::from_millis(500);
/// What is still waited for is told this often.
const TELL_INTERVAL: Duration = Duration::from_secs(5);

/// What became of the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Prepared {
    /// Videos that every server can serve.
    pub(super) videos: usize,
    /// Files that could not be published; each was reported.
    pub(super) failed: usize,
}

/// The regular files in `dir`, by name; hidden ones are left out.
pub(super) fn files(dir: &Path) -> Result<Vec<PathBuf>, DevError> {
    let wrong = |source| DevError::Videos { path: dir.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(wrong)? {
        let entry = entry.map_err(wrong)?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        // A link to a file is a file to whoever put it there.
        if !hidden && std::fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file()) {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// Publishes what of `files` is not published, and waits until the servers at `addresses` can serve every video. It
/// outlasts a master or server that is away for a while.
pub(super) async fn prepare(
    profile: Profile,
    files: Vec<PathBuf>,
    addresses: Vec<String>,
) -> Result<Prepared, CliError> {
    let mut library = Library { profile, files, addresses, failed: HashSet::new() };
    loop {
        match library.attempt().await {
            Err(CliError::Control(error)) if is_passing(&error) => {
                tracing::debug!(%error, "trying again");
                sleep(RETRY).await;
            }
            outcome => return outcome,
        }
    }
}

/// Waits until the master lists the server at `address`, by a report that is younger than `since`.
pub(super) async fn wait_listed(profile: &Profile, address: &str, since: Instant) -> Result<(), CliError> {
    loop {
        let listed = async { Control::connect(profile).await?.list_servers().await };
        match listed.await {
            Ok(servers) => {
                let age = |ms| Duration::from_millis(ms);
                let again = |server: &&braidcast_proto::v1::ServerStatus| {
                    server.address == address && server.listed && age(server.heartbeat_age_ms) < since.elapsed()
                };
                if servers.iter().any(|server| again(&server)) {
                    return Ok(());
                }
            }
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error.into()),
        }
        sleep(POLL).await;
    }
}

struct Library {
    profile: Profile,
    files: Vec<PathBuf>,
    addresses: Vec<String>,
    failed: HashSet<PathBuf>,
}

impl Library {
    async fn attempt(&mut self) -> Result<Prepared, CliError> {
        let control = Control::connect(&self.profile).await?;
        self.wait_servers(&control).await?;
        self.publish_missing(&control).await?;
        let videos = self.wait_held(&control).await?;
        Ok(Prepared { videos, failed: self.failed.len() })
    }

    async fn wait_servers(&self, control: &Control) -> Result<(), CliError> {
        let mut told = Told::now();
        loop {
            let servers = control.list_servers().await?;
            let is_listed =
                |address: &&String| servers.iter().any(|server| server.listed && server.address == **address);
            let Some(missing) = self.addresses.iter().find(|address| !is_listed(address)) else {
                return Ok(());
            };
            let known = servers.iter().find(|server| server.address == *missing);
            let reason = known.map_or("it has not joined", |server| server.reason.as_str());
            told.tell(|| format!("waiting for the server at {missing}: {reason}"));
            sleep(POLL).await;
        }
    }

    async fn publish_missing(&mut self, control: &Control) -> Result<(), CliError> {
        let published: HashSet<String> = control.list_videos().await?.into_iter().map(|video| video.name).collect();
        let is_published = |file: &PathBuf| {
            file.file_name().and_then(|name| name.to_str()).is_some_and(|name| published.contains(name))
        };
        let missing = |file: &&PathBuf| !self.failed.contains(*file) && !is_published(file);
        let files: Vec<PathBuf> = self.files.iter().filter(missing).cloned().collect();
        if files.is_empty() {
            return Ok(());
        }
        let publish = |file, share| publish_as_it_is(control.clone(), file, share);
        publish_each(&files, publish, |file, outcome| {
            match outcome {
                Ok(video) => tracing::info!(name = video.name, bytes = video.bytes, "published"),
                Err(PublishError::Control(error)) if is_passing(&error) => return Err(error.into()),
                Err(error) => {
                    eprintln!("braidcast: not published: {}", output::one_line(&error.to_string()));
                    self.failed.insert(file.to_owned());
                }
            }
            Ok(())
        })
        .await
    }

    /// Waits until every video is held by all servers that should and can be asked for; gives their number.
    async fn wait_held(&self, control: &Control) -> Result<usize, CliError> {
        let mut told = Told::now();
        let servers = self.addresses.len() as u32;
        loop {
            let videos = control.list_videos().await?;
            let wanted = |wanted: u32| if wanted == 0 { servers } else { wanted.min(servers) };
            let waiting = videos.iter().find(|video| video.replicas_held < wanted(video.replicas_wanted));
            let Some(video) = waiting else {
                for video in &videos {
                    let window = Window::Extents { first: ExtentNo(0), last: Some(ExtentNo(0)) };
                    control.distribution(VideoRef::Name(&video.name), window).await?;
                }
                return Ok(videos.len());
            };
            let (held, wanted) = (video.replicas_held, wanted(video.replicas_wanted));
            told.tell(|| format!("waiting for {:?}: {held} of {wanted} servers hold it", video.name));
            sleep(POLL).await;
        }
    }
}

/// Publishes a film as one, and what is none as plain bytes.
async fn publish_as_it_is(control: Control, file: PathBuf, share: FileShare) -> Outcome {
    let publish = async |kind| {
        let options = PublishOptions { kind, name: None, replicas: 0, replace: false };
        let share = share.clone();
        publish_file(&control, &file, &options, move |at| share.show(at.bytes_done, at.bytes_total)).await
    };
    let sniffed = file.clone();
    // What cannot be read says so when it is published.
    let no_film = tokio::task::spawn_blocking(move || is_surely_no_film(&sniffed).unwrap_or(false)).await;
    if no_film.unwrap_or(false) {
        tracing::debug!(file = %file.display(), "no film, published as plain bytes");
        return publish(Kind::File).await;
    }
    match publish(Kind::Film(relaunch::probe())).await {
        Err(PublishError::Unreadable { path, reason }) => {
            tracing::warn!(file = %path.display(), "no film that can be played, published as plain bytes: {reason}");
            publish(Kind::File).await
        }
        other => other,
    }
}

/// What goes away by itself, or when a part is brought back.
fn is_passing(error: &ControlError) -> bool {
    matches!(error, ControlError::Unreachable { .. } | ControlError::Timeout { .. } | ControlError::NoSource { .. })
}

/// Tells what is waited for, now and then.
struct Told(Instant);

impl Told {
    fn now() -> Self {
        Self(Instant::now())
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if self.0.elapsed() > TELL_INTERVAL {
            tracing::warn!("{}", what());
            self.0 = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn regular_files_are_found_in_order_and_hidden_ones_are_not() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for name in ["b.mp4", "a.mp4", ".hidden"] {
            fs::write(dir.path().join(name), "x").expect("writable");
        }
        fs::create_dir(dir.path().join("folder")).expect("writable");
        let found = files(dir.path()).expect("readable");
        assert_eq!(found, [dir.path().join("a.mp4"), dir.path().join("b.mp4")]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = files(Path::new("/nowhere/films")).expect_err("missing").to_string();
        assert!(error.contains("/nowhere/films"), "{error}");
    }
}
