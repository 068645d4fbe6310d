//! What goes wrong ends in a right result, or in an error that names the culprit and the remedy, under the exit code
//! that `braidcast --help` lists. Nothing of what failed is left behind.

mod support;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use braidcast_client::profile::Credential;
use braidcast_client::{Profile, Secret};
use braidcast_proto::v1::auth_client::AuthClient;
use braidcast_proto::v1::issue_token_response::Result as Issued;
use braidcast_proto::v1::IssueTokenRequest;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use crate::support::proxy::{Faults, Proxy};
use crate::support::{
    Client, Cluster, Dev, Mount, Output, Process, braidcast, eventually, read_so_far, sha256_of, sha256_of_file, skip,
    write_film,
};

// As `braidcast --help` lists them.
const OTHER: i32 = 1;
const USAGE: i32 = 2;
const NOT_AUTHORISED: i32 = 3;
const NOT_FOUND: i32 = 4;
const NO_SOURCE: i32 = 5;
const LOCAL_FILE: i32 = 7;

const MIB: u64 = 1024 * 1024;
/// A user whom file permissions bind, as they do not bind root: `nobody`.
const NOBODY: u32 = 65_534;

// Publishing.

#[test]
fn what_is_no_readable_file_is_not_published() {
    let dev = Dev::of([]).servers(1).start();
    let folder = dev.path("folder");
    fs::create_dir(&folder).expect("writable");
    let pipe = dev.path("pipe");
    mkfifo(&pipe, Mode::S_IRUSR).expect("a file system with pipes");
    let missing = dev.path("missing.mp4");
    for (path, words) in [
        (folder.as_path(), &["folder", "a directory", "publish files"][..]),
        (Path::new(".."), &["..", "a directory"]),
        (pipe.as_path(), &["pipe", "publish files"]),
        (Path::new("/dev/zero"), &["/dev/zero", "a device"]),
        (missing.as_path(), &["missing.mp4", "No such file", "is the path right"]),
    ] {
        refused(&publish(dev.client(), path, &[]), LOCAL_FILE, words);
    }
    let good = film(&dev, "good", 1_000);
    let some = dev.client().run([OsStr::new("publish"), missing.as_os_str(), good.as_os_str(), folder.as_os_str()]);
    refused(&some, LOCAL_FILE, &["missing.mp4", "folder", "2 of 3 files were not published"]);
    assert_holds_only(&dev, &["good"]);
}

#[test]
fn a_file_that_the_user_may_not_read_is_not_published() {
    let dev = Dev::of([]).servers(1).start();
    let Some(user) = OrdinaryUser::of(dev.client()) else { return };
    let path = user.path("secret.mp4");
    write_film(&path, 1_000, 1);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).expect("own file");
    let output = user.run(["publish".as_ref(), path.as_os_str()]);
    refused(&output, LOCAL_FILE, &["secret.mp4", "Permission denied", "the right to read"]);
    assert_holds_only(&dev, &[]);
}

#[test]
fn a_name_that_is_taken_goes_to_another_file_only_on_request() {
    let dev = Dev::of([("film", 700_000)]).servers(1).start();
    let client = dev.client();
    let other = film(&dev, "other", 900_000);
    let output = publish(client, &other, &["--name", "film"]);
    refused(&output, USAGE, &["\"film\"", "there already", "`replace`"]);
    assert_eq!(fetched(&dev, "film"), dev.film("film").sha256);
    publish(client, &other, &["--name", "film", "--replace"]).success();
    wait_held(client, "film", 1);
    assert_eq!(fetched(&dev, "film"), sha256_of_file(&other));
    assert_holds_only(&dev, &["film"]);
}

