//! Logs go to standard error.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::error::CliError;

/// Starts logging what `filter` asks for, or `default`.
pub(crate) fn start(filter: Option<&str>, default: &str) -> Result<(), CliError> {
    let filter = filter.unwrap_or(default);
    let targets: Targets = filter.parse().map_err(|error| {
        CliError::Usage(format!(
            "--log {filter:?} (or $BRAIDCAST_LOG): {error}; use a level as in `info`, or `info,braidcast_master=debug`"
        ))
    })?;
    // A line that cannot be written is lost. Complaining about it on the same standard error would panic, and a full
    // disk under the log would end the master.
    let lines = tracing_subscriber::fmt::layer()
        .log_internal_errors(false)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal());
    // A second call in one process, as a program that embeds this may make, keeps the first subscriber.
    let _ = tracing_subscriber::registry().with(lines).with(targets).try_init();
    Ok(())
}
