//! The master that is signed in to, as a process of its own.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use braidcast_lab::process::Process;
use braidcast_lab::stop::Stop;
use braidcast_proto::v1::IssueTokenRequest;
use braidcast_proto::v1::auth_client::AuthClient;
use braidcast_proto::v1::issue_token_response::Result as Issued;
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};

const ADMIN: &str = "admin";
const PASSWORD: &str = "open sesame";
const READY_WAIT: Duration = Duration::from_secs(30);

/// A running master with one account. It ends, and its folder goes, when this is dropped.
pub(crate) struct Master {
    // Dropped first: the master ends before its folder goes.
    _process: Process,
    _folder: TempDir,
    address: Address,
}

/// Where a master is, and whom to trust there.
#[derive(Clone)]
pub(crate) struct Address {
    address: SocketAddr,
    ca_pem: String,
}

impl Master {
    /// Starts `braidcast master` on a free port.
    pub(crate) fn start(braidcast: &Path, stop: &Stop) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("bc-signin-").tempdir()?;
        let (password, logs) = (folder.path().join("password"), folder.path().join("log"));
        fs::write(&password, PASSWORD)?;
        fs::create_dir(&logs)?;
        let mut command = Command::new(braidcast);
        command.args(["master", "--exit-with-parent", "--listen", "127.0.0.1:0", "--bootstrap-admin", ADMIN]);
        command.arg("--bootstrap-password-file").arg(password).arg("--state").arg(folder.path().join("state"));
        let mut process = Process::start("master", command, &logs)?;
        let line = process.wait_line(stop, "master listening ", READY_WAIT)?;
        let address = line.split(' ').nth(2).and_then(|address| address.parse().ok());
        let address = address.with_context(|| format!("master: no address in {line:?}"))?;
        let ca_pem = fs::read_to_string(folder.path().join("state/ca.pem")).context("the master's certificate")?;
        Ok(Self { _process: process, _folder: folder, address: Address { address, ca_pem } })
    }

    /// Where it is.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// Signs in with the right password over a connection of its own.
    pub(crate) async fn sign_in_honestly(&self) -> Result<Issued> {
        sign_in(self.address.connect(Ipv4Addr::LOCALHOST).await?, ADMIN, PASSWORD).await
    }
}

impl Address {
    /// A connection from `from`.
    pub(crate) async fn connect(&self, from: Ipv4Addr) -> Result<Channel> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.ca_pem));
        let endpoint = Channel::from_shared(format!("https://{}", self.address))?.tls_config(tls)?;
        Ok(endpoint.local_address(Some(from.into())).connect().await?)
    }
}

/// Asks for a token.
pub(crate) async fn sign_in(channel: Channel, username: &str, password: &str) -> Result<Issued> {
    let request = IssueTokenRequest {
        grant_type: "password".to_owned(),
        client_id: "braidcast".to_owned(),
        username: username.to_owned(),
        password: password.to_owned(),
        ..IssueTokenRequest::default()
    };
    AuthClient::new(channel).issue_token(request).await?.into_inner().result.context("neither a token nor an error")
}
