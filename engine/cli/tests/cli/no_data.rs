//! No DATA leaves a server for whom it must not reach: asserted on the socket of a client that says what it likes.
//! Every refusal has its control: the same PULL, said rightly, is answered with DATA.

use std::cell::RefCell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use braidcast_client::control::{Host, VideoRef, Window};
use braidcast_media::AssetId;
use braidcast_media::ticket::{SessionSecret, Ticket, TicketKey};
use nix::sys::socket::{setsockopt, sockopt};

use crate::support::wire::{End, HELLO_BYTES, Hello, PULL_BYTES, Pull, Session};
use crate::support::{Dev, DevBuilder};

/// How long silence must last to count as no answer: on loopback one takes well under a millisecond. Where no answer is the
/// right one, a machine that is slower can only hide a fault. An answer that must come has [`PATIENCE`].
const SILENCE: Duration = Duration::from_millis(700);
/// How long an answer that must come may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Size of a DATA packet.
const DATA_BYTES: usize = 1_232;
/// As many chunks as a PULL may ask for.
const TRAIN_CHUNKS: u16 = 52;
const TRAIN: usize = TRAIN_CHUNKS as usize;

const FILM: &str = "film";
const OTHER_FILM: &str = "another film";

const OK: u8 = 0;
const EXPIRED: u8 = 3;
const UNKNOWN_ASSET: u8 = 4;
const OVER_LIMIT: u8 = 5;
const MALFORMED: u8 = 6;

#[test]
fn without_a_ticket_nothing_comes() {
    let dev = shared_dev();
    let access = Access::to_first(&dev, FILM);
    let client = Client::of(&access);
    //= PROTOCOL H1: A server MUST answer a HELLO only if its ticket opens under the server's current or previous ticket key.
    for ticket in [&[][..], &[0; 101], &[0xff; 512]] {
        client.send(&Hello::new(ticket, &access.secret).packet);
    }
    assert_eq!(client.listen(), Heard::default(), "no ticket, no answer");

    let session = Client::of(&access).greet(&access);
    //= PROTOCOL U3: A server MUST send DATA only for a PULL that opens under an established session and arrives from that session's address pair.
    let mut made_up = session.pull(1, &access.train());
    made_up[4..12].fill(0x77);
    client.send(&made_up);
    let heard = client.listen();
    assert_eq!((heard.data, heard.ends.len()), (0, 0));
    assert!(heard.bytes <= PULL_BYTES, "a RESET at most");
    assert_served(&access);
}

#[test]
fn forged_and_foreign_tickets_and_wrong_proofs_get_no_answer() {
    let dev = shared_dev();
    let access = Access::to_first(&dev, FILM);
    let client = Client::of(&access);
    //= PROTOCOL H1: A server MUST answer a HELLO only if its ticket opens under the server's current or previous ticket key.
    for place in [0, 3, 4, 15, 16, 40, 55, 60, access.ticket.len() - 16, access.ticket.len() - 1] {
        let mut forged = access.ticket.clone();
        forged[place] ^= 1;
        client.send(&Hello::new(&forged, &access.secret).packet);
    }
    client.send(&Hello::new(&access.ticket[..access.ticket.len() - 1], &access.secret).packet);
    client.send(&Hello::new(&access.foreign_ticket(), &access.secret).packet);
    //= PROTOCOL H2: A server MUST answer a HELLO only if the proof shows that the sender holds the ticket's session secret.
    client.send(&Hello::new(&access.ticket, &[7; 32]).packet);
    let mut altered = Hello::new(&access.ticket, &access.secret).packet;
    altered[10] ^= 1;
    client.send(&altered);
    assert_eq!(client.listen(), Heard::default());
    assert_served(&access);
}

#[test]
fn a_ticket_for_another_server_gets_no_answer() {
    let dev = shared_dev();
    let [first, second] = Access::to_all(&dev, FILM).try_into().unwrap_or_else(|_| panic!("two servers hold it"));
    for (ticket_of, server) in [(&first, &second), (&second, &first)] {
        let client = Client::of(server);
        //= PROTOCOL H1: A server MUST answer a HELLO only if its ticket opens under the server's current or previous ticket key.
        client.send(&Hello::new(&ticket_of.ticket, &ticket_of.secret).packet);
        assert_eq!(client.listen(), Heard::default());
        assert_served(server);
    }
}

