//! Publishing: a file sealed on this machine and streamed to the master.
//!
//! A film is looked into first, by another program. The master draws id and key, a thread reads and seals the file once, and
//! the extents go through a bounded channel into the upload. The asset exists from the moment the master has checked
//! the last of it, and not at all before.

mod probe;
mod sniff;

use std::fs::{File, Metadata};
use std::io::{self, Cursor, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use braidcast_media::seal::{FileSealer, SealError, StreamSource};
use braidcast_media::{AssetId, StreamId, StreamLayout};
use braidcast_proto::prost::Message;
use braidcast_proto::v1::upload_request::Part;
use braidcast_proto::v1::{BeginPublishRequest, Film, UploadFinish, UploadRequest, UploadStart};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::control::{BegunPublish, Control};
use crate::error::ControlError;
pub use probe::ProbeCommand;
use probe::Probed;
pub use sniff::is_surely_no_film;

/// Sealed extents that wait for the network: 2.5 MB.
const EXTENTS_WAITING_MAX: usize = 8;

/// What a file is published as.
#[derive(Clone, Debug)]
pub enum Kind {
    /// A film: its frames can be asked for, and players can show it. What is none is refused.
    Film(ProbeCommand),
    /// Plain bytes, whatever they are: they can be fetched, and not played.
    File,
}

/// How to publish a file.
#[derive(Clone, Debug)]
pub struct PublishOptions {
    /// What it is to be.
    pub kind: Kind,
    /// The video's name; nothing means the file's own name without its folders.
    pub name: Option<String>,
    /// How many servers should hold it. Default 0: what the master is set to, which is all that it has unless it was
    /// told otherwise.
    pub replicas: u32,
    /// Put a new version in the place of one that has the name. Default: the name must be free.
    pub replace: bool,
}

/// How far a publication is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublishProgress {
    /// Bytes that were sealed and handed on.
    pub bytes_done: u64,
    /// All bytes to be sealed: the file's, and those of a film's index and of its access units.
    pub bytes_total: u64,
}

/// What was published.
#[derive(Clone, Debug, PartialEq)]
pub struct Published {
    /// Under which name.
    pub name: String,
    /// Which version of it this is.
    pub asset: AssetId,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// What was found in it, if it is a film.
    pub film: Option<Film>,
}

/// A file was not published; the master keeps nothing of it.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It cannot be opened or read.
    #[error("cannot read {path}: {source}; {}", remedy(source))]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is a folder, a device or a pipe.
    #[error("{path} is no regular file but {kind}; name the files, as in FOLDER/*")]
    NotAFile {
        /// What was given.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Its name cannot be a video's name.
    #[error("{path}: the name is not UTF-8; give the video a name with `--name`")]
    Name {
        /// Which file.
        path: PathBuf,
    },
    /// It was written to while it was being read.
    #[error("{path} changed while it was being published; publish it again once it is at rest")]
    Changed {
        /// Which file.
        path: PathBuf,
    },
    /// It is no film, or a broken one.
    #[error("{path} is no film that can be played: {reason}; publish it as plain bytes with `--as-file`")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What was found in it.
        reason: String,
    },
    /// The program that looks into files cannot be used.
    #[error(
        "{program} cannot look into the file: {reason}; it comes with braidcast and must stand beside it, or publish \
         plain bytes with `--as-file`"
    )]
    Probe {
        /// Which program.
        program: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be laid out.
    #[error("{path}: {source}")]
    Seal {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: SealError,
    },
    /// The master refused it or was lost.
    #[error(transparent)]
    Control(#[from] ControlError),
}

/// Publishes the file at `path`. `progress` is told of every extent, on a thread of its own.
///
/// Dropping the future aborts the publication: the master removes what it has of it.
///
/// # Errors
/// [`PublishError`]; nothing of the file remains at the master then.
pub async fn publish_file(
    control: &Control,
    path: &Path,
    options: &PublishOptions,
    progress: impl FnMut(PublishProgress) + Send + 'static,
) -> Result<Published, PublishError> {
    let source = {
        let path = path.to_owned();
        blocking(move || Source::open(path)).await?
    };
    // After opening: of what is no file, `..` say, that is to be told and not that it has no name.
    let name = match &options.name {
        Some(name) => name.clone(),
        None => file_name(path)?,
    };
    let bytes = source.before.bytes;
    let found = match &options.kind {
        Kind::Film(command) => Some((command.clone(), command.report(path).await?)),
        Kind::File => None,
    };
    let begun = control.begin_publish(request(&name, bytes, options, found.as_ref().map(|(_, probed)| probed))).await?;
    let asset = begun.asset;
    let film = found.as_ref().map(|(_, probed)| probed.film.clone());
    let (parts, waiting) = mpsc::channel(EXTENTS_WAITING_MAX);
    let sealing = tokio::task::spawn_blocking(move || source.seal(found, &begun, &parts, progress));
    let uploaded = control.upload(&name, ReceiverStream::new(waiting)).await;
    // The sealing thread ends by itself: the upload's end closed its channel. Its error is the cause of the upload's.
    match sealing.await.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))? {
        Sealing::Complete => uploaded?,
        Sealing::Abandoned => {
            uploaded?;
            let reason = "it accepts a pack before its end".to_owned();
            return Err(ControlError::BadAnswer { what: path.display().to_string(), reason }.into());
        }
    }
    Ok(Published { name, asset, bytes, film })
}

