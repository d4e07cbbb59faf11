//! What is written about a release: its status, requests that are taken off it, its finalizer, and a template that its
//! workload gets back.

use std::time::Instant;

use serde_json::{Value, json};
use tracing::{info, warn};

use super::{
    Planned, Rollout, Rollouts, decide,
    facts::{Kind, RolloutFacts},
    requests::{Request as Asked, first_request},
    words,
};
use crate::{
    api::{Key, Note, Outcome, Request, Subject, WriteError},
    k8s::{
        Reference, Referred, names,
        rollout::{ModuleRollout, ModuleRolloutStatus, Phase},
    },
    planning::{Effect, Lane, Schedule},
};

/// A write that is on its way.
#[derive(Debug)]
pub(super) enum Write {
    /// The status that it makes.
    Status(Box<ModuleRolloutStatus>),
    /// A request is taken off, which is carried out when it is.
    Consumed(Asked),
    /// The finalizer comes or goes.
    Finalizer,
}

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
            let status = Box::new(decision.status);
            out.push(status_write(uid, &object, &status));
            self.object.write(Write::Status(status), now);
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
        elder: Option<&String>,
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
        let message =
            format!("an older ModuleRollout ({}) has {} {}", elder.map_or("", String::as_str), of.kind, of.name);
        let status = ModuleRolloutStatus {
            observed_generation: object.metadata.generation,
            phase: Some(Phase::Blocked),
            message: Some(message),
            ..ModuleRolloutStatus::default()
        };
        if object.status.as_ref() != Some(&status) {
            out.push(status_write(uid, &object, &status));
            self.object.write(Write::Status(Box::new(status)), now);
        }
        None
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

impl Rollouts {
    /// A write about one ended.
    pub fn written(&mut self, uid: &str, result: Result<Outcome, WriteError>, now: Instant, schedule: &mut Schedule) {
        let Some(rollout) = self.by_uid.get_mut(uid) else { return };
        match result {
            Ok(outcome) => rollout.wrote(&outcome, &mut self.told),
            Err(error) => {
                // Of another version: the watch is about to show it.
                rollout.object.failed(now);
                if !error.is_conflict() && error.is_about_it() && rollout.object.reports_failure() {
                    warn!(rollout = %rollout.workload.name, %error, "cannot write to a ModuleRollout, trying again");
                }
            }
        }
        self.release();
        self.touched(now, schedule);
    }

    /// A template was read that a workload is to get back.
    pub fn template_read(
        &mut self,
        namespace: &str,
        replica_set: &str,
        read: &Referred,
        now: Instant,
        schedule: &mut Schedule,
    ) {
        let is_its = |r: &&mut Rollout| {
            *r.workload.namespace == *namespace
                && replica_set.rsplit_once('-').is_some_and(|(name, _)| *r.workload.name == *name)
        };
        let Some(rollout) = self.by_uid.values_mut().find(is_its) else { return };
        let template = match read {
            Referred::Data(data) => data.get("template").and_then(|text| serde_json::from_str::<Value>(text).ok()),
            Referred::Missing | Referred::Unreadable(_) => None,
        };
        let uid = self.workloads.get(&rollout.workload).map(|facts| facts.uid.clone());
        let (Some(mut template), Some(uid)) = (template, uid) else {
            warn!(namespace, replica_set, ?read, "cannot read the template to roll back to, trying again");
            rollout.back.failed(now);
            return self.touched(now, schedule);
        };
        if let Some(labels) = template.pointer_mut("/metadata/labels").and_then(Value::as_object_mut) {
            labels.remove(names::TEMPLATE_HASH);
        }
        let name = &rollout.workload.name;
        info!(namespace, deployment = %name, replica_set, "rolling back");
        let path = format!("/apis/apps/v1/namespaces/{namespace}/deployments/{name}");
        let body = json!([
            { "op": "test", "path": "/metadata/uid", "value": &*uid },
            { "op": "replace", "path": "/spec/template", "value": template },
        ]);
        let Some(object) = rollout.object.object() else { return };
        let key = Key::RolledBack(object.metadata.uid.clone().unwrap_or_default());
        self.told.push(Effect::Write(Lane::Status, key, Request::json_patch(path, &body)));
        self.touched(now, schedule);
    }

