//! The parts of a `dev`: what they are called.

use std::fmt;
use std::str::FromStr;

/// A process that `dev` runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    /// The master.
    Master,
    /// A media server, by number from 1.
    Server(usize),
}

/// A text that names no part.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no part: use the number of a server, or `master` (or 0)")]
pub(crate) struct UnknownPart(String);

impl Part {
    /// The first word of the line with which the part says that it is ready.
    pub(super) fn command(self) -> &'static str {
        match self {
            Self::Master => "master",
            Self::Server(_) => "serve",
        }
    }

    /// Its name for files.
    pub(super) fn file_name(self) -> String {
        match self {
            Self::Master => "master".to_owned(),
            Self::Server(number) => format!("server-{number}"),
        }
    }

    /// What `--restart` calls it.
    pub(super) fn argument(self) -> String {
        match self {
            Self::Master => "master".to_owned(),
            Self::Server(number) => number.to_string(),
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Master => f.write_str("master"),
            Self::Server(number) => write!(f, "server {number}"),
        }
    }
}

impl FromStr for Part {
    type Err = UnknownPart;

    fn from_str(text: &str) -> Result<Self, UnknownPart> {
        match text {
            "master" | "0" => Ok(Self::Master),
            number => number.parse().map(Self::Server).map_err(|_| UnknownPart(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_read_back_from_what_restart_calls_them() {
        for part in [Part::Master, Part::Server(1), Part::Server(12)] {
            assert_eq!(part.argument().parse(), Ok(part));
        }
        assert_eq!("0".parse(), Ok(Part::Master));
        for wrong in ["", "-1", "server 1", "1.5"] {
            assert_eq!(wrong.parse::<Part>(), Err(UnknownPart(wrong.to_owned())));
        }
    }
}
