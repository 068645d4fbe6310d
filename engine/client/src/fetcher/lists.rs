//! Lists of servers: who is met for the first time, who has moved, and who holds which extents.

use std::net::SocketAddr;
use std::time::Instant;

use braidcast_media::ExtentNo;
use braidcast_transport::congestion::Retained;

use super::source::{Source, State};
use super::{FailureKind, Fetcher, Notice, Order};
use crate::control::{Distribution, Host, Range};
use crate::planner::{Holders, SOURCES_MAX, SourceNo};
use crate::window::ExtentKey;

/// Who holds what from here on; also brings new tickets.
#[derive(Clone, Debug)]
pub struct SourceList {
    /// The servers that `ranges` point to.
    pub hosts: Vec<Host>,
    /// Extents of [`super::FetcherConfig::stream`], in order.
    pub ranges: Vec<Range>,
}

impl From<Distribution> for SourceList {
    fn from(list: Distribution) -> Self {
        Self { hosts: list.hosts, ranges: list.ranges }
    }
}

/// A list whose servers are being met, one after the other.
pub(super) struct Arriving {
    hosts: std::vec::IntoIter<Host>,
    ranges: Vec<Range>,
    /// The sources of the hosts that were met, by place in the list.
    met: Vec<Option<SourceNo>>,
    /// The host that waits for a socket.
    connecting: Option<Connecting>,
}

struct Connecting {
    host: Host,
    /// [`Fetcher::poll_connect`] has given it.
    is_told: bool,
}

/// What becomes of a host of a list.
enum Met {
    /// It is this source, or none.
    Settled(Option<SourceNo>),
    /// It is new, and needs a socket.
    New(Host),
}

/// Extents that a list must reach beyond the one that is started now; below that the next list is asked for.
const LIST_AHEAD_EXTENTS: u32 = 384;

impl Fetcher {
    /// Takes in who holds what from here on. Servers that are not known yet come out of [`Fetcher::poll_connect`].
    pub fn handle_list(&mut self, now: Instant, list: SourceList) {
        if let Some(tracer) = &mut self.tracer {
            tracer.on_list(now, &list);
        }
        let met = Vec::with_capacity(list.hosts.len());
        let hosts = list.hosts.into_iter();
        self.arriving.push_back(Arriving { hosts, ranges: list.ranges, met, connecting: None });
        self.meet_hosts(now);
    }

    /// The next new server: open a socket to it, and tell how that went by [`Fetcher::on_connected`] or
    /// [`Fetcher::on_unreachable`] before the next call. A number whose server cannot be reached is given again.
    pub fn poll_connect(&mut self) -> Option<(SourceNo, SocketAddr)> {
        let connecting = self.arriving.front_mut()?.connecting.as_mut().filter(|connecting| !connecting.is_told)?;
        connecting.is_told = true;
        Some((SourceNo(self.sources.len() as u8), connecting.host.address))
    }

    /// A socket to a new source is there, and it is greeted from here on. `granted_receive_bytes`: what the kernel
    /// holds for that socket, its own bookkeeping included. `retained`: what an earlier session has found out of the path.
    ///
    /// # Panics
    /// If [`Fetcher::poll_connect`] has not given this source.
    pub fn on_connected(
        &mut self,
        now: Instant,
        source: SourceNo,
        granted_receive_bytes: usize,
        retained: Option<Retained>,
    ) {
        let host = self.take_connecting(source);
        assert_eq!(self.planner.add_source(), Some(source), "sources are numbered as the planner does");
        let seed = *blake3::keyed_hash(&self.seed, &[source.0]).as_bytes();
        self.by_server.insert(host.server_id.clone(), source);
        let mut greeted = Source::greeted(now, source, host, granted_receive_bytes, &self.config, seed);
        if let Some(retained) = retained {
            greeted.puller.resume(retained);
        }
        if let Some(tracer) = &mut self.tracer {
            tracer.on_met(now, &greeted);
        }
        self.sources.push(greeted);
        self.on_met(now, Some(source));
    }

