//! What is asked of the brain, in measured worlds.

use braidcast_sim::scenarios;

/// Runs a scenario, prints its figures, and fails with those that are not what is asked of them.
fn holds(name: &str) {
    let figures = (scenarios::named(name).run)().unwrap_or_else(|violation| panic!("{name}: {violation:?}"));
    figures.iter().for_each(|figure| println!("{figure}"));
    let short: Vec<String> = figures.iter().filter(|figure| !figure.holds()).map(ToString::to_string).collect();
    assert!(short.is_empty(), "{name}:\n{}", short.join("\n"));
}

#[test]
fn a_long_fat_link_is_filled() {
    holds("a long fat link is filled");
}

#[test]
fn bursty_loss_does_not_slow_a_download() {
    holds("bursty loss does not slow a download");
}

#[test]
fn a_download_is_fast_from_the_start() {
    holds("a download is fast from the start");
}

#[test]
fn a_slow_link_with_a_short_queue_is_filled() {
    holds("a slow link with a short queue is filled");
}

#[test]
fn a_satellite_link_is_filled() {
    holds("a satellite link is filled");
}

#[test]
fn a_short_queue_is_enough_and_a_long_one_stays_short() {
    holds("a short queue is enough");
    holds("a long queue stays short");
}

#[test]
fn a_queue_shorter_than_the_first_train_is_no_end() {
    holds("a queue shorter than the first train is no end");
}

#[test]
fn a_path_that_is_known_is_filled_at_once_and_one_that_has_become_worse_is_found_out() {
    holds("a path that is known is filled at once");
    holds("a path that has become worse is found out");
}

#[test]
fn unequal_sources_add_up() {
    holds("unequal sources add up");
}

#[test]
fn a_film_survives_what_happens_to_its_sources() {
    holds("a film survives the death of its best source");
    holds("a film survives a source that drops to a tenth");
    holds("a film survives a source that starts to lose packets");
}

#[test]
fn a_download_has_no_tail() {
    holds("a download has no tail");
}

#[test]
fn sources_behind_one_downlink_share_it() {
    holds("sources behind one downlink share it");
}

#[test]
fn equal_sources_scale() {
    holds("equal sources scale");
}

#[test]
fn equal_sources_share_a_download() {
    holds("equal sources share a download");
}

#[test]
fn a_network_with_every_fault_costs_little_that_comes_twice() {
    holds("a network with every fault costs little that comes twice");
}

#[test]
fn a_client_with_three_sources_leaves_room_for_tcp() {
    holds("a client with three sources leaves room for TCP CUBIC");
    holds("a client with three sources leaves room for TCP CUBIC in a short queue");
    holds("a client has its link back when TCP has gone");
    holds("a client with three sources leaves room for TCP BBR");
}

#[test]
fn clients_go_on_when_addresses_change_and_servers_restart() {
    holds("a client whose address changes goes on");
    holds("a client whose NAT forgets it while it is idle goes on");
    holds("a client whose server restarts goes on");
}

#[test]
fn a_lying_server_costs_little_once_it_is_found_out() {
    holds("a lying server costs little once it is found out");
}

#[test]
fn random_loss_does_not_slow_a_download() {
    holds("random loss does not slow a download");
}

#[test]
fn two_clients_share_a_link_evenly() {
    holds("two clients share a link evenly");
}

#[test]
fn background_traffic_gives_way_to_tcp() {
    holds("background traffic gives way to TCP CUBIC");
}
