//! Both sides under packets and operations in any order: nothing panics, nothing grows, no rule is broken.

use std::time::Duration;

use braidcast_media::layout::PACKET_BYTES;
use braidcast_media::{Run, StreamId};
use braidcast_transport::limits::{CHUNKS_PER_PULL_MAX, SESSION_IDLE, UNPROVEN_BYTES_MAX};
use braidcast_transport::puller::{Arrival, Event};
use braidcast_transport::responder::{Action, Outcome, Runs};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::asset::{ASSET, PassFor};
use crate::scripted::{HANDLE, Scripted, transmitted};
use crate::server::{Client, Server, address, all_sent};
use crate::wire::{EndText, PullText, Session, WireLimits, WireRun, hello, reset, versions};

/// Bytes of sizes and kinds that parsers look at twice.
fn junk() -> impl Strategy<Value = Vec<u8>> {
    let size =
        prop_oneof![0_usize..200, Just(16), Just(84), Just(88), Just(112), Just(136), Just(1_232), 0_usize..1_400];
    let kind = prop_oneof![0x10_u8..0x18, any::<u8>()];
    (size.prop_flat_map(|size| vec(any::<u8>(), size)), kind).prop_map(|(mut bytes, kind)| {
        if let Some(first) = bytes.first_mut() {
            *first = kind;
        }
        bytes
    })
}

/// Damage to a good packet.
#[derive(Clone, Debug)]
enum Damage {
    None,
    Flip(Index, u8),
    Cut(Index),
    Grow(u8),
}

impl Damage {
    fn applied_to(&self, mut packet: Vec<u8>) -> Vec<u8> {
        match self {
            Self::None => {}
            Self::Flip(at, bit) => {
                let at = at.index(packet.len());
                packet[at] ^= 1 << bit;
            }
            Self::Cut(at) => packet.truncate(at.index(packet.len())),
            Self::Grow(by) => packet.resize(packet.len() + usize::from(*by), 0),
        }
        packet
    }

    fn any() -> impl Strategy<Value = Self> {
        prop_oneof![
            4 => Just(Self::None),
            2 => (any::<Index>(), 0_u8..8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            1 => any::<Index>().prop_map(Self::Cut),
            1 => (1_u8..4).prop_map(Self::Grow),
        ]
    }
}

fn wire_runs() -> impl Strategy<Value = Vec<WireRun>> {
    let run = (prop_oneof![0_u32..1_001, any::<u32>()], prop_oneof![0_u16..8, 0_u16..60, any::<u16>()]);
    vec(run, 0..=8)
}

/// What can be done to a server.
#[derive(Clone, Debug)]
enum ServerOp {
    Junk(Vec<u8>),
    Hello { random: u8, from: u16, damage: Damage },
    Pull { client: Index, runs: Vec<WireRun>, says: Option<u8>, moved: bool, again: bool, damage: Damage },
    Answer { request: Index, sent: u16, not_held: bool },
    Wait(u32),
    Sweep,
}

fn server_op() -> impl Strategy<Value = ServerOp> {
    let pull =
        (any::<Index>(), wire_runs(), proptest::option::weighted(0.1, any::<u8>()), any::<[bool; 2]>(), Damage::any());
    prop_oneof![
        2 => junk().prop_map(ServerOp::Junk),
        2 => (0_u8..6, 1_u16..4, Damage::any()).prop_map(|(random, from, damage)| ServerOp::Hello { random, from, damage }),
        6 => pull.prop_map(|(client, runs, says, [moved, again], damage)| {
            ServerOp::Pull { client, runs, says, moved: moved && again, again: again && !moved, damage }
        }),
        4 => (any::<Index>(), 0_u16..60, any::<bool>())
            .prop_map(|(request, sent, not_held)| ServerOp::Answer { request, sent, not_held }),
        1 => (0_u32..100_000).prop_map(ServerOp::Wait),
        1 => Just(ServerOp::Sweep),
    ]
}

/// A server, what clients of it know, and what a client is owed.
struct ServerRun {
    server: Server,
    clients: Vec<Client>,
    requests: Vec<braidcast_transport::responder::Request>,
}

impl ServerRun {
    fn apply(&mut self, op: ServerOp) -> Result<(), TestCaseError> {
        match op {
            ServerOp::Junk(bytes) => {
                let answer = self.server.reply(address(1), &bytes);
                prop_assert!(answer.is_none_or(|answer| answer.len() <= bytes.len()));
            }
            ServerOp::Hello { random, from, damage } => self.greet(random, from, &damage)?,
            ServerOp::Pull { client, runs, says, moved, again, damage } => {
                self.pull(client, &runs, says, moved, again, &damage)?;
            }
            ServerOp::Answer { request, sent, not_held } => self.answer(request, sent, not_held),
            ServerOp::Wait(ms) => self.server.advance(Duration::from_millis(ms.into())),
            ServerOp::Sweep => {
                let now = self.server.now();
                self.server.responder.handle_timeout(now);
                let due = self.server.responder.poll_timeout();
                prop_assert!(due.is_none_or(|at| at > now.instant && at <= now.instant + SESSION_IDLE));
            }
        }
        prop_assert!(self.server.responder.sessions() <= 18, "six randoms from three addresses");
        Ok(())
    }

