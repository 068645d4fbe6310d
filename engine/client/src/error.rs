//! What can go wrong between a client and its master.

use std::error::Error as StdError;
use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use braidcast_media::AssetId;
use rustls::CertificateError;
use tonic::{Code, Status};

/// A call to the master did not succeed. Every message names the culprit and what to do; none repeats a secret.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The profile's address is none.
    #[error("the profile {profile} names the master {address:?}, which is no host:port: {reason}")]
    Address {
        /// Which profile.
        profile: PathBuf,
        /// What stands there.
        address: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody answers at the master's address.
    #[error("the master at {address} cannot be reached: {reason}; is it running, and is the address right?")]
    Unreachable {
        /// The address.
        address: String,
        /// What the system said.
        reason: String,
    },
    /// The master was reached and did not answer a call in time.
    #[error("the master at {address} did not answer within {after:?}; try again, or look at its log")]
    Timeout {
        /// The address.
        address: String,
        /// How long was waited.
        after: Duration,
    },
    /// The master's certificate is not signed by the profile's authority.
    #[error(
        "the master at {address} is not trusted: {reason}; the profile {profile} must hold the certificate authority \
         of that very master"
    )]
    NotTrusted {
        /// The address.
        address: String,
        /// Which profile.
        profile: PathBuf,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// The master's certificate is not valid at this time of day.
    #[error(
        "the certificate of the master at {address} is not valid now: {reason}; is the clock of this machine right?"
    )]
    CertificateTime {
        /// The address.
        address: String,
        /// What is wrong with the certificate.
        reason: String,
    },
    /// Wrong name or password.
    #[error(
        "the master refused the login of {username:?}: {reason}; correct the password in {profile}, or run `braidcast login`"
    )]
    WrongPassword {
        /// Who.
        username: String,
        /// Which profile.
        profile: PathBuf,
        /// The master's words.
        reason: String,
    },
    /// The refresh token is used up, and there is no password to fall back to.
    #[error("the login of {username:?} in {profile} is no longer valid: {reason}; run `braidcast login`")]
    LoginExpired {
        /// Who.
        username: String,
        /// Which profile.
        profile: PathBuf,
        /// The master's words.
        reason: String,
    },
    /// Too many wrong passwords.
    #[error("signing in as {username:?} is held up: {reason}")]
    AccountLocked {
        /// Who.
        username: String,
        /// The master's words.
        reason: String,
    },
    /// The master does not know this kind of login.
    #[error("the master at {address} does not accept this program's login: {reason}; are both of the same version?")]
    LoginUnsupported {
        /// The address.
        address: String,
        /// The master's words.
        reason: String,
    },
    /// A fresh access token is not accepted.
    #[error(
        "the master at {address} does not accept the token that it has just issued: {reason}. If nobody changed the account \
         meanwhile, is the master's clock right?"
    )]
    TokenRefused {
        /// The address.
        address: String,
        /// The master's words.
        reason: String,
    },
    /// The account's role does not allow it.
    #[error("{what}: not permitted for {username:?}: {reason}")]
    NotPermitted {
        /// What was asked for.
        what: String,
        /// Who asked.
        username: String,
        /// The master's words.
        reason: String,
    },
    /// There is no such video or user.
    #[error("{what}: not found: {reason}")]
    NotFound {
        /// What was asked for.
        what: String,
        /// The master's words.
        reason: String,
    },
    /// The name is taken.
    #[error("{what}: {reason}")]
    AlreadyExists {
        /// What was to be made.
        what: String,
        /// The master's words.
        reason: String,
    },
    /// The master finds the request wrong: a name, a length, a window.
    #[error("{what}: the master does not accept it: {reason}")]
    Rejected {
        /// What was asked for.
        what: String,
        /// The master's words.
        reason: String,
    },
    /// The state of things does not allow it now.
    #[error("{what}: not possible now: {reason}")]
    Precondition {
        /// What was asked for.
        what: String,
        /// The master's words.
        reason: String,
    },
    /// No listed server holds the video.
    #[error("{what}: no server can serve it: {reason}")]
    NoSource {
        /// What was asked for.
        what: String,
        /// The master's words.
        reason: String,
    },
    /// The master or its origin has no room left.
    #[error("{what}: the master has no room: {reason}")]
    Full {
        /// What was asked for.
        what: String,
        /// The master's words.
        reason: String,
    },
    /// What arrived at the master is not what was sealed.
    #[error("{what}: the data was damaged on its way to the master: {reason}")]
    Damaged {
        /// What was asked for.
        what: String,
        /// The master's words.
        reason: String,
    },
    /// The master's answer breaks the protocol.
    #[error("{what}: the master's answer is wrong: {reason}; are both of the same version?")]
    BadAnswer {
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The master failed in a way that is none of the above.
    #[error("{what}: the master failed ({code:?}): {reason}; its log says more")]
    MasterFailed {
        /// What was asked for.
        what: String,
        /// gRPC's code.
        code: Code,
        /// The master's words.
        reason: String,
    },
}

/// The servers of an error, each with what is wrong with it.
pub(crate) fn list_sources(sources: &[(String, String)]) -> String {
    if sources.is_empty() {
        return " the master names none".into();
    }
    let mut out = String::new();
    for (number, (address, reason)) in sources.iter().enumerate() {
        let separator = if number == 0 { "" } else { "," };
        // Writing to a string does not fail.
        let _ = write!(out, "{separator} {address} ({reason})");
    }
    out
}

