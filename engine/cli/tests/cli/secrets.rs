//! Nothing that a process says, and nothing that others can see of it, holds a key, a token or a password.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use braidcast_client::control::{VideoRef, Window};
use braidcast_client::profile::Credential;
use braidcast_client::{Profile, Secret};
use braidcast_media::ticket::TicketKey;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{Row, SqlSafeStr};

use crate::support::proxy::{Faults, Proxy};
use crate::support::{Dev, Process, sha256_of_file};

/// Exit code of a login that is refused.
const NOT_AUTHORISED: i32 = 3;
/// Where a ticket's length stands in HELLO; the ticket follows.
const TICKET_LENGTH_AT: usize = 36;
/// Values in the master's settings that are shorter are numbers and the like.
const KEY_BYTES_MIN: usize = 16;
/// An octet string of 32 bytes, in DER.
const P256_KEY_FOLLOWS: [u8; 2] = [0x04, 0x20];
/// RFC 4648, section 4.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

const ADA: &str = "a password of one's own";
const ADA_LATER: &str = "and another, for later";
const WRONG: &str = "quite the wrong password";

#[test]
fn neither_logs_nor_errors_nor_json_nor_command_lines_hold_a_secret() {
    let mut session = Session::start();
    session.use_everything();
    session.restart_parts();
    let secrets = session.secrets;
    for needed in
        ["content key", "session", "ticket key", "setting", "join-token", "ca.key", "access", "refresh", "hash"]
    {
        assert!(secrets.0.keys().any(|name| name.contains(needed)), "{needed} among {:?}", secrets.0.keys());
    }
    let said = everything_said(&mut session.dev, &session.server, session.said);
    for (name, secret) in &secrets.0 {
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
            let mode = fs::metadata(&path).expect("it is there").permissions().mode() & 0o7777;
            assert_eq!(mode, 0o600, "{} has mode {mode:o}", path.display());
            checked.push(name);
        }
    }
    for needed in ["profile.toml", "profile.tokens.toml", "admin-password", "join-token", "ca.key", "master.db"] {
        assert!(checked.iter().any(|name| name == needed), "{needed} among {checked:?}");
    }
}

