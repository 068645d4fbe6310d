//! Which servers hold what: the master's answer, checked once, so that nothing behind it has to.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use braidcast_media::hashes::{self, Hash};
use braidcast_media::layout::STREAMS_MAX;
use braidcast_media::ticket::{SessionSecret, TICKET_BYTES_MAX};
use braidcast_media::{AssetId, ContentKey, ExtentNo, PackLayout, StreamId, StreamLayout};
use braidcast_proto::v1::distribution_client::DistributionClient;
use braidcast_proto::v1::get_distribution_request::{Video as WireVideo, Window as WireWindow};
use braidcast_proto::v1::{
    self, ExtentWindow, FailedHost, GetDistributionRequest, GetDistributionResponse, RedistributeRequest,
    redistribute_request,
};

use super::{Control, FrameSpan};
use crate::error::{ControlError, asset_name};

/// Servers that one report tells of; the master names no more for one video.
const FAILED_HOSTS_MAX: usize = 64;
/// Extents that one report tells of for each server.
const DAMAGED_EXTENTS_MAX: usize = 64;
/// What the master takes of one report.
const REPORT_BYTES_MAX: usize = 64 * 1024;
/// An extent's number takes at most 10 bytes; 256 are left for the server's id and the other numbers.
const _: () = assert!(FAILED_HOSTS_MAX * (DAMAGED_EXTENTS_MAX * 10 + 256) < REPORT_BYTES_MAX);

/// Which video is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VideoRef<'a> {
    /// The current version of this name.
    Name(&'a str),
    /// This very version: what a running film or download uses.
    Asset(AssetId),
}

/// The part of a video that is meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Window {
    /// Extents of stream 0, both ends inclusive.
    Extents {
        /// The first extent.
        first: ExtentNo,
        /// The last; nothing means to the end of the file.
        last: Option<ExtentNo>,
    },
    /// Frames of a film in decode order, both ends inclusive.
    Frames {
        /// The first frame.
        first: u64,
        /// The last frame.
        last: u64,
    },
    /// The frames that it takes to show a part of a film.
    Time {
        /// Seconds from the first picture.
        start: f64,
        /// Seconds from the first picture.
        end: f64,
    },
}

impl Window {
    /// The whole file.
    pub const ALL: Self = Self::Extents { first: ExtentNo(0), last: None };
}

/// Which servers hold which extents of an asset, and what it takes to pull and check them.
#[derive(Clone, Debug)]
pub struct Distribution {
    /// The name under which the video was published.
    pub name: String,
    /// The version that this is about.
    pub asset: AssetId,
    /// What opens its chunks.
    pub content_key: ContentKey,
    /// Its streams.
    pub layout: PackLayout,
    /// BLAKE3 of every plain extent of stream 3.
    pub plain_roots: Vec<Hash>,
    /// The servers that `ranges` point to.
    pub hosts: Vec<Host>,
    /// Covers the window without gap or overlap, in order. Empty for an empty file alone. Extents of stream 0, or of
    /// the stream that the frames stand in.
    pub ranges: Vec<Range>,
    /// The answer reaches the end of the file.
    pub end_of_file: bool,
    /// The frames, where frames or times were asked for.
    pub frames: Option<FrameSpan>,
    /// What the publisher found in the file; nothing for plain bytes.
    pub film: Option<v1::Film>,
}

/// A media server, and what it takes to greet it.
#[derive(Clone, Debug)]
pub struct Host {
    /// What the master calls it.
    pub server_id: String,
    /// Where it serves.
    pub address: SocketAddr,
    /// Opaque; goes into HELLO.
    pub ticket: Vec<u8>,
    /// Known to this client and that server alone.
    pub session_secret: SessionSecret,
    /// How long the ticket is good from now on; renew it at half of that.
    pub ticket_lifetime: Duration,
}

/// Consecutive extents, and who holds them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first extent.
    pub first: ExtentNo,
    /// The last extent.
    pub last: ExtentNo,
    /// Places in [`Distribution::hosts`]: the first choice, then the alternates; at least one.
    pub hosts: Vec<usize>,
}

/// How long it is until the master is asked again whether a server holds a video.
const HELD_PAUSE: Duration = Duration::from_millis(200);

impl Control {
    /// Asks who holds `window` of `video`.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::NoSource`], [`ControlError::BadAnswer`] and the rest.
    pub async fn distribution(&self, video: VideoRef<'_>, window: Window) -> Result<Distribution, ControlError> {
        let what = video.describe();
        let request = GetDistributionRequest { video: Some(video.into()), window: Some(window.into()) };
        let answer = self
            .call(&what, request, async |channel, request| {
                DistributionClient::new(channel).get_distribution(request).await
            })
            .await?
            .into_inner();
        check(answer, window).map_err(|reason| ControlError::BadAnswer { what, reason })
    }

