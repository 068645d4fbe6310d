//! Which servers hold which part of a video: the Distribution service.

mod index;
mod part;
mod penalties;
mod plan;
mod search;
mod span;
mod timeline;
mod window;

pub(crate) use index::IndexError;
pub(crate) use window::WindowError;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use braidcast_media::{AssetId, ExtentNo, StreamId};
use braidcast_proto::v1;
use braidcast_proto::v1::get_distribution_request::{Video, Window};
use tonic::{Request, Response, Status};

use crate::auth::gate::{self, Caller};
use crate::cluster::Cluster;
use crate::cluster::registry::Holder;
use crate::distribution::part::{Part, original_extents};
use crate::distribution::penalties::{Penalties, Reporter};
use crate::distribution::span::Span;
use crate::distribution::window::Wanted;
use crate::errors::ServiceError;
use crate::film::Film;
use crate::healing::Healing;
use crate::library::{Asset, Library};
use crate::limits::{FAILED_HOSTS_MAX, HOSTS_MAX, VERIFY_EXTENTS_MAX};
use crate::origin::Origin;
use crate::sync::lock;
use crate::tickets;

/// The Distribution service.
pub(crate) struct DistributionService {
    library: Arc<Library>,
    origin: Origin,
    cluster: Arc<Cluster>,
    healing: Arc<Healing>,
    ticket_lifetime: Duration,
    penalties: Mutex<Penalties>,
}

impl DistributionService {
    pub(crate) fn new(
        library: Arc<Library>,
        origin: Origin,
        cluster: Arc<Cluster>,
        healing: Arc<Healing>,
        ticket_lifetime: Duration,
    ) -> Self {
        Self { library, origin, cluster, healing, ticket_lifetime, penalties: Mutex::new(Penalties::default()) }
    }

    async fn answer(
        &self,
        caller: &Caller,
        asset: &Arc<Asset>,
        window: Option<Window>,
    ) -> Result<v1::GetDistributionResponse, ServiceError> {
        let part = self.part(asset, window).await?;
        let (mut hosts, mut ranges) = (vec![], vec![]);
        if let Some(window) = part.extents() {
            let holders = self.holders_for(caller, asset)?;
            let weights: Vec<u32> = holders.iter().map(weight).collect();
            ranges = plan::deal(window, &weights, turn(caller, asset.id));
            hosts = holders.iter().map(|holder| self.host(caller, asset, holder)).collect();
        }
        Ok(v1::GetDistributionResponse {
            hosts,
            end_of_file: part.reaches_end(&ranges),
            ranges: ranges.into_iter().map(|planned| part.range(planned)).collect(),
            metadata: Some(metadata(asset)),
            frames: part.into_frames(),
        })
    }

    /// Finds what `window` means, in the film's index if it needs to.
    async fn part(&self, asset: &Arc<Asset>, window: Option<Window>) -> Result<Part, ServiceError> {
        match window::wanted(window, original_extents(&asset.layout), asset.film.as_ref())? {
            Wanted::Extents(extents) => Ok(Part::of_file(&asset.layout, extents)),
            Wanted::Film { film, look } => {
                let (origin, same) = (self.origin.clone(), Arc::clone(asset));
                let span = tokio::task::spawn_blocking(move || Span::read(&origin, &same, &film, &look)).await?;
                match span {
                    Ok(span) => Ok(Part::Film(span)),
                    Err(error) if error.may_blame_the_pack() => {
                        Err(self.healing.on_unreadable_index(asset, error).await)
                    }
                    Err(error) => Err(error),
                }
            }
        }
    }

    /// The listed servers that hold the asset, less those that failed this client while others have it too.
    fn holders_for(&self, caller: &Caller, asset: &Asset) -> Result<Vec<Holder>, ServiceError> {
        let mut holders = self.cluster.holders(asset);
        if holders.is_empty() {
            let (listed, known) = self.cluster.counts();
            return Err(ServiceError::NoHolder { name: asset.name.to_string(), listed, known });
        }
        let (penalties, now) = (lock(&self.penalties), Instant::now());
        let reporter = Reporter::new(caller.user, asset.id);
        let fails = |holder: &Holder| penalties.has(now, reporter, &holder.server_id);
        if !holders.iter().all(fails) {
            holders.retain(|holder| !fails(holder));
        }
        drop(penalties);
        if holders.len() > HOSTS_MAX {
            // Different clients get different ones of so many.
            let first = turn(caller, asset.id) % holders.len() as u64;
            holders.rotate_left(first as usize);
            holders.truncate(HOSTS_MAX);
        }
        Ok(holders)
    }

