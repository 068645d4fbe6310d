//! What there is to watch and who serves it: the Catalogue service.

use std::sync::Arc;

use braidcast_proto::v1;
use tokio::sync::Notify;
use tonic::{Request, Response, Status};

use crate::auth::gate;
use crate::auth::standing::Standing;
use crate::cluster::Cluster;
use crate::errors::ServiceError;
use crate::film::Film;
use crate::library::{Asset, Library};
use crate::limits::LIST_BATCH;
use crate::origin::Origin;
use crate::sync::to_its_end;

/// The Catalogue service.
pub(crate) struct CatalogueService(pub(crate) Arc<Shown>);

/// What the service shows.
pub(crate) struct Shown {
    pub(crate) library: Arc<Library>,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) origin: Origin,
    /// Told when there is something for the servers to drop.
    pub(crate) steer: Arc<Notify>,
    pub(crate) standing: Arc<Standing>,
}

impl Shown {
    /// The whole list. The lock on what servers hold is taken for a part of it at a time: reports go on meanwhile.
    fn list(&self) -> Vec<v1::Video> {
        self.library.list().chunks(LIST_BATCH).flat_map(|assets| self.videos(assets, Film::summary)).collect()
    }

    fn videos(&self, assets: &[Arc<Asset>], describe: fn(&Film) -> v1::Film) -> Vec<v1::Video> {
        let replicas = self.cluster.replicas(assets);
        let video = |asset: &Arc<Asset>| {
            let (replicas_wanted, replicas_held) = replicas.get(&asset.id).copied().unwrap_or_default();
            let unsound = self.library.unsoundness(asset.id);
            let condition = unsound.as_ref().map_or(v1::Condition::Sound, |unsound| unsound.damage.condition());
            v1::Video {
                name: asset.name.to_string(),
                asset: asset.id.0,
                bytes: asset.bytes,
                published_at: asset.published_at,
                replicas_wanted,
                replicas_held,
                film: asset.film.as_deref().map(describe),
                condition: condition.into(),
                condition_reason: unsound.map(|unsound| unsound.in_words()).unwrap_or_default(),
            }
        };
        assets.iter().map(video).collect()
    }

    async fn remove(&self, name: &str) -> Result<Arc<Asset>, ServiceError> {
        let removed = self.library.remove(name).await?;
        let (origin, asset) = (self.origin.clone(), removed.id);
        tokio::task::spawn_blocking(move || origin.remove(asset)).await?;
        self.steer.notify_one();
        Ok(removed)
    }
}

#[tonic::async_trait]
impl v1::catalogue_server::Catalogue for CatalogueService {
    async fn list_videos(
        &self,
        _request: Request<v1::ListVideosRequest>,
    ) -> Result<Response<v1::ListVideosResponse>, Status> {
        let shown = Arc::clone(&self.0);
        let videos = tokio::task::spawn_blocking(move || shown.list()).await.map_err(ServiceError::from)?;
        Ok(Response::new(v1::ListVideosResponse { videos }))
    }

    async fn get_video(&self, request: Request<v1::GetVideoRequest>) -> Result<Response<v1::GetVideoResponse>, Status> {
        let asset = self.0.library.by_name(&request.get_ref().name)?;
        let video = self.0.videos(&[asset], Film::message).pop();
        Ok(Response::new(v1::GetVideoResponse { video }))
    }

    async fn remove_video(
        &self,
        request: Request<v1::RemoveVideoRequest>,
    ) -> Result<Response<v1::RemoveVideoResponse>, Status> {
        let caller = gate::caller(&request)?;
        let (shown, by) = (Arc::clone(&self.0), caller.clone());
        let removed = to_its_end(async move {
            let _held = shown.standing.hold(&by).await?;
            shown.remove(&request.get_ref().name).await
        });
        let removed = removed.await?;
        tracing::info!(name = %removed.name, asset = %removed.id, by = caller.username, "removed a video");
        Ok(Response::new(v1::RemoveVideoResponse {}))
    }

    async fn list_servers(
        &self,
        _request: Request<v1::ListServersRequest>,
    ) -> Result<Response<v1::ListServersResponse>, Status> {
        Ok(Response::new(v1::ListServersResponse { servers: self.0.cluster.statuses() }))
    }
}
