use super::*;
use crate::link::{Arrival, Link, LinkConfig, Verdict};
use crate::rng::Rng;

const RATE: u64 = 20_000_000;
const RTT: Duration = Duration::from_millis(40);

/// Payload bytes that one flow moves in `time` over a link of [`RATE`] and [`RTT`], of that which the link carries.
fn share_used(algorithm: Algorithm, config: LinkConfig, time: Duration) -> f64 {
    let config = LinkConfig { rate_bit_s: Some(RATE), delay: RTT / 2, ..config };
    let (mut down, mut rng, flow) = (Link::new(config), Rng::new(9), FlowNo(0));
    let (mut sender, mut receiver) = (Sender::new(Duration::ZERO, flow, algorithm, 3), Receiver::default());
    // Acknowledgements are never lost here, and segments keep their order.
    let mut acks: VecDeque<(Duration, Segment)> = VecDeque::new();
    let mut now = Duration::ZERO;
    while now < time {
        sender.handle_timeout(now);
        while let Some((_, ack)) = acks.pop_front_if(|(at, _)| *at <= now) {
            if let SegmentKind::Ack { number, serial, next } = ack.kind {
                sender.handle_ack(now, number, serial, next);
            }
        }
        while let Some(segment) = sender.poll_transmit(now) {
            let SegmentKind::Data { number, serial } = segment.kind else { panic!("senders send data") };
            if let Verdict::Arrives(Arrival { at, .. }) = down.send(now, segment.wire_bytes(), &mut rng) {
                acks.push_back((at + RTT / 2, receiver.handle_data(flow, number, serial)));
            }
        }
        let next = [sender.poll_timeout(), acks.front().map(|(at, _)| *at)].into_iter().flatten().min();
        now = next.expect("a sender always waits for something").max(now);
    }
    let carried = RATE as f64 / 8.0 * time.as_secs_f64() * SEGMENT_PAYLOAD_BYTES as f64 / 1_500.0;
    receiver.bytes() as f64 / carried
}

const QUEUE_OF_ONE_BDP: Option<u64> = Some(100_000);
const TIME: Duration = Duration::from_secs(20);

#[test]
fn either_fills_a_link_without_loss() {
    for algorithm in [Algorithm::Cubic, Algorithm::Bbr] {
        let share = share_used(algorithm, LinkConfig { queue_bytes: QUEUE_OF_ONE_BDP, ..LinkConfig::default() }, TIME);
        assert!((0.9..1.0).contains(&share), "{algorithm:?}: {share}");
    }
}

#[test]
fn random_loss_stops_cubic_and_not_bbr() {
    let config = LinkConfig { queue_bytes: QUEUE_OF_ONE_BDP, loss: 0.01, ..LinkConfig::default() };
    let (cubic, bbr) = (share_used(Algorithm::Cubic, config, TIME), share_used(Algorithm::Bbr, config, TIME));
    assert!(cubic < 0.5, "{cubic}");
    assert!(bbr > 0.85, "{bbr}");
}

#[test]
fn a_transfer_survives_the_loss_of_half_of_its_segments() {
    for algorithm in [Algorithm::Cubic, Algorithm::Bbr] {
        let share = share_used(algorithm, LinkConfig { loss: 0.5, ..LinkConfig::default() }, TIME);
        assert!(share > 0.000_5, "{algorithm:?}: {share}");
    }
}

#[test]
fn segments_out_of_order_are_acknowledged_and_counted_once_the_gap_is_closed() {
    let mut receiver = Receiver::default();
    let next = |receiver: &mut Receiver, number| match receiver.handle_data(FlowNo(0), number, 1).kind {
        SegmentKind::Ack { next, .. } => next,
        _ => panic!("data is acknowledged"),
    };
    assert_eq!([0, 2, 3].map(|number| next(&mut receiver, number)), [1, 1, 1]);
    assert_eq!(receiver.bytes(), SEGMENT_PAYLOAD_BYTES as u64);
    assert_eq!(next(&mut receiver, 1), 4);
    assert_eq!(next(&mut receiver, 1), 4, "a copy changes nothing");
}
