//! A certificate for the peers that encrypt: self-signed, as long as the run.

use std::path::PathBuf;

use anyhow::{Context, Result};
use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::bench::Bench;

/// The name that the certificate bears.
pub(crate) const NAME: &str = "localhost";

/// Writes it, and its key.
pub(crate) fn write_certificate(bench: &Bench) -> Result<()> {
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(vec![NAME.to_owned()])?;
    std::fs::write(certificate(bench), cert.pem()).context("a certificate")?;
    std::fs::write(key(bench), signing_key.serialize_pem()).context("a key")
}

/// Where it is.
pub(crate) fn certificate(bench: &Bench) -> PathBuf {
    bench.path("certificate.pem")
}

/// Where its key is.
pub(crate) fn key(bench: &Bench) -> PathBuf {
    bench.path("key.pem")
}
