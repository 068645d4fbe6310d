//! The certificate that the master shows: given by its owner, or made here under a CA of its own.
//!
//! The CA lives in the state folder and is what profiles and media servers trust. The server certificate is signed
//! anew at every start, so that it follows the address, and its key never touches the disk.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::rustls::{self, ServerConfig};
use zeroize::Zeroizing;

use crate::clock;
use crate::config::{ConfigError, MasterConfig};
use crate::state_dir::{StateError, at, write_private, write_public};

/// A client whose clock is slow must still find the certificate valid.
const BACKDATED: Duration = Duration::from_hours(24);
const CA_LIFETIME: Duration = Duration::from_hours(20 * 365 * 24);
/// Far longer than a master runs without a restart.
const CERTIFICATE_LIFETIME: Duration = Duration::from_hours(5 * 365 * 24);
const CA_NAME: &str = "Braidcast CA";

/// Why there is no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A file cannot be read or written.
    #[error(transparent)]
    State(#[from] StateError),
    /// The CA that clients trust cannot sign any more.
    #[error(
        "{key} is missing, and {cert} is there: restore the key, or remove the certificate to have a new CA made \
         (every profile and media server must then be given the new certificate)"
    )]
    CaKeyMissing {
        /// The certificate.
        cert: PathBuf,
        /// Where its key should be.
        key: PathBuf,
    },
    /// The CA's key is not one.
    #[error("{path}: not a private key in PEM: {source}")]
    CaKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: rcgen::Error,
    },
    /// The certificate and key that were given do not serve.
    #[error("{cert} and {key} do not serve: {problem}; both must be PEM and belong together")]
    Identity {
        /// The certificate chain's file.
        cert: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The certificate that was made here does not serve.
    #[error("the master's own certificate does not serve: {0}")]
    Own(#[source] rustls::Error),
    /// A certificate cannot be made, mostly because of a name in it.
    #[error("cannot make a certificate for {names}: {source}")]
    Certificate {
        /// The names and addresses asked for.
        names: String,
        /// What is wrong with them.
        source: rcgen::Error,
    },
}

/// A certificate chain and its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn server_config(self) -> Result<ServerConfig, rustls::Error> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }
}

/// What the server side of TLS needs.
pub(crate) fn server_config(config: &MasterConfig) -> Result<Arc<ServerConfig>, TlsError> {
    let made = match config.own_tls()? {
        Some((cert, key)) => given(cert, key)?,
        None => issue(config, &own_ca(config)?)?.server_config().map_err(TlsError::Own)?,
    };
    Ok(Arc::new(made))
}

/// The certificate and key that the owner has given.
fn given(cert: &Path, key: &Path) -> Result<ServerConfig, TlsError> {
    let cert_pem = fs::read(cert).map_err(at(cert))?;
    let key_pem = Zeroizing::new(fs::read(key).map_err(at(key))?);
    let refuse = |problem: &dyn ToString| TlsError::Identity {
        cert: cert.to_owned(),
        key: key.to_owned(),
        problem: problem.to_string(),
    };
    let chain = CertificateDer::pem_slice_iter(&cert_pem).collect::<Result<_, _>>().map_err(|e| refuse(&e))?;
    let key = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|e| refuse(&e))?;
    Identity { chain, key }.server_config().map_err(|e| refuse(&e))
}

/// The master's own CA, made first if it is absent.
fn own_ca(config: &MasterConfig) -> Result<Issuer<'static, KeyPair>, TlsError> {
    let (cert, key) = (config.ca_path(), config.ca_key_path());
    // The key is written before the certificate: without the latter nobody trusts the CA yet, and both are made anew.
    if !cert.try_exists().map_err(at(&cert))? {
        let pair = KeyPair::generate().map_err(naming(CA_NAME))?;
        let params = ca_params();
        let made = params.self_signed(&pair).map_err(naming(CA_NAME))?;
        write_private(&key, Zeroizing::new(pair.serialize_pem()).as_bytes())?;
        write_public(&cert, made.pem().as_bytes())?;
        tracing::info!(path = %cert.display(), "made a CA: clients and media servers must trust this certificate");
        return Ok(Issuer::new(params, pair));
    }
    let pem = match fs::read_to_string(&key) {
        Ok(pem) => Zeroizing::new(pem),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(TlsError::CaKeyMissing { cert, key }),
        Err(e) => return Err(at(&key)(e).into()),
    };
    let pair = KeyPair::from_pem(&pem).map_err(|source| TlsError::CaKey { path: key, source })?;
    Ok(Issuer::new(ca_params(), pair))
}

