//! Calls about videos and servers.

use braidcast_media::{AssetId, ContentKey};
use braidcast_proto::LIST_BYTES_MAX;
use braidcast_proto::v1::catalogue_client::CatalogueClient;
use braidcast_proto::v1::publishing_client::PublishingClient;
use braidcast_proto::v1::{
    BeginPublishRequest, GetVideoRequest, ListServersRequest, ListVideosRequest, RemoveVideoRequest, ServerStatus,
    UploadRequest, Video,
};
use tokio_stream::Stream;
use tonic::{Code, Request};

use super::distribution::video_name;
use super::{CALL_TIMEOUT, Control, tokens};
use crate::error::ControlError;

/// What a publisher seals with.
#[derive(Clone, Debug)]
pub struct BegunPublish {
    /// Drawn for this attempt and never used for another.
    pub asset: AssetId,
    /// Drawn with it.
    pub content_key: ContentKey,
}

impl Control {
    /// Every video that the master has.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn list_videos(&self) -> Result<Vec<Video>, ControlError> {
        Ok(self
            .call("list of videos", ListVideosRequest {}, async |channel, request| {
                CatalogueClient::new(channel).max_decoding_message_size(LIST_BYTES_MAX).list_videos(request).await
            })
            .await?
            .into_inner()
            .videos)
    }

    /// The video called `name`.
    ///
    /// # Errors
    /// [`ControlError::NotFound`] and the rest.
    pub async fn video(&self, name: &str) -> Result<Video, ControlError> {
        let what = video_name(name);
        let answer = self
            .call(&what, GetVideoRequest { name: name.to_owned() }, async |channel, request| {
                CatalogueClient::new(channel).get_video(request).await
            })
            .await?;
        let missing = || ControlError::BadAnswer { what: what.clone(), reason: "it holds no video".to_owned() };
        answer.into_inner().video.ok_or_else(missing)
    }

    /// Removes the video called `name`; servers drop their copies soon after.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::NotPermitted`] and the rest.
    pub async fn remove_video(&self, name: &str) -> Result<(), ControlError> {
        self.call(&video_name(name), RemoveVideoRequest { name: name.to_owned() }, async |channel, request| {
            CatalogueClient::new(channel).remove_video(request).await
        })
        .await
        .map(|_| ())
    }

    /// The media servers that the master knows, listed to clients or not.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn list_servers(&self) -> Result<Vec<ServerStatus>, ControlError> {
        Ok(self
            .call("list of servers", ListServersRequest {}, async |channel, request| {
                CatalogueClient::new(channel).list_servers(request).await
            })
            .await?
            .into_inner()
            .servers)
    }

    /// Asks for a fresh id and key to seal a file with.
    ///
    /// # Errors
    /// [`ControlError::AlreadyExists`] for a name that is taken where `replace` is not set, and the rest.
    pub async fn begin_publish(&self, request: BeginPublishRequest) -> Result<BegunPublish, ControlError> {
        let what = video_name(&request.name);
        let answer = self
            .call(&what, request, async |channel, request| PublishingClient::new(channel).begin_publish(request).await)
            .await?
            .into_inner();
        let content_key = ContentKey::from_slice(&answer.content_key);
        let wrong = || ControlError::BadAnswer { what: what.clone(), reason: "the key is not 16 bytes".to_owned() };
        Ok(BegunPublish { asset: AssetId(answer.asset), content_key: content_key.ok_or_else(wrong)? })
    }

    /// Sends the parts of a pack. It takes as long as it takes; a master that vanishes is noticed by the connection.
    ///
    /// # Errors
    /// [`ControlError`]; the asset then does not exist. A stale token is not renewed, for the parts are gone by then:
    /// [`Control::begin_publish`] just before has renewed it.
    pub async fn upload(
        &self,
        name: &str,
        parts: impl Stream<Item = UploadRequest> + Send + 'static,
    ) -> Result<(), ControlError> {
        let token = self.shared.tokens.access(None).await?;
        let mut request = Request::new(parts);
        tokens::authorise(&mut request, &token);
        let answer = PublishingClient::new(self.shared.channel.clone()).upload(request).await;
        match answer {
            Ok(_) => Ok(()),
            // Here the master speaks of itself, not of servers that hold the video.
            Err(status) if status.code() == Code::Unavailable && std::error::Error::source(&status).is_none() => {
                let (address, reason) = (self.address().to_owned(), status.message().to_owned());
                Err(ControlError::Unreachable { address, reason })
            }
            Err(status) => Err(self.shared.peer.status(&video_name(name), CALL_TIMEOUT, &status)),
        }
    }
}