    /// There can be no socket to a new server: it is of another family of addresses, say. It is tried again when a list
    /// names it again.
    ///
    /// # Panics
    /// If [`Fetcher::poll_connect`] has not given this source.
    pub fn on_unreachable(&mut self, now: Instant, source: SourceNo, reason: String) {
        let host = self.take_connecting(source);
        tracing::warn!(server = %host.address, reason, "cannot be reached from here");
        if let Some(tracer) = &mut self.tracer {
            tracer.on_unreachable(now, host.address, &reason);
        }
        self.unreachable.insert(host.address, format!("cannot be reached from here: {reason}"));
        self.on_met(now, None);
    }

    fn take_connecting(&mut self, source: SourceNo) -> Host {
        let connecting = self.arriving.front_mut().and_then(|list| list.connecting.take_if(|host| host.is_told));
        let is_next = usize::from(source.0) == self.sources.len();
        connecting.filter(|_| is_next).expect("poll_connect has given this source").host
    }

    fn on_met(&mut self, now: Instant, source: Option<SourceNo>) {
        if let Some(list) = self.arriving.front_mut() {
            list.met.push(source);
        }
        self.meet_hosts(now);
    }

    /// Goes through the hosts of the lists that have come, up to one that needs a socket.
    fn meet_hosts(&mut self, now: Instant) {
        while let Some(list) = self.arriving.front_mut().filter(|list| list.connecting.is_none()) {
            let Some(host) = list.hosts.next() else {
                self.take_ranges();
                continue;
            };
            let met = self.meet(now, host);
            let Some(list) = self.arriving.front_mut() else { return };
            match met {
                Met::Settled(source) => list.met.push(source),
                Met::New(host) => list.connecting = Some(Connecting { host, is_told: false }),
            }
        }
    }

    fn meet(&mut self, now: Instant, host: Host) -> Met {
        if let Some(&number) = self.by_server.get(&host.server_id) {
            let source = &mut self.sources[usize::from(number.0)];
            if source.address == host.address {
                source.take_ticket(now, host);
                return Met::Settled(Some(number));
            }
            if source.state == State::Banned {
                return Met::Settled(None);
            }
            // The server came back at another address: the old one is not asked any more.
            self.fail_source(now, number, FailureKind::Silent, format!("moved to {}", host.address));
        }
        if self.sources.len() < SOURCES_MAX { Met::New(host) } else { Met::Settled(None) }
    }

    /// Takes over what the first list says, whose hosts are all met.
    fn take_ranges(&mut self) {
        let Some(list) = self.arriving.pop_front() else { return };
        for range in &list.ranges {
            if range.last.0 < self.listed {
                continue;
            }
            let source = |&host: &usize| list.met.get(host).copied().flatten();
            let mut holders = Holders::default();
            range.hosts.iter().filter_map(source).for_each(|source| holders.all.insert(source));
            if self.config.order == Order::AsPlanned {
                holders.first = range.hosts.first().and_then(source);
            }
            self.lists.push_back((range.first.0.max(self.listed)..=range.last.0, holders));
            self.listed = range.last.0 + 1;
        }
        self.list_wanted = false;
    }

    /// Forgets who holds what; the servers stay known.
    pub(super) fn forget_lists(&mut self) {
        for list in &mut self.arriving {
            list.ranges.clear();
        }
        self.lists.clear();
        self.listed = 0;
        self.list_wanted = false;
    }

    /// Who holds an extent, as far as is known; nothing if no list covers it yet.
    pub(super) fn holders(&mut self, key: ExtentKey) -> Option<Holders> {
        if key.stream != self.config.stream {
            return (!self.sources.is_empty()).then(Holders::default);
        }
        let covered = key.extent.0 < self.listed;
        while covered && self.lists.front().is_some_and(|(range, _)| *range.end() < key.extent.0) {
            self.lists.pop_front();
        }
        let end = self.config.layout.stream(self.config.stream).map_or(0, |stream| stream.extents());
        let ahead = self.listed.saturating_sub(key.extent.0);
        if self.listed < end && ahead <= LIST_AHEAD_EXTENTS && !self.list_wanted {
            self.list_wanted = true;
            self.notices.push_back(Notice::WantList { first: ExtentNo(self.listed.max(key.extent.0)) });
        }
        if !covered {
            return None;
        }
        let (range, holders) = self.lists.front()?;
        // Another fetcher may have given back what lies before, or asked for what lies behind: anybody is asked for that.
        Some(if range.contains(&key.extent.0) { *holders } else { Holders::default() })
    }
}
