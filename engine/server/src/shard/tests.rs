//! Shards driven by hand: no socket, no helper thread, no waiting.

use braidcast_io::waker;
use braidcast_media::layout::{EXTENT_BYTES, PACKET_BYTES, PackLayout};
use braidcast_media::pack::PackHeader;
use braidcast_media::ticket::{SessionSecret, Ticket, TicketKey};
use braidcast_media::{AssetId, ContentKey, Opener, Run, StreamId};
use braidcast_transport::congestion::FixedWindow;
use braidcast_transport::packet::Kind;
use braidcast_transport::puller::{Event, Loss, Puller, PullerConfig};
use braidcast_transport::responder::ResponderConfig;

use super::*;
use crate::catalogue::Shelf;
use crate::limits::{PARKED_FOR_MAX, WARM_QUEUE_MAX};
use crate::mailbox::Warmed;
use crate::open_packs::OpenPacks;
use crate::pack::Pack;
use crate::warm::Job;

const ASSET: AssetId = AssetId(5);
const CLIENT: ([u8; 4], u16) = ([127, 0, 0, 1], 4_000);
/// The shard whose packets come over TCP.
const TCP: usize = 2;

/// Two shards for UDP and one for TCP of one server that holds one pack, and a client of it.
struct World {
    now: Instant,
    shards: Vec<Shard>,
    outbox: Outbox,
    mailboxes: Arc<[Mailbox]>,
    jobs: crossbeam::channel::Receiver<Job>,
    pack: Arc<Pack>,
    client: Puller,
    ticket: (Vec<u8>, SessionSecret),
    _dir: tempfile::TempDir,
}

impl World {
    fn new(warm_queue: usize) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let layout = PackLayout::of_file(3 * EXTENT_BYTES as u64).expect("short file");
        let sealed_hashes = vec![[0; 32]; layout.extents() as usize];
        let header = PackHeader { asset: ASSET, layout: layout.clone(), sealed_hashes };
        let pack =
            Arc::new(Pack::create(&dir.path().join("p"), &header.to_bytes(), &OpenPacks::new(1)).expect("new pack"));
        for extent in 0..layout.extents() {
            pack.held().insert(extent);
        }
        let key = Arc::new(TicketKey::new(1, &[1; 32]));
        let shelf = Arc::new(Shelf::default());
        shelf.update(|catalogue| {
            catalogue.packs.insert(ASSET, Arc::clone(&pack));
            catalogue.ticket_keys = vec![Arc::clone(&key)];
        });
        let mailboxes: Arc<[Mailbox]> = (0..=TCP).map(|_| Mailbox::new(waker().0)).collect();
        let (warmer, jobs) = Warmer::without_helpers(warm_queue);
        let shard = |number: u8| {
            let config = ResponderConfig { shard: number, ..ResponderConfig::default() };
            let responder = Responder::new(config, [number; 32], Vec::new());
            let (reader, counters) = (Reader::new(Arc::clone(&shelf)), Arc::default());
            let (mailboxes, warmer, turns) = (Arc::clone(&mailboxes), warmer.clone(), Turns::new(None));
            Shard::new(number, responder, reader, mailboxes, warmer, turns, counters)
        };
        let (now, secret) = (Instant::now(), SessionSecret::new([2; 32]));
        let congestion = Box::new(FixedWindow { bytes: 1 << 20 });
        let opener = Opener::new(&ContentKey::new([0; 16]), ASSET);
        let client = Puller::new(PullerConfig { seed: [3; 32], congestion }, opener, layout);
        let expires_at = both_clocks(now).unix_s + 600;
        let ticket = Ticket { secret: secret.clone(), user: 1, expires_at, rate_kib_s: 0, assets: vec![ASSET] };
        let ticket = (key.seal(&ticket, [4; 12]), secret);
        let shards = vec![shard(0), shard(1), shard(TCP as u8)];
        let mut world = Self { now, shards, outbox: Outbox::new(), mailboxes, jobs, pack, client, ticket, _dir: dir };
        world.greet(0);
        world
    }

    /// Opens a session of shard `number`.
    fn greet(&mut self, number: usize) {
        let (ticket, secret) = self.ticket.clone();
        assert!(self.client.greet(self.now, ticket, secret));
        self.deliver(number);
        self.receive();
        assert!(self.client.is_open());
    }

    fn make_hot(&self) {
        for extent in 0..self.pack.layout().extents() {
            self.pack.hot().insert(extent);
        }
    }

    fn pull(&mut self, runs: &[Run]) {
        self.client.pull(self.now, StreamId::ORIGINAL, runs.iter().copied().collect());
    }

    /// Hands what the client sends to shard `number`.
    fn deliver(&mut self, number: usize) {
        let mut packet = Vec::new();
        while self.client.poll_transmit(self.now, &mut packet) {
            self.shards[number].handle_datagram(self.now, CLIENT.into(), &packet, &mut self.outbox);
        }
        self.shards[number].fill(self.now, &mut self.outbox);
    }

    /// Has shard `number` take up what other threads left for it.
    fn wake(&mut self, number: usize) {
        self.shards[number].handle_wake(self.now, &mut self.outbox);
        self.shards[number].fill(self.now, &mut self.outbox);
    }

    /// Gives the client the short packets of all trains; gives back the bytes of DATA before each.
    fn receive(&mut self) -> Vec<usize> {
        let mut data = Vec::new();
        while let Some(train) = self.outbox.pop() {
            assert_eq!(train.to(), CLIENT.into());
            self.client.handle_datagram(self.now, train.tail());
            data.push(train.bytes() - train.tail().len());
        }
        data
    }
}

