//! The picture of a trace: legend, and one diagram below the other over the same time.

use super::panel::Panel;
use super::scale::{byte_unit, in_bits_per_s, in_bytes, rate_unit};
use super::story::{Failure, Source, Stall, Story};
use super::svg::{Anchor, Area, Canvas, Path};
use super::timeline::Row;

const WIDTH: f64 = 1_000.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 24.0;
/// Baseline of the first line of text.
const TOP: f64 = 32.0;
const LINE: f64 = 18.0;
/// Between two diagrams: labels of the one, title of the other.
const GAP: f64 = 48.0;
const LEGEND_COLUMNS: usize = 2;
/// Characters of a server's name, and of the reason of a failure, that are shown.
const NAME_CHARS_MAX: usize = 24;
const REASON_CHARS_MAX: usize = 90;
/// Failures that are told in words.
const FAILURES_TOLD_MAX: usize = 6;
/// A piece of the file is at least this wide and high, in pixels, so that its colours can be told apart.
const BAR_WIDTH_MIN: f64 = 2.0;
const BAR_HEIGHT_MIN: f64 = 9.0;
/// Below this height, in pixels, the runs of a piece are put together by source.
const RUN_HEIGHT_MIN: f64 = 0.6;
/// Above the highest value.
const HEADROOM: f64 = 1.08;

/// Tones that stand out from white and from black, and from each other for most people.
const COLOURS: [&str; 10] =
    ["#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#76b7b2", "#9c755f", "#edc948", "#ff9da7", "#86bc86", "#8e8ea0"];
const WINDOW_COLOURS: [&str; 3] = ["#7aa6c2", "#c2a67a", "#8aae7e"];

