//! Publishing: a pack arrives whole and a name points to it, or nothing has happened.
//!
//! ```text
//! BeginPublish   draws id and key                       nothing on the disk
//! Upload         ID.pack.partial, its room reserved     a start-up sweeps it
//!   finish       every hash checked, fsync, rename      ID.pack without a row: a start-up makes it an orphan
//!   commit       one transaction moves the name         published
//! ```

mod attempts;
mod upload;

use std::sync::{Arc, Mutex};
use std::time::Instant;

use braidcast_media::hashes::Hash;
use braidcast_media::layout::HASH_BYTES;
use braidcast_media::{AssetId, ContentKey, PackLayout, StreamId};
use braidcast_proto::v1;
use tokio::sync::Notify;
use tokio::time::timeout;
use tonic::{Request, Response, Status, Streaming};

use crate::accounts::UserId;
use crate::auth::gate::{self, Caller};
use crate::auth::standing::Standing;
use crate::clock;
use crate::errors::ServiceError;
use crate::film::Film;
use crate::library::{Asset, Library};
use crate::limits::{
    UPLOAD_TURN_WAIT, UPLOADS_MAX, UPLOADS_PER_USER_MAX, UPLOADS_WAITING_MAX, UPLOADS_WAITING_PER_USER_MAX,
};
use crate::names::VideoName;
use crate::net::permits::{Permit, Permits};
use crate::net::shares::{ShareBounds, Shares, Spent};
use crate::origin::Origin;
use crate::publishing::attempts::{Attempt, Attempts};
use crate::publishing::upload::{Parts, Writer};
use crate::random;
use crate::streams::StreamLengths;
use crate::sync::{lock, to_its_end};

/// The Publishing service.
pub(crate) struct PublishingService {
    library: Arc<Library>,
    origin: Origin,
    /// Told when there is something new for the servers to hold or drop.
    steer: Arc<Notify>,
    attempts: Mutex<Attempts>,
    standing: Arc<Standing>,
    uploads: Permits<UserId>,
    waiting_uploads: Arc<Shares<UserId>>,
}

impl PublishingService {
    pub(crate) fn new(library: Arc<Library>, origin: Origin, steer: Arc<Notify>, standing: Arc<Standing>) -> Self {
        let waiting = ShareBounds { all: UPLOADS_WAITING_MAX, each: UPLOADS_WAITING_PER_USER_MAX };
        Self {
            library,
            origin,
            steer,
            attempts: Mutex::new(Attempts::default()),
            standing,
            uploads: Permits::new(ShareBounds { all: UPLOADS_MAX, each: UPLOADS_PER_USER_MAX }),
            waiting_uploads: Shares::new(waiting),
        }
    }

    async fn begin(&self, caller: Caller, request: v1::BeginPublishRequest) -> Result<AssetKey, ServiceError> {
        let name = VideoName::parse(&request.name)?;
        let v1::BeginPublishRequest { replace, replicas, .. } = request;
        let streams = StreamLengths {
            original: request.bytes,
            frame_index: request.frame_index_bytes,
            key_frame_index: request.key_frame_index_bytes,
            access_units: request.access_unit_bytes,
        };
        let film = Film::requested(request.film.as_deref(), &streams)?;
        let layout = streams.layout(film.is_some())?;
        if !replace {
            self.library.check_free(&name)?;
        }
        let (origin, needed) = (self.origin.clone(), layout.disk_bytes());
        tokio::task::spawn_blocking(move || origin.check_room(needed)).await??;
        let asset = self.draw_id();
        let content_key = ContentKey::new(random::draw());
        let began = Instant::now();
        let attempt = Attempt {
            user: caller.user,
            name,
            layout,
            film,
            content_key: content_key.clone(),
            replace,
            replicas,
            began,
        };
        lock(&self.attempts).begin(began, asset, attempt)?;
        Ok(AssetKey { asset, content_key })
    }

    /// 64 bits: drawing one that was ever used is no more likely than a broken disk; one in use is not drawn. Zero is
    /// what an unset field looks like.
    fn draw_id(&self) -> AssetId {
        loop {
            let id = AssetId(u64::from_be_bytes(random::draw()));
            if id != AssetId(0) && !self.library.knows(id) {
                return id;
            }
        }
    }

    /// Waits until there are fewer than [`UPLOADS_MAX`] uploads, and fewer than [`UPLOADS_PER_USER_MAX`] of this user.
    /// Nothing of the upload is read before.
    async fn turn(&self, user: UserId) -> Result<Permit, ServiceError> {
        let too_many = |what, limit| ServiceError::TooMany { what, limit };
        let _place = self.waiting_uploads.take(user).map_err(|spent| match spent {
            Spent::Own => too_many("uploads of yours that wait for their turn", UPLOADS_WAITING_PER_USER_MAX),
            Spent::All => too_many("uploads that wait for their turn", UPLOADS_WAITING_MAX),
        })?;
        let turn = timeout(UPLOAD_TURN_WAIT, self.uploads.acquire(user)).await;
        turn.map_err(|_| too_many("uploads", UPLOADS_MAX))
    }

