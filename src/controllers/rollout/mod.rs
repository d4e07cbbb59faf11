//! Releases in batches: a workload's new Pods are all there, and each waits on its base until its turn has come.
//!
//! What a release has come to stands in the status of its `ModuleRollout`, and is written before the first command that
//! follows from it: whoever leads next goes on from there.

mod decide;
mod facts;
mod order;
mod requests;
mod suitable;
#[cfg(test)]
mod tests;
mod words;
mod writes;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment};

use decide::{ALL, Memory, decide, kind_of};
pub use facts::{BaseFacts, Kind, PodFacts, PodIs, RolloutFacts, WorkloadFacts, WorkloadName};
use requests::Request;
use suitable::{Suits, daemon_set_suits, deployment_suits};
use writes::Write;

use crate::{
    api::Seen,
    domain::{BaseId, Later, PodUid, Release},
    k8s::{
        is_module,
        rollout::{ModuleRollout, ModuleRolloutStatus, Phase},
    },
    planning::{Effect, Listing, Schedule, Task, Tracked, version},
};

/// Facts that come at once are looked at once.
const COLLECTS: Duration = Duration::from_millis(100);

/// One `ModuleRollout`.
struct Rollout {
    object: Tracked<ModuleRollout, Write>,
    workload: WorkloadName,
    /// The revision that its workload has now.
    current: Option<Arc<str>>,
    /// Bases of ours have had Pods of its workload.
    is_ours: bool,
    memory: Memory,
    /// What somebody asked for and was taken off the object, until it is in the status.
    request: Option<Request>,
    /// The template that the workload gets back is asked for, or on its way.
    back: Tracked<()>,
}

/// All of them.
#[derive(Default)]
pub struct Rollouts {
    by_uid: BTreeMap<String, Rollout>,
    /// The one that counts for a workload: the eldest.
    by_workload: HashMap<WorkloadName, String>,
    workloads: HashMap<WorkloadName, WorkloadFacts>,
    listing: Listing<String>,
    listing_deployments: Listing<WorkloadName>,
    listing_daemon_sets: Listing<WorkloadName>,
    releases: HashMap<WorkloadName, Option<Release>>,
    changed: bool,
    /// Events that the next plan takes along.
    told: Vec<Effect>,
}

/// What a plan for releases says beyond its effects.
#[derive(Debug, Default)]
pub struct Planned {
    /// Pods of a `DaemonSet` that make room.
    pub makes_room: Vec<PodUid>,
}

impl Rollouts {
    /// Something that releases depend on has changed.
    pub fn touched(&mut self, now: Instant, schedule: &mut Schedule) {
        if !self.by_uid.is_empty() {
            schedule.wake(&Task::Rollouts, now.later(COLLECTS));
        }
    }

    /// Whether Pods may come or have to wait by what has changed since this was asked last.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Whether a workload's new revisions are released in batches.
    pub fn has(&self, workload: &WorkloadName) -> bool {
        self.by_workload.contains_key(workload)
    }

    /// What a Pod waits for; none if it may come. `required`: it is not to come where nobody releases it.
    pub fn waits(
        &self,
        workload: Option<&WorkloadName>,
        revision: Option<&str>,
        base: &BaseId,
        required: bool,
    ) -> Option<Arc<str>> {
        match workload.and_then(|workload| self.releases.get(workload)) {
            Some(Some(release)) => release.waits(revision, base),
            _ if !required => None,
            Some(None) => Some("its workload cannot be released in batches: see its ModuleRollout".into()),
            None => Some("it is to be released in batches (annotation modulet.koupleless.io/rollout), and no ModuleRollout is there for its workload".into()),
        }
    }

    /// Whether what a deleted Pod runs stays for its successor.
    pub fn lingers(&self, workload: Option<&WorkloadName>, revision: Option<&str>) -> bool {
        let release = workload.and_then(|workload| self.releases.get(workload)?.as_ref());
        release.is_some_and(|release| release.lingers(revision))
    }

    /// How many there are in each phase.
    pub fn phases(&self) -> impl Iterator<Item = Phase> {
        let statuses = self.by_uid.values().filter_map(|r| r.object.object()?.status.as_ref());
        statuses.map(|status| status.phase.unwrap_or(Phase::Idle))
    }

