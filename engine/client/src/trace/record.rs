//! The lines of a trace.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// The version of the format: a reader refuses any other.
pub const VERSION: u32 = 1;

/// One line. The field `type` tells which: `"trace"`, `"sample"`, `"window_sample"` and so on.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// The first line.
    Trace(Header),
    /// A source was met.
    Source(Source),
    /// A source that no socket can be connected to.
    Unreachable(Unreachable),
    /// A session is open.
    Opened(Opened),
    /// A source failed.
    Failed(Failed),
    /// A list of servers came.
    List(List),
    /// A source, every 100 ms.
    Sample(Sample),
    /// The window, every 100 ms.
    WindowSample(WindowSample),
    /// Chunks that did not come, at most one line per source and cause every 100 ms.
    Lost(Lost),
    /// All chunks of an extent are there.
    Extent(Extent),
    /// All that was to be fetched was abandoned.
    Seek(Seek),
    /// Nothing comes.
    Stall(Stall),
    /// A stall is over.
    StallEnd(Stall),
    /// All that was to be fetched is there and verified.
    Fetched(Fetched),
    /// Records were left out, because whatever takes the trace is slow.
    Skipped(Skipped),
    /// The last line.
    End(End),
}

/// What is fetched, and how.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Header {
    /// [`VERSION`].
    pub version: u32,
    /// The asset, in hexadecimal.
    pub asset: String,
    /// The stream that goes to the output or the player.
    pub stream: u8,
    /// Its length in bytes.
    pub stream_bytes: u64,
    /// Bytes of an extent, but for the last one of a stream.
    pub extent_bytes: u64,
    /// Extents in memory at most.
    pub extents_max: u64,
    /// Most bytes of packets per second, from all sources together; null if there is no bound.
    pub rate_max_bytes_per_s: Option<f64>,
}

/// A source was met.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Source {
    /// When, in seconds from the start.
    pub t: f64,
    /// Its number in the other records; sources are numbered from 0, in the order in which they are met.
    pub source: u8,
    /// What the master calls it.
    pub server: String,
    /// Where it serves.
    pub address: SocketAddr,
}

/// A source that no socket can be connected to.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Unreachable {
    /// When, in seconds from the start.
    pub t: f64,
    /// Where it serves.
    pub address: SocketAddr,
    /// What the system says.
    pub reason: String,
}

/// A session is open.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// When, in seconds from the start.
    pub t: f64,
    /// Which source.
    pub source: u8,
}

/// A source failed. It is tried again, unless it was banned.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// When, in seconds from the start.
    pub t: f64,
    /// Which source.
    pub source: u8,
    /// `"silent"`, `"refused"`, `"not_held"` (goes on, and is not asked for these extents), `"damaged"` (the same) or
    /// `"forged"` (banned).
    pub kind: Cow<'static, str>,
    /// Why, for people.
    pub reason: String,
}

/// A list of servers came.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct List {
    /// When, in seconds from the start.
    pub t: f64,
    /// Servers that it names.
    pub servers: u64,
    /// The first and the last extent that it speaks of; null if it brings only tickets.
    pub extents: Option<(u32, u32)>,
}

/// How a source stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// When, in seconds from the start.
    pub t: f64,
    /// Which source.
    pub source: u8,
    /// `"greeting"`, `"up"`, `"down"` or `"banned"`.
    pub state: Cow<'static, str>,
    /// What congestion control does at the moment; which words there are depends on the algorithm.
    pub phase: Cow<'static, str>,
    /// Payload bytes that were taken from it since the start.
    pub bytes: u64,
    /// Payload bytes from it that were not needed, since the start.
    pub unwanted_bytes: u64,
    /// What it delivers: payload bytes per second, smoothed; null before it was measured.
    pub bytes_per_s: Option<f64>,
    /// What its path is believed to deliver, in bytes of packets per second; null before it was measured.
    pub bandwidth_bytes_per_s: Option<f64>,
    /// How fast it is asked, in bytes of packets per second; null while that is not limited.
    pub pacing_bytes_per_s: Option<f64>,
    /// Smoothed round trip in milliseconds; null before the first answer.
    pub rtt_ms: Option<f64>,
    /// Round trip of the empty path in milliseconds; null before it was measured.
    pub min_rtt_ms: Option<f64>,
    /// Bytes of packets that were asked for and neither came nor were given up.
    pub in_flight_bytes: u64,
    /// Most of them that congestion control allows.
    pub window_bytes: u64,
    /// Chunks that did not come, since the start.
    pub lost: u64,
    /// Packets that did not open, since the start.
    pub rejected: u64,
}

/// How the window stands.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct WindowSample {
    /// When, in seconds from the start.
    pub t: f64,
    /// Extents whose chunks are being fetched.
    pub under_way: u64,
    /// Extents that are being hashed and written.
    pub checking: u64,
    /// Extents that the player has.
    pub lent: u64,
    /// Bytes of the stream that are verified, and written or lent, since the start.
    pub written_bytes: u64,
}

/// How it is known that chunks will not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The source has sent them, and they did not come or did not open.
    Data,
    /// The source has not seen that it was asked.
    Pull,
    /// Nothing came in time.
    Timeout,
    /// The source does not hold them.
    NotHeld,
    /// The source did not send them: it was busy, or its ticket had expired.
    Refused,
}

