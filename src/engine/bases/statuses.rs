//! Statuses and deletions of the Pods of a base.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::{
    api::{Key, Request},
    domain::{BaseId, ContainerOutcome, Later, Phase, PodOutcome, PodUid, Reason},
    engine::{known::PodState, state::State},
    k8s::{StatusWriter, status_patch},
    planning::{Effect, Lane},
};

/// How long a fresh Pod's status may stay empty: quick installs are then written once, not twice.
const QUICK: Duration = Duration::from_secs(1);
/// How long the API server may take to remove a Pod that it has marked; then it is asked once more.
const REMOVED_WITHIN: Duration = Duration::from_secs(5);

impl State {
    /// First that the old Pod has failed, then that the new one is Ready: with both, its Deployment would count one
    /// base as two, and take away a Pod too many. But the other way round where nothing else of it is Ready: then its
    /// Service would have no endpoint in between, although the base serves.
    pub(super) fn plan_statuses(&mut self, id: &BaseId, all: &[PodOutcome], now: Instant, out: &mut Vec<Effect>) {
        let (failed, others): (Vec<_>, Vec<_>) = all.iter().partition(|o| o.phase == Phase::Failed);
        let (ready, others): (Vec<_>, Vec<_>) = others.into_iter().partition(|o| o.ready());
        let last = !ready.is_empty() && failed.iter().any(|o| !self.is_ready_elsewhere(&o.uid));
        let (first, then) = if last { (ready, failed) } else { (failed, ready) };
        for outcome in others.into_iter().chain(first.iter().copied()) {
            self.plan_status(id, outcome, now, out);
        }
        if self.pods_of(id).any(PodState::is_failing_now)
            || first.iter().any(|o| self.pods.get(&o.uid).is_some_and(|p| p.is_to_be_written(o)))
        {
            return;
        }
        for outcome in then {
            self.plan_status(id, outcome, now, out);
        }
    }

    pub(super) fn plan_status(&mut self, id: &BaseId, outcome: &PodOutcome, now: Instant, out: &mut Vec<Effect>) {
        if self.pods.get(&outcome.uid).is_none_or(|pod| pod.said.as_ref() == Some(outcome)) {
            return;
        }
        let shares = self.shares_a_module(id, &outcome.uid);
        let Some(pod) = self.pods.get_mut(&outcome.uid) else { return };
        if let Some(not_done) = pod.report(outcome, shares, out) {
            self.report_deployment(&outcome.uid, not_done, out);
        }
        let base = self.bases.get(id);
        if let (Some(pod), Some(base)) = (self.pods.get_mut(&outcome.uid), base) {
            pod.report_failures(&base.node.name, outcome, out);
        }
        let ip = base.and_then(|b| b.base.info.as_ref()).and_then(|i| i.ip.as_deref());
        let Some(pod) = self.pods.get_mut(&outcome.uid) else { return };
        let Some(at) = pod.object.next_write(now) else { return };
        if at > now {
            return self.schedule.wake_base(id, at);
        }
        let Some(object) = pod.shown() else { return };
        let fresh = object.status.as_ref().is_none_or(|s| s.container_statuses.is_none());
        let quick = pod.first_seen.later(QUICK);
        if fresh && is_under_way(outcome) && !outcome.ready() && now < quick {
            return self.schedule.wake_base(id, quick);
        }
        let status = StatusWriter { ip, now: whole_seconds(Timestamp::now()) }.status(&object, outcome);
        if object.status.as_ref() == Some(&status) {
            pod.said = Some(outcome.clone());
            return;
        }
        let Some((namespace, name)) = pod.pod.name.split_once('/') else { return };
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        let request = Request::strategic_patch(path, &status_patch(&outcome.uid, &status));
        out.push(Effect::Write(Lane::Status, Key::PodStatus(outcome.uid.clone()), request));
        pod.object.write(Box::new(status), now);
        pod.assume_written();
    }

    /// Plans that the Pod object goes.
    pub(in crate::engine) fn plan_deletion(&mut self, uid: &PodUid, now: Instant, out: &mut Vec<Effect>) {
        let Some(pod) = self.pods.get_mut(uid) else { return };
        if let Some(meta) = pod.shown().map(|object| object.metadata)
            && meta.deletion_grace_period_seconds == Some(0)
        {
            // The API server marks it, and then removes it; the watch is about to say so.
            if meta.finalizers.as_ref().is_some_and(|finalizers| !finalizers.is_empty()) {
                return; // when others are done with it
            }
            // Where it dies between the two, or etcd does not answer, nobody removes it but who asks once more.
            let until = pod.marked.get_or_insert(now).later(REMOVED_WITHIN);
            if until > now {
                return self.schedule.wake_base(&pod.base, until);
            }
        }
        let Some(at) = pod.deletion.next_write(now) else { return };
        if at > now {
            return self.schedule.wake_base(&pod.base, at);
        }
        let Some((namespace, name)) = pod.pod.name.split_once('/') else { return };
        let request = Request::delete(format!("/api/v1/namespaces/{namespace}/pods/{name}"), uid);
        out.push(Effect::Write(Lane::Status, Key::PodDelete(uid.clone()), request));
        pod.deletion.write((), now);
    }
}

/// Nothing is to be said yet but that it goes on.
fn is_under_way(outcome: &PodOutcome) -> bool {
    outcome.containers.iter().all(|c| {
        matches!(
            c,
            ContainerOutcome::Active { .. }
                | ContainerOutcome::Waiting {
                    reason: Reason::Installing | Reason::Switching | Reason::ConfigError,
                    ..
                }
        )
    })
}

/// Times in the API have no more: what comes back then equals what was written.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}
