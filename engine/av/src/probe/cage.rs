//! What keeps a probing process small: a file may be made to break the library that reads it.
//!
//! There is no way back: the limits hold for the whole process until it ends, so only a program that does nothing but
//! probe may call [`enter`].

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;

use crate::limits::cage::{ADDRESS_SPACE_BYTES, CORE_BYTES, CPU_SECONDS, FILE_BYTES, OPEN_FILES};

/// The limit that could not be set.
#[derive(Debug, thiserror::Error)]
#[error("the probing process cannot limit its {what}: {errno}")]
pub struct CageError {
    what: &'static str,
    errno: Errno,
}

/// Limits this process for good: memory, processor time, open files, no writing into files, no more privileges. It is
/// killed when the thread that started it ends.
///
/// # Errors
/// [`CageError`]; then nothing may be read.
pub fn enter() -> Result<(), CageError> {
    let limits = [
        ("address space", Resource::RLIMIT_AS, ADDRESS_SPACE_BYTES),
        ("processor time", Resource::RLIMIT_CPU, CPU_SECONDS),
        ("file sizes", Resource::RLIMIT_FSIZE, FILE_BYTES),
        ("core dumps", Resource::RLIMIT_CORE, CORE_BYTES),
        ("open files", Resource::RLIMIT_NOFILE, OPEN_FILES),
    ];
    for (what, resource, value) in limits {
        setrlimit(resource, value, value).map_err(|errno| CageError { what, errno })?;
    }
    prctl::set_no_new_privs().map_err(|errno| CageError { what: "privileges", errno })?;
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|errno| CageError { what: "life to its parent's", errno })
}
