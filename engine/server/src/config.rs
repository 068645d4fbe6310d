//! What a media server is told when it starts.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::limits;

/// Settings of one media server. [`ServerConfig::new`] takes what has no default.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// UDP address that clients are served on. Default: every IPv4 interface, a port that the system picks.
    pub listen: SocketAddr,
    /// Address that the master names to clients. Default (`None`): the address that was bound. Needed behind NAT and
    /// wherever `listen` is an unspecified address: the master proves the address before it lists the server.
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
    /// Bytes of packs that may stand in `state_dir`. Default 0: all that the file system has free. A pack that does
    /// not fit is not filled, and the master is told why.
    pub capacity_bytes: u64,
    /// How far clocks may differ before a ticket counts as expired. Default 60 s; a longer time keeps tickets of
    /// users that were locked out alive.
    pub clock_skew: Duration,
    /// Most that one session may take, in KiB/s, whatever its ticket allows. Default 0: no limit but the ticket's.
    pub rate_kib_s: u32,
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
            capacity_bytes: 0,
            clock_skew: limits::CLOCK_SKEW,
            rate_kib_s: 0,
        }
    }
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

/// How the sockets of a server are driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IoMode {
    /// io_uring where the kernel permits it, else the portable twin; the log says why.
    #[default]
    Auto,
    /// io_uring, or an error that says how to allow it.
    Uring,
    /// Plain sockets and readiness.
    Portable,
}

impl fmt::Display for IoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Portable => "portable",
        })
    }
}

/// A text that names no [`IoMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown io mode {0:?}: use auto, uring or portable")]
pub struct UnknownIoMode(String);

impl FromStr for IoMode {
    type Err = UnknownIoMode;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "portable" => Ok(Self::Portable),
            other => Err(UnknownIoMode(other.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn io_modes_read_back_as_they_are_printed() {
        for mode in [IoMode::Auto, IoMode::Uring, IoMode::Portable] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("epoll".parse::<IoMode>(), Err(UnknownIoMode("epoll".to_owned())));
    }

    #[test]
    fn debug_output_hides_the_join_token() {
        let config = ServerConfig::new("/srv", "localhost:1", "", JoinToken::new("open-sesame"));
        assert!(!format!("{config:?}").contains("sesame"));
    }
}
