//! The Pods on our Nodes: facts about them, and the ends of their writes.

use std::{sync::Arc, time::Instant};

use k8s_openapi::api::core::v1 as core;
use tracing::{debug, warn};

use crate::{
    api::{Outcome, Seen, WriteError},
    domain::{BaseId, Pod, PodUid},
    engine::{
        figures::waits_for,
        known::{Failures, PodState, Reported, Template},
        state::State,
    },
    k8s::{Owner, Sources, names, pod_from, references, spreads_over_zones},
    planning::{Packed, Task, Tracked, version},
};

impl State {
    /// Pods of workloads may have become current, or old: looked at once, however many revisions came.
    pub(in crate::engine) fn see_revisions(&mut self, now: Instant) {
        if !std::mem::take(&mut self.revisions_changed) {
            return;
        }
        // Whether a workload goes back to the revision before is known before its Pods are looked at.
        self.schedule.wake(&Task::Rollouts, now);
        for (uid, state) in &mut self.pods {
            let workload = self.revisions.workload(&state.owner);
            if state.pod.workload != workload {
                self.index.moves(uid, &state.pod.workload.uid, &workload.uid);
                state.pod.workload = workload;
                self.dirty.insert(state.base.clone());
            }
        }
    }

    pub(super) fn pod_seen(&mut self, seen: Seen<core::Pod>, now: Instant) {
        let uid_of = |object: &core::Pod| object.metadata.uid.as_deref().map(Arc::from);
        let known = || self.pods.keys().cloned().chain(self.base_pods.uids());
        for uid in self.listing_pods.gone(&seen, uid_of, known) {
            self.forget_pod(&uid);
        }
        if let Seen::Applied(object) = seen {
            self.pod_applied(object, now);
        }
    }

    fn pod_applied(&mut self, object: core::Pod, now: Instant) {
        let Some(base) =
            object.spec.as_ref().and_then(|s| s.node_name.as_deref()).and_then(|node| self.topics.base_of(node))
        else {
            // An ordinary Node's Pod: it may be a base itself. Or one of another environment's base.
            return self.base_pods.seen(&object, now, &mut self.schedule);
        };
        let template = Box::new(Template::of(&object.metadata));
        let pod = self.view(&object, &template, &base);
        let uid = pod.uid.clone();
        let version = version(&object.metadata);
        let owner = Owner::of(&object.metadata);
        let cost = object.metadata.annotations.as_ref().and_then(|all| all.get(names::DELETION_COST));
        let deletion_cost = cost.map(|cost| cost.as_str().into());
        match self.pods.get_mut(&uid) {
            Some(state) => {
                if state.object.is_outdated(version) {
                    return;
                }
                self.index.moves(&uid, &state.pod.workload.uid, &pod.workload.uid);
                // Most changes are the echo of our own write: nothing to decide on.
                let echo = !state.see(pod) && state.shown().is_some_and(|known| known.status == object.status);
                (state.owner, state.deletion_cost, state.template) = (owner, deletion_cost, template);
                state.waits_for = waits_for(&object);
                state.object.observed(Packed::new(&object), version);
                if echo {
                    return;
                }
                state.said = None;
            }
            None => {
                // What its status shows was told by an earlier process.
                let told = object.status.as_ref().is_some_and(|status| status.container_statuses.is_some());
                self.references.wanted(&uid, references(&object), told, now, &mut self.schedule);
                self.index.comes(&uid, &base, &pod.workload.uid);
                let state = PodState {
                    reported: Reported::from_status(&object, &pod.not_done),
                    failures: Failures::of_earlier(&object),
                    spreads_over_zones: !told && spreads_over_zones(&object),
                    told_shared: told,
                    object: Tracked::of(Packed::new(&object)),
                    owner,
                    deletion_cost,
                    template,
                    deletion: Tracked::default(),
                    marked: None,
                    pod,
                    base: base.clone(),
                    first_seen: now,
                    waits_since: Some(now),
                    waits_for: waits_for(&object),
                    commanded: false,
                    said: None,
                };
                self.pods.insert(uid.clone(), Box::new(state));
            }
        }
        if let Some(Pod { name, workload, deleting, terminal, trace, .. }) = self.pods.get(&uid).map(|state| &state.pod)
        {
            let deleting = deleting.is_some();
            let (revision, trace) = (workload.revision, trace.as_deref());
            debug!(%base, pod = name, trace, revision, deleting, terminal, "Pod seen");
        }
        self.dirty.insert(base);
    }

