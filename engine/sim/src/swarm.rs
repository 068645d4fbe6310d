//! Random worlds: one seed gives one world, with random links, purposes and faults, and one verdict.
//!
//! Whatever happens, one server is honest, holds everything and is well again within seconds, so every client must get
//! all of what was published, and every invariant must hold at every step.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use braidcast_client::fetcher::Traffic;
use braidcast_media::ExtentNo;
use braidcast_media::layout::EXTENT_BYTES;
use braidcast_transport::congestion::Retained;

use crate::asset::Asset;
use crate::client::{ClientConfig, Planted, Purpose};
use crate::cross::Steady;
use crate::film::FilmConfig;
use crate::link::{Bursts, LinkConfig};
use crate::rng::Rng;
use crate::server::{Health, Lie};
use crate::tcp::Algorithm;
use crate::world::{Path, World};

/// A world that was drawn from a seed.
#[derive(Clone, Debug)]
pub struct Plan {
    /// From which.
    pub seed: u64,
    /// Length of the asset.
    pub bytes: u64,
    /// What the client is like.
    pub client: ClientConfig,
    /// By server: the link to it and back. The first server is honest and whole.
    pub links: Vec<(LinkConfig, LinkConfig)>,
    /// A link that all share.
    pub shared: Option<(LinkConfig, LinkConfig)>,
    /// What happens, and when.
    pub faults: Vec<(Duration, Fault)>,
    /// What shares the links.
    pub cross: Option<Cross>,
}

/// Something that goes wrong.
#[derive(Clone, Copy, Debug)]
pub enum Fault {
    /// A server's process dies, and another takes its place after a time, if at all.
    Crash(usize, Health, Option<Duration>),
    /// A server does nothing for a time.
    Freeze(usize, Duration),
    /// A server's link is cut for a time.
    Cut(usize, Duration),
    /// A server's link drops to this rate, in bits per second: a tenth of what it was at first.
    Slow(usize, u64),
    /// A server's link starts to lose packets.
    Loss(usize, f64),
    /// A server lies from now on, with a probability.
    Lie(usize, Lie, f64),
    /// A server turns out not to hold an extent.
    Hole(usize, u32),
    /// The client's address changes.
    Move,
    /// The viewer goes on from another extent.
    Seek(u32),
}

/// Other traffic.
#[derive(Clone, Copy, Debug)]
pub enum Cross {
    /// A bulk transfer.
    Tcp(Algorithm),
    /// What heeds nothing.
    Steady(Steady),
}

/// A world in which something went wrong that must not.
#[derive(Debug)]
pub struct Failure {
    /// The world.
    pub plan: Plan,
    /// What.
    pub what: String,
}

/// Longest asset of these worlds.
const EXTENTS_MAX: f64 = 16.0;
const SERVERS_MAX: u64 = 4;
/// Faults strike within this time.
const FAULTS_WITHIN: Duration = Duration::from_secs(8);
/// Clients are patient: several faults in a row may strike the only source, which is then left alone for a while.
const STALL: Duration = Duration::from_secs(30);
/// What is to pass does so in this time: well before a client gives up.
const FAULT_TIME_MAX: Duration = Duration::from_secs(3);
/// No world of these takes so long.
const TIME_MAX: Duration = Duration::from_secs(600);
/// But for background traffic, which beside TCP that never ends gets two packets in a round trip and no more.
const BACKGROUND_TIME_MAX: Duration = Duration::from_secs(3_600);
const MBIT: f64 = 1e6;

