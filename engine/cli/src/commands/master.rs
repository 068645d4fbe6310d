//! `braidcast master`

use std::net::SocketAddr;
use std::path::PathBuf;

use braidcast_master::{BootstrapAdmin, Master, MasterConfig};
use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::byte_size::ByteSize;
use crate::error::CliError;
use crate::output;
use crate::parent::ParentArg;
use crate::settings::{SettingsError, layered};
use crate::signals::Termination;

/// Flags of `braidcast master`. What can stand in the file has the same name there, with `_` for `-`.
#[derive(Debug, Default, Args, Serialize)]
#[command(after_help = "\
Flags go before environment variables, these before the file of --config. Times are written as 90s, 15m, 1h 30m.
The first start makes a certificate authority (STATE/ca.pem), which clients and servers must trust, and the token
(STATE/join-token) that media servers join with. `braidcast backup` saves all but the packs while the master runs,
`braidcast restore` puts it in place; a snapshot is made every day besides. A master does not start on a database and
an origin that do not belong together. On a full disk a reserve of 16 MiB (STATE/reserve) keeps the database going.

Example:
  braidcast master --listen 192.0.2.7:4600 --state /var/lib/braidcast \\
      --bootstrap-admin ada --bootstrap-password-file /root/ada")]
pub(crate) struct MasterArgs {
    /// TOML file with settings; unknown keys are errors
    #[arg(long, env = "BRAIDCAST_MASTER_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Address and TCP port of the control plane; port 0 takes a free one [default: 127.0.0.1:4600]
    #[arg(long, env = "BRAIDCAST_MASTER_LISTEN", value_name = "IP:PORT")]
    listen: Option<SocketAddr>,
    /// Folder of database, packs, certificates and join token; in the file `state_dir` [default: .braidcast/master]
    #[arg(long = "state", env = "BRAIDCAST_MASTER_STATE", value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Certificate chain (PEM) [default: signed by the master's own authority, afresh at every start]
    #[arg(long, env = "BRAIDCAST_MASTER_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Private key (PEM) that belongs to --tls-cert
    #[arg(long, env = "BRAIDCAST_MASTER_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Further DNS name or IP address for the master's own certificate; may be repeated
    #[arg(long = "tls-name", env = "BRAIDCAST_MASTER_TLS_NAMES", value_name = "NAME", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tls_names: Vec<String>,
    /// File with the token that media servers join with [default: STATE/join-token, drawn at the first start]
    #[arg(long, env = "BRAIDCAST_MASTER_JOIN_TOKEN_FILE", value_name = "FILE")]
    join_token_file: Option<PathBuf>,
    /// How long an access token is good [default: 15m]
    #[arg(long, env = "BRAIDCAST_MASTER_TOKEN_LIFETIME", value_name = "TIME")]
    token_lifetime: Option<String>,
    /// How long a login lasts without its password [default: 30days]
    #[arg(long, env = "BRAIDCAST_MASTER_REFRESH_LIFETIME", value_name = "TIME")]
    refresh_lifetime: Option<String>,
    /// How long a ticket for a media server is good; clients renew at half of it [default: 10m]
    #[arg(long, env = "BRAIDCAST_MASTER_TICKET_LIFETIME", value_name = "TIME")]
    ticket_lifetime: Option<String>,
    /// How often each media server gets a new ticket key; at least --ticket-lifetime [default: 1h]
    #[arg(long, env = "BRAIDCAST_MASTER_TICKET_KEY_ROTATION", value_name = "TIME")]
    ticket_key_rotation: Option<String>,
    /// A media server whose clock is further off than this is not listed [default: 60s]
    #[arg(long, env = "BRAIDCAST_MASTER_CLOCK_SKEW_MAX", value_name = "TIME")]
    clock_skew_max: Option<String>,
    /// A media server that has not reported for this long is not listed; servers report every second [default: 3s]
    #[arg(long, env = "BRAIDCAST_MASTER_HEARTBEAT_TIMEOUT", value_name = "TIME")]
    heartbeat_timeout: Option<String>,
    /// How many servers should hold a video whose publisher does not say; 0 means all [default: 0]
    #[arg(long, env = "BRAIDCAST_MASTER_REPLICAS", value_name = "N")]
    replicas: Option<u32>,
    /// Wrong passwords in a row, for one account from one address, after which that address waits 1 s, 2 s, 4 s ... for
    /// it [default: 5]
    #[arg(long, env = "BRAIDCAST_MASTER_LOCK_AFTER", value_name = "N")]
    lock_after: Option<u32>,
    /// The longest such wait [default: 60s]
    #[arg(long, env = "BRAIDCAST_MASTER_LOCK_FOR", value_name = "TIME")]
    lock_for: Option<String>,
    /// Folder for this library's daily snapshots of all but the packs; the last seven stay [default: STATE/backups]
    #[arg(long, env = "BRAIDCAST_MASTER_BACKUP_DIR", value_name = "DIR")]
    backup_dir: Option<PathBuf>,
    /// How much of the origin's packs is hashed again in the background, in a second, so that damage is found while media
    /// servers hold whole copies: bytes, or with KiB, MiB, GiB or TiB; 0 means nothing; in the file `scrub_bytes_s`, in
    /// bytes [default: 8MiB]
    #[arg(long = "scrub", env = "BRAIDCAST_MASTER_SCRUB", value_name = "SIZE")]
    #[serde(serialize_with = "in_bytes", skip_serializing_if = "Option::is_none")]
    scrub_bytes_s: Option<ByteSize>,
    /// Administrator to create if there is no account at all
    #[arg(long, env = "BRAIDCAST_MASTER_BOOTSTRAP_ADMIN", value_name = "NAME", requires = "bootstrap_password_file")]
    #[serde(skip)]
    bootstrap_admin: Option<String>,
    /// File whose first line is that administrator's password
    #[arg(long, env = "BRAIDCAST_MASTER_BOOTSTRAP_PASSWORD_FILE", value_name = "FILE", requires = "bootstrap_admin")]
    #[serde(skip)]
    bootstrap_password_file: Option<PathBuf>,
    /// Take the packs in STATE/origin as this library's, once, after its disk was replaced: media servers give back
    /// what is missing, and packs that the database does not know go to STATE/origin/orphans
    #[arg(long)]
    #[serde(skip)]
    adopt_origin: bool,
    #[command(flatten)]
    #[serde(skip)]
    parent: ParentArg,
}

