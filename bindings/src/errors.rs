//! Rust's errors as Python's exceptions: the one place where that is decided. The messages are Rust's.

use std::io;

use braidcast_av::ConvertError;
use braidcast_client::ControlError;
use braidcast_client::download::DownloadError;
use braidcast_client::film::FilmError;
use braidcast_player::PlayError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::session::SessionError;

mod classes {
    use pyo3::import_exception;

    import_exception!(braidcast._errors, AuthenticationError);
    import_exception!(braidcast._errors, ClosedError);
    import_exception!(braidcast._errors, DecodeError);
    import_exception!(braidcast._errors, ForkError);
    import_exception!(braidcast._errors, IntegrityError);
    import_exception!(braidcast._errors, MasterError);
    import_exception!(braidcast._errors, MasterUnavailable);
    import_exception!(braidcast._errors, NoSources);
    import_exception!(braidcast._errors, NotAFilm);
    import_exception!(braidcast._errors, NotFound);
    import_exception!(braidcast._errors, OutputError);
    import_exception!(braidcast._errors, ProfileError);
    import_exception!(braidcast._errors, ResourceError);
}

use classes::{
    AuthenticationError, ClosedError, DecodeError, ForkError, IntegrityError, MasterError, MasterUnavailable,
    NoSources, NotAFilm, NotFound, OutputError, ProfileError, ResourceError,
};

pub(crate) fn of_session(error: SessionError) -> PyErr {
    match error {
        SessionError::Profile(error) => ProfileError::new_err(error.to_string()),
        SessionError::Control(error) => of_control(&error),
    }
}

fn of_control(error: &ControlError) -> PyErr {
    let message = error.to_string();
    match error {
        ControlError::Address { .. } => ProfileError::new_err(message),
        ControlError::Unreachable { .. } | ControlError::Timeout { .. } => MasterUnavailable::new_err(message),
        ControlError::NotTrusted { .. }
        | ControlError::CertificateTime { .. }
        | ControlError::WrongPassword { .. }
        | ControlError::LoginExpired { .. }
        | ControlError::AccountLocked { .. }
        | ControlError::LoginUnsupported { .. }
        | ControlError::TokenRefused { .. }
        | ControlError::NotPermitted { .. } => AuthenticationError::new_err(message),
        ControlError::NotFound { .. } => NotFound::new_err(message),
        ControlError::NoSource { .. } => no_sources(message, &[]),
        ControlError::Damaged { .. } => IntegrityError::new_err(message),
        ControlError::AlreadyExists { .. }
        | ControlError::Rejected { .. }
        | ControlError::Precondition { .. }
        | ControlError::Full { .. }
        | ControlError::BadAnswer { .. }
        | ControlError::MasterFailed { .. } => MasterError::new_err(message),
    }
}

pub(crate) fn of_download(error: DownloadError) -> PyErr {
    let message = error.to_string();
    match error {
        DownloadError::Control(error) => of_control(&error),
        DownloadError::NoSources { sources } => no_sources(message, &sources),
        DownloadError::Damaged { .. } => IntegrityError::new_err(message),
        DownloadError::Output { .. }
        | DownloadError::Trace { .. }
        | DownloadError::DiskFull { .. }
        | DownloadError::InUse { .. } => OutputError::new_err(message),
        DownloadError::System(_) | DownloadError::TooLong { .. } => ResourceError::new_err(message),
        DownloadError::NoFile | DownloadError::NoHashes => MasterError::new_err(message),
        DownloadError::Interrupted => ClosedError::new_err(message),
    }
}

pub(crate) fn of_play(error: PlayError) -> PyErr {
    let message = error.to_string();
    match error {
        PlayError::Film(error) => of_film(error),
        PlayError::Decode(_) | PlayError::Panicked => DecodeError::new_err(message),
        PlayError::System(_) => ResourceError::new_err(message),
    }
}

fn of_film(error: FilmError) -> PyErr {
    let message = error.to_string();
    match error {
        FilmError::Control(error) => of_control(&error),
        FilmError::NotAFilm { .. } | FilmError::NoFrames { .. } => NotAFilm::new_err(message),
        FilmError::NoSources { sources } => no_sources(message, &sources),
        FilmError::Damaged { .. } | FilmError::Misled { .. } | FilmError::BadFilm { .. } => {
            IntegrityError::new_err(message)
        }
        FilmError::Trace { .. } => OutputError::new_err(message),
        FilmError::Seek { .. } => PyValueError::new_err(message),
        FilmError::System(_) => ResourceError::new_err(message),
        FilmError::Closed => ClosedError::new_err(message),
    }
}

/// A picture cannot be given in the format that was asked for.
pub(crate) fn of_convert(error: &ConvertError) -> PyErr {
    DecodeError::new_err(error.to_string())
}

/// The system gives no thread.
pub(crate) fn of_system(error: io::Error) -> PyErr {
    ResourceError::new_err(format!("the system gives no thread: {error}"))
}

/// Something closed was used.
pub(crate) fn closed() -> PyErr {
    of_film(FilmError::Closed)
}

/// Something of the parent's was used in a forked child.
pub(crate) fn forked(name: &str) -> PyErr {
    ForkError::new_err(format!("{name:?} was opened before this process was forked; open it again in this process"))
}

fn no_sources(message: String, sources: &[(String, String)]) -> PyErr {
    NoSources::new_err((message, sources.to_vec()))
}