//= PROTOCOL T7: A server MUST hold the address pair of a TCP connection and that of UDP datagrams for different ones, though they look the same.
#[test]
fn a_pull_of_the_other_way_is_that_of_a_stranger() {
    let mut world = World::new(WARM_QUEUE_MAX);
    world.make_hot();
    for (greeted, pulled) in [(0, TCP), (TCP, 1)] {
        world.greet(greeted);
        world.pull(&[Run::new(0, 52)]);
        let mut pull = Vec::new();
        assert!(world.client.poll_transmit(world.now, &mut pull));
        world.shards[pulled].handle_datagram(world.now, CLIENT.into(), &pull, &mut world.outbox);
        let reset = world.outbox.pop().expect("an answer at once");
        assert_eq!(Kind::of(reset.tail()), Some(Kind::Reset), "greeted at {greeted}");
        assert_eq!((reset.bytes(), world.outbox.is_empty()), (reset.tail().len(), true));
    }
}

#[test]
fn pulls_wait_for_their_turn_while_the_outbox_is_full() {
    let mut world = World::new(WARM_QUEUE_MAX);
    world.make_hot();
    let room = world.outbox.room();
    for _ in 0..room + 3 {
        world.pull(&[Run::new(0, 1)]);
    }
    world.deliver(0);
    assert_eq!(world.receive().len(), room);
    world.deliver(0);
    assert_eq!(world.receive().len(), 3);
}

#[test]
fn a_pull_for_cold_extents_waits_for_all_of_them() {
    let mut world = World::new(WARM_QUEUE_MAX);
    world.pull(&[Run::new(250, 12)]);
    world.deliver(0);
    assert!(world.outbox.is_empty());
    for _ in 0..2 {
        assert!(world.outbox.is_empty());
        let Ok(Job::Warm { pack, extent, shard: 0 }) = world.jobs.try_recv() else {
            panic!("the shard asks for both extents");
        };
        pack.hot().insert(extent);
        world.mailboxes[0].on_warmed(Warmed { asset: ASSET, extent, failed: false });
        world.wake(0);
    }
    assert_eq!(world.receive(), [12 * PACKET_BYTES]);
}

#[test]
fn what_comes_next_is_read_in_once_before_it_is_asked_for() {
    let mut world = World::new(WARM_QUEUE_MAX);
    world.pack.hot().insert(0);
    for first in [70, 76, 77, 100] {
        world.pull(&[Run::new(first, 52)]);
        world.deliver(0);
        assert_eq!(world.receive(), [52 * PACKET_BYTES], "nothing waits for what is read ahead");
        let asked = world.jobs.try_iter().map(|job| match job {
            Job::Warm { extent, shard: 0, .. } => Some(extent),
            _ => None,
        });
        let asked: Vec<_> = asked.collect();
        assert_eq!(asked, if first == 77 { vec![Some(1), Some(2)] } else { Vec::new() }, "chunks from {first} on");
    }
    for extent in [1, 2] {
        world.pack.hot().insert(extent);
        world.mailboxes[0].on_warmed(Warmed { asset: ASSET, extent, failed: false });
    }
    world.wake(0);
    world.pull(&[Run::new(200, 52)]);
    world.deliver(0);
    assert!(world.jobs.is_empty(), "they are hot");
}