    async fn receive(&self, caller: Caller, mut parts: Parts) -> Result<(), ServiceError> {
        let _turn = self.turn(caller.user).await?;
        let asset = AssetId(parts.start().await?.asset);
        let attempt = lock(&self.attempts).take(Instant::now(), asset, caller.user)?;
        if !attempt.replace {
            self.library.check_free(&attempt.name)?;
        }
        let (origin, layout) = (self.origin.clone(), attempt.layout.clone());
        let needed = layout.disk_bytes();
        let pack = tokio::task::spawn_blocking(move || origin.create(asset, layout)).await??;
        let mut writer = Writer::new(pack);
        let finish = parts.receive(&mut writer).await;
        // What the disk or the pack's layout said explains why the upload could not go on.
        let pack = writer.join().await?.map_err(|error| self.origin.refusal(error, needed))?;
        let v1::UploadFinish { header, plain_roots } = finish?;
        check_roots(&attempt.layout, &plain_roots)?;
        let upload = Upload { asset, attempt, plain_roots, pack, header };
        // A publisher that hangs up now must not leave a pack that no row names.
        let (library, origin, standing) = (Arc::clone(&self.library), self.origin.clone(), Arc::clone(&self.standing));
        to_its_end(async move { upload.commit(&library, &origin, &standing, &caller).await }).await?;
        self.steer.notify_one();
        Ok(())
    }
}

struct AssetKey {
    asset: AssetId,
    content_key: ContentKey,
}

/// An upload whose stream has ended as it should.
struct Upload {
    asset: AssetId,
    attempt: Attempt,
    plain_roots: Vec<u8>,
    pack: braidcast_media::pack::PackWriter,
    header: Vec<u8>,
}

impl Upload {
    async fn commit(
        self,
        library: &Library,
        origin: &Origin,
        standing: &Standing,
        by: &Caller,
    ) -> Result<(), ServiceError> {
        let Self { asset: id, attempt, plain_roots, pack, header } = self;
        let needed = attempt.layout.disk_bytes();
        let header_hash: Hash = tokio::task::spawn_blocking(move || upload::finish(pack, &header))
            .await?
            .map_err(|error| origin.refusal(error, needed))?;
        let Attempt { name, layout, film, content_key, replace, replicas, .. } = attempt;
        let bytes = StreamLengths::of(&layout).original;
        let asset = Asset {
            id,
            name: name.clone(),
            content_key,
            bytes,
            layout,
            film,
            header_hash,
            plain_roots,
            replicas,
            published_at: clock::unix_s(),
        };
        let is_film = asset.film.is_some();
        // An upload lasts for hours, and its publisher may have been put out meanwhile.
        let committed = match standing.hold(by).await {
            Ok(_held) => library.commit(asset, replace).await,
            Err(refused) => Err(refused),
        };
        let obsolete = match &committed {
            Ok(old) => old.as_ref().map(|old| old.id),
            // A pack that the database may name stays: at the worst the next start makes it an orphan.
            Err(_) => matches!(library.has_row(id).await, Ok(false)).then_some(id),
        };
        if let Some(obsolete) = obsolete {
            let origin = origin.clone();
            tokio::task::spawn_blocking(move || origin.remove(obsolete)).await?;
        }
        committed?;
        tracing::info!(%name, asset = %id, bytes, is_film, "published");
        Ok(())
    }
}

fn check_roots(layout: &PackLayout, plain_roots: &[u8]) -> Result<(), ServiceError> {
    let extents = layout.stream(StreamId::PLAIN_HASHES).map_or(0, |stream| stream.extents());
    let needed = extents as usize * HASH_BYTES;
    if plain_roots.len() == needed {
        Ok(())
    } else {
        Err(ServiceError::PlainRoots { found: plain_roots.len(), needed })
    }
}

#[tonic::async_trait]
impl v1::publishing_server::Publishing for PublishingService {
    async fn begin_publish(
        &self,
        request: Request<v1::BeginPublishRequest>,
    ) -> Result<Response<v1::BeginPublishResponse>, Status> {
        let caller = gate::caller(&request)?;
        let AssetKey { asset, content_key } = self.begin(caller, request.into_inner()).await?;
        let content_key = content_key.expose().to_vec();
        Ok(Response::new(v1::BeginPublishResponse { asset: asset.0, content_key }))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<v1::UploadResponse>, Status> {
        let caller = gate::caller(&request)?;
        let parts = Parts::new(request.into_inner(), caller.clone(), Arc::clone(&self.standing));
        self.receive(caller, parts).await?;
        Ok(Response::new(v1::UploadResponse {}))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_must_be_as_many_as_the_hash_list_has_extents() {
        let one = PackLayout::of_file(1).expect("short");
        assert!(check_roots(&one, &[0; 32]).is_ok());
        assert!(check_roots(&one, &[]).is_err() && check_roots(&one, &[0; 33]).is_err());
        let none = PackLayout::of_file(0).expect("empty");
        assert!(check_roots(&none, &[]).is_ok() && check_roots(&none, &[0; 32]).is_err());
    }
}
