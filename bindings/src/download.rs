//! Whole files.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use braidcast_client::download::{DownloadError, DownloadOptions, Progress, Report, Target, download as download_file};
use braidcast_client::fetcher::Traffic;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::session::{self, Fetching, SessionError};
use crate::{errors, records, wait};

/// Why there is no file.
enum Failure {
    Session(SessionError),
    Download(DownloadError),
}

/// Fetches a whole video.
#[pyfunction]
pub(crate) fn download<'py>(
    py: Python<'py>,
    name: &str,
    path: Option<PathBuf>,
    fetching: Fetching,
    progress: Option<Bound<'py, PyAny>>,
    background: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let path = target(name, path)?;
    let rate_max = fetching.rate_max()?;
    let Fetching(profile, _, trace) = fetching;
    let traffic = if background { Traffic::Background } else { Traffic::Normal };
    let options = DownloadOptions { traffic, rate_max, trace, ..DownloadOptions::default() };
    let told = Mutex::new(None);
    let fetching = fetch(name, path, profile, options, &told);
    let outcome = wait::wait_for(py, fetching, |_| tell(progress.as_ref(), &told))?;
    let report = outcome.map_err(|failure| match failure {
        Failure::Session(error) => errors::of_session(error),
        Failure::Download(error) => errors::of_download(error),
    })?;
    tell(progress.as_ref(), &told)?;
    records::download_report(py, &report)
}

/// Bytes that are there, and bytes of the file, since they were told last.
type Told = Mutex<Option<(u64, u64)>>;

async fn fetch(
    name: &str,
    path: PathBuf,
    profile: Option<PathBuf>,
    options: DownloadOptions,
    told: &Told,
) -> Result<Report, Failure> {
    let control = session::connect(profile.as_deref()).await.map_err(Failure::Session)?;
    let on_progress = |progress: &Progress| {
        *told.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
            Some((progress.bytes_done, progress.bytes_total));
    };
    download_file(control, name, Target::Path(path), options, on_progress).await.map_err(Failure::Download)
}

fn tell(progress: Option<&Bound<'_, PyAny>>, told: &Told) -> PyResult<()> {
    let news = told.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take();
    if let (Some(progress), Some(news)) = (progress, news) {
        progress.call1(news)?;
    }
    Ok(())
}

/// The file to write.
fn target(name: &str, path: Option<PathBuf>) -> PyResult<PathBuf> {
    // A name comes from a publisher: it must not choose a folder on this machine.
    let is_file_name = Path::new(name).file_name().is_some_and(|file| file == name);
    match path {
        Some(path) if !path.is_dir() => Ok(path),
        folder if is_file_name => Ok(folder.unwrap_or_default().join(name)),
        _ => {
            Err(PyValueError::new_err(format!("the name {name:?} cannot be a file's; say where to put it with `path`")))
        }
    }
}
