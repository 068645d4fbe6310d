//! A film that plays.

use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use braidcast_player::{PlayError, PlayerOptions, Taken};
use pyo3::exceptions::{PyBlockingIOError, PyValueError};
use pyo3::prelude::*;

use crate::arrays::Converters;
use crate::fork::Maker;
use crate::frame::Frame;
use crate::session::{self, Fetching, SessionError};
use crate::wait::{self, SIGNAL_INTERVAL};
use crate::{errors, records};

/// Each decoding thread holds a picture or two; more than this is taken for a mistake.
const THREADS_MAX: i64 = 64;

/// What plays a film; `braidcast.Video` is the face that it shows.
#[pyclass(frozen, module = "braidcast._native")]
pub(crate) struct Player {
    player: Arc<braidcast_player::Player>,
    converters: Arc<Converters>,
    maker: Maker,
    closed: AtomicBool,
}

/// Opens a film, and starts to fetch and decode it.
#[pyfunction]
pub(crate) fn open(
    py: Python<'_>,
    name: String,
    fetching: Fetching,
    ahead: f64,
    buffer_bytes: i64,
    threads: i64,
) -> PyResult<Player> {
    enum Failure {
        Session(SessionError),
        Play(PlayError),
    }
    let rate_max = fetching.rate_max()?;
    let Fetching(profile, _, trace) = fetching;
    let options = PlayerOptions { rate_max, trace, ..options(ahead, buffer_bytes, threads)? };
    let opening = async {
        let control = session::connect(profile.as_deref()).await.map_err(Failure::Session)?;
        braidcast_player::Player::open(control, &name, options).await.map_err(Failure::Play)
    };
    let player = wait::wait_for(py, opening, |_| Ok(()))?.map_err(|failure| match failure {
        Failure::Session(error) => errors::of_session(error),
        Failure::Play(error) => errors::of_play(error),
    })?;
    Ok(Player {
        player: Arc::new(player),
        converters: Arc::new(Converters::default()),
        maker: Maker::this_process(),
        closed: AtomicBool::new(false),
    })
}

#[pymethods]
impl Player {
    /// What the film is.
    #[getter]
    fn film<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        records::film(py, self.player.film())
    }

    /// It was closed.
    #[getter]
    fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// The next picture, or None after the last. Never waits: raises `BlockingIOError` if it would have to.
    fn take(&self) -> PyResult<Option<Frame>> {
        self.check_process()?;
        match self.player.take().map_err(errors::of_play)? {
            Taken::Picture(shown) => Ok(Some(Frame::new(shown, Arc::clone(&self.converters)))),
            Taken::End => Ok(None),
            Taken::Waiting => Err(PyBlockingIOError::new_err("no picture is there yet")),
        }
    }

    /// The next picture, or None after the last. Waits, with the GIL released, and lets Ctrl-C through.
    fn next(&self, py: Python<'_>) -> PyResult<Option<Frame>> {
        self.check_process()?;
        loop {
            match self.player.take().map_err(errors::of_play)? {
                Taken::Picture(shown) => return Ok(Some(Frame::new(shown, Arc::clone(&self.converters)))),
                Taken::End => return Ok(None),
                Taken::Waiting => py.detach(|| self.player.wait(SIGNAL_INTERVAL)),
            }
            py.check_signals()?;
        }
    }

    /// A descriptor that is readable while `take` would not raise `BlockingIOError`. It is the player's own.
    fn fileno(&self) -> RawFd {
        self.player.readiness().as_raw_fd()
    }

    /// Goes to the picture that is shown at a time.
    fn seek(&self, py: Python<'_>, seconds: f64) -> PyResult<()> {
        self.check_process()?;
        if self.closed() {
            return Err(errors::closed());
        }
        py.detach(|| self.player.seek(seconds)).map_err(errors::of_play)
    }

    /// What came from where so far.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.check_process()?;
        records::stats(py, &py.detach(|| self.player.stats()))
    }

    /// Ends the film and all of its threads.
    fn close(&self, py: Python<'_>) {
        if self.maker.is_gone() {
            return;
        }
        self.closed.store(true, Ordering::Relaxed);
        py.detach(|| self.player.close());
    }
}

impl Player {
    fn check_process(&self) -> PyResult<()> {
        self.maker.check(&self.player.film().name)
    }
}

impl Drop for Player {
    fn drop(&mut self) {
        if self.maker.is_gone() {
            // The threads that it would join are in the parent.
            mem::forget(Arc::clone(&self.player));
            return;
        }
        // Python drops its objects with the GIL held, and threads take a moment to end.
        Python::attach(|py| py.detach(|| self.player.close()));
    }
}

fn options(ahead: f64, buffer_bytes: i64, threads: i64) -> PyResult<PlayerOptions> {
    let wrong = |message| Err(PyValueError::new_err(message));
    let Some(ahead_time) = Duration::try_from_secs_f64(ahead).ok().filter(|time| !time.is_zero()) else {
        return wrong(format!("ahead is {ahead}, and must be a number of seconds above 0"));
    };
    let Some(window_bytes) = u64::try_from(buffer_bytes).ok().filter(|&bytes| bytes > 0) else {
        return wrong(format!("buffer_bytes is {buffer_bytes}, and must be above 0"));
    };
    if !(0..=THREADS_MAX).contains(&threads) {
        return wrong(format!("threads is {threads}, and must be from 0 to {THREADS_MAX}"));
    }
    Ok(PlayerOptions { ahead: ahead_time, window_bytes, threads: threads as usize, ..PlayerOptions::default() })
}