#[test]
fn an_extent_that_proves_rotten_while_a_pull_waits_is_answered_as_not_held() {
    let mut world = World::new(WARM_QUEUE_MAX);
    world.pull(&[Run::new(256, 4)]);
    world.deliver(0);
    world.pack.forsake(1);
    world.mailboxes[0].on_warmed(Warmed { asset: ASSET, extent: 1, failed: false });
    world.wake(0);
    assert_eq!(world.receive(), [0]);
    let lost = Event::Lost { stream: StreamId::ORIGINAL, runs: vec![Run::new(256, 4)], why: Loss::NotHeld };
    assert!(std::iter::from_fn(|| world.client.poll_event()).any(|event| event == lost));
}

#[test]
fn a_pull_for_a_pack_that_cannot_be_opened_is_answered_busy() {
    let mut world = World::new(WARM_QUEUE_MAX);
    world.pull(&[Run::new(0, 1)]);
    world.deliver(0);
    assert!(world.outbox.is_empty());
    world.mailboxes[0].on_warmed(Warmed { asset: ASSET, extent: 0, failed: true });
    world.wake(0);
    assert_eq!(world.receive(), [0]);
    assert_eq!(world.client.capacity_chunks(world.now), 0, "the client holds back");
    assert!(world.jobs.try_iter().count() == 1, "the extent is not asked for over and over");
}

#[test]
fn a_pull_that_the_helpers_have_no_room_for_is_answered_busy() {
    let mut world = World::new(1);
    world.pull(&[Run::new(0, 1)]);
    world.deliver(0);
    assert!(world.outbox.is_empty(), "the first waits");
    world.pull(&[Run::new(256, 1)]);
    world.deliver(0);
    assert_eq!(world.receive(), [0]);
    assert_eq!(world.client.capacity_chunks(world.now), 0, "the client holds back");
    let just_before = world.now + BUSY_RETRY - Duration::from_millis(1);
    assert_eq!(world.client.capacity_chunks(just_before), 0);
    assert!(world.client.capacity_chunks(world.now + BUSY_RETRY) > 0);
}

#[test]
fn a_pull_that_waited_too_long_is_answered_busy() {
    let mut world = World::new(WARM_QUEUE_MAX);
    world.pull(&[Run::new(0, 1)]);
    world.deliver(0);
    let overdue = world.now + PARKED_FOR_MAX;
    assert!(world.shards[0].poll_timeout().is_some_and(|due| due <= overdue));
    world.shards[0].handle_timeout(overdue - Duration::from_millis(1), &mut world.outbox);
    assert!(world.outbox.is_empty());
    world.shards[0].handle_timeout(overdue, &mut world.outbox);
    assert_eq!(world.receive(), [0]);
    assert!(world.shards[0].poll_timeout().is_none_or(|due| due > overdue));
}

#[test]
fn a_pull_costs_a_shard_no_allocation() {
    let mut world = World::new(WARM_QUEUE_MAX);
    world.make_hot();
    let mut allocations = 0;
    for round in 0..1_000 {
        world.now += Duration::from_micros(50);
        world.pull(&[Run::new(round % 500, 20), Run::new(round % 500 + 100, 32)]);
        let mut packet = Vec::new();
        assert!(world.client.poll_transmit(world.now, &mut packet));
        let (shard, outbox, now) = (&mut world.shards[0], &mut world.outbox, world.now);
        let mut sent = None;
        let measured = allocation_counter::measure(|| {
            if shard.poll_timeout().is_some_and(|due| due <= now) {
                shard.handle_timeout(now, outbox);
            }
            shard.handle_datagram(now, CLIENT.into(), &packet, outbox);
            shard.fill(now, outbox);
            sent = outbox.pop();
        });
        let train = sent.expect("each PULL is answered at once");
        assert_eq!(train.bytes() - train.tail().len(), 52 * PACKET_BYTES);
        world.client.handle_datagram(now, train.tail());
        // What grows with the first PULLs stays as large.
        allocations += if round < 100 { 0 } else { measured.count_total };
    }
    assert_eq!(allocations, 0, "in 900 PULLs");
}
