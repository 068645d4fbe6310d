//! One diagram over time: its frame, and what is drawn into it.

use super::scale::Scale;
use super::svg::{Anchor, Area, Canvas, Path};

/// A diagram. Time runs to the right.
pub(super) struct Panel {
    pub(super) area: Area,
    pub(super) x: Scale,
    pub(super) y: Scale,
}

/// Space between a frame and its labels.
const LABEL_GAP: f64 = 6.0;
/// From a frame's top up to its title.
const TITLE_GAP: f64 = 8.0;
/// Pixels for each label, about.
const LABEL_WIDTH: f64 = 90.0;
const LABEL_HEIGHT: f64 = 32.0;

impl Panel {
    /// A diagram of the time from 0 to `t_end`, in seconds, and of values from `from` to `to`.
    pub(super) fn new(area: Area, t_end: f64, from: f64, to: f64) -> Self {
        let x = Scale::new(0.0, t_end, area.x, area.right());
        Self { area, x, y: Scale::new(from, to, area.bottom(), area.y) }
    }

    /// Its ground, grid and labels.
    pub(super) fn frame(&self, canvas: &mut Canvas, title: &str) {
        let Area { x, y, height, .. } = self.area;
        canvas.rect(self.area, "ground", "");
        canvas.text(x, y - TITLE_GAP, Anchor::Start, "title", title);
        for (t, label) in self.x.ticks(self.area.width / LABEL_WIDTH) {
            let place = self.x.at(t);
            canvas.line((place, y), (place, self.area.bottom()), "grid");
            canvas.text(place, self.area.bottom() + 14.0, Anchor::Middle, "label", &label);
        }
        for (value, label) in self.y.ticks((height / LABEL_HEIGHT).max(2.0)) {
            let place = self.y.at(value);
            canvas.line((x, place), (self.area.right(), place), "grid");
            canvas.text(x - LABEL_GAP, place + 4.0, Anchor::End, "label", &label);
        }
    }

    /// A level in each step of time, from `below` up to `above`, which are changed to be the ground of the next.
    pub(super) fn stack(&self, below: &mut [f64], values: &[f64], step: f64) -> Path {
        let above: Vec<f64> =
            below.iter().enumerate().map(|(n, base)| base + values.get(n).copied().unwrap_or(0.0)).collect();
        let mut path = Path::default();
        if values.iter().any(|value| *value > 0.0) {
            let there = self.stairs(&above, step);
            let back = self.stairs(below, step);
            path.move_to(there[0].0, there[0].1);
            there.iter().skip(1).chain(back.iter().rev()).for_each(|&(x, y)| path.line_to(x, y));
            path.close();
        }
        below.copy_from_slice(&above);
        path
    }

    /// Corners of a line that keeps each value for a step.
    fn stairs(&self, values: &[f64], step: f64) -> Vec<(f64, f64)> {
        let mut corners: Vec<(f64, f64)> = Vec::new();
        for (n, &value) in values.iter().enumerate() {
            let (left, right) = (self.x_within(n as f64 * step), self.x_within((n + 1) as f64 * step));
            let y = self.y.at(value);
            match corners.last_mut() {
                Some(last) if (last.1 - y).abs() < 0.05 => last.0 = right,
                _ => corners.extend([(left, y), (right, y)]),
            }
        }
        corners
    }

    /// A line through the middle of each step that has a value.
    pub(super) fn line(&self, values: &[Option<f64>], step: f64) -> Path {
        let mut path = Path::default();
        let mut goes_on = false;
        for (n, value) in values.iter().enumerate() {
            let Some(value) = value else {
                goes_on = false;
                continue;
            };
            let (x, y) = (self.x_within((n as f64 + 0.5) * step), self.y.at(*value));
            if goes_on {
                path.line_to(x, y);
            } else {
                path.move_to(x, y);
                // Alone between two gaps it is seen, too.
                path.line_to(x + 0.5, y);
            }
            goes_on = true;
        }
        path
    }

    /// Where a time lies; the last step may reach beyond the end.
    fn x_within(&self, t: f64) -> f64 {
        self.x.at(t.min(self.x.to))
    }
}
