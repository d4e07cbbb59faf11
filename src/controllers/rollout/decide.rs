//! How a release goes on: from what its status says and what is seen of its bases comes what its status is to say.

use std::{sync::Arc, time::Instant};

use super::{
    facts::{BaseFacts, PodIs, RolloutFacts},
    requests::Request,
    suitable::Suits,
    turn::{Decision, Memory, Turn},
    words,
};
use crate::k8s::rollout::{ModuleRollout, Phase};

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
    let mut out = Decision::default();
    let current = facts.revisions.last().cloned();
    let Some(workload) = &facts.workload else {
        words::without_workload(&mut status, object);
        return Decision { status, ..out };
    };
    let Some(current) = current else { return Decision { status, ..out } };
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
    words::suits(&mut status, why_not.as_deref());
    // What is held and will be no more comes in order all the same.
    let is_let_go = object.metadata.deletion_timestamp.is_some() && !matches!(workload.suits, Suits::Refused(_));
    let why_not = why_not.filter(|_| !is_let_go);
    let mut turn = Turn { object, steps, facts, workload, current, memory, status, now, out: &mut out };
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
    out.status = std::mem::take(&mut turn.status);
    out
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