    /// As [`Control::distribution`] of the current version of `name`; waits for up to `patience` for a server to hold it,
    /// because one that was published a moment ago is still on its way to them.
    ///
    /// # Errors
    /// As [`Control::distribution`].
    pub async fn distribution_once_held(
        &self,
        name: &str,
        window: Window,
        patience: Duration,
    ) -> Result<Distribution, ControlError> {
        let begun = Instant::now();
        let mut is_first = true;
        loop {
            match self.distribution(VideoRef::Name(name), window).await {
                Err(ControlError::NoSource { reason, .. }) if begun.elapsed() + HELD_PAUSE < patience => {
                    if std::mem::take(&mut is_first) {
                        tracing::info!(name, reason, "asking again until it can be served");
                    }
                    tokio::time::sleep(HELD_PAUSE).await;
                }
                outcome => return outcome,
            }
        }
    }

    /// Reports servers that fail this client and asks who else holds `window`. At most 64 servers are
    /// told of, and 64 extents of each: the master takes no longer report.
    ///
    /// # Errors
    /// As [`Control::distribution`].
    pub async fn redistribute(
        &self,
        asset: AssetId,
        window: Window,
        mut failed: Vec<FailedHost>,
    ) -> Result<Distribution, ControlError> {
        let what = asset_name(asset);
        failed.truncate(FAILED_HOSTS_MAX);
        failed.iter_mut().for_each(|host| host.damaged_extents.truncate(DAMAGED_EXTENTS_MAX));
        let request = RedistributeRequest { asset: asset.0, window: Some(window.into()), failed };
        let answer = self
            .call(&what, request, async |channel, request| DistributionClient::new(channel).redistribute(request).await)
            .await?
            .into_inner();
        check(answer, window).map_err(|reason| ControlError::BadAnswer { what, reason })
    }
}

impl VideoRef<'_> {
    fn describe(self) -> String {
        match self {
            Self::Name(name) => video_name(name),
            Self::Asset(asset) => asset_name(asset),
        }
    }
}

impl From<VideoRef<'_>> for WireVideo {
    fn from(video: VideoRef<'_>) -> Self {
        match video {
            VideoRef::Name(name) => Self::VideoFilename(name.to_owned()),
            VideoRef::Asset(asset) => Self::Asset(asset.0),
        }
    }
}

impl From<Window> for WireWindow {
    fn from(window: Window) -> Self {
        match window {
            Window::Extents { first, last } => {
                Self::Extents(ExtentWindow { extent_start: first.0.into(), extent_end: last.map(|last| last.0.into()) })
            }
            Window::Frames { first, last } => {
                Self::Frames(v1::FrameWindow { frame_start: first, frame_end: Some(last) })
            }
            Window::Time { start, end } => Self::Time(v1::TimeWindow { start_time: start, end_time: Some(end) }),
        }
    }
}

impl From<Window> for redistribute_request::Window {
    fn from(window: Window) -> Self {
        match window.into() {
            WireWindow::Extents(window) => Self::Extents(window),
            WireWindow::Frames(window) => Self::Frames(window),
            WireWindow::Time(window) => Self::Time(window),
        }
    }
}

/// The name of a video in errors; quoted, since it may hold anything.
pub(super) fn video_name(name: &str) -> String {
    format!("video {name:?}")
}

fn check(answer: GetDistributionResponse, window: Window) -> Result<Distribution, String> {
    let metadata = answer.metadata.ok_or("it holds no metadata")?;
    let layout = layout(&metadata.streams)?;
    let plain_roots = hashes::parse_list(&metadata.plain_roots).ok_or("the hash list is cut off")?;
    let hash_extents = layout.stream(StreamId::PLAIN_HASHES).map_or(0, StreamLayout::extents);
    if plain_roots.len() != hash_extents as usize {
        return Err(format!("it holds {} hashes where {hash_extents} are needed", plain_roots.len()));
    }
    let content_key = ContentKey::from_slice(&metadata.content_key).ok_or("the key is not 16 bytes")?;
    let hosts = answer.hosts.into_iter().map(host).collect::<Result<Vec<_>, _>>()?;
    let original = layout.stream(StreamId::ORIGINAL).ok_or("the asset has no stream 0")?;
    let frames = answer.frames.map(|frames| FrameSpan::check(frames, &layout)).transpose()?;
    let covered = covered(window, frames.as_ref(), original)?;
    let ranges = ranges(&answer.ranges, hosts.len(), covered)?;
    Ok(Distribution {
        name: metadata.name,
        asset: AssetId(metadata.asset),
        content_key,
        layout,
        plain_roots,
        hosts,
        ranges,
        end_of_file: answer.end_of_file,
        frames,
        film: metadata.film,
    })
}