#[test]
fn an_expired_ticket_opens_no_session_and_ends_the_data_of_an_open_one() {
    // Time enough to greet and pull on a machine that is busy.
    const LIFETIME: Duration = Duration::from_secs(10);
    let dev = films().flag("--ticket-lifetime", "10s").flag("--clock-skew", "0s").start();
    let since = Instant::now();
    let access = Access::to_first(&dev, FILM);
    let client = Client::of(&access);
    let session = client.greet(&access);
    let (heard, end) = client.ask(&session, 1, &access.train());
    assert_eq!((heard.data, end.status), (TRAIN, OK), "it is good while it lasts");

    // Expiry is counted in whole seconds: one more passes before it is surely over.
    std::thread::sleep((LIFETIME + Duration::from_secs(1)).saturating_sub(since.elapsed()));
    //= PROTOCOL U7: A server MUST answer a PULL whose ticket has expired, skew included, with status EXPIRED and no DATA.
    let (heard, end) = client.ask(&session, 2, &access.train());
    assert_eq!((heard.data, end.status, end.sent_chunks), (0, EXPIRED, 0));
    let late = Client::of(&access);
    //= PROTOCOL H3: A server MUST refuse a ticket whose expiry is more than the tolerated clock skew in the past.
    late.send(&Hello::new(&access.ticket, &access.secret).packet);
    assert_eq!(late.listen(), Heard::default());
    assert_served(&Access::to_first(&dev, FILM));
}

#[test]
fn a_replayed_pull_brings_one_train() {
    let dev = shared_dev();
    let access = Access::to_first(&dev, FILM);
    let client = Client::of(&access);
    let session = client.greet(&access);
    let pull = session.pull(1, &access.train());
    //= PROTOCOL U2: A server MUST NOT answer a sequence that it has seen, nor one older than the replay window.
    client.send(&pull);
    client.send(&pull);
    let (heard, _) = client.hear_end(&session);
    assert_eq!((heard.data, heard.ends.len()), (TRAIN, 1));
    assert_eq!(client.listen(), Heard::default(), "one train for two");
    client.send(&pull);
    assert_eq!(client.listen(), Heard::default(), "nor later");
    let (heard, end) = client.ask(&session, 2, &access.train());
    assert_eq!((heard.data, end.status), (TRAIN, OK));
}

#[test]
fn a_pull_older_than_the_replay_window_gets_no_answer_and_one_within_does() {
    const NEWEST: u32 = 1_100;
    const OLDER_THAN_WINDOW: u32 = NEWEST - 1_024;
    const WITHIN_WINDOW: u32 = OLDER_THAN_WINDOW + 1;
    let dev = shared_dev();
    let access = Access::to_first(&dev, FILM);
    let client = Client::of(&access);
    let session = client.greet(&access);
    let chunk = Pull { runs: vec![(0, 1)], ..access.train() };
    for sequence in (1..=NEWEST).filter(|sequence| ![OLDER_THAN_WINDOW, WITHIN_WINDOW].contains(sequence)) {
        let (heard, end) = client.ask(&session, sequence, &chunk);
        assert_eq!((heard.data, end.status), (1, OK));
    }
    //= PROTOCOL U2: A server MUST NOT answer a sequence that it has seen, nor one older than the replay window.
    client.send(&session.pull(OLDER_THAN_WINDOW, &chunk));
    assert_eq!(client.listen(), Heard::default());
    let (heard, end) = client.ask(&session, WITHIN_WINDOW, &chunk);
    assert_eq!((heard.data, end.status), (1, OK));
}

