//! What this kernel offers, found out by trying.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::FileExt;
use std::str::FromStr;
use std::time::Duration;

use io_uring::IoUring;
use nix::errno::Errno;
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::socket::{setsockopt, sockopt};

use crate::mapped::MappedFile;
use crate::{sender, sys};

/// Which way of I/O an operator wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoMode {
    /// io_uring where the kernel permits it, else the portable way. The default.
    #[default]
    Auto,
    /// io_uring, or no start at all.
    Uring,
    /// System calls alone.
    Portable,
}

/// Which way of I/O is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Trains are sent through io_uring.
    Uring,
    /// Trains are sent by one system call each.
    Portable,
}

/// What becomes of the file regions of a train on their way to the network card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ZeroCopy {
    /// The kernel copies them.
    #[default]
    Off,
    /// Packets refer to the pages of the file (`sendfile`), as long as they live; also within a host, and on both
    /// backends. Regions shorter than [`crate::limits::SENDFILE_BYTES_MIN`] are copied: that is cheaper.
    Sendfile,
    /// Packets refer to this process's memory (`SENDMSG_ZC`) until a notification comes. It takes io_uring. Packets that stay
    /// within the host are copied all the same.
    Notified,
}

/// A word that names no [`IoMode`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown way of I/O {0:?}: it is one of auto, uring, portable")]
pub struct UnknownIoMode(pub String);

impl FromStr for IoMode {
    type Err = UnknownIoMode;

    fn from_str(word: &str) -> Result<Self, UnknownIoMode> {
        match word {
            "auto" => Ok(Self::Auto),
            "uring" => Ok(Self::Uring),
            "portable" => Ok(Self::Portable),
            _ => Err(UnknownIoMode(word.to_owned())),
        }
    }
}

impl fmt::Display for IoMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Uring => "uring",
            Self::Portable => "portable",
        })
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "uring",
            Self::Portable => "portable",
        })
    }
}

/// Why io_uring cannot be used, and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UringUnavailable {
    /// The administrator has switched it off.
    #[error(
        "io_uring is switched off here (kernel.io_uring_disabled={setting}): run `sysctl kernel.io_uring_disabled=0`"
    )]
    SwitchedOff {
        /// 1: for all but one group; 2: for everybody.
        setting: u8,
    },
    /// A filter forbids it, as those of most containers do.
    #[error(
        "io_uring_setup is forbidden ({0}): allow io_uring_setup, io_uring_enter and io_uring_register in the container's \
         seccomp profile"
    )]
    Forbidden(Errno),
    /// The kernel does not know it.
    #[error("this kernel has no io_uring (ENOSYS): it needs Linux 5.11 or newer, built with CONFIG_IO_URING")]
    NotInKernel,
    /// The rings count as locked memory on kernels before 5.12.
    #[error("no memory may be locked for io_uring (ENOMEM): raise `ulimit -l`")]
    MemoryLocked,
    /// Each ring is a descriptor.
    #[error("no descriptor is left for io_uring ({0}): raise `ulimit -n`")]
    NoDescriptor(Errno),
    /// Something else.
    #[error("io_uring_setup failed ({0}): look for the reason in the kernel's log, or choose the portable way of I/O")]
    SetupFailed(Errno),
    /// A ring can be made, but not used.
    #[error(
        "an operation through a new io_uring did not complete: allow io_uring_enter in the container's seccomp profile"
    )]
    NoCompletion,
}

/// What the kernel offers to this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// io_uring, or why not.
    pub uring: Result<(), UringUnavailable>,
    /// Trains can be cut into datagrams by the kernel (`UDP_SEGMENT`).
    pub segmentation: bool,
    /// Datagrams can be coalesced by the kernel (`UDP_GRO`).
    pub coalescing: bool,
    /// Trains can be sent from files ([`ZeroCopy::Sendfile`]): Linux 6.5 or newer. Before, the kernel does not cut them.
    pub sendfile: bool,
}

impl Capabilities {
    /// Tries everything once.
    ///
    /// # Errors
    /// Not even a UDP socket can be made.
    pub fn probe() -> io::Result<Self> {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        Ok(Self {
            uring: probe_uring(),
            segmentation: setsockopt(&udp, sockopt::UdpGsoSegment, &PROBE_SEGMENT_BYTES).is_ok(),
            coalescing: setsockopt(&udp, sockopt::UdpGroSegment, &true).is_ok(),
            sendfile: probe_sendfile().unwrap_or(false),
        })
    }
}

/// The way of I/O for `mode`.
///
/// # Errors
/// io_uring is demanded and not to be had. `Auto` never fails: the reason is in `capabilities`.
pub fn choose(mode: IoMode, capabilities: &Capabilities) -> Result<Backend, UringUnavailable> {
    match (mode, capabilities.uring) {
        (IoMode::Auto | IoMode::Uring, Ok(())) => Ok(Backend::Uring),
        (IoMode::Uring, Err(reason)) => Err(reason),
        (IoMode::Auto, Err(_)) | (IoMode::Portable, _) => Ok(Backend::Portable),
    }
}

