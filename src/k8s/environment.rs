//! A module's environment and arguments, resolved as a kubelet resolves a container's.
//!
//! Not possible: `resourceFieldRef` (a module has no resources of its own), `fileKeyRef` (no
//! volumes), and the variables of Services.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use k8s_openapi::api::core::v1 as core;

/// An object that an environment is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// Namespace and name of a `ConfigMap`.
    ConfigMap(String, String),
    /// Namespace and name of a Secret.
    Secret(String, String),
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ConfigMap(namespace, name) => write!(f, "ConfigMap {namespace}/{name}"),
            Self::Secret(namespace, name) => write!(f, "Secret {namespace}/{name}"),
        }
    }
}

/// What is known of a referred object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Referred {
    /// Its entries; those that are no text are left out.
    Data(BTreeMap<String, String>),
    /// It does not exist.
    Missing,
    /// It can't be read; the text says why.
    Unreadable(String),
}

/// Where values come from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Objects that have been read.
    pub referred: &'a HashMap<Reference, Referred>,
    /// The base's address, for `status.podIP` and `status.hostIP`.
    pub ip: Option<&'a str>,
}

/// All objects that the Pod's environments refer to.
pub fn references(pod: &core::Pod) -> BTreeSet<Reference> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut found = BTreeSet::new();
    for container in pod.spec.iter().flat_map(|s| &s.containers) {
        for source in container.env_from.iter().flatten() {
            if let Some(r) = &source.config_map_ref {
                found.insert(Reference::ConfigMap(namespace.clone(), r.name.clone()));
            }
            if let Some(r) = &source.secret_ref {
                found.insert(Reference::Secret(namespace.clone(), r.name.clone()));
            }
        }
        for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            if let Some(r) = &source.config_map_key_ref {
                found.insert(Reference::ConfigMap(namespace.clone(), r.name.clone()));
            }
            if let Some(r) = &source.secret_key_ref {
                found.insert(Reference::Secret(namespace.clone(), r.name.clone()));
            }
        }
    }
    found
}

/// Annotations that the downward API is asked for: the others need not be kept.
pub(super) fn wanted_annotations(pod: &core::Pod) -> BTreeSet<String> {
    let containers = pod.spec.iter().flat_map(|s| &s.containers);
    let fields =
        containers.flat_map(|c| c.env.iter().flatten()).filter_map(|e| e.value_from.as_ref()?.field_ref.as_ref());
    fields.filter_map(|f| subscript(&f.field_path, "metadata.annotations")).map(str::to_owned).collect()
}

/// Environment and arguments of a container, or what is missing for them.
pub(super) fn environment(
    pod: &core::Pod,
    container: &core::Container,
    sources: &Sources<'_>,
) -> Result<(BTreeMap<String, String>, Vec<String>), String> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let mut envs = BTreeMap::new();
    for from in container.env_from.iter().flatten() {
        let (reference, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => (Reference::ConfigMap(namespace.clone(), r.name.clone()), r.optional),
            (_, Some(r)) => (Reference::Secret(namespace.clone(), r.name.clone()), r.optional),
            (None, None) => continue,
        };
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in sources.data(&reference, optional)?.into_iter().flatten() {
            envs.insert(format!("{prefix}{key}"), value.clone());
        }
    }
    for env in container.env.iter().flatten() {
        let value = match &env.value_from {
            None => Some(expand(env.value.as_deref().unwrap_or_default(), &envs)),
            Some(source) => value_from(pod, &namespace, &env.name, source, sources)?,
        };
        if let Some(value) = value {
            envs.insert(env.name.clone(), value);
        }
    }
    let args = container.args.iter().flatten().map(|arg| expand(arg, &envs)).collect();
    Ok((envs, args))
}

