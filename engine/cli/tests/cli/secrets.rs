//! Nothing that a process says, and nothing that others can see of it, holds a key, a token or a password.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use braidcast_client::Profile;
use braidcast_client::control::{VideoRef, Window};
use braidcast_client::profile::Credential;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{Row, SqlSafeStr};

use crate::support::{Dev, Process, sha256_of_file};

/// What must not be said, by name.
type Secrets = BTreeMap<String, Vec<u8>>;

#[test]
fn neither_logs_nor_errors_nor_json_nor_command_lines_hold_a_secret() {
    let mut dev = Dev::of([("film", 3_000_000)]).flag("--log", "trace").start();
    let client = dev.client().clone();
    let mut said = Vec::new();
    let mut say = |what: &str, process: &mut Process| {
        let ended = process.finish();
        said.push((format!("{what}: standard output"), ended.stdout));
        said.push((format!("{what}: standard error"), ended.stderr));
    };
    let profile = client.profile().to_str().expect("a UTF-8 path").to_owned();
    let copy = dev.path("copy");
    let target = copy.to_str().expect("a UTF-8 path");
    for arguments in [
        &["get", "film", "--json", "-o", target][..],
        &["get", "no such film"],
        &["ls"],
        &["info", "film"],
        &["servers"],
        &["user", "ls"],
        &["doctor"],
        &["rm", "no such film"],
    ] {
        let flags = ["--log", "trace", "--profile", &profile];
        say(&arguments.join(" "), &mut Process::start(arguments.iter().chain(&flags)));
    }
    assert_eq!(sha256_of_file(&copy), dev.film("film").sha256, "the session did something");
    let viewer = client.add_viewer("ada");
    drop(viewer.run(["ls"]));
    let wrong = a_profile_with_a_wrong_password(&client, &dev.path("wrong.toml"));
    say("a wrong password", &mut Process::start(["ls", "--log", "trace", "--profile", &wrong]));

    for (name, pid) in processes(&mut dev) {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).expect("it runs");
            said.push((format!("{file} of {name}"), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    said.push(("dev: standard output".into(), dev.process().stdout()));
    said.push(("dev: standard error".into(), dev.process().stderr()));
    said.push(("logs of the parts".into(), dev.logs()));
    let logs = said.last().map_or(0, |(_, text)| text.len());
    assert!(logs > 10_000, "the parts log in full: {logs} bytes");

    let secrets = secrets(&dev, &viewer, Path::new(&wrong));
    assert!(secrets.len() > 12, "they were found: {:?}", secrets.keys());
    for (name, secret) in &secrets {
        for form in forms(secret) {
            for (place, text) in &said {
                assert!(!text.contains(&form), "{place} holds {name}");
            }
        }
    }
}

#[test]
fn files_that_hold_secrets_are_for_their_owner_alone() {
    let dev = Dev::of([("film", 1_000)]).servers(1).start();
    drop(dev.client().run(["ls"]));
    let folders = [dev.state(), dev.state().join("master"), dev.state().join("server-1")];
    let mut checked = Vec::new();
    for path in folders.iter().flat_map(|folder| files(folder)) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let words = ["profile", "password", "token", "key", ".db"];
        let secret = words.iter().any(|word| name.contains(word)) && !name.ends_with(".lock");
        if secret {
            let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o777;
            assert_eq!(mode & 0o077, 0, "{} has mode {mode:o}", path.display());
            checked.push(name);
        }
    }
    for needed in ["profile.toml", "profile.tokens.toml", "join-token"] {
        assert!(checked.iter().any(|name| name == needed), "{needed} among {checked:?}");
    }
}

fn a_profile_with_a_wrong_password(client: &crate::support::Client, path: &Path) -> String {
    let mut profile = Profile::load(client.profile()).expect("a profile");
    profile.path = path.to_owned();
    profile.credential = Credential::Password(braidcast_client::Secret::new("quite the wrong password"));
    profile.save().expect("writable");
    path.to_str().expect("a UTF-8 path").to_owned()
}

fn processes(dev: &mut Dev) -> Vec<(String, u32)> {
    let mut all = vec![("dev".to_owned(), dev.process().pid()), ("the master".to_owned(), dev.master().pid)];
    all.extend(dev.servers().iter().enumerate().map(|(n, server)| (format!("server {}", n + 1), server.pid)));
    all
}

/// Everything secret that this session has to do with, read from where it is kept or asked for as a client asks.
fn secrets(dev: &Dev, viewer: &crate::support::Client, wrong: &Path) -> Secrets {
    let mut secrets = Secrets::new();
    let profiles = [dev.client().profile(), viewer.profile(), wrong];
    for path in profiles.into_iter().flat_map(|path| [path.to_owned(), path.with_extension("tokens.toml")]) {
        // A profile whose login failed has no tokens.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let table: toml::Table = text.parse().expect("TOML");
        for (key, value) in quoted(&table) {
            if ["password", "token"].iter().any(|word| key.contains(word)) {
                secrets.insert(format!("{key} of {}", path.display()), value.into_bytes());
            }
        }
    }
    let master = dev.state().join("master");
    for path in files(&dev.state()).into_iter().chain(files(&master)) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if ["join-token", "admin-password"].contains(&name.as_str()) {
            let text = fs::read_to_string(&path).expect("readable");
            secrets.insert(name, text.trim().into());
        } else if name.ends_with(".key") {
            let text = fs::read_to_string(&path).expect("readable");
            let line = text.lines().nth(1).expect("a key has a line of base64");
            secrets.insert(name, line.into());
        }
    }
    dev.client().ask(async |control| {
        let list = control.distribution(VideoRef::Name("film"), Window::ALL).await.expect("it is published");
        secrets.insert("content key".into(), list.content_key.expose().to_vec());
    });
    let database = files(&master).into_iter().find(|path| is_database(path)).expect("the master has a database");
    secrets.extend(from_database(&database));
    secrets
}

