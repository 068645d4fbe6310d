//! What a master needs to be told; one struct serves flags, environment and file.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::limits::SCRUB_BYTES_S;

/// Settings of a master. Durations in files are written as `15m`, `30days`, `1h 30m`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MasterConfig {
    /// Address and TCP port of the control plane. Port 0 takes a free one; [`crate::Master::local_addr`] tells
    /// which. Default `127.0.0.1:4600`.
    pub listen: SocketAddr,
    /// Folder for the database, the packs (`origin/`), the certificates, the join token, the daily snapshots
    /// (`backups/`) and room that is kept for the database (`reserve`, 16 MiB); created with mode 0700. One master at a time may use it. Default `./.braidcast/master`.
    pub state_dir: PathBuf,
    /// Certificate chain in PEM. Default: none, and then the master makes its own CA (`STATE/ca.pem`, `STATE/ca.key`)
    /// and signs a fresh server certificate at every start. Needs `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// Private key in PEM that belongs to `tls_cert`. Needs `tls_cert`.
    pub tls_key: Option<PathBuf>,
    /// Further DNS names and IP addresses for the certificate that the master makes; `localhost`, the loopback
    /// addresses and the address listened on are always in it. Default: none.
    pub tls_names: Vec<String>,
    /// File with the token that media servers join with. Drawn at the first start if the file is absent (mode 0600).
    /// Default `STATE/join-token`.
    pub join_token_file: Option<PathBuf>,
    /// How long an access token is good for. It is void at once when its user is removed or has a new password; a master
    /// that is started after that takes it until it expires, but not for managing users. Default 15 min.
    #[serde(with = "duration")]
    pub token_lifetime: Duration,
    /// How long a login lasts without its password: the life of each refresh token. Default 30 days.
    #[serde(with = "duration")]
    pub refresh_lifetime: Duration,
    /// How long a ticket for a media server is good for. Clients renew at half of it; a short one costs calls, a long
    /// one keeps a removed user watching. At least 1 s, at most `ticket_key_rotation`. Default 10 min.
    #[serde(with = "duration")]
    pub ticket_lifetime: Duration,
    /// How often each media server gets a new ticket key; the one before stays good until the next. Default 1 h.
    #[serde(with = "duration")]
    pub ticket_key_rotation: Duration,
    /// Largest difference between a media server's clock and the master's. Tickets expire by the server's clock, so a
    /// server that is further off is not listed. Default 60 s, which is what the protocol tolerates.
    #[serde(with = "duration")]
    pub clock_skew_max: Duration,
    /// A media server that has not reported for this long is not listed. Servers report every second; below 2 s a
    /// busy one flaps. Default 3 s.
    #[serde(with = "duration")]
    pub heartbeat_timeout: Duration,
    /// How many servers should hold a video whose publisher does not say. Default 0: all of them.
    pub replicas: u32,
    /// Wrong passwords in a row, for one account from one address, after which each further one has to wait: 1 s, 2 s,
    /// 4 s and so on. Nobody else waits for them. Default 5.
    pub lock_after: u32,
    /// The longest such wait. Default 60 s.
    #[serde(with = "duration")]
    pub lock_for: Duration,
    /// Folder for the daily snapshots of everything but the packs, the last seven of which stay; created with mode
    /// 0700. One on another disk survives the loss of this one. Each library needs a folder of its
    /// own: no master makes a new library where snapshots of another one stand. Default `STATE/backups`.
    pub backup_dir: Option<PathBuf>,
    /// Bytes per second of the origin's packs that are hashed in the background, so that damage is found while media
    /// servers still hold whole copies. Default 8 MiB, a terabyte in a day and a half. 0: none are.
    pub scrub_bytes_s: u64,
    /// Take the packs in the origin as this library's, once, after the origin's disk was replaced or a person has
    /// looked: what is missing is lost until media servers give it back, and packs that the database does not know
    /// become orphans. Default: refuse to start. Not read from files.
    #[serde(skip)]
    pub adopt_origin: bool,
    /// An administrator to create at start, only if the database holds no user at all. Not read from files.
    #[serde(skip)]
    pub bootstrap_admin: Option<BootstrapAdmin>,
}

/// The first account of a new master.
#[derive(Clone)]
pub struct BootstrapAdmin {
    /// Its name.
    pub username: String,
    /// Its password.
    pub password: Zeroizing<String>,
}

impl fmt::Debug for BootstrapAdmin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BootstrapAdmin").field("username", &self.username).finish_non_exhaustive()
    }
}

impl Default for MasterConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 4600)),
            state_dir: PathBuf::from(".braidcast/master"),
            tls_cert: None,
            tls_key: None,
            tls_names: Vec::new(),
            join_token_file: None,
            token_lifetime: Duration::from_mins(15),
            refresh_lifetime: Duration::from_hours(30 * 24),
            ticket_lifetime: Duration::from_mins(10),
            ticket_key_rotation: Duration::from_hours(1),
            clock_skew_max: Duration::from_secs(60),
            heartbeat_timeout: Duration::from_secs(3),
            replicas: 0,
            lock_after: 5,
            lock_for: Duration::from_secs(60),
            backup_dir: None,
            scrub_bytes_s: SCRUB_BYTES_S,
            adopt_origin: false,
            bootstrap_admin: None,
        }
    }
}

impl MasterConfig {
    /// The certificate that clients and servers must trust, where the master makes its own: `STATE/ca.pem`.
    pub fn ca_path(&self) -> PathBuf {
        self.state_dir.join("ca.pem")
    }

