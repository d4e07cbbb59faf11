//! The Pods that bases themselves run in: whether all modules are there, for their readiness gate.
//!
//! A Pod is a base's where it has the name *and* the address that the base says. Who lies about one of them changes
//! nothing; a Pod that two answering bases claim is complete when both are.

mod condition;
mod facts;
#[cfg(test)]
mod tests;

pub use facts::{BasePodFacts, Claim, Modules};

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::api::core::v1 as core;
use tracing::{info, warn};

use crate::{
    api::{Key, Outcome, WriteError},
    domain::{BaseId, Later, PodUid},
    k8s::{component, names},
    planning::{Effect, Lane, Schedule, Task, Tracked, version},
};
use condition::Condition;

/// Between two looks at what has changed.
const COLLECTS: Duration = Duration::from_millis(500);
/// For so long nothing may have changed before a Pod becomes complete, or is no longer: controllers and the scheduler
/// have not yet heard of a new base, and a version that takes over has not yet been seen as Ready.
const SETTLES: Duration = Duration::from_secs(5);
/// Pods that are kept. A base has one.
const MOST: usize = 20_000;

/// One Pod with the gate.
#[derive(Debug)]
struct BasePod {
    /// What it says.
    condition: Tracked<Option<Condition>, Condition>,
    namespace: Arc<str>,
    /// Its name and address.
    at: At,
    /// Bases that said to be here.
    bases: BTreeSet<BaseId>,
    /// What was found last: whether something is missing, of how many, and since when that is so.
    found: Option<(bool, usize, Instant)>,
}

/// A name and an address.
type At = (Arc<str>, Arc<str>);

/// All of them.
#[derive(Debug, Default)]
pub struct BasePods {
    namespaces: HashSet<String>,
    by_uid: HashMap<PodUid, BasePod>,
    by_place: HashMap<At, PodUid>,
    /// Bases that something happened to since the last look.
    touched: HashSet<BaseId>,
    /// Pods that something happened to.
    dirty: HashSet<PodUid>,
    /// Of Pods that came since, all bases are looked at.
    came: bool,
    told_of_bound: bool,
}

impl BasePods {
    /// Of Pods in these namespaces; none: of none.
    pub fn of(namespaces: &[String]) -> Self {
        Self { namespaces: namespaces.iter().cloned().collect(), ..Self::default() }
    }

    /// A Pod on a Node that is none of ours.
    pub fn seen(&mut self, pod: &core::Pod, now: Instant, schedule: &mut Schedule) {
        let (Some(namespace), Some(name), Some(uid)) = (&pod.metadata.namespace, &pod.metadata.name, &pod.metadata.uid)
        else {
            return;
        };
        if !self.namespaces.contains(namespace) {
            return;
        }
        let uid: PodUid = Arc::from(uid.as_str());
        let Some(address) = address_of(pod) else { return self.gone(&uid) };
        let at: At = (Arc::from(name.as_str()), address);
        if self.by_uid.get(&uid).is_some_and(|known| known.at != at) {
            self.gone(&uid);
        }
        let condition = Condition::of(pod);
        let is_full = self.by_uid.len() >= MOST;
        match self.by_uid.get_mut(&uid) {
            Some(known) => drop(known.condition.observed(condition, version(&pod.metadata))),
            None if is_full => {
                if !std::mem::replace(&mut self.told_of_bound, true) {
                    warn!(most = MOST, "there are more Pods with the readiness gate than are kept");
                }
                return;
            }
            None => {
                let (condition, namespace) = (Tracked::of(condition), Arc::from(namespace.as_str()));
                let pod = BasePod { condition, namespace, at: at.clone(), bases: BTreeSet::new(), found: None };
                self.by_uid.insert(uid.clone(), pod);
                self.came = true;
            }
        }
        self.by_place.insert(at, uid.clone());
        self.dirty.insert(uid);
        schedule.wake(&Task::BasePods, now.later(COLLECTS));
    }

    /// A Pod is gone.
    pub fn gone(&mut self, uid: &PodUid) {
        if let Some(pod) = self.by_uid.remove(uid) {
            self.dirty.remove(uid);
            if self.by_place.get(&pod.at) == Some(uid) {
                self.by_place.remove(&pod.at);
            }
        }
    }

