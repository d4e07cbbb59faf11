//! Requests and Events about a `ModuleRollout`.

use serde_json::json;

use crate::{
    api::{Key, Note, Request, Subject},
    k8s::{
        names,
        rollout::{ModuleRollout, ModuleRolloutStatus},
    },
    planning::{Effect, Lane},
};

pub(super) fn has_finalizer(object: &ModuleRollout) -> bool {
    object.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == names::ROLLOUT_FINALIZER)
}

pub(super) fn path(object: &ModuleRollout, sub: &str) -> String {
    let meta = &object.metadata;
    let (namespace, name) = (meta.namespace.as_deref().unwrap_or_default(), meta.name.as_deref().unwrap_or_default());
    format!("/apis/modulet.koupleless.io/v1alpha1/namespaces/{namespace}/modulerollouts/{name}{sub}")
}

/// Of this version of the object only: a status that was decided from an older one must not take back what came since.
pub(super) fn status_write(uid: &str, object: &ModuleRollout, status: &ModuleRolloutStatus) -> Effect {
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

pub(super) fn finalizer_write(uid: &str, object: &ModuleRollout, comes: bool) -> Effect {
    let others =
        object.metadata.finalizers.iter().flatten().map(String::as_str).filter(|f| *f != names::ROLLOUT_FINALIZER);
    let finalizers: Vec<_> = others.chain(comes.then_some(names::ROLLOUT_FINALIZER)).collect();
    let metadata = json!({ "uid": uid, "resourceVersion": object.metadata.resource_version, "finalizers": finalizers });
    let request = Request::merge_patch(path(object, ""), &json!({ "metadata": metadata }));
    Effect::Write(Lane::Status, Key::Rollout(uid.to_owned()), request)
}

pub(super) fn note(object: &ModuleRollout, warning: bool, reason: &'static str, message: String) -> Effect {
    let meta = &object.metadata;
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let subject = Subject::ModuleRollout(text(&meta.namespace), text(&meta.name), text(&meta.uid));
    Effect::Note(Note::of(subject, warning, reason, message))
}
