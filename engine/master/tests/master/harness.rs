//! Starting a master and talking to it.

use std::path::PathBuf;
use std::time::Duration;

use braidcast_master::{BootstrapAdmin, Master, MasterConfig, MasterError};
use braidcast_media::seal::FileSealer;
use braidcast_media::{AssetId, ContentKey};
use braidcast_proto::v1;
use braidcast_proto::v1::auth_client::AuthClient;
use braidcast_proto::v1::catalogue_client::CatalogueClient;
use braidcast_proto::v1::cluster_client::ClusterClient;
use braidcast_proto::v1::distribution_client::DistributionClient;
use braidcast_proto::v1::issue_token_response::Result as IssueResult;
use braidcast_proto::v1::maintenance_client::MaintenanceClient;
use braidcast_proto::v1::origin_client::OriginClient;
use braidcast_proto::v1::publishing_client::PublishingClient;
use braidcast_proto::v1::upload_request::Part;
use braidcast_proto::v1::users_client::UsersClient;
use tokio::sync::OnceCell;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

pub(crate) const ADMIN: &str = "root";
pub(crate) const PASSWORD: &str = "correct horse";
/// Far longer than anything here takes: a test that waits for it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A master in a folder of its own.
pub(crate) struct Running {
    pub(crate) config: MasterConfig,
    master: Option<Master>,
    pub(crate) channel: Channel,
    admin_token: OnceCell<String>,
    _dir: tempfile::TempDir,
}

impl Running {
    pub(crate) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut MasterConfig)) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let mut config = MasterConfig {
            listen: "127.0.0.1:0".parse().expect("an address"),
            state_dir: dir.path().join("state"),
            bootstrap_admin: Some(BootstrapAdmin { username: ADMIN.to_owned(), password: PASSWORD.to_owned().into() }),
            ..MasterConfig::default()
        };
        change(&mut config);
        let (master, channel) = serve(&config).await;
        Self { config, master: Some(master), channel, admin_token: OnceCell::new(), _dir: dir }
    }

    /// Stops the master, lets `between` at its files, and starts it again.
    pub(crate) async fn restart(&mut self, between: impl FnOnce(&MasterConfig)) {
        self.stop().await;
        between(&self.config);
        let (master, channel) = serve(&self.config).await;
        self.master = Some(master);
        self.channel = channel;
    }

    /// Stops the master, if it runs.
    pub(crate) async fn stop(&mut self) {
        if let Some(master) = self.master.take() {
            master.shutdown().await;
        }
    }

    /// Stops the master, lets `between` at its files, and gives the reason for which it does not start again.
    pub(crate) async fn refused_restart(&mut self, between: impl FnOnce(&MasterConfig)) -> MasterError {
        self.stop().await;
        between(&self.config);
        Master::start(self.config.clone()).await.map(|_| ()).expect_err("it must not start")
    }

    pub(crate) async fn shutdown(mut self) {
        self.stop().await;
    }

    pub(crate) fn join_token(&self) -> String {
        let token = std::fs::read_to_string(self.config.join_token_path()).expect("the join token");
        token.trim().to_owned()
    }

    pub(crate) fn origin(&self) -> PathBuf {
        self.config.state_dir.join("origin")
    }

    /// Names of the files in the origin but the library's id, in order.
    pub(crate) fn origin_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.origin()).expect("the origin");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| name != "library-id");
        names.sort();
        names
    }

    pub(crate) fn auth(&self) -> AuthClient<Channel> {
        AuthClient::new(self.channel.clone())
    }

    pub(crate) fn users(&self) -> UsersClient<Channel> {
        UsersClient::new(self.channel.clone())
    }

    pub(crate) fn catalogue(&self) -> CatalogueClient<Channel> {
        CatalogueClient::new(self.channel.clone())
    }

    pub(crate) fn maintenance(&self) -> MaintenanceClient<Channel> {
        MaintenanceClient::new(self.channel.clone())
    }

    pub(crate) fn publishing(&self) -> PublishingClient<Channel> {
        PublishingClient::new(self.channel.clone())
    }

    pub(crate) fn distribution(&self) -> DistributionClient<Channel> {
        DistributionClient::new(self.channel.clone())
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone())
    }

    pub(crate) fn origin_client(&self) -> OriginClient<Channel> {
        OriginClient::new(self.channel.clone())
    }

    /// An access token of the administrator; one for the whole test, because logging in is dear.
    pub(crate) async fn admin(&self) -> String {
        self.admin_token.get_or_init(|| async { self.login(ADMIN, PASSWORD).await.access_token }).await.clone()
    }

    pub(crate) async fn login(&self, username: &str, password: &str) -> v1::Token {
        self.issue(password_grant(username, password)).await.unwrap_or_else(|e| panic!("login refused: {e:?}"))
    }

    pub(crate) async fn issue(&self, request: v1::IssueTokenRequest) -> Result<v1::Token, v1::AuthError> {
        let answer = self.auth().issue_token(request).await.expect("refusals are answers too").into_inner();
        match answer.result.expect("a result") {
            IssueResult::Token(token) => Ok(token),
            IssueResult::Error(error) => Err(error),
        }
    }

    /// Adds a user and logs it in.
    pub(crate) async fn user(&self, username: &str, role: v1::Role) -> String {
        let request = v1::AddUserRequest { username: username.into(), password: PASSWORD.into(), role: role.into() };
        self.users().add_user(with_token(&self.admin().await, request)).await.expect("adds");
        self.login(username, PASSWORD).await.access_token
    }

    pub(crate) async fn videos(&self) -> Vec<v1::Video> {
        let request = with_token(&self.admin().await, v1::ListVideosRequest {});
        self.catalogue().list_videos(request).await.expect("lists").into_inner().videos
    }

    pub(crate) async fn servers(&self) -> Vec<v1::ServerStatus> {
        let request = with_token(&self.admin().await, v1::ListServersRequest {});
        self.catalogue().list_servers(request).await.expect("lists").into_inner().servers
    }

    pub(crate) async fn server(&self, server_id: &str) -> v1::ServerStatus {
        let servers = self.servers().await;
        servers.into_iter().find(|server| server.server_id == server_id).expect("a known server")
    }

    /// Publishes a file of `bytes` bytes.
    pub(crate) async fn publish(&self, name: &str, bytes: usize) -> Result<Upload, Status> {
        self.publish_with(name, bytes, false, 0).await
    }

    pub(crate) async fn publish_with(
        &self,
        name: &str,
        bytes: usize,
        replace: bool,
        replicas: u32,
    ) -> Result<Upload, Status> {
        let token = self.admin().await;
        let upload = self.begin(&token, name, bytes, replace, replicas).await?;
        self.upload(&token, upload.parts()).await?;
        Ok(upload)
    }

    /// Begins to publish a file of `bytes` bytes, and seals it.
    pub(crate) async fn begin(
        &self,
        token: &str,
        name: &str,
        bytes: usize,
        replace: bool,
        replicas: u32,
    ) -> Result<Upload, Status> {
        let request =
            v1::BeginPublishRequest { name: name.into(), bytes: bytes as u64, replace, replicas, ..Default::default() };
        let begun = self.publishing().begin_publish(with_token(token, request)).await?.into_inner();
        Ok(Upload::seal(&begun, &film(bytes)))
    }

    pub(crate) async fn upload(&self, token: &str, parts: Vec<Part>) -> Result<(), Status> {
        let messages: Vec<_> = parts.into_iter().map(|part| v1::UploadRequest { part: Some(part) }).collect();
        let request = with_token(token, tokio_stream::iter(messages));
        self.publishing().upload(request).await.map(|_| ())
    }
}