#[test]
fn names_that_a_file_can_have_are_kept_and_others_refused() {
    let dev = Dev::of([]).servers(1).start();
    let (client, path) = (dev.client(), film(&dev, "source", 5_000));
    let longest = "é".repeat(127) + "x";
    let lawful = ["two  words", "Grüße 映画 🎬.mp4", "it's \"quoted\" & $HOME", "-dash", ".hidden", "a%2Fb", &longest];
    for name in lawful {
        let named = format!("--name={name}");
        publish(client, &path, &[&named]).success();
        wait_held(client, name, 1);
        assert_eq!(fetched(&dev, name), sha256_of_file(&path), "{name:?}");
    }
    let too_long = "x".repeat(300);
    for (name, words) in [
        ("../x", &["\"../x\"", "no path"][..]),
        ("/etc/passwd", &["\"/etc/passwd\"", "no path"]),
        ("a\\b", &["no path"]),
        ("..", &["\"..\"", "a folder"]),
        ("line\nbreak", &["\"line\\nbreak\"", "control character", "without line breaks"]),
        ("\u{1b}[2J", &["control character"]),
        (&too_long, &["300 bytes", "at most 255", "shorter"]),
        ("", &["needs a name"]),
    ] {
        let named = format!("--name={name}");
        refused(&publish(client, &path, &[&named]), USAGE, words);
    }
    let broken = film(&dev, "line\nbreak", 10);
    refused(&publish(client, &broken, &[]), USAGE, &["control character"]);
    let foreign = dev.path("x").with_file_name(OsStr::from_bytes(b"caf\xe9.mp4"));
    write_film(&foreign, 10, 1);
    refused(&publish(client, &foreign, &[]), USAGE, &["not UTF-8", "--name"]);
    publish(client, &foreign, &["--name", "café"]).success();
    let mut held: Vec<&str> = lawful.to_vec();
    held.push("café");
    assert_holds_only(&dev, &held);
}

#[test]
fn a_file_that_changes_while_it_is_sealed_is_not_published() {
    let grow = |path: &Path| {
        let file = OpenOptions::new().append(true).open(path);
        file.and_then(|mut file| file.write_all(b"more")).expect("own file");
    };
    let shrink = |path: &Path| {
        OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(64 * MIB)).expect("own file");
    };
    let overwrite = |path: &Path| {
        let file = OpenOptions::new().write(true).open(path);
        file.and_then(|mut file| file.write_all(b"other")).expect("own file");
    };
    let replace = |path: &Path| {
        let new = path.with_extension("new");
        write_film(&new, 10, 1);
        fs::rename(&new, path).expect("own folder");
    };
    let dev = Dev::of([]).servers(1).start();
    let changes: [(&str, &dyn Fn(&Path)); 4] =
        [("grow", &grow), ("shrink", &shrink), ("overwrite", &overwrite), ("replace", &replace)];
    for (name, change) in changes {
        let path = film(&dev, name, 128 * MIB);
        let mut publishing = publish_up_to(&dev, &path, 32 * MIB);
        change(&path);
        publishing.signal(Signal::SIGCONT);
        refused(&ended(&mut publishing), LOCAL_FILE, &[name, "changed", "publish it again"]);
        fs::remove_file(&path).expect("own file");
    }
    assert_holds_only(&dev, &[]);
}

#[test]
fn what_does_not_fit_into_the_origin_is_not_published_until_there_is_room() {
    let mut cluster = Cluster::start(&[]);
    let origin = cluster.path("master/origin");
    let Some(_disk) = Mount::tmpfs(&origin, "size=8m") else { return skip("mounting a small disk needs root") };
    cluster.add_server(&[]);
    cluster.wait_listed(1);
    let client = cluster.client();
    let path = |name: &str, bytes| {
        let path = cluster.path(name);
        write_film(&path, bytes, bytes);
        path
    };
    let (large, first, second) = (path("large", 9 * MIB), path("first", 5 * MIB), path("second", 4 * MIB));
    refused(&publish(client, &large, &[]), OTHER, &["\"large\"", "no room", "origin", "remove some or enlarge"]);
    cluster.publish(&first, "first", 1);
    refused(&publish(client, &second, &[]), OTHER, &["\"second\"", "no room", "origin", "remove some or enlarge"]);
    assert_eq!(names(client), ["first"]);
    assert_eq!(files(&origin).len(), 1, "{:?}", files(&origin));
    client.run(["rm", "first"]).success();
    eventually("the pack of what was removed goes", || files(&origin).is_empty().then_some(()));
    cluster.publish(&second, "second", 1);
    client.get("second").to(&cluster.path("copy")).finish().report();
    assert_eq!(sha256_of_file(&cluster.path("copy")), sha256_of_file(&second));
}

