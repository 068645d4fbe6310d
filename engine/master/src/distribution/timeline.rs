//! Seconds of a film and the units of time that its index counts in.

use braidcast_proto::v1;

/// Relative error of seconds that were computed from units and of units computed back from them: two roundings each of
/// 2^-53, twice over for a client that takes its time from a difference.
const ROUNDING: f64 = 1.0 / (1_u64 << 50) as f64;

/// Where a track stands in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TimeLine {
    /// Seconds per unit; both positive.
    numerator: i32,
    denominator: i32,
    /// Units: the first picture, and the end of the last.
    start: i64,
    end: i64,
}

impl TimeLine {
    /// Of a track that was checked.
    pub(crate) fn of(track: &v1::Track) -> Self {
        let v1::Rational { numerator, denominator } = track.time_base.unwrap_or_default();
        Self { numerator, denominator, start: track.start, end: track.end }
    }

    /// The last unit of time that has begun `seconds` after the first picture; seconds that were computed from a unit
    /// give that unit, whichever way they were rounded. Times out of reach are cut to what 64 bits hold.
    pub(crate) fn at(&self, seconds: f64) -> i64 {
        let units = seconds * f64::from(self.denominator) / f64::from(self.numerator);
        let slack = (units.abs() + (self.start as f64).abs()) * ROUNDING;
        // `as` takes what is beyond 64 bits to their end.
        self.start.saturating_add((units + slack).floor() as i64)
    }

    /// Whether nothing is shown at `seconds` any more. The first picture is always there.
    pub(crate) fn is_over_at(&self, seconds: f64) -> bool {
        let at = self.at(seconds);
        at > self.start && at >= self.end
    }

    /// Length in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        let units = self.end as f64 - self.start as f64;
        units * f64::from(self.numerator) / f64::from(self.denominator)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn line(numerator: i32, denominator: i32, start: i64, end: i64) -> TimeLine {
        TimeLine { numerator, denominator, start, end }
    }

    #[test]
    fn a_time_is_the_unit_that_has_begun() {
        let ntsc = line(1_001, 30_000, 10, 310);
        for (seconds, unit) in [(0.0, 10), (0.03, 10), (0.033_36, 10), (0.033_37, 11), (1.001, 40), (10.0, 309)] {
            assert_eq!(ntsc.at(seconds), unit, "{seconds} s");
        }
        assert!((ntsc.seconds() - 10.01).abs() < 1e-9);
        assert!(!ntsc.is_over_at(10.009) && ntsc.is_over_at(10.01));
    }

    #[test]
    fn times_out_of_reach_are_cut() {
        let any = line(1, i32::MAX, i64::MAX - 5, i64::MAX);
        assert_eq!(any.at(f64::INFINITY), i64::MAX);
        assert_eq!(any.at(f64::MAX), i64::MAX);
        assert!(line(i32::MAX, 1, i64::MIN, i64::MAX).seconds().is_finite());
    }

    #[test]
    fn a_film_of_one_picture_without_a_length_has_a_beginning() {
        assert!(!line(1, 25, 7, 7).is_over_at(0.0));
        assert!(line(1, 25, 7, 7).is_over_at(0.04));
    }

    proptest! {
        #[test]
        fn seconds_of_a_unit_give_that_unit(
            numerator in 1..=i32::MAX, denominator in 1..=i32::MAX,
            start in -(1_i64 << 46)..1 << 46, units in 0_i64..1 << 46,
        ) {
            let line = line(numerator, denominator, start, start + units);
            let (n, d) = (f64::from(numerator), f64::from(denominator));
            let directly = units as f64 * n / d;
            let by_base = units as f64 * (n / d);
            let by_difference = (start + units) as f64 * n / d - start as f64 * n / d;
            for seconds in [directly, by_base, by_difference.max(0.0)] {
                prop_assert_eq!(line.at(seconds), start + units);
            }
        }

        #[test]
        fn no_time_is_too_wild(
            numerator in 1..=i32::MAX, denominator in 1..=i32::MAX, start: i64, end: i64, seconds in 0.0..=f64::MAX,
        ) {
            let line = line(numerator, denominator, start, end.max(start));
            prop_assert!(line.at(seconds) >= start);
            prop_assert!(line.seconds() >= 0.0);
        }
    }
}
