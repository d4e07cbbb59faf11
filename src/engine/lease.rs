//! The Lease of a Node: the heartbeat that Kubernetes watches.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;
use tracing::warn;

use super::{
    node::spread,
    world::{BaseRecord, World, Writing},
};
use crate::{
    api::{Key, Outcome, Request, WriteError, Writer},
    domain::BaseId,
};

/// A kubelet's Lease: 40 s, renewed every 10 s (Kubernetes convention).
const LEASE_SECONDS: u32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Beyond a thousand bases renewals are spread, up to half of what Kubernetes waits before it calls a Node
/// unreachable (`--node-monitor-grace-period`, 40 s): one renewal that is lost does no harm then either.
const RENEW_AT_LEAST_EVERY: Duration = Duration::from_secs(20);
const SPREAD_BY: Duration = Duration::from_millis(10);

/// A hundred renewals a second are enough for up to two thousand bases.
fn renew_every(bases: usize) -> Duration {
    let spread = SPREAD_BY * u32::try_from(bases).unwrap_or(u32::MAX).min(10_000);
    spread.clamp(RENEW_EVERY, RENEW_AT_LEAST_EVERY)
}

/// What is known about a Node's Lease.
#[derive(Debug, Default)]
pub(super) struct LeaseRecord {
    writing: Writing,
    pub(super) exists: bool,
    renew_at: Option<Instant>,
}

impl BaseRecord {
    pub(super) fn lease_written(&mut self, result: Result<Outcome, WriteError>, now: Instant) {
        match result {
            Ok(_) => {
                self.node.lease.exists = true;
                self.node.lease.writing.ended(true, now);
            }
            Err(error) if error.is_gone() => {
                self.node.lease.exists = false;
                self.node.lease.writing.ended(true, now);
                self.node.lease.renew_at = Some(now);
            }
            Err(error) if error.is_conflict() => {
                self.node.lease.exists = true;
                self.node.lease.writing.ended(true, now);
                self.node.lease.renew_at = Some(now);
            }
            Err(error) => {
                warn!(node = self.node.name, %error, "cannot renew the Lease, trying again");
                self.node.lease.writing.ended(false, now);
                self.node.lease.renew_at = Some(now);
            }
        }
    }
}

impl World {
    /// Renews the Lease of a Node that is there; the first renewal creates it.
    pub(super) fn keep_lease(&mut self, id: &BaseId, writer: &Writer, now: Instant) -> Option<Instant> {
        let renew_every = renew_every(self.bases.len());
        let record = self.bases.get_mut(id)?;
        let node = record.node.object.as_ref()?;
        let renew_at = record.node.lease.renew_at.unwrap_or(now);
        if let Err(at) = record.node.lease.writing.may_start(now) {
            return at.or(Some(renew_at.max(now + renew_every / 10)));
        }
        if renew_at > now {
            return Some(renew_at);
        }
        let collection = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let spec = json!({
            "holderIdentity": self.config.client_id,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        });
        let request = if record.node.lease.exists {
            Request::merge_patch(format!("{collection}/{}", record.node.name), &json!({ "spec": spec }))
        } else {
            let owner = json!({
                "apiVersion": "v1", "kind": "Node", "name": record.node.name, "uid": node.metadata.uid,
            });
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": { "name": record.node.name, "ownerReferences": [owner] },
                "spec": spec,
            });
            Request::create(collection.to_owned(), &lease)
        };
        if writer.submit(Key::Lease(id.clone()), request) {
            record.node.lease.writing.in_flight = true;
            record.node.lease.renew_at = Some(now + renew_every + spread(id));
        } else {
            self.metrics.overflow(writer.name());
            record.node.lease.renew_at = Some(now + Duration::from_millis(100));
        }
        record.node.lease.renew_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renewals_are_a_kubelets_and_spread_only_where_there_are_very_many() {
        let seconds = [1, 1_000, 1_500, 2_000, 5_000, 20_000].map(|bases| renew_every(bases).as_secs());
        assert_eq!(seconds, [10, 10, 15, 20, 20, 20]);
    }
}
