//! How often passwords may be tried. Reads no clock.
//!
//! ```text
//! this address, this account   after `lock_after` wrong passwords in a row each further one waits: 1 s, 2 s, 4 s,
//!                              up to `lock_for`
//! this address                 a bucket of tokens, unless it has signed in to this account before
//! this account                 a bucket of tokens, unless this address has signed in to it before
//! ```
//!
//! So whoever has signed in to an account from an address is held up by wrong passwords for that account from that
//! address, and by nothing that anybody else does. An attempt counts as wrong from its beginning, so attempts side by
//! side all count; a right password gives back what its attempt took. Names count whether there is such an account or
//! not: a refusal tells nobody which names exist.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::auth::bucket::{Bucket, Filling};
use crate::auth::recent::Recent;
use crate::limits::{
    ACCOUNT_ATTEMPTS_MAX, ACCOUNT_REFILL, ADDRESS_ATTEMPTS_MAX, ADDRESS_REFILL, DELAY_DOUBLINGS_MAX, DELAY_MIN,
    RUN_LIFETIMES, SIGNED_IN_MAX, THROTTLED_MAX,
};
use crate::net::Network;

const ADDRESS: Filling = Filling { tokens_max: ADDRESS_ATTEMPTS_MAX, every: ADDRESS_REFILL };
const ACCOUNT: Filling = Filling { tokens_max: ACCOUNT_ATTEMPTS_MAX, every: ACCOUNT_REFILL };

/// An address and the name of an account.
pub(crate) type Pair = (Network, String);

/// What was tried, by whom.
#[derive(Debug)]
pub(crate) struct Throttle {
    lock_after: u32,
    lock_for: Duration,
    addresses: Recent<Network, Bucket>,
    accounts: Recent<String, Bucket>,
    runs: Recent<Pair, Run>,
    /// Addresses that have signed in to an account, by password or by a refresh token. Strangers cannot add to these.
    signed_in: Recent<Pair, ()>,
}

/// Wrong passwords in a row.
#[derive(Debug)]
struct Run {
    wrong: u32,
    last: Instant,
}

/// An attempt that may be made. It has been counted as a wrong one.
#[derive(Debug)]
#[must_use = "a right password gives back what this has taken"]
pub(crate) struct Attempt {
    pair: Pair,
    /// Whether it took a token of its address and its account.
    paid: bool,
}

/// Why an attempt may not be made now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Held {
    /// Wrong passwords in a row from this address for this account.
    Pair(Duration),
    /// Wrong passwords from this address.
    Address(Duration),
    /// Wrong passwords for this account from addresses that never signed in to it.
    Account(Duration),
}

impl Throttle {
    pub(crate) fn new(lock_after: u32, lock_for: Duration) -> Self {
        Self {
            lock_after,
            lock_for,
            addresses: Recent::new(THROTTLED_MAX),
            accounts: Recent::new(THROTTLED_MAX),
            runs: Recent::new(THROTTLED_MAX),
            signed_in: Recent::new(SIGNED_IN_MAX),
        }
    }

    /// Whether this address has signed in to this account before.
    pub(crate) fn has_signed_in(&self, pair: &Pair) -> bool {
        self.signed_in.get(pair).is_some()
    }

    /// Whether an attempt would be held up now.
    pub(crate) fn check(&self, now: Instant, pair: &Pair) -> Result<(), Held> {
        if let Some(left) = self.runs.get(pair).and_then(|run| self.delay_left(now, run)) {
            return Err(Held::Pair(left));
        }
        if self.has_signed_in(pair) {
            return Ok(());
        }
        let (network, name) = pair;
        if let Some(left) = self.addresses.get(network).and_then(|bucket| bucket.wait(now, ADDRESS)) {
            return Err(Held::Address(left));
        }
        match self.accounts.get(name).and_then(|bucket| bucket.wait(now, ACCOUNT)) {
            Some(left) => Err(Held::Account(left)),
            None => Ok(()),
        }
    }

