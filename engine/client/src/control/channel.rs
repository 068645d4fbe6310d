//! The TLS connection to a master.

use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use super::CONNECT_TIMEOUT;
use crate::error::{ControlError, Peer};
use crate::profile::Profile;

/// A master that vanished without a word is noticed after this and [`KEEP_ALIVE_TIMEOUT`].
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects; the master must prove that the profile's authority signed its certificate.
pub(super) async fn open(profile: &Profile, peer: &Peer) -> Result<Channel, ControlError> {
    let endpoint = endpoint(profile)?;
    match tokio::time::timeout(CONNECT_TIMEOUT, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(error)) => Err(peer.transport(&error)),
        Err(_) => Err(ControlError::Unreachable {
            address: peer.address.clone(),
            reason: format!("no answer within {CONNECT_TIMEOUT:?}"),
        }),
    }
}

fn endpoint(profile: &Profile) -> Result<Endpoint, ControlError> {
    let wrong = |reason: String| ControlError::Address {
        profile: profile.path.clone(),
        address: profile.master.clone(),
        reason,
    };
    let endpoint = Endpoint::from_shared(format!("https://{}", profile.master)).map_err(|e| wrong(e.to_string()))?;
    let uri = endpoint.uri();
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() || uri.port().is_none() || uri.path() != "/" {
        return Err(wrong("a host and a port are needed, as in 192.0.2.7:4600".to_owned()));
    }
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&profile.ca_pem)).domain_name(host);
    let endpoint = endpoint.tls_config(tls).map_err(|error| ControlError::NotTrusted {
        address: profile.master.clone(),
        profile: profile.path.clone(),
        reason: format!("no certificate authority can be read from the profile ({error})"),
    })?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::profile::Credential;
    use crate::secret::Secret;

    fn profile(master: &str, ca_pem: &str) -> Profile {
        Profile {
            path: PathBuf::from("/p.toml"),
            master: master.to_owned(),
            ca_pem: ca_pem.to_owned(),
            username: "ada".to_owned(),
            credential: Credential::Password(Secret::new("x")),
        }
    }

    #[test]
    fn addresses_without_host_or_port_are_told_apart_from_good_ones() {
        for good in ["127.0.0.1:1", "[::1]:65535", "master.example.org:4600"] {
            assert!(endpoint(&profile(good, "")).is_ok(), "{good}");
        }
        for bad in ["", "127.0.0.1", ":4600", "a b:1", "h:99999", "h:1/path", "https://h:1"] {
            let error = endpoint(&profile(bad, "")).expect_err(bad);
            assert!(matches!(error, ControlError::Address { .. }), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn a_port_where_nobody_listens_is_unreachable_at_once() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound").to_string();
        drop(listener);
        let profile = profile(&address, "");
        let error = open(&profile, &Peer::of(&profile)).await.expect_err("nobody listens");
        assert!(matches!(error, ControlError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains(&address), "{error}");
    }
}
