//! How writes about releases ended.

use std::time::Instant;

use serde_json::{Value, json};
use tracing::{info, warn};

use super::{
    one::{Rollout, Write},
    rollouts::Rollouts,
    words,
    writes::note,
};
use crate::{
    api::{Key, Outcome, Request, WriteError},
    k8s::{Referred, names},
    planning::{Effect, Lane, Schedule},
};

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
            Some(Write::Status { before, after }) => {
                let steps = object.spec.planned_steps().len();
                let told = words::told(&before, &after, steps);
                out.extend(told.into_iter().map(|(warning, reason, message)| note(object, warning, reason, message)));
                object.status = Some(*after);
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
