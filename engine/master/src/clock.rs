//! The wall clock, for what leaves the process: expiries, reports, the database. Durations are measured with
//! [`std::time::Instant`].

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time since 1970. A clock before that counts as 1970: everything it signs is then stale, and nothing panics.
pub(crate) fn since_epoch() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Unix time in seconds.
pub(crate) fn unix_s() -> u64 {
    since_epoch().as_secs()
}

/// Unix time in seconds, as the database keeps it.
pub(crate) fn unix_s_signed() -> i64 {
    i64::try_from(unix_s()).unwrap_or(i64::MAX)
}

/// Unix time in milliseconds.
pub(crate) fn unix_ms() -> u64 {
    u64::try_from(since_epoch().as_millis()).unwrap_or(u64::MAX)
}
