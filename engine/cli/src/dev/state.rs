//! The folder where a `dev` keeps everything.
//!
//! ```text
//! STATE/profile.toml      how clients on this machine log in (0600)
//!       dev.toml          ports, the same across restarts
//!       dev.lock          held by the dev that runs, with its process id
//!       dev.sock          where `dev --restart` reaches it
//!       admin-password    of the account `admin` (0600)
//!       master/           the master's state: database, origin, CA, join token
//!       server-N/         a media server's state: its packs
//!       log/              what each part logs
//! ```

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use braidcast_client::profile::Credential;
use braidcast_client::{Profile, Secret, private_file};
use serde::{Deserialize, Serialize};

use super::{DevError, LOOPBACK, Part, ports};

/// The account that `dev` makes.
pub(super) const ADMIN: &str = "admin";

const PASSWORD_BYTES: usize = 18;
const PRIVATE_FOLDER_MODE: u32 = 0o700;

/// An opened and locked state folder.
#[derive(Debug)]
pub(super) struct State {
    root: PathBuf,
    settings: Settings,
    _lock: File,
}

/// What `dev` remembers between runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    master_port: u16,
    server_ports: Vec<u16>,
}

impl State {
    /// Opens the folder, which is made if it is missing, for `servers` servers: by default as many as last time, and
    /// `default` the first time.
    pub(super) fn open(root: &Path, servers: Option<usize>, default: usize) -> Result<Self, DevError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |source| DevError::State { path, source }
        };
        DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER_MODE).create(root).map_err(at(root))?;
        let root = root.canonicalize().map_err(at(root))?;
        let lock = lock(&root)?;
        let log = root.join("log");
        fs::create_dir_all(&log).map_err(at(&log))?;
        let mut state = Self { root, settings: Settings::default(), _lock: lock };
        state.settings = state.load_settings(servers, default)?;
        Ok(state)
    }

    /// How many servers run.
    pub(super) fn servers(&self) -> usize {
        self.settings.server_ports.len()
    }

    /// Every part, in the order in which they start.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part> + use<> {
        std::iter::once(Part::Master).chain((1..=self.servers()).map(Part::Server))
    }

    /// The port of a part; nothing if there is no such part.
    pub(super) fn port(&self, part: Part) -> Option<u16> {
        match part {
            Part::Master => Some(self.settings.master_port),
            Part::Server(number) => self.settings.server_ports.get(number.checked_sub(1)?).copied(),
        }
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn settings_path(&self) -> PathBuf {
        self.root.join("dev.toml")
    }

    pub(super) fn profile_path(&self) -> PathBuf {
        self.root.join("profile.toml")
    }

    pub(super) fn part_dir(&self, part: Part) -> PathBuf {
        self.root.join(part.file_name())
    }

    pub(super) fn log_path(&self, part: Part) -> PathBuf {
        self.root.join("log").join(part.file_name()).with_extension("log")
    }

    pub(super) fn ca_path(&self) -> PathBuf {
        self.part_dir(Part::Master).join("ca.pem")
    }

    pub(super) fn join_token_path(&self) -> PathBuf {
        self.part_dir(Part::Master).join("join-token")
    }

    pub(super) fn password_path(&self) -> PathBuf {
        self.root.join("admin-password")
    }

    /// Draws the administrator's password, unless that was done before.
    pub(super) fn ensure_password(&self) -> Result<(), DevError> {
        let path = self.password_path();
        if path.exists() {
            return Ok(());
        }
        let mut random = [0; PASSWORD_BYTES];
        aws_lc_rs::rand::fill(&mut random).map_err(|_| DevError::NoRandomness)?;
        let password: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        private_file::write(&path, password.as_bytes()).map_err(|source| DevError::State { path, source })
    }

    /// The administrator's profile for the master that runs now. One that fits it is left as it is: its password may
    /// have been changed since.
    pub(super) fn ensure_profile(&self) -> Result<Profile, DevError> {
        let read = |path: PathBuf| fs::read_to_string(&path).map_err(|source| DevError::State { path, source });
        let master = format!("{LOOPBACK}:{}", self.settings.master_port);
        let ca_pem = read(self.ca_path())?;
        let path = self.profile_path();
        if let Ok(profile) = Profile::load(&path)
            && profile.master == master
            && profile.ca_pem == ca_pem
        {
            return Ok(profile);
        }
        let credential = Credential::Password(Secret::new(read(self.password_path())?));
        let profile = Profile { path, master, ca_pem, username: ADMIN.to_owned(), credential };
        let written = profile.save().map_err(io::Error::other);
        written.map_err(|source| DevError::State { path: profile.path.clone(), source })?;
        Ok(profile)
    }

    /// The settings of the last run, with ports for `servers` servers.
    fn load_settings(&self, servers: Option<usize>, default: usize) -> Result<Settings, DevError> {
        let path = self.settings_path();
        let mut settings = match fs::read_to_string(&path) {
            Ok(text) => toml::from_str(&text).map_err(|error: toml::de::Error| DevError::Settings {
                path: path.clone(),
                reason: error.message().to_owned(),
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Settings::default(),
            Err(source) => return Err(DevError::State { path, source }),
        };
        if settings.master_port == 0 {
            settings.master_port = ports::choose(1, &settings.server_ports)?[0];
        }
        let known = settings.server_ports.len();
        let servers = servers.unwrap_or(if known == 0 { default } else { known });
        if servers > known {
            let taken: Vec<u16> = settings.server_ports.iter().chain([&settings.master_port]).copied().collect();
            settings.server_ports.extend(ports::choose(servers - known, &taken)?);
        }
        let text = toml::to_string(&settings).expect("numbers are TOML");
        private_file::write(&path, text.as_bytes()).map_err(|source| DevError::State { path, source })?;
        settings.server_ports.truncate(servers);
        Ok(settings)
    }
}

/// Takes the folder's lock, which the kernel lets go when this process ends, however it ends.
fn lock(root: &Path) -> Result<File, DevError> {
    let path = root.join("dev.lock");
    let at = |source| DevError::State { path: path.clone(), source };
    let mut file = File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(at)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let pid = io::read_to_string(&file).map_err(at)?;
            return Err(DevError::Running { state: root.to_owned(), pid: pid.trim().to_owned() });
        }
        Err(TryLockError::Error(source)) => return Err(at(source)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(at)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(root: &Path, servers: Option<usize>) -> State {
        State::open(root, servers, 3).expect("a writable folder")
    }

    #[test]
    fn ports_and_the_number_of_servers_stay_across_restarts() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let ports = |state: &State| state.parts().map(|part| state.port(part).expect("a part")).collect::<Vec<_>>();
        let first = ports(&open(dir.path(), None));
        assert_eq!(first.len(), 4);
        assert_eq!(ports(&open(dir.path(), None)), first);
        assert_eq!(ports(&open(dir.path(), Some(1))), first[..2]);
        let more = ports(&open(dir.path(), Some(5)));
        assert_eq!(more[..4], first, "servers that were left out once keep their ports");
        assert_eq!(more.len(), 6);
    }

    #[test]
    fn there_is_no_server_zero_and_none_past_the_last() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let state = open(dir.path(), Some(2));
        assert!(state.port(Part::Server(2)).is_some());
        assert_eq!(state.port(Part::Server(0)), None);
        assert_eq!(state.port(Part::Server(3)), None);
    }

    #[test]
    fn a_second_dev_is_refused_and_told_the_process_id_of_the_first() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let held = open(dir.path(), None);
        let error = State::open(dir.path(), None, 3).expect_err("locked").to_string();
        assert!(error.contains(&format!("process {} ", std::process::id())), "{error}");
        drop(held);
        open(dir.path(), None);
    }

    #[test]
    fn the_password_is_drawn_once_and_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let state = open(dir.path(), None);
        state.ensure_password().expect("writable");
        let first = fs::read(state.password_path()).expect("written");
        state.ensure_password().expect("writable");
        assert_eq!(fs::read(state.password_path()).expect("written"), first);
        assert_eq!(first.len(), 2 * PASSWORD_BYTES);
        let mode = fs::metadata(state.password_path()).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_profile_that_fits_the_master_is_left_as_it_is() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let state = open(dir.path(), None);
        state.ensure_password().expect("writable");
        fs::create_dir(state.part_dir(Part::Master)).expect("writable");
        fs::write(state.ca_path(), "CA 1").expect("writable");
        let mut profile = state.ensure_profile().expect("writable");
        profile.credential = Credential::Password(Secret::new("changed"));
        profile.save().expect("writable");
        assert_eq!(state.ensure_profile().expect("readable").credential, profile.credential);
        fs::write(state.ca_path(), "CA 2").expect("writable");
        assert_ne!(state.ensure_profile().expect("writable").credential, profile.credential);
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        fs::write(dir.path().join("dev.toml"), "master_port = 'x'").expect("writable");
        let error = State::open(dir.path(), None, 3).expect_err("wrong").to_string();
        assert!(error.contains("dev.toml"), "{error}");
    }
}
