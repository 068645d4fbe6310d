//! What goes wrong ends in a right result, or in an error that names the culprit and the remedy, under the exit code
//! that `braidcast --help` lists.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use braidcast_client::profile::Credential;
use braidcast_client::{Profile, Secret};
use braidcast_proto::v1::IssueTokenRequest;
use braidcast_proto::v1::auth_client::AuthClient;
use braidcast_proto::v1::issue_token_response::Result as Issued;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

use crate::support::proxy::{Faults, Proxy};
use crate::support::{
    Client, Cluster, Dev, Mount, OrdinaryUser, Output, assert_holds_only, braidcast, eventually, file_names,
    sha256_of_file, skip, write_film,
};

// Exit codes, as `braidcast --help` lists them.
const OTHER: i32 = 1;
const USAGE: i32 = 2;
const NOT_AUTHORISED: i32 = 3;
const NOT_FOUND: i32 = 4;
const NO_SOURCE: i32 = 5;
const LOCAL_FILE: i32 = 7;

const MIB: u64 = 1024 * 1024;

#[test]
fn a_full_disk_is_told_before_anything_is_fetched_and_leaves_nothing() {
    let dev = Dev::of([("film", 5 * MIB)]).servers(1).start();
    let client = dev.client();
    let folder = dev.path("small");
    fs::create_dir(&folder).expect("writable");
    let full = OpenOptions::new().write(true).open("/dev/full").expect("a device of every Linux");
    let mut to_stdout = braidcast(["get", "film", "-o", "-", "--profile"]);
    let to_stdout = output(to_stdout.arg(client.profile()).stdout(full));
    to_stdout.assert_refused(LOCAL_FILE, &["standard output", "No space left", "make room"]);
    let to_device = client.get("film").to(Path::new("/dev/full")).finish();
    to_device.output.assert_refused(LOCAL_FILE, &["/dev/full", "No space left", "make room"]);
    let Some(_disk) = Mount::tmpfs(&folder, "size=1m") else { return skip("mounting a small disk needs root") };
    let to_file = client.get("film").to(&folder.join("copy")).finish();
    to_file.output.assert_refused(LOCAL_FILE, &["small/copy", "1048576 bytes free", "needs 5242880", "-o"]);
    assert!(file_names(&folder).is_empty(), "{:?}", file_names(&folder));
}

#[test]
fn a_place_that_cannot_be_written_is_named() {
    let dev = Dev::of([("film", 500_000)]).servers(1).start();
    let client = dev.client();
    let folder = dev.path("folder");
    fs::create_dir(&folder).expect("writable");
    client.get("film").to(&folder).finish().output.assert_refused(LOCAL_FILE, &["folder", "is a directory", "-o"]);
    let nowhere = client.get("film").to(&dev.path("nowhere/copy")).finish().output;
    nowhere.assert_refused(LOCAL_FILE, &["nowhere/copy", "create the folder first", "-o"]);
    let Some(user) = OrdinaryUser::of(client) else { return };
    let closed = user.path("closed");
    fs::create_dir(&closed).expect("own folder");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).expect("own folder");
    let output = user.run(["get".as_ref(), "film".as_ref(), "-o".as_ref(), closed.join("copy").as_os_str()]);
    output.assert_refused(LOCAL_FILE, &["closed/copy", "Permission denied", "that you may write", "-o"]);
    let Some(disk) = Mount::tmpfs(&folder, "size=2m") else { return skip("mounting a disk needs root") };
    disk.make_read_only();
    let output = client.get("film").to(&folder.join("copy")).finish().output;
    output.assert_refused(LOCAL_FILE, &["folder/copy", "Read-only", "that you may write", "-o"]);
}

#[test]
fn a_reader_that_goes_away_ends_the_download() {
    let dev = Dev::of([("film", 20 * MIB)]).servers(1).start();
    let mut to_stdout = dev.client().get("film").piped().start();
    drop(to_stdout.take_stdout());
    let ended = to_stdout.wait().output;
    ended.assert_refused(LOCAL_FILE, &["standard output", "has stopped"]);
}

#[test]
fn wrong_usage_names_and_profiles_are_told_apart() {
    let dev = Dev::of([("film", 5_000)]).servers(1).start();
    let client = dev.client();
    let unknown = client.get("nothing").to(&dev.path("copy")).finish().output;
    unknown.assert_refused(NOT_FOUND, &["\"nothing\"", "there is no video"]);
    assert!(!dev.path("copy.part").exists());
    client.run(["info", "nothing"]).assert_refused(NOT_FOUND, &["\"nothing\""]);
    client.run(["rm", "nothing"]).assert_refused(NOT_FOUND, &["\"nothing\""]);

    for usage in [&["get", "film", "--bogus"][..], &["bogus"], &["get"], &["publish"]] {
        let output = client.run(usage);
        assert_eq!(output.code, Some(USAGE), "{usage:?}: {output:?}");
        assert!(output.stderr.contains("Usage:") && output.stdout.is_empty(), "{output:?}");
    }
    let log = client.run(["ls", "--log", "braidcast=loud"]);
    log.assert_refused(USAGE, &["--log", "loud", "info"]);

    let missing = Client::new(dev.path("missing.toml"));
    missing.run(["ls"]).assert_refused(NOT_FOUND, &["missing.toml", "No such file"]);
    let nowhere = output(braidcast(["ls"]).current_dir(dev.path("films")));
    nowhere
        .assert_refused(NOT_FOUND, &["no profile", ".braidcast/profile.toml", "braidcast dev DIR", "braidcast login"]);
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
    client.get("film").to(&dev.path("copy")).finish().output.assert_refused(NOT_AUTHORISED, &words);
    client.publish(&dev.path("films/film"), &["--name", "x"]).assert_refused(NOT_AUTHORISED, &words);
    let doctor = client.run(["doctor"]);
    assert_eq!(doctor.code, Some(OTHER));
    assert!(doctor.stdout.contains("FAIL  TLS: ") && doctor.stdout.contains("wrong-ca.toml"), "{}", doctor.stdout);
    assert_holds_only(&dev, &["film"]);
}

