//! A whole master over TLS on loopback: real gRPC clients, and media servers that speak the Cluster service and
//! nothing else.

mod auth;
mod backup;
mod cluster;
mod distribution;
mod fake_server;
mod films;
mod harness;
mod healing;
mod library;
mod made_film;
mod publishing;
mod recovery;
mod untrue_index;
mod users;
