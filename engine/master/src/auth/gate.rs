//! Who may pass: one table says which token and role each call needs, and the gate reads the token in front of every
//! service. A call that may not be made is refused before anything of its body is read.

use std::convert::Infallible;
use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::{Request, Status};

use crate::accounts::Role;
pub(crate) use crate::auth::tokens::Caller;
use crate::auth::tokens::{ServerCaller, Tokens};
use crate::errors::ServiceError;
use crate::net;

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    /// No token: the caller shows in the call who it is.
    Nothing,
    /// An access token of a user with this role or a higher one.
    User(Role),
    /// A media server's token.
    Server,
}

/// `None`: there is no such call.
fn needed(path: &str) -> Option<Needed> {
    Some(match path.strip_prefix("/braidcast.v1.")? {
        "Auth/IssueToken" | "Cluster/Join" => Needed::Nothing,
        "Cluster/Heartbeat" | "Origin/ReadPack" | "Origin/PushPack" => Needed::Server,
        "Catalogue/ListVideos"
        | "Catalogue/GetVideo"
        | "Catalogue/ListServers"
        | "Distribution/GetDistribution"
        | "Distribution/Redistribute" => Needed::User(Role::Viewer),
        // For oneself; the handler asks for more for anybody else.
        "Users/SetPassword" => Needed::User(Role::Viewer),
        "Catalogue/RemoveVideo" | "Publishing/BeginPublish" | "Publishing/Upload" => Needed::User(Role::Publisher),
        "Users/AddUser"
        | "Users/RemoveUser"
        | "Users/ListUsers"
        | "Maintenance/ListFindings"
        | "Maintenance/ListOrphans"
        | "Maintenance/RemoveOrphans"
        | "Maintenance/ForgetServer" => Needed::User(Role::Admin),
        _ => return None,
    })
}

/// A service behind the gate. Its calls find out who makes them by [`caller`] and [`server`].
#[derive(Clone)]
pub(crate) struct Gated<S> {
    pub(crate) inner: S,
    pub(crate) tokens: Arc<Tokens>,
}

impl<S> Gated<S> {
    /// Notes who makes a call, if it may be made.
    fn admit(&self, request: &mut http::Request<Body>) -> Result<(), Status> {
        match needed(request.uri().path()).ok_or_else(|| Status::unimplemented("there is no such call"))? {
            Needed::Nothing => return Ok(()),
            Needed::User(role) => {
                let caller = self.tokens.read_client(bearer(request.headers())?)?;
                net::prove(request.extensions(), Some(caller.user));
                check_role(&caller, role)?;
                request.extensions_mut().insert(caller);
            }
            Needed::Server => {
                let caller = self.tokens.read_server(bearer(request.headers())?)?;
                net::prove(request.extensions(), None);
                request.extensions_mut().insert(caller);
            }
        }
        Ok(())
    }
}

impl<S: NamedService> NamedService for Gated<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Gated<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match self.admit(&mut request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(refused) => Box::pin(ready(Ok(refused.into_http()))),
        }
    }
}

/// The user that the gate let through.
pub(crate) fn caller<T>(request: &Request<T>) -> Result<Caller, ServiceError> {
    request.extensions().get::<Caller>().cloned().ok_or(ServiceError::TokenMissing)
}

/// The media server that the gate let through.
pub(crate) fn server<T>(request: &Request<T>) -> Result<ServerCaller, ServiceError> {
    request.extensions().get::<ServerCaller>().cloned().ok_or(ServiceError::TokenMissing)
}

/// Refuses a caller whose role is not enough.
pub(crate) fn check_role(caller: &Caller, needed: Role) -> Result<(), ServiceError> {
    if caller.role < needed {
        let Caller { username, role, .. } = caller.clone();
        return Err(ServiceError::Role { username, needed, found: role });
    }
    Ok(())
}

fn bearer(headers: &http::HeaderMap) -> Result<&str, ServiceError> {
    let value = headers.get(http::header::AUTHORIZATION).ok_or(ServiceError::TokenMissing)?;
    let text = value.to_str().map_err(|_| ServiceError::TokenInvalid)?;
    // The scheme's case does not matter (RFC 9110, section 11.1).
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(ServiceError::TokenMissing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_protocol_is_in_the_table_and_no_other_passes() {
        let files = [
            include_str!("../../../../proto/braidcast/v1/auth.proto"),
            include_str!("../../../../proto/braidcast/v1/catalogue.proto"),
            include_str!("../../../../proto/braidcast/v1/cluster.proto"),
            include_str!("../../../../proto/braidcast/v1/distribution.proto"),
            include_str!("../../../../proto/braidcast/v1/maintenance.proto"),
        ];
        let (mut service, mut calls) = ("", 0);
        for line in files.iter().flat_map(|file| file.lines()) {
            if let Some(rest) = line.strip_prefix("service ") {
                service = rest.trim_end_matches(" {");
            } else if let Some(rest) = line.trim_start().strip_prefix("rpc ") {
                let call = rest.split('(').next().unwrap_or_default();
                let path = format!("/braidcast.v1.{service}/{call}");
                assert!(needed(&path).is_some(), "{path}");
                calls += 1;
            }
        }
        assert!(calls >= 20, "{calls}");
        for other in ["/", "/braidcast.v1.Users/", "/braidcast.v1.Users/Other", "/braidcast.v2.Auth/IssueToken"] {
            assert_eq!(needed(other), None, "{other}");
        }
    }
}
