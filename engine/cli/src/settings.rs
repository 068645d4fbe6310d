//! Flags, environment and file made one configuration.
//!
//! The flags of a part are a struct of options, which serialises to a table of those that were given (clap has put
//! the environment below the flags by then). That table goes over the file's, and what is still absent is a default.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::Table;

/// A configuration file is of no use.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No TOML, or an unknown key or a wrong value.
    #[error("{path}, line {line}: {reason}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A flag or variable holds what the setting cannot be.
    #[error("{0}")]
    Flag(String),
    /// A setting without a default is absent.
    #[error("`{setting}` is missing: give --{flag}, ${variable}, or `{setting}` in the file of --config")]
    Missing {
        /// Its key in the file.
        setting: &'static str,
        /// Its flag.
        flag: &'static str,
        /// Its environment variable.
        variable: &'static str,
    },
}

/// The settings in `file`, with those of `flags` that were given put over them.
pub(crate) fn layered<C: DeserializeOwned>(file: Option<&Path>, flags: &impl Serialize) -> Result<C, SettingsError> {
    let mut table = file.map_or(Ok(Table::new()), read::<C>)?;
    table.extend(Table::try_from(flags).expect("a struct of plain values is TOML"));
    C::deserialize(table).map_err(|error| SettingsError::Flag(error.message().to_owned()))
}

/// Reads a file and checks it as it stands, so that an error can name the line.
fn read<C: DeserializeOwned>(path: &Path) -> Result<Table, SettingsError> {
    let text = fs::read_to_string(path).map_err(|source| SettingsError::Read { path: path.to_owned(), source })?;
    let wrong = |error: toml::de::Error| SettingsError::File {
        path: path.to_owned(),
        line: 1 + text[..error.span().map_or(0, |span| span.start)].matches('\n').count(),
        reason: error.message().to_owned(),
    };
    toml::from_str::<C>(&text).map_err(wrong)?;
    toml::from_str(&text).map_err(wrong)
}

/// Refuses a file of `--ca` that holds no certificate: a handshake would only say that the other side is not trusted.
pub(crate) fn check_ca(path: &Path, pem: &str) -> Result<(), SettingsError> {
    if pem.contains("-----BEGIN CERTIFICATE-----") {
        return Ok(());
    }
    let path = path.display();
    Err(SettingsError::Flag(format!(
        "{path} (--ca) holds no certificate: give a copy of the `ca.pem` in the master's state folder"
    )))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(default, deny_unknown_fields)]
    struct Config {
        name: String,
        count: u32,
    }

    impl Default for Config {
        fn default() -> Self {
            Self { name: "default".to_owned(), count: 1 }
        }
    }

    #[derive(Default, Serialize)]
    struct Flags {
        name: Option<String>,
        count: Option<u32>,
    }

    fn with_file(text: &str, flags: &Flags) -> Result<Config, SettingsError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        fs::write(file.path(), text).expect("writable");
        layered(Some(file.path()), flags)
    }

    #[test]
    fn a_flag_that_was_not_given_never_overrides_the_file() {
        let config = with_file("name = 'file'\ncount = 7", &Flags { count: Some(9), ..Flags::default() });
        assert_eq!(config.expect("right"), Config { name: "file".to_owned(), count: 9 });
    }

    #[test]
    fn what_nobody_sets_is_the_default() {
        assert_eq!(with_file("count = 7", &Flags::default()).expect("right").name, "default");
        assert_eq!(layered::<Config>(None, &Flags::default()).expect("right"), Config::default());
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let error = with_file("count = 7\n\nnmae = 'x'", &Flags::default()).expect_err("misspelt").to_string();
        assert!(error.contains("line 3") && error.contains("nmae"), "{error}");
    }

    #[test]
    fn a_wrong_value_in_the_file_is_an_error_even_when_a_flag_replaces_it() {
        let error = with_file("count = 'many'", &Flags { count: Some(1), ..Flags::default() });
        assert!(matches!(error, Err(SettingsError::File { line: 1, .. })), "{error:?}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = layered::<Config>(Some(Path::new("/nowhere.toml")), &Flags::default()).expect_err("missing");
        assert!(error.to_string().contains("/nowhere.toml"), "{error}");
    }
}