    /// Begins an attempt, which counts as wrong from now on.
    pub(crate) fn begin(&mut self, now: Instant, pair: Pair) -> Result<Attempt, Held> {
        self.check(now, &pair)?;
        let paid = !self.has_signed_in(&pair);
        if paid {
            self.addresses.get_or(&pair.0, || Bucket::full(now, ADDRESS)).take(now, ADDRESS);
            self.accounts.get_or(&pair.1, || Bucket::full(now, ACCOUNT)).take(now, ACCOUNT);
        }
        let forgotten = self.lock_for.saturating_mul(RUN_LIFETIMES);
        let run = self.runs.get_or(&pair, || Run { wrong: 0, last: now });
        if now.saturating_duration_since(run.last) >= forgotten {
            run.wrong = 0;
        }
        run.wrong = run.wrong.saturating_add(1);
        run.last = now;
        Ok(Attempt { pair, paid })
    }

    /// The password of an attempt was right.
    pub(crate) fn on_right(&mut self, now: Instant, attempt: Attempt) {
        let Attempt { pair, paid } = attempt;
        self.runs.remove(&pair);
        if paid {
            self.addresses.get_or(&pair.0, || Bucket::full(now, ADDRESS)).give_back(ADDRESS);
            self.accounts.get_or(&pair.1, || Bucket::full(now, ACCOUNT)).give_back(ACCOUNT);
        }
        self.on_signed_in(&pair);
    }

    /// An address has shown in another way that it is signed in to an account. So a master that was started anew
    /// learns it without a password.
    pub(crate) fn on_signed_in(&mut self, pair: &Pair) {
        self.signed_in.get_or(pair, || ());
    }

    /// An account has a new password: what was tried for the old one no longer counts.
    pub(crate) fn on_new_password(&mut self, name: &str) {
        self.runs.retain(|(_, of), _| of != name);
        self.accounts.remove(&name.to_owned());
    }

    /// An account is gone: whoever gets the name next has never signed in.
    pub(crate) fn on_removed(&mut self, name: &str) {
        self.on_new_password(name);
        self.signed_in.retain(|(_, of), ()| of != name);
    }

    /// Names for which attempts from some address are held up now.
    pub(crate) fn held_names(&self, now: Instant) -> HashSet<&str> {
        let held = self.runs.iter().filter(|(_, run)| self.delay_left(now, run).is_some());
        held.map(|((_, name), _)| name.as_str()).collect()
    }

    fn delay_left(&self, now: Instant, run: &Run) -> Option<Duration> {
        let beyond = run.wrong.checked_sub(self.lock_after)?;
        let delay = DELAY_MIN * (1 << beyond.min(DELAY_DOUBLINGS_MAX));
        let left = delay.min(self.lock_for).saturating_sub(now.saturating_duration_since(run.last));
        (!left.is_zero()).then_some(left)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOCK_AFTER: u32 = 5;
    const LOCK_FOR: Duration = Duration::from_secs(60);

    fn throttle() -> Throttle {
        Throttle::new(LOCK_AFTER, LOCK_FOR)
    }

    fn pair(address: u32, name: &str) -> Pair {
        (Network::V4(Ipv4Addr::from_bits(address)), name.to_owned())
    }

    /// Makes an attempt with a wrong password.
    fn wrong(throttle: &mut Throttle, now: Instant, address: u32, name: &str) -> Result<(), Held> {
        throttle.begin(now, pair(address, name)).map(drop)
    }

    fn right(throttle: &mut Throttle, now: Instant, address: u32, name: &str) -> Result<(), Held> {
        let attempt = throttle.begin(now, pair(address, name))?;
        throttle.on_right(now, attempt);
        Ok(())
    }

    #[test]
    fn after_some_wrong_passwords_each_further_one_waits_twice_as_long() {
        let (mut throttle, mut now) = (throttle(), Instant::now());
        for _ in 0..LOCK_AFTER {
            wrong(&mut throttle, now, 1, "anna").expect("is tried");
        }
        for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
            let delay = Duration::from_secs(seconds);
            assert_eq!(wrong(&mut throttle, now, 1, "anna"), Err(Held::Pair(delay)));
            let nearly = now + delay - Duration::from_nanos(1);
            assert_eq!(wrong(&mut throttle, nearly, 1, "anna"), Err(Held::Pair(Duration::from_nanos(1))));
            now += delay;
            wrong(&mut throttle, now, 1, "anna").expect("is tried");
        }
        assert_eq!(wrong(&mut throttle, now, 2, "anna"), Ok(()), "another address is another matter");
        assert_eq!(wrong(&mut throttle, now, 1, "ben"), Ok(()), "and so is another account");
        let forgotten = now + LOCK_FOR * RUN_LIFETIMES;
        for _ in 0..LOCK_AFTER {
            wrong(&mut throttle, forgotten, 1, "anna").expect("the run is over");
        }
    }

