//! Locks that outlive a panic, and changes that outlive their call.
//!
//! Every structure behind a lock is valid between any two statements that change it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::errors::ServiceError;

/// Takes the lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Does what changes both the database and what is in memory, also if the caller hangs up meanwhile: its call is dropped
/// then, and the two would say different things until the next start.
pub(crate) async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, ServiceError>> + Send + 'static,
) -> Result<T, ServiceError> {
    tokio::spawn(work).await?
}
