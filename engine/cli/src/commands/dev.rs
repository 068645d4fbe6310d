//! `braidcast dev`

use std::ffi::OsString;
use std::path::PathBuf;

use clap::Args;

use crate::dev::{self, Options, Part};
use crate::error::CliError;
use crate::output;
use crate::parent::ParentArg;

const SERVERS_DEFAULT: usize = 3;
const SERVERS_MAX: u16 = 64;

/// Flags of `braidcast dev`.
#[derive(Debug, Args)]
#[command(after_help = "\
Prints `master PID ADDRESS`, a line `server N PID ADDRESS` each, and, when every video is published, held by all
servers and servable, a line starting `ready`. The parts log to STATE/log, and end with this process.

Examples:
  braidcast dev films/                             in another terminal: braidcast ls
  braidcast dev films/ --servers 5 --state /tmp/b  in another: braidcast ls --profile /tmp/b/profile.toml
  braidcast dev --restart 2                        brings server 2 back, once the dev that runs has said that it died")]
pub(crate) struct DevArgs {
    /// Folder whose regular files are published, but for hidden ones and those that are published already
    #[arg(value_name = "DIR", required_unless_present = "restart")]
    dir: Option<PathBuf>,
    /// How many media servers to run [default: as many as the state had before, 3 at first]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=i64::from(SERVERS_MAX)))]
    servers: Option<u16>,
    /// Folder for everything that is kept; what stands there goes on
    #[arg(long, value_name = "DIR", default_value = ".braidcast")]
    state: PathBuf,
    /// Ask the `dev` that runs on this state to bring server N back, or the master (0 or `master`)
    #[arg(long, value_name = "N")]
    restart: Option<Part>,
    /// How long a ticket for a media server is good, as in 90s or 10m
    #[arg(long, value_name = "TIME")]
    ticket_lifetime: Option<OsString>,
    /// How far clocks may differ before a ticket counts as expired, as in 60s
    #[arg(long, value_name = "TIME")]
    clock_skew: Option<OsString>,
    /// How servers drive their sockets: auto, uring or portable
    #[arg(long, value_name = "MODE", default_value = "auto")]
    io: OsString,
    /// Threads of each server; 0 means one per core
    #[arg(long, value_name = "N", default_value_t = 1)]
    shards: u8,
    /// Most that one session with a server may take, in KiB/s; 0 means no limit
    #[arg(long, value_name = "KIB_S", default_value_t = 0)]
    rate: u32,
    #[command(flatten)]
    parent: ParentArg,
}

/// Runs a master and servers, or asks the `dev` that does to bring one back.
pub(crate) async fn run(args: DevArgs, log: Option<String>) -> Result<(), CliError> {
    args.parent.watch().map_err(CliError::Runtime)?;
    if let Some(part) = args.restart {
        let line = dev::request_restart(&args.state, part).await?;
        return output::print(&format!("{line}\n"));
    }
    let Some(dir) = args.dir else { unreachable!("clap demands a folder where nothing is restarted") };
    let log_flag = || log.iter().flat_map(|filter| ["--log".into(), filter.into()]);
    let mut master_flags: Vec<OsString> = log_flag().collect();
    let mut server_flags: Vec<OsString> = log_flag().collect();
    master_flags.extend(args.ticket_lifetime.into_iter().flat_map(|time| ["--ticket-lifetime".into(), time]));
    server_flags.extend(args.clock_skew.into_iter().flat_map(|time| ["--clock-skew".into(), time]));
    server_flags.extend(["--io".into(), args.io, "--shards".into(), args.shards.to_string().into()]);
    server_flags.extend(["--rate".into(), args.rate.to_string().into()]);
    dev::run(Options {
        dir,
        servers: args.servers.map(usize::from),
        servers_default: SERVERS_DEFAULT,
        state: args.state,
        master_flags,
        server_flags,
    })
    .await
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::args::Arguments;

    fn parses(line: &str) -> bool {
        Arguments::try_parse_from(line.split(' ')).is_ok()
    }

    #[test]
    fn a_folder_is_needed_unless_something_is_restarted() {
        assert!(parses("braidcast dev films"));
        assert!(!parses("braidcast dev"));
        assert!(parses("braidcast dev --restart 2"));
        assert!(parses("braidcast dev --restart master --state x"));
        assert!(!parses("braidcast dev --restart two"));
    }

    #[test]
    fn the_number_of_servers_is_bounded() {
        assert!(parses("braidcast dev films --servers 1"));
        assert!(parses("braidcast dev films --servers 64"));
        assert!(!parses("braidcast dev films --servers 0"));
        assert!(!parses("braidcast dev films --servers 65"));
    }
}
