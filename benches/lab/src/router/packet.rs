//! IPv4 packets, as far as a router looks into them.

use std::net::Ipv4Addr;

const IPV4_HEADER_BYTES: usize = 20;
const UDP_HEADER_BYTES: usize = 8;
const TCP_HEADER_BYTES: usize = 20;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// What a packet says in clear.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet<'a> {
    /// Who sends it.
    pub source: Ipv4Addr,
    /// Where it goes.
    pub destination: Ipv4Addr,
    /// What it carries.
    pub content: Content<'a>,
}

/// What a packet carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content<'a> {
    /// A whole datagram.
    Udp(&'a [u8]),
    /// A segment.
    Tcp {
        /// Port of who sends it.
        source_port: u16,
        /// Bytes behind its header.
        payload_bytes: usize,
    },
    /// Anything else, such as ICMP or a fragment.
    Other,
}

impl<'a> Packet<'a> {
    /// Reads a packet; nothing if it is not IPv4 or is cut short.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let header = bytes.first_chunk::<IPV4_HEADER_BYTES>()?;
        let header_bytes = header_bytes(bytes);
        let total = usize::from(be16(bytes, 2));
        if header[0] >> 4 != 4 || header_bytes < IPV4_HEADER_BYTES || total < header_bytes {
            return None;
        }
        let payload = bytes.get(header_bytes..total)?;
        let content = match header[9] {
            _ if is_fragment(bytes) => Content::Other,
            UDP => payload.get(UDP_HEADER_BYTES..).map_or(Content::Other, Content::Udp),
            TCP => tcp(payload).unwrap_or(Content::Other),
            _ => Content::Other,
        };
        let [.., s0, s1, s2, s3, d0, d1, d2, d3] = *header;
        let source = Ipv4Addr::new(s0, s1, s2, s3);
        Some(Self { source, destination: Ipv4Addr::new(d0, d1, d2, d3), content })
    }
}

/// Which address of a packet is replaced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Address {
    /// Who sends it.
    Source,
    /// Where it goes.
    Destination,
}

/// Puts another address into a whole packet, as NAT does, and mends the checksums that cover it (RFC 1624, equation 3).
pub fn replace_address(bytes: &mut [u8], which: Address, new: Ipv4Addr) {
    let at = match which {
        Address::Source => 12,
        Address::Destination => 16,
    };
    let old: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
    let new = new.octets();
    bytes[at..at + 4].copy_from_slice(&new);
    mend_checksum(bytes, 10, old, new);
    let header_bytes = header_bytes(bytes);
    if is_fragment(bytes) {
        return;
    }
    match bytes[9] {
        // A UDP checksum of zero says that there is none.
        UDP if bytes.len() >= header_bytes + UDP_HEADER_BYTES && be16(bytes, header_bytes + 6) != 0 => {
            mend_checksum(bytes, header_bytes + 6, old, new);
        }
        TCP if bytes.len() >= header_bytes + TCP_HEADER_BYTES => mend_checksum(bytes, header_bytes + 16, old, new),
        _ => {}
    }
}

