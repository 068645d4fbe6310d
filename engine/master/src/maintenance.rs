//! What an operator needs to know and to decide: the Maintenance service.

use std::sync::Arc;

use braidcast_media::AssetId;
use braidcast_proto::v1;
use tonic::{Request, Response, Status};

use crate::auth::gate::{self, Caller};
use crate::auth::standing::Standing;
use crate::cluster::Cluster;
use crate::errors::ServiceError;
use crate::findings::{Finding, Findings};
use crate::healing;
use crate::library::Library;
use crate::limits::ORPHANS_LISTED;
use crate::origin::{Origin, Orphan};
use crate::sync::to_its_end;

/// The Maintenance service.
pub(crate) struct MaintenanceService {
    pub(crate) origin: Origin,
    pub(crate) library: Arc<Library>,
    pub(crate) findings: Arc<Findings>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) standing: Arc<Standing>,
}

impl MaintenanceService {
    /// The orphans, each with the name of the video whose only copy it may be, and how many there are.
    async fn orphans(&self) -> Result<(Vec<(Orphan, Option<String>)>, usize), ServiceError> {
        let (origin, library) = (self.origin.clone(), Arc::clone(&self.library));
        tokio::task::spawn_blocking(move || {
            let (orphans, total) = origin.orphans()?;
            // One that cannot be read just now is listed all the same.
            let with_name = |orphan: Orphan| (orphan, needed_by(&origin, &library, orphan.asset).unwrap_or_default());
            Ok((orphans.into_iter().map(with_name).collect(), total))
        })
        .await?
    }

    async fn remove(&self, assets: Vec<u64>, by: &Caller) -> Result<v1::RemoveOrphansResponse, ServiceError> {
        if assets.len() > ORPHANS_LISTED {
            return Err(ServiceError::TooManyOrphans { found: assets.len(), limit: ORPHANS_LISTED });
        }
        let held = self.standing.hold(by).await?;
        let (origin, library, by) = (self.origin.clone(), Arc::clone(&self.library), by.username.clone());
        tokio::task::spawn_blocking(move || {
            let _held = held;
            let mut done = v1::RemoveOrphansResponse::default();
            for asset in assets.into_iter().map(AssetId) {
                if let Some(name) = needed_by(&origin, &library, asset)? {
                    if origin.has_orphan(asset) {
                        tracing::warn!(%asset, name, by, "an orphan is kept: it may be the only copy of this video");
                        done.kept.push(v1::KeptOrphan { asset: asset.0, needed_by: name });
                    }
                } else if let Some(bytes) = origin.remove_orphan(asset)? {
                    tracing::info!(%asset, bytes, by, "deleted an orphan");
                    done.removed += 1;
                    done.bytes += bytes;
                }
            }
            Ok(done)
        })
        .await?
    }
}

/// The video whose only copy may stand among the orphans of `asset`. `None`: they are no video's that the database has,
/// or the pack of that video is sound.
fn needed_by(origin: &Origin, library: &Library, asset: AssetId) -> Result<Option<String>, ServiceError> {
    let needs = |id| {
        let known = library.by_id(id).ok();
        known.is_some_and(|asset| library.damage(id).is_some() || !healing::has_outline(origin, &asset))
    };
    let wants = |id| library.by_id(id).ok().map(|asset| asset.header_hash);
    let needing = origin.orphan_needed_by(asset, &needs, &wants)?;
    // `None`: removed a moment ago.
    Ok(needing.and_then(|id| library.by_id(id).ok()).map(|asset| asset.name.to_string()))
}

/// What is to be said of the orphans: those that are nobody's, and those that a video needs.
fn of_orphans(orphans: &[(Orphan, Option<String>)], total: usize) -> impl Iterator<Item = Finding> {
    let needed: Vec<&str> = orphans.iter().filter_map(|(_, needed_by)| needed_by.as_deref()).collect();
    let others = total - needed.len();
    let others = (others > 0).then(|| {
        let why = format!(
            "{others} whole packs in the origin's folder `orphans` are not in the database; `braidcast orphans` lists \
             them and deletes them if you say so, and a newer database takes its own back"
        );
        Finding::warning("orphans", why)
    });
    let needed = needed.first().map(|name| {
        let why = format!(
            "{} files in the origin's folder `orphans` may be the only copies of videos whose packs are not sound, {name:?} \
             for one: they are not deleted before the packs are healed or the videos removed",
            needed.len()
        );
        Finding::warning("orphans", why)
    });
    others.into_iter().chain(needed)
}

#[tonic::async_trait]
impl v1::maintenance_server::Maintenance for MaintenanceService {
    async fn list_findings(
        &self,
        _request: Request<v1::ListFindingsRequest>,
    ) -> Result<Response<v1::ListFindingsResponse>, Status> {
        let (orphans, total) = self.orphans().await?;
        let of_orphans = of_orphans(&orphans, total);
        let findings = self.findings.all().into_iter().chain(of_orphans).map(v1::Finding::from).collect();
        Ok(Response::new(v1::ListFindingsResponse { findings }))
    }

    async fn list_orphans(
        &self,
        _request: Request<v1::ListOrphansRequest>,
    ) -> Result<Response<v1::ListOrphansResponse>, Status> {
        let (orphans, total) = self.orphans().await?;
        let to_proto = |(orphan, needed_by): (Orphan, Option<String>)| {
            let Orphan { asset, bytes, written_at } = orphan;
            v1::Orphan { asset: asset.0, bytes, written_at, needed_by: needed_by.unwrap_or_default() }
        };
        let orphans = orphans.into_iter().map(to_proto).collect();
        Ok(Response::new(v1::ListOrphansResponse { orphans, total: total as u64 }))
    }

    async fn remove_orphans(
        &self,
        request: Request<v1::RemoveOrphansRequest>,
    ) -> Result<Response<v1::RemoveOrphansResponse>, Status> {
        let caller = gate::caller(&request)?;
        Ok(Response::new(self.remove(request.into_inner().assets, &caller).await?))
    }

    async fn forget_server(
        &self,
        request: Request<v1::ForgetServerRequest>,
    ) -> Result<Response<v1::ForgetServerResponse>, Status> {
        let caller = gate::caller(&request)?;
        let server = request.into_inner().server;
        let (cluster, standing, by) = (Arc::clone(&self.cluster), Arc::clone(&self.standing), caller.clone());
        let forgotten = to_its_end(async move {
            let _held = standing.hold(&by).await?;
            cluster.forget(&server).await
        });
        let server_id = forgotten.await?;
        tracing::info!(server_id, by = caller.username, "forgot a media server");
        Ok(Response::new(v1::ForgetServerResponse { server_id }))
    }
}
