//! The sockets of a server.

use std::fmt;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::num::{NonZeroU16, NonZeroUsize};

use nix::libc::{self, BPF_A, BPF_ABS, BPF_B, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET};
use nix::sys::socket::{SetSockOpt, setsockopt, sockopt};
use quinn_udp::UdpSocketState;
use socket2::{Domain, Protocol, Socket, Type};

use crate::limits::{SERVER_RECEIVE_BUFFER_BYTES, SERVER_SEND_BUFFER_BYTES};

/// A bound UDP socket for one shard. Fragmentation is forbidden on it; long sends are cut into segments by the kernel.
pub struct ServerSocket {
    pub(crate) udp: UdpSocket,
    pub(crate) state: UdpSocketState,
    pub(crate) segment_bytes: NonZeroU16,
    has_segmentation: bool,
    local_addr: SocketAddr,
}

impl ServerSocket {
    /// Binds `shards` sockets to `addr`, among which the kernel spreads clients by their addresses (`SO_REUSEPORT` if
    /// there are several). With port 0 all share the port that the first one gets. Sends longer than `segment_bytes`
    /// are cut into datagrams of that length, the last of which may be shorter.
    ///
    /// Answers leave with the address that the route picks: on a host with several, bind the one that clients use
    /// rather than a wildcard. An IPv6 wildcard takes no IPv4.
    ///
    /// # Errors
    /// Names the address: already in use, not of this host, a port below 1,024 without the right to it.
    pub fn bind(addr: SocketAddr, shards: NonZeroUsize, segment_bytes: NonZeroU16) -> io::Result<Vec<Self>> {
        let at = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on UDP {addr}: {error}"));
        let shared = shards.get() > 1;
        if shared && addr.port() != 0 {
            // SO_REUSEPORT would silently share the port with another server of the same user.
            bind_one(addr, false).map_err(at)?;
        }
        let first = bind_one(addr, shared).and_then(|udp| Self::new(udp, segment_bytes)).map_err(at)?;
        let addr = first.local_addr;
        let mut sockets = vec![first];
        while sockets.len() < shards.get() {
            sockets.push(bind_one(addr, shared).and_then(|udp| Self::new(udp, segment_bytes)).map_err(at)?);
        }
        Ok(sockets)
    }

    /// Has the kernel hand datagrams that begin with the byte `kind` to the socket whose number, as they were bound, is the
    /// byte at `place`. Others go by their addresses as before, and so do those that name no socket. The program is classic
    /// BPF (SO_ATTACH_REUSEPORT_CBPF, socket(7)).
    ///
    /// # Errors
    /// The kernel takes no such program, or `sockets` are not several of one port.
    pub fn steer(sockets: &[Self], kind: u8, place: usize) -> io::Result<()> {
        let Some(first) = sockets.first() else { return Ok(()) };
        let load = |at: usize| (BPF_LD | BPF_B | BPF_ABS, 0, 0, at as u32);
        let program = [
            load(0),
            (BPF_JMP | BPF_JEQ | BPF_K, 0, 2, kind.into()),
            load(place),
            (BPF_RET | BPF_A, 0, 0, 0),
            // No socket has this number.
            (BPF_RET | BPF_K, 0, 0, u32::MAX),
        ];
        let mut program = program.map(|(code, jt, jf, k)| libc::sock_filter { code: code as u16, jt, jf, k });
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        Ok(setsockopt(&first.udp, sockopt::AttachReusePortCbpf, &program)?)
    }

    /// Address and port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Whether the kernel cuts trains (`UDP_SEGMENT`); if not, each packet is a system call of its own.
    pub fn has_segmentation(&self) -> bool {
        self.has_segmentation
    }

    fn new(udp: UdpSocket, segment_bytes: NonZeroU16) -> io::Result<Self> {
        // Sets non-blocking, IP_PMTUDISC_PROBE (DF, and no belief in ICMP's word about the MTU) and UDP_GRO.
        let state = UdpSocketState::new((&udp).into())?;
        ask_for_buffer(&udp, sockopt::SndBufForce, sockopt::SndBuf, SERVER_SEND_BUFFER_BYTES)?;
        ask_for_buffer(&udp, sockopt::RcvBufForce, sockopt::RcvBuf, SERVER_RECEIVE_BUFFER_BYTES)?;
        let has_segmentation = setsockopt(&udp, sockopt::UdpGsoSegment, &segment_bytes.get().into()).is_ok();
        let local_addr = udp.local_addr()?;
        Ok(Self { udp, state, segment_bytes, has_segmentation, local_addr })
    }
}

impl fmt::Debug for ServerSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerSocket").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

fn bind_one(addr: SocketAddr, shared: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    if shared {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&addr.into())?;
    Ok(socket.into())
}

/// Asks for a buffer of `bytes`: beyond the system's bound with `force` where this process has the right to, else with
/// `ask` for as much as the bound (`net.core.rmem_max`, `wmem_max`) allows.
pub(crate) fn ask_for_buffer<F, A>(udp: &UdpSocket, force: F, ask: A, bytes: usize) -> io::Result<()>
where
    F: SetSockOpt<Val = usize>,
    A: SetSockOpt<Val = usize>,
{
    setsockopt(udp, force, &bytes).or_else(|_| setsockopt(udp, ask, &bytes))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_never_fragmented() {
        for addr in ["127.0.0.1:0", "[::1]:0"] {
            match ServerSocket::bind(addr.parse().unwrap(), NonZeroUsize::MIN, NonZeroU16::MIN) {
                Ok(sockets) => assert!(!sockets[0].state.may_fragment(), "{addr}"),
                Err(error) => assert!(addr.contains("::"), "{error}"),
            }
        }
    }

    #[test]
    fn a_datagram_of_the_kind_that_is_steered_reaches_the_socket_that_it_names_and_others_go_by_their_address() {
        let shards = NonZeroUsize::new(4).unwrap();
        let sockets = ServerSocket::bind("127.0.0.1:0".parse().unwrap(), shards, NonZeroU16::MIN).unwrap();
        ServerSocket::steer(&sockets, b'P', 4).unwrap();
        let heard = |datagram: &[u8]| {
            let by = || {
                sockets.iter().position(|socket| {
                    let mut room = [0; 8];
                    socket.udp.recv(&mut room).is_ok_and(|bytes| room[..bytes] == *datagram)
                })
            };
            // There before the send returns, unless the core is busy with packets of others.
            let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
            loop {
                if let Some(by) = by() {
                    return by;
                }
                assert!(std::time::Instant::now() < patience, "{datagram:?} arrives");
                std::thread::yield_now();
            }
        };
        for _ in 0..8 {
            let client = UdpSocket::bind("127.0.0.1:0").unwrap();
            let send = |datagram: &[u8]| {
                client.send_to(datagram, sockets[0].local_addr()).unwrap();
                heard(datagram)
            };
            let by_address = send(b"H");
            for named in 0..4 {
                assert_eq!(send(&[b'P', 0, 0, 0, named, 9]), usize::from(named));
                assert_eq!(send(&[b'H', 0, 0, 0, named, 9]), by_address);
            }
            assert_eq!(send(&[b'P', 0, 0, 0, 4, 9]), by_address, "there is no fifth");
            assert_eq!(send(b"P"), 0, "one cut short is for the first");
        }
    }
}