#[test]
fn every_form_of_a_secret_is_looked_for() {
    let secret = b"\x00\xfb\xefab\"";
    let texts = ["00fbef616222", "00FBEF616222", "[0, 251, 239, 97, 98, 34]", "APvvYWIi", r#"b"\0\xfb\xefab\"""#];
    for text in texts {
        assert!(forms(secret).iter().any(|form| text.contains(form.as_str())), "{text}");
    }
    for text in ["++++", "----"] {
        assert!(forms(b"\xfb\xef\xbe").contains(&text.to_owned()), "{text}");
    }
    assert!(forms(b"a password").contains(&"a password".to_owned()));
}

/// A whole session with the most verbose logs, and what was said and kept secret in it.
struct Session {
    dev: Dev,
    /// One more server, which clients reach through `proxy`.
    server: Process,
    proxy: Proxy,
    said: Vec<(String, String)>,
    secrets: Secrets,
}

impl Session {
    fn start() -> Self {
        let dev = Dev::of([("film", 20_000_000)]).servers(1).flag("--log", "trace").start();
        let proxy = Proxy::start(1, Faults::NONE);
        let path = |name: &str| text(&dev.state().join(name));
        let (master, advertised) = (dev.master().address.to_string(), proxy.address().to_string());
        let mut server = Process::start([
            "serve",
            "--exit-with-parent",
            "--log",
            "trace",
            "--listen",
            "127.0.0.1:0",
            "--shards",
            "1",
            "--advertise",
            &advertised,
            "--master",
            &master,
            "--ca",
            &path("master/ca.pem"),
            "--join-token-file",
            &path("master/join-token"),
            "--state",
            &path("server-2"),
        ]);
        let line = server.wait_line("serve listening ");
        let address: Option<SocketAddr> = line.split(' ').next().and_then(|address| address.parse().ok());
        proxy.connect(address.expect("an address"));
        dev.client().wait_held("film", 2);
        Self { dev, server, proxy, said: Vec::new(), secrets: Secrets::default() }
    }

    /// Runs every command, good ones and others.
    fn use_everything(&mut self) {
        let admin = text(self.dev.client().profile());
        let [copy, film, ada, wrong] =
            ["copy", "films/film", "ada.toml", "wrong.toml"].map(|name| text(&self.dev.path(name)));
        let (ca, master) = (text(&self.dev.state().join("master/ca.pem")), self.dev.master().address.to_string());
        for password in [ADA, ADA_LATER, WRONG] {
            self.secrets.add(password, password);
        }
        for arguments in [
            &["get", "film", "--json", "-o", &copy][..],
            &["get", "no such film"],
            &["publish", "--as-file", &film, "--name", "another"],
            &["publish", "--as-file", &film],
            &["ls"],
            &["info", "film"],
            &["servers"],
            &["user", "ls"],
            &["doctor"],
            &["rm", "no such film"],
        ] {
            self.run(&admin, arguments, "");
        }
        assert_eq!(sha256_of_file(Path::new(&copy)), self.dev.film("film").sha256, "the session did something");
        let login = ["login", "--master", &master, "--ca", &ca, "--user", "ada", "--password-stdin"];
        self.run(&admin, &["user", "add", "ada", "--password-stdin"], ADA);
        self.run(&ada, &login, ADA);
        self.run(&ada, &["ls"], "");
        self.run(&ada, &["user", "ls"], "");
        self.run(&admin, &["user", "passwd", "ada", "--password-stdin"], ADA_LATER);
        let refused = self.run(&wrong, &login, WRONG);
        assert_eq!(refused, Some(NOT_AUTHORISED));
        write_wrong_profile(Path::new(&admin), Path::new(&wrong));
        let refused = self.run(&wrong, &["ls"], "");
        assert_eq!(refused, Some(NOT_AUTHORISED));
        fs::write(&wrong, format!("password = \"{WRONG}")).expect("writable");
        self.run(&wrong, &["ls"], "");
        self.dev.client().ask(async |control| {
            let list = control.distribution(VideoRef::Name("film"), Window::ALL).await.expect("it is published");
            self.secrets.add("content key", list.content_key.expose());
            for host in list.hosts {
                self.secrets.add(&format!("session secret for {}", host.address), host.session_secret.expose());
            }
        });
    }

    /// Brings master and server back, and fetches once more.
    fn restart_parts(&mut self) {
        self.dev.restart_master();
        self.dev.restart_server(1);
        self.dev.client().wait_held("film", 2);
        let (admin, copy) = (text(self.dev.client().profile()), text(&self.dev.path("again")));
        let code = self.run(&admin, &["get", "film", "--json", "-o", &copy], "");
        assert_eq!(code, Some(0));
    }

    /// Runs a command to its end, and gives its exit code.
    fn run(&mut self, profile: &str, arguments: &[&str], stdin: &str) -> Option<i32> {
        let flags = ["--log", "trace", "--profile", profile];
        let mut process = Process::start(arguments.iter().chain(&flags));
        if !stdin.is_empty() {
            process.tell(&format!("{stdin}\n"));
        }
        let ended = process.finish();
        assert!(!ended.stdout.is_empty() || !ended.stderr.is_empty(), "{arguments:?} says something");
        self.said.push((format!("{arguments:?}: standard output"), ended.stdout));
        self.said.push((format!("{arguments:?}: standard error"), ended.stderr));
        // Tokens are renewed now and then, and servers join again: what was is as secret as what is.
        self.secrets.collect(&self.dev, Path::new(profile));
        self.secrets.open_tickets(&self.proxy.greetings());
        ended.code
    }
}

/// What must not be said, by name and value.
#[derive(Default)]
struct Secrets(BTreeMap<String, Vec<u8>>, BTreeMap<u32, [u8; TicketKey::BYTES]>);

impl Secrets {
    fn add(&mut self, name: &str, secret: impl AsRef<[u8]>) {
        let secret = secret.as_ref().to_vec();
        if self.0.get(name).is_some_and(|known| *known != secret) {
            let number = self.0.len();
            self.0.insert(format!("{name} ({number})"), secret);
        } else {
            self.0.insert(name.to_owned(), secret);
        }
    }

    /// Reads what is secret from where it is kept.
    fn collect(&mut self, dev: &Dev, profile: &Path) {
        for path in [profile.to_owned(), profile.with_extension("tokens.toml")] {
            let table = fs::read_to_string(&path).ok().and_then(|text| text.parse::<toml::Table>().ok());
            for (key, value) in table.iter().flat_map(texts) {
                if ["password", "token", "access", "refresh"].iter().any(|word| key.contains(word)) {
                    self.add(&format!("{key} of {}", path.display()), value);
                }
            }
        }
        let master = dev.state().join("master");
        for path in [master.join("join-token"), dev.state().join("admin-password")] {
            let text = fs::read_to_string(&path).expect("readable");
            self.add(&path.display().to_string(), text.trim());
        }
        let pem = fs::read_to_string(master.join("ca.key")).expect("readable");
        let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
        for (number, line) in lines.iter().enumerate() {
            self.add(&format!("line {number} of ca.key"), line);
        }
        let der = from_base64(&lines.concat());
        let at = der.windows(2).position(|pair| pair == P256_KEY_FOLLOWS).expect("a key of P-256 in PKCS #8");
        self.add("number in ca.key", &der[at + 2..][..32]);
        self.read_database(&master.join("master.db"));
    }

    /// Ticket keys, the master's own keys, hashes of passwords and tokens.
    fn read_database(&mut self, path: &Path) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let options = SqliteConnectOptions::new().filename(path).read_only(true);
            let pool = SqlitePool::connect_with(options).await.expect("the master's database");
            for (what, query) in [
                ("ticket key", "SELECT server_id, key FROM servers"),
                // The library's id is no secret: errors name it, so that people can tell libraries apart.
                ("setting", "SELECT name, value FROM settings WHERE name <> 'library_id'"),
                ("content key", "SELECT name, content_key FROM assets"),
                ("password hash", "SELECT username, CAST(password_hash AS BLOB) FROM users"),
                ("refresh token's hash", "SELECT hex(hash), hash FROM refresh_tokens"),
            ] {
                let rows = sqlx::query(query.into_sql_str()).fetch_all(&pool).await.expect(query);
                assert!(!rows.is_empty(), "{query} finds something");
                for row in rows {
                    let (name, value): (String, Vec<u8>) = (row.get(0), row.get(1));
                    if value.len() >= KEY_BYTES_MIN {
                        self.add(&format!("{what} of {name}"), value);
                    }
                }
            }
            let keys = sqlx::query("SELECT key_id, key FROM servers").fetch_all(&pool).await.expect("as before");
            for row in keys {
                let (id, key): (i64, Vec<u8>) = (row.get(0), row.get(1));
                self.1.insert(id as u32, key.try_into().expect("32 bytes"));
            }
            pool.close().await;
        });
    }

    /// The session secrets of sessions that were opened: clients keep them to themselves, but their tickets hold them.
    fn open_tickets(&mut self, greetings: &[Vec<u8>]) {
        for hello in greetings {
            let length = usize::from(u16::from_be_bytes([hello[TICKET_LENGTH_AT], hello[TICKET_LENGTH_AT + 1]]));
            let sealed = &hello[TICKET_LENGTH_AT + 2..][..length];
            let opened = self.1.iter().find_map(|(id, key)| TicketKey::new(*id, key).open(sealed));
            // The master's probes greet with tickets of the same kind.
            if let Some(ticket) = opened {
                self.add("session secret in a ticket", ticket.secret.expose());
            }
        }
    }
}

