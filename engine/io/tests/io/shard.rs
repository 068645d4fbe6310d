//! A service driven by each back end over loopback.

use std::net::UdpSocket;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[path = "../../../cli/tests/cli/support/skip.rs"]
mod skip;

use self::skip::skip;
use crate::pattern::{Ask, Client, Idle, PATIENCE, SEGMENT_BYTES, Shard, patterned_file, sendings, sorted};
use braidcast_io::limits::{REGIONS_PER_TRAIN_MAX, TRAINS_MAX};
use braidcast_io::{Backend, Capabilities, IoMode, MappedFile, Sending, Train, ZeroCopy, choose};

/// The longest answer to one request.
const CHUNKS_MAX: u16 = 52;
const FILE_CHUNKS: u32 = 600;

fn mapped() -> MappedFile {
    MappedFile::new(patterned_file(FILE_CHUNKS)).expect("mapped")
}

/// `chunks` in `regions` regions that do not touch each other.
fn spread(chunks: u16, regions: u16) -> Ask {
    let share = |n: u16| chunks / regions + u16::from(n < chunks % regions);
    let regions = (0..regions).map(|n| (u32::from(n) * 70 + u32::from(chunks), share(n))).collect();
    Ask { regions, tail: vec![0xEE; 100] }
}

#[test]
fn trains_arrive_as_the_segments_that_the_kernel_cut() {
    let file = mapped();
    for sending in sendings() {
        let shard = Shard::start(sending, &file);
        let mut client = Client::connect(shard.addr);
        assert!(client.socket.has_coalescing(), "this test is about coalesced datagrams");
        for chunks in 1..=CHUNKS_MAX {
            let regions = 1 + (chunks - 1) % REGIONS_PER_TRAIN_MAX as u16;
            let ask = spread(chunks, regions.min(chunks));
            //= PROTOCOL P2: A receiver MUST cut coalesced datagrams by the segment size that its kernel reports, never by what a packet claims.
            assert_eq!(client.ask(&ask), sorted(ask.expected()), "{sending}, {chunks} chunks");
        }
        for regions in 1..=REGIONS_PER_TRAIN_MAX as u16 {
            let ask = spread(CHUNKS_MAX, regions);
            assert_eq!(client.ask(&ask), sorted(ask.expected()), "{sending}, {regions} regions");
        }
    }
}

#[test]
fn a_receiver_without_coalescing_gets_the_same_datagrams() {
    let file = mapped();
    for sending in sendings() {
        let shard = Shard::start(sending, &file);
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(shard.addr).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        for chunks in [1, 8, 51, CHUNKS_MAX] {
            let ask = spread(chunks, chunks.min(8));
            client.send(&ask.encode()).unwrap();
            let mut received = Vec::new();
            for _ in 0..ask.expected().len() {
                let mut datagram = vec![0; 2 * SEGMENT_BYTES];
                let bytes = client.recv(&mut datagram).expect("a datagram of the train");
                datagram.truncate(bytes);
                received.push(datagram);
            }
            assert_eq!(sorted(received), sorted(ask.expected()), "{sending}, {chunks} chunks");
        }
    }
}

#[test]
fn ipv6_carries_trains_too() {
    let file = mapped();
    for sending in sendings() {
        let idle = match Idle::bind(&file, "[::1]:0", SEGMENT_BYTES as u16) {
            Ok(idle) => idle,
            Err(error) => {
                println!("skipped: no IPv6 on loopback here: {error}");
                return;
            }
        };
        let shard = idle.start(sending);
        let ask = spread(CHUNKS_MAX, 5);
        assert_eq!(Client::connect(shard.addr).ask(&ask), sorted(ask.expected()), "{sending}");
    }
}

#[test]
fn a_tail_alone_is_one_datagram_and_an_empty_train_none() {
    let file = mapped();
    for sending in sendings() {
        let shard = Shard::start(sending, &file);
        let mut client = Client::connect(shard.addr);
        client.socket.send(&Ask::default().encode()).unwrap();
        let ask = Ask { regions: vec![], tail: vec![0x31; 136] };
        assert_eq!(client.ask(&ask), ask.expected(), "{sending}");
        assert_eq!(shard.seen.lock().unwrap().datagrams, 2);
    }
}