    #[test]
    fn attempts_side_by_side_all_count_before_any_was_found_wrong() {
        let (mut throttle, now) = (throttle(), Instant::now());
        let begun: Vec<_> = (0..240).filter_map(|_| throttle.begin(now, pair(1, "anna")).ok()).collect();
        assert_eq!(begun.len(), LOCK_AFTER as usize);
        for attempt in begun {
            throttle.on_right(now, attempt);
        }
        assert_eq!(throttle.check(now, &pair(1, "anna")), Ok(()), "right ones are given back");
    }

    #[test]
    fn nobody_holds_up_an_account_for_an_address_that_has_signed_in_to_it() {
        let (mut throttle, now) = (throttle(), Instant::now());
        right(&mut throttle, now, 1, "admin").expect("signs in");
        for address in 2..1_000 {
            let _ = wrong(&mut throttle, now, address, "admin");
        }
        for n in 0..1_000 {
            let _ = wrong(&mut throttle, now, 1, &format!("invented{n}"));
        }
        assert!(matches!(wrong(&mut throttle, now, 1, "new"), Err(Held::Address(_))));
        assert!(matches!(wrong(&mut throttle, now, 5_000, "admin"), Err(Held::Account(_))));
        right(&mut throttle, now, 1, "admin").expect("is held up by nobody");
        let mut fresh = self::throttle();
        fresh.on_signed_in(&pair(1, "admin"));
        assert!(fresh.has_signed_in(&pair(1, "admin")), "a refresh token shows it, too");
    }

    #[test]
    fn a_school_signs_in_from_one_address_and_a_guesser_runs_dry_there() {
        let (mut throttle, now) = (throttle(), Instant::now());
        for n in 0..10_000 {
            right(&mut throttle, now, 1, &format!("pupil{n}")).expect("right passwords take nothing");
        }
        for n in 0..ADDRESS_ATTEMPTS_MAX {
            wrong(&mut throttle, now, 1, &format!("invented{n}")).expect("the bucket is full");
        }
        assert_eq!(wrong(&mut throttle, now, 1, "one more"), Err(Held::Address(ADDRESS_REFILL)));
        wrong(&mut throttle, now + ADDRESS_REFILL, 1, "one more").expect("a token has come");
    }

    #[test]
    fn many_addresses_together_run_dry_at_one_account() {
        let (mut throttle, now) = (throttle(), Instant::now());
        let tried = (0..1_000).filter(|address| wrong(&mut throttle, now, *address, "anna").is_ok()).count();
        assert_eq!(tried, ACCOUNT_ATTEMPTS_MAX as usize);
        throttle.on_new_password("anna");
        assert_eq!(wrong(&mut throttle, now, 1_001, "anna"), Ok(()));
    }

    #[test]
    fn held_names_are_told_and_forgotten_with_a_new_password() {
        let (mut throttle, now) = (throttle(), Instant::now());
        for _ in 0..LOCK_AFTER {
            wrong(&mut throttle, now, 1, "anna").expect("is tried");
        }
        assert_eq!(throttle.held_names(now), HashSet::from(["anna"]));
        assert!(throttle.held_names(now + DELAY_MIN).is_empty());
        throttle.on_new_password("anna");
        assert!(throttle.held_names(now).is_empty());
        right(&mut throttle, now, 1, "anna").expect("signs in");
        throttle.on_removed("anna");
        assert!(!throttle.has_signed_in(&pair(1, "anna")));
    }

    #[test]
    fn the_longest_settings_do_not_overflow() {
        let mut throttle = Throttle::new(1, Duration::MAX);
        let now = Instant::now();
        for n in 0..100 {
            let later = now + Duration::from_hours(n * 10_000);
            let _ = wrong(&mut throttle, later, 1, "anna");
        }
        throttle.runs.get_or(&pair(1, "anna"), || Run { wrong: 0, last: now }).wrong = u32::MAX;
        assert!(throttle.check(now, &pair(1, "anna")).is_err());
    }
}