/// A size as the file has it.
fn in_bytes<S: serde::Serializer>(size: &Option<ByteSize>, serializer: S) -> Result<S::Ok, S::Error> {
    size.map(|size| size.0).serialize(serializer)
}

impl MasterArgs {
    fn settings(&self) -> Result<MasterConfig, SettingsError> {
        let mut config: MasterConfig = layered(self.config.as_deref(), self)?;
        config.adopt_origin = self.adopt_origin;
        if let (Some(username), Some(file)) = (&self.bootstrap_admin, &self.bootstrap_password_file) {
            let read = |source| SettingsError::Read { path: file.clone(), source };
            let text = Zeroizing::new(std::fs::read_to_string(file).map_err(read)?);
            let password = Zeroizing::new(text.lines().next().unwrap_or_default().to_owned());
            config.bootstrap_admin = Some(BootstrapAdmin { username: username.clone(), password });
        }
        Ok(config)
    }
}

/// Runs a master until it is told to end.
pub(crate) async fn run(args: MasterArgs) -> Result<(), CliError> {
    let mut termination = Termination::catch()?;
    args.parent.watch().map_err(CliError::Runtime)?;
    let master = Master::start(args.settings()?).await?;
    output::print(&format!("master listening {}\n", master.local_addr()))?;
    termination.requested().await;
    master.shutdown().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_the_flags_that_were_given_override_the_file() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), "ticket_lifetime = '3m'\nreplicas = 4\nlisten = '127.0.0.1:1'").expect("writable");
        let args = MasterArgs { config: Some(file.path().to_owned()), replicas: Some(2), ..MasterArgs::default() };
        let config = args.settings().expect("right");
        assert_eq!(config.ticket_lifetime, Duration::from_secs(180));
        assert_eq!(config.listen, "127.0.0.1:1".parse().expect("an address"));
        assert_eq!(config.replicas, 2);
        assert_eq!(config.lock_after, MasterConfig::default().lock_after);
    }

    #[test]
    fn every_flag_is_a_setting_of_the_file() {
        let text = || Some("3m".to_owned());
        let path = || Some(PathBuf::from("x"));
        let args = MasterArgs {
            config: None,
            listen: Some("127.0.0.1:1".parse().expect("an address")),
            state_dir: path(),
            tls_cert: path(),
            tls_key: path(),
            tls_names: vec!["a".to_owned()],
            join_token_file: path(),
            token_lifetime: text(),
            refresh_lifetime: text(),
            ticket_lifetime: text(),
            ticket_key_rotation: text(),
            clock_skew_max: text(),
            heartbeat_timeout: text(),
            replicas: Some(1),
            lock_after: Some(1),
            lock_for: text(),
            backup_dir: path(),
            scrub_bytes_s: Some(ByteSize(1)),
            bootstrap_admin: None,
            bootstrap_password_file: None,
            adopt_origin: false,
            parent: ParentArg::default(),
        };
        args.settings().expect("no key is unknown to the file");
    }

    #[test]
    fn a_wrong_duration_is_a_usage_error_that_repeats_it() {
        let args = MasterArgs { ticket_lifetime: Some("soon".to_owned()), ..MasterArgs::default() };
        let error = args.settings().expect_err("no duration").to_string();
        assert!(error.contains("soon"), "{error}");
    }
}
