//! A world in virtual time: clients, servers and other traffic on one network, and a script of what happens to them.
//!
//! Time jumps to the next thing that happens. One seed gives one run: [`World::trace_hash`] tells runs apart.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use braidcast_client::fetcher::{Host, Range, SourceList};
use braidcast_media::ExtentNo;

use crate::asset::Asset;
use crate::client::{Client, ClientConfig, Violation};
use crate::cross::{Flow, FlowNo, Steady};
use crate::ledger::{Doubled, Ledger};
use crate::link::LinkConfig;
use crate::network::{HostNo, LinkNo, Network, Packet, Payload};
use crate::rng::Rng;
use crate::server::{Clock, Health, Server, TICKET_LIFETIME};
use crate::tcp::Algorithm;

/// Extents for which the master names the same first choice.
const RANGE_EXTENTS: u32 = 16;
/// A world that does so much at one moment will never leave it.
const STEPS_PER_MOMENT_MAX: u32 = 100_000;

/// Something that happens at a time.
type Happening = Box<dyn FnOnce(&mut World)>;

/// What runs on a host.
#[derive(Clone, Copy)]
enum Role {
    Client(usize),
    Server(usize),
    /// The end of other traffic.
    Peer,
}

/// The links between a client and a server, or a peer.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    /// Towards the client.
    pub down: LinkNo,
    /// From the client.
    pub up: LinkNo,
}

/// A world.
pub struct World {
    clock: Clock,
    now: Duration,
    /// Random numbers for what is added to the world.
    rng: Rng,
    asset: Arc<Asset>,
    network: Network,
    roles: Vec<Role>,
    clients: Vec<Client>,
    servers: Vec<Server>,
    flows: Vec<Flow>,
    script: BTreeMap<(Duration, usize), Happening>,
    happenings: usize,
    ledger: Ledger,
    violation: Option<Violation>,
    steps_at_moment: u32,
}

impl World {
    /// An empty world around an asset.
    pub fn new(seed: u64, asset: Arc<Asset>) -> Self {
        let mut rng = Rng::new(seed);
        Self {
            clock: Clock::start(),
            now: Duration::ZERO,
            network: Network::new(rng.split()),
            rng,
            asset,
            roles: Vec::new(),
            clients: Vec::new(),
            servers: Vec::new(),
            flows: Vec::new(),
            script: BTreeMap::new(),
            happenings: 0,
            ledger: Ledger::default(),
            violation: None,
            steps_at_moment: 0,
        }
    }

    /// Time since the start.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// The network, to be changed.
    pub fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    /// The client that was added as the `index`-th.
    pub fn client(&self, index: usize) -> &Client {
        &self.clients[index]
    }

    /// The server that was added as the `index`-th.
    pub fn server_mut(&mut self, index: usize) -> &mut Server {
        &mut self.servers[index]
    }

    /// Other traffic.
    pub fn flow(&self, flow: FlowNo) -> &Flow {
        &self.flows[usize::from(flow.0)]
    }

    /// Tells runs apart: over every packet that has arrived.
    pub fn trace_hash(&self) -> u64 {
        self.network.trace_hash()
    }

    /// Adds a server without links.
    pub fn add_server(&mut self) -> HostNo {
        let host = self.network.add_host();
        self.roles.push(Role::Server(self.servers.len()));
        self.servers.push(Server::new(host, Arc::clone(&self.asset), self.rng.split()));
        host
    }

    /// Adds a client without links, which begins at once.
    pub fn add_client(&mut self, config: ClientConfig) -> HostNo {
        let host = self.network.add_host();
        self.roles.push(Role::Client(self.clients.len()));
        let (asset, seed) = (Arc::clone(&self.asset), self.rng.bytes());
        self.clients.push(Client::new(&self.clock, self.now, host, asset, config, seed));
        host
    }

    /// Adds an end of other traffic, without links.
    pub fn add_peer(&mut self) -> HostNo {
        self.roles.push(Role::Peer);
        self.network.add_host()
    }