/// Which master a call went to and on whose behalf: what errors name.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    pub(crate) address: String,
    pub(crate) profile: PathBuf,
    pub(crate) username: String,
}

impl Peer {
    /// Translates gRPC's codes; the one place where that is done. `what` is the thing that the call was about.
    pub(crate) fn status(&self, what: &str, after: Duration, status: &Status) -> ControlError {
        if let Some(source) = status.source() {
            return match status.code() {
                // tonic reports the end of a call's own time limit as `Cancelled`, with its source.
                Code::Cancelled | Code::DeadlineExceeded if !has_io_error(source) => self.timeout(after),
                _ => self.transport(source),
            };
        }
        let (what, reason) = (what.to_owned(), status.message().to_owned());
        match status.code() {
            Code::Unauthenticated => ControlError::TokenRefused { address: self.address.clone(), reason },
            Code::PermissionDenied => ControlError::NotPermitted { what, username: self.username.clone(), reason },
            Code::NotFound => ControlError::NotFound { what, reason },
            Code::AlreadyExists => ControlError::AlreadyExists { what, reason },
            Code::InvalidArgument | Code::OutOfRange => ControlError::Rejected { what, reason },
            Code::FailedPrecondition | Code::Aborted => ControlError::Precondition { what, reason },
            Code::Unavailable => ControlError::NoSource { what, reason },
            Code::ResourceExhausted => ControlError::Full { what, reason },
            Code::DataLoss => ControlError::Damaged { what, reason },
            Code::DeadlineExceeded => self.timeout(after),
            code @ (Code::Ok | Code::Cancelled | Code::Unknown | Code::Unimplemented | Code::Internal) => {
                ControlError::MasterFailed { what, code, reason }
            }
        }
    }

    /// Translates what went wrong below gRPC: the connection or its TLS.
    pub(crate) fn transport(&self, error: &(dyn StdError + 'static)) -> ControlError {
        let address = self.address.clone();
        match find::<rustls::Error>(error) {
            Some(rustls::Error::InvalidCertificate(certificate)) => {
                let reason = explain(certificate);
                if is_about_time(certificate) {
                    ControlError::CertificateTime { address, reason }
                } else {
                    ControlError::NotTrusted { address, profile: self.profile.clone(), reason }
                }
            }
            Some(tls) => ControlError::Unreachable { address, reason: format!("no TLS there ({tls})") },
            None => ControlError::Unreachable { address, reason: innermost(error) },
        }
    }

    pub(crate) fn timeout(&self, after: Duration) -> ControlError {
        ControlError::Timeout { address: self.address.clone(), after }
    }
}

/// The name of an asset in errors.
pub(crate) fn asset_name(asset: AssetId) -> String {
    format!("asset {asset}")
}

fn explain(error: &CertificateError) -> String {
    match error {
        CertificateError::UnknownIssuer => "another authority signed its certificate".to_owned(),
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "its certificate is for another host name".to_owned()
        }
        other => other.to_string(),
    }
}

fn is_about_time(error: &CertificateError) -> bool {
    matches!(
        error,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

/// The first error of type `E` in the chain of sources. An `io::Error` passes over what it wraps in its own
/// `source`, so that is looked at as well.
fn find<'a, E: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<E>() {
            return Some(found);
        }
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if let Some(found) = wrapped.and_then(|inner| find::<E>(inner)) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

fn has_io_error(error: &(dyn StdError + 'static)) -> bool {
    find::<io::Error>(error).is_some()
}

fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> Peer {
        Peer { address: "m:1".to_owned(), profile: PathBuf::from("/p.toml"), username: "ada".to_owned() }
    }

    fn tls_failure(error: CertificateError) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, rustls::Error::InvalidCertificate(error))
    }

    #[test]
    fn an_unknown_issuer_blames_the_profile_and_not_the_network() {
        let error = peer().transport(&tls_failure(CertificateError::UnknownIssuer));
        assert!(matches!(error, ControlError::NotTrusted { .. }), "{error}");
        assert!(error.to_string().contains("/p.toml"), "{error}");
    }

    #[test]
    fn a_certificate_out_of_its_time_blames_the_clock() {
        for about_time in [CertificateError::Expired, CertificateError::NotValidYet] {
            let error = peer().transport(&tls_failure(about_time));
            assert!(matches!(error, ControlError::CertificateTime { .. }), "{error}");
        }
    }

    #[test]
    fn a_refused_connection_is_told_with_the_address() {
        let error = peer().transport(&io::Error::from(io::ErrorKind::ConnectionRefused));
        assert!(matches!(error, ControlError::Unreachable { .. }), "{error}");
        assert!(error.to_string().contains("m:1"), "{error}");
    }

    #[test]
    fn unavailable_in_the_masters_own_words_is_about_sources() {
        let status = Status::unavailable("no listed server holds it yet");
        let error = peer().status("video \"x\"", Duration::from_secs(1), &status);
        assert!(matches!(error, ControlError::NoSource { .. }), "{error}");
    }

    #[test]
    fn a_call_cut_off_by_its_time_limit_is_a_timeout() {
        let status = Status::from_error(Box::new(tonic::TimeoutExpired(())));
        let error = peer().status("video \"x\"", Duration::from_secs(1), &status);
        assert!(matches!(error, ControlError::Timeout { .. }), "{error}");
    }
}
