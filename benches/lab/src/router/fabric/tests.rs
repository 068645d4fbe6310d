//! What becomes of packets.

use super::super::packet::tests::udp;
use super::*;

const A: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
const B: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const C: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);
const NAT: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);
const MS: Duration = Duration::from_millis(1);

fn fabric() -> Fabric {
    Fabric::new(&[A, B, C], 1)
}

fn send(fabric: &mut Fabric, from: usize, packet: &[u8], now: Duration) {
    let slot = fabric.take_slot().expect("room");
    fabric.buffer(slot)[..packet.len()].copy_from_slice(packet);
    fabric.handle_packet(HostId(from), slot, packet.len(), now);
}

/// What is due: to which host, and the packet.
fn due(fabric: &mut Fabric, now: Duration) -> Vec<(usize, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(Delivery { to, slot }) = fabric.poll_delivery(now) {
        all.push((to.0, fabric.bytes(slot).to_vec()));
        fabric.release(slot, true);
    }
    all
}

#[test]
fn a_packet_reaches_the_host_that_it_names_as_it_was_sent() {
    let mut fabric = fabric();
    let packet = udp(A, B, b"hello");
    send(&mut fabric, 0, &packet, MS);
    assert_eq!(due(&mut fabric, MS), [(1, packet)]);
    send(&mut fabric, 0, &udp(A, NAT, b"nobody"), MS);
    send(&mut fabric, 0, b"no packet at all", MS);
    assert_eq!(due(&mut fabric, MS * 9), []);
}

#[test]
fn both_links_delay_and_what_comes_first_is_due_first() {
    let mut fabric = fabric();
    fabric.set_up(HostId(0), LinkConfig { delay: MS * 10, ..LinkConfig::default() });
    fabric.set_down(HostId(1), LinkConfig { delay: MS * 15, ..LinkConfig::default() });
    let (slow, quick) = (udp(A, B, b"slow"), udp(C, B, b"quick"));
    send(&mut fabric, 0, &slow, Duration::ZERO);
    send(&mut fabric, 2, &quick, MS);
    assert_eq!(due(&mut fabric, MS * 15), []);
    assert_eq!(due(&mut fabric, MS * 16), [(1, quick)]);
    assert_eq!(due(&mut fabric, MS * 24), []);
    assert_eq!(due(&mut fabric, MS * 25), [(1, slow)]);
}

#[test]
fn hosts_behind_one_link_share_its_rate() {
    let mut fabric = fabric();
    fabric.share_down(HostId(2), HostId(1));
    // 1,000 bytes take a millisecond.
    fabric.set_down(HostId(1), LinkConfig { rate_bit_s: Some(8_000_000), ..LinkConfig::default() });
    let payload = [0; 1_000 - 28];
    send(&mut fabric, 0, &udp(A, B, &payload), Duration::ZERO);
    send(&mut fabric, 0, &udp(A, C, &payload), Duration::ZERO);
    assert_eq!(due(&mut fabric, MS).len(), 1);
    let next = due(&mut fabric, MS * 2);
    assert_eq!(next.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [2]);
    assert_eq!(fabric.down_report(HostId(2)).counters.sent_packets, 2);
    assert_eq!(fabric.down_report(HostId(2)).queued_p95, MS);
}

#[test]
fn an_alias_hides_the_address_both_ways_and_an_old_one_leads_nowhere() {
    let mut fabric = fabric();
    fabric.set_alias(HostId(0), NAT);
    send(&mut fabric, 0, &udp(A, B, b"out"), Duration::ZERO);
    assert_eq!(due(&mut fabric, Duration::ZERO), [(1, udp(NAT, B, b"out"))]);
    send(&mut fabric, 1, &udp(B, NAT, b"back"), Duration::ZERO);
    assert_eq!(due(&mut fabric, Duration::ZERO), [(0, udp(B, A, b"back"))]);
    send(&mut fabric, 1, &udp(B, A, b"late"), Duration::ZERO);
    assert_eq!(due(&mut fabric, Duration::ZERO), []);
}

#[test]
fn a_host_whose_udp_is_blocked_sends_and_gets_none() {
    let mut fabric = fabric();
    fabric.block_udp(HostId(1), true);
    send(&mut fabric, 0, &udp(A, B, b"in"), Duration::ZERO);
    send(&mut fabric, 1, &udp(B, A, b"out"), Duration::ZERO);
    send(&mut fabric, 0, &udp(A, C, b"beside"), Duration::ZERO);
    assert_eq!(due(&mut fabric, Duration::ZERO).len(), 1);
}

#[test]
fn a_packet_may_come_twice_or_damaged_and_damage_does_not_count() {
    let mut fabric = fabric();
    fabric.set_up(HostId(0), LinkConfig { duplication: 1.0, ..LinkConfig::default() });
    let mut data = [0; 1_232];
    data[..4].copy_from_slice(&[0x14, 0, 4, 0xb0]);
    let packet = udp(A, B, &data);
    send(&mut fabric, 0, &packet, Duration::ZERO);
    assert_eq!(due(&mut fabric, Duration::ZERO), [(1, packet.clone()), (1, packet.clone())]);
    let counted = |fabric: &Fabric| {
        let arrivals = fabric.arrivals(HostId(1));
        (arrivals.data.bytes, arrivals.data_again_bytes)
    };
    assert_eq!(counted(&fabric), (1_200, 1_200));
    fabric.set_up(HostId(0), LinkConfig { corruption: 1.0, ..LinkConfig::default() });
    send(&mut fabric, 0, &packet, Duration::ZERO);
    let damaged = due(&mut fabric, Duration::ZERO);
    let flipped: u32 = damaged[0].1.iter().zip(&packet).map(|(a, b)| (a ^ b).count_ones()).sum();
    assert_eq!(flipped, 1);
    assert_eq!(counted(&fabric), (1_200, 1_200));
}

#[test]
fn room_is_bounded_and_comes_back() {
    let mut fabric = fabric();
    let taken: Vec<SlotId> = std::iter::from_fn(|| fabric.take_slot()).collect();
    assert_eq!(taken.len(), SLOTS_MAX);
    fabric.release(taken[0], true);
    assert!(fabric.take_slot().is_some());
    assert_eq!(fabric.own_report().own_losses, 0);
    fabric.release(taken[1], false);
    assert_eq!(fabric.own_report().own_losses, 1);
}
