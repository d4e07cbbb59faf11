//! The Pods on our Nodes: facts about them, and the ends of their writes.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1 as core;
use tracing::{debug, warn};

use super::{
    act::Shown,
    world::{World, Writing, version},
};
use crate::{
    api::{Outcome, Seen, WriteError},
    domain::{BaseId, Phase, Pod, PodOutcome, PodUid},
    k8s::{Sources, pod_from, references},
};

/// A Pod on one of our Nodes.
#[derive(Debug)]
pub(super) struct PodRecord {
    pub(super) object: core::Pod,
    pub(super) pod: Pod,
    pub(super) base: BaseId,
    pub(super) first_seen: Instant,
    pub(super) commanded: bool,
    pub(super) shown: Shown,
    pub(super) status: Writing,
    /// What the status was last found to say already; none after any change of the Pod.
    pub(super) settled: Option<PodOutcome>,
    /// The status on its way.
    pub(super) writing: Option<Box<core::PodStatus>>,
    /// Older versions from the watch are echoes from before our own write.
    min_version: u64,
    pub(super) deletion: Writing,
}

impl PodRecord {
    /// Whether this is still to be written, and nothing is known to be in the way.
    pub(super) fn is_ahead_of_api(&self, outcome: &PodOutcome) -> bool {
        self.settled.as_ref() != Some(outcome) && !self.status.is_failing()
    }

    /// That it gave way is on its way to the API.
    pub(super) fn is_failing_now(&self) -> bool {
        self.writing.as_ref().is_some_and(|status| status.phase.as_deref() == Some(Phase::Failed.as_str()))
    }

    /// A Pod that is told to have failed is not the workload's any more, also if its revision becomes the current
    /// one again (an undo) before the API server has answered.
    pub(super) fn assume_written(&mut self) {
        if self.is_failing_now() {
            (self.pod.terminal, self.pod.superseded) = (true, true);
        }
    }

    /// Takes note of the Pod as it is now. Says whether that is another than was known.
    fn see(&mut self, pod: Pod) -> bool {
        let before = std::mem::replace(&mut self.pod, pod);
        self.assume_written();
        self.pod != before
    }

    /// Whether the API says that it is Ready, and nothing else is on its way there.
    pub(super) fn is_shown_ready(&self) -> bool {
        let conditions = self.object.status.iter().flat_map(|s| s.conditions.iter().flatten());
        let mut ready = conditions.filter(|c| c.type_ == "Ready" && c.status == "True");
        self.writing.is_none() && self.pod.is_live() && ready.next().is_some()
    }
}

impl World {
    /// How long a fresh Pod's status may stay empty: quick installs are then written once, not twice.
    pub(super) const QUICK: Duration = Duration::from_secs(1);

    /// Pods of a workload may have become current, or old.
    pub(super) fn revisions_changed(&mut self) {
        for record in self.pods.values_mut() {
            let workload = self.revisions.workload(&record.object.metadata);
            if record.pod.workload != workload {
                record.pod.workload = workload;
                self.dirty.insert(record.base.clone());
            }
        }
    }

    pub(super) fn pod_seen(&mut self, seen: Seen<core::Pod>, now: Instant) {
        match seen {
            Seen::Applied(object) => {
                if let (Some(listing), Some(uid)) = (&mut self.listing_pods, &object.metadata.uid) {
                    listing.insert(Arc::from(uid.as_str()));
                }
                self.pod_applied(object, now);
            }
            Seen::Gone(object) => {
                if let Some(uid) = &object.metadata.uid {
                    self.forget_pod(&Arc::from(uid.as_str()));
                }
            }
            Seen::ListBegins => self.listing_pods = Some(HashSet::new()),
            Seen::ListEnds => {
                if let Some(listed) = self.listing_pods.take() {
                    let gone: Vec<_> = self.pods.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
                    gone.iter().for_each(|uid| self.forget_pod(uid));
                }
                self.pods_synced = true;
            }
        }
    }

