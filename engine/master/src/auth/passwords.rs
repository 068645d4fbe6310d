//! Passwords: argon2id with its crate's defaults (19 MiB, two passes; OWASP's choice), away from the threads that
//! serve calls, and in turns.

use std::num::NonZero;
use std::sync::{Arc, Mutex};
use std::thread;

use argon2::password_hash::{self, PasswordHasher, PasswordVerifier};
use argon2::{Argon2, PasswordHash};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use crate::accounts::UserId;
use crate::auth::turns::{Class, QueueBounds, Turns};
use crate::errors::ServiceError;
use crate::limits::{HASH_QUEUE_MAX, HASH_QUEUES_MAX, HASH_WAIT, HASHES_AT_ONCE_MAX};
use crate::net::Network;
use crate::random;
use crate::sync::lock;

/// Hashes and verifies passwords, a few at a time.
pub(crate) struct Passwords {
    line: Arc<Mutex<Line>>,
    /// Of a password that nobody knows: verified in place of the hash that an unknown user has not, so that both
    /// answers take the same time.
    nobody: String,
}

/// Who waits for a password, each with a queue of its own.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Queue {
    /// A caller with a valid token.
    Caller(UserId),
    /// An address that has signed in to this account before: one queue for all addresses of the account, so that whoever
    /// has one account fills one queue.
    SignedIn(String),
    /// Somebody who has not signed in to the account before, known by the address alone.
    Address(Network),
}

impl Queue {
    fn class(&self) -> Class {
        match self {
            Self::Caller(_) | Self::SignedIn(..) => Class::Trusted,
            Self::Address(_) => Class::Stranger,
        }
    }
}

struct Line {
    turns: Turns<Queue, oneshot::Sender<Turn>>,
    free: usize,
}

/// Leave to hash one password; the next in line has it when this is dropped.
pub(crate) struct Turn(Option<Arc<Mutex<Line>>>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            lock(&line).free += 1;
            serve(&line);
        }
    }
}

/// Gives free turns to those that wait.
fn serve(line: &Arc<Mutex<Line>>) {
    loop {
        let mut locked = lock(line);
        if locked.free == 0 {
            return;
        }
        let Some(waiter) = locked.turns.pop() else { return };
        locked.free -= 1;
        drop(locked);
        // Whoever has given up gives the turn back by dropping it, and this must not happen in that drop again and
        // again, once for each of them.
        if let Err(mut unused) = waiter.send(Turn(Some(Arc::clone(line)))) {
            unused.0 = None;
            lock(line).free += 1;
        }
    }
}

impl Passwords {
    pub(crate) async fn new() -> Result<Self, ServiceError> {
        let bounds = QueueBounds { per_key: HASH_QUEUE_MAX, all: HASH_QUEUES_MAX };
        let cores = thread::available_parallelism().map_or(1, NonZero::get);
        let line = Line { turns: Turns::new(bounds), free: hashes_at_once(cores) };
        let nobody = in_background(|| hash(random::draw_hex::<16>().as_bytes())).await?;
        Ok(Self { line: Arc::new(Mutex::new(line)), nobody })
    }

    /// Waits in `queue` for a turn to hash.
    pub(crate) async fn turn(&self, queue: Queue) -> Result<Turn, ServiceError> {
        let (sender, turn) = oneshot::channel();
        {
            let mut line = lock(&self.line);
            line.turns.retain(|waiter| !waiter.is_closed());
            // Whoever leaves, this one or another, learns it from its sender.
            drop(line.turns.push(queue.class(), queue, sender));
        }
        serve(&self.line);
        match tokio::time::timeout(HASH_WAIT, turn).await {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(_)) | Err(_) => Err(ServiceError::LoginsBusy),
        }
    }

    /// The hash to keep of a password, as a PHC string.
    pub(crate) async fn hash(&self, queue: Queue, password: Zeroizing<String>) -> Result<String, ServiceError> {
        let turn = self.turn(queue).await?;
        in_background(move || {
            let _turn = turn;
            hash(password.as_bytes())
        })
        .await
    }

    /// Whether `password` is the one that `kept` was made from. With no hash it is wrong, after the same work. Gives the
    /// turn back, so that the next one begins when this one was judged.
    pub(crate) async fn verify(
        &self,
        turn: Turn,
        password: Zeroizing<String>,
        kept: Option<String>,
    ) -> Result<(bool, Turn), ServiceError> {
        let known = kept.is_some();
        let kept = kept.unwrap_or_else(|| self.nobody.clone());
        // The turn goes with the work, which is done even if the caller has gone.
        in_background(move || Ok((verify(password.as_bytes(), &kept)? && known, turn))).await
    }
}

