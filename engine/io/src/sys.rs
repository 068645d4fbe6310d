//! All unsafe code of the crate: addresses handed to the kernel.

#![allow(unsafe_code)]

pub(crate) mod ring;

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::{mem, ptr};

use nix::libc;
use polling::{Event, PollMode, Poller};
use socket2::SockAddr;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::limits::REGIONS_PER_TRAIN_MAX;
use crate::selector::Watched;
use crate::train::{Part, Train};

/// Regions and the tail.
const PARTS_MAX: usize = REGIONS_PER_TRAIN_MAX + 1;

/// How a send is cut into datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Segmentation {
    /// By what is set on the socket.
    OfSocket,
    /// Not at all, and without any of the checks that a segment size on the socket brings about.
    Off,
}

/// A control message `UDP_SEGMENT` of 0, which overrides the socket's segment size for one send.
#[repr(C)]
struct SegmentationOff {
    header: libc::cmsghdr,
    segment_bytes: u16,
}

// Where CMSG_DATA and CMSG_LEN of the kernel put it.
const _: () = assert!(mem::offset_of!(SegmentationOff, segment_bytes) == mem::size_of::<libc::cmsghdr>());

/// A `msghdr` with all that it points to, except for the train's own memory.
pub(crate) struct Message {
    name: SockAddr,
    iovecs: [libc::iovec; PARTS_MAX],
    header: libc::msghdr,
}

impl Message {
    /// One that names nothing yet.
    pub(crate) fn new() -> Self {
        // SAFETY: `msghdr` holds integers and pointers alone, for which zeros are a value.
        let header = unsafe { mem::zeroed() };
        let iovecs = [libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; PARTS_MAX];
        Self { name: SockAddr::from(SocketAddr::from(([0; 4], 0))), iovecs, header }
    }

    /// Names the bytes `range` of `train`, laid end to end, and where they go. Good as long as neither this value nor the
    /// train is moved or changed.
    pub(crate) fn fill(&mut self, train: &Train, range: Range<usize>) {
        let used = gather(train.parts(), range, &mut self.iovecs);
        self.name = SockAddr::from(train.to());
        self.header.msg_name = self.name.as_ptr().cast_mut().cast();
        self.header.msg_namelen = self.name.len();
        self.header.msg_iov = self.iovecs.as_mut_ptr();
        self.header.msg_iovlen = used;
    }

    /// The header, for the kernel alone.
    pub(crate) fn header(&self) -> *const libc::msghdr {
        &raw const self.header
    }
}

/// Sends the bytes `range` of `train`, laid end to end, in one call that does not block.
pub(crate) fn send(
    socket: &impl AsFd,
    train: &Train,
    range: Range<usize>,
    segmentation: Segmentation,
) -> io::Result<()> {
    let mut off = SegmentationOff {
        header: libc::cmsghdr {
            cmsg_len: mem::size_of::<libc::cmsghdr>() + mem::size_of::<u16>(),
            cmsg_level: libc::SOL_UDP,
            cmsg_type: libc::UDP_SEGMENT,
        },
        segment_bytes: 0,
    };
    let mut message = Message::new();
    message.fill(train, range);
    if segmentation == Segmentation::Off {
        message.header.msg_control = (&raw mut off).cast();
        message.header.msg_controllen = mem::size_of::<SegmentationOff>();
    }
    // SAFETY: `sendmsg` reads the header, and the memory that its pointers and lengths name; all of it outlives the call.
    // - The name, the control message and the vector are locals of this function, not moved since they were named.
    // - Each entry of the vector names a piece of a part's own memory (`gather`), and `train` is borrowed for the call.
    //   The kernel checks these addresses itself: a page that is gone makes it return `EFAULT`.
    // - It writes through none of them, though their types would allow it.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), message.header(), libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Writes the pieces that make up `range` into `iovecs`; returns how many they are.
fn gather<'a>(
    parts: impl Iterator<Item = Part<'a>>,
    range: Range<usize>,
    iovecs: &mut [libc::iovec; PARTS_MAX],
) -> usize {
    let mut used = 0;
    let mut part_start = 0;
    for part in parts {
        let (address, len) = part.raw();
        let from = range.start.max(part_start) - part_start;
        let to = range.end.min(part_start + len).saturating_sub(part_start);
        if from < to {
            iovecs[used] = libc::iovec { iov_base: address.wrapping_add(from).cast_mut().cast(), iov_len: to - from };
            used += 1;
        }
        part_start += len;
    }
    used
}

