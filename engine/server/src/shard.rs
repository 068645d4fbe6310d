//! One shard: a thread that serves a share of the clients, and never waits for anything but its socket.
//!
//! A PULL goes to the responder, which checks it, and waits for its session's turn; its runs are looked up in the pack;
//! if all of their extents are hot the answer leaves in one train: the regions of the pack as they stand in the file, then END. Otherwise the request
//! is parked until helpers have read the cold extents in. Where the PULL names a rate that a train would exceed, the
//! answer leaves in several, each when it is due.

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use braidcast_io::{Notification, Outbox, Service, Train};
use braidcast_media::layout::CHUNK_BYTES;
use braidcast_transport::packet::Status;
use braidcast_transport::responder::paced::{self, Paced};
use braidcast_transport::responder::{Action, Now, Outcome, Request, Responder};

use crate::answer::{self, Plan};
use crate::catalogue::Reader;
use crate::counters::ShardCounters;
use crate::limits::{BUSY_RETRY, COUNTERS_EVERY, PACED_MAX};
use crate::mailbox::Mailbox;
use crate::parking::Parking;
use crate::turns::Turns;
use crate::warm::Warmer;

/// What one shard's thread runs.
pub(crate) struct Shard {
    number: u8,
    responder: Responder,
    reader: Reader,
    parking: Parking,
    /// Requests that wait for their turn.
    turns: Turns,
    /// Answers that leave in several trains. Each keeps the file open that it is read from, for a second at most: that
    /// is what the lowest rate of a PULL takes.
    paced: Paced<Plan>,
    mailboxes: Arc<[Mailbox]>,
    warmer: Warmer,
    counters: Arc<ShardCounters>,
    /// When to publish the responder's counters; nothing while they do not change.
    publish_at: Option<Instant>,
}

impl Shard {
    /// Shard `number` of those that have a mailbox.
    pub(crate) fn new(
        number: u8,
        responder: Responder,
        reader: Reader,
        mailboxes: Arc<[Mailbox]>,
        warmer: Warmer,
        turns: Turns,
        counters: Arc<ShardCounters>,
    ) -> Self {
        Self {
            number,
            responder,
            reader,
            parking: Parking::default(),
            turns,
            paced: Paced::default(),
            mailboxes,
            warmer,
            counters,
            publish_at: None,
        }
    }

    fn refresh(&mut self) {
        if self.reader.refresh() {
            self.responder.set_ticket_keys(self.reader.catalogue().ticket_keys.clone());
        }
    }

    fn serve(&mut self, now: Instant, request: Request, out: &mut Outbox) {
        let Some(pack) = self.reader.catalogue().packs.get(&request.asset) else {
            return self.refuse(now, &request, Status::UnknownAsset, Duration::ZERO, out);
        };
        let plan = answer::plan(pack, request.stream, &request.runs);
        if plan.cold.is_empty() {
            for &extent in &plan.ahead {
                if self.parking.has_room_ahead(request.asset, extent)
                    && self.warmer.ask_ahead(pack, extent, self.number)
                {
                    self.parking.on_asked(request.asset, extent);
                }
            }
            if request.is_one_train(now, plan.chunks) {
                let all = 0..plan.chunks;
                return finish(&mut self.responder, &self.counters, now, &request, all, &plan, out);
            }
            if self.paced.len() < PACED_MAX {
                return self.paced.push(request, plan.chunks, plan);
            }
            return self.refuse(now, &request, Status::Busy, BUSY_RETRY, out);
        }
        if self.ask_for(&request, &plan) {
            self.counters.on_parked();
            self.parking.park(now, request, plan.cold);
        } else {
            self.refuse(now, &request, Status::Busy, BUSY_RETRY, out);
        }
    }

    /// Asks helpers for the cold extents of a plan; says whether the request may wait for them.
    fn ask_for(&mut self, request: &Request, plan: &Plan) -> bool {
        if !self.parking.has_room(request.handle, &plan.cold) {
            return false;
        }
        let Some(pack) = self.reader.catalogue().packs.get(&request.asset) else {
            return false;
        };
        plan.cold.iter().all(|&extent| {
            if self.parking.awaits(request.asset, extent) {
                return true;
            }
            let asked = self.warmer.ask(pack, extent, self.number);
            if asked {
                self.parking.on_asked(request.asset, extent);
            }
            asked
        })
    }

    /// Answers those whose extents could not be read in, or not in time.
    fn refuse_overdue(&mut self, now: Instant, out: &mut Outbox) {
        while out.room() > 0
            && let Some(request) = self.parking.poll_overdue(now)
        {
            self.refuse(now, &request, Status::Busy, BUSY_RETRY, out);
        }
    }

    /// Sends the trains that are due.
    fn send_paced(&mut self, now: Instant, out: &mut Outbox) {
        while out.room() > 0
            && let Some(train) = self.paced.poll_due(now)
        {
            self.send_train(now, &train, out);
            self.paced.resume(train);
        }
    }