    /// Where the join token is.
    pub fn join_token_path(&self) -> PathBuf {
        self.join_token_file.clone().unwrap_or_else(|| self.state_dir.join("join-token"))
    }

    /// Where the daily snapshots are.
    pub fn backup_path(&self) -> PathBuf {
        self.backup_dir.clone().unwrap_or_else(|| self.state_dir.join("backups"))
    }

    pub(crate) fn ca_key_path(&self) -> PathBuf {
        self.state_dir.join("ca.key")
    }

    pub(crate) fn database_path(&self) -> PathBuf {
        self.state_dir.join("master.db")
    }

    pub(crate) fn origin_path(&self) -> PathBuf {
        self.state_dir.join("origin")
    }

    pub(crate) fn lock_path(&self) -> PathBuf {
        self.state_dir.join("master.lock")
    }

    /// Both TLS files, or neither.
    pub(crate) fn own_tls(&self) -> Result<Option<(&Path, &Path)>, ConfigError> {
        match (&self.tls_cert, &self.tls_key) {
            (Some(cert), Some(key)) => Ok(Some((cert, key))),
            (None, None) => Ok(None),
            (Some(_), None) => Err(ConfigError::HalfTls { given: "tls_cert", missing: "tls_key" }),
            (None, Some(_)) => Err(ConfigError::HalfTls { given: "tls_key", missing: "tls_cert" }),
        }
    }

    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting and what it may be.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.own_tls()?;
        let at_least = [
            ("token_lifetime", self.token_lifetime),
            ("refresh_lifetime", self.refresh_lifetime),
            ("ticket_lifetime", self.ticket_lifetime),
            ("clock_skew_max", self.clock_skew_max),
            ("heartbeat_timeout", self.heartbeat_timeout),
        ];
        for (setting, found) in at_least {
            if !(DURATION_MIN..=DURATION_MAX).contains(&found) {
                return Err(ConfigError::Duration { setting, found });
            }
        }
        if self.ticket_key_rotation < self.ticket_lifetime || self.ticket_key_rotation > DURATION_MAX {
            return Err(ConfigError::Rotation { rotation: self.ticket_key_rotation, lifetime: self.ticket_lifetime });
        }
        if self.lock_after == 0 {
            return Err(ConfigError::LockAfter);
        }
        Ok(())
    }
}

const DURATION_MIN: Duration = Duration::from_secs(1);
const DURATION_MAX: Duration = Duration::from_hours(10 * 365 * 24);

/// A setting that cannot be.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// One of two files that belong together.
    #[error("`{given}` is set and `{missing}` is not: set both, or neither for a certificate of the master's own")]
    HalfTls {
        /// The setting that is there.
        given: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// Too short or too long.
    #[error("`{setting}` is {found:?}; it must be between 1 s and 10 years")]
    Duration {
        /// Which setting.
        setting: &'static str,
        /// Its value.
        found: Duration,
    },
    /// Tickets would outlive the keys they are sealed under.
    #[error("`ticket_key_rotation` is {rotation:?}; it must be at least `ticket_lifetime` ({lifetime:?})")]
    Rotation {
        /// Its value.
        rotation: Duration,
        /// The lifetime of a ticket.
        lifetime: Duration,
    },
    /// Every attempt would wait for the one before.
    #[error("`lock_after` is 0; it must be at least 1")]
    LockAfter,
}

/// Durations as people write them.
mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text).map_err(|e| D::Error::custom(format!("`{text}` is no duration: {e}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_pass_and_survive_a_file() {
        let config = MasterConfig::default();
        assert_eq!(config.check(), Ok(()));
        let text = toml::to_string(&config).expect("serialises");
        let back: MasterConfig = toml::from_str(&text).expect("parses");
        assert_eq!(back.token_lifetime, config.token_lifetime);
        assert_eq!(back.listen, config.listen);
    }

    #[test]
    fn an_unknown_setting_is_an_error() {
        let error = toml::from_str::<MasterConfig>("token_lifetimes = \"15m\"").expect_err("misspelt");
        assert!(error.to_string().contains("token_lifetimes"), "{error}");
    }

    #[test]
    fn settings_that_contradict_each_other_are_named() {
        let with = |change: fn(&mut MasterConfig)| {
            let mut config = MasterConfig::default();
            change(&mut config);
            config.check()
        };
        assert_eq!(
            with(|c| c.tls_cert = Some("x".into())),
            Err(ConfigError::HalfTls { given: "tls_cert", missing: "tls_key" })
        );
        assert_eq!(with(|c| c.ticket_lifetime = Duration::from_secs(1)), Ok(()));
        assert_eq!(
            with(|c| c.ticket_lifetime = Duration::from_millis(999)),
            Err(ConfigError::Duration { setting: "ticket_lifetime", found: Duration::from_millis(999) })
        );
        assert_eq!(with(|c| c.ticket_key_rotation = c.ticket_lifetime), Ok(()));
        assert!(with(|c| c.ticket_key_rotation = c.ticket_lifetime - Duration::from_secs(1)).is_err());
        assert_eq!(with(|c| c.lock_after = 0), Err(ConfigError::LockAfter));
    }

    #[test]
    fn debug_output_hides_the_password() {
        let password = Zeroizing::new("open sesame".to_owned());
        let admin = BootstrapAdmin { username: "root".into(), password };
        let config = MasterConfig { bootstrap_admin: Some(admin), ..MasterConfig::default() };
        let text = format!("{config:?}");
        assert!(text.contains("root") && !text.contains("sesame"), "{text}");
    }
}