#[test]
fn a_server_without_room_says_so_and_the_others_serve() {
    let mut cluster = Cluster::start(&[]);
    let small = cluster.path("server-1");
    fs::create_dir(&small).expect("own folder");
    let Some(_disk) = Mount::tmpfs(&small, "size=2m") else { return skip("mounting a small disk needs root") };
    cluster.add_server(&[]);
    let roomy = cluster.add_server(&[]);
    cluster.wait_listed(2);
    let path = cluster.path("film");
    let sha256 = write_film(&path, 4 * MIB, 1);
    cluster.publish(&path, "film", 1);
    let got = cluster.client().get("film").to(&cluster.path("copy")).finish().report();
    assert_eq!(sha256_of_file(&cluster.path("copy")), sha256);
    assert!(got.sources.iter().all(|source| source.address == roomy), "{got:?}");
    eventually("the small server says why", || {
        let log = cluster.server(1).stderr();
        (log.contains("server-1") && log.contains("the disk has") && log.contains("a fill does not go on")).then_some(())
    });
}

// Fetching.

#[test]
fn a_full_disk_is_told_before_anything_is_fetched_and_leaves_nothing() {
    let dev = Dev::of([("film", 5 * MIB)]).servers(1).start();
    let client = dev.client();
    let folder = dev.path("small");
    fs::create_dir(&folder).expect("writable");
    let to_stdout = {
        let mut command = braidcast(["get", "film", "-o", "-", "--profile"]);
        let full = OpenOptions::new().write(true).open("/dev/full").expect("a device of every Linux");
        command.arg(client.profile()).stdin(Stdio::null()).stdout(full).output().expect("the command starts")
    };
    let to_stdout = Output {
        code: to_stdout.status.code(),
        stdout: String::new(),
        stderr: String::from_utf8_lossy(&to_stdout.stderr).into_owned(),
    };
    refused(&to_stdout, LOCAL_FILE, &["standard output", "No space left", "make room"]);
    let to_device = client.get("film").to(Path::new("/dev/full")).finish();
    refused(&to_device.output, LOCAL_FILE, &["/dev/full", "No space left", "make room"]);
    let Some(_disk) = Mount::tmpfs(&folder, "size=1m") else { return skip("mounting a small disk needs root") };
    let to_file = client.get("film").to(&folder.join("copy")).finish();
    refused(&to_file.output, LOCAL_FILE, &["small/copy", "1048576 bytes free", "needs 5242880", "-o"]);
    assert!(files(&folder).is_empty(), "{:?}", files(&folder));
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dev = Dev::of([("film", 500_000)]).servers(1).start();
    let client = dev.client();
    let folder = dev.path("folder");
    fs::create_dir(&folder).expect("writable");
    refused(&client.get("film").to(&folder).finish().output, LOCAL_FILE, &["folder", "is a directory", "-o"]);
    let nowhere = client.get("film").to(&dev.path("nowhere/copy")).finish().output;
    refused(&nowhere, LOCAL_FILE, &["nowhere/copy", "create the folder first", "-o"]);
    let Some(user) = OrdinaryUser::of(client) else { return };
    let closed = user.path("closed");
    fs::create_dir(&closed).expect("own folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("own folder");
    let output = user.run(["get".as_ref(), "film".as_ref(), "-o".as_ref(), closed.join("copy").as_os_str()]);
    refused(&output, LOCAL_FILE, &["closed/copy", "Permission denied", "that you may write", "-o"]);
    let Some(disk) = Mount::tmpfs(&folder, "size=2m") else { return skip("mounting a disk needs root") };
    disk.make_read_only();
    let output = client.get("film").to(&folder.join("copy")).finish().output;
    refused(&output, LOCAL_FILE, &["folder/copy", "Read-only", "that you may write", "-o"]);
}

#[test]
fn what_is_no_regular_file_is_written_as_it_is() {
    let dev = Dev::of([("film", 2_000_000)]).servers(2).start();
    let got = dev.client().get("film").to(Path::new("/dev/null")).finish().report();
    assert!(got.verified);
    let null = fs::metadata("/dev/null").expect("it is still there");
    assert!(null.file_type().is_char_device());
    assert!(!Path::new("/dev/null.part").exists());

    let mut to_stdout = dev.client().get("film").to_stdout().start();
    let read = sha256_of(to_stdout.take_stdout());
    assert_eq!(read, (2_000_000, dev.film("film").sha256.clone()));
    assert_eq!(to_stdout.wait().report().bytes, 2_000_000);

    let pipe = dev.path("pipe");
    mkfifo(&pipe, Mode::S_IRUSR | Mode::S_IWUSR).expect("a file system with pipes");
    let to_pipe = dev.client().get("film").to(&pipe).start();
    assert_eq!(sha256_of(File::open(&pipe).expect("own pipe")).1, dev.film("film").sha256);
    assert!(to_pipe.wait().report().verified);
    assert!(fs::metadata(&pipe).expect("it is still there").file_type().is_fifo());
}

#[test]
fn a_reader_that_goes_away_ends_the_download_in_silence_or_with_its_name() {
    let dev = Dev::of([("film", 20 * MIB)]).servers(1).start();
    let mut to_stdout = dev.client().get("film").to_stdout().start();
    drop(to_stdout.take_stdout());
    let ended = to_stdout.wait().output;
    refused(&ended, LOCAL_FILE, &["standard output", "has stopped"]);
}

#[test]
fn wrong_usage_names_and_profiles_are_told_apart() {
    let dev = Dev::of([("film", 5_000)]).servers(1).start();
    let client = dev.client();
    let unknown = client.get("nothing").to(&dev.path("copy")).finish().output;
    refused(&unknown, NOT_FOUND, &["\"nothing\"", "there is no video"]);
    assert!(!dev.path("copy.part").exists());
    refused(&client.run(["info", "nothing"]), NOT_FOUND, &["\"nothing\""]);
    refused(&client.run(["rm", "nothing"]), NOT_FOUND, &["\"nothing\""]);

    for usage in [&["get", "film", "--bogus"][..], &["bogus"], &["get"], &["publish"]] {
        let output = client.run(usage);
        assert_eq!(output.code, Some(USAGE), "{usage:?}: {output:?}");
        assert!(output.stderr.contains("Usage:") && output.stdout.is_empty(), "{output:?}");
    }
    let log = client.run(["ls", "--log", "braidcast=loud"]);
    refused(&log, USAGE, &["--log", "loud", "info"]);

    let missing = Client::new(dev.path("missing.toml"));
    refused(&missing.run(["ls"]), NOT_FOUND, &["missing.toml", "No such file"]);
    let nowhere = braidcast(["ls"]).current_dir(dev.path("films")).output().expect("the command starts");
    let nowhere = Output {
        code: nowhere.status.code(),
        stdout: String::new(),
        stderr: String::from_utf8_lossy(&nowhere.stderr).into_owned(),
    };
    refused(&nowhere, NOT_FOUND, &["no profile", ".braidcast/profile.toml", "braidcast dev DIR", "braidcast login"]);
}

#[test]
fn a_master_of_another_authority_is_not_trusted() {
    let (dev, other) = (Dev::of([("film", 5_000)]).servers(1).start(), Cluster::start(&[]));
    let mut profile = Profile::load(dev.client().profile()).expect("a profile");
    profile.ca_pem = fs::read_to_string(other.path("master/ca.pem")).expect("an authority");
    profile.path = dev.path("wrong-ca.toml");
    profile.save().expect("writable");
    let client = Client::new(profile.path);
    let words = ["not trusted", "wrong-ca.toml", "certificate authority", &dev.master().address.to_string()];
    refused(&client.get("film").to(&dev.path("copy")).finish().output, NOT_AUTHORISED, &words);
    refused(&publish(&client, &dev.path("films/film"), &["--name", "x"]), NOT_AUTHORISED, &words);
    let doctor = client.run(["doctor"]);
    assert_eq!(doctor.code, Some(OTHER));
    assert!(doctor.stdout.contains("FAIL  TLS: ") && doctor.stdout.contains("wrong-ca.toml"), "{}", doctor.stdout);
    assert_holds_only(&dev, &["film"]);
}

#[test]
fn a_wrong_password_is_refused_and_locks_the_account_after_five() {
    let dev = Dev::of([("film", 5_000)]).servers(1).start();
    let mut profile = Profile::load(dev.client().profile()).expect("a profile");
    profile.credential = Credential::Password(Secret::new("not the password"));
    profile.path = dev.path("wrong.toml");
    profile.save().expect("writable");
    let client = Client::new(profile.path);
    for _ in 0..5 {
        let output = client.get("film").to(&dev.path("copy")).finish().output;
        refused(&output, NOT_AUTHORISED, &["\"admin\"", "password is wrong", "wrong.toml", "braidcast login"]);
        assert!(!output.stderr.contains("not the password"), "{output:?}");
    }
    refused(&client.run(["ls"]), NOT_AUTHORISED, &["\"admin\"", "locked", "wait"]);
    // Who is logged in stays so.
    dev.client().run(["ls"]).success();
}

// Parts that are gone.

#[test]
fn a_master_that_is_dead_is_named_by_every_command() {
    let dev = Dev::of([("film", 5_000)]).servers(1).start();
    let client = dev.client();
    let address = dev.master().address.to_string();
    dev.kill_master();
    let words = [address.as_str(), "cannot be reached", "is it running"];
    refused(&client.get("film").to(&dev.path("copy")).finish().output, NO_SOURCE, &words);
    refused(&publish(client, &dev.path("films/film"), &["--name", "x"]), NO_SOURCE, &words);
    for command in ["ls", "servers"] {
        refused(&client.run([command]), NO_SOURCE, &words);
    }
    let doctor = client.run(["doctor"]);
    assert_eq!(doctor.code, Some(OTHER));
    assert!(doctor.stdout.contains("FAIL  master: ") && doctor.stdout.contains(&address), "{}", doctor.stdout);
}

#[test]
fn a_dead_server_does_not_keep_a_film_from_being_fetched() {
    let dev = Dev::of([("film", 5 * MIB)]).servers(2).start();
    dev.kill_server(1);
    assert_eq!(fetched(&dev, "film"), dev.film("film").sha256);
    let address = dev.server(1).address.to_string();
    let state = eventually("the master notices", || {
        let servers = dev.client().run(["servers"]).success();
        let line = servers.lines().find(|line| line.starts_with(&address)).map(str::to_owned);
        line.filter(|line| line.contains("not listed"))
    });
    assert!(state.contains("heartbeat") || state.contains("no report"), "{state}");
}

#[test]
fn servers_that_udp_does_not_reach_are_named() {
    let mut cluster = Cluster::start(&[]);
    let mut proxies: Vec<Proxy> = (1..=2).map(|seed| Proxy::start(seed, Faults::NONE)).collect();
    for proxy in &proxies {
        proxy.connect(cluster.add_server(&["--advertise", &proxy.address().to_string()]));
    }
    cluster.wait_listed(2);
    write_film(&cluster.path("film"), 5 * MIB, 1);
    cluster.publish(&cluster.path("film"), "film", 2);
    let addresses: Vec<String> = proxies.iter().map(|proxy| proxy.address().to_string()).collect();
    let get = || cluster.client().get("film").to(&cluster.path("copy")).finish().output;

    proxies[0].cut(true);
    let silent = proxies.remove(0);
    // Its socket closes: from now on the system refuses what is sent there.
    drop(proxies);
    let words = ["no server sends anything", &addresses[0], &addresses[1], "refused", "run the same command again"];
    refused(&get(), NO_SOURCE, &words);
    assert!(cluster.path("copy.part").exists(), "the partial file is kept");
    let doctor = cluster.client().run(["doctor"]);
    assert_eq!(doctor.code, Some(OTHER));
    for address in &addresses {
        assert!(doctor.stdout.contains(&format!("FAIL  server {address}: ")), "{}", doctor.stdout);
    }
    assert!(doctor.stdout.contains("firewall"), "{}", doctor.stdout);

    silent.cut(false);
    let got = cluster.client().get("film").to(&cluster.path("copy")).finish().report();
    assert_eq!(got.failed(), [addresses[1].parse().expect("an address")], "{got:?}");
    assert_eq!(sha256_of_file(&cluster.path("copy")), sha256_of_file(&cluster.path("film")));
}

// Tokens.

#[test]
fn a_refused_login_is_told_by_oauths_codes() {
    let cluster = Cluster::start(&["--lock-after", "3"]);
    let profile = Profile::load(cluster.client().profile()).expect("a profile");
    let Credential::Password(password) = &profile.credential else { panic!("the cluster's profile has a password") };
    let login = |client_id: &str, password: &str| IssueTokenRequest {
        grant_type: "password".to_owned(),
        client_id: client_id.to_owned(),
        username: profile.username.clone(),
        password: password.to_owned(),
        ..Default::default()
    };
    let right = login("braidcast", password.expose());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&profile.ca_pem));
        let endpoint = Channel::from_shared(format!("https://{}", profile.master)).expect("an address");
        let channel = endpoint.tls_config(tls).expect("an authority").connect().await.expect("the master answers");
        let mut auth = AuthClient::new(channel);
        let mut ask = async |request: IssueTokenRequest| {
            let answer = auth.issue_token(request).await.expect("a refusal is no error of gRPC").into_inner();
            answer.result.expect("a token or an error")
        };
        let Issued::Token(token) = ask(right.clone()).await else { panic!("the right password is refused") };
        assert_eq!((token.token_type.as_str(), token.expires_in_sec), ("Bearer", 15 * 60));
        let grant = |grant_type: &str| IssueTokenRequest { grant_type: grant_type.to_owned(), ..right.clone() };
        let refresh = |token: &str| IssueTokenRequest { refresh_token: token.to_owned(), ..grant("refresh_token") };
        for (request, code) in [
            (login("somebody", password.expose()), "invalid_client"),
            (grant("client_credentials"), "unsupported_grant_type"),
            (grant(""), "invalid_request"),
            (login("braidcast", ""), "invalid_request"),
            (refresh("made up"), "invalid_grant"),
            (login("braidcast", "wrong"), "invalid_grant"),
            (login("braidcast", "wrong"), "invalid_grant"),
            (login("braidcast", "wrong"), "invalid_grant"),
            (right.clone(), "access_denied"),
        ] {
            let Issued::Error(error) = ask(request).await else { panic!("{code} was expected, not a token") };
            assert_eq!(error.error, code);
            assert!(!error.error_description.is_empty());
            assert!(!error.error_description.contains(password.expose()), "{}", error.error_description);
        }
        let Issued::Token(_) = ask(refresh(&token.refresh_token)).await else { panic!("a lock ends no login") };
    });
}