    fn send_train(&mut self, now: Instant, due: &paced::Train<Plan>, out: &mut Outbox) {
        let (plan, request, chunks) = (&due.content, &due.request, due.chunks.clone());
        if due.is_last() {
            return finish(&mut self.responder, &self.counters, now, request, chunks, plan, out);
        }
        self.counters.on_sent(payload_bytes(&chunks));
        push(out, with_regions(request, chunks, plan));
    }

    /// `retry_after`: with [`Status::Busy`].
    fn refuse(&mut self, now: Instant, request: &Request, status: Status, retry_after: Duration, out: &mut Outbox) {
        let busy = status == Status::Busy;
        if busy {
            self.counters.on_busy();
        }
        let outcome = Outcome { status, sent_chunks: 0, not_held: &[], retry_after, server_limited: busy };
        if let Some(end) = self.responder.answer(both_clocks(now), request, &outcome) {
            push(out, Train::datagram(request.to, &end).expect("END is no longer than a tail"));
        }
    }
}

impl Service for Shard {
    fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8], out: &mut Outbox) {
        self.refresh();
        self.publish_at.get_or_insert(now + COUNTERS_EVERY);
        match self.responder.handle_datagram(both_clocks(now), from, datagram) {
            Some(Action::Send(packet)) => {
                push(out, Train::datagram(from, &packet).expect("a small packet is no longer than a tail"));
            }
            Some(Action::Pull(request)) => match self.turns.room_for(request.handle) {
                Ok(()) => self.turns.push(now, request),
                Err(retry_after) => self.refuse(now, &request, Status::Busy, retry_after, out),
            },
            None => {}
        }
    }

    fn handle_wake(&mut self, now: Instant, out: &mut Outbox) {
        self.refresh();
        let mailboxes = Arc::clone(&self.mailboxes);
        let mailbox = &mailboxes[usize::from(self.number)];
        while let Some(warmed) = mailbox.poll_warmed() {
            if warmed.failed {
                self.parking.on_failed(warmed.asset, warmed.extent);
            } else {
                self.parking.on_warmed(warmed.asset, warmed.extent);
            }
        }
        self.refuse_overdue(now, out);
        while out.room() > 0
            && let Some(request) = self.parking.poll_ready()
        {
            self.serve(now, request, out);
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if self.responder.poll_timeout().is_some_and(|due| due <= now) {
            self.responder.handle_timeout(both_clocks(now));
        }
        if self.publish_at.is_some_and(|due| due <= now) {
            self.publish_at = None;
            self.counters.publish(self.responder.sessions(), *self.responder.counters());
        }
        self.refuse_overdue(now, out);
        self.turns.handle_timeout(now);
        self.send_paced(now, out);
    }

    fn fill(&mut self, now: Instant, out: &mut Outbox) {
        while out.room() > 0
            && let Some(request) = self.turns.poll_ready(now)
        {
            self.serve(now, request, out);
        }
        self.send_paced(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let paced = self.paced.poll_timeout();
        let others = [self.responder.poll_timeout(), self.publish_at, self.parking.poll_timeout()];
        others.into_iter().chain([paced, self.turns.poll_timeout()]).flatten().min()
    }

    fn on_send_error(&mut self, to: SocketAddr, error: &io::Error) {
        self.counters.on_send_error();
        if error.raw_os_error() == Some(nix::libc::EFAULT) {
            self.warmer.ask_inspection();
        }
        tracing::debug!(%to, %error, "an answer could not be sent");
    }

    fn on_notification(&mut self, notification: Notification) {
        self.counters.on_notification(notification);
    }
}

/// Sends the last of an answer, and its END.
fn finish(
    responder: &mut Responder,
    counters: &ShardCounters,
    now: Instant,
    request: &Request,
    chunks: Range<u16>,
    plan: &Plan,
    out: &mut Outbox,
) {
    let outcome = Outcome {
        status: if plan.chunks == 0 { Status::NotHeld } else { Status::Ok },
        sent_chunks: plan.chunks,
        not_held: &plan.not_held,
        retry_after: Duration::ZERO,
        server_limited: false,
    };
    let Some(end) = responder.answer(both_clocks(now), request, &outcome) else {
        return;
    };
    counters.on_sent(payload_bytes(&chunks));
    let mut train = with_regions(request, chunks, plan);
    train.push_tail(&end).expect("END is no longer than a tail, and a request no longer than a train");
    push(out, train);
}

fn with_regions(request: &Request, chunks: Range<u16>, plan: &Plan) -> Train {
    let mut train = Train::new(request.to);
    for piece in plan.pieces_of(chunks) {
        let file = plan.file.as_ref().expect("nothing is sent while anything is cold");
        let region = file.region(piece.offset, piece.bytes).expect("pieces lie within the pack");
        train.push_region(region).expect("a request has no more runs than a train takes regions");
    }
    train
}

fn payload_bytes(chunks: &Range<u16>) -> u64 {
    u64::from(chunks.end - chunks.start) * CHUNK_BYTES as u64
}

fn push(out: &mut Outbox, train: Train) {
    out.push(train).expect("the outbox has room at every call, and each loop asks for it");
}

fn both_clocks(instant: Instant) -> Now {
    let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Now { instant, unix_s: since_epoch.map_or(0, |since| since.as_secs()) }
}

#[cfg(test)]
mod tests;