    /// The Pod as the core sees it, with what is known now.
    fn view(&self, object: &core::Pod, template: &Template, base: &BaseId) -> Pod {
        let mut pod = pod_from(object, &self.revisions, &self.sources(base));
        (pod.held_back, pod.lingers) = template.gates(&self.rollouts, base);
        pod
    }

    /// What its modules are made from beyond the Pod.
    pub(in crate::engine) fn sources(&self, base: &BaseId) -> Sources<'_> {
        let ip = self.bases.get(base).and_then(|b| b.base.info.as_ref()).and_then(|i| i.ip.as_deref());
        let (urls, probes) = (&self.config.module_urls, &self.config.probes);
        Sources { referred: &self.references.known, ip, urls, probes }
    }

    /// Something that a Pod's view depends on has changed.
    pub(super) fn view_again(&mut self, uid: &PodUid) {
        let Some(state) = self.pods.get(uid) else { return };
        let Some(object) = state.shown() else { return };
        let pod = self.view(&object, &state.template, &state.base);
        self.index.moves(uid, &state.pod.workload.uid, &pod.workload.uid);
        if let Some(state) = self.pods.get_mut(uid)
            && state.see(pod)
        {
            state.said = None;
            self.dirty.insert(state.base.clone());
        }
    }

    /// The base's address is known now, or is another one: environments may name it.
    pub(super) fn view_pods_of(&mut self, id: &BaseId) {
        let uids: Vec<_> = self.index.of_base(id).cloned().collect();
        uids.iter().for_each(|uid| self.view_again(uid));
    }

    /// Whether the API says that a Pod of the same workload is Ready on another base.
    pub(in crate::engine) fn is_ready_elsewhere(&self, uid: &PodUid) -> bool {
        // A bare Pod is a workload of its own.
        let Some(old) = self.pods.get(uid).filter(|p| *p.pod.workload.uid != **uid) else { return false };
        let same = self.index.of_workload(&old.pod.workload.uid).filter_map(|uid| self.pods.get(uid));
        same.into_iter().any(|p| p.base != old.base && p.is_observed_ready())
    }

    /// The Pods of a base.
    pub(in crate::engine) fn pods_of<'a>(&'a self, id: &BaseId) -> impl Iterator<Item = &'a PodState> {
        self.index.of_base(id).filter_map(|uid| self.pods.get(uid).map(Box::as_ref))
    }

    fn forget_pod(&mut self, uid: &PodUid) {
        self.base_pods.gone(uid);
        if let Some(state) = self.pods.remove(uid) {
            self.references.user_gone(uid);
            self.index.goes(uid, &state.base, &state.pod.workload.uid);
            self.dirty.insert(state.base);
        }
    }

    /// A status was written, or not.
    pub(super) fn status_written(&mut self, uid: &PodUid, result: Result<Outcome, WriteError>, now: Instant) {
        let Some(state) = self.pods.get_mut(uid) else { return };
        let base = state.base.clone();
        match result {
            Ok(outcome) => {
                let status = state.object.succeeded(outcome.resource_version);
                if let (Some(mut object), Some(status)) = (state.shown(), status) {
                    object.status = Some(*status);
                    state.object.object_mut().into_iter().for_each(|known| *known = Packed::new(&object));
                }
                state.said = None;
                if let Some(listed) = self.bases.get(&base).and_then(|b| b.listed_at) {
                    self.metrics.observe_reply_to_status(now.saturating_duration_since(listed));
                }
            }
            Err(error) => {
                state.object.failed(now);
                // If gone, another Pod has the name now: the watch will say so.
                let is_news = !error.is_gone() && !error.is_conflict() && error.is_about_it();
                if is_news && state.object.reports_failure() {
                    warn!(pod = state.pod.name, trace = state.pod.trace.as_deref(), %error, "cannot write a Pod's status, trying again");
                }
            }
        }
        self.view_again(uid);
        self.dirty.insert(base);
    }

    /// A Pod was deleted, or not.
    pub(super) fn pod_deleted(&mut self, uid: &PodUid, result: Result<Outcome, WriteError>, now: Instant) {
        let Some(state) = self.pods.get_mut(uid) else { return };
        self.dirty.insert(state.base.clone());
        match result {
            Err(error) if !error.is_gone() && !error.is_conflict() => {
                state.deletion.failed(now);
                if error.is_about_it() && state.deletion.reports_failure() {
                    warn!(pod = state.pod.name, trace = state.pod.trace.as_deref(), %error, "cannot delete a Pod, trying again");
                }
            }
            _ => self.forget_pod(uid),
        }
    }
}
