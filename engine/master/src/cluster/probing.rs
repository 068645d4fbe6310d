//! Proving addresses: a server is listed only after somebody was answered at the address that it gave.
//!
//! The prober greets the address with a ticket under the server's own key, so only the server itself can answer; and
//! it is another server where there is one, so that an address which reaches nobody but its owner does not pass.

use std::time::Instant;

use braidcast_media::AssetId;
use braidcast_proto::v1;
use braidcast_proto::v1::master_order::Order;

use crate::cluster::registry::Registry;
use crate::cluster::server::{Probe, Server};
use crate::limits::{PROBE_INTERVAL, PROBE_RESULTS_MAX, PROBE_TICKET_LIFETIME, PROBES_PENDING_MAX};
use crate::random;
use crate::tickets;

/// Scope of a probe's ticket: no asset has this id.
const NO_ASSET: AssetId = AssetId(0);
/// Tickets of probes belong to no user.
const NO_USER: u64 = 0;

impl Registry {
    /// Orders the probes that are due.
    pub(crate) fn order_probes(&mut self, now: Instant) {
        let due: Vec<String> = self
            .servers
            .iter()
            .filter(|(_, server)| server.stream.is_some() && !server.proven && is_due(server, now))
            .map(|(id, _)| id.clone())
            .collect();
        for target in due {
            self.order_probe(now, &target);
        }
    }

    fn order_probe(&mut self, now: Instant, target: &str) {
        let Some(server) = self.servers.get(target) else { return };
        let prober = self.prober(target, server.probes_ordered);
        let key = server.keys.sealing(now, server.keys_announced);
        let sealed = tickets::seal(key, NO_USER, NO_ASSET, PROBE_TICKET_LIFETIME);
        let id = u64::from_be_bytes(random::draw());
        let order = v1::ProbeOrder {
            probe_id: id,
            address: server.address.to_string(),
            ticket: sealed.ticket,
            session_secret: sealed.secret.expose().to_vec(),
        };
        let sent = self.servers.get(&prober).is_some_and(|prober| prober.order(Order::Probe(order)));
        let Some(server) = self.servers.get_mut(target) else { return };
        // Counted even when it could not be sent: the next one asks another prober.
        server.probes_ordered = server.probes_ordered.wrapping_add(1);
        if sent {
            if server.probes.len() >= PROBES_PENDING_MAX {
                server.probes.pop_front();
            }
            server.probes.push_back(Probe { id, prober, at: now });
        }
    }

    /// Who makes the probe: another server with an open stream, proven ones first, a different one each time; the
    /// server itself where there is no other.
    fn prober(&self, target: &str, turn: usize) -> String {
        let others = |proven: bool| {
            self.servers
                .iter()
                .filter(move |(id, server)| id.as_str() != target && server.stream.is_some() && server.proven == proven)
                .map(|(id, _)| id)
        };
        let others: Vec<&String> = others(true).chain(others(false)).collect();
        match others.get(turn % others.len().max(1)) {
            Some(other) => (*other).clone(),
            None => target.to_owned(),
        }
    }

    /// Takes the answers of a prober. One that was not asked is not believed.
    pub(crate) fn on_probe_results(&mut self, prober: &str, results: &[v1::ProbeResult]) {
        for result in results.iter().take(PROBE_RESULTS_MAX).filter(|result| result.answered) {
            let asked = |probe: &Probe| probe.id == result.probe_id && probe.prober == prober;
            let target = self.servers.iter_mut().find(|(_, server)| server.probes.iter().any(asked));
            if let Some((id, server)) = target {
                server.proven = true;
                server.probes.clear();
                tracing::info!(server = id, address = %server.address, prober, "the address was proven");
            }
        }
    }
}

fn is_due(server: &Server, now: Instant) -> bool {
    server.probes.back().is_none_or(|probe| now >= probe.at + PROBE_INTERVAL)
}