/// `said`, what the parts have said so far, and what the system shows of their processes.
fn everything_said(dev: &mut Dev, server: &Process, mut said: Vec<(String, String)>) -> Vec<(String, String)> {
    let mut processes = vec![("dev".to_owned(), dev.process().pid()), ("the master".to_owned(), dev.master().pid)];
    processes.extend([("server 1".to_owned(), dev.server(1).pid), ("server 2".to_owned(), server.pid())]);
    for (name, pid) in processes {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).expect("it runs");
            said.push((format!("{file} of {name}"), String::from_utf8_lossy(&bytes).into_owned()));
        }
    }
    said.push(("dev: standard output".into(), dev.process().stdout()));
    said.push(("dev: standard error".into(), dev.process().stderr()));
    for (name, log) in [("server 2".to_owned(), server.stderr())].into_iter().chain(logs(dev)) {
        assert!(log.contains("TRACE"), "{name} logs in full");
        said.push((format!("log of {name}"), log));
    }
    said
}

fn logs(dev: &Dev) -> Vec<(String, String)> {
    let logs = files(&dev.state().join("log"));
    assert_eq!(logs.len(), 2, "of the master and of a server: {logs:?}");
    logs.iter()
        .map(|path| (text(path), String::from_utf8_lossy(&fs::read(path).expect("readable")).into_owned()))
        .collect()
}