fn mend_checksum(bytes: &mut [u8], at: usize, old: [u8; 4], new: [u8; 4]) {
    let mut sum = u32::from(!be16(bytes, at));
    for word in [0, 2] {
        sum += u32::from(!be16(&old, word)) + u32::from(be16(&new, word));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[at..at + 2].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

fn tcp(segment: &[u8]) -> Option<Content<'static>> {
    let header_bytes = usize::from(segment.get(12)? >> 4) * 4;
    let payload_bytes = segment.len().checked_sub(header_bytes.max(TCP_HEADER_BYTES))?;
    Some(Content::Tcp { source_port: be16(segment, 0), payload_bytes })
}

fn header_bytes(packet: &[u8]) -> usize {
    usize::from(packet[0] & 0x0f) * 4
}

/// Whether it is a piece of a packet, which then has no or only half of the next header.
fn is_fragment(packet: &[u8]) -> bool {
    be16(packet, 6) & 0x3fff != 0
}

fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A UDP packet with right checksums.
    pub(crate) fn udp(source: Ipv4Addr, destination: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
        let udp_bytes = (UDP_HEADER_BYTES + payload.len()) as u16;
        let mut packet = vec![0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, UDP, 0, 0];
        packet.extend(source.octets().into_iter().chain(destination.octets()));
        packet[2..4].copy_from_slice(&(IPV4_HEADER_BYTES as u16 + udp_bytes).to_be_bytes());
        packet.extend([0x12, 0x34, 0x56, 0x78]);
        packet.extend(udp_bytes.to_be_bytes());
        packet.extend([0, 0]);
        packet.extend(payload);
        let sum = sum(&packet[..IPV4_HEADER_BYTES]);
        packet[10..12].copy_from_slice(&(!sum).to_be_bytes());
        let sum = udp_sum(&packet);
        packet[26..28].copy_from_slice(&(!sum).to_be_bytes());
        packet
    }

    /// The one's complement sum: 0xffff over what includes a right checksum.
    fn sum(bytes: &[u8]) -> u16 {
        let words = bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&low| u32::from(low)));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn udp_sum(packet: &[u8]) -> u16 {
        let mut covered = packet[12..20].to_vec();
        covered.extend([0, UDP, packet[24], packet[25]]);
        covered.extend(&packet[20..]);
        sum(&covered)
    }

    const A: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
    const B: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

    #[test]
    fn a_datagram_is_read_without_what_stands_behind_it() {
        let mut bytes = udp(A, B, b"hello");
        let expected = Packet { source: A, destination: B, content: Content::Udp(b"hello") };
        assert_eq!(Packet::parse(&bytes), Some(expected));
        bytes.extend([0; 9]);
        assert_eq!(Packet::parse(&bytes), Some(expected));
    }

    #[test]
    fn what_is_cut_short_or_not_ipv4_is_nothing() {
        let bytes = udp(A, B, b"hello");
        for length in 0..bytes.len() {
            assert_eq!(Packet::parse(&bytes[..length]), None, "{length}");
        }
        let mut six = bytes.clone();
        six[0] = 0x65;
        assert_eq!(Packet::parse(&six), None);
        let mut short_header = bytes;
        short_header[0] = 0x44;
        assert_eq!(Packet::parse(&short_header), None);
    }

    #[test]
    fn options_and_the_header_of_tcp_are_no_payload() {
        let mut bytes = vec![0x46, 0, 0, 24 + 32 + 3, 0, 0, 0, 0, 64, TCP, 0, 0];
        bytes.extend(A.octets().into_iter().chain(B.octets()));
        bytes.extend([0; 4]);
        bytes.extend([0x1f, 0x90, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        bytes.push(8 << 4);
        bytes.extend([0; 19 + 3]);
        let segment = Content::Tcp { source_port: 8_080, payload_bytes: 3 };
        assert_eq!(Packet::parse(&bytes).expect("whole").content, segment);
    }

    #[test]
    fn a_fragment_shows_no_datagram() {
        let mut bytes = udp(A, B, b"hello");
        bytes[6] = 0x20;
        assert_eq!(Packet::parse(&bytes).expect("whole").content, Content::Other);
    }

    #[test]
    fn replaced_addresses_leave_both_checksums_right() {
        for payload in [b"hello".as_slice(), b"", &[0xff; 1_232]] {
            let mut bytes = udp(A, B, payload);
            assert_eq!((sum(&bytes[..20]), udp_sum(&bytes)), (0xffff, 0xffff));
            replace_address(&mut bytes, Address::Source, Ipv4Addr::new(10, 99, 255, 254));
            replace_address(&mut bytes, Address::Destination, Ipv4Addr::new(0, 1, 2, 3));
            let packet = Packet::parse(&bytes).expect("whole");
            assert_eq!(packet.source, Ipv4Addr::new(10, 99, 255, 254));
            assert_eq!(packet.destination, Ipv4Addr::new(0, 1, 2, 3));
            assert_eq!(packet.content, Content::Udp(payload));
            assert_eq!((sum(&bytes[..20]), udp_sum(&bytes)), (0xffff, 0xffff));
        }
    }
}
