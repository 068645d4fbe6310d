//! A profile: which master to ask, whom to trust, and who one is.
//!
//! ```toml
//! master = "192.0.2.7:4600"       # host:port
//! ca = "ca.pem"                   # beside the profile; or the PEM text itself as ca_pem = """..."""
//! username = "ada"
//! password = "..."                # or refresh_token = "...", which `braidcast login` writes
//! ```
//! The file holds a secret: it is written with mode 0600 and reported when others can read it.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::private_file;
use crate::secret::Secret;

/// Environment variable that names the profile where no `--profile` is given.
pub const PROFILE_VARIABLE: &str = "BRAIDCAST_PROFILE";
/// Where a profile is looked for from the working directory; `braidcast dev` puts it there.
pub const LOCAL_PROFILE: &str = ".braidcast/profile.toml";
/// Where a profile is looked for from the home directory; `braidcast login` puts it there.
pub const HOME_PROFILE: &str = ".config/braidcast/profile.toml";

const READABLE_BY_OTHERS: u32 = 0o077;

/// What a client needs to log in at a master.
#[derive(Clone, Debug)]
pub struct Profile {
    /// The file that it came from, or that it is to be saved to. Tokens are cached beside it.
    pub path: PathBuf,
    /// The master as `host:port`. The host is also the name that its certificate must bear.
    pub master: String,
    /// Certificates, in PEM, of the authority that signed the master's. No other authority is trusted.
    pub ca_pem: String,
    /// Who logs in.
    pub username: String,
    /// What proves it.
    pub credential: Credential,
}

/// What a user proves to be themselves with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// Good until it is changed.
    Password(Secret),
    /// Good for one use: the answer to it holds the next, which goes into the token cache.
    RefreshToken(Secret),
}

