//! From a profile to a master.

use std::path::Path;

use braidcast_client::profile::ProfileError;
use braidcast_client::{Control, ControlError, Profile};

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
