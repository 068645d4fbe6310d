//! The connection to the master: one HTTP/2 channel over TLS for orders and for packs.

use std::error::Error;
use std::sync::{Arc, PoisonError, RwLock};

use braidcast_proto::MESSAGE_BYTES_MAX;
use braidcast_proto::v1::cluster_client::ClusterClient;
use braidcast_proto::v1::origin_client::OriginClient;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};

use crate::config::ServerConfig;
use crate::error::ServerError;
use crate::limits;

/// The master, as every part of the server reaches it. Connects when it is first used, and again when that breaks.
#[derive(Clone)]
pub(crate) struct Master {
    channel: Channel,
    address: String,
    token: Arc<RwLock<Option<ServerToken>>>,
}

/// What Join gave, as the value of the header `authorization`. Marked sensitive: its Debug shows nothing of it.
pub(crate) type ServerToken = MetadataValue<Ascii>;

impl Master {
    /// The master that `config` names.
    pub(crate) fn new(config: &ServerConfig) -> Result<Self, ServerError> {
        let unusable = |reason: String| ServerError::Master { address: config.master.clone(), reason };
        let host = host_of(&config.master).ok_or_else(|| unusable("it must have the form host:port".to_owned()))?;
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&config.ca_pem))
            .domain_name(host)
            .timeout(limits::CONNECT_WITHIN);
        let endpoint = Endpoint::from_shared(format!("https://{}", config.master))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map_err(|error| unusable(chain(&error)))?
            .connect_timeout(limits::CONNECT_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(limits::KEEP_ALIVE)
            .keep_alive_timeout(limits::KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(limits::FILL_WINDOW_BYTES)
            .initial_connection_window_size(limits::FILL_WINDOW_BYTES * limits::FILLS_MAX as u32);
        Ok(Self { channel: endpoint.connect_lazy(), address: config.master.clone(), token: Arc::default() })
    }

    /// Address of the master, for messages.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    pub(crate) fn origin(&self) -> OriginClient<Channel> {
        OriginClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Takes the token of a new membership.
    pub(crate) fn on_joined(&self, token: ServerToken) {
        *self.token.write().unwrap_or_else(PoisonError::into_inner) = Some(token);
    }

    /// A request that bears the newest token; without one the master refuses it.
    pub(crate) fn authorised<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = self.token.read().unwrap_or_else(PoisonError::into_inner).clone() {
            request.metadata_mut().insert("authorization", token);
        }
        request
    }

    /// What went wrong with a call, for a person.
    pub(crate) fn explain(&self, status: &Status) -> String {
        match status.code() {
            Code::Unavailable | Code::Unknown => {
                let causes = chain(status);
                let remedy = if causes.contains("certificate") {
                    "; check that the CA certificate given is the one that signed the master's"
                } else {
                    ""
                };
                format!("the master at {} cannot be reached: {causes}{remedy}", self.address)
            }
            code => format!("the master at {} answered {code:?}: {}", self.address, status.message()),
        }
    }
}

/// Makes the header value of a server token.
pub(crate) fn bearer(token: &str) -> Option<ServerToken> {
    let mut value: ServerToken = format!("Bearer {token}").parse().ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The host of `host:port`, without the brackets of an IPv6 address.
fn host_of(address: &str) -> Option<&str> {
    let (host, port) = address.rsplit_once(':')?;
    port.parse::<u16>().ok()?;
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    (!host.is_empty()).then_some(host)
}

/// An error and its causes in one line; a cause that only repeats what stands before it is left out.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = match error.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => error.to_string(),
    };
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_cut_from_addresses() {
        assert_eq!(host_of("localhost:7000"), Some("localhost"));
        assert_eq!(host_of("[::1]:7000"), Some("::1"));
        for wrong in ["localhost", "localhost:", "localhost:x", ":7000", "localhost:65536"] {
            assert_eq!(host_of(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn server_tokens_are_not_printed() {
        let token = bearer("tell-nobody").expect("printable token");
        assert!(!format!("{token:?}").contains("nobody"));
        assert!(bearer("line\nbreak").is_none());
    }
}