#[test]
fn an_altered_pull_gets_no_answer_and_does_not_use_its_sequence_up() {
    let dev = shared_dev();
    let access = Access::to_first(&dev, FILM);
    let client = Client::of(&access);
    let session = client.greet(&access);
    let pull = session.pull(1, &access.train());
    //= PROTOCOL P3: A packet that fails to open MUST change no state beyond a counter.
    //= PROTOCOL U1: A server MUST check the replay window after a PULL's tag verifies, and move it only then.
    for place in [12, 16, 40, PULL_BYTES - 1] {
        let mut altered = pull;
        altered[place] ^= 1;
        client.send(&altered);
    }
    //= PROTOCOL P1: A receiver MUST drop a packet whose size is not one that its kind allows, and change no state.
    client.send(&pull[..PULL_BYTES - 1]);
    client.send(&[&pull[..], &[0]].concat());
    //= PROTOCOL P4: A packet of a kind that the receiver does not accept MUST be dropped without an answer.
    for (kind, bytes) in [(0x12, 84), (0x14, DATA_BYTES), (0x15, 88), (0x16, 16), (0x17, PULL_BYTES)] {
        let mut packet = vec![0; bytes];
        packet[0] = kind;
        packet[4..12].copy_from_slice(&pull[4..12]);
        client.send(&packet);
    }
    assert_eq!(client.listen(), Heard::default());
    client.send(&pull);
    let (heard, _) = client.hear_end(&session);
    assert_eq!((heard.data, heard.ends.len()), (TRAIN, 1));
    assert_eq!(client.listen(), Heard::default());
}

#[test]
fn a_session_is_of_no_use_from_another_address() {
    let dev = shared_dev();
    let access = Access::to_first(&dev, FILM);
    let client = Client::of(&access);
    let session = client.greet(&access);
    let (heard, _) = client.ask(&session, 1, &access.train());
    assert_eq!(heard.data, TRAIN);

    let moved = Client::of(&access);
    //= PROTOCOL U3: A server MUST send DATA only for a PULL that opens under an established session and arrives from that session's address pair.
    moved.send(&session.pull(2, &access.train()));
    let heard = moved.listen();
    assert_eq!(heard, Heard { bytes: heard.bytes, resets: heard.resets, ..Heard::default() });
    assert!(heard.resets <= 1 && heard.bytes <= PULL_BYTES, "a RESET at most: {heard:?}");
    assert_eq!(client.listen(), Heard::default(), "nor does it come to the old address");
    let (heard, end) = client.ask(&session, 2, &access.train());
    assert_eq!((heard.data, end.status), (TRAIN, OK), "the sequence was not used up from afar");
}

#[test]
fn pulls_for_no_session_get_a_thousand_resets_a_second_each_smaller_than_a_pull() {
    const STRAYS: u32 = 8_000;
    const PER_SECOND: usize = 1_000;
    let dev = shared_dev();
    // The other server: what it has left to say in this second is of no account to other tests.
    let access = Access::to_all(&dev, FILM).pop().expect("a server that holds it");
    let session = Client::of(&access).greet(&access);
    let stray = Client::of(&access);
    let began = Instant::now();
    for sequence in 1..=STRAYS {
        stray.send(&session.pull(sequence, &access.train()));
    }
    let mut heard = stray.hear(PATIENCE, |heard| heard.resets > 0);
    heard.add(stray.listen());
    // The seconds of the server's count that all this time may have touched.
    let seconds = began.elapsed().as_secs() as usize + 2;
    //= PROTOCOL R1: A server MUST limit the rate of RESETs, and never send one larger than the packet that caused it.
    assert!((1..=seconds * PER_SECOND).contains(&heard.resets), "{} in {seconds} s", heard.resets);
    assert!(heard.bytes / heard.resets <= PULL_BYTES);
    assert_eq!(heard, Heard { bytes: heard.bytes, resets: heard.resets, ..Heard::default() });
}