/// A profile cannot be found, read or written.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    /// None of the usual places holds one.
    #[error(
        "no profile found; tried {}; run `braidcast dev DIR` for a master of your own or `braidcast login` for another",
        list(.tried)
    )]
    NotFound {
        /// Where it was looked for.
        tried: Vec<PathBuf>,
    },
    /// The file cannot be read.
    #[error("cannot read the profile {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write the profile {path}: {source}")]
    Write {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is no TOML, or a key is unknown, missing or of the wrong type.
    #[error("the profile {path} is wrong in line {line}: {reason}")]
    Syntax {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// Of two keys, exactly one must be there.
    #[error("the profile {path} needs either `{one}` or `{other}`, and not both")]
    OneOf {
        /// Which file.
        path: PathBuf,
        /// A key.
        one: &'static str,
        /// Another key.
        other: &'static str,
    },
    /// The file with the authority's certificates cannot be read.
    #[error("cannot read the certificate authority {ca} of the profile {path}: {source}")]
    Ca {
        /// Which profile.
        path: PathBuf,
        /// Which file.
        ca: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A profile as it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProfileFile {
    master: String,
    ca: Option<PathBuf>,
    ca_pem: Option<String>,
    username: String,
    password: Option<Secret>,
    refresh_token: Option<Secret>,
}

/// A profile as it is written.
#[derive(Serialize)]
struct ProfileText<'a> {
    master: &'a str,
    username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refresh_token: Option<&'a str>,
    ca_pem: &'a str,
}

impl Profile {
    /// Loads the profile that a command should use: `explicit`, else `$BRAIDCAST_PROFILE`, else the first that exists
    /// of `./.braidcast/profile.toml` and `~/.config/braidcast/profile.toml`.
    ///
    /// # Errors
    /// [`ProfileError`]; a profile that was named must exist, and the others are not tried then.
    pub fn discover(explicit: Option<&Path>) -> Result<Self, ProfileError> {
        let named = explicit.map(Path::to_owned).or_else(named_profile);
        Self::load(&choose(named, &usual_places(std::env::home_dir().as_deref()))?)
    }

    /// Loads the profile in `path`.
    ///
    /// # Errors
    /// [`ProfileError`] names the file and what is wrong with it, and repeats no value of it.
    pub fn load(path: &Path) -> Result<Self, ProfileError> {
        let read = |source| ProfileError::Read { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(read)?;
        let mode = fs::metadata(path).map_err(read)?.permissions().mode();
        if mode & READABLE_BY_OTHERS != 0 {
            tracing::warn!("others can read the secret in {0}; run `chmod 600 {0}`", path.display());
        }
        let file: ProfileFile = toml::from_str(&text).map_err(|error| ProfileError::Syntax {
            path: path.to_owned(),
            line: line_of(&text, &error),
            // Not the error itself: its display quotes the line, which may hold the secret.
            reason: error.message().to_owned(),
        })?;
        let one_of = |one, other| ProfileError::OneOf { path: path.to_owned(), one, other };
        let ca_pem = match (file.ca, file.ca_pem) {
            (Some(ca), None) => read_ca(path, &ca)?,
            (None, Some(pem)) => pem,
            _ => return Err(one_of("ca", "ca_pem")),
        };
        let credential = match (file.password, file.refresh_token) {
            (Some(password), None) => Credential::Password(password),
            (None, Some(token)) => Credential::RefreshToken(token),
            _ => return Err(one_of("password", "refresh_token")),
        };
        Ok(Self { path: path.to_owned(), master: file.master, ca_pem, username: file.username, credential })
    }

    /// Writes the profile to its path with mode 0600; folders on the way are made.
    ///
    /// # Errors
    /// [`ProfileError::Write`].
    pub fn save(&self) -> Result<(), ProfileError> {
        let (password, refresh_token) = match &self.credential {
            Credential::Password(password) => (Some(password.expose()), None),
            Credential::RefreshToken(token) => (None, Some(token.expose())),
        };
        let text = ProfileText {
            master: &self.master,
            username: &self.username,
            password,
            refresh_token,
            ca_pem: &self.ca_pem,
        };
        let text = toml::to_string_pretty(&text).expect("a table of texts is TOML");
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        folder
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| private_file::write(&self.path, text.as_bytes()))
            .map_err(|source| ProfileError::Write { path: self.path.clone(), source })
    }
}

/// Where `braidcast login` puts the profile of this user; nothing where there is no home directory.
pub fn home_profile() -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(HOME_PROFILE))
}

