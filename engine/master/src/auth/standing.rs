//! Which accounts there are and which password each has now, in memory: every call's token is held against it.
//!
//! A token tells who its holder was when it was signed. Meanwhile its account may have been removed, or may have got
//! another password, because somebody was to be kept out. So a token also carries the [`Credential`] that it was given
//! for. Nothing of this depends on a clock, and a master that starts anew reads it from the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedRwLockReadGuard, OwnedRwLockWriteGuard, RwLock};

use crate::accounts::UserId;
use crate::auth::tokens::Caller;
use crate::errors::ServiceError;
use crate::sync::lock;

const CREDENTIAL_BYTES: usize = 16;
const CONTEXT: &str = "braidcast 2026-12 the password that an access token was given for";

/// Tells the passwords that an account has had from each other and tells nothing else of them: it is made from the
/// salted hash that the database keeps. Each password that is set has a salt of its own, also where the word is the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Credential(u128);

impl Credential {
    /// Of the Argon2 hash of a password.
    pub(crate) fn of(password_hash: &str) -> Self {
        let derived = blake3::derive_key(CONTEXT, password_hash.as_bytes());
        let mut bytes = [0; CREDENTIAL_BYTES];
        bytes.copy_from_slice(&derived[..CREDENTIAL_BYTES]);
        Self(u128::from_be_bytes(bytes))
    }

    /// As a token carries it: 32 hex digits.
    pub(crate) fn to_hex(self) -> String {
        format!("{:032x}", self.0)
    }

    /// What [`Credential::to_hex`] wrote. Tokens of earlier versions carry nothing, which fits no password.
    pub(crate) fn from_hex(hex: &str) -> Self {
        u128::from_str_radix(hex, 16).map_or_else(|_| Self::default(), Self)
    }
}

/// The accounts that stand.
#[derive(Default)]
pub(crate) struct Standing {
    credentials: Mutex<HashMap<UserId, Credential>>,
    /// Held for writing while an account changes, and for reading while something is done in its name.
    changes: Arc<RwLock<()>>,
}

/// While it lives, no account is removed and none gets another password.
pub(crate) struct Held(#[expect(dead_code, reason = "held for its drop")] OwnedRwLockReadGuard<()>);

/// A change of accounts: there is one at a time.
pub(crate) struct Changing(#[expect(dead_code, reason = "held for its drop")] OwnedRwLockWriteGuard<()>);

impl Standing {
    /// Refuses a caller whose account was removed or got another password since its token was signed.
    pub(crate) fn check(&self, caller: &Caller) -> Result<(), ServiceError> {
        let now = lock(&self.credentials).get(&caller.user).copied();
        if now == Some(caller.credential) { Ok(()) } else { Err(ServiceError::TokenVoid) }
    }

    /// For what a call does at its end: a caller who was put out while the call waited is refused, and one who was not
    /// stays until the change is made.
    pub(crate) async fn hold(&self, caller: &Caller) -> Result<Held, ServiceError> {
        let held = Arc::clone(&self.changes).read_owned().await;
        self.check(caller).map(|()| Held(held))
    }

    /// The same for a change of accounts, of whoever asks for it or of others.
    pub(crate) async fn change(&self, caller: &Caller) -> Result<Changing, ServiceError> {
        let changing = Arc::clone(&self.changes).write_owned().await;
        self.check(caller).map(|()| Changing(changing))
    }

    /// An account is new, or has a new password: tokens for the one before are void.
    pub(crate) fn set(&self, user: UserId, credential: Credential) {
        lock(&self.credentials).insert(user, credential);
    }

    /// An account is gone, and all its tokens are void.
    pub(crate) fn remove(&self, user: UserId) {
        lock(&self.credentials).remove(&user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounts::Role;

    fn caller(user: i64, password_hash: &str) -> Caller {
        let credential = Credential::of(password_hash);
        Caller { user: UserId(user), username: "anna".into(), role: Role::Admin, credential }
    }

    #[test]
    fn a_credential_survives_its_token_and_nothing_else_is_one() {
        let credential = Credential::of("$argon2id$v=19$...");
        assert_eq!(Credential::from_hex(&credential.to_hex()), credential);
        for other in ["", "x", "-1", &"0".repeat(40), &Credential::of("").to_hex()] {
            assert_ne!(Credential::from_hex(other), credential, "{other}");
        }
    }

    #[tokio::test]
    async fn whoever_was_put_out_while_a_call_waited_is_refused_at_its_end() {
        let standing = Standing::default();
        let (anna, ben) = (caller(1, "first"), caller(2, "other"));
        assert!(standing.check(&anna).is_err(), "nobody knows her");
        for one in [&anna, &ben] {
            standing.set(one.user, one.credential);
        }
        let held = standing.hold(&ben).await.expect("he stands");
        assert!(standing.changes.try_write().is_err(), "nobody is put out meanwhile");
        drop(held);
        let changing = standing.change(&ben).await.expect("he stands");
        standing.set(anna.user, Credential::of("second"));
        drop(changing);
        assert!(standing.check(&anna).is_err() && standing.hold(&anna).await.is_err());
        assert!(standing.change(&anna).await.is_err() && standing.change(&ben).await.is_ok());
        standing.remove(ben.user);
        assert!(standing.change(&ben).await.is_err() && standing.check(&caller(1, "second")).is_ok());
    }
}
