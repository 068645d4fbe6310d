//! A whole master over TLS on loopback: real gRPC clients, and media servers that speak the Cluster service and
//! nothing else.

mod auth;
mod cluster;
mod distribution;
mod fake_server;
mod harness;
mod publishing;
mod recovery;
mod users;
