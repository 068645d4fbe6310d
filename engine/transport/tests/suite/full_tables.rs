//! Who gets in, and who leaves, where a shard holds as many sessions as it may.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use braidcast_transport::limits::{SESSION_IDLE, SESSIONS_PER_TICKET_MAX};
use braidcast_transport::packet::Kind;
use braidcast_transport::puller::Event;
use braidcast_transport::responder::{Action, Now, Responder, ResponderConfig};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::asset::{EPOCH_S, Pass, PassFor, ticket_key};
use crate::fixed_seed;
use crate::server::{Client, Server, address};
use crate::wire::{PullText, Session, hello};
use crate::world::{Setting, World};

const GREEDY: u64 = 1;
const HONEST: u64 = 2;
const NEWCOMER: u64 = 3;

/// A ticket of a user.
fn pass_of(user: u64) -> Pass {
    PassFor { user, ..PassFor::number(user as u8) }.sealed()
}

/// A shard with room for so many sessions.
fn shard(sessions_max: usize) -> Server {
    Server::with(ResponderConfig { sessions_max, ..ResponderConfig::default() })
}

/// Opens a session from a port of its own, and pulls once.
fn established(server: &mut Server, user: u64, port: u16) -> Client {
    let mut client = server.open(address(port), &pass_of(user), 1);
    client.granted(server, &[(0, 1)]);
    client
}

fn hello_of(user: u64) -> Vec<u8> {
    let pass = pass_of(user);
    hello(&pass.ticket, &pass.secret, &[1; 32])
}

/// Whether the server knows a session. It changes nothing: a PULL whose tag does not verify is dropped, and one for an
/// unknown session gets a RESET, of which there are enough in a second.
fn is_known(server: &mut Server, client: &Client) -> bool {
    let mut pull = client.session.pull(u32::MAX, &PullText::new(0, &[(0, 1)]));
    *pull.last_mut().expect("a PULL has bytes") ^= 1;
    match server.reply(client.address, &pull) {
        None => true,
        Some(answer) => {
            assert_eq!(Kind::of(&answer), Some(Kind::Reset));
            false
        }
    }
}

/// Mechanism: sessions were bounded per ticket and in all, and a user may have any number of tickets; one user filled a
/// shard, and nobody else was welcome any more.
//= PROTOCOL H7: Where a shard is full of sessions, a HELLO MUST take the place of the longest silent session of the user who holds the most, if that user is left with at least as many as the HELLO's user then has; else that of the longest silent session of the HELLO's own user; and where that user has none, the server MUST refuse the HELLO.
#[test]
fn a_newcomer_takes_the_place_of_the_longest_silent_session_of_who_holds_the_most() {
    let mut server = shard(5);
    let honest = established(&mut server, HONEST, 1);
    let mut greedy: Vec<_> = (2..6).map(|port| established(&mut server, GREEDY, port)).collect();
    greedy[0].served(&mut server, &[(1, 1)]);

    established(&mut server, NEWCOMER, 6);

    let known: Vec<_> = greedy.iter().map(|client| is_known(&mut server, client)).collect();
    assert_eq!(known, [true, false, true, true], "the first has pulled again, so the second was silent for longest");
    assert!(is_known(&mut server, &honest), "silent for longer, and alone of its user");
    let counters = server.responder.counters();
    assert_eq!((server.responder.sessions(), counters.displaced_sessions, counters.too_many_sessions), (5, 1, 0));
}

#[test]
fn who_holds_the_most_displaces_only_sessions_of_the_same_user() {
    let mut server = shard(6);
    let others: Vec<_> = [HONEST, HONEST, NEWCOMER]
        .into_iter()
        .zip(1..)
        .map(|(user, port)| established(&mut server, user, port))
        .collect();
    let mut greedy = Vec::new();
    for port in 10..60 {
        greedy.push(established(&mut server, GREEDY, port));
        assert!(others.iter().all(|client| is_known(&mut server, client)), "greeting {port}");
    }
    assert_eq!(server.responder.sessions(), 6);
    let known: Vec<_> = greedy.iter().map(|client| is_known(&mut server, client)).collect();
    assert_eq!(known.iter().position(|known| *known), Some(47), "the last three are left");
}

#[test]
fn users_take_of_who_holds_the_most_until_they_hold_as_many() {
    let mut server = shard(8);
    let greedy: Vec<_> = (0..8).map(|port| established(&mut server, GREEDY, port)).collect();
    let honest: Vec<_> = (10..20).map(|port| established(&mut server, HONEST, port)).collect();
    let mut left = |clients: &[Client]| clients.iter().filter(|client| is_known(&mut server, client)).count();
    assert_eq!((left(&greedy), left(&honest)), (4, 4));
}

