//! Several sources: unequal, equal, behind one downlink, failing under a film, and random ones.

use std::time::Duration;

use braidcast_client::fetcher::Traffic;

use super::{
    Figure, MBIT, SEED, Scenario, downlink, endless, ms, payload_bytes, payload_from_first_data, s, star, uplink,
};
use crate::asset::Asset;
use crate::client::{ClientConfig, Purpose, Violation};
use crate::film::FilmConfig;
use crate::link::LinkConfig;
use crate::network::{DATA_WIRE_BYTES, HostNo};
use crate::rng::Rng;
use crate::server::Health;
use crate::world::{Path, World};

pub(super) const SCENARIOS: &[Scenario] = &[
    Scenario { name: "unequal sources add up", run: unequal },
    Scenario { name: "a film survives the death of its best source", run: best_dies },
    Scenario { name: "a film survives a source that drops to a tenth", run: drops_to_a_tenth },
    Scenario { name: "a film survives a source that starts to lose packets", run: starts_to_lose },
    Scenario { name: "the plain rule in the same worlds", run: plain_rule },
    Scenario { name: "a download has no tail", run: tail },
    Scenario { name: "sources behind one downlink share it", run: one_downlink },
    Scenario { name: "equal sources scale", run: equal },
    Scenario { name: "equal sources share a download", run: equal_shares },
    Scenario { name: "a network with every fault costs little that comes twice", run: every_fault },
    Scenario { name: "more sources are never worse than the best alone", run: never_worse },
];

const RTT: Duration = Duration::from_millis(40);
const TIME: Duration = Duration::from_secs(60);
const UNEQUAL: [u64; 3] = [30 * MBIT, 20 * MBIT, 10 * MBIT];

fn links(rates_bit_s: &[u64]) -> Vec<(LinkConfig, LinkConfig)> {
    rates_bit_s.iter().map(|rate| (downlink(*rate, RTT), uplink(RTT))).collect()
}

/// Payload in a minute from sources of these rates.
fn payload(rates_bit_s: &[u64]) -> Result<f64, Violation> {
    let mut world = World::new(SEED, endless(rates_bit_s.iter().sum(), TIME));
    star(&mut world, ClientConfig::default(), &links(rates_bit_s));
    payload_from_first_data(&mut world, TIME)
}

fn unequal() -> Result<Vec<Figure>, Violation> {
    let share = payload(&UNEQUAL)? / payload_bytes(UNEQUAL.iter().sum(), TIME);
    Ok(vec![Figure::at_least(0.95, "goodput of sources of 30, 20 and 10 Mbit/s, of 60", share)])
}

/// What happens to a source at the end of a film's first minute.
type Incident = fn(&mut World, &[Path]);

/// A film of five minutes at 25 Mbit/s.
fn film(incident: Incident) -> Result<Vec<Figure>, Violation> {
    let played = play(Traffic::Normal, incident)?;
    Ok(vec![
        Figure::at_most(0.0, "stalls", f64::from(played.stalls)),
        Figure::beside("  seconds to the first picture", played.first_picture_s),
        Figure::at_most(0.03, "  redundant share", played.redundant_share),
        Figure::beside("  goodput from the incident on, in Mbit/s", played.mbit_s),
    ])
}

/// The master's ranges, no stealing, a fixed amount in flight, in the worlds of the films above.
fn plain_rule() -> Result<Vec<Figure>, Violation> {
    let mut figures = Vec::new();
    for (what, incident) in
        [("30 dies", BEST_DIES), ("20 drops to 2", DROPS_TO_A_TENTH), ("10 loses 20%", STARTS_TO_LOSE)]
    {
        let plain = play(Traffic::Plain { window_bytes: PLAIN_WINDOW_BYTES }, incident)?;
        figures.extend([
            Figure::beside(format!("stalls by the plain rule, {what}"), f64::from(plain.stalls)),
            Figure::beside("  seconds of standstill", plain.stalled_s),
            Figure::beside("  goodput from the incident on, in Mbit/s", plain.mbit_s),
        ]);
    }
    Ok(figures)
}

/// What the plain rule keeps in flight to each source.
const PLAIN_WINDOW_BYTES: u64 = 1024 * 1024;

/// How a film went.
struct Played {
    stalls: u32,
    stalled_s: f64,
    first_picture_s: f64,
    redundant_share: f64,
    /// Payload from the incident to the end, over that time.
    mbit_s: f64,
}

