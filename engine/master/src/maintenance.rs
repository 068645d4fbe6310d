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
use crate::limits::ORPHANS_LISTED;
use crate::origin::{Origin, Orphan};
use crate::sync::to_its_end;

/// The Maintenance service.
pub(crate) struct MaintenanceService {
    pub(crate) origin: Origin,
    pub(crate) findings: Arc<Findings>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) standing: Arc<Standing>,
}

impl MaintenanceService {
    async fn orphans(&self) -> Result<(Vec<Orphan>, usize), ServiceError> {
        let origin = self.origin.clone();
        tokio::task::spawn_blocking(move || origin.orphans()).await?
    }

    async fn remove(&self, assets: Vec<u64>, by: &Caller) -> Result<v1::RemoveOrphansResponse, ServiceError> {
        if assets.len() > ORPHANS_LISTED {
            return Err(ServiceError::TooManyOrphans { found: assets.len(), limit: ORPHANS_LISTED });
        }
        let held = self.standing.hold(by).await?;
        let (origin, by) = (self.origin.clone(), by.username.clone());
        tokio::task::spawn_blocking(move || {
            let _held = held;
            let mut done = v1::RemoveOrphansResponse::default();
            for asset in assets.into_iter().map(AssetId) {
                if let Some(bytes) = origin.remove_orphan(asset)? {
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

/// What is to be said of the orphans.
fn of_orphans(total: usize) -> Option<Finding> {
    let why = format!(
        "{total} whole packs in the origin's folder `orphans` are not in the database; `braidcast orphans` lists them \
         and deletes them if you say so, and a newer database takes its own back"
    );
    (total > 0).then(|| Finding::warning("orphans", why))
}

#[tonic::async_trait]
impl v1::maintenance_server::Maintenance for MaintenanceService {
    async fn list_findings(
        &self,
        _request: Request<v1::ListFindingsRequest>,
    ) -> Result<Response<v1::ListFindingsResponse>, Status> {
        let (_, orphans) = self.orphans().await?;
        let findings = self.findings.all().into_iter().chain(of_orphans(orphans)).map(v1::Finding::from).collect();
        Ok(Response::new(v1::ListFindingsResponse { findings }))
    }

    async fn list_orphans(
        &self,
        _request: Request<v1::ListOrphansRequest>,
    ) -> Result<Response<v1::ListOrphansResponse>, Status> {
        let (orphans, total) = self.orphans().await?;
        let to_proto = |orphan: Orphan| {
            let Orphan { asset, bytes, written_at } = orphan;
            v1::Orphan { asset: asset.0, bytes, written_at }
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
