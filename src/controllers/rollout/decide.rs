//! How a release goes on: from what its status says and what is seen of its bases comes what its status is to say.

use std::{sync::Arc, time::Instant};

use super::{
    facts::{BaseFacts, PodIs, RolloutFacts, Suits},
    order::{in_order, is_selected, size_of},
    requests::Request,
    turn::{Decision, Memory, Turn},
    words,
};
use crate::k8s::rollout::{BaseCounts, MAX_FAILURES, ModuleRollout, Phase};

/// Bases of the next batch that are named.
const MOST_NEXT: usize = 10;

/// Decides. Pure: the status is all that is remembered across a death.
pub(super) fn decide(
    object: &ModuleRollout,
    request: Option<&Request>,
    facts: &RolloutFacts<'_>,
    memory: &mut Memory,
    now: Instant,
) -> Decision {
    let mut status = object.status.clone().unwrap_or_default();
    status.observed_generation = object.metadata.generation;
    let Some(workload) = &facts.workload else {
        words::without_workload(&mut status, object);
        return Decision { status, ..Decision::default() };
    };
    let Some(current) = facts.revisions.last().cloned() else { return Decision { status, ..Decision::default() } };
    // What no replica set stands for any more is of a workload that was deleted and made anew.
    let is_known = |stable: &String| facts.revisions.iter().any(|revision| **revision == **stable);
    if !status.stable_revision.as_ref().is_some_and(is_known) {
        status.stable_revision = Some(stable_so_far(facts, &current).to_string());
    }
    let steps = object.spec.planned_steps();
    let selects = steps.iter().any(|step| step.selector.is_some());
    let why_not = match &workload.suits {
        Suits::Held(why) | Suits::Refused(why) => Some(why.clone()),
        Suits::ByCount(_) if selects => Some(
            "its maxSurge is below 100%, so the scheduler chooses its bases, and steps with a selector cannot be kept"
                .to_owned(),
        ),
        Suits::ByBase | Suits::ByCount(_) => None,
    };
    words::suits(&mut status, why_not.as_deref(), facts.wall);
    // What is held and will be no more comes in order all the same.
    let is_let_go = object.metadata.deletion_timestamp.is_some() && !matches!(workload.suits, Suits::Refused(_));
    let why_not = why_not.filter(|_| !is_let_go);
    let out = Decision::default();
    let mut turn = Turn { object, steps, facts, workload, current, memory, status, now, out };
    turn.observe();
    let is_stable = turn.status.stable_revision.as_deref() == Some(&*turn.current);
    if let Some(why) = why_not.filter(|_| !is_stable) {
        turn.status.phase = Some(Phase::Blocked);
        turn.status.message = Some(why);
    } else if is_stable {
        turn.returns();
    } else {
        turn.releases(request);
    }
    turn.counts();
    words::say(&mut turn.status, object, turn.steps.len(), facts.wall);
    Decision { status: turn.status, ..turn.out }
}

/// The revision that most bases have; the current one where none has any.
fn stable_so_far(facts: &RolloutFacts<'_>, current: &Arc<str>) -> Arc<str> {
    let ready_with = |revision: &Arc<str>| {
        let has = |b: &&BaseFacts<'_>| b.pod_of(revision).is_some_and(|pod| pod.is == PodIs::Ready);
        facts.bases.iter().filter(has).count()
    };
    let most = facts.revisions.iter().max_by_key(|revision| ready_with(revision));
    most.filter(|revision| ready_with(revision) > 0).unwrap_or(current).clone()
}

impl Turn<'_, '_> {
    /// Numbers and names for people.
    fn counts(&mut self) {
        let members = self.members();
        let failed = self.failed(&members);
        let is_stable = self.status.stable_revision.as_deref() == Some(&*self.current);
        let all: Vec<_> = if is_stable { self.facts.bases.iter().collect() } else { members.clone() };
        let settled = self.is_settled();
        // Pods that are to come count from the start.
        let total = if is_stable { all.len() } else { self.total(all.len(), settled) };
        let done = all.iter().filter(|base| self.is_done(base)).count();
        let has = all.iter().filter(|base| self.is_released(base.base)).count();
        let left = if is_stable || self.is_released_to_all() { 0 } else { total.saturating_sub(has) };
        let at_work = total.saturating_sub(done).saturating_sub(left).saturating_sub(failed.len());
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let joined = self.joined();
        self.status.bases = BaseCounts {
            total: number(total),
            done: number(done),
            batch: if is_stable { 0 } else { number(at_work) },
            left: number(left),
            failed: number(failed.len()),
            joined: if is_stable { 0 } else { number(joined.len()) },
        };
        let next = self.steps.get(usize::try_from(self.status.step).unwrap_or(usize::MAX));
        let selector = next.and_then(|step| step.selector.as_ref());
        let size = next.map_or(0, |step| size_of(&step.replicas, total));
        let waits = self.status.phase == Some(Phase::Waiting);
        self.status.next = in_order(&members, &joined)
            .into_iter()
            .filter(|base| waits && !self.is_released(base.base) && is_selected(selector, base.base, self.facts))
            .take(size.saturating_sub(has).min(MOST_NEXT))
            .map(|base| base.node.to_owned())
            .collect();
        self.status.failures = failed.into_iter().take(MAX_FAILURES).map(|(_, failure)| failure).collect();
    }
}
