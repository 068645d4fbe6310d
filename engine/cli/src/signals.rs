//! Signals that ask a process to end.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::CliError;

/// SIGINT, SIGTERM and SIGHUP, caught from the moment this is made.
pub(crate) struct Termination {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Termination {
    /// Catches the signals.
    pub(crate) fn catch() -> Result<Self, CliError> {
        let made: io::Result<Self> = (|| {
            Ok(Self {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hang_up: signal(SignalKind::hangup())?,
            })
        })();
        made.map_err(CliError::Runtime)
    }

    /// Waits for one of them.
    pub(crate) async fn requested(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}

/// Runs `work` until it ends or Ctrl-C drops it.
pub(crate) async fn unless_interrupted(work: impl Future<Output = Result<(), CliError>>) -> Result<(), CliError> {
    let mut interrupt = signal(SignalKind::interrupt()).map_err(CliError::Runtime)?;
    tokio::select! {
        outcome = work => outcome,
        _ = interrupt.recv() => Err(CliError::Interrupted),
    }
}
