//! Calls of an operator. All need the role of an administrator.

use braidcast_proto::v1::maintenance_client::MaintenanceClient;
use braidcast_proto::v1::{
    Finding, ForgetServerRequest, ListFindingsRequest, ListOrphansRequest, ListOrphansResponse, RemoveOrphansRequest,
    RemoveOrphansResponse,
};

use super::Control;
use crate::error::ControlError;

impl Control {
    /// What is wrong with the library, or may become so.
    ///
    /// # Errors
    /// [`ControlError::NotPermitted`] and the rest.
    pub async fn list_findings(&self) -> Result<Vec<Finding>, ControlError> {
        Ok(self
            .call("list of findings", ListFindingsRequest {}, async |channel, request| {
                MaintenanceClient::new(channel).list_findings(request).await
            })
            .await?
            .into_inner()
            .findings)
    }

    /// Whole packs in the origin that the master's database does not know: the first few thousand, and how many there
    /// are.
    ///
    /// # Errors
    /// [`ControlError::NotPermitted`] and the rest.
    pub async fn list_orphans(&self) -> Result<ListOrphansResponse, ControlError> {
        Ok(self
            .call("list of orphans", ListOrphansRequest {}, async |channel, request| {
                MaintenanceClient::new(channel).list_orphans(request).await
            })
            .await?
            .into_inner())
    }

    /// Forgets a media server that is gone for good, by its id or address; gives its id.
    ///
    /// # Errors
    /// [`ControlError::NotFound`], [`ControlError::Precondition`] while it is connected, [`ControlError::NotPermitted`]
    /// and the rest.
    pub async fn forget_server(&self, server: &str) -> Result<String, ControlError> {
        let request = ForgetServerRequest { server: server.to_owned() };
        let what = format!("server {server:?}");
        let answer = self.call(&what, request, async |channel, request| {
            MaintenanceClient::new(channel).forget_server(request).await
        });
        Ok(answer.await?.into_inner().server_id)
    }

    /// Deletes orphans for good: at most as many as one list holds.
    ///
    /// # Errors
    /// [`ControlError::NotPermitted`] and the rest.
    pub async fn remove_orphans(&self, assets: Vec<u64>) -> Result<RemoveOrphansResponse, ControlError> {
        Ok(self
            .call("orphans", RemoveOrphansRequest { assets }, async |channel, request| {
                MaintenanceClient::new(channel).remove_orphans(request).await
            })
            .await?
            .into_inner())
    }
}