fn play(traffic: Traffic, incident: Incident) -> Result<Played, Violation> {
    const RATE: u64 = 25 * MBIT;
    const LENGTH: Duration = Duration::from_secs(300);
    const INCIDENT: Duration = Duration::from_secs(60);
    let film = FilmConfig { rate_bit_s: RATE, window: s(10), start: s(1) };
    let mut world = World::new(SEED, endless(RATE, LENGTH));
    let config = ClientConfig { purpose: Purpose::Film(film), traffic, ..ClientConfig::default() };
    let (_, paths) = star(&mut world, config, &links(&UNEQUAL));
    world.run_until(INCIDENT)?;
    let before = world.client(0).accepted_bytes();
    incident(&mut world, &paths);
    world.run_until_done(LENGTH * 10)?;
    let client = world.client(0);
    let showing = client.film().map(|film| film.showing()).unwrap_or_default();
    let after = (client.accepted_bytes() - before) as f64;
    Ok(Played {
        stalls: showing.stalls,
        stalled_s: showing.stalled.as_secs_f64(),
        first_picture_s: showing.started_at.unwrap_or_default().as_secs_f64(),
        redundant_share: client.redundant_share(),
        mbit_s: after * 8.0 / 1e6 / (world.now() - INCIDENT).as_secs_f64(),
    })
}

const BEST_DIES: Incident = |world, _| world.set_health(0, Health::Dead { refuses: false });
const DROPS_TO_A_TENTH: Incident = |world, paths| {
    world.network_mut().change_link(paths[1].down, |link| link.rate_bit_s = link.rate_bit_s.map(|rate| rate / 10));
};
const STARTS_TO_LOSE: Incident = |world, paths| world.network_mut().change_link(paths[2].down, |link| link.loss = 0.2);

fn best_dies() -> Result<Vec<Figure>, Violation> {
    film(BEST_DIES)
}

fn drops_to_a_tenth() -> Result<Vec<Figure>, Violation> {
    film(DROPS_TO_A_TENTH)
}

fn starts_to_lose() -> Result<Vec<Figure>, Violation> {
    film(STARTS_TO_LOSE)
}

fn tail() -> Result<Vec<Figure>, Violation> {
    const BYTES: u64 = 60_000_000;
    const TAIL: u64 = BYTES / 10;
    let mut world = World::new(SEED, Asset::new(BYTES));
    star(&mut world, ClientConfig::default(), &links(&UNEQUAL));
    world.run(s(120), |world| world.client(0).accepted_bytes() >= BYTES - TAIL)?;
    let begun = world.now();
    world.run_until_done(s(120))?;
    let ideal = TAIL as f64 / payload_bytes(UNEQUAL.iter().sum(), s(1));
    let took = (world.now() - begun).as_secs_f64();
    Ok(vec![Figure::at_most(1.1, "time for the last tenth of 60 MB, of the ideal", took / ideal)])
}

fn one_downlink() -> Result<Vec<Figure>, Violation> {
    const RATE: u64 = 60 * MBIT;
    let mut world = World::new(SEED, endless(RATE, TIME));
    let client = world.add_client(ClientConfig::default());
    let shared = world.add_path(downlink(RATE, RTT), uplink(RTT));
    for _ in 0..3 {
        let server = world.add_server();
        world.connect(server, client, &[shared]);
    }
    let share = payload_from_first_data(&mut world, TIME)? / payload_bytes(RATE, TIME);
    Ok(vec![
        Figure::at_least(0.95, "goodput of three sources behind 60 Mbit/s", share),
        Figure::beside("  redundant share", world.client(0).redundant_share()),
    ])
}

fn equal() -> Result<Vec<Figure>, Violation> {
    const RATE: u64 = 20 * MBIT;
    let alone = payload(&[RATE])?;
    let mut figures = vec![Figure::beside("goodput of one source of 20 Mbit/s", alone / payload_bytes(RATE, TIME))];
    for sources in [2, 3, 5] {
        let scaled = payload(&vec![RATE; sources])? / (alone * sources as f64);
        figures.push(Figure::at_least(
            0.95,
            format!("goodput of {sources} such sources, of {sources} times that"),
            scaled,
        ));
    }
    Ok(figures)
}

/// Three sources that differ in nothing: each on a link of its own, all behind one downlink, and next door, where a range
/// of the master's is fetched in a moment.
fn equal_shares() -> Result<Vec<Figure>, Violation> {
    let apart = |rate, rtt| {
        shares(|world, client| {
            for _ in 0..3 {
                let (server, path) = (world.add_server(), world.add_path(downlink(rate, rtt), uplink(rtt)));
                world.connect(server, client, &[path]);
            }
        })
    };
    let together = |rate, rtt| {
        shares(|world, client| {
            let shared = world.add_path(downlink(rate, rtt), uplink(rtt));
            for _ in 0..3 {
                let server = world.add_server();
                world.connect(server, client, &[shared]);
            }
        })
    };
    let mut figures = Vec::new();
    for (what, shares) in [
        ("on links of 20 Mbit/s", apart(20 * MBIT, RTT)?),
        ("behind one link of 60 Mbit/s", together(60 * MBIT, RTT)?),
        ("on links of 1 Gbit/s, 1 ms", apart(1_000 * MBIT, ms(1))?),
        ("behind one link of 1 Gbit/s, 1 ms", together(1_000 * MBIT, ms(1))?),
    ] {
        let [least, most] = [f64::min, f64::max].map(|of| shares.iter().copied().reduce(of).unwrap_or_default());
        figures.push(Figure::at_least(0.2, format!("least share of three equal sources {what}"), least));
        figures.push(Figure::at_most(0.47, "  most", most));
    }
    Ok(figures)
}