#[test]
fn an_address_that_never_saw_a_welcome_attracts_less_than_was_sent_in_its_name() {
    let dev = shared_dev();
    let access = Access::to_first(&dev, FILM);
    let client = Client::of(&access);
    let hello = Hello::new(&access.ticket, &access.secret);
    let welcome = client.greet_with(&hello);
    let session = hello.open(&welcome).expect("an answer to this HELLO");

    // Whoever copies a HELLO and its PULLs and sends them with the address of another.
    let victim = Client::of(&access);
    victim.send(&hello.packet);
    //= PROTOCOL W2: A WELCOME MUST be smaller than a HELLO.
    let mut heard = victim.hear(PATIENCE, |heard| !heard.welcomes.is_empty());
    heard.add(victim.listen());
    assert_eq!((heard.data, heard.ends.len(), heard.welcomes.len()), (0, 0, 1));
    assert!(heard.bytes < HELLO_BYTES);
    assert_ne!(heard.welcomes[0][12..20], welcome[12..20], "a session of its own");
    //= PROTOCOL U3: A server MUST send DATA only for a PULL that opens under an established session and arrives from that session's address pair.
    for sequence in 1..=20 {
        victim.send(&session.pull(sequence, &access.train()));
    }
    let heard = victim.listen();
    assert_eq!((heard.data, heard.ends.len()), (0, 0));
    assert!(heard.bytes <= 20 * PULL_BYTES);

    //= PROTOCOL H4: A server MUST answer the same HELLO from the same address with the same WELCOME.
    assert_eq!(client.greet_with(&hello), welcome);
    let (heard, end) = client.ask(&session, 1, &access.train());
    assert_eq!((heard.data, end.status), (TRAIN, OK));
}

#[test]
fn a_client_that_stops_echoing_ends_gets_sixteen_mebibytes_and_no_more() {
    let dev = shared_dev();
    let access = Access::to_first(&dev, FILM);
    let bytes_max = 16 * 1024 * 1024;
    let (client, session, sequence, newest) = exhaust(&access, &access.train(), bytes_max);
    let echoing = Pull { proof: newest, ..access.train() };
    let (heard, end) = client.ask(&session, sequence, &echoing);
    assert_eq!((heard.data, end.status), (TRAIN, OK), "the newest proof opens the tap again");
}

//= PROTOCOL U9: A server MUST space the trains of a session to the rate that each PULL names, and make none longer than the greater of 2 chunks and 1 ms at that rate.
#[test]
fn a_client_that_names_a_rate_is_answered_over_time() {
    let dev = shared_dev();
    let access = Access::to_first(&dev, FILM);
    let client = Client::of(&access);
    let session = client.greet(&access);
    let begun = Instant::now();
    let (heard, end) = client.ask(&session, 1, &Pull { rate: 256, ..access.train() });
    assert_eq!((heard.data, end.status), (TRAIN, OK));
    // 52 chunks at 256 KiB/s, less the last train: 50 x 1,232 / 262,144 s.
    assert!(begun.elapsed() >= Duration::from_millis(230), "{:?}", begun.elapsed());
}

/// Pulls without ever returning a proof, until twenty PULLs in a row were refused.
fn exhaust(access: &Access, pull: &Pull, bytes_max: usize) -> (Client, Session, u32, [u8; 16]) {
    const REFUSALS: u32 = 20;
    let client = Client::of(access);
    let session = client.greet(access);
    let (mut bytes, mut refused, mut sequence, mut newest) = (0, 0, 1, [0; 16]);
    while refused < REFUSALS {
        let (heard, end) = client.ask(&session, sequence, pull);
        sequence += 1;
        newest = end.proof;
        bytes += heard.data * DATA_BYTES;
        //= PROTOCOL U4: A server MUST NOT send more than the lesser of 16 MiB and one second at the session's rate beyond the newest proof that the client returned.
        assert!(bytes <= bytes_max, "{bytes}");
        if end.status == OK {
            assert_eq!((heard.data, refused), (TRAIN, 0), "nothing once it was over the limit");
            continue;
        }
        //= PROTOCOL U5: A server MUST answer a PULL that would exceed that bound with an END of status OVER_LIMIT and no DATA.
        assert_eq!((heard.data, end.status), (0, OVER_LIMIT));
        //= PROTOCOL E1: An END MUST NOT exceed the size of its PULL unless it is covered by the bound of U4.
        assert!(heard.bytes <= PULL_BYTES);
        refused += 1;
    }
    assert!(bytes + TRAIN * DATA_BYTES > bytes_max, "all that the bound allows: {bytes}");
    (client, session, sequence, newest)
}