/// Asserts that a command failed with `code` and said why in one line that holds all of `words`.
#[track_caller]
fn refused(output: &Output, code: i32, words: &[&str]) {
    assert_eq!(output.code, Some(code), "{output:?}");
    let errors: Vec<&str> = output.stderr.lines().filter(|line| line.starts_with("braidcast: ")).collect();
    assert!(!errors.is_empty(), "{output:?}");
    for word in words {
        assert!(errors.iter().any(|error| error.contains(word)), "{word:?} is missing in {:?}", output.stderr);
    }
}

fn publish(client: &Client, path: &Path, flags: &[&str]) -> Output {
    let flags = flags.iter().map(OsStr::new);
    client.run([OsStr::new("publish"), path.as_os_str()].into_iter().chain(flags))
}

/// Writes a film into the test's own folder.
fn film(dev: &Dev, name: &str, bytes: u64) -> PathBuf {
    let path = dev.path(name);
    write_film(&path, bytes, bytes);
    path
}

/// SHA-256 of what `get` makes of a video.
fn fetched(dev: &Dev, name: &str) -> String {
    let copy = dev.path("fetched");
    assert!(dev.client().get(name).to(&copy).finish().report().verified);
    sha256_of_file(&copy)
}

/// Starts to publish `path`, and stops the process where it has read more than `bytes`, but not all.
fn publish_up_to(dev: &Dev, path: &Path, bytes: u64) -> Process {
    let all = fs::metadata(path).expect("own file").len();
    eventually("a publisher is stopped on its way", || {
        let profile = dev.client().profile();
        let arguments = ["publish".as_ref(), path.as_os_str(), "--profile".as_ref(), profile.as_os_str()];
        let mut process = Process::start(arguments);
        while !process.has_ended() && read_so_far(process.pid(), path).is_none_or(|at| at < bytes) {
            std::thread::sleep(Duration::from_millis(1));
        }
        process.signal(Signal::SIGSTOP);
        if read_so_far(process.pid(), path).is_some_and(|at| at < all) {
            return Some(process);
        }
        // This machine was busy elsewhere, and the publisher came to its end.
        process.signal(Signal::SIGCONT);
        process.wait();
        dev.client().run([OsStr::new("rm"), path.file_name().expect("a file")]);
        None
    })
}

