//! `braidcast serve`

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use braidcast_server::{IoMode, JoinToken, Server, ServerConfig, ZeroCopyMode};
use clap::Args;
use serde::{Deserialize, Serialize};

use crate::byte_size::ByteSize;
use crate::error::CliError;
use crate::output;
use crate::parent::ParentArg;
use crate::settings::{SettingsError, check_ca, layered};
use crate::signals::Termination;

const STATE_DEFAULT: &str = ".braidcast/server";

/// Flags of `braidcast serve`.
#[derive(Debug, Args)]
#[command(after_help = "\
Flags go before environment variables, these before the file of --config. Times are written as 90s or 15m.

Example:
  braidcast serve --listen 192.0.2.8:4700 --master 192.0.2.7:4600 --ca ca.pem --join-token-file join-token \\
      --state /srv/braidcast --capacity 500GiB")]
pub(crate) struct ServeArgs {
    /// TOML file with settings; unknown keys are errors
    #[arg(long, env = "BRAIDCAST_SERVE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    parent: ParentArg,
}

/// What flags, environment and file may set. A key of the file is the flag's name with `_` for `-`.
#[derive(Debug, Default, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Address and port, for UDP and TCP, that clients are served on; port 0 takes a free one [default: 0.0.0.0:0]
    #[arg(long, env = "BRAIDCAST_SERVE_LISTEN", value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Address that the master names to clients, needed behind NAT or with --listen 0.0.0.0 [default: what was bound]
    #[arg(long, env = "BRAIDCAST_SERVE_ADVERTISE", value_name = "IP:PORT")]
    advertise: Option<SocketAddr>,
    /// Folder of the packs and of the server's id; in the file `state_dir` [default: .braidcast/server]
    #[arg(long = "state", env = "BRAIDCAST_SERVE_STATE", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// The master to join; its certificate must bear this host
    #[arg(long, env = "BRAIDCAST_SERVE_MASTER", value_name = "HOST:PORT")]
    master: Option<String>,
    /// Certificate authority (PEM) that vouches for the master
    #[arg(long, env = "BRAIDCAST_SERVE_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// File whose first line is the cluster's join token
    #[arg(long, env = "BRAIDCAST_SERVE_JOIN_TOKEN_FILE", value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// Threads that serve, each with its own socket; 0 means one per core [default: 0]
    #[arg(long, env = "BRAIDCAST_SERVE_SHARDS", value_name = "N")]
    shards: Option<u8>,
    /// How sockets are driven: auto (io_uring where the kernel permits it), uring or portable [default: auto]
    #[arg(long, env = "BRAIDCAST_SERVE_IO", value_name = "MODE")]
    io: Option<String>,
    /// Whether packets refer to packs where they lie in memory: auto (by sendfile, from Linux 6.5 on), on (by SENDMSG_ZC of
    /// io_uring: try it with a real card, within a host it costs more) or off (a copy is sent) [default: auto]
    #[arg(long, env = "BRAIDCAST_SERVE_ZEROCOPY", value_name = "MODE")]
    zerocopy: Option<String>,
    /// Whether to serve clients whose network blocks UDP, over TCP on the same port: on or off [default: on]
    #[arg(long, env = "BRAIDCAST_SERVE_TCP", value_name = "on|off")]
    tcp: Option<String>,
    /// Room for packs: bytes, or with KiB, MiB, GiB or TiB; 0 means all that the disk has free [default: 0]
    #[arg(long, env = "BRAIDCAST_SERVE_CAPACITY", value_name = "SIZE")]
    capacity: Option<ByteSize>,
    /// How far clocks may differ before a ticket counts as expired [default: 60s]
    #[arg(long, env = "BRAIDCAST_SERVE_CLOCK_SKEW", value_name = "TIME")]
    clock_skew: Option<String>,
    /// Most that one session may take, in KiB/s; 0 means no limit but the ticket's [default: 0]
    #[arg(long, env = "BRAIDCAST_SERVE_RATE", value_name = "KIB_S")]
    rate: Option<u32>,
    /// Most that all sessions together are sent in a second, shared out evenly: bytes, or with KiB, MiB, GiB or TiB; 0 means
    /// no limit [default: 0]
    #[arg(long, env = "BRAIDCAST_SERVE_TOTAL_RATE", value_name = "SIZE")]
    total_rate: Option<ByteSize>,
    /// How much of the packs is hashed again in the background, in a second, so that what has rotted on the disk is found
    /// before a client asks for it: bytes, or with KiB, MiB, GiB or TiB; 0 means nothing [default: 8MiB]
    #[arg(long, env = "BRAIDCAST_SERVE_SCRUB", value_name = "SIZE")]
    scrub: Option<ByteSize>,
}

