//! A module's environment and arguments, resolved as a kubelet resolves a container's.
//!
//! Not possible: `resourceFieldRef` (a module has no resources of its own), `fileKeyRef` (no
//! volumes), and the variables of Services.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use k8s_openapi::api::core::v1 as core;

use super::{limits, names};
use crate::domain::printable;

/// An object that an environment is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// Namespace and name of a `ConfigMap`.
    ConfigMap(String, String),
    /// Namespace and name of a Secret.
    Secret(String, String),
}

impl Reference {
    fn name(&self) -> &str {
        match self {
            Self::ConfigMap(_, name) | Self::Secret(_, name) => name,
        }
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = printable(self.name(), limits::QUOTE_MAX);
        match self {
            Self::ConfigMap(namespace, _) => write!(f, "ConfigMap {namespace}/{name}"),
            Self::Secret(namespace, _) => write!(f, "Secret {namespace}/{name}"),
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

/// All objects that the Pod's environments refer to. A name that no object can have is not looked for: the API
/// server does not check it, and it would become part of a path.
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
    found.retain(|reference| names::is_object_name(reference.name()));
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
    let mut room = Room(limits::ENVIRONMENT_MAX);
    for from in container.env_from.iter().flatten() {
        let (reference, optional) = match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => (Reference::ConfigMap(namespace.clone(), r.name.clone()), r.optional),
            (_, Some(r)) => (Reference::Secret(namespace.clone(), r.name.clone()), r.optional),
            (None, None) => continue,
        };
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in sources.data(&reference, optional)?.into_iter().flatten() {
            room.take(prefix)?;
            room.take(key)?;
            room.take(value)?;
            envs.insert(format!("{prefix}{key}"), value.clone());
        }
    }
    for env in container.env.iter().flatten() {
        room.take(&env.name)?;
        let value = match &env.value_from {
            None => Some(Cow::Owned(expand(env.value.as_deref().unwrap_or_default(), &envs, &env.name)?)),
            Some(source) => value_from(pod, &namespace, &env.name, source, sources)?,
        };
        if let Some(value) = value {
            room.take(&value)?;
            envs.insert(env.name.clone(), value.into_owned());
        }
    }
    let mut args = Vec::new();
    for arg in container.args.iter().flatten() {
        let arg = expand(arg, &envs, "in args")?;
        room.take(&arg)?;
        args.push(arg);
    }
    Ok((envs, args))
}

/// Bytes of JSON that a container may still use. What has been used is not given back: with it, time is bounded too.
struct Room(usize);

impl Room {
    fn take(&mut self, text: &str) -> Result<(), String> {
        // A separator comes with each.
        self.0 = self.0.checked_sub(limits::json_len(text).saturating_add(1)).ok_or_else(|| {
            format!(
                "env and args are larger than the {} bytes that a module may have: leave some out",
                limits::ENVIRONMENT_MAX
            )
        })?;
        Ok(())
    }
}

fn value_from<'a>(
    pod: &'a core::Pod,
    namespace: &str,
    name: &str,
    source: &core::EnvVarSource,
    sources: &Sources<'a>,
) -> Result<Option<Cow<'a, str>>, String> {
    let name = printable(name, limits::QUOTE_MAX);
    let by_key = |reference: Reference, key: &str, optional: Option<bool>| {
        let value = sources.data(&reference, optional)?.and_then(|data| data.get(key));
        match value {
            None if optional != Some(true) => {
                Err(format!("{reference} has no key {}, which env {name} asks for", printable(key, limits::QUOTE_MAX)))
            }
            value => Ok(value.map(Cow::from)),
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
            let field = printable(&field.field_path, limits::QUOTE_MAX);
            format!("env {name} asks for the field {field}, which is not known for a module")
        });
    }
    Err(format!(
        "env {name} has a source that a module can't have: use value, fieldRef, configMapKeyRef or secretKeyRef"
    ))
}