/// Any segment size that is allowed.
const PROBE_SEGMENT_BYTES: i32 = 1_200;

fn probe_uring() -> Result<(), UringUnavailable> {
    let mut ring = IoUring::new(PROBE_ENTRIES).map_err(|error| {
        let errno = error.raw_os_error().map_or(Errno::UnknownErrno, Errno::from_raw);
        explain(errno, disabled_setting())
    })?;
    sys::ring::complete_nothing(&mut ring).map_err(|_| UringUnavailable::NoCompletion)
}

const PROBE_ENTRIES: u32 = 1;

/// Sends a region of two segments from a file to itself, and looks at what comes.
fn probe_sendfile() -> io::Result<bool> {
    let bytes: Vec<u8> = (0..2 * PROBE_SEGMENT_BYTES).map(|at| (at % 251) as u8).collect();
    let file = File::from(memfd_create(c"probe", MFdFlags::MFD_CLOEXEC)?);
    file.write_all_at(&bytes, 0)?;
    let region = MappedFile::new(file)?.region(0, bytes.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
    let [from, to] = [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?];
    setsockopt(&from, sockopt::UdpGsoSegment, &PROBE_SEGMENT_BYTES)?;
    to.connect(from.local_addr()?)?;
    to.set_read_timeout(Some(PROBE_TIMEOUT))?;
    sender::send_region(&from, to.local_addr()?, &region)?;
    let mut room = vec![0; bytes.len()];
    for segment in bytes.chunks(PROBE_SEGMENT_BYTES as usize) {
        let length = to.recv(&mut room)?;
        if room[..length] != *segment {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Packets of the loopback device are there before the send returns, unless the core is busy with packets of others. It is
/// waited for where something is lost, which does not happen on a kernel that has this, nor on one that has not.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// `kernel.io_uring_disabled`; nothing before Linux 6.6.
fn disabled_setting() -> Option<u8> {
    fs::read_to_string("/proc/sys/kernel/io_uring_disabled").ok()?.trim().parse().ok()
}

fn explain(errno: Errno, disabled: Option<u8>) -> UringUnavailable {
    match (errno, disabled) {
        (Errno::EPERM, Some(setting @ 1..)) => UringUnavailable::SwitchedOff { setting },
        (Errno::EPERM | Errno::EACCES, _) => UringUnavailable::Forbidden(errno),
        (Errno::ENOSYS, _) => UringUnavailable::NotInKernel,
        (Errno::ENOMEM, _) => UringUnavailable::MemoryLocked,
        (Errno::EMFILE | Errno::ENFILE, _) => UringUnavailable::NoDescriptor(errno),
        _ => UringUnavailable::SetupFailed(errno),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Capabilities = Capabilities {
        uring: Err(UringUnavailable::NotInKernel),
        segmentation: false,
        coalescing: false,
        sendfile: false,
    };
    const ALL: Capabilities = Capabilities { uring: Ok(()), segmentation: true, coalescing: true, sendfile: true };

    #[test]
    fn auto_takes_uring_where_it_is_to_be_had() {
        assert_eq!(choose(IoMode::Auto, &ALL), Ok(Backend::Uring));
        assert_eq!(choose(IoMode::Auto, &NONE), Ok(Backend::Portable));
    }

    #[test]
    fn a_demand_is_kept_or_refused_with_the_reason() {
        assert_eq!(choose(IoMode::Uring, &ALL), Ok(Backend::Uring));
        assert_eq!(choose(IoMode::Uring, &NONE), Err(UringUnavailable::NotInKernel));
        assert_eq!(choose(IoMode::Portable, &ALL), Ok(Backend::Portable));
    }

    #[test]
    fn a_refusal_names_the_remedy() {
        let text = |errno, disabled| explain(errno, disabled).to_string();
        assert!(text(Errno::EPERM, Some(2)).contains("sysctl kernel.io_uring_disabled=0"));
        assert!(text(Errno::EPERM, Some(0)).contains("seccomp"));
        assert!(text(Errno::EPERM, None).contains("seccomp"));
        assert!(text(Errno::ENOSYS, None).contains("Linux 5.11"));
        assert!(text(Errno::ENOMEM, Some(0)).contains("ulimit -l"));
        assert!(text(Errno::EMFILE, Some(0)).contains("ulimit -n"));
        assert!(text(Errno::EIO, Some(0)).contains("EIO"));
    }

    #[test]
    fn modes_are_read_as_they_are_written() {
        for mode in [IoMode::Auto, IoMode::Uring, IoMode::Portable] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert_eq!("URING".parse::<IoMode>(), Err(UnknownIoMode("URING".to_owned())));
    }
}
