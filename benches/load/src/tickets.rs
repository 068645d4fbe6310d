//! What the master gives: a ticket for each viewer, and what opens the chunks.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use braidcast_client::control::{Control, Distribution, Host, VideoRef, Window};
use braidcast_client::{ControlError, Profile};
use braidcast_lab::stop::Stop;
use braidcast_media::{AssetId, ContentKey, ExtentNo, PackLayout, StreamId};

use crate::cluster::FILM;

const LISTED_WAIT: Duration = Duration::from_secs(60);
const LISTED_EVERY: Duration = Duration::from_millis(200);
/// Calls that are under way at a time.
const CALLS_AT_ONCE: usize = 16;

/// The file that is watched.
#[derive(Clone, Debug)]
pub(crate) struct Film {
    /// Its version.
    pub(crate) asset: AssetId,
    /// What opens its chunks.
    pub(crate) content_key: ContentKey,
    /// Its streams.
    pub(crate) layout: PackLayout,
    /// Chunks of its bytes.
    pub(crate) chunks: u32,
}

/// Draws tickets for the server at `address`, one by a call each: a server allows 64 sessions for a ticket, and a viewer
/// has its own.
pub(crate) fn draw(profile: &Profile, address: SocketAddr, count: u32, stop: &Stop) -> Result<(Film, Vec<Host>)> {
    // All threads of it end with this function: nothing but the viewers' thread runs later.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    runtime.block_on(draw_all(profile, address, count as usize, stop))
}

async fn draw_all(profile: &Profile, address: SocketAddr, count: usize, stop: &Stop) -> Result<(Film, Vec<Host>)> {
    let control = Control::connect(profile).await?;
    let first = wait_until_listed(&control, address, stop).await?;
    let chunks = first.layout.stream(StreamId::ORIGINAL).map_or(0, |stream| stream.chunks());
    let film = Film { asset: first.asset, content_key: first.content_key, layout: first.layout, chunks };
    let callers = CALLS_AT_ONCE.min(count);
    let shares = (0..callers).map(|caller| (count - caller).div_ceil(callers));
    let callers: Vec<_> = shares.map(|share| tokio::spawn(draw_some(control.clone(), share, stop.clone()))).collect();
    let mut hosts = Vec::with_capacity(count);
    for caller in callers {
        hosts.extend(caller.await.context("a call to the master")??);
    }
    Ok((film, hosts))
}

/// The server was started a moment ago, and the master lists it when it has proven its address.
async fn wait_until_listed(control: &Control, address: SocketAddr, stop: &Stop) -> Result<Distribution> {
    let end = Instant::now() + LISTED_WAIT;
    loop {
        stop.check()?;
        match ask(control).await {
            Ok(answer) if answer.hosts.iter().all(|host| host.address == address) => return Ok(answer),
            Ok(_) | Err(ControlError::NoSource { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() > end {
            bail!("the master does not list the server at {address} within {LISTED_WAIT:?}; see --keep-logs");
        }
        tokio::time::sleep(LISTED_EVERY).await;
    }
}

async fn draw_some(control: Control, count: usize, stop: Stop) -> Result<Vec<Host>> {
    let mut hosts = Vec::with_capacity(count);
    while hosts.len() < count {
        stop.check()?;
        let listed = ask(&control).await?.hosts;
        let [host] = <[Host; 1]>::try_from(listed)
            .or_else(|hosts| bail!("the master lists {} servers, not one", hosts.len()))?;
        hosts.push(host);
    }
    Ok(hosts)
}

async fn ask(control: &Control) -> Result<Distribution, ControlError> {
    let window = Window::Extents { first: ExtentNo(0), last: Some(ExtentNo(0)) };
    control.distribution(VideoRef::Name(FILM), window).await
}
