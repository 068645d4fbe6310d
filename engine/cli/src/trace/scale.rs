//! From values to places on the paper, and the values worth a label.

/// A line from one value to another, drawn from one place to another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scale {
    pub(super) from: f64,
    pub(super) to: f64,
    start: f64,
    end: f64,
}

impl Scale {
    /// From the value `from` at `start` to the value `to` at `end`.
    pub(super) fn new(from: f64, to: f64, start: f64, end: f64) -> Self {
        Self { from, to: if to > from { to } else { from + 1.0 }, start, end }
    }

    /// Where a value lies.
    pub(super) fn at(self, value: f64) -> f64 {
        self.start + (value - self.from) / (self.to - self.from) * (self.end - self.start)
    }

    /// Round values on it, about `count` of them, as they are written.
    pub(super) fn ticks(self, count: f64) -> Vec<(f64, String)> {
        let step = round_step((self.to - self.from) / count);
        let decimals = (-step.log10().floor()).max(0.0) as usize;
        let first = (self.from / step).ceil() as i64;
        let last = (self.to / step + 1e-9).floor() as i64;
        (first..=last).map(|n| (n as f64 * step, format!("{:.decimals$}", n as f64 * step))).collect()
    }
}

/// The next of 1, 2 and 5 times a power of ten.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step * (1.0 - 1e-9)).unwrap_or(10.0);
    factor * power
}

/// A unit, and how much of the base unit it is.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Unit {
    pub(super) name: &'static str,
    pub(super) size: f64,
}

const BYTES: [Unit; 5] = [
    Unit { name: "TB", size: 1e12 },
    Unit { name: "GB", size: 1e9 },
    Unit { name: "MB", size: 1e6 },
    Unit { name: "kB", size: 1e3 },
    Unit { name: "B", size: 1.0 },
];
const BIT_RATES: [Unit; 4] = [
    Unit { name: "Gbit/s", size: 1e9 / 8.0 },
    Unit { name: "Mbit/s", size: 1e6 / 8.0 },
    Unit { name: "kbit/s", size: 1e3 / 8.0 },
    Unit { name: "bit/s", size: 1.0 / 8.0 },
];

/// The unit in which so many bytes are a number of few digits.
pub(super) fn byte_unit(bytes: f64) -> Unit {
    largest(&BYTES, bytes)
}

/// The same for bytes per second, told in bits.
pub(super) fn rate_unit(bytes_per_s: f64) -> Unit {
    largest(&BIT_RATES, bytes_per_s)
}

/// So many bytes, in words.
pub(super) fn in_bytes(bytes: f64) -> String {
    in_unit(bytes, byte_unit(bytes))
}

/// So many bytes per second, in words.
pub(super) fn in_bits_per_s(bytes_per_s: f64) -> String {
    in_unit(bytes_per_s, rate_unit(bytes_per_s))
}

fn largest(units: &[Unit], value: f64) -> Unit {
    units.iter().copied().find(|unit| value >= unit.size).unwrap_or(units[units.len() - 1])
}

fn in_unit(value: f64, unit: Unit) -> String {
    let number = value / unit.size;
    if unit.size <= 1.0 || number >= 100.0 {
        format!("{number:.0} {}", unit.name)
    } else {
        format!("{number:.1} {}", unit.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_round_and_within_the_scale() {
        let labels = |from, to| -> Vec<String> {
            Scale::new(from, to, 0.0, 1.0).ticks(5.0).into_iter().map(|(_, label)| label).collect()
        };
        assert_eq!(labels(0.0, 1.0), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(3.0, 103.0), ["20", "40", "60", "80", "100"]);
        assert_eq!(labels(0.0, 0.03), ["0.00", "0.01", "0.02", "0.03"]);
        assert_eq!(labels(7.0, 7.0).first().map(String::as_str), Some("7.0"), "no length is taken for one of 1");
    }

    #[test]
    fn values_are_told_in_units_of_few_digits() {
        assert_eq!(in_bytes(1_234_567.0), "1.2 MB");
        assert_eq!(in_bytes(999.0), "999 B");
        assert_eq!(in_bytes(0.0), "0 B");
        assert_eq!(in_bits_per_s(12_500_000.0), "100 Mbit/s");
    }
}