#[test]
fn a_shard_full_of_users_with_one_session_each_refuses_a_newcomer() {
    let mut server = shard(3);
    let clients: Vec<_> = (1..4).map(|user| established(&mut server, user, user as u16)).collect();
    assert_eq!(server.reply(address(9), &hello_of(9)), None);
    let counters = server.responder.counters();
    assert_eq!((counters.too_many_sessions, counters.displaced_sessions), (1, 0));
    assert!(clients.iter().all(|client| is_known(&mut server, client)));
}

#[test]
fn one_user_with_hundreds_of_players_has_them_all_while_there_is_room() {
    let mut server = Server::new();
    let players: Vec<_> = (0..800_u16)
        .map(|port| {
            // A ticket for every 50 players.
            let pass = PassFor { user: GREEDY, ..PassFor::number((port / 50) as u8) }.sealed();
            let mut client = server.open(address(port), &pass, 1);
            client.granted(&mut server, &[(0, 1)]);
            client
        })
        .collect();
    assert!(players.iter().all(|client| is_known(&mut server, client)));
    assert_eq!(server.responder.counters().displaced_sessions, 0);
}

#[test]
fn a_displaced_session_gives_its_tickets_share_back() {
    let full = usize::from(SESSIONS_PER_TICKET_MAX);
    let mut server = shard(full);
    for port in 0..SESSIONS_PER_TICKET_MAX {
        established(&mut server, GREEDY, port);
    }
    assert_eq!(server.reply(address(200), &hello_of(GREEDY)), None, "the ticket's share is used up");
    established(&mut server, HONEST, 201);
    established(&mut server, GREEDY, 202);
    assert_eq!(server.responder.sessions(), full);
}

/// Mechanism: who greets and never pulls pushed the half-open sessions of all others out before their first PULL came.
//= PROTOCOL H8: Where a shard is full of half-open sessions, a HELLO MUST take the place of one of them by the rule of H7; where H7 would refuse the HELLO, that of the oldest of the user who holds the most.
#[test]
fn a_flood_of_one_users_greetings_leaves_half_open_sessions_of_others() {
    let mut server = Server::with(ResponderConfig { half_open_max: 8, ..ResponderConfig::default() });
    let pass = pass_of(GREEDY);
    for port in 100..110 {
        server.open(address(port), &pass, 1);
    }
    let honest = server.open(address(1), &pass_of(HONEST), 1);
    for port in 110..200 {
        server.open(address(port), &pass, 1);
        assert!(is_known(&mut server, &honest), "after greeting {port}");
    }
    assert_eq!(server.responder.sessions(), 8);
}

#[test]
fn half_open_sessions_of_users_with_one_each_are_a_ring() {
    let mut server = Server::with(ResponderConfig { half_open_max: 3, ..ResponderConfig::default() });
    let clients: Vec<_> = (1..5).map(|user| server.open(address(user as u16), &pass_of(user), 1)).collect();
    let known: Vec<_> = clients.iter().map(|client| is_known(&mut server, client)).collect();
    assert_eq!(known, [false, true, true, true]);
}

#[test]
fn a_client_whose_session_was_displaced_greets_again_and_goes_on() {
    let mut world = World::new(Setting { bytes: 10_000_000, ..Setting::default() });
    let config = ResponderConfig { sessions_max: 1, ..ResponderConfig::default() };
    world.responder = Responder::new(config, [9; 32], vec![ticket_key().into()]);
    world.run_until(|world| world.chunks_had() > 3_000);
    // Another client of the same user, who holds the most.
    let pass = PassFor::number(9).sealed();
    let now = Now { instant: world.now, unix_s: EPOCH_S };
    let welcome = world.responder.handle_datagram(now, address(999), &hello(&pass.ticket, &pass.secret, &[9; 32]));
    assert!(matches!(welcome, Some(Action::Send(_))));
    assert_eq!(world.responder.counters().displaced_sessions, 1);
    world.download();
    assert_eq!(world.events.iter().filter(|(_, event)| *event == Event::Opened).count(), 2);
}

/// A session as the model of a shard sees it.
struct Known {
    client: Client,
    user: u64,
    has_pulled: bool,
    heard: Instant,
}

/// What can happen to a shard.
#[derive(Clone, Debug)]
enum Op {
    Greet(u64),
    Pull(Index),
    Wait(u64),
    Sweep,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => prop_oneof![Just(GREEDY), 1..6_u64].prop_map(Op::Greet),
        6 => any::<Index>().prop_map(Op::Pull),
        1 => (1..70_u64).prop_map(Op::Wait),
        1 => Just(Op::Sweep),
    ]
}