async fn serve(config: &MasterConfig) -> (Master, Channel) {
    let master = Master::start(config.clone()).await.expect("starts");
    let ca = std::fs::read(config.ca_path()).expect("the CA");
    let channel = endpoint(&master, &ca).connect().await.expect("connects");
    (master, channel)
}

/// How to reach a master if one trusts `ca`.
pub(crate) fn endpoint(master: &Master, ca: &[u8]) -> Endpoint {
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    Endpoint::from_shared(format!("https://{}", master.local_addr())).expect("a URL").tls_config(tls).expect("a CA")
}

pub(crate) fn password_grant(username: &str, password: &str) -> v1::IssueTokenRequest {
    v1::IssueTokenRequest {
        grant_type: "password".into(),
        client_id: "braidcast".into(),
        username: username.into(),
        password: password.into(),
        refresh_token: String::new(),
    }
}

pub(crate) fn refresh_grant(refresh_token: &str) -> v1::IssueTokenRequest {
    v1::IssueTokenRequest {
        grant_type: "refresh_token".into(),
        client_id: "braidcast-player".into(),
        refresh_token: refresh_token.into(),
        ..v1::IssueTokenRequest::default()
    }
}

pub(crate) fn with_token<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("ASCII"));
    request
}

/// Bytes of a file of this length, the same every time and different in every chunk.
pub(crate) fn film(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|n| (n ^ (n >> 8) ^ (n >> 16)) as u8).collect()
}

/// A sealed file, ready to be uploaded.
pub(crate) struct Upload {
    pub(crate) asset: AssetId,
    pub(crate) content_key: ContentKey,
    pub(crate) extents: Vec<Vec<u8>>,
    pub(crate) header: Vec<u8>,
    pub(crate) plain_roots: Vec<u8>,
}

impl Upload {
    pub(crate) fn seal(begun: &v1::BeginPublishResponse, plain: &[u8]) -> Self {
        let asset = AssetId(begun.asset);
        let content_key = ContentKey::from_slice(&begun.content_key).expect("16 bytes");
        let mut sealer = FileSealer::new(plain, plain.len() as u64, &content_key, asset).expect("short enough");
        let (mut extents, mut sealed) = (Vec::new(), Vec::new());
        while sealer.next_extent(&mut sealed).expect("seals").is_some() {
            extents.push(sealed.clone());
        }
        let done = sealer.finish().expect("whole");
        Self { asset, content_key, extents, header: done.header.to_bytes(), plain_roots: done.plain_roots }
    }

    pub(crate) fn start(&self) -> Part {
        Part::Start(v1::UploadStart { asset: self.asset.0 })
    }

    pub(crate) fn finish(&self) -> Part {
        Part::Finish(v1::UploadFinish { header: self.header.clone(), plain_roots: self.plain_roots.clone() })
    }

    /// All parts in order.
    pub(crate) fn parts(&self) -> Vec<Part> {
        let extents = self.extents.iter().cloned().map(Part::Extent);
        std::iter::once(self.start()).chain(extents).chain([self.finish()]).collect()
    }
}

/// Asks again and again until the answer is there.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}
