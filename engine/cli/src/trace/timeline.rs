//! Amounts over time, in as few steps as a picture can show.

/// Steps at most.
pub(super) const BINS_MAX: usize = 2_000;
/// Width of a step at first, in seconds: what a trace samples.
const WIDTH_MIN: f64 = 0.1;

/// Rows of amounts over the same steps of time. The steps double in width when there would be too many.
pub(super) struct Timeline {
    width: f64,
    rows: Vec<Vec<f64>>,
}

/// A row of a [`Timeline`].
#[derive(Clone, Copy)]
pub(super) struct Row(usize);

impl Timeline {
    pub(super) fn new() -> Self {
        Self { width: WIDTH_MIN, rows: Vec::new() }
    }

    /// A row more, of nothing.
    pub(super) fn add_row(&mut self) -> Row {
        self.rows.push(Vec::new());
        Row(self.rows.len() - 1)
    }

    /// Width of a step in seconds.
    pub(super) fn width(&self) -> f64 {
        self.width
    }

    /// The amount in each step of a row; steps at the end may be missing.
    pub(super) fn row(&self, row: Row) -> &[f64] {
        &self.rows[row.0]
    }

    /// Spreads `amount` evenly over the time from `from` to `to`, in seconds.
    pub(super) fn add(&mut self, row: Row, from: f64, to: f64, amount: f64) {
        let (from, to) = (from.max(0.0), to.max(0.0));
        while to / self.width >= BINS_MAX as f64 {
            self.coarsen();
        }
        let (width, row) = (self.width, &mut self.rows[row.0]);
        let place = |t: f64| (t / width) as usize;
        if row.len() <= place(to) {
            row.resize(place(to) + 1, 0.0);
        }
        if from >= to {
            row[place(to)] += amount;
            return;
        }
        for (step, sum) in row.iter_mut().enumerate().take(place(to) + 1).skip(place(from)) {
            let (begin, end) = (step as f64 * width, (step + 1) as f64 * width);
            *sum += amount * (end.min(to) - begin.max(from)).max(0.0) / (to - from);
        }
    }

    fn coarsen(&mut self) {
        self.width *= 2.0;
        for row in &mut self.rows {
            *row = row.chunks(2).map(|pair| pair.iter().sum()).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_amount_is_spread_over_its_time() {
        let mut timeline = Timeline::new();
        let row = timeline.add_row();
        timeline.add(row, 0.05, 0.25, 8.0);
        timeline.add(row, 0.25, 0.25, 1.0);
        let close = timeline.row(row).iter().zip([2.0, 4.0, 3.0]).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(close && timeline.row(row).len() == 3, "{:?}", timeline.row(row));
    }

    #[test]
    fn however_long_it_lasts_the_steps_are_few_and_nothing_is_lost() {
        let mut timeline = Timeline::new();
        let (row, other) = (timeline.add_row(), timeline.add_row());
        for second in 0..100_000 {
            timeline.add(row, f64::from(second), f64::from(second + 1), 3.0);
            assert!(timeline.row(row).len() <= BINS_MAX);
        }
        timeline.add(other, 1e9, 1e9, 5.0);
        assert!((timeline.row(row).iter().sum::<f64>() - 300_000.0).abs() < 1e-3);
        assert_eq!(timeline.row(other).iter().sum::<f64>(), 5.0);
        assert!(timeline.row(other).len() <= BINS_MAX);
    }
}
