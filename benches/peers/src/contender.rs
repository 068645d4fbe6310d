//! Who is measured: a variant of a program, and where it writes.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use clap::ValueEnum;

use crate::bench::Bench;

/// Rows of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Row {
    /// Braidcast, from one server
    Braidcast,
    /// The same, with packets verified and extents not hashed
    BraidcastPackets,
    /// Braidcast, from three servers on the same cores
    BraidcastThree,
    /// curl from nginx, plain HTTP by sendfile
    Nginx,
    /// curl from nginx, TLS 1.3 with AES-128-GCM
    NginxTls,
    /// aria2c from three addresses of nginx, plain HTTP
    Aria2,
    /// A file over a QUIC stream of quinn, AES-128-GCM, with GSO
    Quic,
    /// The same, in packets that only a host's own loopback carries
    QuicJumbo,
    /// srt-file-transmit, not encrypted
    Srt,
}

impl Row {
    /// What it is called on the command line and in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Braidcast => "braidcast",
            Self::BraidcastPackets => "braidcast-packets",
            Self::BraidcastThree => "braidcast-three",
            Self::Nginx => "nginx",
            Self::NginxTls => "nginx-tls",
            Self::Aria2 => "aria2",
            Self::Quic => "quic",
            Self::QuicJumbo => "quic-jumbo",
            Self::Srt => "srt",
        }
    }

    /// Where its clients can write: some write to files only.
    pub(crate) fn sinks(self) -> &'static [Sink] {
        match self {
            Self::Aria2 | Self::Srt => &[Sink::Tmpfs],
            _ => &Sink::ALL,
        }
    }

    /// Whether it is the one that the others are compared with. It must run.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Braidcast | Self::BraidcastPackets | Self::BraidcastThree)
    }
}

/// Where a client writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// `/dev/null`.
    Null,
    /// A new file in memory.
    Tmpfs,
}

impl Sink {
    /// Both of them.
    pub(crate) const ALL: [Self; 2] = [Self::Null, Self::Tmpfs];

    /// What it is called in the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Null => "/dev/null",
            Self::Tmpfs => "tmpfs",
        }
    }
}

/// What one run took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Run {
    /// From the start of the client's process to its end.
    pub(crate) wall: Duration,
    /// CPU time of the server's processes meanwhile.
    pub(crate) server_cpu: Duration,
    /// CPU time of the client.
    pub(crate) client_cpu: Duration,
}

/// A server that is up, and how a client is started that fetches from it.
pub(crate) trait Peer {
    /// Fetches the file to `output` once.
    fn run(&self, bench: &Bench, output: PathBuf) -> Result<Run>;
}

/// A line of the table before it is measured.
pub(crate) struct Contender {
    /// Its row.
    pub(crate) row: Row,
    /// How it is set; empty where there is one way.
    pub(crate) variant: String,
    /// The peer, or why there is none.
    pub(crate) peer: Result<Box<dyn Peer>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_called_as_on_the_command_line() {
        for row in Row::value_variants() {
            let value = row.to_possible_value().expect("none is skipped");
            assert_eq!(value.get_name(), row.name());
        }
    }
}