fn downward<'a>(pod: &'a core::Pod, path: &str, sources: &Sources<'a>) -> Option<Cow<'a, str>> {
    let (meta, spec) = (&pod.metadata, pod.spec.as_ref());
    let looked_up = |map: Option<&'a BTreeMap<String, String>>, key: &str| {
        Some(map.and_then(|m| m.get(key)).map(Cow::from).unwrap_or_default())
    };
    if let Some(key) = subscript(path, "metadata.labels") {
        return looked_up(meta.labels.as_ref(), key);
    }
    if let Some(key) = subscript(path, "metadata.annotations") {
        return looked_up(meta.annotations.as_ref(), key);
    }
    match path {
        "metadata.name" => meta.name.as_deref(),
        "metadata.namespace" => meta.namespace.as_deref(),
        "metadata.uid" => meta.uid.as_deref(),
        "spec.nodeName" => spec?.node_name.as_deref(),
        "spec.serviceAccountName" => Some(spec?.service_account_name.as_deref().unwrap_or_default()),
        "status.podIP" | "status.hostIP" | "status.podIPs" | "status.hostIPs" => sources.ip,
        _ => None,
    }
    .map(Cow::from)
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
        if !names::is_object_name(reference.name()) {
            return Err(format!("{reference} can't exist: that is no name for an object"));
        }
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
/// (Kubernetes convention for `env` and `args`). `what` is named where the outcome would be too long.
fn expand(text: &str, envs: &BTreeMap<String, String>, what: &str) -> Result<String, String> {
    let mut out = Bounded(String::new());
    let mut rest = text;
    let expanded = loop {
        let Some((before, behind)) = rest.split_once('$') else { break out.push(rest) };
        let reference = rest.get(before.len()..).unwrap_or(rest);
        rest = behind;
        let (part, after) = if let Some(after) = rest.strip_prefix('$') {
            ("$", after)
        } else if let Some(inner) = rest.strip_prefix('(') {
            // Without a closing bracket there is no reference any more: one look is enough.
            let Some((name, after)) = inner.split_once(')') else {
                break out.push(before).and_then(|()| out.literal(rest));
            };
            let unknown = reference.get(..reference.len().saturating_sub(after.len())).unwrap_or(reference);
            (envs.get(name).map_or(unknown, String::as_str), after)
        } else {
            ("$", rest)
        };
        if out.push(before).and_then(|()| out.push(part)).is_none() {
            break None;
        }
        rest = after;
    };
    expanded.map(|()| out.0).ok_or_else(|| {
        let what = printable(what, limits::QUOTE_MAX);
        format!("a value ({what}) has more than {} bytes once its $(...) are replaced", limits::VALUE_MAX)
    })
}

/// A text that does not grow beyond [`limits::VALUE_MAX`].
struct Bounded(String);

impl Bounded {
    fn push(&mut self, part: &str) -> Option<()> {
        let fits = part.len() <= limits::VALUE_MAX.saturating_sub(self.0.len());
        fits.then(|| self.0.push_str(part))
    }