#[test]
fn a_wrong_password_is_refused_and_its_sender_waits_after_five() {
    let dev = Dev::of([("film", 5_000)]).servers(1).start();
    let mut profile = Profile::load(dev.client().profile()).expect("a profile");
    profile.credential = Credential::Password(Secret::new("not the password"));
    profile.path = dev.path("wrong.toml");
    profile.save().expect("writable");
    let client = Client::new(profile.path);
    for _ in 0..5 {
        let output = client.get("film").to(&dev.path("copy")).finish().output;
        output.assert_refused(NOT_AUTHORISED, &["\"admin\"", "password is wrong", "wrong.toml", "braidcast login"]);
        assert!(!output.stderr.contains("not the password"), "{output:?}");
    }
    // The wait begins with a second. Where a process takes longer to start, each further try makes it longer.
    let held = eventually("the wait is longer than a process takes to start", || {
        let output = client.run(["ls"]);
        (!output.stderr.contains("password is wrong")).then_some(output)
    });
    held.assert_refused(NOT_AUTHORISED, &["\"admin\"", "held up", "wait"]);
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
    client.get("film").to(&dev.path("copy")).finish().output.assert_refused(NO_SOURCE, &words);
    client.publish(&dev.path("films/film"), &["--name", "x"]).assert_refused(NO_SOURCE, &words);
    for command in ["ls", "servers"] {
        client.run([command]).assert_refused(NO_SOURCE, &words);
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
    let words =
        ["no server sends anything", &addresses[0], &addresses[1], "port is closed", "run the same command again"];
    get().assert_refused(NO_SOURCE, &words);
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
        ] {
            let Issued::Error(error) = ask(request).await else { panic!("{code} was expected, not a token") };
            assert_eq!(error.error, code);
            assert!(!error.error_description.is_empty());
            assert!(!error.error_description.contains(password.expose()), "{}", error.error_description);
        }
        // The wait begins with a second, and each further try makes it longer.
        let held = loop {
            match ask(login("braidcast", "wrong")).await {
                Issued::Error(error) if error.error == "invalid_grant" => {}
                Issued::Error(error) => break error,
                Issued::Token(_) => panic!("a wrong password is taken"),
            }
        };
        assert_eq!(held.error, "access_denied");
        assert!(held.error_description.contains("wait"), "{}", held.error_description);
        let Issued::Token(_) = ask(refresh(&token.refresh_token)).await else { panic!("a wait ends no login") };
    });
}

/// Runs a command that takes its standard output from elsewhere, or its working directory.
fn output(command: &mut Command) -> Output {
    output_of(command.stdin(Stdio::null()))
}

fn output_of(command: &mut Command) -> Output {
    let output = command.output().expect("the command starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Output { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
}

/// SHA-256 of what `get` makes of a video.
fn fetched(dev: &Dev, name: &str) -> String {
    let copy = dev.path("fetched");
    assert!(dev.client().get(name).to(&copy).finish().report().verified);
    sha256_of_file(&copy)
}

/// Whoever names a profile for all commands, or works beside one of `dev`, must not sign in into another one unawares.
#[test]
fn a_login_goes_where_the_next_command_looks_or_says_that_it_does_not() {
    let cluster = Cluster::start(&[]);
    let folder = cluster.path("elsewhere");
    fs::create_dir_all(folder.join(".braidcast")).expect("own folder");
    let named = folder.join("named.toml");
    let Profile { master, username, .. } = Profile::load(cluster.client().profile()).expect("a profile");
    let login = |variable: Option<&Path>| {
        let mut login = braidcast(["login", "--master", &master, "--user", &username, "--password-stdin", "--ca"]);
        login.arg(cluster.path("master/ca.pem")).current_dir(&folder).env("HOME", &folder);
        login.envs(variable.map(|path| ("BRAIDCAST_PROFILE", path)));
        output_of(login.stdin(File::open(cluster.path("admin-password")).expect("the password")))
    };
    assert_eq!(login(Some(&named)).code, Some(0));
    let mut ls = braidcast(["ls"]);
    assert_eq!(output(ls.env("BRAIDCAST_PROFILE", &named).current_dir(&folder)).code, Some(0));
    assert_eq!(login(None).stderr, "");
    fs::write(folder.join(".braidcast/profile.toml"), "").expect("written");
    let said = login(None);
    assert!(said.code == Some(0) && said.stderr.contains("use ./.braidcast/profile.toml first"), "{}", said.stderr);
}
