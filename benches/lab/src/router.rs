//! The router between the hosts: it reads packets from their TUN devices, sends them through links, and writes them to
//! the device that they go to when their time has come.
//!
//! [`fabric`] decides and does no I/O; the thread here moves the packets and keeps the time.

pub mod arrivals;
pub mod fabric;
pub mod histogram;
pub mod packet;

use std::fmt;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::unistd::{gettid, read, write};
use tun_rs::SyncDevice;

use self::fabric::{Fabric, HostId};
use crate::namespace;

/// Packets read from one device before the others have their turn.
const BATCH: usize = 32;
/// The longest sleep: how long a command may have to wait.
const NAP: Duration = Duration::from_millis(5);

type Job = Box<dyn FnOnce(&mut Fabric, Duration) + Send>;

/// A router that runs in a thread of its own. Dropped, it ends.
pub struct Router {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Router")
    }
}

impl Router {
    /// Starts to forward between `devices`; device n is that of host n.
    pub fn start(fabric: Fabric, devices: Vec<SyncDevice>) -> Result<Self> {
        for device in &devices {
            fcntl(device.as_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).context("a TUN device without blocking")?;
        }
        let (jobs, inbox) = channel();
        let forward = move || Forwarder { fabric, devices, inbox, origin: Instant::now() }.run();
        let thread = std::thread::Builder::new().name("router".to_owned()).spawn(forward)?;
        Ok(Self { jobs: Some(jobs), thread: Some(thread) })
    }

    /// Has `work` done on the fabric between two packets, at the router's time, and gives what it gives.
    pub fn with<T: Send + 'static>(&self, work: impl FnOnce(&mut Fabric, Duration) -> T + Send + 'static) -> T {
        let (answer, answered) = channel();
        let job: Job = Box::new(move |fabric, now| {
            // The caller waits below.
            let _ = answer.send(work(fabric, now));
        });
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        assert!(sent, "the router's thread runs as long as its handle");
        answered.recv().expect("the router's thread runs as long as its handle")
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // It panicked: that has been reported.
            let _ = thread.join();
        }
    }
}

struct Forwarder {
    fabric: Fabric,
    devices: Vec<SyncDevice>,
    inbox: Receiver<Job>,
    origin: Instant,
}

impl Forwarder {
    fn run(mut self) {
        be_prompt();
        loop {
            loop {
                match self.inbox.try_recv() {
                    Ok(job) => job(&mut self.fabric, self.origin.elapsed()),
                    Err(std::sync::mpsc::TryRecvError::Empty) => break,
                    Err(std::sync::mpsc::TryRecvError::Disconnected) => return,
                }
            }
            self.deliver();
            for device in self.wait() {
                self.take_from(device);
            }
        }
    }

    /// Writes what is due.
    fn deliver(&mut self) {
        loop {
            let now = self.origin.elapsed();
            let Some(delivery) = self.fabric.poll_delivery(now) else { return };
            let written = write(self.devices[delivery.to.0].as_fd(), self.fabric.bytes(delivery.slot));
            self.fabric.release(delivery.slot, written.is_ok());
        }
    }

    /// Sleeps until a packet comes or is due; gives the devices that have some.
    fn wait(&self) -> arrayvec::ArrayVec<usize, { fabric::HOSTS_MAX }> {
        let now = self.origin.elapsed();
        let nap = self.fabric.next_at().map_or(NAP, |at| at.saturating_sub(now).min(NAP));
        let mut polled: arrayvec::ArrayVec<PollFd<'_>, { fabric::HOSTS_MAX }> =
            self.devices.iter().map(|device| PollFd::new(device.as_fd(), PollFlags::POLLIN)).collect();
        match ppoll(&mut polled, Some(nap.into()), None) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
        let has_some = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| events.contains(PollFlags::POLLIN));
        polled.iter().enumerate().filter(|(_, fd)| has_some(fd)).map(|(device, _)| device).collect()
    }

    /// Reads a batch of packets from a device.
    fn take_from(&mut self, device: usize) {
        for _ in 0..BATCH {
            let Some(slot) = self.fabric.take_slot() else { return };
            match read(self.devices[device].as_fd(), self.fabric.buffer(slot)) {
                Ok(bytes) => self.fabric.handle_packet(HostId(device), slot, bytes, self.origin.elapsed()),
                // Nothing left, or the device is down.
                Err(_) => return self.fabric.release(slot, true),
            }
        }
    }
}

/// Has this thread run as soon as it has work, where that is permitted: it stands for a network, not for a program.
fn be_prompt() {
    // Ordinary threads sleep up to 50 us longer than asked. It cannot fail for a time above zero.
    let _ = nix::sys::prctl::set_timerslack(1);
    let thread = gettid().to_string();
    if let Err(error) = namespace::run(Command::new("chrt").args(["--fifo", "--pid", "1", &thread])) {
        eprintln!("lab: the router has no real-time priority, so delays are less exact: {error:#}");
    }
}