    /// What comes behind a `$` and has no references in it, but `$$` may be there.
    fn literal(&mut self, rest: &str) -> Option<()> {
        self.push("$")?;
        let mut parts = rest.split("$$");
        self.push(parts.next().unwrap_or_default())?;
        parts.try_for_each(|part| self.push("$").and_then(|()| self.push(part)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
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
    fn a_variable_that_doubles_itself_again_and_again_is_stopped_with_the_number() {
        let level = |n: usize| {
            let value = if n == 0 { "x".repeat(10) } else { format!("$(V{})", n - 1).repeat(10) };
            json!({ "name": format!("V{n}"), "value": value })
        };
        let variables: Value = (0..10).map(level).collect();
        let why = resolve(&json!({ "name": "biz1", "env": variables })).unwrap_err();
        assert!(why.contains("more than 131072 bytes") && why.contains("V5"), "{why}");
        // Each fits for itself.
        let mut many: Vec<_> = (0..4).map(level).collect();
        many.extend((0..200).map(|n| json!({ "name": format!("W{n}"), "value": "$(V3)" })));
        let why = resolve(&json!({ "name": "biz1", "env": many })).unwrap_err();
        assert!(why.contains("262144 bytes"), "{why}");
        let args = vec!["$(V3)"; 200];
        let why = resolve(&json!({ "name": "biz1", "env": (0..4).map(level).collect::<Value>(), "args": args }));
        assert!(why.unwrap_err().contains("262144 bytes"));
    }

    #[test]
    fn what_does_not_fit_into_a_command_is_told() {
        for env in [
            json!({ "name": "LONG", "value": "x".repeat(140_000) }),
            json!({ "name": "ESCAPED", "value": "\u{1}".repeat(50_000) }),
            json!({ "name": "x".repeat(300_000), "value": "1" }),
        ] {
            let why = resolve(&json!({ "name": "biz1", "env": [env] })).unwrap_err();
            assert!(why.contains("bytes") && why.len() < 400, "{why}");
        }
        let often: Value = (0..1000).map(|_| json!({ "name": "SAME", "value": "x".repeat(1000) })).collect();
        assert!(resolve(&json!({ "name": "biz1", "env": often })).unwrap_err().contains("262144 bytes"));
        let from: Value = (0..100_000).map(|_| json!({ "configMapRef": { "name": "config" } })).collect();
        assert!(resolve(&json!({ "name": "biz1", "envFrom": from })).unwrap_err().contains("262144 bytes"));
    }

    #[test]
    fn brackets_that_are_never_closed_take_no_longer_than_others() {
        let opened = "$(".repeat(60_000);
        let (envs, _) = resolve(&json!({ "name": "biz1", "env": [{ "name": "X", "value": opened }] })).unwrap();
        assert_eq!(envs["X"], opened);
    }

    #[test]
    fn a_name_that_no_object_can_have_is_not_looked_for() {
        for name in ["../../../kube-system/configmaps/x", "a/b", "", "A", "x\u{1b}[2J", "a?b", "-a"] {
            let source = json!({ "configMapKeyRef": { "name": name, "key": "k" } });
            let container = json!({ "name": "biz1", "env": [{ "name": "X", "valueFrom": source }] });
            assert_eq!(references(&pod(&container)), BTreeSet::new(), "{name:?}");
            let why = resolve(&container).unwrap_err();
            assert!(why.contains("no name for an object") && !why.contains('\u{1b}'), "{why}");
        }
    }

    /// As a kubelet does it (`third_party/forked/golang/expansion`), without any bound.
    fn as_a_kubelet(text: &str, envs: &BTreeMap<String, String>) -> String {
        let (mut out, mut rest) = (String::new(), text);
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                out.push('$');
                rest = after;
            } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
                out.push_str(&envs.get(name).cloned().unwrap_or_else(|| format!("$({name})")));
                rest = after;
            } else {
                out.push('$');
            }
        }
        out + rest
    }

    proptest! {
        #[test]
        fn expansion_is_a_kubelets_as_long_as_it_fits(text in "[$()ABx$()]{0,24}") {
            let envs = BTreeMap::from([("A".to_owned(), "1$(B)".to_owned()), ("B".to_owned(), String::new())]);
            prop_assert_eq!(expand(&text, &envs, "X"), Ok(as_a_kubelet(&text, &envs)));
        }

        #[test]
        fn no_environment_is_larger_than_allowed(
            sizes in prop::collection::vec(0_usize..20_000, 0..6),
            uses in prop::collection::vec(prop::collection::vec(0_usize..12, 0..12), 0..12),
            args in prop::collection::vec(0_usize..12, 0..12),
            filler in prop::sample::select(vec!["x", "\u{1}", "\"", "模", "$$"]),
        ) {
            let plain = sizes.iter().enumerate().map(|(n, size)| json!({ "name": format!("V{n}"), "value": filler.repeat(*size) }));
            let expanded = uses.iter().enumerate().map(|(n, used)| {
                let value = used.iter().map(|v| format!("$(V{v})")).collect::<Vec<_>>().concat();
                json!({ "name": format!("V{}", n + sizes.len()), "value": value })
            });
            let args: Vec<_> = args.iter().map(|v| format!("--a=$(V{v})")).collect();
            let container = json!({ "name": "biz1", "env": plain.chain(expanded).collect::<Value>(), "args": args });
            match resolve(&container) {
                Ok((envs, args)) => {
                    let sent = json!({ "envs": envs, "args": args }).to_string().len();
                    prop_assert!(sent <= limits::ENVIRONMENT_MAX + 30, "{}", sent);
                    prop_assert!(envs.values().all(|v| v.len() <= limits::VALUE_MAX));
                }
                Err(why) => prop_assert!(why.contains(" bytes ") && why.len() < 400, "{}", why),
            }
        }
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
