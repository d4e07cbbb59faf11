//! What a release says of itself.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::requests::Word;
use crate::k8s::rollout::{ModuleRollout, ModuleRolloutStatus, Phase};

/// There is no workload, or it has no revision yet.
pub(super) fn without_workload(status: &mut ModuleRolloutStatus, object: &ModuleRollout) {
    let of = &object.spec.workload_ref;
    let message = format!("there is no {} {} with module Pods", of.kind, of.name);
    *status = ModuleRolloutStatus {
        observed_generation: status.observed_generation,
        phase: Some(Phase::Idle),
        message: Some(message),
        ..ModuleRolloutStatus::default()
    };
}

/// Notes whether the workload suits.
pub(super) fn suits(status: &mut ModuleRolloutStatus, why_not: Option<&str>, wall: Timestamp) {
    let reason = if why_not.is_none() { "Suitable" } else { "NotSuitable" };
    let message = why_not.unwrap_or("it can be released in batches").to_owned();
    put(status, "WorkloadSuitable", why_not.is_none(), reason, message, wall);
}

/// Applied again after it was rolled back.
pub(super) fn rejected(object: &ModuleRollout, revision: &str) -> String {
    let retry = command(object, Word::Retry, revision);
    format!("{revision} was rolled back, and is held though it was applied again; {retry}")
}

/// How to say a word.
fn command(object: &ModuleRollout, word: Word, revision: &str) -> String {
    let (name, namespace) = (object.metadata.name.as_deref().unwrap_or_default(), object.metadata.namespace.as_deref());
    let namespace = namespace.unwrap_or_default();
    format!("kubectl annotate mro/{name} --namespace {namespace} {}={revision}", word.annotation())
}

/// The sentence, the numbers as texts, and the conditions.
pub(super) fn say(status: &mut ModuleRolloutStatus, object: &ModuleRollout, steps: usize, wall: Timestamp) {
    let revision = status.revision.clone().unwrap_or_default();
    let (bases, step) = (status.bases, status.step);
    let under_way = step > 0 && status.phase != Some(Phase::Idle);
    status.step_of = under_way.then(|| format!("{step}/{steps}"));
    status.done_of = Some(format!("{}/{}", bases.done, bases.total));
    let batch = format!("batch {step} of {steps}");
    let (waiting_for, message) = match status.phase {
        Some(Phase::Progressing) => {
            let failed = if bases.failed > 0 { format!(", {} failed", bases.failed) } else { String::new() };
            (Some("bases"), format!("{batch}: {} of {} bases have {revision}{failed}", bases.done, bases.total))
        }
        Some(Phase::Waiting) => {
            let command = command(object, Word::Confirm, &revision);
            match status.pause_seconds_left {
                None => {
                    let left = bases.left;
                    (Some("confirmation"), format!("{batch} done; {left} bases wait for confirmation: {command}"))
                }
                Some(seconds) => {
                    (Some("time"), format!("{batch} done; the next one begins within {seconds} s, or now: {command}"))
                }
            }
        }
        Some(Phase::Paused) => {
            let first = status.failures.first();
            let first = first.map_or_else(String::new, |f| format!(" ({}: {})", f.base, f.reason));
            let (retry, skip, abort) = (Word::Retry.annotation(), Word::Skip.annotation(), Word::Abort.annotation());
            let message = format!(
                "{batch}: {} bases failed{first}; nothing goes on before {}, or {skip} or {abort} in place of {retry}",
                bases.failed,
                command(object, Word::Retry, &revision)
            );
            (Some("decision"), message)
        }
        Some(Phase::RollingBack) => {
            let stable = status.stable_revision.as_deref().unwrap_or_default();
            let of = &object.spec.workload_ref;
            if of.kind == "DaemonSet" && step > 0 {
                let namespace = object.metadata.namespace.as_deref().unwrap_or_default();
                let undo = format!("kubectl rollout undo daemonset/{} --namespace {namespace}", of.name);
                (Some("decision"), format!("back to {stable} when the DaemonSet has its template: {undo}"))
            } else {
                (Some("bases"), format!("back to {stable}"))
            }
        }
        Some(Phase::Completed) => (None, format!("every base has {revision}")),
        Some(Phase::Idle) => (None, format!("every base has {revision}, or is about to")),
        Some(Phase::Blocked) | None => (Some("decision"), status.message.take().unwrap_or_default()),
    };
    status.waiting_for = waiting_for.map(str::to_owned);
    status.message = Some(message);
    let phase = format!("{:?}", status.phase.unwrap_or(Phase::Idle));
    let ready = matches!(status.phase, Some(Phase::Idle | Phase::Completed));
    let progressing = matches!(status.phase, Some(Phase::Progressing | Phase::RollingBack));
    let paused = matches!(status.phase, Some(Phase::Paused | Phase::Waiting));
    for (kind, is) in [("Ready", ready), ("Progressing", progressing), ("Paused", paused)] {
        put(status, kind, is, &phase, String::new(), wall);
    }
}

/// The condition says that now, and since `wall` where that is new.
fn put(status: &mut ModuleRolloutStatus, kind: &str, is: bool, reason: &str, message: String, wall: Timestamp) {
    let is = if is { "True" } else { "False" };
    let known = status.conditions.iter_mut().find(|c| c.type_ == kind);
    let since = known.as_deref().filter(|c| c.status == is).map_or(Time(wall), |c| c.last_transition_time.clone());
    let condition = Condition {
        type_: kind.to_owned(),
        status: is.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since,
        observed_generation: status.observed_generation,
    };
    match known {
        Some(known) => *known = condition,
        None => status.conditions.push(condition),
    }
}

/// What has changed, as Events tell it: whether something is wrong, one word, and a sentence.
pub(super) fn told(
    before: &ModuleRolloutStatus,
    after: &ModuleRolloutStatus,
    steps: usize,
) -> Vec<(bool, &'static str, String)> {
    let mut told = Vec::new();
    let message = after.message.clone().unwrap_or_default();
    let revision = after.revision.clone().unwrap_or_default();
    let same = before.revision == after.revision;
    let began = |step: u32| format!("batch {step} of {steps} of {revision} begins; {} bases have it", after.bases.done);
    if same && after.step > before.step && before.step > 0 && before.phase == Some(Phase::Progressing) {
        told.push((false, "BatchDone", format!("batch {} of {steps} of {revision} is done", before.step)));
    }
    if before.phase != after.phase || !same {
        match after.phase {
            Some(Phase::Waiting) => told.push((false, "BatchDone", message)),
            Some(Phase::Paused) => told.push((true, "ReleasePaused", message)),
            Some(Phase::RollingBack) => told.push((true, "RollingBack", message)),
            Some(Phase::Completed) if same => told.push((false, "ReleaseCompleted", message)),
            Some(Phase::Blocked) => told.push((true, "ReleaseBlocked", message)),
            Some(Phase::Idle) if before.phase == Some(Phase::RollingBack) => told.push((false, "RolledBack", message)),
            _ => {}
        }
    }
    if after.phase == Some(Phase::Progressing) && (before.phase != after.phase || !same || before.step != after.step) {
        told.push((false, "BatchStarted", began(after.step)));
    }
    told
}
