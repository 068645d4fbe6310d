//! A wall clock that is ten minutes off, of client, server or master, costs nothing, or is named with its remedy.

use std::ffi::OsStr;

use crate::support::{
    Client, Clock, Cluster, Dev, Output, Process, braidcast, eventually, sha256_of_file, skip, write_film,
};

/// Far more than the minute that is tolerated.
const OFF_S: i64 = 600;
const NO_FAKETIME: &str = "the `faketime` command is missing";

// Exit codes, as `braidcast --help` lists them.
const OTHER: i32 = 1;
const NO_SOURCE: i32 = 5;

#[test]
fn a_client_whose_clock_is_off_gets_the_film_and_is_told_by_doctor() {
    let dev = Dev::of([("film", 2_000_000)]).servers(1).start();
    for (seconds, direction) in [(OFF_S, "ahead of"), (-OFF_S, "behind")] {
        let Some(clock) = Clock::ahead(seconds) else { return skip(NO_FAKETIME) };
        // An account of its own, so that it logs in by the wrong clock.
        let client = dev.client().add_viewer(if seconds > 0 { "early" } else { "late" });
        let copy = dev.path("copy");
        for _ in 0..2 {
            run(&client, &clock, ["get".as_ref(), "film".as_ref(), "-o".as_ref(), copy.as_os_str()]).success();
            assert_eq!(sha256_of_file(&copy), dev.film("film").sha256);
        }
        let doctor = run(&client, &clock, ["doctor".as_ref()]);
        assert_eq!(doctor.code, Some(OTHER), "{doctor:?}");
        let line = doctor.stdout.lines().find(|line| line.starts_with("FAIL  clock: "));
        let line = line.unwrap_or_else(|| panic!("doctor finds the clock right: {}", doctor.stdout));
        assert!(line.contains(direction) && line.contains("this machine's") && line.contains("NTP"), "{line}");
    }
}

#[test]
fn a_server_whose_clock_is_off_stays_unlisted_until_it_is_right() {
    let mut cluster = Cluster::start(&[]);
    let right = cluster.add_server(&[]);
    let (Some(ahead), Some(behind)) = (Clock::ahead(OFF_S), Clock::ahead(-OFF_S)) else { return skip(NO_FAKETIME) };
    let clocks = [(ahead, "ahead"), (behind, "behind")];
    let wrong: Vec<_> = clocks.iter().map(|(clock, _)| cluster.add_server_in(&clock.environment(), &[])).collect();
    cluster.wait_listed(1);
    for (number, (_, direction)) in (2..).zip(&clocks) {
        eventually("a server says that its clock is off", || {
            let log = cluster.server(number).stderr();
            let said = ["does not take this server", "clock is", direction];
            said.iter().all(|word| log.contains(word)).then_some(())
        });
    }
    let path = cluster.path("film");
    let sha256 = write_film(&path, 2_000_000, 1);
    cluster.publish(&path, "film", 1);
    let got = cluster.client().get("film").to(&cluster.path("copy")).finish().report();
    assert_eq!(sha256_of_file(&cluster.path("copy")), sha256);
    assert!(got.sources.iter().all(|source| source.address == right), "{got:?}");
    let listed = |address: &str| {
        let servers = cluster.client().servers();
        servers.iter().any(|server| server.address == address && server.listed)
    };
    assert!(!wrong.iter().any(|address| listed(&address.to_string())));
    for (clock, _) in &clocks {
        clock.set(0);
    }
    cluster.wait_listed(3);
    cluster.client().wait_held("film", 3);
}

#[test]
fn a_server_whose_clock_jumps_is_unlisted_for_as_long() {
    let Some(clock) = Clock::ahead(0) else { return skip(NO_FAKETIME) };
    let mut cluster = Cluster::start(&[]);
    let right = cluster.add_server(&[]);
    let wrong = cluster.add_server_in(&clock.environment(), &[]);
    cluster.wait_listed(2);
    let path = cluster.path("film");
    let sha256 = write_film(&path, 2_000_000, 1);
    cluster.publish(&path, "film", 2);
    for (seconds, direction) in [(OFF_S, "ahead"), (-OFF_S, "behind")] {
        clock.set(seconds);
        let state = wait_unlisted(cluster.client(), &wrong.to_string(), direction);
        assert!(state.contains("its clock is") && state.contains("NTP"), "{state}");
        let got = cluster.client().get("film").to(&cluster.path("copy")).finish().report();
        assert_eq!(sha256_of_file(&cluster.path("copy")), sha256);
        assert!(got.sources.iter().all(|source| source.address == right), "{got:?}");
    }
    clock.set(0);
    cluster.wait_listed(2);
}

#[test]
fn a_master_whose_clock_jumps_lists_nobody_and_says_why() {
    let Some(clock) = Clock::ahead(0) else { return skip(NO_FAKETIME) };
    let mut cluster = Cluster::start_in(&clock.environment(), &[]);
    let server = cluster.add_server(&[]).to_string();
    cluster.wait_listed(1);
    let path = cluster.path("film");
    let sha256 = write_film(&path, 2_000_000, 1);
    cluster.publish(&path, "film", 1);
    let client = cluster.client();
    for (seconds, of_server) in [(OFF_S, "behind"), (-OFF_S, "ahead")] {
        clock.set(seconds);
        let state = wait_unlisted(client, &server, of_server);
        assert!(
            state.contains("its clock is") && state.contains("of the master's") && state.contains("NTP"),
            "{state}"
        );
        let refused = client.get("film").to(&cluster.path("copy")).finish().output;
        refused.assert_refused(NO_SOURCE, &["0 of 1 servers are listed", "`braidcast servers`"]);
        let doctor = client.run(["doctor"]);
        assert_eq!(doctor.code, Some(OTHER), "{doctor:?}");
        let line = format!("FAIL  server {server}: not listed: its clock is");
        assert!(doctor.stdout.contains(&line), "{}", doctor.stdout);
        // Set back, the time in the master's HTTP headers, which this check goes by, may stand still for a while.
        assert!(seconds < 0 || doctor.stdout.contains("FAIL  clock: "), "{}", doctor.stdout);
    }
    clock.set(0);
    cluster.wait_listed(1);
    client.get("film").to(&cluster.path("copy")).finish().report();
    assert_eq!(sha256_of_file(&cluster.path("copy")), sha256);
}

/// Runs `braidcast ARGUMENTS` by this clock.
fn run<'a>(client: &Client, clock: &Clock, arguments: impl IntoIterator<Item = &'a OsStr>) -> Output {
    let mut command = braidcast(arguments);
    command.arg("--profile").arg(client.profile()).envs(clock.environment());
    Process::spawn(command, false).finish()
}

/// Waits until `braidcast servers` says that a server is not listed for a reason with this word in it; gives the line.
fn wait_unlisted(client: &Client, address: &str, word: &str) -> String {
    eventually("a server is not listed", || {
        let servers = client.run(["servers"]).success();
        let line = servers.lines().find(|line| line.starts_with(address)).map(str::to_owned);
        line.filter(|line| line.contains("not listed") && line.contains(word))
    })
}