fn request(name: &str, bytes: u64, options: &PublishOptions, probed: Option<&Probed>) -> BeginPublishRequest {
    BeginPublishRequest {
        name: name.to_owned(),
        bytes,
        replace: options.replace,
        replicas: options.replicas,
        film: probed.map(|probed| probed.film.encode_to_vec()),
        frame_index_bytes: probed.map_or(0, |probed| probed.frame_index.len() as u64),
        key_frame_index_bytes: probed.map_or(0, |probed| probed.key_frame_index.len() as u64),
        access_unit_bytes: probed.map_or(0, |probed| probed.access_unit_bytes),
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let outcome = tokio::task::spawn_blocking(work).await;
    outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "is the path right?",
        io::ErrorKind::PermissionDenied => "give this user the right to read it",
        _ => "is its disk sound?",
    }
}

fn file_name(path: &Path) -> Result<String, PublishError> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.map(str::to_owned).ok_or_else(|| PublishError::Name { path: path.to_owned() })
}

/// A file that is being published, and what it looked like when it was opened.
struct Source {
    path: PathBuf,
    file: File,
    before: Fingerprint,
}

/// What tells a file that was touched from one that was not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// How the sealing thread ended.
enum Sealing {
    /// Everything was handed on.
    Complete,
    /// The upload ended first; it knows why.
    Abandoned,
}

impl Source {
    fn open(path: PathBuf) -> Result<Self, PublishError> {
        let read = |source| PublishError::Read { path: path.clone(), source };
        // Before opening: a pipe would block until somebody writes to it.
        let metadata = std::fs::metadata(&path).map_err(read)?;
        if !metadata.is_file() {
            let kind = if metadata.is_dir() { "a directory" } else { "a device, pipe or socket" };
            return Err(PublishError::NotAFile { path, kind });
        }
        let file = File::open(&path).map_err(read)?;
        let before = Fingerprint::of(&file.metadata().map_err(read)?);
        Ok(Self { path, file, before })
    }