    fn greet(&mut self, random: u8, from: u16, damage: &Damage) -> Result<(), TestCaseError> {
        let pass = PassFor::number(1).sealed();
        let hello = hello(&pass.ticket, &pass.secret, &[random; 32]);
        let sent = damage.applied_to(hello.clone());
        let Some(answer) = self.server.reply(address(from), &sent) else { return Ok(()) };
        prop_assert!(answer.len() <= sent.len());
        if answer[0] == 0x12 {
            prop_assert!(sent == hello, "only an unaltered HELLO is welcome");
            let (session, limits) = Session::open(&hello, &answer, &pass.secret).expect("WELCOME opens");
            let known = self.clients.iter().any(|client| client.session.handle == session.handle);
            if !known {
                let address = address(from);
                self.clients.push(Client { session, limits, address, sequence: 0, proof: [0; 16] });
            }
        }
        Ok(())
    }

    fn pull(
        &mut self,
        client: Index,
        runs: &[WireRun],
        says: Option<u8>,
        moved: bool,
        again: bool,
        damage: &Damage,
    ) -> Result<(), TestCaseError> {
        if self.clients.is_empty() {
            return Ok(());
        }
        let client = client.get_mut(&mut self.clients);
        if again && client.sequence > 0 {
            client.sequence -= 1;
        }
        let mut text = PullText::new(ASSET.0, runs).proving(client.proof);
        text.run_count = says.unwrap_or(text.run_count);
        let good = client.pull_text(&text);
        let sent = damage.applied_to(good.clone());
        let from = if moved { address(99) } else { client.address };
        match self.server.handle(from, &sent) {
            Some(Action::Pull(request)) => {
                prop_assert!(!moved && sent == good, "only an unaltered PULL of this address is granted");
                prop_assert!((1..=CHUNKS_PER_PULL_MAX).contains(&request.chunks()));
                prop_assert!(request.runs.iter().all(|run| run.count > 0));
                prop_assert_eq!(request.sequence, client.sequence);
                self.requests.push(request);
            }
            Some(Action::Send(answer)) => prop_assert!(answer.len() <= sent.len()),
            None => {}
        }
        Ok(())
    }

