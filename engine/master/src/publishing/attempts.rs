//! Publishing attempts that have begun: their ids and keys are drawn, their packs are still to come.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use braidcast_media::{AssetId, ContentKey, PackLayout};

use crate::accounts::UserId;
use crate::errors::ServiceError;
use crate::film::Film;
use crate::limits::{ATTEMPT_LIFETIME, ATTEMPTS_MAX, ATTEMPTS_PER_USER_MAX};
use crate::names::VideoName;

/// What was agreed at BeginPublish.
#[derive(Debug)]
pub(crate) struct Attempt {
    pub(crate) user: UserId,
    pub(crate) name: VideoName,
    pub(crate) layout: PackLayout,
    /// Nothing for plain bytes.
    pub(crate) film: Option<Arc<Film>>,
    pub(crate) content_key: ContentKey,
    pub(crate) replace: bool,
    pub(crate) replicas: u32,
    pub(crate) began: Instant,
}

/// The attempts under way. Reads no clock.
#[derive(Debug, Default)]
pub(crate) struct Attempts(HashMap<AssetId, Attempt>);

impl Attempts {
    /// Remembers an attempt until it is taken or stale.
    pub(crate) fn begin(&mut self, now: Instant, asset: AssetId, attempt: Attempt) -> Result<(), ServiceError> {
        self.0.retain(|_, attempt| is_fresh(attempt, now));
        if self.0.len() >= ATTEMPTS_MAX {
            return Err(ServiceError::TooMany { what: "publishing attempts", limit: ATTEMPTS_MAX });
        }
        if self.0.values().filter(|other| other.user == attempt.user).count() >= ATTEMPTS_PER_USER_MAX {
            return Err(ServiceError::TooMany { what: "publishing attempts of yours", limit: ATTEMPTS_PER_USER_MAX });
        }
        self.0.insert(asset, attempt);
        Ok(())
    }

    /// Takes an attempt for its upload. There is one upload for each, whatever comes of it: sealing other bytes under
    /// the same id and key would repeat a nonce.
    pub(crate) fn take(&mut self, now: Instant, asset: AssetId, user: UserId) -> Result<Attempt, ServiceError> {
        match self.0.get(&asset) {
            Some(attempt) if attempt.user == user && is_fresh(attempt, now) => self.0.remove(&asset),
            _ => None,
        }
        .ok_or(ServiceError::AttemptUnknown(asset))
    }
}

fn is_fresh(attempt: &Attempt, now: Instant) -> bool {
    now < attempt.began + ATTEMPT_LIFETIME
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const USER: UserId = UserId(1);

    fn attempt(began: Instant) -> Attempt {
        attempt_of(USER, began)
    }

    fn attempt_of(user: UserId, began: Instant) -> Attempt {
        Attempt {
            user,
            name: VideoName::parse("film").expect("good name"),
            layout: PackLayout::of_file(1).expect("short"),
            film: None,
            content_key: ContentKey::new([0; 16]),
            replace: false,
            replicas: 0,
            began,
        }
    }

    #[test]
    fn an_attempt_is_taken_once_by_its_user() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        attempts.begin(now, AssetId(1), attempt(now)).expect("room");
        assert!(attempts.take(now, AssetId(2), USER).is_err());
        assert!(attempts.take(now, AssetId(1), UserId(2)).is_err());
        assert!(attempts.take(now, AssetId(1), USER).is_ok());
        assert!(attempts.take(now, AssetId(1), USER).is_err());
    }

    #[test]
    fn an_attempt_goes_stale_after_an_hour() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for asset in [AssetId(1), AssetId(2)] {
            attempts.begin(now, asset, attempt(now)).expect("room");
        }
        let nearly = now + ATTEMPT_LIFETIME - Duration::from_nanos(1);
        assert!(attempts.take(nearly, AssetId(1), USER).is_ok());
        assert!(attempts.take(now + ATTEMPT_LIFETIME, AssetId(2), USER).is_err());
    }

    #[test]
    fn one_user_takes_a_share_of_the_attempts_and_no_more() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..ATTEMPTS_PER_USER_MAX as u64 {
            attempts.begin(now, AssetId(n), attempt(now)).expect("room");
        }
        let beyond = attempts.begin(now, AssetId(u64::MAX), attempt(now));
        assert!(matches!(beyond, Err(ServiceError::TooMany { limit: ATTEMPTS_PER_USER_MAX, .. })));
        attempts.begin(now, AssetId(u64::MAX), attempt_of(UserId(2), now)).expect("room for another user");
    }

    #[test]
    fn attempts_are_bounded_and_stale_ones_make_room() {
        let (mut attempts, now) = (Attempts::default(), Instant::now());
        for n in 0..ATTEMPTS_MAX {
            let user = UserId((n / ATTEMPTS_PER_USER_MAX) as i64);
            attempts.begin(now, AssetId(n as u64), attempt_of(user, now)).expect("room");
        }
        assert!(matches!(
            attempts.begin(now, AssetId(u64::MAX), attempt(now)),
            Err(ServiceError::TooMany { limit: ATTEMPTS_MAX, .. })
        ));
        let later = now + ATTEMPT_LIFETIME;
        attempts.begin(later, AssetId(u64::MAX), attempt(later)).expect("stale ones went");
    }
}
