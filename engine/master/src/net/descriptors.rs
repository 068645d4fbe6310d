//! How many descriptors this process may have, and how many connections follow from that.

use std::io;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::limits::{CONNECTIONS_MAX, CONNECTIONS_MIN, DESCRIPTORS_RESERVED, HANDSHAKES_MAX, UNPROVEN_CONNECTIONS_MAX};
use crate::net::seats::Bounds;

/// Bounds on connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ConnectionBounds {
    pub(crate) connections: Bounds,
    /// Connections whose TLS handshake is under way; each may be closed for another.
    pub(crate) handshakes: usize,
}

/// Raises the soft limit of descriptors to the hard one, and gives what holds now.
pub(crate) fn raise_limit() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

/// What a limit of so many descriptors leaves for connections.
pub(crate) fn connection_bounds(descriptors: u64) -> ConnectionBounds {
    let descriptors = usize::try_from(descriptors).unwrap_or(usize::MAX);
    let reserved = DESCRIPTORS_RESERVED.min(descriptors / 2);
    let all = (descriptors - reserved).clamp(CONNECTIONS_MIN, CONNECTIONS_MAX);
    ConnectionBounds {
        // A school, or a whole company behind one gateway, is one address.
        connections: Bounds { all, per_network: all.div_ceil(2), movable: UNPROVEN_CONNECTIONS_MAX.min(all) },
        handshakes: HANDSHAKES_MAX.min(all / 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_limits_leave_half_for_connections_and_large_ones_all_that_is_served() {
        let small = connection_bounds(128);
        assert_eq!((small.connections.all, small.connections.per_network, small.handshakes), (64, 32, 32));
        let usual = connection_bounds(1_024);
        assert_eq!(usual.connections.all, 1_024 - DESCRIPTORS_RESERVED);
        let large = connection_bounds(u64::MAX);
        assert_eq!((large.connections.all, large.handshakes), (CONNECTIONS_MAX, HANDSHAKES_MAX));
        assert_eq!(large.connections.movable, UNPROVEN_CONNECTIONS_MAX);
        let none = connection_bounds(0);
        assert!(none.handshakes >= 1 && none.connections.per_network >= 1);
    }
}
