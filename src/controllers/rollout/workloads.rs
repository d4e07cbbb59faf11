//! What the objects of workloads say: whether they can be released in batches, and how many Pods they have.

use std::time::Instant;

use k8s_openapi::{
    Metadata,
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
    pub fn deployment_seen(&mut self, seen: &Seen<Deployment>, now: Instant, schedule: &mut Schedule) {
        let facts = |name: &WorkloadName, object: &Deployment| {
            let spec = object.spec.as_ref().filter(|spec| is_module(&spec.template))?;
            Some(WorkloadFacts {
                uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
                replicas: Some(spec.replicas.map_or(1, |replicas| usize::try_from(replicas).unwrap_or(0))),
                min_ready_seconds: seconds(spec.min_ready_seconds),
                suits: deployment_suits(&name.namespace, &name.name, spec),
            })
        };
        self.workload_seen(Kind::Deployment, seen, facts, now, schedule);
    }

    /// A fact from the watch of `DaemonSet`s.
    pub fn daemon_set_seen(&mut self, seen: &Seen<DaemonSet>, now: Instant, schedule: &mut Schedule) {
        let facts = |name: &WorkloadName, object: &DaemonSet| {
            let spec = object.spec.as_ref().filter(|spec| is_module(&spec.template))?;
            Some(WorkloadFacts {
                uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
                replicas: None,
                min_ready_seconds: seconds(spec.min_ready_seconds),
                suits: daemon_set_suits(&name.namespace, &name.name, spec),
            })
        };
        self.workload_seen(Kind::DaemonSet, seen, facts, now, schedule);
    }

    fn workload_seen<K: Metadata<Ty = ObjectMeta>>(
        &mut self,
        kind: Kind,
        seen: &Seen<K>,
        facts: impl Fn(&WorkloadName, &K) -> Option<WorkloadFacts>,
        now: Instant,
        schedule: &mut Schedule,
    ) {
        let known = || self.workloads.keys().filter(|name| name.kind == kind).cloned();
        let name_of = |object: &K| Some(named(kind, object.metadata()));
        let listing = self.listing_workloads.entry(kind).or_default();
        for gone in listing.gone(seen, name_of, known) {
            self.workload_gone(&gone, now, schedule);
        }
        let Seen::Applied(object) = seen else { return };
        let name = named(kind, object.metadata());
        match facts(&name, object).filter(|_| object.metadata().deletion_timestamp.is_none()) {
            Some(facts) => self.workload(name, facts, now, schedule),
            None => self.workload_gone(&name, now, schedule),
        }
    }

    fn workload(&mut self, name: WorkloadName, facts: WorkloadFacts, now: Instant, schedule: &mut Schedule) {
        if self.workloads.get(&name) != Some(&facts) {
            let is_released = self.has(&name);
            self.workloads.insert(name, facts);
            if is_released {
                self.touched(now, schedule);
            }
        }
    }

    fn workload_gone(&mut self, name: &WorkloadName, now: Instant, schedule: &mut Schedule) {
        if self.workloads.remove(name).is_some() && self.has(name) {
            self.touched(now, schedule);
        }
    }
}

fn named(kind: Kind, meta: &ObjectMeta) -> WorkloadName {
    let text = |field: &Option<String>| field.as_deref().unwrap_or_default().into();
    WorkloadName { namespace: text(&meta.namespace), kind, name: text(&meta.name) }
}

fn seconds(min_ready: Option<i32>) -> u64 {
    min_ready.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0)
}