    fn seal(
        self,
        found: Option<(ProbeCommand, Probed)>,
        begun: &BegunPublish,
        parts: &mpsc::Sender<UploadRequest>,
        mut progress: impl FnMut(PublishProgress),
    ) -> Result<Sealing, PublishError> {
        let wrong = |error| self.error(error);
        let streams = self.streams(found)?;
        let bytes_total = streams.iter().map(|stream| stream.layout.bytes).sum();
        let mut sealer = FileSealer::of_streams(streams, &begun.content_key, begun.asset).map_err(wrong)?;
        let send = |part| parts.blocking_send(UploadRequest { part: Some(part) }).is_ok();
        if !send(Part::Start(UploadStart { asset: begun.asset.0 })) {
            return Ok(Sealing::Abandoned);
        }
        let (mut sealed, mut bytes_done) = (Vec::new(), 0);
        while let Some(extent) = sealer.next_extent(&mut sealed).map_err(wrong)? {
            if !send(Part::Extent(std::mem::take(&mut sealed))) {
                return Ok(Sealing::Abandoned);
            }
            if let Some((stream, extent)) = sealer.layout().extent_at(extent)
                && stream.id != StreamId::PLAIN_HASHES
            {
                bytes_done += stream.extent_bytes(extent) as u64;
            }
            progress(PublishProgress { bytes_done, bytes_total });
        }
        let whole = sealer.finish().map_err(wrong)?;
        self.check_unchanged()?;
        let finish = UploadFinish { header: whole.header.to_bytes(), plain_roots: whole.plain_roots };
        Ok(if send(Part::Finish(finish)) { Sealing::Complete } else { Sealing::Abandoned })
    }

    /// What is sealed, in the order of the pack.
    fn streams(
        &self,
        found: Option<(ProbeCommand, Probed)>,
    ) -> Result<Vec<StreamSource<Box<dyn Read + '_>>>, PublishError> {
        fn source<'a>(id: StreamId, bytes: u64, reader: impl Read + 'a) -> StreamSource<Box<dyn Read + 'a>> {
            StreamSource { layout: StreamLayout { id, bytes }, reader: Box::new(reader) }
        }
        let mut streams = vec![source(StreamId::ORIGINAL, self.before.bytes, &self.file)];
        let Some((command, probed)) = found else { return Ok(streams) };
        let units = probed.access_unit_stream();
        let index = |id, bytes: Vec<u8>| source(id, bytes.len() as u64, Cursor::new(bytes));
        streams.push(index(StreamId::FRAMES, probed.frame_index));
        streams.push(index(StreamId::KEY_FRAMES, probed.key_frame_index));
        if let Some(units) = units {
            streams.push(source(units.id, units.bytes, command.access_units(&self.path)?));
        }
        Ok(streams)
    }

    /// What was read is one state of the file only if nobody wrote to it meanwhile, and the file only if nobody put
    /// another in its place.
    fn check_unchanged(&self) -> Result<(), PublishError> {
        let read = |source| PublishError::Read { path: self.path.clone(), source };
        let open = Fingerprint::of(&self.file.metadata().map_err(read)?);
        let named = Fingerprint::of(&std::fs::metadata(&self.path).map_err(read)?);
        if open == self.before && named == self.before {
            Ok(())
        } else {
            Err(PublishError::Changed { path: self.path.clone() })
        }
    }

    fn error(&self, error: SealError) -> PublishError {
        let path = self.path.clone();
        match error {
            SealError::Read(source) => PublishError::Read { path, source },
            SealError::LengthChanged { .. } => PublishError::Changed { path },
            source @ SealError::Layout(_) => PublishError::Seal { path, source },
        }
    }
}

impl Fingerprint {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use braidcast_media::layout::EXTENT_BYTES;
    use braidcast_media::{ContentKey, PackLayout};

    use super::*;

    fn begun() -> BegunPublish {
        BegunPublish { asset: AssetId(7), content_key: ContentKey::new([1; 16]) }
    }

    /// Seals `path` to its end, doing `meanwhile` once it is open.
    fn seal(path: &Path, meanwhile: impl FnOnce()) -> (Result<Sealing, PublishError>, Vec<Part>) {
        let source = Source::open(path.to_owned()).expect("a readable file");
        meanwhile();
        let (sender, mut receiver) = mpsc::channel(64);
        let outcome = source.seal(None, &begun(), &sender, |_| {});
        drop(sender);
        let parts = std::iter::from_fn(|| receiver.blocking_recv()).filter_map(|request| request.part).collect();
        (outcome, parts)
    }