fn ended(process: &mut Process) -> Output {
    let code = process.wait().code();
    Output { code, stdout: process.stdout(), stderr: process.stderr() }
}

fn wait_held(client: &Client, name: &str, servers: u32) {
    eventually("the video is held", || {
        let video = client.ask(async |control| control.video(name).await.expect("it was published"));
        (video.replicas_held == servers).then_some(())
    });
}

fn names(client: &Client) -> Vec<String> {
    let videos = client.ask(async |control| control.list_videos().await.expect("the master lists videos"));
    let mut names: Vec<String> = videos.into_iter().map(|video| video.name).collect();
    names.sort();
    names
}

/// Asserts that the master lists exactly these videos, and that origin and servers come to hold their packs and
/// nothing else.
#[track_caller]
fn assert_holds_only(dev: &Dev, videos: &[&str]) {
    let mut expected = videos.to_vec();
    expected.sort_unstable();
    assert_eq!(names(dev.client()), expected);
    let of_servers = (1..=dev.servers().len()).map(|number| dev.state().join(format!("server-{number}")));
    for folder in of_servers.chain([dev.state().join("master/origin")]) {
        eventually(&format!("{} holds whole packs only: {:?}", folder.display(), files(&folder)), || {
            let mut files = files(&folder);
            files.retain(|file| file != "lock" && file != "server-id");
            (files.len() == videos.len() && files.iter().all(|file| file.ends_with(".pack"))).then_some(())
        });
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned()).collect()
}