/// All cores but one: refreshing, lists and heartbeats go on while passwords are hashed.
fn hashes_at_once(cores: usize) -> usize {
    cores.saturating_sub(1).clamp(1, HASHES_AT_ONCE_MAX)
}

async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, password_hash::Error> + Send + 'static,
) -> Result<T, ServiceError> {
    tokio::task::spawn_blocking(work).await?.map_err(ServiceError::Hashing)
}

fn hash(password: &[u8]) -> Result<String, password_hash::Error> {
    let hash: PasswordHash = Argon2::default().hash_password_with_salt(password, &random::draw::<16>())?;
    Ok(hash.to_string())
}

fn verify(password: &[u8], kept: &str) -> Result<bool, password_hash::Error> {
    let kept = PasswordHash::new(kept)?;
    match Argon2::default().verify_password(password, &kept) {
        Ok(()) => Ok(true),
        Err(password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn password(text: &str) -> Zeroizing<String> {
        Zeroizing::new(text.to_owned())
    }

    fn stranger() -> Queue {
        Queue::Address(Network::V4(Ipv4Addr::LOCALHOST))
    }

    #[tokio::test]
    async fn only_the_right_password_fits_and_an_unknown_user_has_none() {
        let passwords = Passwords::new().await.expect("ready");
        let kept = passwords.hash(stranger(), password("correct horse")).await.expect("hashes");
        assert!(kept.starts_with("$argon2id$"), "{kept}");
        let verify = async |text, kept| {
            let turn = passwords.turn(stranger()).await.expect("a turn");
            passwords.verify(turn, password(text), kept).await.expect("verifies").0
        };
        assert!(verify("correct horse", Some(kept.clone())).await);
        assert!(!verify("correct horsf", Some(kept)).await);
        assert!(!verify("correct horse", None).await);
    }

    #[tokio::test]
    async fn a_turn_that_ends_is_the_next_ones_and_those_who_gave_up_are_passed_over() {
        let passwords = Arc::new(Passwords::new().await.expect("ready"));
        let free = lock(&passwords.line).free;
        let mut turns = Vec::new();
        for _ in 0..free {
            turns.push(passwords.turn(stranger()).await.expect("a turn"));
        }
        let wait = || {
            let passwords = Arc::clone(&passwords);
            tokio::spawn(async move { passwords.turn(stranger()).await })
        };
        let (gone, waits) = (wait(), wait());
        tokio::task::yield_now().await;
        gone.abort();
        drop(turns.pop());
        drop(waits.await.expect("ends").expect("a turn"));
        drop(turns);
        assert_eq!(lock(&passwords.line).free, free);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let passwords = Arc::new(Passwords::new().await.expect("ready"));
        let asked = lock(&passwords.line).free + HASH_QUEUE_MAX + 1;
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..asked {
            let passwords = Arc::clone(&passwords);
            calls.spawn(async move {
                let turn = passwords.turn(stranger()).await;
                if turn.is_ok() {
                    std::future::pending::<()>().await;
                }
                turn.err()
            });
        }
        let first = calls.join_next().await.expect("calls").expect("ends");
        assert!(matches!(first, Some(ServiceError::LoginsBusy)), "{first:?}");
    }

    #[test]
    fn one_core_is_left_to_calls() {
        assert_eq!([1, 2, 4, 64].map(hashes_at_once), [1, 1, 3, HASHES_AT_ONCE_MAX]);
    }
}
