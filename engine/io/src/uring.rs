//! Sending a whole outbox through io_uring: one system call starts, and as a rule ends, all of its trains.

use std::future::{Future, poll_fn};
use std::io;
use std::net::UdpSocket;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;

use tokio_uring::net::UdpSocket as RingSocket;

use crate::limits::TRAINS_MAX;
use crate::train::Train;

/// A train and how its send ended.
pub(crate) type Sent = (Train, io::Result<()>);

/// The ring of the thread's tokio-uring runtime, for one socket.
///
/// The socket is non-blocking (receiving needs it), so the kernel ends every send while it is being submitted, with
/// `EAGAIN` if the buffer is full. Waiting for the sends of one pass therefore costs nothing, and keeps them bounded.
pub(crate) struct Ring {
    socket: Rc<RingSocket>,
    begun: Vec<Pin<Box<dyn Future<Output = Sent>>>>,
}

impl Ring {
    /// A ring that sends through `socket`. Must be called within a tokio-uring runtime, and used there alone.
    pub(crate) fn new(socket: UdpSocket) -> Self {
        Self { socket: Rc::new(RingSocket::from_std(socket)), begun: Vec::with_capacity(TRAINS_MAX) }
    }

    /// Begins to send `train`. The train, and the regions that it pins, stay with the kernel until
    /// [`Ring::finish`] gives them back.
    pub(crate) fn begin(&mut self, mut train: Train) {
        let socket = Rc::clone(&self.socket);
        self.begun.push(Box::pin(async move {
            let to = train.to();
            let (result, parts, _) = socket.sendmsg(train.take_parts(), Some(to), None::<Vec<u8>>).await;
            train.put_parts(parts);
            (train, result.map(drop))
        }));
    }

    /// Waits for all sends that were begun, and appends how they ended to `sent`.
    pub(crate) async fn finish(&mut self, sent: &mut Vec<Sent>) {
        let begun = &mut self.begun;
        poll_fn(|cx| {
            begun.retain_mut(|send| match send.as_mut().poll(cx) {
                Poll::Ready(end) => {
                    sent.push(end);
                    false
                }
                Poll::Pending => true,
            });
            if begun.is_empty() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}