impl Plan {
    /// The world of a seed.
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let bytes = (rng.log_between(0.1, EXTENTS_MAX) * EXTENT_BYTES as f64) as u64;
        let servers = 1 + rng.below(SERVERS_MAX) as usize;
        let client = random_client(&mut rng);
        let links: Vec<(LinkConfig, LinkConfig)> =
            (0..servers).map(|_| (random_link(&mut rng), random_uplink(&mut rng))).collect();
        let rates: Vec<Option<u64>> = links.iter().map(|(down, _)| down.rate_bit_s).collect();
        let shared = rng.happens(0.4).then(|| (random_link(&mut rng), random_uplink(&mut rng)));
        let is_film = matches!(client.purpose, Purpose::Film(_));
        let faults = (0..rng.below(6)).filter_map(|_| random_fault(&mut rng, &rates, bytes, is_film)).collect();
        // TCP would grow without end on a link without a rate, and fill a queue without an end.
        let shared_rate = shared.and_then(|(down, _)| down.rate_bit_s.filter(|_| down.queue_bytes.is_some()));
        let cross = shared_rate.filter(|_| rng.happens(0.4)).map(|rate| random_cross(&mut rng, rate));
        Self { seed, bytes, client, links, shared, faults, cross }
    }

    /// The same world with a fault within the client.
    pub fn with_planted(mut self, planted: Planted) -> Self {
        self.client.planted = Some(planted);
        self
    }

    /// Runs the world and gives its trace hash.
    ///
    /// # Errors
    /// What must never happen, and has; a panic of the shipping code is told likewise.
    pub fn run(self) -> Result<u64, Box<Failure>> {
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let mut world = self.build();
            let end = if self.client.traffic == Traffic::Background { BACKGROUND_TIME_MAX } else { TIME_MAX };
            world.run_until_done(end).map(|()| world.trace_hash())
        }));
        let what = match outcome {
            Ok(Ok(hash)) => return Ok(hash),
            Ok(Err(violation)) => format!("at {:?}: {}", violation.at, violation.what),
            Err(panic) => format!("a panic: {}", in_words(&*panic)),
        };
        Err(Box::new(Failure { plan: self, what }))
    }

    fn build(&self) -> World {
        let mut world = World::new(self.seed, Asset::new(self.bytes));
        let client = world.add_client(self.client);
        let shared = self.shared.map(|(down, up)| world.add_path(down, up));
        let mut paths: Vec<Path> = Vec::new();
        for (down, up) in &self.links {
            let (server, path) = (world.add_server(), world.add_path(*down, *up));
            let way: Vec<Path> = [Some(path), shared].into_iter().flatten().collect();
            world.connect(server, client, &way);
            paths.push(path);
        }
        if let (Some(cross), Some(shared)) = (self.cross, shared) {
            let (far, near) = (world.add_peer(), world.add_peer());
            world.connect(far, near, &[shared]);
            match cross {
                Cross::Tcp(algorithm) => world.add_tcp(far, near, Duration::ZERO, algorithm),
                Cross::Steady(steady) => world.add_steady(far, near, Duration::ZERO, steady),
            };
        }
        let paths: Arc<[Path]> = paths.into();
        for &(at, fault) in &self.faults {
            let paths = Arc::clone(&paths);
            world.at(at, move |world| strike(world, &paths, fault));
        }
        world
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { plan, what } = self;
        let planted = plan.client.planted.map(|planted| format!(" --planted {planted:?}")).unwrap_or_default();
        write!(
            f,
            "seed {}: {what}\nreplay: cargo run --release -p braidcast-sim -- --seed {}{planted}",
            plan.seed, plan.seed
        )
    }
}

fn strike(world: &mut World, paths: &[Path], fault: Fault) {
    let now = world.now();
    match fault {
        Fault::Crash(server, health, back) => {
            world.set_health(server, health);
            if let Some(time) = back {
                world.at(now + time, move |world| world.server_mut(server).restart());
            }
        }
        Fault::Freeze(server, time) => {
            if world.server_mut(server).health() == Health::Up {
                world.set_health(server, Health::Frozen);
                world.at(now + time, move |world| thaw(world, server));
            }
        }
        Fault::Cut(server, time) => {
            let Path { down, up } = paths[server];
            for link in [down, up] {
                world.network_mut().change_link(link, |config| config.is_cut = true);
                world
                    .at(now + time, move |world| world.network_mut().change_link(link, |config| config.is_cut = false));
            }
        }
        Fault::Slow(server, rate_bit_s) => {
            world.network_mut().change_link(paths[server].down, |config| config.rate_bit_s = Some(rate_bit_s));
        }
        Fault::Loss(server, loss) => {
            world.network_mut().change_link(paths[server].down, |config| config.loss = loss);
        }
        Fault::Lie(server, lie, probability) => world.server_mut(server).set_lie(lie, probability),
        Fault::Hole(server, extent) => world.server_mut(server).add_hole(ExtentNo(extent)),
        Fault::Move => {
            let client = world.client(0).host();
            world.network_mut().move_host(client);
        }
        Fault::Seek(extent) => world.seek(0, extent),
    }
}

fn thaw(world: &mut World, server: usize) {
    if world.server_mut(server).health() == Health::Frozen {
        world.set_health(server, Health::Up);
    }
}

fn random_client(rng: &mut Rng) -> ClientConfig {
    let film = FilmConfig {
        rate_bit_s: (rng.log_between(0.5, 20.0) * MBIT) as u64,
        window: Duration::from_secs_f64(rng.log_between(1.0, 10.0)),
        start: Duration::from_secs_f64(rng.log_between(0.1, 2.0)),
    };
    ClientConfig {
        purpose: if rng.happens(0.5) { Purpose::Film(film) } else { Purpose::Download },
        extents_max: 1 + rng.below(40) as usize,
        traffic: if rng.happens(0.2) { Traffic::Background } else { Traffic::Normal },
        receive_buffer_bytes: rng.log_between(200e3, 8e6) as usize,
        master_delay: Duration::from_secs_f64(rng.log_between(0.001, 0.5)),
        stall: STALL,
        retained: rng.happens(0.3).then(|| random_retained(rng)),
        ..ClientConfig::default()
    }
}