/// The extents that an answer must cover: from the first to before the second.
fn covered(window: Window, frames: Option<&FrameSpan>, original: &StreamLayout) -> Result<(u32, u32), String> {
    match (window, frames) {
        (Window::Extents { first, last }, None) => {
            let end = last.map_or(original.extents(), |last| original.extents().min(last.0.saturating_add(1)));
            Ok((first.0, end))
        }
        (Window::Extents { .. }, Some(_)) => Err("it holds frames where extents were asked for".to_owned()),
        (Window::Frames { first, .. }, Some(frames)) if frames.first != first => {
            Err(format!("it begins with frame {} where {first} was asked for", frames.first))
        }
        (Window::Frames { .. } | Window::Time { .. }, Some(frames)) => {
            Ok((frames.first_extent.0, frames.first_extent.0 + frames.extent_hashes.len() as u32))
        }
        (Window::Frames { .. } | Window::Time { .. }, None) => Err("it holds no frames".to_owned()),
    }
}

fn layout(streams: &[v1::Stream]) -> Result<PackLayout, String> {
    if streams.len() > STREAMS_MAX {
        return Err(format!("it holds {} streams", streams.len()));
    }
    let stream = |stream: &v1::Stream| {
        let id = u8::try_from(stream.id).map_err(|_| format!("there is no stream {}", stream.id))?;
        Ok(StreamLayout { id: StreamId(id), bytes: stream.bytes })
    };
    let streams = streams.iter().map(stream).collect::<Result<Vec<_>, String>>()?;
    PackLayout::new(streams).map_err(|error| error.to_string())
}

fn host(host: v1::Host) -> Result<Host, String> {
    let address = host.address.parse().map_err(|_| format!("{:?} is no ip:port", host.address))?;
    if host.ticket.len() > TICKET_BYTES_MAX {
        return Err(format!("the ticket for {address} has {} bytes", host.ticket.len()));
    }
    let secret = SessionSecret::from_slice(&host.session_secret);
    let session_secret = secret.ok_or_else(|| format!("the secret for {address} is not 32 bytes"))?;
    let ticket_lifetime = Duration::from_secs(host.ticket_expires_in_sec.into());
    Ok(Host { server_id: host.server_id, address, ticket: host.ticket, session_secret, ticket_lifetime })
}

/// Checks that the ranges cover the extents from the first to before the second without gap or overlap.
fn ranges(ranges: &[v1::Range], hosts: usize, (first, end): (u32, u32)) -> Result<Vec<Range>, String> {
    let mut next = u64::from(first);
    let mut checked = Vec::with_capacity(ranges.len());
    for range in ranges {
        let (first, last) = (range.extent_start, range.extent_end);
        if first != next || last < first || last >= u64::from(end) {
            return Err(format!("extents {first} to {last} do not follow extent {next} of {end}"));
        }
        let places: Vec<usize> = range.hosts.iter().map(|&host| host as usize).collect();
        if places.is_empty() || places.iter().any(|&place| place >= hosts) {
            return Err(format!("extents {first} to {last} point to no host of the list"));
        }
        // Both fit: they are below `end`.
        checked.push(Range { first: ExtentNo(first as u32), last: ExtentNo(last as u32), hosts: places });
        next = last + 1;
    }
    if next < u64::from(end) {
        return Err(format!("extents {next} to {} are missing", end - 1));
    }
    Ok(checked)
}

#[cfg(test)]
mod tests {
    use braidcast_media::layout::EXTENT_BYTES;

    use super::*;

    const EXTENTS: u32 = 4;

    fn range(first: u64, last: u64, hosts: &[u32]) -> v1::Range {
        v1::Range { extent_start: first, extent_end: last, hosts: hosts.to_vec(), ..Default::default() }
    }

