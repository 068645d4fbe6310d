use super::*;

const MS: Duration = Duration::from_millis(1);
/// 1,000 bytes take 1 ms.
const RATE: u64 = 8_000_000;

fn arrival(link: &mut Link, now: Duration, bytes: usize) -> Arrival {
    match link.send(now, bytes, &mut Rng::new(1)) {
        Verdict::Arrives(arrival) => arrival,
        Verdict::Dropped(why) => panic!("dropped: {why:?}"),
    }
}

/// Of `packets` packets of 1,000 bytes, a millisecond apart.
fn verdicts(config: LinkConfig, packets: u32) -> Vec<Verdict> {
    let (mut link, mut rng) = (Link::new(config), Rng::new(3));
    (0..packets).map(|n| link.send(n * MS, 1_000, &mut rng)).collect()
}

fn lost(verdicts: &[Verdict]) -> usize {
    verdicts.iter().filter(|verdict| **verdict == Verdict::Dropped(DropReason::Wire)).count()
}

#[test]
fn a_packet_takes_its_sending_time_and_the_delay() {
    let mut link = Link::new(LinkConfig { rate_bit_s: Some(RATE), delay: 5 * MS, ..LinkConfig::default() });
    assert_eq!(arrival(&mut link, 10 * MS, 1_000).at, 16 * MS);
}

#[test]
fn packets_wait_for_those_before_them_and_leave_at_the_rate() {
    let mut link = Link::new(LinkConfig { rate_bit_s: Some(RATE), ..LinkConfig::default() });
    let first = arrival(&mut link, MS, 1_000);
    let second = arrival(&mut link, MS, 2_000);
    let third = arrival(&mut link, 2 * MS, 1_000);
    assert_eq!((first.at, first.queued), (2 * MS, Duration::ZERO));
    assert_eq!((second.at, second.queued), (4 * MS, MS));
    assert_eq!((third.at, third.queued), (5 * MS, 2 * MS));
    let idle = arrival(&mut link, 100 * MS, 1_000);
    assert_eq!((idle.at, idle.queued), (101 * MS, Duration::ZERO), "an idle link saves nothing up");
}

#[test]
fn a_link_without_a_rate_holds_nothing_up() {
    let mut link = Link::new(LinkConfig { queue_bytes: Some(0), ..LinkConfig::default() });
    assert!((0..100).all(|_| arrival(&mut link, MS, 60_000).at == MS));
}

#[test]
fn the_queue_takes_what_fits_and_not_a_byte_more() {
    let config = LinkConfig { rate_bit_s: Some(RATE), queue_bytes: Some(2_000), ..LinkConfig::default() };
    let mut link = Link::new(config);
    let mut rng = Rng::new(1);
    // One is being sent, two wait.
    assert!((0..3).all(|_| link.send(Duration::ZERO, 1_000, &mut rng) != Verdict::Dropped(DropReason::Queue)));
    assert_eq!(link.queued_bytes(Duration::ZERO), 2_000);
    assert_eq!(link.send(Duration::ZERO, 1, &mut rng), Verdict::Dropped(DropReason::Queue));
    // Another is being sent, one waits.
    assert_eq!(link.queued_bytes(MS), 1_000);
    assert_eq!(link.send(MS, 1_001, &mut rng), Verdict::Dropped(DropReason::Queue));
    assert_eq!(arrival(&mut link, MS, 1_000).at, 4 * MS);
    assert_eq!(link.counters().dropped_by_queue, 2);
}

#[test]
fn a_queue_shorter_than_a_packet_still_lets_one_at_a_time_pass() {
    let config = LinkConfig { rate_bit_s: Some(RATE), queue_bytes: Some(0), ..LinkConfig::default() };
    assert!(verdicts(config, 100).iter().all(|verdict| matches!(verdict, Verdict::Arrives(_))));
}

#[test]
fn what_is_lost_on_the_wire_has_used_the_link() {
    let config = LinkConfig { rate_bit_s: Some(RATE), loss: 1.0, ..LinkConfig::default() };
    let mut link = Link::new(config);
    assert_eq!(link.send(Duration::ZERO, 1_000, &mut Rng::new(1)), Verdict::Dropped(DropReason::Wire));
    link.set_config(LinkConfig { loss: 0.0, ..config });
    assert_eq!(arrival(&mut link, Duration::ZERO, 1_000).at, 2 * MS);
}

