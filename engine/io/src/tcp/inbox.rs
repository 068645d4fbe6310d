//! Incoming bytes, cut into packets.

use std::io::{self, Read};
use std::net::TcpStream;

use super::PacketBytes;

/// What has come on one connection and was not taken yet:
/// ```text
/// | taken | packet | packet | part of a packet | room |
///         start                               end
/// ```
pub(super) struct Inbox {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
    packet_bytes: PacketBytes,
}

/// The next bytes start no packet: whatever follows cannot be cut either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OutOfStep;

impl Inbox {
    /// Room for `room` bytes; a longer packet counts as none.
    pub(super) fn new(room: usize, packet_bytes: PacketBytes) -> Self {
        Self { bytes: vec![0; room].into_boxed_slice(), start: 0, end: 0, packet_bytes }
    }

    /// Reads once from `stream`, behind what is there. To be called when [`Inbox::next_packet`] has no more. Returns how
    /// many bytes came, and whether the room was filled: more may be there.
    ///
    /// # Errors
    /// `UnexpectedEof` when the peer has closed its side; what the system says.
    pub(super) fn fill(&mut self, mut stream: &TcpStream) -> io::Result<(usize, bool)> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let count = stream.read(&mut self.bytes[self.end..])?;
        if count == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the other side has closed the connection"));
        }
        self.end += count;
        Ok((count, self.end == self.bytes.len()))
    }

    /// The next whole packet; nothing until more has come.
    pub(super) fn next_packet(&mut self) -> Result<Option<&[u8]>, OutOfStep> {
        let here = &self.bytes[self.start..self.end];
        let Some(&start) = here.first_chunk::<2>() else { return Ok(None) };
        //= PROTOCOL T1: A receiver MUST close a connection when the next two bytes start no packet of this version.
        let length = (self.packet_bytes)(start).filter(|length| (2..=self.bytes.len()).contains(length));
        let length = length.ok_or(OutOfStep)?;
        if here.len() < length {
            return Ok(None);
        }
        let packet = self.start..self.start + length;
        self.start = packet.end;
        Ok(Some(&self.bytes[packet]))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::*;

    /// Packets of a letter and a digit that is their length.
    fn lettered([letter, digit]: [u8; 2]) -> Option<usize> {
        (letter.is_ascii_uppercase() && digit.is_ascii_digit()).then(|| usize::from(digit - b'0'))
    }

    /// What an inbox of `room` bytes cuts from `pieces` that arrive one after the other, and whether it ended out of step.
    fn cut(room: usize, pieces: &[&[u8]]) -> (Vec<String>, bool) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut writer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let reader = listener.accept().unwrap().0;
        let (mut inbox, mut packets) = (Inbox::new(room, lettered), Vec::new());
        for piece in pieces {
            writer.write_all(piece).unwrap();
            let mut left = piece.len();
            while left > 0 {
                left -= inbox.fill(&reader).unwrap().0;
                loop {
                    match inbox.next_packet() {
                        Ok(Some(packet)) => packets.push(String::from_utf8(packet.to_vec()).unwrap()),
                        Ok(None) => break,
                        Err(OutOfStep) => return (packets, true),
                    }
                }
            }
        }
        (packets, false)
    }

    #[test]
    fn packets_come_whole_however_the_bytes_arrive() {
        let expected = (["A3x", "B2", "C5abc"].map(str::to_owned).to_vec(), false);
        assert_eq!(cut(16, &[b"A3xB2C5abc"]), expected);
        assert_eq!(cut(16, &[b"A", b"3", b"xB", b"2C5a", b"b", b"c"]), expected);
        assert_eq!(cut(5, &[b"A3xB2C5abc"]), expected, "with room for the longest alone");
    }

    //= PROTOCOL T1: A receiver MUST close a connection when the next two bytes start no packet of this version.
    #[test]
    fn nothing_is_cut_behind_bytes_that_start_no_packet() {
        assert_eq!(cut(16, &[b"A3xa3xB2"]), (vec!["A3x".to_owned()], true));
        assert_eq!(cut(16, &[b"B2A1"]), (vec!["B2".to_owned()], true), "shorter than what tells its length");
        assert_eq!(cut(5, &[b"A6xxxx"]), (vec![], true), "longer than there is room for");
    }

    #[test]
    fn the_end_of_the_stream_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        drop(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let error = Inbox::new(16, lettered).fill(&listener.accept().unwrap().0).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }
}
