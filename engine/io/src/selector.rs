//! Waiting for several client sockets at once.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use polling::{Event, Events, Poller};

use crate::client::ClientSocket;
use crate::sys::Watch;
use crate::tcp::ClientStream;

/// What a [`Selector`] can wait for.
#[derive(Debug, Clone)]
pub enum Watched {
    /// A UDP socket.
    Socket(Arc<ClientSocket>),
    /// A TCP stream.
    Stream(Arc<ClientStream>),
}

impl From<Arc<ClientSocket>> for Watched {
    fn from(socket: Arc<ClientSocket>) -> Self {
        Self::Socket(socket)
    }
}

impl From<Arc<ClientStream>> for Watched {
    fn from(stream: Arc<ClientStream>) -> Self {
        Self::Stream(stream)
    }
}

/// Waits until one of its sockets has input, or a stream room for what it has not sent yet. It shares the sockets, so none is closed while it is watched.
pub struct Selector {
    poller: Arc<Poller>,
    events: Events,
    watched: HashMap<usize, Watch<Watched>>,
}

/// Ends a [`Selector::wait`] from another thread; cheap to clone.
#[derive(Debug, Clone)]
pub struct SelectorWaker(Arc<Poller>);

impl Selector {
    /// A selector without sockets.
    ///
    /// # Errors
    /// No descriptor is left.
    pub fn new() -> io::Result<Self> {
        Ok(Self { poller: Arc::new(Poller::new()?), events: Events::new(), watched: HashMap::new() })
    }

    /// Watches `socket` under `key`, which is any number but `usize::MAX`.
    ///
    /// # Errors
    /// - `AlreadyExists`: the key or the socket is watched already.
    /// - `InvalidInput`: the key is `usize::MAX`.
    pub fn add(&mut self, key: usize, socket: impl Into<Watched>) -> io::Result<()> {
        if self.watched.contains_key(&key) {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("key {key} is in use")));
        }
        let watch = Watch::new(&self.poller, socket.into(), Event::readable(key))?;
        self.watched.insert(key, watch);
        Ok(())
    }

    /// Stops watching the socket of `key`, and gives it back.
    pub fn remove(&mut self, key: usize) -> Option<Watched> {
        self.watched.remove(&key).map(|watch| watch.socket().clone())
    }

    /// Waits until sockets have input or an error to tell, a stream can send more, `timeout` is over (none: for ever) or a waker calls; then
    /// calls `on_ready` with the key of each such socket. Input that is not taken is told of again.
    ///
    /// # Errors
    /// Those of `epoll_wait`, none of which comes in daily use.
    pub fn wait(&mut self, timeout: Option<Duration>, mut on_ready: impl FnMut(usize)) -> io::Result<()> {
        for watch in self.watched.values_mut() {
            if let Watched::Stream(stream) = watch.socket() {
                let writable = stream.has_unsent();
                watch.set_interest(true, writable)?;
            }
        }
        self.events.clear();
        self.poller.wait(&mut self.events, timeout)?;
        for event in self.events.iter() {
            on_ready(event.key);
        }
        Ok(())
    }

    /// A waker for other threads.
    pub fn waker(&self) -> SelectorWaker {
        SelectorWaker(Arc::clone(&self.poller))
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Selector").field("sockets", &self.watched.len()).finish_non_exhaustive()
    }
}

impl SelectorWaker {
    /// Ends the present wait, or the next one.
    pub fn wake(&self) {
        // The write to an eventfd fails only when it is full of wakes already.
        let _ = self.0.notify();
    }
}
