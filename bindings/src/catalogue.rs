//! What there is to watch.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::session::{self, SessionError};
use crate::{errors, records, wait};

/// Every video that the master has, by name.
#[pyfunction]
pub(crate) fn list_videos(py: Python<'_>, profile: Option<PathBuf>) -> PyResult<Bound<'_, PyList>> {
    let listing = async {
        let control = session::connect(profile.as_deref()).await?;
        control.list_videos().await.map_err(SessionError::Control)
    };
    let mut videos = wait::wait_for(py, listing, |_| Ok(()))?.map_err(errors::of_session)?;
    videos.sort_by(|one, other| one.name.cmp(&other.name));
    let entries: PyResult<Vec<_>> = videos.iter().map(|video| records::catalogue_entry(py, video)).collect();
    PyList::new(py, entries?)
}
