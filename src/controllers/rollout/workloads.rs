//! What the objects of workloads say: whether they can be released in batches, and how many Pods they have.

use std::time::Instant;

use k8s_openapi::{
    api::apps::v1::{DaemonSet, Deployment},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    facts::{Kind, WorkloadFacts, WorkloadName},
    rollouts::Rollouts,
    suitable::{daemon_set_suits, deployment_suits},
};
use crate::{api::Seen, k8s::is_module, planning::Schedule};

impl Rollouts {
    /// A fact from the watch of Deployments.
    pub fn deployment_seen(&mut self, seen: Seen<Deployment>, now: Instant, schedule: &mut Schedule) {
        let name_of = |object: &Deployment| named(Kind::Deployment, &object.metadata);
        let known = || self.workloads.keys().filter(|name| name.kind == Kind::Deployment).cloned();
        for gone in self.listing_deployments.gone(&seen, name_of, known) {
            self.workload_gone(&gone, now, schedule);
        }
        let Seen::Applied(object) = seen else { return };
        let Some(name) = name_of(&object) else { return };
        let ends = object.metadata.deletion_timestamp.is_some();
        let Some(spec) = object.spec.filter(|spec| is_module(&spec.template) && !ends) else {
            return self.workload_gone(&name, now, schedule);
        };
        let facts = WorkloadFacts {
            uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
            replicas: Some(spec.replicas.map_or(1, |replicas| usize::try_from(replicas).unwrap_or(0))),
            min_ready_seconds: seconds(spec.min_ready_seconds),
            suits: deployment_suits(&name.namespace, &name.name, &spec),
        };
        self.workload(name, facts, now, schedule);
    }

    /// A fact from the watch of `DaemonSet`s.
    pub fn daemon_set_seen(&mut self, seen: &Seen<DaemonSet>, now: Instant, schedule: &mut Schedule) {
        let name_of = |object: &DaemonSet| named(Kind::DaemonSet, &object.metadata);
        let known = || self.workloads.keys().filter(|name| name.kind == Kind::DaemonSet).cloned();
        for gone in self.listing_daemon_sets.gone(seen, name_of, known) {
            self.workload_gone(&gone, now, schedule);
        }
        let Seen::Applied(object) = seen else { return };
        let Some(name) = name_of(object) else { return };
        let ends = object.metadata.deletion_timestamp.is_some();
        let Some(spec) = object.spec.as_ref().filter(|spec| is_module(&spec.template) && !ends) else {
            return self.workload_gone(&name, now, schedule);
        };
        let facts = WorkloadFacts {
            uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
            replicas: None,
            min_ready_seconds: seconds(spec.min_ready_seconds),
            suits: daemon_set_suits(&name.namespace, &name.name, spec),
        };
        self.workload(name, facts, now, schedule);
    }

    fn workload(&mut self, name: WorkloadName, facts: WorkloadFacts, now: Instant, schedule: &mut Schedule) {
        if self.workloads.get(&name) != Some(&facts) {
            let is_released = self.has(&name);
            self.workloads.insert(name, facts);
            if is_released {
                self.release();
                self.touched(now, schedule);
            }
        }
    }

    fn workload_gone(&mut self, name: &WorkloadName, now: Instant, schedule: &mut Schedule) {
        if self.workloads.remove(name).is_some() && self.has(name) {
            self.release();
            self.touched(now, schedule);
        }
    }
}

fn named(kind: Kind, meta: &ObjectMeta) -> Option<WorkloadName> {
    let namespace = meta.namespace.as_deref().unwrap_or_default().into();
    Some(WorkloadName { namespace, kind, name: meta.name.as_deref()?.into() })
}

fn seconds(min_ready: Option<i32>) -> u64 {
    min_ready.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0)
}