    fn answer(&mut self, request: Index, sent: u16, not_held: bool) {
        if self.requests.is_empty() {
            return;
        }
        let request = self.requests.swap_remove(request.index(self.requests.len()));
        let sent_chunks = if not_held { 0 } else { sent.min(request.chunks()) };
        let runs: &[Run] = if not_held { &request.runs } else { &[] };
        let outcome = Outcome { sent_chunks, not_held: runs, ..all_sent(&request) };
        let now = self.server.now();
        let Some(end) = self.server.responder.answer(now, &request, &outcome) else { return };
        if let Some(client) = self.clients.iter_mut().find(|client| client.session.handle == request.handle) {
            client.read(&end);
        }
    }
}

/// What can be done to a client.
#[derive(Clone, Debug)]
enum ClientOp {
    Junk(Vec<u8>),
    JunkData(Vec<u8>),
    Pull(Vec<WireRun>),
    Data { chunk: u32, damage: Damage },
    End { end: EndText, counter_back: u64, damage: Damage },
    Reset { sequence: u32 },
    Greet,
    Welcome { handle: u64, damage: Damage },
    Versions(Vec<u8>),
    Wait(u32),
    Abandon,
}

fn end_text() -> impl Strategy<Value = EndText> {
    let numbers = (0_u32..40, 0_u8..8, any::<u8>(), 0_u16..300, any::<u16>(), any::<u32>());
    (numbers, any::<u64>(), 0_u32..100, any::<(u32, u64)>(), any::<[u8; 16]>(), wire_runs()).prop_map(
        |(
            (sequence, status, flags, retry_after_ms, sent_chunks, held_us),
            sent_at_us,
            highest,
            (waiting, seen),
            proof,
            not_held,
        )| {
            EndText {
                sequence,
                status,
                flags,
                retry_after_ms,
                sent_chunks,
                held_us,
                sent_at_us,
                highest,
                waiting,
                seen,
                proof,
                not_held,
            }
        },
    )
}

fn client_op() -> impl Strategy<Value = ClientOp> {
    prop_oneof![
        2 => junk().prop_map(ClientOp::Junk),
        1 => junk().prop_map(ClientOp::JunkData),
        6 => wire_runs().prop_map(ClientOp::Pull),
        8 => (0_u32..1_001, Damage::any()).prop_map(|(chunk, damage)| ClientOp::Data { chunk, damage }),
        4 => (end_text(), 0_u64..3, Damage::any())
            .prop_map(|(end, counter_back, damage)| ClientOp::End { end, counter_back, damage }),
        2 => (0_u32..40).prop_map(|sequence| ClientOp::Reset { sequence }),
        1 => Just(ClientOp::Greet),
        2 => (any::<u64>(), Damage::any()).prop_map(|(handle, damage)| ClientOp::Welcome { handle, damage }),
        1 => vec(any::<u8>(), 0..16).prop_map(ClientOp::Versions),
        3 => (0_u32..2_000).prop_map(ClientOp::Wait),
        1 => Just(ClientOp::Abandon),
    ]
}

/// A client, and the newest HELLO and session that its server knows.
struct ClientRun {
    client: Scripted,
    hello: Vec<u8>,
    events: usize,
}

impl ClientRun {
    fn new() -> Self {
        Self { client: Scripted::open(), hello: vec![0; 1_232], events: 0 }
    }

    fn apply(&mut self, op: ClientOp) -> Result<(), TestCaseError> {
        let now = self.client.now;
        match op {
            ClientOp::Junk(bytes) => self.client.puller.handle_datagram(now, &bytes),
            ClientOp::JunkData(bytes) => {
                let arrival = self.client.data(&bytes);
                prop_assert!(!matches!(arrival, Arrival::Accepted { .. }), "chance does not seal a chunk");
            }
            ClientOp::Pull(runs) => self.pull(&runs),
            ClientOp::Data { chunk, damage } => {
                let packet = damage.applied_to(self.client.packet(chunk));
                self.client.data(&packet);
            }
            ClientOp::End { end, counter_back, damage } => {
                self.client.counter += 1;
                let counter = self.client.counter.saturating_sub(counter_back);
                let packet = damage.applied_to(self.client.session.end(counter, &end));
                self.client.puller.handle_datagram(now, &packet);
            }
            ClientOp::Reset { sequence } => {
                let packet = reset(self.client.session.handle, sequence);
                self.client.puller.handle_datagram(now, &packet);
            }
            ClientOp::Greet => {
                self.client.puller.greet(now, self.client.pass.ticket.clone(), self.client.pass.session_secret());
            }
            ClientOp::Welcome { handle, damage } => self.welcome(handle, &damage),
            ClientOp::Versions(listed) => self.client.puller.handle_datagram(now, &versions(&self.hello, &listed)),
            ClientOp::Wait(ms) => self.client.advance(Duration::from_millis(ms.into())),
            ClientOp::Abandon => self.client.puller.abandon(now),
        }
        self.drive()
    }

