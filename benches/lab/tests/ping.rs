//! The network of the lab with real sockets, where it is permitted.

#[path = "../../../engine/cli/tests/cli/support/skip.rs"]
mod skip;

use std::process::Command;
use std::time::Duration;

use braidcast_lab::namespace::{self, Namespace};
use braidcast_lab::network::{self, Network};
use braidcast_lab::router::fabric::HostId;
use braidcast_sim::link::LinkConfig;

use skip::skip;

const DELAY: Duration = Duration::from_millis(10);

#[test]
fn a_ping_takes_the_delay_of_the_links_there_and_back() {
    if let Some(reason) = network::refusal() {
        return skip(&reason);
    }
    let network = Network::build(&["here".to_owned(), "there".to_owned()]).expect("permitted");
    network.router.with(|fabric, _| {
        let link = LinkConfig { delay: DELAY, ..LinkConfig::default() };
        fabric.set_down(HostId(0), link);
        fabric.set_down(HostId(1), link);
    });
    let (here, there) = (network.host(HostId(0)), network.host(HostId(1)));
    let mut ping = here.namespace.command("ping");
    let printed = namespace::run(ping.args(["-n", "-c", "3", "-i", "0.2", "-W", "10", &there.address.to_string()]));
    let printed = printed.expect("answered");
    let times: Vec<f64> =
        printed.lines().filter_map(|line| line.split("time=").nth(1)?.split(' ').next()?.parse().ok()).collect();
    assert_eq!(times.len(), 3, "{printed}");
    assert!(times.iter().all(|&ms| ms >= 20.0), "{printed}");
    let (sent, received) = network.router.with(|fabric, _| {
        (fabric.down_report(HostId(1)).counters.sent_packets, fabric.down_report(HostId(0)).counters.sent_packets)
    });
    assert_eq!((sent, received), (3, 3));
}

#[test]
fn a_namespace_goes_with_its_owner_and_takes_its_processes_along() {
    if let Some(reason) = network::refusal() {
        return skip(&reason);
    }
    let namespace = Namespace::create("gone").expect("permitted");
    let name = namespace.name().to_owned();
    let mut sleeper = namespace.command("sleep").arg("1000").spawn().expect("sleep is everywhere");
    // `ip netns exec` takes a moment to get there.
    let pids = || namespace::run(Command::new("ip").args(["netns", "pids", &name])).expect("permitted");
    while pids().trim().is_empty() {
        std::thread::sleep(Duration::from_millis(10));
    }
    drop(namespace);
    assert!(!sleeper.wait().expect("a child").success());
    let listed = namespace::run(Command::new("ip").args(["netns", "list"])).expect("permitted");
    assert!(!listed.contains(&name), "{listed}");
}
