//! All `ModuleRollout`s.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    facts::{Kind, RolloutFacts, Suits, WorkloadFacts, WorkloadName},
    one::Rollout,
    turn::Memory,
};
use crate::{
    api::Seen,
    domain::{BaseId, Later, PodUid, Release},
    k8s::rollout::{ModuleRollout, Phase},
    planning::{Effect, Listing, Schedule, Task, Tracked, version},
};

/// Facts that come at once are looked at once.
const COLLECTS: Duration = Duration::from_millis(100);
/// A look at a release goes through all its bases: with many of them they are looked at less often, with each so much.
const COLLECTS_PER_BASE: Duration = Duration::from_micros(250);
/// At the least as often; and as seldom where nothing is under way, while bases tell what they always tell.
const COLLECTS_AT_MOST: Duration = Duration::from_secs(1);

/// All of them.
#[derive(Default)]
pub struct Rollouts {
    pub(super) by_uid: BTreeMap<String, Rollout>,
    /// Uid and name of the one that counts for a workload: the eldest.
    pub(super) by_workload: HashMap<WorkloadName, (String, String)>,
    pub(super) workloads: HashMap<WorkloadName, WorkloadFacts>,
    pub(super) listing: Listing<String>,
    pub(super) listing_workloads: BTreeMap<Kind, Listing<WorkloadName>>,
    pub(super) releases: HashMap<WorkloadName, Option<Release>>,
    pub(super) changed: bool,
    /// How long facts about bases are collected.
    pub(super) collects: Duration,
    /// Events that the next plan takes along.
    pub(super) told: Vec<Effect>,
}

impl Rollouts {
    /// Something that releases depend on has changed.
    pub(super) fn touched(&mut self, now: Instant, schedule: &mut Schedule) {
        self.release();
        if !self.by_uid.is_empty() {
            schedule.wake(&Task::Rollouts, now.later(COLLECTS));
        }
    }

    /// Something about bases or their Pods has changed.
    pub fn bases_touched(&mut self, now: Instant, schedule: &mut Schedule) {
        if !self.by_uid.is_empty() {
            schedule.wake(&Task::Rollouts, now.later(self.collects.max(COLLECTS)));
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
    pub fn lingers(&self, workload: Option<&WorkloadName>) -> bool {
        let release = workload.and_then(|workload| self.releases.get(workload)?.as_ref());
        release.is_some_and(Release::lingers)
    }

    /// Whether nothing of the workload is being released, or has to be.
    pub fn rests(&self, workload: &WorkloadName, required: bool) -> bool {
        match self.releases.get(workload) {
            Some(Some(release)) => release.stable.is_some() && release.current.is_none(),
            Some(None) | None => !required,
        }
    }

    /// How many there are in each phase.
    pub fn phases(&self) -> impl Iterator<Item = Phase> {
        let statuses = self.by_uid.values().filter_map(|r| r.object.object()?.status.as_ref());
        statuses.map(|status| status.phase.unwrap_or(Phase::Idle))
    }

    /// A fact from the watch of `ModuleRollout`s.
    pub fn seen(&mut self, seen: Seen<ModuleRollout>, now: Instant, schedule: &mut Schedule) {
        for gone in self.listing.gone(&seen, |object| object.metadata.uid.clone(), || self.by_uid.keys().cloned()) {
            self.by_uid.remove(&gone);
        }
        if let Seen::Applied(object) = seen {
            self.applied(object);
        }
        self.elect();
        self.release();
        schedule.wake(&Task::Rollouts, now.later(COLLECTS));
    }

    fn applied(&mut self, object: ModuleRollout) {
        let uid = object.metadata.uid.clone().unwrap_or_default();
        let of = &object.spec.workload_ref;
        let kind = match of.kind.as_str() {
            "Deployment" => Kind::Deployment,
            "DaemonSet" => Kind::DaemonSet,
            _ => return,
        };
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
        let all = self.by_uid.values().filter_map(|r| Some((&r.workload, &r.object.object()?.metadata)));
        let mut all: Vec<_> = all.collect();
        all.sort_by_key(|(_, meta)| meta.creation_timestamp.as_ref().map(|at| at.0));
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let eldest_last = all.into_iter().rev();
        self.by_workload = eldest_last.map(|(of, meta)| (of.clone(), (text(&meta.uid), text(&meta.name)))).collect();
    }

    /// Decides on each of them. `facts_of` tells of a workload's bases, by its uid. Returns Pods of `DaemonSet`s that
    /// make room.
    pub fn plan<'a>(
        &mut self,
        facts_of: &dyn Fn(&WorkloadName, Option<WorkloadFacts>) -> RolloutFacts<'a>,
        now: Instant,
        schedule: &mut Schedule,
        out: &mut Vec<Effect>,
    ) -> Vec<PodUid> {
        let mut makes_room = Vec::new();
        out.append(&mut self.told);
        let (mut bases, mut under_way) = (0_u32, false);
        for (uid, rollout) in &mut self.by_uid {
            let Some((elder, name)) = self.by_workload.get(&rollout.workload) else { continue };
            let wake = if elder == uid {
                let facts = facts_of(&rollout.workload, self.workloads.get(&rollout.workload).cloned());
                bases = bases.saturating_add(u32::try_from(facts.bases.len()).unwrap_or(u32::MAX));
                rollout.plan(&facts, now, &mut makes_room, out)
            } else {
                rollout.stands_back(name, now, out)
            };
            wake.into_iter().for_each(|at| schedule.wake(&Task::Rollouts, at));
            under_way |= rollout.is_under_way();
        }
        let each = COLLECTS.saturating_add(COLLECTS_PER_BASE.saturating_mul(bases)).min(COLLECTS_AT_MOST);
        self.collects = if under_way { each } else { COLLECTS_AT_MOST };
        self.release();
        makes_room
    }

    /// Who may come now, by what is written.
    fn release(&mut self) {
        let of = |(workload, (uid, _)): (&WorkloadName, &(String, String))| {
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
