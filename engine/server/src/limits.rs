//! Every bound and interval of a server, in one place.

use std::time::Duration;

/// How far the clocks of master, server and client may differ (PROTOCOL.md, section 7).
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);