    /// Adds both directions of a link.
    pub fn add_path(&mut self, down: LinkConfig, up: LinkConfig) -> Path {
        Path { down: self.network.add_link(down), up: self.network.add_link(up) }
    }

    /// Lets a host on the far side and one on the near side reach each other by `paths`, from far to near.
    pub fn connect(&mut self, far: HostNo, near: HostNo, paths: &[Path]) {
        self.network.set_route(far, near, paths.iter().map(|path| path.down).collect());
        self.network.set_route(near, far, paths.iter().rev().map(|path| path.up).collect());
    }

    /// Adds a bulk transfer that starts at a time.
    pub fn add_tcp(&mut self, from: HostNo, to: HostNo, starts_at: Duration, algorithm: Algorithm) -> FlowNo {
        let number = FlowNo(self.flows.len() as u16);
        self.flows.push(Flow::tcp(number, from, to, starts_at, algorithm, self.rng.draw()));
        number
    }

    /// Adds traffic that heeds nothing and starts at a time.
    pub fn add_steady(&mut self, from: HostNo, to: HostNo, starts_at: Duration, steady: Steady) -> FlowNo {
        let number = FlowNo(self.flows.len() as u16);
        self.flows.push(Flow::steady(number, from, to, starts_at, steady));
        number
    }

    /// Something happens at a time, which must not have passed.
    pub fn at(&mut self, time: Duration, happening: impl FnOnce(&mut World) + 'static) {
        self.happenings += 1;
        self.script.insert((time, self.happenings), Box::new(happening));
    }

    /// A client goes on playing from another extent.
    pub fn seek(&mut self, client: usize, extent: u32) {
        self.clients[client].seek(&self.clock, self.now, extent);
    }

    /// A server falls ill, or is well again.
    pub fn set_health(&mut self, server: usize, health: Health) {
        self.servers[server].set_health(health);
    }

    /// Runs up to `end`, or until `done` says so after a step.
    ///
    /// # Errors
    /// What must never happen, and has.
    pub fn run(&mut self, end: Duration, done: impl Fn(&Self) -> bool) -> Result<(), Violation> {
        while let Some(next) = self.next_at().filter(|next| *next <= end) {
            self.steps_at_moment = if next > self.now { 0 } else { self.steps_at_moment + 1 };
            if self.steps_at_moment > STEPS_PER_MOMENT_MAX {
                return Err(Violation { at: self.now, what: "a deadline passed, and nothing came of it".to_owned() });
            }
            self.now = self.now.max(next);
            self.step();
            if let Some(violation) = &self.violation {
                return Err(violation.clone());
            }
            if done(self) {
                return Ok(());
            }
        }
        self.now = end;
        Ok(())
    }

    /// Runs up to `end`.
    ///
    /// # Errors
    /// What must never happen, and has.
    pub fn run_until(&mut self, end: Duration) -> Result<(), Violation> {
        self.run(end, |_| false)
    }

    /// Runs until all clients are done.
    ///
    /// # Errors
    /// What must never happen, and has; also if they are not done by `end`.
    pub fn run_until_done(&mut self, end: Duration) -> Result<(), Violation> {
        let is_done = |world: &Self| world.clients.iter().all(|client| client.done_at().is_some());
        self.run(end, is_done)?;
        if is_done(self) { Ok(()) } else { Err(Violation { at: self.now, what: "not done by then".to_owned() }) }
    }

    fn next_at(&self) -> Option<Duration> {
        let clients = self.clients.iter().filter_map(|client| client.poll_timeout(&self.clock));
        let servers = self.servers.iter().filter_map(|server| server.poll_timeout(&self.clock));
        let flows = self.flows.iter().filter_map(Flow::poll_timeout);
        let script = self.script.first_key_value().map(|((at, _), _)| *at);
        clients.chain(servers).chain(flows).chain(script).chain(self.network.next_at()).min()
    }