#[test]
fn random_loss_strikes_as_often_as_it_should() {
    let lost = lost(&verdicts(LinkConfig { loss: 0.1, ..LinkConfig::default() }, 10_000));
    assert!((900..1_100).contains(&lost), "{lost}");
}

#[test]
fn bursty_loss_comes_in_bursts_of_the_length_asked_for() {
    let bursts = Bursts::of(0.02, 8.0);
    assert!((bursts.loss() - 0.02).abs() < 1e-9);
    let verdicts = verdicts(LinkConfig { bursts: Some(bursts), ..LinkConfig::default() }, 200_000);
    let lost = lost(&verdicts);
    let begun =
        verdicts.windows(2).filter(|pair| matches!(pair, [Verdict::Arrives(_), Verdict::Dropped(DropReason::Wire)]));
    let mean = lost as f64 / begun.count() as f64;
    assert!((3_200..4_800).contains(&lost), "{lost}");
    assert!((7.0..9.0).contains(&mean), "{mean}");
}

#[test]
fn jitter_spreads_arrivals_and_keeps_their_order() {
    let (mut link, mut rng) = (Link::new(LinkConfig { jitter: 20 * MS, ..LinkConfig::default() }), Rng::new(5));
    let mut last = Duration::ZERO;
    let mut spread = false;
    for n in 0..1_000 {
        let Verdict::Arrives(arrival) = link.send(n * MS, 100, &mut rng) else { panic!("nothing is lost") };
        assert!(arrival.at >= last && arrival.at < (n + 20) * MS);
        spread |= arrival.at > (n + 10) * MS;
        last = arrival.at;
    }
    assert!(spread);
}

#[test]
fn a_reordered_packet_is_overtaken_and_holds_nobody_up() {
    let config = LinkConfig { reordering: 0.1, reordering_delay: 10 * MS, ..LinkConfig::default() };
    let (mut link, mut rng) = (Link::new(config), Rng::new(5));
    let late = (0..1_000).filter(|&n| {
        let Verdict::Arrives(arrival) = link.send(n * MS, 100, &mut rng) else { panic!("nothing is lost") };
        arrival.at > n * MS
    });
    let late = late.count();
    assert!((60..140).contains(&late), "{late}");
}

#[test]
fn copies_and_flipped_bits_come_as_often_as_they_should() {
    let verdicts = verdicts(LinkConfig { duplication: 0.2, corruption: 0.1, ..LinkConfig::default() }, 1_000);
    let count = |is: fn(&Arrival) -> bool| {
        verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Arrives(arrival) if is(arrival))).count()
    };
    assert!((150..250).contains(&count(|arrival| arrival.again_at.is_some())));
    assert!((60..140).contains(&count(|arrival| arrival.flip.is_some())));
}

#[test]
fn a_packet_of_the_mtu_passes_and_a_longer_one_vanishes() {
    let mut link = Link::new(LinkConfig { mtu: Some(1_280), ..LinkConfig::default() });
    assert_eq!(arrival(&mut link, MS, 1_280).at, MS);
    assert_eq!(link.send(MS, 1_281, &mut Rng::new(1)), Verdict::Dropped(DropReason::TooLong));
}

#[test]
fn nothing_passes_a_cut_and_all_does_once_it_is_mended() {
    let mut link = Link::new(LinkConfig { is_cut: true, ..LinkConfig::default() });
    assert_eq!(link.send(MS, 100, &mut Rng::new(1)), Verdict::Dropped(DropReason::Cut));
    link.set_config(LinkConfig::default());
    assert_eq!(arrival(&mut link, MS, 100).at, MS);
}

#[test]
fn a_new_rate_holds_for_what_comes_behind_the_queue() {
    let config = LinkConfig { rate_bit_s: Some(RATE), ..LinkConfig::default() };
    let mut link = Link::new(config);
    assert_eq!(arrival(&mut link, Duration::ZERO, 4_000).at, 4 * MS);
    link.set_config(LinkConfig { rate_bit_s: Some(RATE / 10), ..config });
    assert_eq!(arrival(&mut link, MS, 1_000).at, 14 * MS);
}