#[test]
fn segments_cut_one_by_one_where_the_kernel_refuses_the_train() {
    // 161 segments: more than any kernel cuts, so the send fails with EINVAL. They cross the borders of the regions.
    const SHORT: usize = 400;
    let file = mapped();
    for sending in sendings() {
        let shard = Idle::bind(&file, "127.0.0.1:0", SHORT as u16).expect("a port").start(sending);
        let mut client = Client::connect(shard.addr);
        let ask = Ask { regions: vec![(1, 20), (200, 20), (500, 12)], tail: vec![0xEE; 40] };
        let expected: Vec<_> = ask.expected().concat().chunks(SHORT).map(<[u8]>::to_vec).collect();
        for _ in 0..3 {
            client.socket.send(&ask.encode()).unwrap();
            assert_eq!(client.receive(expected.len()), sorted(expected.clone()), "{sending}");
        }
        assert_eq!(shard.seen.lock().unwrap().send_errors, []);
    }
}

#[test]
fn a_file_cut_short_is_a_send_error_and_the_loop_goes_on() {
    const EFAULT: i32 = 14;
    for sending in sendings() {
        let file = mapped();
        let shard = Shard::start(sending, &file);
        let mut client = Client::connect(shard.addr);
        file.file().set_len(100 * SEGMENT_BYTES as u64).expect("cut short");

        client.socket.send(&spread(CHUNKS_MAX, 8).encode()).unwrap();
        let held = Ask { regions: vec![(10, 52)], tail: b"end".to_vec() };
        assert_eq!(client.ask(&held), sorted(held.expected()), "{sending}");

        // The answer may have gone out in the same pass as the failed train, whose end is looked at afterwards.
        let patience = Instant::now() + PATIENCE;
        while shard.seen.lock().unwrap().send_errors.is_empty() {
            assert!(Instant::now() < patience, "{sending}: the failed send is not reported");
        }
        let errors = shard.seen.lock().unwrap().send_errors.clone();
        assert_eq!(errors, [(client.socket.local_addr().unwrap(), Some(EFAULT))], "{sending}");
    }
}

/// `sendfile` that finds less than it was to send leaves what it has sent waiting on the socket, and with that its
/// destination: the next train would go there, too.
#[test]
fn a_long_region_of_a_file_cut_short_takes_no_other_clients_train_along() {
    for sending in sendings() {
        for first in [90, 200] {
            let file = mapped();
            let shard = Shard::start(sending, &file);
            let [mut unlucky, mut other] = [Client::connect(shard.addr), Client::connect(shard.addr)];
            file.file().set_len(100 * SEGMENT_BYTES as u64).expect("cut short");
            let cut = Ask { regions: vec![(first, CHUNKS_MAX)], tail: b"cut".to_vec() };
            let held = Ask { regions: vec![(10, CHUNKS_MAX)], tail: b"end".to_vec() };
            unlucky.socket.send(&cut.encode()).unwrap();
            assert_eq!(other.ask(&held), sorted(held.expected()), "{sending}, from {first}");
            // All that comes before the answer to its next question are whole chunks from before the cut.
            let short = Ask { regions: vec![(1, 1)], tail: b"last".to_vec() };
            unlucky.socket.send(&short.encode()).unwrap();
            let before_the_cut = (first..100).flat_map(|n| Ask { regions: vec![(n, 1)], tail: Vec::new() }.expected());
            let rightful: Vec<_> = before_the_cut.chain(short.expected()).collect();
            let mut came = Vec::new();
            while !came.iter().any(|datagram| datagram == b"last") {
                came.extend(unlucky.receive(1));
            }
            assert!(came.iter().all(|datagram| rightful.contains(datagram)), "{sending}, from {first}");
        }
    }
}

#[test]
fn a_client_that_went_away_does_not_end_the_loop() {
    let file = mapped();
    for sending in sendings() {
        let shard = Shard::start(sending, &file);
        for _ in 0..20 {
            let gone = Client::connect(shard.addr);
            gone.socket.send(&spread(CHUNKS_MAX, 1).encode()).unwrap();
        }
        let ask = spread(CHUNKS_MAX, 1);
        assert_eq!(Client::connect(shard.addr).ask(&ask), sorted(ask.expected()), "{sending}");
    }
}

