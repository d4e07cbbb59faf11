//! What is written about a release: its status, requests that are taken off it, its finalizer, a template that its
//! workload gets back, and Events.

use std::time::Instant;

use serde_json::json;

use super::{
    decide,
    facts::{Kind, RolloutFacts},
    one::{Rollout, Write},
    requests::first_request,
};
use crate::{
    api::{Key, Note, Request, Subject},
    domain::PodUid,
    k8s::{
        Reference, names,
        rollout::{ModuleRollout, ModuleRolloutStatus, Phase},
    },
    planning::{Effect, Lane},
};

impl Rollout {
    /// Returns when to look again.
    pub(super) fn plan(
        &mut self,
        facts: &RolloutFacts<'_>,
        now: Instant,
        makes_room: &mut Vec<PodUid>,
        out: &mut Vec<Effect>,
    ) -> Option<Instant> {
        let object = self.object.object()?.clone();
        self.current = facts.revisions.last().cloned();
        // The workload's bases may be of another environment, which has a process of its own.
        self.is_ours |= !facts.bases.is_empty();
        if !self.is_ours {
            let holds = facts.workload.is_some() && object.status.as_ref().is_some_and(|s| s.bases.total > 0);
            return if holds { None } else { self.lets_go(&object, now, out) };
        }
        let decision = decide::decide(&object, self.request.as_ref(), facts, &mut self.memory, now);
        makes_room.extend(decision.makes_room);
        if let Some(why) = decision.ignored {
            self.request = None;
            out.push(note(&object, true, "RequestIgnored", why));
        }
        if decision.rolls_back && facts.workload.is_some() {
            self.asks_for_template(&object, now, out);
        }
        // The end of the write on its way will tell.
        let Some(at) = self.object.next_write(now) else { return decision.wake };
        if at > now {
            return decision.wake.into_iter().chain([at]).min();
        }
        let ends = object.metadata.deletion_timestamp.is_some();
        let is_over = matches!(decision.status.phase, Some(Phase::Idle | Phase::Completed | Phase::Blocked))
            || facts.workload.is_none();
        if object.status.as_ref() != Some(&decision.status) {
            self.writes_status(&object, decision.status, now, out);
        } else if has_finalizer(&object) == ends && (!ends || is_over) {
            self.writes_finalizer(&object, !ends, now, out);
        } else if let Some(request) =
            first_request(object.metadata.annotations.as_ref()).filter(|_| self.request.is_none())
        {
            let body = json!({ "metadata": { "resourceVersion": object.metadata.resource_version,
                "annotations": { request.word.annotation(): null } } });
            let patch = Request::merge_patch(path(&object, ""), &body);
            self.writes(&object, patch, Write::Consumed(request), now, out);
        } else {
            // In the status, or without effect: either way it was carried out.
            self.request = None;
        }
        decision.wake
    }

    /// It is deleted, and holds nothing.
    fn lets_go(&mut self, object: &ModuleRollout, now: Instant, out: &mut Vec<Effect>) -> Option<Instant> {
        if object.metadata.deletion_timestamp.is_none() || !has_finalizer(object) {
            return None;
        }
        let at = self.object.next_write(now)?;
        if at > now {
            return Some(at);
        }
        self.writes_finalizer(object, false, now, out);
        None
    }

    /// Another one, the elder, has the workload.
    pub(super) fn stands_back(&mut self, elder: &str, now: Instant, out: &mut Vec<Effect>) -> Option<Instant> {
        let object = self.object.object()?.clone();
        let at = self.object.next_write(now)?;
        if at > now {
            return Some(at);
        }
        if object.metadata.deletion_timestamp.is_some() && has_finalizer(&object) {
            self.writes_finalizer(&object, false, now, out);
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
            self.writes_status(&object, status, now, out);
        }
        None
    }

    /// Of this version of the object only: a status that was decided from an older one must not take back what came since.
    fn writes_status(&mut self, of: &ModuleRollout, after: ModuleRolloutStatus, now: Instant, out: &mut Vec<Effect>) {
        let meta = &of.metadata;
        let body = json!({
            "apiVersion": "modulet.koupleless.io/v1alpha1",
            "kind": "ModuleRollout",
            "metadata": {
                "name": meta.name, "namespace": meta.namespace, "uid": meta.uid, "resourceVersion": meta.resource_version,
            },
            "status": after,
        });
        let before = Box::new(of.status.clone().unwrap_or_default());
        let request = Request::apply(path(of, "/status"), &body);
        self.writes(of, request, Write::Status { before, after: Box::new(after) }, now, out);
    }

    fn writes_finalizer(&mut self, of: &ModuleRollout, comes: bool, now: Instant, out: &mut Vec<Effect>) {
        let meta = &of.metadata;
        let others = meta.finalizers.iter().flatten().map(String::as_str).filter(|f| *f != names::ROLLOUT_FINALIZER);
        let finalizers: Vec<_> = others.chain(comes.then_some(names::ROLLOUT_FINALIZER)).collect();
        let metadata = json!({ "uid": meta.uid, "resourceVersion": meta.resource_version, "finalizers": finalizers });
        let request = Request::merge_patch(path(of, ""), &json!({ "metadata": metadata }));
        self.writes(of, request, Write::Finalizer, now, out);
    }

    fn writes(&mut self, of: &ModuleRollout, request: Request, what: Write, now: Instant, out: &mut Vec<Effect>) {
        let key = Key::Rollout(of.metadata.uid.clone().unwrap_or_default());
        out.push(Effect::Write(Lane::Status, key, request));
        self.object.write(what, now);
    }

    /// The template of the stable revision is read from its `ReplicaSet`, and then the workload's again.
    fn asks_for_template(&mut self, object: &ModuleRollout, now: Instant, out: &mut Vec<Effect>) {
        let status = object.status.as_ref().filter(|s| s.phase == Some(Phase::RollingBack));
        let stable = status.and_then(|s| s.stable_revision.as_ref());
        let Some(stable) = stable.filter(|_| self.workload.kind == Kind::Deployment) else { return };
        if self.back.next_write(now).is_some_and(|at| at <= now) {
            let name = format!("{}-{stable}", self.workload.name);
            out.push(Effect::Read(Reference::Template(self.workload.namespace.to_string(), name)));
            self.back.write((), now);
        }
    }
}

fn has_finalizer(object: &ModuleRollout) -> bool {
    object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == names::ROLLOUT_FINALIZER)
}

fn path(object: &ModuleRollout, sub: &str) -> String {
    let meta = &object.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    format!("/apis/modulet.koupleless.io/v1alpha1/namespaces/{namespace}/modulerollouts/{name}{sub}")
}

pub(super) fn note(object: &ModuleRollout, warning: bool, reason: &'static str, message: String) -> Effect {
    let meta = &object.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let subject = Subject::ModuleRollout(text(&meta.namespace), text(&meta.name), text(&meta.uid));
    Effect::Note(Note::of(subject, warning, reason, message))
}