/// The profile that `$BRAIDCAST_PROFILE` names.
pub fn named_profile() -> Option<PathBuf> {
    std::env::var_os(PROFILE_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn usual_places(home: Option<&Path>) -> Vec<PathBuf> {
    std::iter::once(PathBuf::from(LOCAL_PROFILE)).chain(home.map(|home| home.join(HOME_PROFILE))).collect()
}

fn choose(named: Option<PathBuf>, usual: &[PathBuf]) -> Result<PathBuf, ProfileError> {
    named
        .or_else(|| usual.iter().find(|path| path.exists()).cloned())
        .ok_or_else(|| ProfileError::NotFound { tried: usual.to_vec() })
}

fn read_ca(profile: &Path, ca: &Path) -> Result<String, ProfileError> {
    let ca = profile.parent().unwrap_or(Path::new("")).join(ca);
    fs::read_to_string(&ca).map_err(|source| ProfileError::Ca { path: profile.to_owned(), ca, source })
}

fn line_of(text: &str, error: &toml::de::Error) -> usize {
    let start = error.span().map_or(0, |span| span.start);
    1 + text.bytes().take(start).filter(|&byte| byte == b'\n').count()
}

fn list(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("profile.toml");
        private_file::write(&path, text.as_bytes()).expect("writable");
        (dir, path)
    }

    fn message(text: &str) -> String {
        let (_dir, path) = written(text);
        Profile::load(&path).expect_err("a wrong profile").to_string()
    }

    const GOOD: &str = "master = 'h:1'\nusername = 'ada'\npassword = 'hunter2'\nca_pem = 'PEM'\n";

    #[test]
    fn a_saved_profile_is_private_and_reads_back() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let saved = Profile {
            path: dir.path().join("new/folder/profile.toml"),
            master: "127.0.0.1:7400".to_owned(),
            ca_pem: "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n".to_owned(),
            username: "ada".to_owned(),
            credential: Credential::RefreshToken(Secret::new("a \"quoted\" token")),
        };
        saved.save().expect("writable");
        let mode = fs::metadata(&saved.path).expect("exists").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let loaded = Profile::load(&saved.path).expect("what was saved");
        assert_eq!((loaded.master, loaded.ca_pem, loaded.username), (saved.master, saved.ca_pem, saved.username));
        assert_eq!(loaded.credential, saved.credential);
    }

    #[test]
    fn a_certificate_file_is_found_beside_the_profile() {
        let (dir, path) = written("master = 'h:1'\nusername = 'a'\npassword = 'p'\nca = 'ca.pem'\n");
        fs::write(dir.path().join("ca.pem"), "THE CA").expect("writable");
        assert_eq!(Profile::load(&path).expect("a good profile").ca_pem, "THE CA");
        fs::remove_file(dir.path().join("ca.pem")).expect("own file");
        let message = Profile::load(&path).expect_err("no CA").to_string();
        assert!(message.contains("ca.pem") && message.contains("profile.toml"), "{message}");
    }

    #[test]
    fn unknown_keys_are_errors_that_name_key_and_line() {
        let message = message(&format!("{GOOD}pasword = 'x'\n"));
        assert!(message.contains("line 5") && message.contains("pasword"), "{message}");
    }

    #[test]
    fn exactly_one_credential_and_one_authority_are_needed() {
        let both = message(&format!("{GOOD}refresh_token = 'x'\n"));
        assert!(both.contains("`password` or `refresh_token`"), "{both}");
        let none = message("master = 'h:1'\nusername = 'ada'\npassword = 'x'\n");
        assert!(none.contains("`ca` or `ca_pem`"), "{none}");
    }

    #[test]
    fn errors_never_repeat_a_secret() {
        for broken in ["password = 'hunter2", "password = 884422", "password = hunter2", "password = ['hunter2']"] {
            let text = format!("master = 'h:1'\nusername = 'ada'\nca_pem = 'PEM'\n{broken}\n");
            let (_dir, path) = written(&text);
            let error = Profile::load(&path).expect_err(broken);
            let printed = format!("{error} {error:?}");
            assert!(!printed.contains("hunter2") && !printed.contains("884422"), "{broken}: {printed}");
            assert!(printed.contains("line 4"), "{printed}");
        }
    }

    #[test]
    fn debug_output_hides_the_credential() {
        let (_dir, path) = written(GOOD);
        let profile = Profile::load(&path).expect("a good profile");
        assert!(!format!("{profile:?}").contains("hunter2"));
    }

    #[test]
    fn a_named_profile_goes_before_the_usual_places_even_when_it_is_missing() {
        let (_dir, existing) = written(GOOD);
        let named = PathBuf::from("/nowhere/profile.toml");
        assert_eq!(choose(Some(named.clone()), std::slice::from_ref(&existing)).expect("named"), named);
    }

    #[test]
    fn the_first_usual_place_that_exists_is_taken() {
        let (_dir, existing) = written(GOOD);
        let (_other_dir, later) = written(GOOD);
        let usual = [PathBuf::from("/nowhere/profile.toml"), existing.clone(), later];
        assert_eq!(choose(None, &usual).expect("one exists"), existing);
    }

    #[test]
    fn not_found_lists_what_was_tried_and_the_way_out() {
        let usual = usual_places(Some(Path::new("/home/ada")));
        let message = choose(None, &usual[1..]).expect_err("none exists").to_string();
        assert!(message.contains("/home/ada/.config/braidcast/profile.toml"), "{message}");
        assert!(message.contains("braidcast dev") && message.contains("braidcast login"), "{message}");
        assert_eq!(usual[0], Path::new(LOCAL_PROFILE), "the working directory goes before the home directory");
    }
}