const SESSIONS_MAX: usize = 9;
const HALF_OPEN_MAX: usize = 4;

/// A small shard beside a model of it: all sessions that should be known, the longest silent one first.
struct Run {
    server: Server,
    known: Vec<Known>,
    ports: u16,
}

impl Run {
    fn apply(&mut self, op: Op) -> Result<(), TestCaseError> {
        match op {
            Op::Greet(user) => self.greet(user)?,
            Op::Pull(which) if !self.known.is_empty() => {
                let mut session = self.known.remove(which.index(self.known.len()));
                session.client.served(&mut self.server, &[(0, 1)]);
                (session.has_pulled, session.heard) = (true, self.server.now().instant);
                self.known.push(session);
            }
            Op::Pull(_) => {}
            Op::Wait(seconds) => self.server.advance(Duration::from_secs(seconds)),
            Op::Sweep => {
                let now = self.server.now();
                self.server.responder.handle_timeout(now);
                self.known.retain(|session| now.instant < session.heard + SESSION_IDLE);
            }
        }
        // For more RESETs.
        self.server.advance(Duration::from_secs(1));
        prop_assert_eq!(self.server.responder.sessions(), self.known.len());
        for session in &self.known {
            prop_assert!(is_known(&mut self.server, &session.client));
        }
        Ok(())
    }

    fn greet(&mut self, user: u64) -> Result<(), TestCaseError> {
        let half_open = |session: &Known| !session.has_pulled;
        let leaves = if self.handles(half_open).len() == HALF_OPEN_MAX {
            let may_leave = self.may_leave_for(user, half_open);
            // Who greets is never refused here: where all have one, any of them may be the oldest.
            Some(if may_leave.is_empty() { self.handles(half_open) } else { may_leave })
        } else {
            (self.known.len() == SESSIONS_MAX).then(|| self.may_leave_for(user, |_| true))
        };
        let is_welcome = self.greet_server(user);
        prop_assert_eq!(is_welcome, leaves.as_ref().is_none_or(|may_leave| !may_leave.is_empty()));
        let server = &mut self.server;
        let gone: Vec<_> = self.known.extract_if(.., |session| !is_known(server, &session.client)).collect();
        prop_assert_eq!(gone.len(), usize::from(is_welcome && leaves.is_some()));
        let may_leave = leaves.unwrap_or_default();
        prop_assert!(gone.iter().all(|session| may_leave.contains(&session.client.session.handle)));
        Ok(())
    }

    fn handles(&self, within: impl Fn(&Known) -> bool) -> Vec<u64> {
        self.known.iter().filter(|session| within(session)).map(|session| session.client.session.handle).collect()
    }

    /// The sessions of which H7 has one leave, among those that are `within` a table; more than one if several users
    /// hold equally many.
    fn may_leave_for(&self, user: u64, within: impl Fn(&Known) -> bool) -> Vec<u64> {
        let mut by_user: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for session in self.known.iter().filter(|session| within(session)) {
            by_user.entry(session.user).or_default().push(session.client.session.handle);
        }
        let most = by_user.values().map(Vec::len).max().unwrap_or(0);
        let own = by_user.get(&user).map_or(&[][..], Vec::as_slice);
        if most <= own.len() + 1 {
            return own.iter().take(1).copied().collect();
        }
        by_user.values().filter(|sessions| sessions.len() == most).map(|sessions| sessions[0]).collect()
    }

    /// Greets from a port of its own; says whether a WELCOME came.
    fn greet_server(&mut self, user: u64) -> bool {
        self.ports += 1;
        let (from, pass, hello) = (address(self.ports), pass_of(user), hello_of(user));
        let Some(welcome) = self.server.reply(from, &hello) else { return false };
        let (session, limits) = Session::open(&hello, &welcome, &pass.secret).expect("WELCOME opens");
        let client = Client { session, limits, address: from, sequence: 0, proof: [0; 16] };
        self.known.push(Known { client, user, has_pulled: false, heard: self.server.now().instant });
        true
    }
}

proptest! {
    #![proptest_config(fixed_seed(200))]

    #[test]
    fn the_right_session_leaves_after_any_greetings_pulls_and_silences(ops in vec(op(), 1..150)) {
        let config =
            ResponderConfig { sessions_max: SESSIONS_MAX, half_open_max: HALF_OPEN_MAX, ..ResponderConfig::default() };
        let mut run = Run { server: Server::with(config), known: Vec::new(), ports: 0 };
        for op in ops {
            run.apply(op)?;
        }
    }
}
