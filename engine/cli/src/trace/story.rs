//! What a trace tells, put in order.

use braidcast_client::trace::{Header, Record, Sample, WindowSample};

use super::bars::Bars;
use super::timeline::{Row, Timeline};

/// Stalls, failures and seeks that are kept, of each; the rest are counted.
const MARKS_MAX: usize = 500;
/// Part of a step of time that is long enough to tell a rate from.
const STEP_PART_MIN: f64 = 0.1;
/// What a record of lost chunks covers, in seconds.
const LOST_SPAN: f64 = 0.1;

/// All that is drawn.
pub(super) struct Story {
    pub(super) header: Header,
    /// The last time that any record tells, in seconds.
    pub(super) t_end: f64,
    /// There is a last line.
    pub(super) is_whole: bool,
    /// At the place of its number.
    pub(super) sources: Vec<Source>,
    pub(super) timeline: Timeline,
    pub(super) window: Window,
    pub(super) bars: Bars,
    pub(super) stalls: Marks<Stall>,
    pub(super) failures: Marks<Failure>,
    pub(super) seeks: Marks<f64>,
    pub(super) skipped: u64,
}

/// A source.
pub(super) struct Source {
    /// What the master calls it; empty if that is not known.
    pub(super) server: String,
    pub(super) address: String,
    /// Payload bytes that it gave.
    pub(super) bytes: u64,
    pub(super) lost: u64,
    pub(super) bytes_row: Row,
    pub(super) lost_row: Row,
    pub(super) rtt: Gauge,
    pub(super) min_rtt: Gauge,
    sampled_at: f64,
}

/// Extents of each kind.
pub(super) struct Window {
    pub(super) under_way: Gauge,
    pub(super) checking: Gauge,
    pub(super) lent: Gauge,
    sampled_at: f64,
}

/// A value over time: its product with time, and the time.
#[derive(Clone, Copy)]
pub(super) struct Gauge {
    product: Row,
    time: Row,
}

/// A time in which nothing came.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Stall {
    pub(super) since: f64,
    /// Nothing if it lasts to the end.
    pub(super) until: Option<f64>,
    pub(super) of: String,
}

/// A source failed.
pub(super) struct Failure {
    pub(super) t: f64,
    pub(super) source: u8,
    pub(super) reason: String,
}

/// Things that are kept up to a number, and counted beyond.
pub(super) struct Marks<T> {
    pub(super) kept: Vec<T>,
    pub(super) count: usize,
}

impl<T> Marks<T> {
    fn new() -> Self {
        Self { kept: Vec::new(), count: 0 }
    }

    fn add(&mut self, mark: T) {
        self.count += 1;
        if self.kept.len() < MARKS_MAX {
            self.kept.push(mark);
        }
    }
}

impl Gauge {
    fn new(timeline: &mut Timeline) -> Self {
        Self { product: timeline.add_row(), time: timeline.add_row() }
    }

    fn add(self, timeline: &mut Timeline, from: f64, to: f64, value: f64) {
        timeline.add(self.product, from, to, value * (to - from));
        timeline.add(self.time, from, to, to - from);
    }

    /// The mean value of each step; nothing where there is none.
    pub(super) fn means(self, timeline: &Timeline) -> Vec<Option<f64>> {
        let both = timeline.row(self.product).iter().zip(timeline.row(self.time));
        both.map(|(product, time)| (*time > 0.0).then(|| product / time)).collect()
    }
}

impl Source {
    fn new(timeline: &mut Timeline) -> Self {
        Self {
            server: String::new(),
            address: String::new(),
            bytes: 0,
            lost: 0,
            bytes_row: timeline.add_row(),
            lost_row: timeline.add_row(),
            rtt: Gauge::new(timeline),
            min_rtt: Gauge::new(timeline),
            sampled_at: 0.0,
        }
    }
}

impl Story {
    pub(super) fn new(header: Header) -> Self {
        let mut timeline = Timeline::new();
        let window = Window {
            under_way: Gauge::new(&mut timeline),
            checking: Gauge::new(&mut timeline),
            lent: Gauge::new(&mut timeline),
            sampled_at: 0.0,
        };
        Self {
            header,
            t_end: 0.0,
            is_whole: false,
            sources: Vec::new(),
            timeline,
            window,
            bars: Bars::new(),
            stalls: Marks::new(),
            failures: Marks::new(),
            seeks: Marks::new(),
            skipped: 0,
        }
    }

