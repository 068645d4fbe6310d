//! Pictures between the thread that decodes and whoever takes them: bounded, and with a descriptor to wait on.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use braidcast_client::film::FilmError;
use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::{PICTURES_BYTES_MAX, PlayError, ShownPicture, Taken};

/// See the module's description.
pub(crate) struct Queue {
    state: Mutex<State>,
    /// Told when there is something to take.
    filled: Condvar,
    /// Told when there is room, a seek or the end.
    emptied: Condvar,
    /// Readable exactly while there is something to take.
    readiness: EventFd,
    pictures_max: usize,
}

#[derive(Default)]
struct State {
    pictures: VecDeque<ShownPicture>,
    bytes: usize,
    /// Number of the seek that pictures must belong to.
    seek: u64,
    ended: bool,
    failed: Option<PlayError>,
    closed: bool,
    /// What `readiness` says.
    is_ready: bool,
}

impl State {
    fn has_something(&self) -> bool {
        !self.pictures.is_empty() || self.ended || self.failed.is_some() || self.closed
    }
}

impl Queue {
    /// A queue of at most `pictures_max` pictures.
    ///
    /// # Errors
    /// What the system says if there is no descriptor to be had.
    pub(crate) fn new(pictures_max: usize) -> io::Result<Self> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            readiness: EventFd::from_value_and_flags(0, flags)?,
            pictures_max,
        })
    }

    pub(crate) fn readiness(&self) -> BorrowedFd<'_> {
        self.readiness.as_fd()
    }

    pub(crate) fn len(&self) -> usize {
        self.lock().pictures.len()
    }

    pub(crate) fn take(&self) -> Result<Taken, PlayError> {
        let mut state = self.lock();
        if state.closed {
            return Err(FilmError::Closed.into());
        }
        let taken = if let Some(picture) = state.pictures.pop_front() {
            state.bytes -= picture.picture.bytes();
            self.emptied.notify_all();
            Ok(Taken::Picture(picture))
        } else if let Some(error) = state.failed.take() {
            state.closed = true;
            Err(error)
        } else if state.ended {
            Ok(Taken::End)
        } else {
            Ok(Taken::Waiting)
        };
        self.show(&mut state);
        taken
    }

    pub(crate) fn wait(&self, timeout: Duration) {
        let state = self.lock();
        // Only whether there is something matters, and `take` looks itself.
        let _ = self.filled.wait_timeout_while(state, timeout, |state| !state.has_something());
    }

    /// Forgets all pictures: only those of `seek` are wanted from here on.
    pub(crate) fn start_seek(&self, seek: u64) {
        let mut state = self.lock();
        if seek > state.seek {
            state.seek = seek;
            state.pictures.clear();
            state.bytes = 0;
            state.ended = false;
            self.emptied.notify_all();
            self.show(&mut state);
        }
    }

    /// Forgets all pictures: they are not what they should be.
    pub(crate) fn drop_pictures(&self) {
        let mut state = self.lock();
        state.pictures.clear();
        state.bytes = 0;
        self.emptied.notify_all();
        self.show(&mut state);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.pictures.clear();
        state.bytes = 0;
        self.emptied.notify_all();
        self.show(&mut state);
    }

    /// Puts a picture in when there is room; no if it is not wanted any more.
    pub(crate) fn put(&self, seek: u64, picture: ShownPicture) -> bool {
        let bytes = picture.picture.bytes();
        let is_wanted = |state: &State| state.seek == seek && !state.closed;
        let is_full = |state: &mut State| {
            let full = state.pictures.len() >= self.pictures_max || state.bytes + bytes > PICTURES_BYTES_MAX;
            full && !state.pictures.is_empty() && is_wanted(state)
        };
        let waited = self.emptied.wait_while(self.lock(), is_full);
        let mut state = waited.unwrap_or_else(|poisoned| poisoned.into_inner());
        if !is_wanted(&state) {
            return false;
        }
        state.pictures.push_back(picture);
        state.bytes += bytes;
        self.show(&mut state);
        true
    }

    /// The last picture was put in.
    pub(crate) fn end(&self, seek: u64) {
        let mut state = self.lock();
        state.ended = state.seek == seek;
        self.show(&mut state);
    }

    /// Nothing comes any more.
    pub(crate) fn fail(&self, error: PlayError) {
        let mut state = self.lock();
        state.failed = Some(error);
        self.show(&mut state);
    }

    /// Waits until pictures of `seek` are not wanted any more; no if none are.
    pub(crate) fn wait_for_seek(&self, seek: u64) -> bool {
        let waited = self.emptied.wait_while(self.lock(), |state| state.seek == seek && !state.closed);
        !waited.unwrap_or_else(|poisoned| poisoned.into_inner()).closed
    }

    /// Makes the descriptor and those who wait see how things stand.
    fn show(&self, state: &mut State) {
        let has_something = state.has_something();
        if has_something {
            self.filled.notify_all();
        }
        if has_something == state.is_ready {
            return;
        }
        state.is_ready = has_something;
        // An eventfd takes and gives a single count at once.
        let _ = if has_something { self.readiness.write(1).map(drop) } else { self.readiness.read().map(drop) };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}