    /// The template was written back, or not. Once is enough: who changes it again finds it held.
    pub fn rolled_back(
        &mut self,
        uid: &str,
        result: Result<Outcome, WriteError>,
        now: Instant,
        schedule: &mut Schedule,
    ) {
        let Some(rollout) = self.by_uid.get_mut(uid) else { return };
        match result {
            Ok(_) => drop(rollout.back.succeeded(0)),
            Err(error) => {
                rollout.back.failed(now);
                if error.is_about_it() && rollout.back.reports_failure() {
                    let name = &rollout.workload.name;
                    warn!(deployment = %name, %error, "cannot roll back, trying again");
                    let why = format!(
                        "cannot give Deployment {name} its template back: {error}; do it: kubectl rollout undo deployment/{name}"
                    );
                    self.told.extend(rollout.object.object().map(|object| note(object, true, "RollBackFailed", why)));
                }
            }
        }
        self.touched(now, schedule);
    }
}

impl Rollout {
    fn wrote(&mut self, outcome: &Outcome, out: &mut Vec<Effect>) {
        let wrote = self.object.succeeded(outcome.resource_version);
        let Some(object) = self.object.object_mut() else { return };
        if outcome.resource_version > 0 {
            object.metadata.resource_version = Some(outcome.resource_version.to_string());
        }
        match wrote {
            Some(Write::Status(status)) => {
                let before = object.status.replace(*status).unwrap_or_default();
                let steps = object.spec.planned_steps().len();
                let after = object.status.clone().unwrap_or_default();
                let told = words::told(&before, &after, steps);
                out.extend(told.into_iter().map(|(warning, reason, message)| note(object, warning, reason, message)));
                self.request = None;
            }
            Some(Write::Consumed(request)) => {
                if let Some(annotations) = &mut object.metadata.annotations {
                    annotations.remove(request.word.annotation());
                }
                self.request = Some(request);
            }
            Some(Write::Finalizer) if object.metadata.deletion_timestamp.is_none() => {
                object.metadata.finalizers.get_or_insert_default().push(names::ROLLOUT_FINALIZER.to_owned());
            }
            Some(Write::Finalizer) => {
                object.metadata.finalizers.iter_mut().for_each(|all| all.retain(|f| f != names::ROLLOUT_FINALIZER));
            }
            None => {}
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

/// Of this version of the object only: a status that was decided from an older one must not take back what came since.
fn status_write(uid: &str, object: &ModuleRollout, status: &ModuleRolloutStatus) -> Effect {
    let body = json!({
        "apiVersion": "modulet.koupleless.io/v1alpha1",
        "kind": "ModuleRollout",
        "metadata": {
            "name": object.metadata.name, "namespace": object.metadata.namespace, "uid": uid,
            "resourceVersion": object.metadata.resource_version,
        },
        "status": status,
    });
    Effect::Write(Lane::Status, Key::Rollout(uid.to_owned()), Request::apply(path(object, "/status"), &body))
}

fn finalizer_write(uid: &str, object: &ModuleRollout, comes: bool) -> Effect {
    let others =
        object.metadata.finalizers.iter().flatten().map(String::as_str).filter(|f| *f != names::ROLLOUT_FINALIZER);
    let finalizers: Vec<_> = others.chain(comes.then_some(names::ROLLOUT_FINALIZER)).collect();
    let metadata = json!({ "uid": uid, "resourceVersion": object.metadata.resource_version, "finalizers": finalizers });
    let request = Request::merge_patch(path(object, ""), &json!({ "metadata": metadata }));
    Effect::Write(Lane::Status, Key::Rollout(uid.to_owned()), request)
}

fn note(object: &ModuleRollout, warning: bool, reason: &'static str, message: String) -> Effect {
    let meta = &object.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let subject = Subject::ModuleRollout(text(&meta.namespace), text(&meta.name), text(&meta.uid));
    Effect::Note(Note::of(subject, warning, reason, message))
}
