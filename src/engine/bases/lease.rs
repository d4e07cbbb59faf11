//! The Lease of a Node: the heartbeat that Kubernetes watches.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde_json::json;

use super::jitter;
use crate::{
    api::{Key, Request},
    domain::{BaseId, Later},
    engine::state::State,
    planning::{Effect, Lane},
};

/// A kubelet's Lease: 40 s, renewed every 10 s (Kubernetes convention).
const LEASE_SECONDS: u32 = 40;
const RENEW_EVERY: Duration = Duration::from_secs(10);
/// Beyond a thousand bases renewals are spread, up to half of what Kubernetes waits before it calls a Node
/// unreachable (`--node-monitor-grace-period`, 40 s): one renewal that is lost does no harm then either.
const RENEW_AT_LEAST_EVERY: Duration = Duration::from_secs(20);
const EACH_TAKES: Duration = Duration::from_millis(10);
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// A hundred renewals a second are enough for up to two thousand bases.
fn renew_every(bases: usize) -> Duration {
    let all = EACH_TAKES.saturating_mul(u32::try_from(bases).unwrap_or(u32::MAX));
    all.clamp(RENEW_EVERY, RENEW_AT_LEAST_EVERY)
}

impl State {
    /// Renews the Lease of a Node that is there; the first renewal creates it.
    pub(super) fn plan_lease(&mut self, id: &BaseId, now: Instant, out: &mut Vec<Effect>) {
        let renew_every = renew_every(self.bases.len());
        let Some(state) = self.bases.get_mut(id) else { return };
        if !state.node.object.exists() {
            return;
        }
        let Some(at) = state.lease.next_write(now) else { return };
        let due = state.lease_due.unwrap_or(now).max(at);
        if due > now {
            self.schedule.wake_base(id, due);
            return;
        }
        let spec = json!({
            "holderIdentity": self.config.client_id,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string(),
        });
        let name = &state.node.name;
        let request = if state.lease.exists() {
            Request::merge_patch(format!("{LEASES}/{name}"), &json!({ "spec": spec }))
        } else {
            let uid = state.node.shown().and_then(|node| node.metadata.uid);
            let owner = json!({ "apiVersion": "v1", "kind": "Node", "name": name, "uid": uid });
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": { "name": name, "ownerReferences": [owner] },
                "spec": spec,
            });
            Request::create(LEASES.to_owned(), &lease)
        };
        out.push(Effect::Write(Lane::Background, Key::Lease(id.clone()), request));
        state.lease.write((), now);
        let next = now.later(renew_every.saturating_add(jitter(id)));
        state.lease_due = Some(self.schedule.wake_base_about(id, next, now));
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