fn value_from(
    pod: &core::Pod,
    namespace: &str,
    name: &str,
    source: &core::EnvVarSource,
    sources: &Sources<'_>,
) -> Result<Option<String>, String> {
    let by_key = |reference: Reference, key: &str, optional: Option<bool>| {
        let value = sources.data(&reference, optional)?.and_then(|data| data.get(key)).cloned();
        match value {
            None if optional != Some(true) => Err(format!("{reference} has no key {key}, which env {name} asks for")),
            value => Ok(value),
        }
    };
    if let Some(r) = &source.config_map_key_ref {
        return by_key(Reference::ConfigMap(namespace.to_owned(), r.name.clone()), &r.key, r.optional);
    }
    if let Some(r) = &source.secret_key_ref {
        return by_key(Reference::Secret(namespace.to_owned(), r.name.clone()), &r.key, r.optional);
    }
    if let Some(field) = &source.field_ref {
        return downward(pod, &field.field_path, sources).map(Some).ok_or_else(|| {
            format!("env {name} asks for the field {}, which is not known for a module", field.field_path)
        });
    }
    Err(format!(
        "env {name} has a source that a module can't have: use value, fieldRef, configMapKeyRef or secretKeyRef"
    ))
}

fn downward(pod: &core::Pod, path: &str, sources: &Sources<'_>) -> Option<String> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    let looked_up = |map: Option<&BTreeMap<String, String>>, key: &str| {
        Some(map.and_then(|m| m.get(key)).cloned().unwrap_or_default())
    };
    if let Some(key) = subscript(path, "metadata.labels") {
        return looked_up(meta.labels.as_ref(), key);
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return looked_up(meta.annotations.as_ref(), key);
    }
    match path {
        "metadata.name" => meta.name.clone(),
        "metadata.namespace" => meta.namespace.clone(),
        "metadata.uid" => meta.uid.clone(),
        "spec.nodeName" => spec?.node_name.clone(),
        "spec.serviceAccountName" => Some(spec?.service_account_name.clone().unwrap_or_default()),
        "status.podIP" | "status.hostIP" | "status.podIPs" | "status.hostIPs" => sources.ip.map(str::to_owned),
        _ => None,
    }
}

/// `key` of `prefix['key']`.
fn subscript<'p>(path: &'p str, prefix: &str) -> Option<&'p str> {
    let inner = path.strip_prefix(prefix)?.strip_prefix('[')?.strip_suffix(']')?;
    inner.strip_prefix('\'')?.strip_suffix('\'').or(Some(inner))
}

impl<'a> Sources<'a> {
    fn data(
        &self,
        reference: &Reference,
        optional: Option<bool>,
    ) -> Result<Option<&'a BTreeMap<String, String>>, String> {
        match self.referred.get(reference) {
            Some(Referred::Data(data)) => Ok(Some(data)),
            Some(Referred::Missing) if optional == Some(true) => Ok(None),
            Some(Referred::Missing) => Err(format!("{reference} does not exist")),
            Some(Referred::Unreadable(why)) => Err(format!("{reference} can't be read: {why}")),
            None => Err(format!("reading {reference}")),
        }
    }
}