    /// Takes the next record in.
    pub(super) fn take(&mut self, record: Record) {
        self.t_end = self.t_end.max(record.t());
        match record {
            Record::Source(met) => {
                let source = self.source(met.source);
                source.server = met.server;
                source.address = met.address.to_string();
                source.sampled_at = met.t;
            }
            Record::Sample(sample) => self.take_sample(&sample),
            Record::WindowSample(sample) => self.take_window(&sample),
            Record::Lost(lost) => {
                let row = self.source(lost.source).lost_row;
                self.timeline.add(row, lost.t - LOST_SPAN, lost.t, lost.chunks as f64);
                self.source(lost.source).lost += lost.chunks;
            }
            Record::Extent(extent) if extent.stream == self.header.stream => {
                for &(source, _) in &extent.origins {
                    self.source(source);
                }
                self.bars.add(&extent);
            }
            Record::Failed(failed) => {
                self.source(failed.source);
                self.failures.add(Failure { t: failed.t, source: failed.source, reason: failed.reason });
            }
            Record::Seek(seek) => self.seeks.add(seek.t),
            Record::Stall(stall) => {
                self.stalls.add(Stall { since: stall.t, until: None, of: stall.of.into_owned() });
            }
            Record::StallEnd(end) => {
                let mut open = self.stalls.kept.iter_mut().rev();
                if let Some(stall) = open.find(|stall| stall.until.is_none() && stall.of == end.of) {
                    stall.until = Some(end.t.max(stall.since));
                }
            }
            Record::Skipped(skipped) => self.skipped += skipped.records,
            Record::End(_) => self.is_whole = true,
            Record::Trace(_) | Record::Opened(_) | Record::Unreachable(_) => {}
            Record::List(_) | Record::Extent(_) | Record::Fetched(_) => {}
        }
    }

    /// The amounts of a row, per second.
    pub(super) fn rates(&self, row: Row) -> Vec<f64> {
        let width = self.timeline.width();
        let amounts = self.timeline.row(row).iter().enumerate();
        // The trace may end within the last step.
        amounts
            .map(|(n, amount)| amount / (self.t_end - n as f64 * width).clamp(width * STEP_PART_MIN, width))
            .collect()
    }

    /// A source, met or not: the record that tells of it may have been left out.
    fn source(&mut self, number: u8) -> &mut Source {
        while self.sources.len() <= usize::from(number) {
            self.sources.push(Source::new(&mut self.timeline));
        }
        &mut self.sources[usize::from(number)]
    }

    fn take_sample(&mut self, sample: &Sample) {
        let source = self.source(sample.source);
        let (from, to) = (source.sampled_at.min(sample.t), sample.t);
        let delivered = sample.bytes.saturating_sub(source.bytes);
        source.bytes = source.bytes.max(sample.bytes);
        source.sampled_at = to;
        let (row, rtt, min_rtt) = (source.bytes_row, source.rtt, source.min_rtt);
        self.timeline.add(row, from, to, delivered as f64);
        for (gauge, value) in [(rtt, sample.rtt_ms), (min_rtt, sample.min_rtt_ms)] {
            // A source that is down keeps its last round trip, which tells nothing any more.
            if let Some(value) = value.filter(|_| sample.state == "up") {
                gauge.add(&mut self.timeline, from, to, value);
            }
        }
    }

