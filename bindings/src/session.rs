//! From a profile to a master, and what all ways of fetching have in common.

use std::path::{Path, PathBuf};

use braidcast_client::profile::ProfileError;
use braidcast_client::{Control, ControlError, Profile};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// What all ways of fetching have in common: profile, most bytes per second, file of the trace.
#[derive(FromPyObject)]
pub(crate) struct Fetching(pub(crate) Option<PathBuf>, pub(crate) Option<f64>, pub(crate) Option<PathBuf>);

/// There is no way to ask a master.
pub(crate) enum SessionError {
    /// The profile.
    Profile(ProfileError),
    /// The connection, or the login.
    Control(ControlError),
}

/// Connects to the master of `profile`, or of the profile that is found in the usual places.
pub(crate) async fn connect(profile: Option<&Path>) -> Result<Control, SessionError> {
    let profile = Profile::discover(profile).map_err(SessionError::Profile)?;
    Control::connect(&profile).await.map_err(SessionError::Control)
}

impl Fetching {
    /// Most bytes of packets per second.
    pub(crate) fn rate_max(&self) -> PyResult<Option<f64>> {
        match self.1 {
            Some(rate) if !(rate > 0.0 && rate.is_finite()) => Err(PyValueError::new_err(format!(
                "max_rate is {rate}, and must be a number of bytes per second above 0, or None"
            ))),
            other => Ok(other),
        }
    }
}