fn write_wrong_profile(good: &Path, path: &Path) {
    let mut profile = Profile::load(good).expect("a profile");
    profile.path = path.to_owned();
    profile.credential = Credential::Password(Secret::new(WRONG));
    profile.save().expect("writable");
}

fn texts(table: &toml::Table) -> Vec<(String, String)> {
    let nested = table.values().filter_map(toml::Value::as_table).flat_map(texts);
    let own = table.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    own.chain(nested).collect()
}

/// How a secret may look in a text: hex, a list of numbers, base64 of both alphabets, bytes as Rust prints them, or
/// itself.
fn forms(secret: &[u8]) -> Vec<String> {
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    let list = secret.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let base64 = base64(secret);
    let of_urls = base64.replace('+', "-").replace('/', "_");
    let escaped = secret.escape_ascii().to_string();
    // As the crate `bytes` has it.
    let escaped_otherwise = escaped.replace("\\x00", "\\0").replace("\\'", "'");
    let mut forms = vec![hex.to_uppercase(), hex, list, base64, of_urls, escaped, escaped_otherwise];
    forms.extend(std::str::from_utf8(secret).ok().map(str::to_owned));
    forms
}

/// Base64 without the last, padded group: the rest is enough to be found by.
fn base64(bytes: &[u8]) -> String {
    let sextets = |group: &[u8; 3]| {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        [18, 12, 6, 0].map(|shift| char::from(ALPHABET[(bits >> shift & 63) as usize]))
    };
    bytes.as_chunks::<3>().0.iter().flat_map(sextets).collect()
}

/// The other way. What is padding reads as zeros.
fn from_base64(text: &str) -> Vec<u8> {
    let sextet = |c: u8| ALPHABET.iter().position(|known| *known == c).unwrap_or(0) as u32;
    let group = |group: &[u8; 4]| {
        let bits = group.iter().fold(0, |bits, c| bits << 6 | sextet(*c));
        [16, 8, 0].map(|shift| (bits >> shift) as u8)
    };
    text.as_bytes().as_chunks::<4>().0.iter().flat_map(group).collect()
}

fn text(path: &Path) -> String {
    path.to_str().expect("a UTF-8 path").to_owned()
}

/// The plain files of a folder, without those of the folders in it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("readable").path()).filter(|path| path.is_file()).collect()
}