/// Checks that a CA's certificate and key, both in PEM, can be used and belong together, and says what is wrong.
pub(crate) fn check_ca(certificate: &[u8], key: &[u8]) -> Result<(), String> {
    let chain: Vec<_> =
        CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(|e| format!("ca.pem: {e}"))?;
    let pem = str::from_utf8(key).map_err(|e| format!("ca.key: {e}"))?;
    let pair = KeyPair::from_pem(pem).map_err(|e| format!("ca.key: {e}"))?;
    let key = PrivatePkcs8KeyDer::from(pair.serialize_der()).into();
    Identity { chain, key }.server_config().map_err(|e| format!("ca.key and ca.pem: {e}"))?;
    Ok(())
}

/// All that a signature takes from the CA's certificate follows from these and the key.
fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(CA_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, CA_LIFETIME);
    params
}

fn issue(config: &MasterConfig, ca: &Issuer<'_, KeyPair>) -> Result<Identity, TlsError> {
    let mut names = vec!["localhost".to_owned(), Ipv4Addr::LOCALHOST.to_string(), Ipv6Addr::LOCALHOST.to_string()];
    let listen: IpAddr = config.listen.ip();
    if !listen.is_unspecified() {
        names.push(listen.to_string());
    }
    names.extend(config.tls_names.iter().cloned());
    names.sort();
    names.dedup();
    let culprit = names.join(", ");
    let make = || {
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = named("Braidcast master");
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        set_validity(&mut params, CERTIFICATE_LIFETIME);
        let pair = KeyPair::generate()?;
        let cert = params.signed_by(&pair, ca)?;
        let key = PrivatePkcs8KeyDer::from(pair.serialize_der()).into();
        Ok(Identity { chain: vec![cert.into()], key })
    };
    make().map_err(naming(&culprit))
}

fn set_validity(params: &mut CertificateParams, lifetime: Duration) {
    let now = rcgen::date_time_ymd(1970, 1, 1) + clock::since_epoch();
    params.not_before = now - BACKDATED;
    params.not_after = now + lifetime;
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

fn naming(names: &str) -> impl FnOnce(rcgen::Error) -> TlsError {
    let names = names.to_owned();
    move |source| TlsError::Certificate { names, source }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn config(dir: &tempfile::TempDir) -> MasterConfig {
        MasterConfig { state_dir: dir.path().to_owned(), ..MasterConfig::default() }
    }

    #[test]
    fn the_ca_is_made_once_and_its_key_is_private() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let config = config(&dir);
        server_config(&config).expect("made");
        let ca = fs::read(config.ca_path()).expect("written");
        server_config(&config).expect("read");
        assert_eq!(ca, fs::read(config.ca_path()).expect("still there"));
        let mode = fs::metadata(config.ca_key_path()).expect("key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_ca_without_its_certificate_is_made_anew_and_one_without_its_key_is_an_error() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let config = config(&dir);
        server_config(&config).expect("made");
        fs::remove_file(config.ca_path()).expect("removed");
        server_config(&config).expect("made anew");
        fs::remove_file(config.ca_key_path()).expect("removed");
        assert!(matches!(server_config(&config), Err(TlsError::CaKeyMissing { .. })));
    }

    #[test]
    fn a_ca_whose_key_is_broken_or_anothers_is_told_from_a_sound_one() {
        let [(cert, key), (_, other)] = [(); 2].map(|()| {
            let dir = tempfile::tempdir().expect("temporary folder");
            let config = config(&dir);
            server_config(&config).expect("made");
            (fs::read(config.ca_path()).expect("written"), fs::read(config.ca_key_path()).expect("written"))
        });
        check_ca(&cert, &key).expect("they belong together");
        assert!(check_ca(&cert, &other).is_err_and(|problem| problem.contains("ca.key and ca.pem")));
        assert!(check_ca(&cert, &key[..key.len() / 2]).is_err_and(|problem| problem.contains("ca.key")));
        assert!(check_ca(&cert[..cert.len() / 2], &key).is_err());
        assert!(check_ca(b"", &key).is_err());
    }

    #[test]
    fn a_name_that_no_certificate_takes_is_an_error_that_shows_it() {
        let dir = tempfile::tempdir().expect("temporary folder");
        let config = MasterConfig { tls_names: vec!["bücher.example".into()], ..config(&dir) };
        let error = server_config(&config).expect_err("IA5 strings hold ASCII only").to_string();
        assert!(error.contains("bücher.example"), "{error}");
    }
}