/// Messages that the kernel dropped because the socket's receive buffer was full.
pub(crate) fn receive_drops(socket: &impl AsFd) -> io::Result<u32> {
    /// `asm-generic/socket.h`; libc does not have it.
    const SO_MEMINFO: libc::c_int = 55;
    /// `SK_MEMINFO_VARS` of `linux/sock_diag.h`; a newer kernel with more of them fills what there is room for.
    const VARS: usize = 9;
    /// `SK_MEMINFO_DROPS`.
    const DROPS: usize = 8;
    let mut info = [0_u32; VARS];
    let mut bytes = mem::size_of_val(&info) as libc::socklen_t;
    // SAFETY: `getsockopt` writes at most `bytes` bytes to `info`, which is that long and takes any bit pattern, and the
    // length to `bytes`; both are locals that outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut bytes,
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(info[DROPS]) }
}

/// What has one descriptor, open and the same as long as the value lives, moved or not.
pub(crate) trait Fixed {
    fn fd(&self) -> BorrowedFd<'_>;
}

impl Fixed for TcpListener {
    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Fixed for TcpStream {
    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Fixed for Watched {
    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Socket(socket) => socket.udp().as_fd(),
            Self::Stream(stream) => stream.tcp().as_fd(),
        }
    }
}

/// A socket that a poller watches, as long as this value lives.
pub(crate) struct Watch<S: Fixed> {
    poller: Arc<Poller>,
    socket: S,
    interest: Event,
}

impl<S: Fixed> Watch<S> {
    /// Watches `socket` for what `interest` names. Level-triggered: what is not taken is told of again.
    pub(crate) fn new(poller: &Arc<Poller>, socket: S, interest: Event) -> io::Result<Self> {
        // SAFETY: the socket must be deleted from the poller before it is dropped. This value owns it, lends out no
        // `&mut` by which it could be exchanged, and deletes it in `drop` below, which runs before its fields are
        // dropped; a forgotten value keeps its socket open. `Fixed` says that the descriptor stays the same.
        unsafe { poller.add_with_mode(socket.fd().as_raw_fd(), interest, PollMode::Level)? };
        Ok(Self { poller: Arc::clone(poller), socket, interest })
    }

    pub(crate) fn socket(&self) -> &S {
        &self.socket
    }

    /// Watches for other events from here on.
    pub(crate) fn set_interest(&mut self, readable: bool, writable: bool) -> io::Result<()> {
        let interest = Event::new(self.interest.key, readable, writable);
        if interest != self.interest {
            self.poller.modify_with_mode(self.socket.fd(), interest, PollMode::Level)?;
            self.interest = interest;
        }
        Ok(())
    }
}

impl<S: Fixed> Drop for Watch<S> {
    fn drop(&mut self) {
        // It could fail only for a socket that is not watched, which is as well.
        let _ = self.poller.delete(self.socket.fd());
    }
}

impl Fixed for Rc<UdpSocket> {
    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

impl Fixed for OwnedFd {
    fn fd(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }
}

/// A socket or ring that the runtime of this thread watches, as long as this value lives.
pub(crate) struct Registered<S: Fixed + AsRawFd = Rc<UdpSocket>>(AsyncFd<S>);

impl<S: Fixed + AsRawFd> Registered<S> {
    /// Registers `socket`, which must not be registered already: epoll tells registrations apart by descriptor.
    pub(crate) fn new(socket: S, interest: Interest) -> io::Result<Self> {
        // SAFETY: the descriptor must be open and stay the same until the `AsyncFd` is dropped. `Fixed` says that it is
        // open and the same as long as the socket lives; the `AsyncFd` owns the socket, and this type lends out no `&mut`
        // by which it could be exchanged.
        let registered = unsafe { AsyncFd::register_with_interest(socket, interest)? };
        Ok(Self(registered))
    }

    /// Runs a non-blocking `read` if there may be input; `WouldBlock` if it says so, or if there is none.
    pub(crate) fn try_read<R>(&self, read: impl FnOnce(&S) -> io::Result<R>) -> io::Result<R> {
        self.0.try_io(Interest::READABLE, |socket| read(socket))
    }

    /// Whether there may be input; if not, the task is woken when there is.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>) -> io::Result<bool> {
        match self.0.poll_read_ready(cx) {
            Poll::Ready(guard) => guard.map(|_| true),
            Poll::Pending => Ok(false),
        }
    }

    /// Whether there are completions; if not, the task is woken when there are. They are to be taken before the next call.
    pub(crate) fn poll_completions(&self, cx: &mut Context<'_>) -> io::Result<bool> {
        match self.0.poll_read_ready(cx) {
            Poll::Ready(guard) => {
                guard?.clear_ready();
                Ok(true)
            }
            Poll::Pending => Ok(false),
        }
    }

    /// Whether there may be room to send; if not, the task is woken when there is.
    pub(crate) fn poll_writable(&self, cx: &mut Context<'_>) -> io::Result<bool> {
        match self.0.poll_write_ready(cx) {
            Poll::Ready(guard) => guard.map(|_| true),
            Poll::Pending => Ok(false),
        }
    }
}