#[test]
fn a_ticket_for_one_film_is_of_no_use_for_another() {
    let dev = shared_dev();
    let (access, other) = (Access::to_first(&dev, FILM), Access::to_first(&dev, OTHER_FILM));
    let client = Client::of(&access);
    let session = client.greet(&access);
    let nowhere = Pull { asset: !access.asset, ..access.train() };
    //= PROTOCOL U8: A server MUST answer a PULL for an asset outside of the ticket's scope as it would one for an asset that does not exist.
    let (heard, end) = client.ask(&session, 1, &other.train());
    let (heard_nowhere, end_nowhere) = client.ask(&session, 2, &nowhere);
    assert_eq!((heard.data, end.status, end.sent_chunks), (0, UNKNOWN_ASSET, 0));
    assert_eq!((heard.bytes, End { sequence: 2, ..end }), (heard_nowhere.bytes, end_nowhere));
    assert_served(&access);
    assert_served(&other);
}

#[test]
fn a_pull_beyond_the_limits_is_malformed() {
    let dev = shared_dev();
    let access = Access::to_first(&dev, FILM);
    let client = Client::of(&access);
    let session = client.greet(&access);
    let beyond = [vec![], vec![(0, 0)], vec![(0, 1), (5, 0)], vec![(0, 53)], vec![(0, 52), (60, 1)], vec![(0, 1); 9]];
    //= PROTOCOL U6: A PULL that names more runs or chunks than the limits, no run, or an empty run MUST be answered with status MALFORMED and no DATA.
    for (sequence, runs) in (1..).zip(beyond) {
        let (heard, end) = client.ask(&session, sequence, &Pull { runs, ..access.train() });
        assert_eq!((heard.data, end.status), (0, MALFORMED));
    }
    let runs: Vec<(u32, u16)> = (0..8).map(|run| (run * 10, if run < 4 { 6 } else { 7 })).collect();
    let (heard, end) = client.ask(&session, 10, &Pull { runs, ..access.train() });
    assert_eq!((heard.data, end.status), (TRAIN, OK), "eight runs of together 52 chunks are lawful");
}

/// Two servers that hold two films.
fn films() -> DevBuilder {
    Dev::of([(FILM, 500_000), (OTHER_FILM, 500_000)]).servers(2)
}

/// One dev for all tests that run at the same time: they do not disturb each other, since each has its own tickets.
fn shared_dev() -> Arc<Dev> {
    static SHARED: Mutex<Weak<Dev>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let dev = Arc::new(films().start());
        *shared = Arc::downgrade(&dev);
        dev
    })
}

/// Asserts that whoever comes with this ticket as it should be is served.
fn assert_served(access: &Access) {
    let client = Client::of(access);
    let session = client.greet(access);
    let (heard, end) = client.ask(&session, 1, &access.train());
    assert_eq!((heard.data, end.status, end.sent_chunks), (TRAIN, OK, TRAIN_CHUNKS));
}

/// A socket, and the server that it talks to.
struct Client {
    socket: UdpSocket,
    /// The WELCOME that came last. A HELLO that was repeated has the same one, which may come much later.
    welcome: RefCell<Option<Vec<u8>>>,
}

/// What came.
#[derive(Default, Debug, PartialEq, Eq)]
struct Heard {
    /// Bytes of all datagrams.
    bytes: usize,
    /// Packets that say that they are DATA, whatever is in them.
    data: usize,
    ends: Vec<Vec<u8>>,
    welcomes: Vec<Vec<u8>>,
    resets: usize,
    others: usize,
}

impl Heard {
    /// Adds what came later.
    fn add(&mut self, later: Self) {
        self.bytes += later.bytes;
        self.data += later.data;
        self.ends.extend(later.ends);
        self.welcomes.extend(later.welcomes);
        self.resets += later.resets;
        self.others += later.others;
    }
}

impl Client {
    /// At an address of its own; receives from the server of `access` alone.
    fn of(access: &Access) -> Self {
        const RECEIVE_BYTES: usize = 4 * 1024 * 1024;
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port on loopback");
        socket.connect(access.server).expect("loopback has a route");
        // The kernel grants as much as it allows; a few trains fit in any case.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BYTES);
        Self { socket, welcome: RefCell::default() }
    }

    fn send(&self, packet: &[u8]) {
        self.socket.send(packet).expect("loopback takes it");
    }

    /// Everything that comes within the time in which a server would have answered.
    fn listen(&self) -> Heard {
        self.hear(SILENCE, |_| false)
    }

