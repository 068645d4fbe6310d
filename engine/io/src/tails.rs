//! Short datagrams to one destination that leave in one send.

use std::io;
use std::net::{SocketAddr, UdpSocket};

use quinn_udp::{Transmit, UdpSocketState};

use crate::limits::{TAIL_BYTES_MAX, TRAINS_MAX};
use crate::train::Train;

/// Tails of trains whose regions have left already: of one length, for one destination, at most [`TRAINS_MAX`].
pub(crate) struct Tails {
    to: Option<SocketAddr>,
    /// Bytes of each.
    tail_bytes: usize,
    bytes: Vec<u8>,
}

impl Tails {
    pub(crate) fn new() -> Self {
        Self { to: None, tail_bytes: 0, bytes: Vec::with_capacity(TRAINS_MAX * TAIL_BYTES_MAX) }
    }

    /// Whether the tail of `train` can go along.
    pub(crate) fn takes(&self, train: &Train) -> bool {
        let is_full = self.bytes.len() >= TRAINS_MAX * self.tail_bytes;
        self.to.is_none() || (self.to == Some(train.to()) && self.tail_bytes == train.tail().len() && !is_full)
    }

    /// Adds the tail of `train`; [`Tails::takes`] has said yes.
    pub(crate) fn push(&mut self, train: &Train) {
        self.to = Some(train.to());
        self.tail_bytes = train.tail().len();
        self.bytes.extend_from_slice(train.tail());
    }

    /// Sends all that was added, in one system call. Nothing is left here.
    ///
    /// # Errors
    /// What the kernel says, and the tails, none of which was sent.
    pub(crate) fn send(&mut self, socket: &UdpSocket, state: &UdpSocketState) -> Result<(), (io::Error, Vec<Train>)> {
        let Some(destination) = self.to.take() else { return Ok(()) };
        let (contents, segment_size) = (&self.bytes[..], Some(self.tail_bytes));
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip: None };
        let sent = state.try_send(socket.into(), &transmit).map_err(|error| {
            let train = |tail| Train::datagram(destination, tail).expect("it was the tail of a train");
            (error, self.bytes.chunks(self.tail_bytes).map(train).collect())
        });
        self.bytes.clear();
        sent
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn train(to: SocketAddr, tail: &[u8]) -> Train {
        Train::datagram(to, tail).unwrap()
    }

    #[test]
    fn tails_of_one_length_for_one_destination_go_together_and_arrive_one_by_one() {
        let [socket, peer] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
        peer.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (to, state) = (peer.local_addr().unwrap(), UdpSocketState::new((&socket).into()).unwrap());
        let mut tails = Tails::new();
        for n in 0..TRAINS_MAX as u8 {
            assert!(tails.takes(&train(to, &[n; 80])));
            tails.push(&train(to, &[n; 80]));
        }
        assert!(!tails.takes(&train(to, &[0; 80])), "full");
        tails.send(&socket, &state).unwrap();
        let mut room = [0; 2_000];
        for n in 0..TRAINS_MAX as u8 {
            let bytes = peer.recv(&mut room).unwrap();
            assert_eq!(room[..bytes], [n; 80]);
        }
        tails.push(&train(to, &[1; 80]));
        assert!(!tails.takes(&train(to, &[1; 81])) && !tails.takes(&train(socket.local_addr().unwrap(), &[1; 80])));
        tails.send(&socket, &state).unwrap();
        assert_eq!(peer.recv(&mut room).unwrap(), 80);
    }

    #[test]
    fn tails_that_could_not_be_sent_come_back_in_order() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let state = UdpSocketState::new((&socket).into()).unwrap();
        // Not of this socket's family of addresses.
        let to = "[::1]:9".parse().unwrap();
        let mut tails = Tails::new();
        tails.push(&train(to, &[1; 80]));
        tails.push(&train(to, &[2; 80]));
        let (_, unsent) = tails.send(&socket, &state).unwrap_err();
        let unsent: Vec<_> = unsent.iter().map(|train| (train.to(), train.tail()[0])).collect();
        assert_eq!(unsent, [(to, 1), (to, 2)]);
        assert!(tails.send(&socket, &state).is_ok(), "nothing is left");
    }
}
