//! SVG as text.

use std::fmt::Write as _;

/// A rectangle: left, top, width, height.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

impl Area {
    pub(super) fn right(self) -> f64 {
        self.x + self.width
    }

    pub(super) fn bottom(self) -> f64 {
        self.y + self.height
    }
}

/// Where a text stands: its beginning, its middle or its end at a place.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A picture that is being drawn; what is drawn later lies above.
pub(super) struct Canvas(String);

impl Canvas {
    /// A picture of that size. `style` is CSS, and goes in as it is.
    pub(super) fn new(width: f64, height: f64, title: &str, style: &str) -> Self {
        let mut text = String::new();
        let _ = writeln!(
            text,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">"#,
        );
        let _ = writeln!(text, "<title>{}</title>\n<style>{style}</style>", escape(title));
        Self(text)
    }

    /// The whole picture.
    pub(super) fn finish(mut self) -> String {
        self.0.push_str("</svg>\n");
        self.0
    }

    pub(super) fn text(&mut self, x: f64, y: f64, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let (x, y, text) = (number(x), number(y), escape(text));
        let _ = writeln!(self.0, r#"<text x="{x}" y="{y}" text-anchor="{anchor}" class="{class}">{text}</text>"#);
    }

    /// `title`: what is shown to whoever points at it; may be empty.
    pub(super) fn rect(&mut self, area: Area, class: &str, title: &str) {
        let [x, y, width, height] = [area.x, area.y, area.width, area.height].map(number);
        let title = if title.is_empty() { String::new() } else { format!("<title>{}</title>", escape(title)) };
        let _ = writeln!(
            self.0,
            r#"<rect x="{x}" y="{y}" width="{width}" height="{height}" class="{class}">{title}</rect>"#
        );
    }

    /// Nothing if the path is empty. `colour` is of the path's lines, or where `is_filled` says so of what is within.
    pub(super) fn path(&mut self, path: &Path, class: &str, colour: &str, is_filled: bool, title: &str) {
        if path.0.is_empty() {
            return;
        }
        let (fill, stroke) = if is_filled { (colour, "none") } else { ("none", colour) };
        let (data, title) = (&path.0, escape(title));
        let _ = writeln!(
            self.0,
            r#"<path class="{class}" fill="{fill}" stroke="{stroke}" d="{data}"><title>{title}</title></path>"#
        );
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), class: &str) {
        let [x1, y1, x2, y2] = [from.0, from.1, to.0, to.1].map(number);
        let _ = writeln!(self.0, r#"<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" class="{class}"/>"#);
    }
}

/// The data of a path.
#[derive(Default)]
pub(super) struct Path(String);

impl Path {
    pub(super) fn move_to(&mut self, x: f64, y: f64) {
        let _ = write!(self.0, "M{} {}", number(x), number(y));
    }

    pub(super) fn line_to(&mut self, x: f64, y: f64) {
        let _ = write!(self.0, "L{} {}", number(x), number(y));
    }

    pub(super) fn close(&mut self) {
        self.0.push('z');
    }

    /// A rectangle of its own.
    pub(super) fn rect(&mut self, area: Area) {
        let (width, height) = (precise(area.width), precise(area.height));
        let _ = write!(self.0, "M{} {}h{width}v{height}h-{width}z", precise(area.x), precise(area.y));
    }
}

/// To a tenth of a pixel.
fn number(value: f64) -> String {
    trimmed(format!("{value:.1}"))
}

/// To a hundredth of a pixel, where many thin things lie side by side.
fn precise(value: f64) -> String {
    trimmed(format!("{value:.2}"))
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Text as it may stand in XML: names and reasons come from the network.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // XML 1.0, section 2.2, has no way to write these.
            '\u{fffe}' | '\u{ffff}' => out.push(char::REPLACEMENT_CHARACTER),
            c if c.is_control() => out.push(char::REPLACEMENT_CHARACTER),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_the_network_cannot_leave_their_text() {
        let mut canvas = Canvas::new(10.0, 10.0, "</title><script>", "");
        canvas.text(1.0, 2.0, Anchor::Start, "a", "\"<x>&\u{1b}[2J\u{0}");
        let text = canvas.finish();
        assert!(!text.contains("<script>") && !text.contains("<x>"), "{text}");
        assert!(text.contains("&quot;&lt;x&gt;&amp;\u{fffd}[2J\u{fffd}"), "{text}");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([number(1.0), number(0.26), number(100.0), precise(1.999)], ["1", "0.3", "100", "2"]);
    }
}