    fn host(&self, caller: &Caller, asset: &Asset, holder: &Holder) -> v1::Host {
        let sealed = tickets::seal(&holder.key, caller.user.on_tickets(), asset.id, self.ticket_lifetime);
        v1::Host {
            server_id: holder.server_id.clone(),
            address: holder.address.to_string(),
            ticket: sealed.ticket,
            session_secret: sealed.secret.expose().to_vec(),
            ticket_expires_in_sec: u32::try_from(self.ticket_lifetime.as_secs()).unwrap_or(u32::MAX),
        }
    }

    fn on_failed(&self, caller: &Caller, asset: &Asset, failed: &[v1::FailedHost]) {
        let reporter = Reporter::new(caller.user, asset.id);
        let known: HashSet<String> = self.cluster.statuses().into_iter().map(|server| server.server_id).collect();
        for host in failed.iter().take(FAILED_HOSTS_MAX).filter(|host| known.contains(&host.server_id)) {
            lock(&self.penalties).add(Instant::now(), reporter, &host.server_id);
            let reason = host.reason();
            tracing::info!(
                server = host.server_id,
                reason = reason.as_str_name(),
                failed_parts = host.failed_parts,
                last_good_ms = host.last_good_ms,
                asset = %asset.id,
                user = caller.username,
                "a client reports a failed server"
            );
            match reason {
                v1::FailureReason::Damaged => self.order_verify(asset, host),
                v1::FailureReason::Forged => tracing::warn!(
                    server = host.server_id,
                    asset = %asset.id,
                    user = caller.username,
                    "a client says that this server forges chunks: look at that machine"
                ),
                v1::FailureReason::Unspecified
                | v1::FailureReason::Silent
                | v1::FailureReason::Refused
                | v1::FailureReason::NotHeld => {}
            }
        }
    }

    fn order_verify(&self, asset: &Asset, host: &v1::FailedHost) {
        let stream = u8::try_from(host.stream).ok().map(StreamId);
        let exists = |extent: &u64| {
            let extent = u32::try_from(*extent).ok().map(ExtentNo);
            stream.zip(extent).is_some_and(|(stream, extent)| asset.layout.pack_extent(stream, extent).is_some())
        };
        let extents: Vec<u64> = host.damaged_extents.iter().copied().filter(exists).take(VERIFY_EXTENTS_MAX).collect();
        if !extents.is_empty() {
            self.cluster.verify(&host.server_id, v1::VerifyOrder { asset: asset.id.0, stream: host.stream, extents });
        }
    }
}

#[tonic::async_trait]
impl v1::distribution_server::Distribution for DistributionService {
    async fn get_distribution(
        &self,
        request: Request<v1::GetDistributionRequest>,
    ) -> Result<Response<v1::GetDistributionResponse>, Status> {
        let caller = gate::caller(&request)?;
        let v1::GetDistributionRequest { video, window } = request.into_inner();
        let asset = match video {
            Some(Video::VideoFilename(name)) => self.library.by_name(&name)?,
            Some(Video::Asset(asset)) => self.library.by_id(AssetId(asset))?,
            None => return Err(ServiceError::FieldMissing("video_filename` or `asset").into()),
        };
        Ok(Response::new(self.answer(&caller, &asset, window).await?))
    }

    async fn redistribute(
        &self,
        request: Request<v1::RedistributeRequest>,
    ) -> Result<Response<v1::GetDistributionResponse>, Status> {
        let caller = gate::caller(&request)?;
        let v1::RedistributeRequest { asset, window, failed } = request.into_inner();
        let asset = self.library.by_id(AssetId(asset))?;
        self.on_failed(&caller, &asset, &failed);
        Ok(Response::new(self.answer(&caller, &asset, window.map(window::still_wanted)).await?))
    }
}

/// Idle servers weigh 16; one with 64 clients weighs half of that, one with 192 a quarter.
fn weight(holder: &Holder) -> u32 {
    const IDLE: u64 = 16;
    const HALF_AT: u64 = 64;
    let weight = IDLE * HALF_AT / (HALF_AT + u64::from(holder.sessions));
    u32::try_from(weight.max(1)).unwrap_or(1)
}

/// Whose turn it is first: another host for another user or film.
fn turn(caller: &Caller, asset: AssetId) -> u64 {
    asset.0.wrapping_add(caller.user.on_tickets())
}

fn metadata(asset: &Asset) -> v1::Metadata {
    let stream = |stream: &braidcast_media::StreamLayout| v1::Stream { id: stream.id.0.into(), bytes: stream.bytes };
    v1::Metadata {
        name: asset.name.to_string(),
        asset: asset.id.0,
        content_key: asset.content_key.expose().to_vec(),
        plain_roots: asset.plain_roots.clone(),
        streams: asset.layout.streams().iter().map(stream).collect(),
        film: asset.film.as_deref().map(Film::message),
    }
}