const STYLE: &str = "
text{font:12px system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif;fill:#333}
.paper{fill:#fff}.ground{fill:#f6f7f9}.grid{stroke:#dde1e6;stroke-width:1}
.head{font-size:17px;font-weight:600}.title{font-weight:600}.label,.note{font-size:11px;fill:#667}
.area{opacity:.9}.rtt{stroke-width:1.6;stroke-linejoin:round}.least{stroke-width:1;stroke-dasharray:2 3;opacity:.8}
.most{stroke:#667;stroke-width:1;stroke-dasharray:5 4}
.stall{fill:#d33;opacity:.16}.wait{fill:#888;opacity:.18}
.failure{stroke:#d33;stroke-width:1.2;stroke-dasharray:3 3}.cross{stroke-width:2.2}
.seek{stroke:#85c;stroke-width:1.2;stroke-dasharray:1 3}
@media(prefers-color-scheme:dark){text{fill:#ddd}.paper{fill:#14161a}.ground{fill:#1d2026}.grid{stroke:#333842}
.label,.note{fill:#99a}.most{stroke:#99a}.stall{opacity:.3}}
";

/// Draws a story. `title` names it.
pub(super) fn draw(story: &Story, title: &str) -> String {
    let heads = headlines(story);
    let legend_rows = story.sources.len().div_ceil(LEGEND_COLUMNS);
    let first_panel = TOP + LINE * (heads.len() + legend_rows + 1) as f64 + 30.0;
    let panels = Panels::new(story, first_panel);
    let height = panels.bottom() + 44.0;
    let mut canvas = Canvas::new(WIDTH, height, &format!("Trace {title}"), STYLE);
    canvas.rect(Area { x: 0.0, y: 0.0, width: WIDTH, height }, "paper", "");
    canvas.text(LEFT, TOP, Anchor::Start, "head", title);
    let mut y = TOP;
    for (class, text) in &heads {
        y += LINE;
        canvas.text(LEFT, y, Anchor::Start, class, text);
    }
    draw_legend(&mut canvas, story, y + LINE + 6.0);
    panels.draw(&mut canvas, story);
    canvas.text(WIDTH - RIGHT, panels.bottom() + 32.0, Anchor::End, "label", "seconds since the start");
    canvas.finish()
}

/// What there is to say in words, with the class of each line.
fn headlines(story: &Story) -> Vec<(&'static str, String)> {
    let bytes: u64 = story.sources.iter().map(|source| source.bytes).sum();
    let mut summary = format!(
        "{} in {:.2} s ({}) from {}",
        in_bytes(bytes as f64),
        story.t_end,
        in_bits_per_s(bytes as f64 / story.t_end.max(1e-6)),
        counted(story.sources.len(), "source"),
    );
    let stalls = story.stalls.kept.iter().filter(|stall| !stall.is_wait());
    let stalled: f64 = stalls.clone().map(|stall| stall.until.unwrap_or(story.t_end) - stall.since).sum();
    summary += &match stalls.count() {
        0 => ", no stall".to_owned(),
        count => format!(", {} of {stalled:.2} s in all", counted(count, "stall")),
    };
    if story.failures.count > 0 {
        summary += &format!(", {}", counted(story.failures.count, "failure"));
    }
    if story.seeks.count > 0 {
        summary += &format!(", {}", counted(story.seeks.count, "seek"));
    }
    let mut lines = vec![("text", summary)];
    if !story.is_whole {
        lines.push(("note", "The trace has no end: the program was killed, still runs, or its disk was full.".into()));
    }
    if story.skipped > 0 {
        lines
            .push(("note", format!("{} were left out: the disk was slow.", counted(story.skipped as usize, "record"))));
    }
    lines.extend(failures_in_words(story).into_iter().map(|line| ("note", format!("\u{2715} {line}"))));
    lines
}

/// A line for each source and reason, up to a number.
fn failures_in_words(story: &Story) -> Vec<String> {
    let mut told: Vec<(&Failure, usize)> = Vec::new();
    for failure in &story.failures.kept {
        match told.iter_mut().find(|(first, _)| (first.source, &first.reason) == (failure.source, &failure.reason)) {
            Some((_, times)) => *times += 1,
            None => told.push((failure, 1)),
        }
    }
    let line = |&(failure, times): &(&Failure, usize)| match times {
        1 => failure_in_words(story, failure),
        _ => format!("{} ({times} times)", failure_in_words(story, failure)),
    };
    let mut lines: Vec<String> = told.iter().take(FAILURES_TOLD_MAX).map(line).collect();
    if told.len() > FAILURES_TOLD_MAX {
        lines.push(format!("and {} more", told.len() - FAILURES_TOLD_MAX));
    }
    lines
}

fn failure_in_words(story: &Story, failure: &Failure) -> String {
    let name = story.sources.get(usize::from(failure.source)).map_or_else(String::new, Source::name);
    format!("{:.2} s: source {} {name}: {}", failure.t, failure.source, cut(&failure.reason, REASON_CHARS_MAX))
}

fn draw_legend(canvas: &mut Canvas, story: &Story, top: f64) {
    let total: u64 = story.sources.iter().map(|source| source.bytes).sum();
    let column = (WIDTH - LEFT - RIGHT) / LEGEND_COLUMNS as f64;
    for (number, source) in story.sources.iter().enumerate() {
        let x = LEFT + column * (number % LEGEND_COLUMNS) as f64;
        let y = top + LINE * (number / LEGEND_COLUMNS) as f64;
        let mut swatch = Path::default();
        swatch.rect(Area { x, y: y - 10.0, width: 12.0, height: 12.0 });
        canvas.path(&swatch, "swatch", &colour(number), true, "");
        let share = 100.0 * source.bytes as f64 / (total as f64).max(1.0);
        let mut text = format!("{number} {}: {}, {share:.0}%", source.name(), in_bytes(source.bytes as f64));
        if source.lost > 0 {
            text += &format!(", {} lost", counted(source.lost as usize, "chunk"));
        }
        canvas.text(x + 18.0, y, Anchor::Start, "text", &text);
    }
}

/// The diagrams, from the top down.
struct Panels {
    file: Panel,
    rates: Panel,
    /// None where nothing was lost.
    losses: Option<Panel>,
    rtt: Panel,
    window: Panel,
}

impl Panels {
    fn new(story: &Story, top: f64) -> Self {
        let mut y = top;
        let mut panel = |height: f64, from: f64, to: f64| {
            let area = Area { x: LEFT, y, width: WIDTH - LEFT - RIGHT, height };
            y += height + GAP;
            Panel::new(area, story.t_end.max(1e-3), from, to)
        };
        let (first, last) = file_range(story);
        let unit = byte_unit(last);
        let rate = peak(story, |source| source.bytes_row);
        let lost = peak(story, |source| source.lost_row);
        let rtt = story.sources.iter().flat_map(|source| source.rtt.means(&story.timeline)).flatten();
        let rtt = rtt.fold(1.0, f64::max);
        Self {
            file: panel(280.0, first / unit.size, last / unit.size),
            rates: panel(150.0, 0.0, HEADROOM * rate / rate_unit(rate).size),
            losses: (lost > 0.0).then(|| panel(60.0, 0.0, HEADROOM * lost)),
            rtt: panel(120.0, 0.0, HEADROOM * rtt),
            window: panel(100.0, 0.0, HEADROOM * story.header.extents_max as f64),
        }
    }

    fn all(&self) -> impl Iterator<Item = &Panel> {
        [&self.file, &self.rates].into_iter().chain(&self.losses).chain([&self.rtt, &self.window])
    }

    fn bottom(&self) -> f64 {
        self.window.area.bottom()
    }

    fn draw(&self, canvas: &mut Canvas, story: &Story) {
        let unit = byte_unit(file_range(story).1);
        self.file.frame(canvas, &format!("Place in the file, {}: which source gave what when", unit.name));
        self.draw_rates(canvas, story);
        if let Some(losses) = &self.losses {
            losses.frame(canvas, "Lost chunks per second, by source");
            draw_stack(canvas, losses, story, |source| source.lost_row, 1.0);
        }
        self.rtt.frame(canvas, "Round trip, ms (dotted: of the empty path)");
        self.draw_window(canvas, story);
        self.all().for_each(|panel| draw_stalls(canvas, panel, story));
        draw_file(canvas, &self.file, story, unit.size);
        self.draw_rtt(canvas, story);
        self.all().for_each(|panel| draw_marks(canvas, panel, story));
        draw_crosses(canvas, &self.file, story);
    }

    fn draw_rates(&self, canvas: &mut Canvas, story: &Story) {
        let unit = rate_unit(peak(story, |source| source.bytes_row));
        self.rates.frame(canvas, &format!("Payload, {}, by source", unit.name));
        draw_stack(canvas, &self.rates, story, |source| source.bytes_row, unit.size);
    }

    fn draw_rtt(&self, canvas: &mut Canvas, story: &Story) {
        let step = story.timeline.width();
        for (number, source) in story.sources.iter().enumerate() {
            let title = format!("source {number} {}", source.name());
            let least = self.rtt.line(&source.min_rtt.means(&story.timeline), step);
            canvas.path(&least, "least", &colour(number), false, &title);
            let rtt = self.rtt.line(&source.rtt.means(&story.timeline), step);
            canvas.path(&rtt, "rtt", &colour(number), false, &title);
        }
    }

    fn draw_window(&self, canvas: &mut Canvas, story: &Story) {
        let unit = in_bytes(story.header.extent_bytes as f64);
        self.window.frame(canvas, &format!("Window, extents of {unit}"));
        let window = &story.window;
        let kinds =
            [("under way", window.under_way), ("being checked", window.checking), ("with the player", window.lent)];
        let levels = kinds.map(|(_, gauge)| {
            gauge.means(&story.timeline).into_iter().map(Option::unwrap_or_default).collect::<Vec<f64>>()
        });
        let mut below = vec![0.0; levels.iter().map(Vec::len).max().unwrap_or(0)];
        let mut x = LEFT + 210.0;
        let y = self.window.area.y - 8.0;
        for (((name, _), values), colour) in kinds.iter().zip(&levels).zip(WINDOW_COLOURS) {
            let path = self.window.stack(&mut below, values, story.timeline.width());
            canvas.path(&path, "area", colour, true, name);
            let mut swatch = Path::default();
            swatch.rect(Area { x, y: y - 9.0, width: 10.0, height: 10.0 });
            canvas.path(&swatch, "swatch", colour, true, "");
            canvas.text(x + 15.0, y, Anchor::Start, "label", name);
            x += 110.0;
        }
        canvas.text(x, y, Anchor::Start, "label", "dashed: most");
        let most = self.window.y.at(story.header.extents_max as f64);
        canvas.line((LEFT, most), (self.window.area.right(), most), "most");
    }
}

/// Bytes of the file of which anything came: from, to.
fn file_range(story: &Story) -> (f64, f64) {
    let extent = story.header.extent_bytes as f64;
    let first = story.bars.all().iter().map(|bar| bar.first).min().unwrap_or(0);
    let last = story.bars.all().iter().map(|bar| f64::from(bar.last) + 1.0).fold(1.0, f64::max);
    (f64::from(first) * extent, (last * extent).min((story.header.stream_bytes as f64).max(1.0)))
}

/// The highest rate of all sources together, per second.
fn peak(story: &Story, row: impl Fn(&Source) -> Row) -> f64 {
    let rates: Vec<Vec<f64>> = story.sources.iter().map(|source| story.rates(row(source))).collect();
    let steps = rates.iter().map(Vec::len).max().unwrap_or(0);
    let sum = |step: usize| rates.iter().filter_map(|rates| rates.get(step)).sum::<f64>();
    (0..steps).map(sum).fold(0.0, f64::max)
}

/// Amounts per second of all sources, one above the other, in units of `unit`.
fn draw_stack(canvas: &mut Canvas, panel: &Panel, story: &Story, row: impl Fn(&Source) -> Row, unit: f64) {
    let steps = story.sources.iter().map(|source| story.timeline.row(row(source)).len()).max().unwrap_or(0);
    let mut below = vec![0.0; steps];
    for (number, source) in story.sources.iter().enumerate() {
        let levels: Vec<f64> = story.rates(row(source)).into_iter().map(|rate| rate / unit).collect();
        let path = panel.stack(&mut below, &levels, story.timeline.width());
        canvas.path(&path, "area", &colour(number), true, &format!("source {number} {}", source.name()));
    }
}

/// One path for each source: all that it gave.
fn draw_file(canvas: &mut Canvas, panel: &Panel, story: &Story, unit: f64) {
    let mut paths: Vec<Path> = story.sources.iter().map(|_| Path::default()).collect();
    let extent = story.header.extent_bytes as f64;
    for bar in story.bars.all() {
        let (x, until) = (panel.x.at(bar.since), panel.x.at(bar.until));
        let width = (until - x).max(BAR_WIDTH_MIN);
        let end = ((f64::from(bar.last) + 1.0) * extent).min(story.header.stream_bytes as f64);
        let true_bottom = panel.y.at(f64::from(bar.first) * extent / unit);
        let true_height = true_bottom - panel.y.at(end / unit);
        let height = true_height.max(BAR_HEIGHT_MIN);
        let bottom = true_bottom + (height - true_height) / 2.0;
        let bottom = bottom.min(panel.area.bottom()).max(panel.area.y + height);
        let shares = bar.shares();
        let is_fine = true_height / bar.origins.len() as f64 >= RUN_HEIGHT_MIN;
        let parts = if is_fine { &bar.origins } else { &shares };
        let chunks: u64 = parts.iter().map(|(_, chunks)| chunks).sum();
        let mut y = bottom;
        for &(source, count) in parts {
            let part = height * count as f64 / chunks.max(1) as f64;
            y -= part;
            paths[usize::from(source)].rect(Area { x, y, width, height: part });
        }
    }
    for (number, (path, source)) in paths.iter().zip(&story.sources).enumerate() {
        canvas.path(path, "given", &colour(number), true, &format!("source {number} {}", source.name()));
    }
}

fn draw_stalls(canvas: &mut Canvas, panel: &Panel, story: &Story) {
    for stall in &story.stalls.kept {
        let until = stall.until.unwrap_or(story.t_end);
        let (x, end) = (panel.x.at(stall.since), panel.x.at(until));
        let area = Area { x, width: (end - x).max(1.0), ..panel.area };
        let class = if stall.is_wait() { "wait" } else { "stall" };
        let title = format!("{:.2} to {until:.2} s: {}", stall.since, stall.in_words());
        canvas.rect(area, class, &title);
    }
}

/// Lines where a source failed and where another part of the file was sought.
fn draw_marks(canvas: &mut Canvas, panel: &Panel, story: &Story) {
    let seeks = story.seeks.kept.iter().map(|t| (*t, "seek"));
    for (t, class) in story.failures.kept.iter().map(|failure| (failure.t, "failure")).chain(seeks) {
        let x = panel.x.at(t);
        canvas.line((x, panel.area.y), (x, panel.area.bottom()), class);
    }
}

/// A cross in the source's colour above each failure.
fn draw_crosses(canvas: &mut Canvas, panel: &Panel, story: &Story) {
    const SIZE: f64 = 4.5;
    for failure in &story.failures.kept {
        let (x, y) = (panel.x.at(failure.t), panel.area.y);
        let mut cross = Path::default();
        cross.move_to(x - SIZE, y - SIZE);
        cross.line_to(x + SIZE, y + SIZE);
        cross.move_to(x - SIZE, y + SIZE);
        cross.line_to(x + SIZE, y - SIZE);
        canvas.path(&cross, "cross", &colour(failure.source.into()), false, &failure_in_words(story, failure));
    }
}

impl Source {
    /// The name by which people know it.
    fn name(&self) -> String {
        let server = cut(&self.server, NAME_CHARS_MAX);
        match (server.is_empty(), self.address.is_empty()) {
            (true, true) => "(not named)".to_owned(),
            (true, false) => self.address.clone(),
            _ => format!("{server} ({})", self.address),
        }
    }
}

impl Stall {
    /// It is a wait that there always is: for the first frame.
    fn is_wait(&self) -> bool {
        self.of == "start"
    }

    fn in_words(&self) -> &str {
        match self.of.as_str() {
            "fetch" => "nothing came",
            "start" => "waiting for the first frame",
            "frames" => "waiting for a frame",
            other => other,
        }
    }
}

/// The colour of a source. Those beyond the tones that are named differ in their hue.
fn colour(source: usize) -> String {
    match COLOURS.get(source) {
        Some(colour) => (*colour).to_owned(),
        // The golden angle keeps neighbours apart.
        None => format!("hsl({:.0},45%,55%)", (source as f64 * 137.508) % 360.0),
    }
}

fn counted(count: usize, noun: &str) -> String {
    if count == 1 { format!("1 {noun}") } else { format!("{count} {noun}s") }
}

fn cut(text: &str, chars: usize) -> String {
    if text.chars().count() <= chars {
        return text.to_owned();
    }
    text.chars().take(chars).chain(['\u{2026}']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::story::tests::{LINES, story};

    fn count(text: &str, what: &str) -> usize {
        text.matches(what).count()
    }

    #[test]
    fn a_small_trace_has_each_source_stall_and_failure() {
        let svg = draw(&story(&LINES), "film.jsonl");
        assert_eq!(count(&svg, "class=\"given\""), 2, "one path for what each source gave");
        assert_eq!(count(&svg, "class=\"rtt\""), 2);
        assert_eq!(count(&svg, "class=\"cross\""), 1);
        assert_eq!(count(&svg, "class=\"stall\""), 5, "in each of the diagrams");
        assert!(svg.contains("s&lt;1&gt;&amp; (192.0.2.1:4700)") && svg.contains("s2 (192.0.2.2:4700)"), "{svg}");
        assert!(svg.contains("1 stall of 1.20 s in all, 1 failure"), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_trace_of_nothing_is_a_picture_all_the_same() {
        let svg = draw(&story(&LINES[..1]), "none");
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("from 0 sources") && svg.contains("has no end"));
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn the_colours_of_all_sources_that_there_can_be_differ() {
        let mut colours: Vec<String> = (0..64).map(colour).collect();
        colours.sort();
        colours.dedup();
        assert_eq!(colours.len(), 64);
    }
}