    fn answer() -> GetDistributionResponse {
        let layout = PackLayout::of_file(u64::from(EXTENTS) * EXTENT_BYTES as u64).expect("a small file");
        let streams = layout.streams().iter().map(|s| v1::Stream { id: s.id.0.into(), bytes: s.bytes }).collect();
        GetDistributionResponse {
            hosts: vec![v1::Host {
                server_id: "s1".to_owned(),
                address: "127.0.0.1:9".to_owned(),
                ticket: vec![1; 80],
                session_secret: vec![7; 32],
                ticket_expires_in_sec: 600,
            }],
            ranges: vec![range(0, 1, &[0]), range(2, 3, &[0])],
            end_of_file: true,
            metadata: Some(v1::Metadata {
                name: "film.mp4".to_owned(),
                asset: 5,
                content_key: vec![9; 16],
                plain_roots: vec![3; 32],
                streams,
                film: None,
            }),
            frames: None,
        }
    }

    #[test]
    fn a_whole_answer_is_taken_over() {
        let distribution = check(answer(), Window::ALL).expect("a right answer");
        assert_eq!(distribution.asset, AssetId(5));
        assert_eq!(distribution.ranges.len(), 2);
        assert_eq!(distribution.ranges[1].last, ExtentNo(3));
        assert_eq!(distribution.hosts[0].ticket_lifetime, Duration::from_secs(600));
    }

    #[test]
    fn an_empty_file_needs_no_ranges() {
        let mut empty = answer();
        let metadata = empty.metadata.as_mut().expect("there");
        for stream in &mut metadata.streams {
            stream.bytes = 0;
        }
        metadata.plain_roots.clear();
        empty.ranges.clear();
        empty.hosts.clear();
        assert!(check(empty, Window::ALL).expect("a right answer").ranges.is_empty());
    }

    #[test]
    fn a_window_may_end_before_or_beyond_the_file() {
        let window = |first, last| Window::Extents { first: ExtentNo(first), last: Some(ExtentNo(last)) };
        let file = StreamLayout { id: StreamId::ORIGINAL, bytes: u64::from(EXTENTS) * EXTENT_BYTES as u64 };
        let of = |list: &[v1::Range], asked| {
            ranges(list, 1, covered(asked, None, &file).expect("extents")).map(|list| list.len())
        };
        assert_eq!(of(&[range(1, 2, &[0])], window(1, 2)), Ok(1));
        assert_eq!(of(&[range(1, 3, &[0])], window(1, 9)), Ok(1));
        assert_eq!(of(&[range(1, 3, &[0])], window(1, u32::MAX)), Ok(1));
        assert!(of(&[range(1, 1, &[0])], window(1, 2)).is_err(), "extent 2 is missing");
    }

    #[test]
    fn ranges_with_gaps_overlaps_or_unknown_hosts_are_refused() {
        let bad: [&[v1::Range]; 7] = [
            &[],
            &[range(0, 1, &[0]), range(3, 3, &[0])],
            &[range(0, 1, &[0]), range(1, 3, &[0])],
            &[range(1, 3, &[0])],
            &[range(0, 4, &[0])],
            &[range(0, 3, &[1])],
            &[range(0, 3, &[])],
        ];
        for list in bad {
            assert!(ranges(list, 1, (0, EXTENTS)).is_err(), "{list:?}");
        }
        assert!(ranges(&[range(0, u64::MAX, &[0])], 1, (0, EXTENTS)).is_err());
    }

    #[test]
    fn wrong_keys_secrets_addresses_and_hash_lists_are_refused() {
        let refused = |change: fn(&mut GetDistributionResponse)| {
            let mut wrong = answer();
            change(&mut wrong);
            check(wrong, Window::ALL).is_err()
        };
        assert!(refused(|a| a.metadata = None));
        assert!(refused(|a| a.metadata.as_mut().expect("there").content_key.truncate(15)));
        assert!(refused(|a| a.metadata.as_mut().expect("there").plain_roots.truncate(31)));
        assert!(refused(|a| a.metadata.as_mut().expect("there").plain_roots.extend([0; 32])));
        assert!(refused(|a| a.metadata.as_mut().expect("there").streams[0].id = 256));
        assert!(refused(|a| a.metadata.as_mut().expect("there").streams[1].id = 0));
        assert!(refused(|a| a.hosts[0].session_secret.truncate(31)));
        assert!(refused(|a| a.hosts[0].ticket = vec![0; 513]));
        assert!(refused(|a| a.hosts[0].address = "localhost:9".to_owned()));
    }

    #[test]
    fn debug_output_hides_key_and_secret() {
        let distribution = check(answer(), Window::ALL).expect("a right answer");
        let printed = format!("{distribution:?}");
        assert!(!printed.contains("9, 9, 9") && !printed.contains("7, 7, 7"), "{printed}");
    }
}