    fn file_of(bytes: usize) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("film.mp4");
        fs::write(&path, vec![0x5a; bytes]).expect("writable");
        (dir, path)
    }

    #[test]
    fn a_file_at_rest_becomes_start_extents_and_finish() {
        let (_dir, path) = file_of(2 * EXTENT_BYTES + 1);
        let (outcome, parts) = seal(&path, || {});
        assert!(matches!(outcome, Ok(Sealing::Complete)));
        let layout = PackLayout::of_file(2 * EXTENT_BYTES as u64 + 1).expect("a small file");
        assert_eq!(parts.len(), 1 + layout.extents() as usize + 1);
        assert!(matches!(parts.first(), Some(Part::Start(start)) if start.asset == 7));
        let Some(Part::Finish(finish)) = parts.last() else { panic!("the last part is the finish") };
        assert_eq!(finish.header.len() as u64, layout.header_bytes());
        assert_eq!(finish.plain_roots.len(), 32);
    }

    #[test]
    fn a_file_that_grows_shrinks_or_is_touched_while_it_is_sealed_has_no_finish() {
        let append = |path: &Path| {
            let mut file = fs::OpenOptions::new().append(true).open(path).expect("own file");
            file.write_all(b"more").expect("writable");
        };
        let truncate = |path: &Path| {
            fs::OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(10)).expect("own file");
        };
        let overwrite = |path: &Path| {
            let file = fs::OpenOptions::new().write(true).open(path).expect("own file");
            file.set_modified(std::time::SystemTime::UNIX_EPOCH).expect("own file");
        };
        let replace = |path: &Path| {
            let other = path.with_extension("new");
            fs::copy(path, &other).and_then(|_| fs::rename(&other, path)).expect("own folder");
        };
        type Change = fn(&Path);
        let changes: [(&str, Change); 4] =
            [("append", append), ("truncate", truncate), ("overwrite", overwrite), ("replace", replace)];
        for (name, change) in changes {
            let (_dir, path) = file_of(EXTENT_BYTES + 5);
            let (outcome, parts) = seal(&path, || change(&path));
            let error = outcome.err().unwrap_or_else(|| panic!("{name} goes unnoticed"));
            assert!(matches!(error, PublishError::Changed { .. }), "{name}: {error}");
            assert!(error.to_string().contains("film.mp4"), "{error}");
            assert!(!parts.iter().any(|part| matches!(part, Part::Finish(_))), "{name}");
        }
    }

    #[test]
    fn an_upload_that_ends_early_ends_the_sealing() {
        let (_dir, path) = file_of(EXTENT_BYTES);
        let source = Source::open(path).expect("a readable file");
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        assert!(matches!(source.seal(None, &begun(), &sender, |_| {}), Ok(Sealing::Abandoned)));
    }

    #[test]
    fn what_is_no_readable_regular_file_is_named() {
        let (dir, path) = file_of(1);
        let missing = Source::open(dir.path().join("none.mp4")).err().expect("missing");
        assert!(matches!(missing, PublishError::Read { .. }) && missing.to_string().contains("none.mp4"), "{missing}");
        let folder = Source::open(dir.path().to_owned()).err().expect("a folder");
        assert!(folder.to_string().contains("a directory"), "{folder}");
        let device = Source::open(PathBuf::from("/dev/zero")).err().expect("a device");
        assert!(matches!(device, PublishError::NotAFile { .. }), "{device}");
        assert!(Source::open(path).is_ok());
    }

    #[test]
    fn a_video_is_named_after_its_file() {
        assert_eq!(file_name(Path::new("/a/b c.mp4")).expect("UTF-8"), "b c.mp4");
        assert!(file_name(Path::new("/")).is_err());
    }
}