impl Settings {
    fn config(self) -> Result<ServerConfig, SettingsError> {
        let master = self.master.ok_or(missing("master", "master", "BRAIDCAST_SERVE_MASTER"))?;
        let ca = self.ca.ok_or(missing("ca", "ca", "BRAIDCAST_SERVE_CA"))?;
        let token_file = self.join_token_file;
        let token_file =
            token_file.ok_or(missing("join_token_file", "join-token-file", "BRAIDCAST_SERVE_JOIN_TOKEN_FILE"))?;
        let token = zeroize::Zeroizing::new(read(&token_file)?);
        let token = JoinToken::new(token.lines().next().unwrap_or_default().trim());
        let state = self.state_dir.unwrap_or_else(|| STATE_DEFAULT.into());
        let ca_pem = read(&ca)?;
        check_ca(&ca, &ca_pem)?;
        let mut config = ServerConfig::new(state, master, ca_pem, token);
        config.listen = self.listen.unwrap_or(config.listen);
        config.advertise = self.advertise;
        config.shards = self.shards.unwrap_or(config.shards);
        config.io = self.io.as_deref().map_or(Ok(config.io), io_mode)?;
        config.zero_copy = self.zerocopy.as_deref().map_or(Ok(config.zero_copy), zero_copy_mode)?;
        config.tcp = self.tcp.as_deref().map_or(Ok(config.tcp), |text| on_or_off("tcp", text))?;
        config.capacity_bytes = self.capacity.map_or(config.capacity_bytes, |size| size.0);
        config.clock_skew = self.clock_skew.as_deref().map_or(Ok(config.clock_skew), duration)?;
        config.rate_kib_s = self.rate.unwrap_or(config.rate_kib_s);
        config.total_bytes_s = self.total_rate.map_or(config.total_bytes_s, |size| size.0);
        config.scrub_bytes_s = self.scrub.map_or(config.scrub_bytes_s, |size| size.0);
        Ok(config)
    }
}

/// Runs a media server until it is told to end or cannot go on.
pub(crate) async fn run(args: ServeArgs) -> Result<(), CliError> {
    let mut termination = Termination::catch()?;
    // A server's heap is many small sessions: huge pages would round it up by megabytes. A kernel without them says so.
    let _ = nix::sys::prctl::set_thp_disable(true);
    args.parent.watch().map_err(CliError::Runtime)?;
    let settings: Settings = layered(args.config.as_deref(), &args.settings)?;
    let mut server = Server::start(settings.config()?).await?;
    output::print(&format!("serve listening {} {}\n", server.udp_addr(), server.describe()))?;
    tokio::select! {
        error = server.failed() => Err(error.into()),
        () = termination.requested() => {
            server.shutdown().await;
            Ok(())
        }
    }
}

fn missing(setting: &'static str, flag: &'static str, variable: &'static str) -> SettingsError {
    SettingsError::Missing { setting, flag, variable }
}

fn read(path: &Path) -> Result<String, SettingsError> {
    std::fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })
}

fn io_mode(text: &str) -> Result<IoMode, SettingsError> {
    text.parse().map_err(|error| SettingsError::Flag(format!("`io`: {error}")))
}

fn zero_copy_mode(text: &str) -> Result<ZeroCopyMode, SettingsError> {
    match text {
        "auto" => Ok(ZeroCopyMode::Auto),
        "on" => Ok(ZeroCopyMode::On),
        "off" => Ok(ZeroCopyMode::Off),
        _ => Err(SettingsError::Flag(format!("`zerocopy`: {text:?} is none of `auto`, `on` and `off`"))),
    }
}

fn on_or_off(setting: &str, text: &str) -> Result<bool, SettingsError> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err(SettingsError::Flag(format!("`{setting}`: {text:?} is neither `on` nor `off`"))),
    }
}

fn duration(text: &str) -> Result<Duration, SettingsError> {
    humantime::parse_duration(text)
        .map_err(|error| SettingsError::Flag(format!("`clock_skew`: {text:?} is no duration: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with all the files that a server needs, and settings that point to them.
    fn folder() -> (tempfile::TempDir, Settings) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (ca, token) = (dir.path().join("ca.pem"), dir.path().join("token"));
        std::fs::write(&ca, "-----BEGIN CERTIFICATE-----\n")
            .and_then(|()| std::fs::write(&token, "open sesame\n"))
            .expect("writable");
        let settings = Settings {
            master: Some("127.0.0.1:1".to_owned()),
            ca: Some(ca),
            join_token_file: Some(token),
            ..Settings::default()
        };
        (dir, settings)
    }

    #[test]
    fn what_has_no_default_is_asked_for_by_flag_variable_and_key() {
        let (_dir, mut settings) = folder();
        settings.join_token_file = None;
        let message = settings.config().expect_err("no token").to_string();
        for name in ["--join-token-file", "$BRAIDCAST_SERVE_JOIN_TOKEN_FILE", "`join_token_file`"] {
            assert!(message.contains(name), "{message}");
        }
    }

    #[test]
    fn only_the_flags_that_were_given_override_the_file() {
        let (dir, flags) = folder();
        let file = dir.path().join("serve.toml");
        std::fs::write(&file, "shards = 3\nio = 'portable'\ntcp = 'off'\ncapacity = '2GiB'\nmaster = 'x:1'")
            .expect("writable");
        let flags = Settings { io: Some("uring".to_owned()), ..flags };
        let settings: Settings = layered(Some(&file), &flags).expect("right");
        let config = settings.config().expect("right");
        assert_eq!((config.shards, config.io, config.capacity_bytes), (3, IoMode::Uring, 2 << 30));
        assert_eq!((config.master.as_str(), config.tcp), ("127.0.0.1:1", false));
    }

    #[test]
    fn wrong_modes_and_durations_are_named() {
        let (_dir, settings) = folder();
        let message = Settings { io: Some("epoll".to_owned()), ..settings }.config().expect_err("no mode").to_string();
        assert!(message.contains("epoll") && message.contains("portable"), "{message}");
        let (_dir, settings) = folder();
        let message = Settings { tcp: Some("yes".to_owned()), ..settings }.config().expect_err("no choice").to_string();
        assert!(message.contains("yes") && message.contains("`off`"), "{message}");
        let (_dir, settings) = folder();
        let wrong = Settings { clock_skew: Some("soon".to_owned()), ..settings };
        let message = wrong.config().expect_err("no duration").to_string();
        assert!(message.contains("clock_skew") && message.contains("soon"), "{message}");
    }
}