    /// A fact from the watch of `ModuleRollout`s.
    pub fn seen(&mut self, seen: Seen<ModuleRollout>, now: Instant, schedule: &mut Schedule) {
        match seen {
            Seen::Applied(object) => {
                let uid = object.metadata.uid.clone().unwrap_or_default();
                self.listing.has(uid.clone());
                self.applied(uid, object);
            }
            Seen::Gone(object) => drop(self.by_uid.remove(&object.metadata.uid.unwrap_or_default())),
            Seen::ListBegins => self.listing.begins(),
            Seen::ListEnds => {
                for gone in self.listing.ends(self.by_uid.keys().cloned()) {
                    self.by_uid.remove(&gone);
                }
            }
        }
        self.elect();
        self.release();
        schedule.wake(&Task::Rollouts, now.later(COLLECTS));
    }

    fn applied(&mut self, uid: String, object: ModuleRollout) {
        let of = &object.spec.workload_ref;
        let Some(kind) = kind_of(&of.kind) else { return };
        let version = version(&object.metadata);
        if let Some(known) = self.by_uid.get_mut(&uid) {
            known.object.observed(object, version);
            return;
        }
        let namespace = object.metadata.namespace.as_deref().unwrap_or_default().into();
        let workload = WorkloadName { namespace, kind, name: of.name.as_str().into() };
        let mut tracked = Tracked::unpaced();
        tracked.observed(object, version);
        let (current, memory, request, back) = (None, Memory::default(), None, Tracked::default());
        self.by_uid.insert(uid, Rollout { object: tracked, workload, current, is_ours: false, memory, request, back });
    }

    /// Of two for one workload the elder one counts.
    fn elect(&mut self) {
        let mut all: Vec<_> = self.by_uid.iter().collect();
        all.sort_by_key(|(uid, rollout)| {
            let created = rollout.object.object().and_then(|o| o.metadata.creation_timestamp.clone());
            (std::cmp::Reverse(created.map(|at| at.0)), std::cmp::Reverse((*uid).clone()))
        });
        self.by_workload = all.into_iter().map(|(uid, rollout)| (rollout.workload.clone(), uid.clone())).collect();
    }

    /// A fact from the watch of Deployments.
    pub fn deployment_seen(&mut self, seen: Seen<Deployment>, now: Instant, schedule: &mut Schedule) {
        match seen {
            Seen::Applied(object) => {
                let Some(name) = named(Kind::Deployment, &object.metadata) else { return };
                let ends = object.metadata.deletion_timestamp.is_some();
                let Some(spec) = object.spec.filter(|spec| is_module(&spec.template) && !ends) else {
                    return self.workload_gone(Some(name), now, schedule);
                };
                let facts = WorkloadFacts {
                    uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
                    replicas: Some(spec.replicas.map_or(1, |replicas| usize::try_from(replicas).unwrap_or(0))),
                    min_ready_seconds: seconds(spec.min_ready_seconds),
                    suits: deployment_suits(&name.namespace, &name.name, &spec),
                };
                self.listing_deployments.has(name.clone());
                self.workload(name, facts, now, schedule);
            }
            Seen::Gone(object) => self.workload_gone(named(Kind::Deployment, &object.metadata), now, schedule),
            Seen::ListBegins => self.listing_deployments.begins(),
            Seen::ListEnds => {
                let known = self.workloads.keys().filter(|name| name.kind == Kind::Deployment).cloned();
                for gone in self.listing_deployments.ends(known) {
                    self.workload_gone(Some(gone), now, schedule);
                }
            }
        }
    }

