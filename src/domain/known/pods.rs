//! What the Pods of a base say, and what is remembered of them.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use super::{
    base::Base,
    ledger::Claim,
    memory::{ContainerMemory, Probed},
};
use crate::domain::{ModuleSpec, Pod, PodUid, pod::by_module_name, times::Later};

/// A module whose Pod was evicted while the base could not be reached waits this long for a successor.
const HANDED_OVER_FOR: Duration = Duration::from_secs(120);

impl Base {
    /// Takes note of what the Pods say, and forgets what was about others.
    pub(in crate::domain) fn observe_pods(&mut self, pods: &[&Pod], now: Instant) {
        let uids: HashSet<&PodUid> = pods.iter().map(|p| &p.uid).collect();
        self.pods.retain(|uid, _| uids.contains(uid));
        // What has its Pod goes with its Pod.
        self.expected.retain(|e| !pods.iter().any(|p| p.modules().any(|m| m.id == e.id)));
        self.installing_since.retain(|id, _| self.ledger.installed(id));
        self.handed_over.retain(|id, until| *until > now && self.ledger.installed(id));
        self.recorded.retain(|id| self.ledger.installed(id));
        self.failures.retain_for(pods, &self.ledger);
        for pod in pods {
            let memory = self.pods.entry(pod.uid.clone()).or_default();
            let first_seen = *memory.first_seen.get_or_insert(now);
            if pod.deleting.is_some() {
                memory.deletion_seen.get_or_insert(now);
            }
            // An active module that the Pod finds may be gone already: it is asked for once more.
            let finds = |m: &ModuleSpec| self.conversation.list().is_some_and(|list| list.contains_key(&m.id));
            if pod.is_live() && pod.modules().any(finds) {
                self.conversation.needs_newer_list(first_seen);
            }
            if pod.evicted && pod.deleting.is_some() {
                for module in pod.modules() {
                    self.handed_over.entry(module.id.clone()).or_insert(now.later(HANDED_OVER_FOR));
                }
            }
            if pod.superseded {
                memory.superseded_seen.get_or_insert(now);
            }
            for container in pod.containers() {
                let c = memory.containers.entry(container.name.clone()).or_insert_with(|| ContainerMemory {
                    probed: Probed::shown(&container.history),
                    ..ContainerMemory::default()
                });
                c.module = container.module().map(|m| m.id.clone());
                c.has_run |= container.history.has_run;
                c.failed |= container.history.failed;
                c.restarts = c.restarts.max(container.history.restarts);
            }
        }
        self.note_claims_without_pod(pods, now);
    }

    fn note_claims_without_pod(&mut self, pods: &[&Pod], now: Instant) {
        let by_name = by_module_name(pods);
        let mut without_pod = Vec::new();
        for name in self.ledger.names() {
            let pods = by_name.get(name).map_or(&[][..], Vec::as_slice);
            for claim in self.ledger.claims(name).iter().filter(|c| !has_a_pod(c, name, pods)) {
                without_pod.push((name.to_owned(), claim.clone(), self.without_pod_since(name, claim).unwrap_or(now)));
            }
        }
        self.claims_without_pod = without_pod;
    }

    /// Since when no Pod stands for the claim.
    pub(in crate::domain) fn without_pod_since(&self, name: &str, claim: &Claim) -> Option<Instant> {
        let known = self.claims_without_pod.iter().find(|(n, c, _)| n == name && c.is_same(claim));
        known.map(|(_, _, since)| *since)
    }

    /// Counts a start for every container that stands for the module, and shares its back-off among them.
    pub(super) fn starts(&mut self, spec: &ModuleSpec, pods: &[&Pod], now: Instant) {
        // What was lost on its way, or was part of a baseline that was, started nothing: it is one start with the repeat.
        // And to look whether the jar can be fetched again starts nothing.
        let repeat = self.installing_since.contains_key(&spec.id) || self.conversation.has_started(&spec.id);
        self.installing_since.entry(spec.id.clone()).or_insert(now);
        for pod in pods.iter().filter(|p| p.is_live()) {
            for container in pod.containers().iter().filter(|c| c.module() == Some(spec)) {
                let memory = self.pods.entry(pod.uid.clone()).or_default();
                let c = memory.containers.entry(container.name.clone()).or_default();
                c.restart = None;
                if (c.has_run || c.failed) && !repeat {
                    c.restarts = c.restarts.saturating_add(1);
                }
                self.failures.tried_for(spec, &pod.uid);
            }
        }
    }
}

/// Whether one of these Pods on the base stands for the claim.
pub(in crate::domain) fn has_a_pod(claim: &Claim, name: &str, pods: &[&Pod]) -> bool {
    let stands_for_it = |p: &&Pod| p.modules().any(|m| m.id.name == name && claim.is_of(&p.workload, &m.id.version));
    pods.iter().filter(|p| !p.terminal).any(stands_for_it)
}

/// Whether one of these Pods on the base is the claim's successor and awaits its batch.
pub(in crate::domain) fn is_awaited(claim: &Claim, name: &str, pods: &[&Pod]) -> bool {
    let is_its_successor = |pod: &&Pod| *pod.workload.uid == *claim.workload && is_in_release(pod, name);
    pods.iter().filter(|pod| pod.is_live() && pod.held_back.is_some()).any(is_its_successor)
}

/// Whether a Pod asks for the module in a release that is under way. One that gave way counts as long as it is shown: the
/// workload makes another in its place, which takes a moment to come to the base.
pub(in crate::domain) fn is_in_release(pod: &Pod, name: &str) -> bool {
    let asks = if pod.is_live() { pod.held_back.is_some() || pod.lingers } else { pod.superseded && pod.lingers };
    asks && pod.modules().any(|m| m.id.name == name)
}