    fn pod_applied(&mut self, object: core::Pod, now: Instant) {
        let Some(base) =
            object.spec.as_ref().and_then(|s| s.node_name.as_deref()).and_then(|node| self.topics.base_of(node))
        else {
            return; // an ordinary Node's Pod, or another environment's
        };
        let pod = self.view(&object, &base);
        let uid = pod.uid.clone();
        match self.pods.get_mut(&uid) {
            Some(record) => {
                if version(&object.metadata) < record.min_version {
                    return;
                }
                // Most changes are the echo of our own write: nothing to decide on.
                let echo = !record.see(pod) && record.object.status == object.status;
                record.object = object;
                if echo {
                    return;
                }
                record.settled = None;
            }
            None => {
                self.references.wanted(references(&object).into_iter(), now);
                let record = PodRecord {
                    shown: Shown::from_status(&object),
                    object,
                    pod,
                    base: base.clone(),
                    first_seen: now,
                    commanded: false,
                    status: Writing::default(),
                    settled: None,
                    writing: None,
                    min_version: 0,
                    deletion: Writing::default(),
                };
                self.pods.insert(uid.clone(), Box::new(record));
            }
        }
        if let Some(Pod { name, workload, deleting, terminal, .. }) = self.pods.get(&uid).map(|record| &record.pod) {
            let deleting = deleting.is_some();
            debug!(%base, pod = name, revision = workload.revision, deleting, terminal, "Pod seen");
        }
        if let Some(record) = self.bases.get_mut(&base) {
            record.pods.insert(uid);
        }
        self.dirty.insert(base);
    }

    /// The Pod as the core sees it, with what is known now.
    fn view(&self, object: &core::Pod, base: &BaseId) -> Pod {
        let ip = self.bases.get(base).and_then(|b| b.base.info.as_ref()).and_then(|i| i.ip.as_deref());
        pod_from(object, &self.revisions, &Sources { referred: &self.references.known, ip })
    }

    /// Something that a Pod's view depends on has changed.
    pub(super) fn view_again(&mut self, uid: &PodUid) {
        let Some(record) = self.pods.get(uid) else { return };
        let pod = self.view(&record.object, &record.base);
        if let Some(record) = self.pods.get_mut(uid)
            && record.see(pod)
        {
            record.settled = None;
            self.dirty.insert(record.base.clone());
        }
    }

    /// The base's address is known now, or is another one: environments may name it.
    pub(super) fn view_pods_of(&mut self, id: &BaseId) {
        let uids: Vec<_> = self.bases.get(id).into_iter().flat_map(|b| b.pods.iter().cloned()).collect();
        uids.iter().for_each(|uid| self.view_again(uid));
    }

    /// Whether the API says that a Pod of the same workload is Ready on another base.
    pub(super) fn is_ready_elsewhere(&self, uid: &PodUid) -> bool {
        // A bare Pod is a workload of its own.
        let Some(old) = self.pods.get(uid).filter(|p| *p.pod.workload.uid != **uid) else { return false };
        let same = |p: &PodRecord| p.pod.workload.uid == old.pod.workload.uid && p.base != old.base;
        self.pods.values().any(|p| same(p) && p.is_shown_ready())
    }

    pub(super) fn forget_pod(&mut self, uid: &PodUid) {
        if let Some(record) = self.pods.remove(uid) {
            if let Some(base) = self.bases.get_mut(&record.base) {
                base.pods.remove(uid);
            }
            self.dirty.insert(record.base);
        }
    }

    /// A status was written, or not.
    pub(super) fn status_written(&mut self, uid: &PodUid, result: Result<Outcome, WriteError>, now: Instant) {
        let Some(record) = self.pods.get_mut(uid) else { return };
        let status = record.writing.take();
        record.status.ended(result.is_ok(), now);
        self.dirty.insert(record.base.clone());
        match result {
            Ok(outcome) => {
                record.min_version = outcome.resource_version;
                record.object.status = status.map(|status| *status);
                record.settled = None;
                let base = record.base.clone();
                self.view_again(uid);
                if let Some(listed) = self.bases.get(&base).and_then(|b| b.listed_at) {
                    self.metrics.observe_reply_to_status(now.saturating_duration_since(listed));
                }
            }
            Err(error) => {
                // If gone, another Pod has the name now: the watch will say so.
                if !error.is_gone() && !error.is_conflict() {
                    warn!(pod = record.pod.name, %error, "cannot write a Pod's status, trying again");
                }
                self.view_again(uid);
            }
        }
    }

    /// A Pod was deleted, or not.
    pub(super) fn pod_deleted(&mut self, uid: &PodUid, result: Result<Outcome, WriteError>, now: Instant) {
        let Some(record) = self.pods.get_mut(uid) else { return };
        record.deletion.ended(result.is_ok(), now);
        self.dirty.insert(record.base.clone());
        match result {
            Err(error) if !error.is_gone() && !error.is_conflict() => {
                warn!(pod = record.pod.name, %error, "cannot delete a Pod, trying again");
            }
            _ => self.forget_pod(uid),
        }
    }
}