    /// Asks for as much of `runs` as the puller allows.
    fn pull(&mut self, runs: &[WireRun]) {
        let puller = &mut self.client.puller;
        let (chunks_max, runs_max) = puller.pull_limits();
        let mut left = puller.capacity_chunks(self.client.now).min(chunks_max.into());
        let mut asked = Runs::new();
        for &(first, count) in runs.iter().take(runs_max) {
            let count = u32::from(count).min(left);
            left -= count;
            if count > 0 {
                asked.push(Run::new(first, count as u16));
            }
        }
        if !asked.is_empty() {
            puller.pull(self.client.now, StreamId::ORIGINAL, asked);
        }
    }

    fn welcome(&mut self, handle: u64, damage: &Damage) {
        let (session, welcome) = Session::welcome(&self.hello, &self.client.pass.secret, handle, WireLimits::default());
        let before = self.client.puller.is_open();
        let sent = damage.applied_to(welcome.clone());
        self.client.puller.handle_datagram(self.client.now, &sent);
        let opened = std::iter::from_fn(|| self.client.puller.poll_event()).any(|event| event == Event::Opened);
        if opened {
            assert!(sent == welcome, "only an unaltered WELCOME opens a session");
            self.client.session = session;
            self.client.counter = 0;
        }
        assert_eq!(self.client.puller.is_open(), before || opened);
    }

    /// The rest of the driving contract, and what must hold after it.
    fn drive(&mut self) -> Result<(), TestCaseError> {
        let now = self.client.now;
        if self.client.puller.poll_timeout().is_some_and(|at| at <= now) {
            self.client.puller.handle_timeout(now);
        }
        self.events += self.client.events().len();
        let mut datagrams = 0;
        while let Some(datagram) = transmitted(&mut self.client.puller, now) {
            datagrams += 1;
            prop_assert!(datagrams <= 40, "no operation makes so many packets");
            if datagram[0] == 0x11 {
                self.hello = datagram;
            }
        }
        let puller = &self.client.puller;
        prop_assert!(puller.poll_timeout().is_none_or(|at| at > now), "a deadline passed and nothing came of it");
        let in_flight = u64::from(puller.in_flight_chunks()) * PACKET_BYTES as u64;
        prop_assert!(in_flight <= UNPROVEN_BYTES_MAX / 2);
        Ok(())
    }
}

proptest! {
    #![proptest_config(crate::fixed_seed(64))]

    #[test]
    fn a_server_keeps_its_rules_under_anything(ops in vec(server_op(), 1..200)) {
        let mut run = ServerRun { server: Server::new(), clients: Vec::new(), requests: Vec::new() };
        let pass = PassFor::number(1).sealed();
        let first = run.server.open(address(1), &pass, 0);
        run.clients.push(first);
        for op in ops {
            run.apply(op)?;
        }
    }

    #[test]
    fn a_client_keeps_its_rules_under_anything(ops in vec(client_op(), 1..300)) {
        let mut run = ClientRun::new();
        for op in ops {
            run.apply(op)?;
        }
        prop_assert!(run.events <= 300 * 45, "events come from what was asked for");
    }
}

#[test]
fn a_flood_of_junk_leaves_nothing_behind() {
    let mut client = Scripted::open();
    client.pull(&[(0, 52)]);
    let deadline = client.puller.poll_timeout();
    let mut packets: Vec<Vec<u8>> = (0_u8..=255).map(|first| vec![first; 88]).collect();
    packets.push(reset(HANDLE, 7));
    packets.push(client.session.end(1, &EndText { sequence: 9, ..EndText::default() }));
    for round in 0..200 {
        for packet in &packets {
            client.puller.handle_datagram(client.now, packet);
            client.data(packet);
        }
        let mut data = client.packet(60 + round);
        data[20] ^= 1;
        client.data(&data);
    }
    assert_eq!((client.events(), transmitted(&mut client.puller, client.now)), (vec![], None));
    assert_eq!((client.puller.in_flight_chunks(), client.puller.poll_timeout()), (52, deadline));
    assert!(client.puller.counters().dropped > 100_000);
}
