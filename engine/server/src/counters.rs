//! What a server counts. Each shard writes its own; whoever asks gets the sum.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use braidcast_io::Notification;
use braidcast_transport::responder::Counters;

/// What a server has done since it started.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct ServerCounters {
    /// Bytes of chunks handed to the network: 1,200 for each chunk, padding included, headers not.
    pub sent_bytes: u64,
    /// Sessions at present, half-open ones included.
    pub sessions: usize,
    /// PULLs that waited for cold extents.
    pub parked: u64,
    /// PULLs answered BUSY: the disk or the shard was behind, or the total rate is used up.
    pub busy: u64,
    /// Trains that the network refused.
    pub send_errors: u64,
    /// Trains that a network card read from memory itself, where that was asked for.
    pub zero_copied: u64,
    /// Trains that the kernel copied although zero copy was asked for.
    pub copied: u64,
    /// What arrived and was dropped or refused, by reason.
    pub packets: Counters,
}

/// One shard's counters. Written by that shard alone.
#[derive(Default)]
pub(crate) struct ShardCounters {
    sent_bytes: AtomicU64,
    sessions: AtomicUsize,
    parked: AtomicU64,
    busy: AtomicU64,
    send_errors: AtomicU64,
    zero_copied: AtomicU64,
    copied: AtomicU64,
    /// Copied here now and then; never locked for longer than the copy takes.
    packets: Mutex<Counters>,
}

impl ShardCounters {
    pub(crate) fn on_sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn on_parked(&self) {
        self.parked.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn on_busy(&self) {
        self.busy.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn on_send_error(&self) {
        self.send_errors.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn on_notification(&self, notification: Notification) {
        let counter = match notification {
            Notification::ZeroCopy => &self.zero_copied,
            Notification::Copied => &self.copied,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes over what the responder counts.
    pub(crate) fn publish(&self, sessions: usize, packets: Counters) {
        self.sessions.store(sessions, Ordering::Relaxed);
        *self.packets.lock().unwrap_or_else(PoisonError::into_inner) = packets;
    }
}

/// The sum over all shards.
pub(crate) fn total<'a>(shards: impl IntoIterator<Item = &'a ShardCounters>) -> ServerCounters {
    let mut total = ServerCounters::default();
    for shard in shards {
        total.sent_bytes += shard.sent_bytes.load(Ordering::Relaxed);
        total.sessions += shard.sessions.load(Ordering::Relaxed);
        total.parked += shard.parked.load(Ordering::Relaxed);
        total.busy += shard.busy.load(Ordering::Relaxed);
        total.send_errors += shard.send_errors.load(Ordering::Relaxed);
        total.zero_copied += shard.zero_copied.load(Ordering::Relaxed);
        total.copied += shard.copied.load(Ordering::Relaxed);
        let packets = *shard.packets.lock().unwrap_or_else(PoisonError::into_inner);
        total.packets.malformed += packets.malformed;
        total.packets.bad_ticket += packets.bad_ticket;
        total.packets.expired_ticket += packets.expired_ticket;
        total.packets.bad_proof += packets.bad_proof;
        total.packets.too_many_sessions += packets.too_many_sessions;
        total.packets.displaced_sessions += packets.displaced_sessions;
        total.packets.bad_tag += packets.bad_tag;
        total.packets.replayed += packets.replayed;
        total.packets.unknown_session += packets.unknown_session;
        total.packets.over_limit += packets.over_limit;
        total.packets.pulls += packets.pulls;
    }
    total
}