    /// Those that are known.
    pub fn uids(&self) -> impl Iterator<Item = PodUid> + '_ {
        self.by_uid.keys().cloned()
    }

    /// Something happened to these bases or their Pods.
    pub fn touched<'b>(&mut self, bases: impl Iterator<Item = &'b BaseId>, now: Instant, schedule: &mut Schedule) {
        if self.by_uid.is_empty() {
            return;
        }
        let before = self.touched.len();
        self.touched.extend(bases.cloned());
        if self.touched.len() > before {
            schedule.wake(&Task::BasePods, now.later(COLLECTS));
        }
    }

    /// Whether all bases are to be touched: a Pod came, and nobody knows yet whose it is.
    pub fn asks_for_all(&mut self) -> bool {
        std::mem::take(&mut self.came)
    }

    /// A write ended.
    pub fn written(
        &mut self,
        uid: &PodUid,
        result: Result<Outcome, WriteError>,
        now: Instant,
        schedule: &mut Schedule,
    ) {
        let Some(pod) = self.by_uid.get_mut(uid) else { return };
        match result {
            Ok(outcome) => {
                let condition = pod.condition.succeeded(outcome.resource_version);
                pod.condition.object_mut().into_iter().for_each(|known| known.clone_from(&condition));
            }
            // Another Pod has the name, or none: the watch will say so.
            Err(error) if error.is_gone() || error.is_conflict() => drop(pod.condition.failed(now)),
            Err(error) => {
                pod.condition.failed(now);
                if error.is_about_it() && pod.condition.reports_failure() {
                    warn!(pod = &*pod.at.0, %error, "cannot write to a base's own Pod whether its modules are there, trying again");
                }
            }
        }
        self.dirty.insert(uid.clone());
        schedule.wake(&Task::BasePods, now.later(COLLECTS));
    }

    /// Looks at the Pods of bases that something happened to.
    pub fn plan(&mut self, facts: &BasePodFacts<'_>, now: Instant, schedule: &mut Schedule, out: &mut Vec<Effect>) {
        for base in std::mem::take(&mut self.touched) {
            let Some(claim) = (facts.claim_of)(&base) else { continue };
            let Some(uid) = self.by_place.get(&(claim.host, claim.address)) else { continue };
            if let Some(pod) = self.by_uid.get_mut(uid) {
                pod.bases.insert(base);
                self.dirty.insert(uid.clone());
            }
        }
        for uid in std::mem::take(&mut self.dirty) {
            let again = self.by_uid.get_mut(&uid).and_then(|pod| pod.plan(&uid, facts, now, out));
            if let Some(at) = again {
                self.dirty.insert(uid);
                schedule.wake(&Task::BasePods, at);
            }
        }
    }
}

impl BasePod {
    /// Returns when to look again though nothing happens.
    fn plan(&mut self, uid: &PodUid, facts: &BasePodFacts<'_>, now: Instant, out: &mut Vec<Effect>) -> Option<Instant> {
        let mut answering = Vec::new();
        self.bases.retain(|base| {
            let claim = (facts.claim_of)(base).filter(|claim| claim.host == self.at.0 && claim.address == self.at.1);
            answering.extend(claim.as_ref().filter(|claim| claim.answers).map(|_| base.clone()));
            claim.is_some()
        });
        if answering.is_empty() {
            self.found = None; // nobody knows: what was said stands, as on a Node that is away
            return None;
        }
        let says = self.condition.object()?.as_ref();
        let is_true = says.is_some_and(|says| says.is_true);
        let modules = answering.iter().map(|base| (facts.modules_of)(base, !is_true));
        let modules = modules.reduce(Modules::and).unwrap_or_default();
        let wanted = Condition::for_modules(&modules);
        let since = match self.found {
            Some((was_true, total, since)) if was_true == wanted.is_true && total == modules.total => since,
            _ => now,
        };
        self.found = Some((wanted.is_true, modules.total, since));
        // What may come without anything happening: the end of the time for which more Pods are waited for.
        let looks = (!modules.to_come.is_empty()).then(|| now.later(SETTLES));
        if says == Some(&wanted) {
            return looks;
        }
        // Where it is not True already, that something is missing is told at once.
        let settled = if is_true == wanted.is_true { now } else { since.later(SETTLES) };
        let at = self.condition.next_write(now)?.max(settled);
        if at > now {
            return Some(looks.map_or(at, |looks| looks.min(at)));
        }
        let (namespace, name) = (&self.namespace, &self.at.0);
        let request = condition::patch(namespace, name, uid, &wanted, says, facts.wall);
        if is_true != wanted.is_true || says.is_none() {
            let (complete, why) = (wanted.is_true, &wanted.message);
            info!(pod = %name, %namespace, complete, why, "a base's own Pod");
        }
        out.push(Effect::Write(Lane::Status, Key::BasePod(uid.clone()), request));
        self.condition.write(wanted, now);
        looks
    }
}

/// The address of a Pod that asks for the condition and may be a base's.
fn address_of(pod: &core::Pod) -> Option<Arc<str>> {
    let gates = pod.spec.as_ref()?.readiness_gates.iter().flatten();
    let asks = gates.into_iter().any(|gate| gate.condition_type == names::MODULES_READY);
    let status = pod.status.as_ref()?;
    let has_ended = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
    let may_be = asks && !has_ended && component(pod) != Some("module") && pod.metadata.deletion_timestamp.is_none();
    may_be.then_some(status.pod_ip.as_deref()).flatten().map(Arc::from)
}