fn quoted(table: &toml::Table) -> Vec<(String, String)> {
    let nested = table.values().filter_map(toml::Value::as_table).flat_map(quoted);
    let own = table.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    own.chain(nested).collect()
}

/// Ticket keys, the master's own keys, and password hashes.
fn from_database(path: &Path) -> Secrets {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let options = SqliteConnectOptions::new().filename(path).read_only(true);
        let pool = SqlitePool::connect_with(options).await.expect("the master's database");
        let mut secrets = Secrets::new();
        for (what, query) in [
            ("ticket key", "SELECT server_id, key FROM servers"),
            ("setting", "SELECT name, value FROM settings"),
            ("password hash", "SELECT username, CAST(password_hash AS BLOB) FROM users"),
        ] {
            let rows = sqlx::query(query.into_sql_str()).fetch_all(&pool).await.expect(query);
            assert!(!rows.is_empty(), "{query} finds something");
            for row in rows {
                let (name, value): (String, Vec<u8>) = (row.get(0), row.get(1));
                // Short settings are numbers and the like.
                if value.len() >= 16 {
                    secrets.insert(format!("{what} of {name}"), value);
                }
            }
        }
        secrets
    })
}

/// How a secret may look in a text.
fn forms(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let mut forms = vec![hex.to_uppercase(), hex, list, base64(secret)];
    forms.extend(std::str::from_utf8(secret).ok().map(str::to_owned));
    forms
}

/// RFC 4648, section 4, without the last, padded group: the rest is enough to be found by.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let sextets = |group: &[u8; 3]| {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift & 63) as usize]))
    };
    bytes.as_chunks::<3>().0.iter().flat_map(sextets).collect()
}

fn is_database(path: &Path) -> bool {
    fs::read(path).is_ok_and(|bytes| bytes.starts_with(b"SQLite format 3\0"))
}

/// The plain files of a folder, without those of the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file()).collect()
}
