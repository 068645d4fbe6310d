//! Talking to the master while servers go on sending: lists ahead of need, tickets, and reports of what failed.

use std::collections::HashMap;
use std::time::Duration;

use braidcast_media::{AssetId, ExtentNo};
use braidcast_proto::v1::{FailedHost, FailureReason};
use tokio::task::{AbortHandle, JoinSet};

use crate::control::{Control, Distribution, VideoRef, Window};
use crate::error::ControlError;
use crate::fetcher::{FailureKind, SourceFailure};

/// Failed parts of one server after which the master is told, if it failed in no way that is told at once.
const PARTS_MAX: u32 = 3;

/// What the master was asked.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    /// A list for this window.
    List(Window),
    /// Fresh tickets; the window is of no account.
    Tickets(Window),
    /// A list without these.
    Redistribute(Window, Vec<FailedHost>),
}

/// What the master said.
pub(crate) struct Answered {
    pub(crate) request: Request,
    pub(crate) outcome: Result<Distribution, ControlError>,
}

/// The calls that are under way.
pub(crate) struct Reports {
    control: Control,
    asset: AssetId,
    calls: JoinSet<Answered>,
    /// The call for a list, of which only the newest counts.
    list: Option<AbortHandle>,
    /// Failed parts by server since the last report.
    parts: HashMap<String, u32>,
    redistributions: u32,
}

impl Reports {
    pub(crate) fn new(control: Control, asset: AssetId) -> Self {
        Self { control, asset, calls: JoinSet::new(), list: None, parts: HashMap::new(), redistributions: 0 }
    }

    /// New lists that came of reports.
    pub(crate) fn redistributions(&self) -> u32 {
        self.redistributions
    }

    pub(crate) fn want_list(&mut self, window: Window) {
        self.call(Duration::ZERO, Request::List(window));
    }

    /// Every answer brings tickets; the window is of no account.
    pub(crate) fn want_tickets(&mut self, window: Window) {
        self.call(Duration::ZERO, Request::Tickets(window));
    }

    /// A source failed. The master is told at once of one that is gone or lies, and of others after three failures.
    pub(crate) fn failed(&mut self, failure: SourceFailure, window: Window) {
        let parts = self.parts.entry(failure.server_id.clone()).or_default();
        *parts += 1;
        let at_once = !matches!(failure.kind, FailureKind::NotHeld);
        if !at_once && *parts < PARTS_MAX {
            return;
        }
        let failed_parts = std::mem::take(parts);
        let (reason, stream, damaged_extents) = match failure.kind {
            FailureKind::Silent => (FailureReason::Silent, 0, vec![]),
            FailureKind::Refused => (FailureReason::Refused, 0, vec![]),
            FailureKind::NotHeld => (FailureReason::NotHeld, 0, vec![]),
            FailureKind::Forged => (FailureReason::Forged, 0, vec![]),
            FailureKind::Damaged { stream, chunk } => {
                (FailureReason::Damaged, stream.0.into(), vec![u64::from(chunk.extent().0)])
            }
        };
        let last_good_ms = failure.last_good.map_or(u64::MAX, |since| since.as_millis().try_into().unwrap_or(u64::MAX));
        let host = FailedHost {
            server_id: failure.server_id,
            reason: reason.into(),
            failed_parts,
            last_good_ms,
            stream,
            damaged_extents,
        };
        self.call(Duration::ZERO, Request::Redistribute(window, vec![host]));
    }

    /// Asks again what was not answered.
    pub(crate) fn retry_after(&mut self, pause: Duration, request: Request) {
        self.call(pause, request);
    }

    /// The next answer. Never, while nothing is asked.
    pub(crate) async fn answered(&mut self) -> Answered {
        loop {
            match self.calls.join_next().await {
                Some(Ok(answered)) => {
                    if matches!(answered.request, Request::Redistribute(..)) && answered.outcome.is_ok() {
                        self.redistributions += 1;
                    }
                    return answered;
                }
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until all that was to be told is told, at most for `time`.
    pub(crate) async fn finish(&mut self, time: Duration) {
        let told = async { while self.calls.join_next().await.is_some() {} };
        // A master that is away is not told.
        let _ = tokio::time::timeout(time, told).await;
    }

    /// What the master says of a version that it does not have any more; asked when nobody serves it. `None`: it has it, or
    /// does not answer within `time`.
    pub(crate) async fn gone(&self, time: Duration) -> Option<ControlError> {
        let window = Window::Extents { first: ExtentNo(0), last: Some(ExtentNo(0)) };
        let asked = self.control.distribution(VideoRef::Asset(self.asset), window);
        match tokio::time::timeout(time, asked).await {
            Ok(Err(gone @ ControlError::NotFound { .. })) => Some(gone),
            _ => None,
        }
    }

    fn call(&mut self, pause: Duration, request: Request) {
        let (control, asset) = (self.control.clone(), self.asset);
        let is_list = matches!(request, Request::List(_));
        let call = self.calls.spawn(async move {
            tokio::time::sleep(pause).await;
            let outcome = match &request {
                Request::List(window) | Request::Tickets(window) => {
                    control.distribution(VideoRef::Asset(asset), *window).await
                }
                Request::Redistribute(window, failed) => control.redistribute(asset, *window, failed.clone()).await,
            };
            Answered { request, outcome }
        });
        if is_list && let Some(obsolete) = self.list.replace(call) {
            obsolete.abort();
        }
    }
}
