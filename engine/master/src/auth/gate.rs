//! Who may pass: reads `authorization: Bearer TOKEN` in front of every service but Auth and Cluster.

use std::sync::Arc;

use tonic::metadata::MetadataMap;
use tonic::service::Interceptor;
use tonic::{Request, Status};

use crate::accounts::Role;
pub(crate) use crate::auth::tokens::Caller;
use crate::auth::tokens::{ServerCaller, Tokens};
use crate::errors::ServiceError;
use crate::net;

/// Lets users through, and notes who they are.
#[derive(Clone)]
pub(crate) struct ClientGate(pub(crate) Arc<Tokens>);

impl Interceptor for ClientGate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let caller = self.0.read_client(bearer(request.metadata())?)?;
        net::prove(request.extensions());
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

/// Lets media servers through, and notes which they are.
#[derive(Clone)]
pub(crate) struct ServerGate(pub(crate) Arc<Tokens>);

impl Interceptor for ServerGate {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let caller = server_caller(&self.0, &request)?;
        request.extensions_mut().insert(caller);
        Ok(request)
    }
}

/// The caller, if its role is enough.
pub(crate) fn caller<T>(request: &Request<T>, needed: Role) -> Result<Caller, ServiceError> {
    let caller = request.extensions().get::<Caller>().ok_or(ServiceError::TokenMissing)?;
    if caller.role < needed {
        let Caller { username, role, .. } = caller.clone();
        return Err(ServiceError::Role { username, needed, found: role });
    }
    Ok(caller.clone())
}

/// The media server that the gate let through.
pub(crate) fn server<T>(request: &Request<T>) -> Result<ServerCaller, ServiceError> {
    request.extensions().get::<ServerCaller>().cloned().ok_or(ServiceError::TokenMissing)
}

/// The media server that calls, where the service has no gate in front of it.
pub(crate) fn server_caller<T>(tokens: &Tokens, request: &Request<T>) -> Result<ServerCaller, ServiceError> {
    let caller = tokens.read_server(bearer(request.metadata())?)?;
    net::prove(request.extensions());
    Ok(caller)
}

fn bearer(metadata: &MetadataMap) -> Result<&str, ServiceError> {
    let value = metadata.get("authorization").ok_or(ServiceError::TokenMissing)?;
    let text = value.to_str().map_err(|_| ServiceError::TokenInvalid)?;
    // The scheme's case does not matter (RFC 9110, section 11.1).
    match text.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(ServiceError::TokenMissing),
    }
}
