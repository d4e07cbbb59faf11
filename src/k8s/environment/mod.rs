//! A module's environment and arguments, resolved as a kubelet resolves a container's.
//!
//! Not possible: `resourceFieldRef` (a module has no resources of its own), `fileKeyRef` (no
//! volumes), and the variables of Services.

mod reference;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet, HashMap},
};

use k8s_openapi::api::core::v1 as core;

use super::{ModuleUrls, ProbeRules, limits, names};
use crate::domain::printable;
pub use reference::{Reference, Referred, references};

/// Where values come from.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// Objects that have been read.
    pub referred: &'a HashMap<Reference, Referred>,
    /// The base's address, for `status.podIP` and `status.hostIP`.
    pub ip: Option<&'a str>,
    /// Where modules may come from.
    pub urls: &'a ModuleUrls,
    /// Which probes are done.
    pub probes: &'a ProbeRules,
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
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut envs = BTreeMap::new();
    let mut room = Room(limits::ENVIRONMENT_MAX);
    for from in container.env_from.iter().flatten() {
        let Some((reference, needed)) = Reference::of_all(namespace, from) else { continue };
        let prefix = from.prefix.as_deref().unwrap_or_default();
        for (key, value) in sources.data(&reference, needed)?.into_iter().flatten() {
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
            Some(source) => value_from(pod, namespace, &env.name, source, sources)?,
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

/// `$(NAME)` becomes the variable's value, `$$` becomes `$`, and what is not known stays as it is
/// (Kubernetes convention for `env` and `args`). `what` is named where the outcome would be too long.
fn expand(text: &str, envs: &BTreeMap<String, String>, what: &str) -> Result<String, String> {
    let mut out = Bounded(String::new());
    let mut rest = text;
    // Behind the last bracket that closes there is no reference any more: one look for it is enough.
    let from_last_bracket = text.len().saturating_sub(text.rfind(')').unwrap_or(0));
    let expanded = loop {
        let Some((before, behind)) = rest.split_once('$') else { break out.push(rest) };
        let reference = rest.get(before.len()..).unwrap_or(rest);
        let inner = behind.strip_prefix('(').filter(|inner| inner.len() >= from_last_bracket);
        let (part, after) = if let Some(after) = behind.strip_prefix('$') {
            ("$", after)
        } else if let Some((name, after)) = inner.and_then(|inner| inner.split_once(')')) {
            let unknown = reference.get(..reference.len().saturating_sub(after.len())).unwrap_or(reference);
            (envs.get(name).map_or(unknown, String::as_str), after)
        } else {
            ("$", behind)
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
}

fn value_from<'a>(
    pod: &'a core::Pod,
    namespace: &str,
    name: &str,
    source: &core::EnvVarSource,
    sources: &Sources<'a>,
) -> Result<Option<Cow<'a, str>>, String> {
    let name = printable(name, limits::QUOTE_MAX);
    if let Some((reference, key, needed)) = Reference::of_one(namespace, source) {
        let value = sources.data(&reference, needed)?.and_then(|data| data.get(key));
        if value.is_none() && needed {
            let key = printable(key, limits::QUOTE_MAX);
            return Err(format!("{reference} has no key {key}, which env {name} asks for"));
        }
        return Ok(value.map(Cow::from));
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
    fn data(&self, reference: &Reference, needed: bool) -> Result<Option<&'a BTreeMap<String, String>>, String> {
        if !names::is_object_name(reference.name()) {
            return Err(format!("{reference} can't exist: that is no name for an object"));
        }
        match self.referred.get(reference) {
            Some(Referred::Data(data)) => Ok(Some(data)),
            Some(Referred::Missing) if !needed => Ok(None),
            Some(Referred::Missing) => Err(format!("{reference} does not exist")),
            Some(Referred::Unreadable(why)) => Err(format!("{reference} can't be read: {why}")),
            None => Err(format!("reading {reference}")),
        }
    }
}

#[cfg(test)]
mod tests;