    fn take_window(&mut self, sample: &WindowSample) {
        let (from, to) = (self.window.sampled_at.min(sample.t), sample.t);
        self.window.sampled_at = to;
        let Window { under_way, checking, lent, .. } = self.window;
        for (gauge, value) in [(under_way, sample.under_way), (checking, sample.checking), (lent, sample.lent)] {
            gauge.add(&mut self.timeline, from, to, value as f64);
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A small trace of two sources, one of which fails, with a stall.
    pub(in crate::trace) const LINES: [&str; 16] = [
        r#"{"type":"trace","version":1,"asset":"00000000000000ab","stream":0,"stream_bytes":614400,"extent_bytes":307200,"extents_max":160,"rate_max_bytes_per_s":null}"#,
        r#"{"type":"source","t":0.0,"source":0,"server":"s<1>&","address":"192.0.2.1:4700"}"#,
        r#"{"type":"source","t":0.0,"source":1,"server":"s2","address":"192.0.2.2:4700"}"#,
        r#"{"type":"sample","t":0.1,"source":0,"state":"up","phase":"startup","bytes":100000,"unwanted_bytes":0,"bytes_per_s":1e6,"bandwidth_bytes_per_s":1e6,"pacing_bytes_per_s":null,"rtt_ms":50.0,"min_rtt_ms":40.0,"in_flight_bytes":6,"window_bytes":12,"lost":0,"rejected":0}"#,
        r#"{"type":"sample","t":0.1,"source":1,"state":"up","phase":"startup","bytes":50000,"unwanted_bytes":0,"bytes_per_s":5e5,"bandwidth_bytes_per_s":1e6,"pacing_bytes_per_s":null,"rtt_ms":80.0,"min_rtt_ms":80.0,"in_flight_bytes":6,"window_bytes":12,"lost":0,"rejected":0}"#,
        r#"{"type":"window_sample","t":0.1,"under_way":2,"checking":0,"lent":0,"written_bytes":0}"#,
        r#"{"type":"lost","t":0.1,"source":1,"cause":"data","chunks":4}"#,
        r#"{"type":"extent","t":0.3,"since":0.02,"stream":0,"extent":0,"bytes":307200,"origins":[[0,200],[1,56]]}"#,
        r#"{"type":"failed","t":0.4,"source":1,"kind":"silent","reason":"went silent\u0007"}"#,
        r#"{"type":"stall","t":0.4,"of":"fetch"}"#,
        r#"{"type":"stall_end","t":1.6,"of":"fetch"}"#,
        r#"{"type":"sample","t":1.7,"source":0,"state":"up","phase":"cruise","bytes":464400,"unwanted_bytes":0,"bytes_per_s":1e6,"bandwidth_bytes_per_s":1e6,"pacing_bytes_per_s":1e6,"rtt_ms":50.0,"min_rtt_ms":40.0,"in_flight_bytes":6,"window_bytes":12,"lost":0,"rejected":0}"#,
        r#"{"type":"window_sample","t":1.7,"under_way":0,"checking":1,"lent":0,"written_bytes":307200}"#,
        r#"{"type":"extent","t":1.7,"since":0.3,"stream":0,"extent":1,"bytes":307200,"origins":[[0,256]]}"#,
        r#"{"type":"fetched","t":1.7}"#,
        r#"{"type":"end","t":1.75}"#,
    ];

    /// The story of these lines.
    pub(in crate::trace) fn story(lines: &[&str]) -> Story {
        let mut records = lines.iter().map(|line| serde_json::from_str(line).expect(line));
        let Some(Record::Trace(header)) = records.next() else { panic!("the first line is the header") };
        let mut story = Story::new(header);
        records.for_each(|record| story.take(record));
        story
    }

    #[test]
    fn a_story_holds_what_its_lines_tell() {
        let story = story(&LINES);
        assert_eq!(story.sources.len(), 2);
        assert_eq!((story.sources[0].bytes, story.sources[1].lost), (464_400, 4));
        let delivered: f64 = story.timeline.row(story.sources[0].bytes_row).iter().sum();
        assert!((delivered - 464_400.0).abs() < 1e-3);
        let rtt = story.sources[1].rtt.means(&story.timeline)[0].expect("it was sampled");
        assert!((rtt - 80.0).abs() < 1e-6, "{rtt}");
        assert_eq!(story.stalls.kept, [Stall { since: 0.4, until: Some(1.6), of: "fetch".to_owned() }]);
        assert_eq!((story.failures.count, story.bars.all().len(), story.is_whole), (1, 2, true));
    }

    #[test]
    fn a_source_whose_meeting_was_left_out_has_a_place_all_the_same() {
        let story = story(&[LINES[0], LINES[4], r#"{"type":"skipped","t":0.2,"records":3}"#]);
        assert_eq!((story.sources.len(), story.sources[1].bytes, story.skipped), (2, 50_000, 3));
        assert!(!story.is_whole);
    }
}
