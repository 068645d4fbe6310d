//! Which source gave which part of a file when, in as few pieces as a picture can show.

use std::collections::BTreeMap;

use braidcast_client::trace::Extent;

/// Pieces at most.
pub(super) const BARS_MAX: usize = 2_000;
/// Pieces of neighbouring extents become one if no more time than this lies between them, in seconds, at first.
const GAP_MIN: f64 = 0.1;
/// Neighbours at the last stage: half of all extents that there can be.
const SHIFT_MAX: u32 = 31;

/// Consecutive extents that came at about the same time.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Bar {
    /// The first extent.
    pub(super) first: u32,
    /// The last.
    pub(super) last: u32,
    /// When its first chunk came, in seconds.
    pub(super) since: f64,
    /// When its last chunk came.
    pub(super) until: f64,
    /// Sources, and how many chunks each gave: in their order in the file, or by source where extents were put together.
    pub(super) origins: Vec<(u8, u64)>,
}

/// All pieces. They become larger when there would be too many.
pub(super) struct Bars {
    bars: Vec<Bar>,
    /// Extents whose numbers are the same but for so many bits may be put together.
    shift: u32,
    gap: f64,
}

impl Bars {
    pub(super) fn new() -> Self {
        Self { bars: Vec::new(), shift: 0, gap: GAP_MIN }
    }

    pub(super) fn all(&self) -> &[Bar] {
        &self.bars
    }

    pub(super) fn add(&mut self, extent: &Extent) {
        let origins = extent.origins.iter().map(|&(source, chunks)| (source, chunks.into())).collect();
        let Extent { extent, since, t, .. } = *extent;
        self.bars.push(Bar { first: extent, last: extent, since: since.min(t), until: t, origins });
        if self.bars.len() > BARS_MAX {
            // Those that came since the last time are still as small as they came.
            self.merge();
            while self.bars.len() > BARS_MAX / 2 {
                self.shift = (self.shift + 1).min(SHIFT_MAX);
                self.gap *= 2.0;
                self.merge();
            }
        }
    }

    /// Puts together what may be.
    fn merge(&mut self) {
        let group = |bar: &Bar| bar.first >> self.shift;
        self.bars.sort_by(|a, b| group(a).cmp(&group(b)).then(a.since.total_cmp(&b.since)));
        let mut merged: Vec<Bar> = Vec::with_capacity(self.bars.len());
        for bar in self.bars.drain(..) {
            match merged.last_mut() {
                Some(last) if group(last) == group(&bar) && bar.since <= last.until + self.gap => last.absorb(&bar),
                _ => merged.push(bar),
            }
        }
        self.bars = merged;
    }
}

impl Bar {
    /// Sources, and how many chunks each gave in all.
    pub(super) fn shares(&self) -> Vec<(u8, u64)> {
        shares(&self.origins)
    }

    fn absorb(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.since = self.since.min(other.since);
        self.until = self.until.max(other.until);
        self.origins.extend(&other.origins);
        self.origins = self.shares();
    }
}

fn shares(origins: &[(u8, u64)]) -> Vec<(u8, u64)> {
    let mut sums = BTreeMap::new();
    for &(source, chunks) in origins {
        *sums.entry(source).or_insert(0) += chunks;
    }
    sums.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extent(extent: u32, t: f64, origins: Vec<(u8, u16)>) -> Extent {
        Extent { t, since: t - 0.05, stream: 0, extent, bytes: 307_200, origins }
    }

    #[test]
    fn a_few_extents_are_kept_as_they_came() {
        let mut bars = Bars::new();
        bars.add(&extent(7, 1.0, vec![(1, 100), (0, 56), (1, 100)]));
        let [bar] = bars.all() else { panic!("one extent is one bar") };
        assert_eq!((bar.first, bar.last, bar.until), (7, 7, 1.0));
        assert_eq!(bar.origins, [(1, 100), (0, 56), (1, 100)]);
        assert_eq!(bar.shares(), [(0, 56), (1, 200)]);
    }

    #[test]
    fn many_extents_become_few_bars_that_still_hold_every_chunk() {
        let mut bars = Bars::new();
        for number in 0..50_000 {
            bars.add(&extent(number, f64::from(number) * 0.003, vec![(0, 200), (1, 56)]));
            assert!(bars.all().len() <= BARS_MAX);
        }
        let chunks: u64 = bars.all().iter().flat_map(|bar| &bar.origins).map(|(_, chunks)| chunks).sum();
        assert_eq!(chunks, 50_000 * 256);
        let long = bars.all().iter().map(|bar| bar.until - bar.since).fold(0.0, f64::max);
        assert!(long < 1.0, "neighbours in the file are neighbours in time here: {long} s");
    }

    #[test]
    fn what_is_fetched_again_much_later_stays_apart() {
        let mut bars = Bars::new();
        for number in 0..1_500 {
            bars.add(&extent(number % 100, 10.0 * f64::from(number / 100) + 0.001, vec![(0, 256)]));
        }
        assert_eq!(bars.all().len(), 1_500);
        for number in 0..1_500 {
            bars.add(&extent(number % 100, 200.0 + 10.0 * f64::from(number / 100), vec![(0, 256)]));
        }
        assert!(bars.all().len() > 100 && bars.all().iter().all(|bar| bar.until - bar.since < 5.0));
    }
}
