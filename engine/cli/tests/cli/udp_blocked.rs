//! Networks that let no datagram through: films are fetched over TCP.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::clips::find;
use crate::films::{open, play_to_end, runtime_and_control, samples};
use crate::reference;
use crate::support::proxy::{Faults, Proxy};
use crate::support::{Cluster, Report, sha256_of_file, write_film};

const FILM: &str = "film";
const FILM_BYTES: u64 = 16_000_123;
/// KiB/s of each server: two of them cannot be done with the film in less than six seconds, by arithmetic, so the third,
/// which joins after less than one, has a part in it.
const RATE_KIB_S: &str = "1024";

/// Servers behind proxies that carry TCP, and a film that all of them hold.
struct Rig {
    cluster: Cluster,
    proxies: Vec<Proxy>,
    sha256: String,
}

impl Rig {
    fn of(servers: u64) -> Self {
        let mut cluster = Cluster::start(&[]);
        let proxies = (0..servers).map(|seed| {
            let proxy = Proxy::start_with_tcp(seed, Faults::NONE);
            let address = proxy.address().to_string();
            proxy.connect(cluster.add_server(&["--rate", RATE_KIB_S, "--advertise", &address]));
            proxy
        });
        let proxies: Vec<_> = proxies.collect();
        cluster.wait_listed(proxies.len());
        let film = cluster.path(FILM);
        let sha256 = write_film(&film, FILM_BYTES, 1);
        cluster.publish(&film, FILM, proxies.len() as u32);
        Self { cluster, proxies, sha256 }
    }

    /// Blocks UDP to the first `count` servers.
    fn block(&self, count: usize) {
        self.proxies[..count].iter().for_each(|proxy| proxy.cut(true));
    }

    /// Where the client remembers networks.
    fn cache(&self) -> PathBuf {
        self.cluster.path("cache")
    }

    fn get_whole(&self) -> Report {
        let copy = self.cluster.path("copy");
        let get = self.cluster.client().get(FILM).to(&copy).variable("XDG_CACHE_HOME", self.cache());
        let report = get.finish().report();
        assert!(report.verified && report.failed().is_empty(), "{report:?}");
        assert_eq!(sha256_of_file(&copy), self.sha256);
        report
    }

    /// Payload taken from server `number`, from 0.
    fn bytes_of(&self, number: usize, report: &Report) -> u64 {
        let address = self.proxies[number].address();
        report.sources.iter().filter(|source| source.address == address).map(|source| source.bytes).sum()
    }
}

#[test]
fn with_udp_blocked_to_all_servers_the_film_comes_over_tcp_and_the_network_is_remembered() {
    let rig = Rig::of(3);
    rig.block(3);
    let report = rig.get_whole();
    assert!(rig.proxies.iter().all(|proxy| proxy.connections() == 1 && proxy.data_to_clients() == 0), "{report:?}");
    assert!((0..3).all(|number| rig.bytes_of(number, &report) > 0), "{report:?}");

    let file = rig.cache().join("braidcast/ways.toml");
    let text = std::fs::read_to_string(&file).expect("the networks' file");
    assert!(rig.proxies.iter().all(|proxy| text.contains(&proxy.address().to_string())), "{text}");
    assert_eq!(std::fs::metadata(&file).expect("it exists").permissions().mode() & 0o777, 0o600);
    rig.get_whole();
    assert!(rig.proxies.iter().all(|proxy| proxy.connections() == 2));
}

#[test]
fn with_udp_blocked_to_one_of_three_servers_all_three_have_a_part() {
    let rig = Rig::of(3);
    rig.block(1);
    let report = rig.get_whole();
    let shares = [0, 1, 2].map(|number| rig.bytes_of(number, &report));
    assert!(shares.iter().all(|bytes| *bytes > 0), "{report:?}");
    assert_eq!((rig.proxies[0].connections(), rig.proxies[0].data_to_clients()), (1, 0));
    assert!(rig.proxies[1..].iter().all(|proxy| proxy.data_to_clients() > 0));
}

#[test]
fn a_film_plays_over_tcp_with_udp_blocked_to_all_servers_and_to_one() {
    let rig = Rig::of(3);
    let clip = find("h264 with B-frames and two audio tracks");
    rig.cluster
        .client()
        .run(["publish".as_ref(), clip.path().as_os_str(), "--name".as_ref(), "clip".as_ref()])
        .success();
    rig.cluster.client().wait_held("clip", 3);
    for blocked in [3, 1] {
        rig.proxies.iter().for_each(|proxy| proxy.cut(false));
        rig.block(blocked);
        let (runtime, control) = runtime_and_control(rig.cluster.client());
        let player = open(&runtime, &control, "clip").expect("servers answer over TCP");
        let pictures = play_to_end(&player).expect("the film goes on to its end");
        assert!(samples(&pictures) == reference::decoded(&clip.path(), None), "{blocked} blocked");
    }
    assert!(rig.proxies[0].connections() >= 1 && rig.proxies[0].data_to_clients() == 0);
}

#[test]
fn doctor_tells_which_way_each_server_answers() {
    let rig = Rig::of(2);
    rig.block(1);
    let said = rig.cluster.client().run(["doctor"]).success();
    let [blocked, open] = [0, 1].map(|number| rig.proxies[number].address());
    assert!(
        said.contains(&format!("warn  server {blocked}: answers over TCP, which is used then; no answer over UDP")),
        "{said}"
    );
    assert!(said.contains(&format!("ok    server {open}: answers over UDP and over TCP")), "{said}");
}