    /// All that happens at one moment.
    fn step(&mut self) {
        let now = self.now;
        while self.script.first_key_value().is_some_and(|((at, _), _)| *at <= now)
            && let Some((_, happening)) = self.script.pop_first()
        {
            happening(self);
        }
        while let Some(packet) = self.network.poll_arrival(now) {
            self.deliver(packet);
        }
        for index in 0..self.servers.len() {
            self.servers[index].handle_timeout(&self.clock, now, &mut self.network);
            while let Some(packet) = self.servers[index].poll_inbox() {
                self.serve(index, packet);
            }
        }
        for flow in &mut self.flows {
            flow.run(now, &mut self.network);
        }
        for index in 0..self.clients.len() {
            self.run_client(index);
        }
        while let Some(answer) = self.network.poll_broken() {
            self.ledger.on_broken(answer);
        }
    }

    fn deliver(&mut self, packet: Packet) {
        if let Payload::Cross(segment) = packet.payload {
            self.flows[usize::from(segment.flow.0)].handle_segment(self.now, segment.kind, &mut self.network);
            return;
        }
        match self.roles[usize::from(packet.to.host.0)] {
            Role::Client(index) => self.clients[index].handle_packet(&self.clock, self.now, &packet),
            Role::Server(index) => self.serve(index, packet),
            Role::Peer => {}
        }
    }

    fn serve(&mut self, index: usize, packet: Packet) {
        let (client, server) = (packet.from.host, packet.to.host);
        let served = self.servers[index].handle_packet(&self.clock, self.now, packet, &mut self.network);
        let Some(served) = served else { return };
        let base_rtt = self.network.base_rtt(client, server);
        if let Some(Doubled { chunk, first_at, again_at }) = self.ledger.on_served(client, server, base_rtt, &served) {
            let what = format!(
                "host {} pulls chunk {chunk} from host {} while it is on its way: at {first_at:?} and {again_at:?}",
                client.0, server.0
            );
            self.violation.get_or_insert(Violation { at: self.now, what });
        }
    }

    fn run_client(&mut self, index: usize) {
        while let Some(first) = self.clients[index].poll_list_wish(self.now) {
            let only_first_choices = self.clients[index].follows_the_plain_rule();
            let list = self.list(first, only_first_choices);
            self.clients[index].handle_list(&self.clock, self.now, list);
        }
        let client = &mut self.clients[index];
        client.run(&self.clock, self.now, &mut self.network);
        if client.take_seek() {
            self.ledger.on_seek(client.host(), self.now);
        }
        while let Some(extent) = client.poll_forged() {
            self.ledger.on_forged(client.host(), extent, self.now);
        }
        if let Some(violation) = client.violation() {
            self.violation.get_or_insert(violation.clone());
        }
    }

    /// The master's answer: all servers, each the first choice for its share of the extents from `first` on, and unless
    /// only these are wanted an alternate for the others.
    fn list(&mut self, first: u32, only_first_choices: bool) -> SourceList {
        let now = self.now;
        let network = &self.network;
        let hosts = self.servers.iter_mut().map(|server| {
            let (ticket, session_secret) = server.ticket(now);
            let address = network.endpoint(server.host()).address();
            let server_id = format!("server-{}", server.host().0);
            Host { server_id, address, ticket, session_secret, ticket_lifetime: TICKET_LIFETIME }
        });
        let hosts: Vec<Host> = hosts.collect();
        let extents = self.asset.stream().extents();
        let mut ranges = Vec::new();
        let mut at = first;
        while at < extents {
            let end = (at / RANGE_EXTENTS + 1) * RANGE_EXTENTS;
            let mut order: Vec<usize> = (0..hosts.len()).collect();
            order.rotate_left((at / RANGE_EXTENTS) as usize % hosts.len().max(1));
            if only_first_choices {
                order.truncate(1);
            }
            ranges.push(Range { first: ExtentNo(at), last: ExtentNo(end.min(extents) - 1), hosts: order });
            at = end;
        }
        SourceList { hosts, ranges }
    }
}
