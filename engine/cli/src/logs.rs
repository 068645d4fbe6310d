//! Logs go to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::error::CliError;

/// Starts logging what `filter` asks for, or `default`.
pub(crate) fn start(filter: Option<&str>, default: &str) -> Result<(), CliError> {
    let filter = filter.unwrap_or(default);
    let parsed = EnvFilter::try_new(filter).map_err(|error| {
        let reason = error.to_string();
        CliError::Usage(format!("--log {filter:?} (or $BRAIDCAST_LOG): {reason}; use a level as in `info`"))
    })?;
    // A line that cannot be written is lost. Complaining about it on the same standard error would panic, and a full
    // disk under the log would end the master.
    let builder = tracing_subscriber::fmt().log_internal_errors(false).with_env_filter(parsed).with_writer(io::stderr);
    // A second call in one process, as a program that embeds this may make, keeps the first subscriber.
    let _ = builder.with_ansi(io::stderr().is_terminal()).try_init();
    Ok(())
}