    /// Greets as the protocol says, repeating HELLO until its WELCOME comes, and gives that.
    fn greet_with(&self, hello: &Hello) -> Vec<u8> {
        self.welcome.take();
        for _ in 0..PATIENCE.as_millis() / SILENCE.as_millis() {
            self.send(&hello.packet);
            let heard = self.hear(SILENCE, |heard| !heard.welcomes.is_empty());
            if let Some(welcome) = heard.welcomes.into_iter().next() {
                self.welcome.replace(Some(welcome.clone()));
                return welcome;
            }
        }
        panic!("the server answers a lawful HELLO");
    }

    fn greet(&self, access: &Access) -> Session {
        let hello = Hello::new(&access.ticket, &access.secret);
        hello.open(&self.greet_with(&hello)).expect("an answer to this HELLO")
    }

    /// Sends one PULL and gives all that came up to its END.
    fn ask(&self, session: &Session, sequence: u32, pull: &Pull) -> (Heard, End) {
        self.send(&session.pull(sequence, pull));
        let (heard, end) = self.hear_end(session);
        assert_eq!((end.sequence, usize::from(end.sent_chunks)), (sequence, heard.data));
        (heard, end)
    }

    /// All that comes up to an END, which must come.
    fn hear_end(&self, session: &Session) -> (Heard, End) {
        let heard = self.hear(PATIENCE, |heard| !heard.ends.is_empty());
        let end = heard.ends.first().and_then(|end| session.open_end(end)).expect("an END that opens");
        (heard, end)
    }

    fn hear(&self, patience: Duration, is_enough: impl Fn(&Heard) -> bool) -> Heard {
        let until = Instant::now() + patience;
        let (mut heard, mut room) = (Heard::default(), [0; 2_048]);
        while !is_enough(&heard) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            self.socket.set_read_timeout(Some(left)).expect("a time-out that is not zero");
            let Ok(bytes) = self.socket.recv(&mut room) else { continue };
            if self.welcome.borrow().as_deref() == Some(&room[..bytes]) {
                continue;
            }
            heard.bytes += bytes;
            match room[0] {
                0x14 => heard.data += 1,
                0x15 => heard.ends.push(room[..bytes].to_vec()),
                0x12 => heard.welcomes.push(room[..bytes].to_vec()),
                0x16 => heard.resets += 1,
                _ => heard.others += 1,
            }
        }
        heard
    }
}

/// What a viewer has of one server for one film.
struct Access {
    server: SocketAddr,
    asset: u64,
    ticket: Vec<u8>,
    secret: [u8; 32],
}

impl Access {
    /// Asks the master for fresh tickets, one for each server, in the order of their addresses.
    fn to_all(dev: &Dev, film: &str) -> Vec<Self> {
        let list = dev.client().ask(async |control| control.distribution(VideoRef::Name(film), Window::ALL).await);
        let list = list.expect("a list of servers");
        let access = |host: Host| Self {
            server: host.address,
            asset: list.asset.0,
            ticket: host.ticket,
            secret: *host.session_secret.expose(),
        };
        let mut all: Vec<Self> = list.hosts.into_iter().map(access).collect();
        all.sort_by_key(|access| access.server);
        all
    }

    fn to_first(dev: &Dev, film: &str) -> Self {
        Self::to_all(dev, film).into_iter().next().expect("a server that holds it")
    }

    /// A PULL for as much as one may ask for.
    fn train(&self) -> Pull {
        Pull { asset: self.asset, runs: vec![(0, TRAIN_CHUNKS)], ..Pull::default() }
    }

    /// A ticket that says the same, under the same key number, sealed under a key that the server has not.
    fn foreign_ticket(&self) -> Vec<u8> {
        let mut key = [0; TicketKey::BYTES];
        aws_lc_rs::rand::fill(&mut key).expect("the system has random numbers");
        let id = u32::from_be_bytes(*self.ticket.first_chunk().expect("tickets begin with the key's number"));
        let ticket = Ticket {
            secret: SessionSecret::new(self.secret),
            user: 1,
            expires_at: u64::MAX / 2,
            rate_kib_s: 0,
            assets: vec![AssetId(self.asset)],
        };
        TicketKey::new(id, &key).seal(&ticket, [9; 12])
    }
}