/// A user whom file permissions bind, with a folder of its own that holds the command and a profile.
struct OrdinaryUser {
    dir: TempDir,
}

impl OrdinaryUser {
    /// Such a user with the profile of `client`; skips the test where there is none.
    fn of(client: &Client) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let user = Self { dir };
        // The command may stand in a folder that only root may enter.
        fs::copy(env!("CARGO_BIN_EXE_braidcast"), user.path("braidcast")).expect("readable");
        fs::copy(client.profile(), user.path("profile.toml")).expect("readable");
        if is_root() {
            for path in [user.dir.path().to_owned(), user.path("profile.toml")] {
                std::os::unix::fs::chown(&path, Some(NOBODY), Some(NOBODY)).expect("root may");
            }
        }
        let is_there = user.command().arg("--version").stderr(Stdio::null()).output().is_ok_and(|out| out.status.success());
        if !is_there {
            skip("permissions do not bind root, and `setpriv` does not make another user of it");
        }
        is_there.then_some(user)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn command(&self) -> Command {
        if !is_root() {
            return Command::new(self.path("braidcast"));
        }
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]).arg("--clear-groups");
        command.arg(self.path("braidcast"));
        command
    }

    /// Runs `braidcast ARGUMENTS` as this user.
    fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a OsStr>) -> Output {
        let mut command = self.command();
        command.args(arguments).arg("--profile").arg(self.path("profile.toml"));
        ended(&mut Process::spawn(command, false))
    }
}
