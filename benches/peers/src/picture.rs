//! The ratios as an SVG: how far each is beyond its goal, or behind.

use std::fmt::Write;

use crate::goals::{Bound, Verdict};

const WIDTH: f64 = 1_000.0;
const TOP: f64 = 70.0;
const LINE: f64 = 28.0;
const BAR: f64 = 16.0;
/// Where bars begin; texts stand before it.
const LEFT: f64 = 470.0;
/// Of one goal, in the picture.
const UNIT: f64 = 150.0;
/// Bars end here, in goals; the figure beside them has no end.
const GOALS_MAX: f64 = 2.4;
const STYLE: &str = "text{font:13px sans-serif;fill:#222}.small{font-size:11px;fill:#555}.ok{fill:#3a7d44}\
                     .miss{fill:#b23a3a}.goal{stroke:#222;stroke-dasharray:4 3}.span{stroke:#222;stroke-width:1.5}";

/// Draws what was judged.
pub(crate) fn draw(verdicts: &[Verdict], lines: &[String]) -> String {
    let judged: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.ratio.is_some()).collect();
    let bottom = TOP + LINE * judged.len() as f64;
    let height = bottom + 20.0 + 16.0 * lines.len() as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\">\n<title>Braidcast beside its peers</title>\n<style>{STYLE}</style>\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    );
    text(&mut svg, 16.0, 28.0, "", "Braidcast beside its peers, on the same files and cores");
    text(&mut svg, 16.0, 48.0, "small", "Length: how many times as good as asked; thin lines: least and best round.");
    let goal = LEFT + UNIT;
    text(&mut svg, goal - 13.0, TOP - 8.0, "small", "goal");
    for (index, verdict) in judged.iter().enumerate() {
        draw_bar(&mut svg, TOP + LINE * index as f64, verdict);
    }
    let _ = writeln!(svg, "<line class=\"goal\" x1=\"{goal}\" x2=\"{goal}\" y1=\"{TOP}\" y2=\"{bottom}\"/>");
    for (index, line) in lines.iter().enumerate() {
        text(&mut svg, 16.0, bottom + 24.0 + 16.0 * index as f64, "small", line);
    }
    svg.push_str("</svg>\n");
    svg
}

fn draw_bar(svg: &mut String, y: f64, verdict: &Verdict) {
    let Some(ratio) = verdict.ratio else { return };
    let middle = y + LINE / 2.0;
    let x = |ratio: f64| LEFT + UNIT * goodness(verdict.bound, ratio);
    text(svg, 16.0, middle + 4.0, "", &format!("{} ({})", verdict.what, verdict.sink.name()));
    let class = if verdict.is_met() == Some(true) { "ok" } else { "miss" };
    let (top, width) = (middle - BAR / 2.0, x(ratio.median) - LEFT);
    let _ = writeln!(
        svg,
        "<rect class=\"{class}\" x=\"{LEFT}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"{BAR}\">\
         <title>{}</title></rect>",
        escape(&verdict.note)
    );
    let (from, to) = (x(ratio.low), x(ratio.high));
    let _ =
        writeln!(svg, "<line class=\"span\" x1=\"{from:.1}\" x2=\"{to:.1}\" y1=\"{middle:.1}\" y2=\"{middle:.1}\"/>");
    let end = x(ratio.median).max(from).max(to).max(LEFT + UNIT) + 8.0;
    text(svg, end, middle + 4.0, "", &format!("{:.2} (goal {})", ratio.median, verdict.bound));
}

/// How many times as good as asked, as far as it is drawn.
fn goodness(bound: Bound, ratio: f64) -> f64 {
    let times = match bound {
        Bound::AtLeast(bound) => ratio / bound,
        Bound::AtMost(bound) => bound / ratio,
    };
    // Against nothing at all, which short runs can measure, there is no length.
    if times.is_nan() { 0.0 } else { times.clamp(0.0, GOALS_MAX) }
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, words: &str) {
    let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>", escape(words));
}

fn escape(words: &str) -> String {
    words.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contender::Sink;
    use crate::goals::Ratio;

    #[test]
    fn met_goals_reach_the_line_and_missed_ones_do_not() {
        assert!(goodness(Bound::AtLeast(1.5), 1.6) > 1.0 && goodness(Bound::AtLeast(1.5), 1.4) < 1.0);
        assert!(goodness(Bound::AtMost(0.5), 0.4) > 1.0 && goodness(Bound::AtMost(0.5), 0.6) < 1.0);
        assert!(goodness(Bound::AtMost(0.5), 0.0) <= GOALS_MAX && goodness(Bound::AtMost(0.5), f64::NAN) == 0.0);
    }

    #[test]
    fn a_picture_shows_each_goal_that_was_judged_and_no_raw_markup() {
        let verdict = Verdict {
            what: "speed",
            sink: Sink::Null,
            note: "a < b & \"c\"".to_owned(),
            bound: Bound::AtLeast(1.5),
            ratio: Some(Ratio { median: 1.4, low: 1.3, high: 1.6 }),
        };
        let unjudged = Verdict { ratio: None, ..verdict.clone() };
        let svg = draw(&[verdict, unjudged], &["a machine".to_owned()]);
        assert_eq!(svg.matches("class=\"miss\"").count(), 1, "{svg}");
        assert!(svg.contains("a &lt; b &amp; &quot;c&quot;") && svg.contains("a machine"), "{svg}");
        assert!(svg.contains("1.40 (goal &gt;= 1.50)"), "{svg}");
    }
}