    /// A fact from the watch of `DaemonSet`s.
    pub fn daemon_set_seen(&mut self, seen: &Seen<DaemonSet>, now: Instant, schedule: &mut Schedule) {
        match seen {
            Seen::Applied(object) => {
                let Some(name) = named(Kind::DaemonSet, &object.metadata) else { return };
                let ends = object.metadata.deletion_timestamp.is_some();
                let Some(spec) = object.spec.as_ref().filter(|spec| is_module(&spec.template) && !ends) else {
                    return self.workload_gone(Some(name), now, schedule);
                };
                let facts = WorkloadFacts {
                    uid: object.metadata.uid.as_deref().unwrap_or_default().into(),
                    replicas: None,
                    min_ready_seconds: seconds(spec.min_ready_seconds),
                    suits: daemon_set_suits(&name.namespace, &name.name, spec),
                };
                self.listing_daemon_sets.has(name.clone());
                self.workload(name, facts, now, schedule);
            }
            Seen::Gone(object) => self.workload_gone(named(Kind::DaemonSet, &object.metadata), now, schedule),
            Seen::ListBegins => self.listing_daemon_sets.begins(),
            Seen::ListEnds => {
                let known = self.workloads.keys().filter(|name| name.kind == Kind::DaemonSet).cloned();
                for gone in self.listing_daemon_sets.ends(known) {
                    self.workload_gone(Some(gone), now, schedule);
                }
            }
        }
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

    fn workload_gone(&mut self, name: Option<WorkloadName>, now: Instant, schedule: &mut Schedule) {
        if name.is_some_and(|name| self.workloads.remove(&name).is_some() && self.has(&name)) {
            self.release();
            self.touched(now, schedule);
        }
    }

    /// Decides on each of them. `facts_of` tells of a workload's bases, by its uid.
    pub fn plan<'a>(
        &mut self,
        facts_of: &dyn Fn(&WorkloadName, Option<WorkloadFacts>) -> RolloutFacts<'a>,
        now: Instant,
        schedule: &mut Schedule,
        out: &mut Vec<Effect>,
    ) -> Planned {
        let mut planned = Planned::default();
        out.append(&mut self.told);
        for (uid, rollout) in &mut self.by_uid {
            let counts = self.by_workload.get(&rollout.workload);
            let wake = if counts == Some(uid) {
                let facts = facts_of(&rollout.workload, self.workloads.get(&rollout.workload).cloned());
                rollout.plan(uid, &facts, now, &mut planned, out)
            } else {
                rollout.stands_back(uid, counts, now, out)
            };
            wake.into_iter().for_each(|at| schedule.wake(&Task::Rollouts, at));
        }
        self.release();
        planned
    }

    /// Who may come now, by what is written.
    fn release(&mut self) {
        let of = |(workload, uid): (&WorkloadName, &String)| {
            let rollout = self.by_uid.get(uid)?;
            let refused = self.workloads.get(workload).is_some_and(|facts| matches!(facts.suits, Suits::Refused(_)));
            Some((workload.clone(), rollout.release(self.workloads.contains_key(workload)).filter(|_| !refused)))
        };
        let releases = self.by_workload.iter().filter_map(of).collect();
        if self.releases != releases {
            self.releases = releases;
            self.changed = true;
        }
    }
}

impl Rollout {
    fn release(&self, is_there: bool) -> Option<Release> {
        let object = self.object.object()?;
        let empty = ModuleRolloutStatus::default();
        let status = object.status.as_ref().unwrap_or(&empty);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        let returns = self.current.is_some() && self.current.as_deref() == status.stable_revision.as_deref();
        let under_way = is_there && (!returns || !status.released.is_empty());
        let current = self.current.clone().filter(|_| under_way);
        let released = status.released.iter().map(|(revision, bases)| {
            let is_current = status.revision.as_ref() == Some(revision) && !returns;
            let named = || bases.iter().filter(|base| *base != ALL).map(|base| BaseId::new(base.as_str()));
            let all = bases.iter().any(|base| base == ALL);
            let open: BTreeSet<BaseId> = match (is_current, all) {
                (true, true) => self.memory.opened.clone(),
                (true, false) => named().filter(|base| self.memory.opened.contains(base)).collect(),
                (false, true) => self.memory.opened.clone(),
                (false, false) => named().collect(),
            };
            (Arc::from(revision.as_str()), open)
        });
        let waits_for = format!("waits for its batch: ModuleRollout {name} releases it base by base");
        let stable = status.stable_revision.as_deref().map(Arc::from);
        Some(Release { stable, released: released.collect(), current, waits_for: waits_for.into() })
    }
}

fn named(kind: Kind, meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta) -> Option<WorkloadName> {
    let namespace = meta.namespace.as_deref().unwrap_or_default().into();
    Some(WorkloadName { namespace, kind, name: meta.name.as_deref()?.into() })
}

fn seconds(min_ready: Option<i32>) -> u64 {
    min_ready.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(0)
}