/// `$(NAME)` becomes the variable's value, `$$` becomes `$`, and what is not known stays as it is
/// (Kubernetes convention for `env` and `args`).
fn expand(text: &str, envs: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match envs.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(container: &Value) -> core::Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "p", "namespace": "ns", "uid": "u",
                "labels": { "app": "a" }, "annotations": { "note": "n" },
            },
            "spec": { "nodeName": "node", "containers": [container] },
        }))
        .unwrap()
    }

    fn resolve(container: &Value) -> Result<(BTreeMap<String, String>, Vec<String>), String> {
        let data = |entries: &[(&str, &str)]| {
            Referred::Data(entries.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect())
        };
        let referred = HashMap::from([
            (Reference::ConfigMap("ns".into(), "config".into()), data(&[("A", "1"), ("B", "2")])),
            (Reference::Secret("ns".into(), "secret".into()), data(&[("password", "s3cret")])),
            (Reference::Secret("ns".into(), "none".into()), Referred::Missing),
            (Reference::Secret("ns".into(), "closed".into()), Referred::Unreadable("forbidden".into())),
        ]);
        let pod = pod(container);
        let container = &pod.spec.as_ref().unwrap().containers[0];
        environment(&pod, container, &Sources { referred: &referred, ip: Some("192.0.2.1") })
    }

    #[test]
    fn values_come_from_where_a_kubelet_takes_them() {
        let (envs, args) = resolve(&json!({
            "name": "biz1",
            "envFrom": [{ "prefix": "C_", "configMapRef": { "name": "config" } },
                        { "secretRef": { "name": "none", "optional": true } }],
            "env": [
                { "name": "PLAIN", "value": "x" },
                { "name": "EXPANDED", "value": "$(PLAIN)-$(C_A)-$$(PLAIN)-$(UNKNOWN)-$" },
                { "name": "KEY", "valueFrom": { "configMapKeyRef": { "name": "config", "key": "B" } } },
                { "name": "SECRET", "valueFrom": { "secretKeyRef": { "name": "secret", "key": "password" } } },
                { "name": "ABSENT", "valueFrom": { "secretKeyRef": { "name": "none", "key": "k", "optional": true } } },
                { "name": "POD", "valueFrom": { "fieldRef": { "fieldPath": "metadata.name" } } },
                { "name": "LABEL", "valueFrom": { "fieldRef": { "fieldPath": "metadata.labels['app']" } } },
                { "name": "NOTE", "valueFrom": { "fieldRef": { "fieldPath": "metadata.annotations['note']" } } },
                { "name": "IP", "valueFrom": { "fieldRef": { "fieldPath": "status.podIP" } } },
            ],
            "args": ["--pod=$(POD)", "plain"],
        }))
        .unwrap();
        let expected = [
            ("C_A", "1"),
            ("C_B", "2"),
            ("EXPANDED", "x-1-$(PLAIN)-$(UNKNOWN)-$"),
            ("IP", "192.0.2.1"),
            ("KEY", "2"),
            ("LABEL", "a"),
            ("NOTE", "n"),
            ("PLAIN", "x"),
            ("POD", "p"),
            ("SECRET", "s3cret"),
        ];
        assert_eq!(envs.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect::<Vec<_>>(), expected);
        assert_eq!(args, ["--pod=p", "plain"]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let why = |source: Value| {
            resolve(&json!({ "name": "biz1", "env": [{ "name": "X", "valueFrom": source }] })).unwrap_err()
        };
        let cases = [
            (json!({ "secretKeyRef": { "name": "none", "key": "k" } }), "Secret ns/none does not exist"),
            (json!({ "secretKeyRef": { "name": "closed", "key": "k" } }), "can't be read: forbidden"),
            (json!({ "configMapKeyRef": { "name": "config", "key": "Z" } }), "has no key Z, which env X asks for"),
            (json!({ "configMapKeyRef": { "name": "unread", "key": "Z" } }), "reading ConfigMap ns/unread"),
            (json!({ "resourceFieldRef": { "resource": "limits.cpu" } }), "a source that a module can't have"),
            (json!({ "fieldRef": { "fieldPath": "spec.nope" } }), "the field spec.nope"),
        ];
        for (source, expected) in cases {
            let message = why(source);
            assert!(message.contains(expected), "{message:?} should contain {expected:?}");
        }
    }

    #[test]
    fn only_annotations_that_are_asked_for_are_kept() {
        let source = json!({ "fieldRef": { "fieldPath": "metadata.annotations['note']" } });
        let mut pod = pod(&json!({ "name": "c", "env": [{ "name": "X", "valueFrom": source }] }));
        pod.metadata.annotations.get_or_insert_default().insert("other".into(), "large".into());
        crate::k8s::keep_wanted_annotations(&mut pod);
        assert_eq!(pod.metadata.annotations, Some(BTreeMap::from([("note".into(), "n".into())])));
    }
}
