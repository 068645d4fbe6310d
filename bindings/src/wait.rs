//! The process's tokio runtime, and waiting for something in it on behalf of Python.

use std::future::Future;
use std::io;
use std::mem;
use std::pin::pin;
use std::sync::Mutex;
use std::time::Duration;

use pyo3::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::errors;
use crate::fork::Maker;

/// Python's signal handlers run at least as often as this while a call waits.
pub(crate) const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);
/// Calls to masters are short and few: films play on threads of their own.
const RUNTIME_THREADS: usize = 2;
/// Threads that read and write profiles and downloads.
const BLOCKING_THREADS_MAX: usize = 8;
/// Such a thread ends after so long without work.
const BLOCKING_THREAD_IDLE: Duration = Duration::from_secs(1);

struct Shared {
    maker: Maker,
    runtime: Runtime,
}

/// Locked only with the GIL held, and without waiting: no other thread forks in the meantime.
static RUNTIME: Mutex<Option<Shared>> = Mutex::new(None);

/// The runtime of this process, made at the first call.
pub(crate) fn runtime(_gil: Python<'_>) -> PyResult<Handle> {
    let mut shared = RUNTIME.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(inherited) = shared.take_if(|shared| shared.maker.is_gone()) {
        // Its threads are in the parent; ending it would wait for them.
        mem::forget(inherited);
    }
    let made = match &mut *shared {
        Some(made) => made,
        none => none.insert(Shared { maker: Maker::this_process(), runtime: build().map_err(errors::of_system)? }),
    };
    Ok(made.runtime.handle().clone())
}

fn build() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(RUNTIME_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_keep_alive(BLOCKING_THREAD_IDLE)
        .thread_name("braidcast")
        .enable_all()
        .build()
}

/// Waits for `work` with the GIL released. `between` is called at least every [`SIGNAL_INTERVAL`], with the GIL, until
/// it is done.
///
/// # Errors
/// What a signal handler or `between` raises; `work` is dropped then.
pub(crate) fn wait_for<T: Send>(
    py: Python<'_>,
    work: impl Future<Output = T> + Send,
    mut between: impl FnMut(Python<'_>) -> PyResult<()>,
) -> PyResult<T> {
    let runtime = runtime(py)?;
    let mut work = pin!(work);
    loop {
        let slice = async { tokio::time::timeout(SIGNAL_INTERVAL, work.as_mut()).await };
        if let Ok(done) = py.detach(|| runtime.block_on(slice)) {
            return Ok(done);
        }
        py.check_signals()?;
        between(py)?;
    }
}