#[test]
fn requests_beyond_the_bound_wait_in_the_socket() {
    const ASKS: usize = 200;
    let file = mapped();
    for sending in sendings() {
        let idle = Idle::bind(&file, "127.0.0.1:0", SEGMENT_BYTES as u16).expect("a port");
        let mut client = Client::connect(idle.socket.local_addr());
        let ask = spread(4, 2);
        for _ in 0..ASKS {
            client.socket.send(&ask.encode()).unwrap();
        }
        let shard = idle.start(sending);
        let answers = client.receive(ASKS * ask.expected().len());
        let expected = sorted(std::iter::repeat_n(ask.expected(), ASKS).flatten().collect());
        assert!(answers == expected, "{sending}: other datagrams came than those asked for");
        // The other half is for what a service has let wait.
        assert_eq!(shard.seen.lock().unwrap().most_trains, TRAINS_MAX / 2, "{sending}");
    }
}

#[test]
fn every_train_sent_without_a_copy_is_notified_and_gives_its_memory_free() {
    const ASKS: usize = 500;
    let file = mapped();
    let Some(sending) = sendings().into_iter().find(|sending| sending.zero_copy == ZeroCopy::Notified) else {
        return skip("no io_uring here, which zero copy takes");
    };
    let mut shard = Shard::start(sending, &file);
    let mut client = Client::connect(shard.addr);
    for n in 0..ASKS {
        // In one piece and short, as a server that sends so grants them: never scattered over too many pages.
        let ask = spread(49 - n as u16 % 9, 1);
        assert!(client.ask(&ask) == sorted(ask.expected()), "ask {n}");
    }
    let patience = Instant::now() + PATIENCE;
    while shard.seen.lock().unwrap().notifications < ASKS {
        assert!(Instant::now() < patience, "{:?}", shard.seen.lock().unwrap());
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(shard.seen.lock().unwrap().region_trains, ASKS);
    assert_eq!(shard.seen.lock().unwrap().notifications, ASKS, "one for each");
    shard.waker.stop();
    shard.join();
}

#[test]
fn thousands_of_trains_go_through_with_many_in_flight() {
    const ASKS: usize = 3_000;
    let file = mapped();
    for sending in sendings() {
        let shard = Shard::start(sending, &file);
        let mut client = Client::connect(shard.addr);
        // No more than can wait until this thread runs: what the kernel drops here does not come again.
        let in_flight = client.trains_max().min(TRAINS_MAX);
        let mut received = 0;
        for window in 0..ASKS / in_flight {
            let asks: Vec<_> = (0..in_flight).map(|n| spread(CHUNKS_MAX - (window + n) as u16 % 9, 8)).collect();
            for ask in &asks {
                client.socket.send(&ask.encode()).unwrap();
            }
            let expected = sorted(asks.iter().flat_map(Ask::expected).collect());
            assert!(client.receive(expected.len()) == expected, "{sending}: wrong bytes in window {window}");
            received += expected.len();
        }
        assert!(received > ASKS / in_flight * in_flight * 40);
        assert!(shard.seen.lock().unwrap().most_trains <= TRAINS_MAX);
    }
}

#[test]
fn a_wake_from_another_thread_brings_its_work_and_is_repeated_while_there_is_more() {
    const TRAINS: usize = 5 * TRAINS_MAX + 3;
    let file = mapped();
    for sending in sendings() {
        let shard = Shard::start(sending, &file);
        let mut client = Client::connect(shard.addr);
        let to = client.socket.local_addr().unwrap();
        for n in 0..TRAINS {
            shard.queue.send(Train::datagram(to, &[n as u8]).unwrap()).unwrap();
        }
        shard.waker.wake();
        let expected: Vec<_> = (0..TRAINS).map(|n| vec![n as u8]).collect();
        assert_eq!(client.receive(TRAINS), expected, "{sending}");

        // And again from sleep, many times, so that a wake that gets lost shows.
        for n in 0..200 {
            shard.queue.send(Train::datagram(to, &[n]).unwrap()).unwrap();
            shard.waker.wake();
            assert_eq!(client.receive(1), [[n]], "{sending}");
        }
    }
}

#[test]
fn a_timer_fires_once_and_not_early() {
    let file = mapped();
    for sending in sendings() {
        let mut idle = Idle::bind(&file, "127.0.0.1:0", SEGMENT_BYTES as u16).expect("a port");
        let mut client = Client::connect(idle.socket.local_addr());
        let due = Instant::now() + Duration::from_millis(30);
        idle.service.timer = Some((due, client.socket.local_addr().unwrap()));
        let shard = idle.start(sending);
        assert_eq!(client.receive(1), [b"timer"], "{sending}");
        assert!(Instant::now() >= due);
        assert_eq!(shard.seen.lock().unwrap().timeouts, 1);
    }
}

#[test]
fn stop_ends_an_idle_shard() {
    let file = mapped();
    for sending in sendings() {
        let mut shard = Shard::start(sending, &file);
        // It is known to run once it has answered.
        let ask = spread(1, 1);
        Client::connect(shard.addr).ask(&ask);
        shard.waker.stop();
        shard.join();
    }
}

#[test]
fn what_was_pushed_before_the_stop_is_sent() {
    let file = mapped();
    for sending in sendings() {
        let mut idle = Idle::bind(&file, "127.0.0.1:0", SEGMENT_BYTES as u16).expect("a port");
        idle.service.stop_after = Some((3, idle.waker.clone()));
        let mut client = Client::connect(idle.socket.local_addr());
        let ask = spread(CHUNKS_MAX, 2);
        for _ in 0..3 {
            client.socket.send(&ask.encode()).unwrap();
        }
        let mut shard = idle.start(sending);
        shard.join();
        assert_eq!(client.receive(3 * ask.expected().len()).len(), 3 * 53, "{sending}");
    }
}

#[test]
fn a_map_is_released_once_its_trains_are_sent() {
    // A length that no other test maps, so that it is told from theirs.
    const CHUNKS: u32 = 733;
    let file = mapped();
    for sending in sendings() {
        let shard = Shard::start(sending, &file);
        let mut client = Client::connect(shard.addr);
        let other = MappedFile::new(patterned_file(CHUNKS)).expect("mapped");
        let mut train = Train::new(client.socket.local_addr().unwrap());
        train.push_region(other.region(0, SEGMENT_BYTES).unwrap()).unwrap();
        let length = other.len();
        drop(other);
        assert!(is_mapped(length), "the train pins it");
        shard.queue.send(train).unwrap();
        shard.waker.wake();
        client.receive(1);
        let patience = Instant::now() + PATIENCE;
        while is_mapped(length) {
            assert!(Instant::now() < patience, "{sending}: the map stays");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether this process has a map of just this length.
fn is_mapped(bytes: usize) -> bool {
    let span = bytes.next_multiple_of(4_096);
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    maps.lines().any(|line| {
        let (start, end) = line.split_whitespace().next().unwrap().split_once('-').unwrap();
        usize::from_str_radix(end, 16).unwrap() - usize::from_str_radix(start, 16).unwrap() == span
    })
}

#[test]
fn auto_takes_io_uring_where_the_kernel_permits_it() {
    let capabilities = Capabilities::probe().expect("probing");
    // What the kernel says of itself, not what the probe found.
    let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let is_filtered = !status.lines().any(|line| line.split_whitespace().eq(["Seccomp:", "0"]));
    if setting.trim() == "0" && !is_filtered {
        assert_eq!(capabilities.uring, Ok(()));
        assert_eq!(choose(IoMode::Auto, &capabilities), Ok(Backend::Uring));
        let file = mapped();
        let shard = Shard::start(Sending { backend: Backend::Uring, zero_copy: ZeroCopy::Off }, &file);
        let ask = spread(3, 1);
        assert_eq!(Client::connect(shard.addr).ask(&ask), sorted(ask.expected()));
    } else {
        println!("io_uring may be forbidden here: {:?}", capabilities.uring);
        assert_eq!(capabilities.uring.is_ok(), choose(IoMode::Auto, &capabilities) == Ok(Backend::Uring));
    }
    assert!(capabilities.segmentation && capabilities.coalescing, "Linux 5.0 and newer have both");
}

#[test]
fn a_waker_may_outlive_its_shard() {
    let file = mapped();
    let mut shard = Shard::start(Sending { backend: Backend::Portable, zero_copy: ZeroCopy::Off }, &file);
    let waker = shard.waker.clone();
    let seen = Arc::clone(&shard.seen);
    waker.stop();
    shard.join();
    waker.wake();
    waker.stop();
    assert_eq!(seen.lock().unwrap().datagrams, 0);
}