/// Chunks that did not come and will be asked for again.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Lost {
    /// When, in seconds from the start: the end of the 100 ms in which they were given up.
    pub t: f64,
    /// Which source was asked for them.
    pub source: u8,
    /// How that is known.
    pub cause: Cause,
    /// How many.
    pub chunks: u64,
}

/// An extent whose chunks are all there. Whether it is what was published is not known yet.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Extent {
    /// When its last chunk came, in seconds from the start.
    pub t: f64,
    /// When its first chunk came.
    pub since: f64,
    /// Which stream it is of.
    pub stream: u8,
    /// Its number in that stream.
    pub extent: u32,
    /// Its plain bytes.
    pub bytes: u64,
    /// Who gave its chunks, in their order: pairs of a source's number and a number of consecutive chunks.
    pub origins: Vec<(u8, u16)>,
}

/// All that was to be fetched was abandoned: something else is wanted.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Seek {
    /// When, in seconds from the start.
    pub t: f64,
}

/// A stall begins or ends.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Stall {
    /// When, in seconds from the start. A stall begins when the last thing came, and is written later.
    pub t: f64,
    /// `"fetch"`: chunks are wanted, and for more than a second none has come. `"start"`: the player waits for its
    /// first frame, after the opening or a seek. `"frames"`: it waits for any other.
    pub of: Cow<'static, str>,
}

/// All that was to be fetched is there and verified.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Fetched {
    /// When, in seconds from the start.
    pub t: f64,
}

/// Records were left out.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Skipped {
    /// When, in seconds from the start.
    pub t: f64,
    /// How many.
    pub records: u64,
}

/// The end.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct End {
    /// When, in seconds from the start.
    pub t: f64,
}

impl Record {
    /// When, in seconds from the start.
    pub fn t(&self) -> f64 {
        match self {
            Self::Trace(_) => 0.0,
            Self::Source(Source { t, .. })
            | Self::Unreachable(Unreachable { t, .. })
            | Self::Opened(Opened { t, .. })
            | Self::Failed(Failed { t, .. })
            | Self::List(List { t, .. })
            | Self::Sample(Sample { t, .. })
            | Self::WindowSample(WindowSample { t, .. })
            | Self::Lost(Lost { t, .. })
            | Self::Extent(Extent { t, .. })
            | Self::Seek(Seek { t })
            | Self::Stall(Stall { t, .. })
            | Self::StallEnd(Stall { t, .. })
            | Self::Fetched(Fetched { t })
            | Self::Skipped(Skipped { t, .. })
            | Self::End(End { t }) => *t,
        }
    }
}

/// Seconds from `start` to `now`, to the microsecond.
pub(crate) fn seconds(start: Instant, now: Instant) -> f64 {
    now.saturating_duration_since(start).as_micros() as f64 / 1e6
}

/// A duration in milliseconds, to the microsecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines are read by other programs: a change of any of them is a new [`VERSION`].
    #[test]
    fn the_lines_of_version_1_are_these() {
        let lines = [
            r#"{"type":"trace","version":1,"asset":"00000000000000ab","stream":0,"stream_bytes":500000,"extent_bytes":307200,"extents_max":160,"rate_max_bytes_per_s":null}"#,
            r#"{"type":"list","t":0.0,"servers":2,"extents":[0,1]}"#,
            r#"{"type":"list","t":0.5,"servers":2,"extents":null}"#,
            r#"{"type":"source","t":0.000125,"source":0,"server":"s1","address":"192.0.2.1:4700"}"#,
            r#"{"type":"unreachable","t":0.1,"address":"[2001:db8::1]:4700","reason":"no route"}"#,
            r#"{"type":"opened","t":0.05,"source":0}"#,
            r#"{"type":"failed","t":3.25,"source":0,"kind":"silent","reason":"went silent"}"#,
            r#"{"type":"sample","t":0.1,"source":0,"state":"up","phase":"startup","bytes":120000,"unwanted_bytes":0,"bytes_per_s":1200000.0,"bandwidth_bytes_per_s":1250000.0,"pacing_bytes_per_s":null,"rtt_ms":50.125,"min_rtt_ms":50.0,"in_flight_bytes":62000,"window_bytes":124000,"lost":3,"rejected":0}"#,
            r#"{"type":"window_sample","t":0.1,"under_way":2,"checking":1,"lent":0,"written_bytes":307200}"#,
            r#"{"type":"lost","t":0.2,"source":0,"cause":"not_held","chunks":3}"#,
            r#"{"type":"extent","t":0.3,"since":0.11,"stream":0,"extent":1,"bytes":192800,"origins":[[0,52],[1,109]]}"#,
            r#"{"type":"seek","t":1.0}"#,
            r#"{"type":"stall","t":1.0,"of":"start"}"#,
            r#"{"type":"stall_end","t":1.5,"of":"start"}"#,
            r#"{"type":"skipped","t":1.6,"records":12}"#,
            r#"{"type":"fetched","t":2.0}"#,
            r#"{"type":"end","t":2.0}"#,
        ];
        for line in lines {
            let record: Record = serde_json::from_str(line).expect(line);
            assert_eq!(serde_json::to_string(&record).expect("plain values are JSON"), line);
        }
    }

    #[test]
    fn every_line_tells_when() {
        let record: Record = serde_json::from_str(r#"{"type":"lost","t":0.2,"source":0,"cause":"data","chunks":3}"#)
            .expect("as documented");
        assert_eq!(record.t(), 0.2);
    }
}
