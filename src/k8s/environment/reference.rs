//! The objects that environments refer to.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as core;

use super::super::{limits, names};
use crate::domain::printable;

/// An object that an environment is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reference {
    /// Namespace and name of a `ConfigMap`.
    ConfigMap(String, String),
    /// Namespace and name of a Secret.
    Secret(String, String),
    /// Namespace and name of a `ReplicaSet`, whose template is read. No environment refers to one.
    Template(String, String),
}

impl Reference {
    /// Whose entries all become variables, and whether the container cannot do without.
    pub(super) fn of_all(namespace: &str, from: &core::EnvFromSource) -> Option<(Self, bool)> {
        let namespace = namespace.to_owned();
        match (&from.config_map_ref, &from.secret_ref) {
            (Some(r), _) => Some((Self::ConfigMap(namespace, r.name.clone()), r.optional != Some(true))),
            (None, Some(r)) => Some((Self::Secret(namespace, r.name.clone()), r.optional != Some(true))),
            (None, None) => None,
        }
    }

    /// Whose entry of which key becomes a variable, and whether the container cannot do without.
    pub(super) fn of_one<'s>(namespace: &str, source: &'s core::EnvVarSource) -> Option<(Self, &'s str, bool)> {
        let namespace = namespace.to_owned();
        match (&source.config_map_key_ref, &source.secret_key_ref) {
            (Some(r), _) => Some((Self::ConfigMap(namespace, r.name.clone()), &r.key, r.optional != Some(true))),
            (None, Some(r)) => Some((Self::Secret(namespace, r.name.clone()), &r.key, r.optional != Some(true))),
            (None, None) => None,
        }
    }

    pub(super) fn name(&self) -> &str {
        match self {
            Self::ConfigMap(_, name) | Self::Secret(_, name) | Self::Template(_, name) => name,
        }
    }

    /// The reason of the Event that says that it does not exist (convention of virtual-kubelets).
    pub fn missing(&self, needed: bool) -> Option<&'static str> {
        Some(match (self, needed) {
            (Self::ConfigMap(..), true) => "MandatoryConfigMapNotFound",
            (Self::ConfigMap(..), false) => "OptionalConfigMapNotFound",
            (Self::Secret(..), true) => "MandatorySecretNotFound",
            (Self::Secret(..), false) => "OptionalSecretNotFound",
            (Self::Template(..), _) => return None,
        })
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let name = printable(self.name(), limits::QUOTE_MAX);
        match self {
            Self::ConfigMap(namespace, _) => write!(f, "ConfigMap {namespace}/{name}"),
            Self::Template(namespace, _) => write!(f, "ReplicaSet {namespace}/{name}"),
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

/// All objects that the Pod's environments refer to, and whether it cannot do without. A name that no object can have is not
/// looked for: the API server does not check it, and it would become part of a path.
pub fn references(pod: &core::Pod) -> BTreeMap<Reference, bool> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut found = BTreeMap::new();
    for container in pod.spec.iter().flat_map(|s| &s.containers) {
        let all = container.env_from.iter().flatten().filter_map(|from| Reference::of_all(namespace, from));
        let sources = container.env.iter().flatten().filter_map(|env| env.value_from.as_ref());
        let one = sources.filter_map(|source| Reference::of_one(namespace, source));
        for (reference, needed) in all.chain(one.map(|(reference, _, needed)| (reference, needed))) {
            *found.entry(reference).or_insert(false) |= needed;
        }
    }
    found.retain(|reference, _| names::is_object_name(reference.name()));
    found
}