/// What a client believes to know of its paths, true or not.
fn random_retained(rng: &mut Rng) -> Retained {
    Retained {
        rate: rng.log_between(0.1, 1_000.0) * MBIT / 8.0,
        rtt: Duration::from_secs_f64(rng.log_between(0.001, 0.5)),
    }
}

/// With a probability, a number between two bounds, evenly spread by its logarithm; else 0.
fn sometimes(rng: &mut Rng, probability: f64, low: f64, high: f64) -> f64 {
    if rng.happens(probability) { rng.log_between(low, high) } else { 0.0 }
}

fn random_link(rng: &mut Rng) -> LinkConfig {
    let rate = rng.log_between(1.0, 100.0) * MBIT;
    let delay = rng.log_between(0.000_2, 0.1);
    let queue = (rate / 8.0 * delay * 2.0 * rng.log_between(0.1, 4.0)).max(QUEUE_BYTES_MIN);
    // Bursts are counted in packets: one of twenty outlasts every greeting that a silent source is given in half a minute.
    let bursts = rng.happens(0.2).then(|| Bursts::of(rng.log_between(0.001, 0.05), rng.log_between(1.0, 4.0)));
    LinkConfig {
        rate_bit_s: rng.happens(0.9).then_some(rate as u64),
        queue_bytes: rng.happens(0.9).then_some(queue as u64),
        delay: Duration::from_secs_f64(delay),
        loss: sometimes(rng, 0.4, 0.000_1, 0.1),
        bursts,
        ..random_faults(rng)
    }
}

fn random_uplink(rng: &mut Rng) -> LinkConfig {
    let delay = Duration::from_secs_f64(rng.log_between(0.000_2, 0.1));
    LinkConfig { delay, loss: sometimes(rng, 0.3, 0.000_1, 0.05), ..random_faults(rng) }
}

fn random_faults(rng: &mut Rng) -> LinkConfig {
    LinkConfig {
        jitter: Duration::from_secs_f64(sometimes(rng, 0.2, 0.000_1, 0.02)),
        reordering: sometimes(rng, 0.2, 0.001, 0.1),
        reordering_delay: Duration::from_secs_f64(rng.log_between(0.000_1, 0.03)),
        duplication: sometimes(rng, 0.2, 0.001, 0.1),
        corruption: sometimes(rng, 0.2, 0.000_1, 0.02),
        mtu: rng.happens(0.5).then_some(1_280),
        ..LinkConfig::default()
    }
}

fn random_fault(rng: &mut Rng, rates_bit_s: &[Option<u64>], bytes: u64, is_film: bool) -> Option<(Duration, Fault)> {
    let at = rng.time_below(FAULTS_WITHIN);
    let server = rng.below(rates_bit_s.len() as u64) as usize;
    let is_whole = server == 0;
    let time = rng.time_below(FAULT_TIME_MAX);
    let extents = bytes.div_ceil(EXTENT_BYTES as u64);
    let fault = match rng.below(9) {
        0 => {
            let back = is_whole || rng.happens(0.6);
            Fault::Crash(server, Health::Dead { refuses: rng.happens(0.5) }, back.then_some(time))
        }
        1 => Fault::Freeze(server, time),
        2 => Fault::Cut(server, time),
        3 => Fault::Slow(server, rates_bit_s[server]? / 10),
        4 => Fault::Loss(server, rng.log_between(0.01, 0.2)),
        5 if !is_whole => {
            let lie = [Lie::Wrong, Lie::Stale, Lie::Forged, Lie::FalseEnd][rng.below(4) as usize];
            // From the start: what lies late in so short a life lies to nobody.
            return Some((Duration::ZERO, Fault::Lie(server, lie, rng.log_between(0.01, 1.0))));
        }
        6 if !is_whole => return Some((Duration::ZERO, Fault::Hole(server, rng.below(extents) as u32))),
        7 => Fault::Move,
        8 if is_film => Fault::Seek(rng.below(extents) as u32),
        _ => return None,
    };
    Some((at, fault))
}

/// Steady traffic leaves at least half of the link.
fn random_cross(rng: &mut Rng, link_rate_bit_s: u64) -> Cross {
    match rng.below(3) {
        0 => Cross::Tcp(Algorithm::Cubic),
        1 => Cross::Tcp(Algorithm::Bbr),
        _ => Cross::Steady(Steady {
            rate_bit_s: (rng.log_between(0.05, 0.5) * link_rate_bit_s as f64) as u64,
            period: Duration::from_secs_f64(rng.log_between(0.1, 2.0)),
        }),
    }
}

fn in_words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("of which no text is known")
}

/// Room for four packets: the least train and its END fit. No router has less.
const QUEUE_BYTES_MIN: f64 = 6_000.0;
