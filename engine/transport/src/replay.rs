//! Which counters were seen: a window that slides with the highest (RFC 4303, section 3.4.3).

use crate::limits::REPLAY_WINDOW;

const WORDS: usize = REPLAY_WINDOW as usize / 64;

/// The last [`REPLAY_WINDOW`] counters.
pub(crate) struct ReplayWindow {
    highest: u64,
    /// Bit `c % REPLAY_WINDOW` stands for counter `c`.
    seen: [u64; WORDS],
}

impl ReplayWindow {
    /// Nothing seen; counters start at 1.
    pub(crate) fn new() -> Self {
        Self { highest: 0, seen: [0; WORDS] }
    }

    /// Marks `counter`, or says no because it was seen or is too old. Call only once its packet is authentic.
    pub(crate) fn accept(&mut self, counter: u64) -> bool {
        if !self.is_new(counter) {
            return false;
        }
        if counter > self.highest {
            let steps = (counter - self.highest).min(u64::from(REPLAY_WINDOW));
            for passed in (counter - steps + 1)..=counter {
                self.clear(passed);
            }
            self.highest = counter;
        }
        let (word, bit) = place(counter);
        self.seen[word] |= bit;
        true
    }

    /// The highest counter seen; 0 before the first.
    pub(crate) fn highest(&self) -> u64 {
        self.highest
    }

    /// Bit i: whether `highest - 1 - i` was seen.
    pub(crate) fn bitmap(&self) -> u64 {
        (0..64_u64.min(self.highest.saturating_sub(1)))
            .filter(|i| self.contains(self.highest - 1 - i))
            .fold(0, |map, i| map | 1 << i)
    }

    fn is_new(&self, counter: u64) -> bool {
        if counter == 0 || counter <= self.highest.saturating_sub(u64::from(REPLAY_WINDOW)) {
            return false;
        }
        counter > self.highest || !self.contains(counter)
    }

    fn contains(&self, counter: u64) -> bool {
        let (word, bit) = place(counter);
        self.seen[word] & bit != 0
    }

    fn clear(&mut self, counter: u64) {
        let (word, bit) = place(counter);
        self.seen[word] &= !bit;
    }
}

fn place(counter: u64) -> (usize, u64) {
    let index = counter % u64::from(REPLAY_WINDOW);
    ((index / 64) as usize, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_passes_once() {
        let mut window = ReplayWindow::new();
        assert!(!window.accept(0));
        for counter in [1, 5, 3, 1_000, 4] {
            assert!(window.accept(counter), "{counter} is new");
            assert!(!window.accept(counter), "{counter} was seen");
        }
    }

    #[test]
    fn the_oldest_in_the_window_passes_and_the_one_before_it_does_not() {
        let mut window = ReplayWindow::new();
        assert!(window.accept(5_000));
        assert!(window.accept(5_000 - u64::from(REPLAY_WINDOW) + 1));
        assert!(!window.accept(5_000 - u64::from(REPLAY_WINDOW)));
    }

    #[test]
    fn a_leap_forgets_what_fell_out_of_the_window() {
        let mut window = ReplayWindow::new();
        for counter in 1..=2_000 {
            assert!(window.accept(counter));
        }
        assert!(window.accept(1_000_000));
        assert!(window.accept(999_500), "bits of the old window must not linger");
    }

    #[test]
    fn bitmap_shows_the_gaps_below_the_highest() {
        let mut window = ReplayWindow::new();
        for counter in [1, 2, 4, 5] {
            window.accept(counter);
        }
        assert_eq!((window.highest(), window.bitmap()), (5, 0b1101));
    }
}
