//! What is written about a release: its status, requests that are taken off it, its finalizer, and a template that its
//! workload gets back.

use std::time::Instant;

use serde_json::json;

use super::{
    decide,
    facts::{Kind, RolloutFacts},
    objects::{finalizer_write, has_finalizer, note, path, status_write},
    one::{Rollout, Write},
    requests::first_request,
    rollouts::Planned,
};
use crate::{
    api::{Key, Request},
    k8s::{
        Reference,
        rollout::{ModuleRollout, ModuleRolloutStatus, Phase},
    },
    planning::{Effect, Lane},
};

impl Rollout {
    /// Returns when to look again.
    pub(super) fn plan(
        &mut self,
        uid: &str,
        facts: &RolloutFacts<'_>,
        now: Instant,
        planned: &mut Planned,
        out: &mut Vec<Effect>,
    ) -> Option<Instant> {
        let object = self.object.object()?.clone();
        self.current = facts.revisions.last().cloned();
        // The workload's bases may be of another environment, which has a process of its own.
        self.is_ours |= !facts.bases.is_empty();
        if !self.is_ours {
            return self.lets_go(uid, &object, facts, now, out);
        }
        let decision = decide::decide(&object, self.request.as_ref(), facts, &mut self.memory, now);
        planned.makes_room.extend(decision.makes_room);
        if let Some(why) = decision.ignored {
            self.request = None;
            out.push(note(&object, true, "RequestIgnored", why));
        }
        let wake = |at: Option<Instant>| decision.wake.into_iter().chain(at).min();
        if decision.rolls_back && facts.workload.is_some() {
            self.asks_for_template(&object, now, out);
        }
        // The end of the write on its way will tell.
        let Some(at) = self.object.next_write(now) else { return decision.wake };
        if at > now {
            return wake(Some(at));
        }
        let ends = object.metadata.deletion_timestamp.is_some();
        let is_over = matches!(decision.status.phase, Some(Phase::Idle | Phase::Completed | Phase::Blocked))
            || facts.workload.is_none();
        if object.status.as_ref() != Some(&decision.status) {
            self.writes_status(uid, &object, decision.status, now, out);
        } else if has_finalizer(&object) == ends && (!ends || is_over) {
            out.push(finalizer_write(uid, &object, !ends));
            self.object.write(Write::Finalizer, now);
        } else if let Some(request) =
            first_request(object.metadata.annotations.as_ref()).filter(|_| self.request.is_none())
        {
            let body = json!({ "metadata": { "resourceVersion": object.metadata.resource_version,
                "annotations": { request.word.annotation(): null } } });
            out.push(Effect::Write(
                Lane::Status,
                Key::Rollout(uid.to_owned()),
                Request::merge_patch(path(&object, ""), &body),
            ));
            self.object.write(Write::Consumed(request), now);
        } else {
            // In the status, or without effect: either way it was carried out.
            self.request = None;
        }
        decision.wake
    }

    /// It is deleted, and holds nothing.
    fn lets_go(
        &mut self,
        uid: &str,
        object: &ModuleRollout,
        facts: &RolloutFacts<'_>,
        now: Instant,
        out: &mut Vec<Effect>,
    ) -> Option<Instant> {
        let holds = facts.workload.is_some() && object.status.as_ref().is_some_and(|status| status.bases.total > 0);
        if holds || object.metadata.deletion_timestamp.is_none() || !has_finalizer(object) {
            return None;
        }
        let at = self.object.next_write(now)?;
        if at > now {
            return Some(at);
        }
        out.push(finalizer_write(uid, object, false));
        self.object.write(Write::Finalizer, now);
        None
    }

    /// Another one, the elder, has the workload.
    pub(super) fn stands_back(
        &mut self,
        uid: &str,
        elder: &str,
        now: Instant,
        out: &mut Vec<Effect>,
    ) -> Option<Instant> {
        let object = self.object.object()?.clone();
        let at = self.object.next_write(now)?;
        if at > now {
            return Some(at);
        }
        if object.metadata.deletion_timestamp.is_some() && has_finalizer(&object) {
            out.push(finalizer_write(uid, &object, false));
            self.object.write(Write::Finalizer, now);
            return None;
        }
        let of = &object.spec.workload_ref;
        let message = format!("an older ModuleRollout ({elder}) has {} {}", of.kind, of.name);
        let status = ModuleRolloutStatus {
            observed_generation: object.metadata.generation,
            phase: Some(Phase::Blocked),
            message: Some(message),
            ..ModuleRolloutStatus::default()
        };
        if object.status.as_ref() != Some(&status) {
            self.writes_status(uid, &object, status, now, out);
        }
        None
    }

    fn writes_status(
        &mut self,
        uid: &str,
        object: &ModuleRollout,
        after: ModuleRolloutStatus,
        now: Instant,
        out: &mut Vec<Effect>,
    ) {
        out.push(status_write(uid, object, &after));
        let before = Box::new(object.status.clone().unwrap_or_default());
        self.object.write(Write::Status { before, after: Box::new(after) }, now);
    }

    /// The template of the stable revision is read from its `ReplicaSet`, and then the workload's again.
    fn asks_for_template(&mut self, object: &ModuleRollout, now: Instant, out: &mut Vec<Effect>) {
        let stable = object
            .status
            .as_ref()
            .filter(|s| s.phase == Some(Phase::RollingBack))
            .and_then(|s| s.stable_revision.as_ref());
        let Some(stable) = stable.filter(|_| self.workload.kind == Kind::Deployment) else { return };
        if self.back.next_write(now).is_some_and(|at| at <= now) {
            let name = format!("{}-{stable}", self.workload.name);
            out.push(Effect::Read(Reference::Template(self.workload.namespace.to_string(), name)));
            self.back.write((), now);
        }
    }
}
