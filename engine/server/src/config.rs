//! What a media server is told when it starts.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use braidcast_io::IoMode;

use crate::limits;

/// Settings of one media server. [`ServerConfig::new`] takes what has no default.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// UDP address, and TCP address, that clients are served on. Default: every IPv4 interface, a port that the system picks.
    pub listen: SocketAddr,
    /// Address that the master names to clients. Default (`None`): the address that was bound or, where that is
    /// unspecified, the one from which this host reaches the master. Needed behind NAT. The master has the address
    /// proven before it lists the server.
    pub advertise: Option<SocketAddr>,
    /// Folder of the packs and of the server's id; made if it is missing. One server at a time may use it.
    pub state_dir: PathBuf,
    /// The master, as `host:port`. The host is also the name that its certificate must bear.
    pub master: String,
    /// Certificates, in PEM, of the authority that signed the master's certificate. No other authority is trusted.
    pub ca_pem: String,
    /// What lets a server join this cluster.
    pub join_token: JoinToken,
    /// Threads that serve, each with its own socket. Default 0: one per core. More than cores only costs memory.
    pub shards: u8,
    /// How sockets are driven. Default: [`IoMode::Auto`].
    pub io: IoMode,
    /// Whether packets refer to packs where they lie in memory. Default: [`ZeroCopyMode::Auto`].
    pub zero_copy: ZeroCopyMode,
    /// Whether the TCP port of the same number serves clients whose network blocks UDP. Default: yes. One thread more,
    /// which sleeps while nobody needs it.
    pub tcp: bool,
    /// Bytes of packs that may stand in `state_dir`. Default 0: all that the file system has free. A pack that does
    /// not fit is not filled, and the master is told why.
    pub capacity_bytes: u64,
    /// How long the master must have called a copy spare before it may be deleted to make room. Default 90 s, so that the
    /// master can ask for it again when another copy was lost meanwhile.
    pub spare_for: Duration,
    /// How far clocks may differ before a ticket counts as expired. Default 60 s; a longer time keeps tickets of
    /// users that were locked out alive.
    pub clock_skew: Duration,
    /// Most that one session may take, in KiB/s, whatever its ticket allows. Default 0: no limit but the ticket's.
    pub rate_kib_s: u32,
    /// Most bytes of packets per second that all sessions together are sent, over UDP and TCP. Default 0: no limit. Those that
    /// ask for more than their share of it get the same number of bytes each.
    pub total_bytes_s: u64,
    /// Bytes per second of packs that are hashed in the background, to find what has rotted before a client does. Default:
    /// 8 MiB, a terabyte in a day and a half. 0: none are.
    pub scrub_bytes_s: u64,
}

impl ServerConfig {
    /// A server that keeps its packs in `state_dir` and joins `master`; all else as by default.
    pub fn new(
        state_dir: impl Into<PathBuf>,
        master: impl Into<String>,
        ca_pem: impl Into<String>,
        join_token: JoinToken,
    ) -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
            advertise: None,
            state_dir: state_dir.into(),
            master: master.into(),
            ca_pem: ca_pem.into(),
            join_token,
            shards: 0,
            io: IoMode::Auto,
            zero_copy: ZeroCopyMode::Auto,
            tcp: true,
            capacity_bytes: 0,
            spare_for: limits::SPARE_FOR,
            clock_skew: limits::CLOCK_SKEW,
            rate_kib_s: 0,
            total_bytes_s: 0,
            scrub_bytes_s: limits::SCRUB_BYTES_S,
        }
    }
}

/// Whether packets refer to packs where they lie in memory, or hold a copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ZeroCopyMode {
    /// By `sendfile` where the kernel can cut what that sends (Linux 6.5 or newer), else a copy.
    #[default]
    Auto,
    /// By `SENDMSG_ZC` of io_uring, or no start at all. Network cards read this process's memory, and say when they have; what
    /// stays within a host is copied all the same.
    On,
    /// A copy.
    Off,
}

/// The secret that lets a server join a cluster. Never printed.
#[derive(Clone)]
pub struct JoinToken(zeroize::Zeroizing<String>);

impl JoinToken {
    /// The token with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(zeroize::Zeroizing::new(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_hides_the_join_token() {
        let config = ServerConfig::new("/srv", "localhost:1", "", JoinToken::new("open-sesame"));
        assert!(!format!("{config:?}").contains("sesame"));
    }
}