/// What each source gives of a download of 100 MB.
fn shares(sources: impl FnOnce(&mut World, HostNo)) -> Result<Vec<f64>, Violation> {
    const BYTES: u64 = 100_000_000;
    let mut world = World::new(SEED, Asset::new(BYTES));
    let client = world.add_client(ClientConfig::default());
    sources(&mut world, client);
    world.run_until_done(s(120))?;
    let snapshot = world.client(0).fetcher().snapshot();
    let total: u64 = snapshot.sources.iter().map(|source| source.bytes).sum();
    Ok(snapshot.sources.iter().map(|source| source.bytes as f64 / total as f64).collect())
}

/// In both directions a twentieth of the packets each is lost, doubled, overtaken and corrupted. What is doubled comes
/// twice by itself, and so does what was given up and was only late.
fn every_fault() -> Result<Vec<Figure>, Violation> {
    const SHARE: f64 = 0.05;
    let faulty = |link: LinkConfig| LinkConfig {
        loss: SHARE,
        duplication: SHARE,
        reordering: SHARE,
        reordering_delay: ms(1),
        corruption: SHARE,
        ..link
    };
    let mut world = World::new(SEED, Asset::new(20_000_000));
    star(&mut world, ClientConfig::default(), &vec![(faulty(downlink(20 * MBIT, RTT)), faulty(uplink(RTT))); 3]);
    world.run_until_done(s(120))?;
    let share = world.client(0).redundant_share();
    Ok(vec![Figure::at_most(0.1, "redundant share where a twentieth meets each fault", share)])
}

/// Random worlds of the comparison with the best source alone, unless [`WORLDS_VARIABLE`] asks for others.
const WORLDS: u64 = 50;
/// How many random worlds are compared.
const WORLDS_VARIABLE: &str = "BRAIDCAST_SIM_WORLDS";
const WORLD_TIME: Duration = Duration::from_secs(10);

fn never_worse() -> Result<Vec<Figure>, Violation> {
    let mut worst = (f64::INFINITY, 0);
    let mut short = 0;
    let said = std::env::var(WORLDS_VARIABLE).ok();
    let worlds = said.map_or(WORLDS, |said| said.parse().expect("BRAIDCAST_SIM_WORLDS is a number of worlds"));
    for seed in 0..worlds {
        let mut rng = Rng::new(seed);
        let links: Vec<_> = (0..2 + rng.below(4)).map(|_| random_link(&mut rng)).collect();
        let payload = |links: &[(LinkConfig, LinkConfig)]| {
            let rate = links.iter().filter_map(|(down, _)| down.rate_bit_s).sum();
            let mut world = World::new(seed, endless(rate, WORLD_TIME));
            star(&mut world, ClientConfig::default(), links);
            payload_from_first_data(&mut world, WORLD_TIME)
        };
        let mut best: f64 = 0.0;
        for link in &links {
            best = best.max(payload(&[*link])?);
        }
        let share = payload(&links)? / best;
        worst = if share < worst.0 { (share, seed) } else { worst };
        short += u64::from(share < 0.97);
    }
    let what = format!("goodput of 2 to 5 random sources, of the best alone, in the worst world, {}", worst.1);
    Ok(vec![
        Figure::at_least(0.97, what, worst.0),
        Figure::beside("  share of worlds below 0.97", short as f64 / worlds as f64),
    ])
}

/// Least queue of a random link: four packets. What is shorter than that no device has.
const QUEUE_MIN: u64 = 4 * DATA_WIRE_BYTES as u64;

fn random_link(rng: &mut Rng) -> (LinkConfig, LinkConfig) {
    let rate = (rng.log_between(1.0, 60.0) * MBIT as f64) as u64;
    let rtt = ms(rng.log_between(5.0, 200.0) as u64);
    let down = downlink(rate, rtt);
    let queue_bytes = down.queue_bytes.map(|bytes| ((bytes as f64 * rng.log_between(0.2, 4.0)) as u64).max(QUEUE_MIN));
    let loss = if rng.happens(0.5) { rng.log_between(0.001, 0.05) } else { 0.0 };
    (LinkConfig { queue_bytes, loss, ..down }, uplink(rtt))
}
